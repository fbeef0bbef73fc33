//! The task that looks after one member.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ProbeFailure;
use super::engaged::EngagedMember;
use super::link::{Clients, Link};
use super::members::{MemberStatus, Shared};
use super::probe::{no_client, probe};
use super::rate::Rate;
use super::shard::Fence;
use crate::connect::{ClientPurpose, ConnectError};
use crate::health::{ClusterUid, HealthReason, HealthState, Identity, Probe, identify};
use crate::membership::Member;
use crate::names::ClusterName;
use crate::observe::HealthStatus;

pub(super) struct Tended {
    pub(super) name: ClusterName,
    pub(super) registration: Arc<Mutex<Member>>,
    pub(super) poke: Arc<Notify>,
    pub(super) fence: Option<Arc<Fence>>,
    pub(super) stop: CancellationToken,
}

/// Probes the member until it is stopped; engages and disengages it as the probes say.
pub(super) async fn tend(shared: Arc<Shared>, tended: Tended) -> ClusterName {
    let on_record = tended
        .registration
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .ready_since;
    let now = shared.now();
    let health = on_record.map_or_else(HealthState::default, |since| {
        // Who looked after it before saw it well: it has the whole grace to answer again.
        HealthState::resumed(
            HealthStatus::Ready,
            HealthReason::ApiServerReady,
            Some(since),
            Some(now),
        )
    });
    let mut tending = Tending {
        shared,
        tended,
        health,
        uid: None,
        engaged: None,
    };
    let revoked = {
        let fence = tending.tended.fence.clone();
        async move {
            match fence {
                Some(fence) => fence.revoked().await,
                None => std::future::pending().await,
            }
        }
    };
    let stop = tending.tended.stop.clone();
    // What a host's connector does wrong is its member's trouble and nobody else's.
    let panicked = tokio::select! {
        ran = AssertUnwindSafe(tending.run()).catch_unwind() => ran.is_err(),
        () = stop.cancelled() => false,
        () = revoked => false,
    };
    tending.disengage().await;
    let Tending { shared, tended, .. } = tending;
    let policy = shared.options.health;
    let forgotten = tokio::time::timeout(policy.timeout, shared.connector.invalidate(&tended.name));
    if forgotten.await.is_err() {
        tracing::debug!(cluster = %tended.name, "the connector did not forget the member in time");
    }
    if panicked {
        tracing::error!(cluster = %tended.name, "looking after the member panicked; it begins anew");
        stop.run_until_cancelled(tokio::time::sleep(policy.period)).await;
    }
    tended.name
}

struct Tending {
    shared: Arc<Shared>,
    tended: Tended,
    health: HealthState,
    uid: Option<ClusterUid>,
    engaged: Option<Arc<EngagedMember>>,
}

enum Look {
    /// The right cluster answers and calls itself ready, and these clients lead there.
    Well(ClusterUid, Clients),
    Failed(ProbeFailure),
    /// The hub could not say how to reach the member: nothing is known about the member itself.
    Ignorant,
}

impl Tending {
    async fn run(&mut self) {
        let policy = self.shared.options.health;
        loop {
            let expiry = self.until(self.health.expires(&policy));
            // Before the look, so that nothing that changes during it is missed.
            let mut ways = self.shared.connector.follow(&self.tended.name).await;
            let look = {
                let look = self.look();
                tokio::pin!(look);
                tokio::select! {
                    look = &mut look => Some(look),
                    () = expiry => None,
                }
            };
            let at = self.shared.now();
            let ignorant = matches!(look, Some(Look::Ignorant));
            let (transition, failure) = match look {
                Some(Look::Well(uid, clients)) => {
                    let before = self.health.last_failure();
                    let silent_before =
                        before.is_some_and(|reason| reason != HealthReason::CloudNodesNotReady);
                    let nodes = self
                        .engaged
                        .as_ref()
                        .map_or(Probe::Succeeded, |member| member.nodes());
                    let transition = self.health.observe(&policy, nodes, at);
                    self.uid = Some(uid.clone());
                    if self.answers() {
                        self.engage(uid, clients, silent_before).await;
                    }
                    let failure = match nodes {
                        Probe::Succeeded => None,
                        Probe::Failed(reason) => {
                            Some(ProbeFailure::new(reason, "no cloud node is Ready".to_owned()))
                        }
                    };
                    (transition, failure)
                }
                Some(Look::Failed(failure)) => (
                    self.health.observe(&policy, Probe::Failed(failure.reason), at),
                    Some(failure),
                ),
                Some(Look::Ignorant) => (None, self.last_failure()),
                None => (self.health.elapse(&policy, at), self.last_failure()),
            };
            if let Some(transition) = transition {
                let cluster = &self.tended.name;
                tracing::info!(%cluster, from = ?transition.from, to = ?transition.to, reason = %transition.reason, "health");
            }
            if !self.answers() {
                self.disengage().await;
            }
            // As long as the hub cannot say how to reach it, nothing is known that could be told.
            if !(ignorant && self.health.reason == HealthReason::NeverSeen) {
                self.report(transition, failure);
            }
            let next = self.until(Some(self.health.next_probe(&policy, at)));
            let expiry = self.until(self.health.expires(&policy).filter(|expiry| *expiry > at));
            let engaged = self.engaged.clone();
            let unauthorized = async {
                match &engaged {
                    Some(member) => member.link.unauthorized.notified().await,
                    None => std::future::pending().await,
                }
            };
            let another_way = async {
                let changed = match &mut ways {
                    Some(ways) => ways.changed().await.is_ok(),
                    None => false,
                };
                if !changed {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = next => {}
                () = another_way => {}
                () = expiry => {
                    let at = self.shared.now();
                    let transition = self.health.elapse(&policy, at);
                    let failure = self.last_failure();
                    self.report(transition, failure);
                }
                () = self.tended.poke.notified() => {}
                () = unauthorized => {
                    self.shared.connector.invalidate(&self.tended.name).await;
                    // A server that keeps saying 401 is asked again at the pace of retries.
                    tokio::time::sleep(policy.retry).await;
                }
            }
        }
    }

    /// The right cluster answers; a member whose nodes are down can still be worked with.
    fn answers(&self) -> bool {
        self.health.health == HealthStatus::Ready || self.health.reason == HealthReason::CloudNodesNotReady
    }

    async fn look(&self) -> Look {
        let Ok(_turn) = self.shared.probes.acquire().await else {
            return Look::Ignorant;
        };
        let deadline = self.shared.options.health.timeout;
        let clients = match tokio::time::timeout(deadline, self.clients()).await {
            Ok(Ok(clients)) => clients,
            Ok(Err(error)) => return no_client(&error).map_or(Look::Ignorant, Look::Failed),
            Err(_) => return Look::Ignorant,
        };
        let (prober, clients) = clients;
        let uid = match probe(&prober, deadline).await {
            Ok(uid) => uid,
            Err(failure) => {
                if failure.reason == HealthReason::CredentialsRefused {
                    self.shared.connector.invalidate(&self.tended.name).await;
                }
                return Look::Failed(failure);
            }
        };
        let on_record = self
            .tended
            .registration
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .uid
            .clone();
        if let Identity::Mismatch { expected, found } =
            identify(on_record.as_ref().or(self.uid.as_ref()), &uid)
        {
            let message = format!("cluster {expected} was registered and cluster {found} answers");
            return Look::Failed(ProbeFailure::new(HealthReason::IdentityMismatch, message));
        }
        if let Err(holder) = self.shared.claim(&self.tended.name, &uid) {
            let message = format!("the cluster is registered already, as {holder}");
            return Look::Failed(ProbeFailure::new(HealthReason::DuplicateRegistration, message));
        }
        Look::Well(uid, clients)
    }

    async fn clients(&self) -> Result<(kube::Client, Clients), ConnectError> {
        let connector = &self.shared.connector;
        let name = &self.tended.name;
        // Nothing repeats a request by itself: behind a fence it might do so after the fence has fallen, and whoever
        // asks for many objects would wait for the one that a busy member turns away.
        let requests = ClientPurpose::Evict;
        let prober = connector.client(name, ClientPurpose::Probe).await?;
        let clients = Clients {
            requests: connector.client(name, requests).await?,
            watches: connector.client(name, ClientPurpose::Watch).await?,
        };
        Ok((prober, clients))
    }

    async fn engage(&mut self, uid: ClusterUid, clients: Clients, silent_before: bool) {
        if let Some(member) = &self.engaged {
            member.link.swap(clients);
            if silent_before {
                member.link.renew_watches();
            }
            return;
        }
        let namespace = clients.requests.default_namespace().to_owned();
        let left = self.tended.stop.child_token();
        let rate = self
            .shared
            .options
            .rate
            .map(|(per_second, burst)| Rate::new(per_second, burst));
        let fence = self.tended.fence.clone();
        let link = Link::new(
            self.tended.name.clone(),
            clients,
            fence.clone(),
            left.clone(),
            rate,
        );
        let member = Arc::new(EngagedMember {
            name: self.tended.name.clone(),
            uid,
            client: Link::client(&link, &namespace),
            link,
            fence,
            registration: Arc::clone(&self.tended.registration),
            nodes: Mutex::new(Probe::Succeeded),
            left,
            work: TaskTracker::new(),
        });
        self.engaged = Some(Arc::clone(&member));
        self.shared.engage(member);
    }

    async fn disengage(&mut self) {
        if let Some(member) = self.engaged.take() {
            self.shared.disengage(&member.name);
            member.left.cancel();
            member.work.close();
            member.work.wait().await;
        }
    }

    fn report(&self, transition: Option<crate::health::Transition>, failure: Option<ProbeFailure>) {
        let before = self
            .shared
            .statuses()
            .get(&self.tended.name)
            .and_then(|status| status.transition);
        let status = MemberStatus {
            health: self.health,
            uid: self.uid.clone(),
            failure,
            transition: transition.or(before),
            engaged: self.engaged.is_some(),
        };
        self.shared.report(&self.tended.name, status);
    }

    fn last_failure(&self) -> Option<ProbeFailure> {
        self.shared
            .statuses()
            .get(&self.tended.name)
            .and_then(|status| status.failure.clone())
    }

    fn until(&self, at: Option<Timestamp>) -> impl Future<Output = ()> + Send + use<> {
        let wait = at.map(|at| Duration::try_from(at.duration_since(self.shared.now())).unwrap_or_default());
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }
}
