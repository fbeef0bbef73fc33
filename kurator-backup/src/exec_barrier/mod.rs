//! Applications held still by commands in their pods.
//!
//! [`ExecBarrier`] is the [`ConsistencyBarrier`] for real members: it runs `pre` of each hook in the pods that the hook
//! selects, through `exec` of the member's API server, and `post` lets go.
//!
//! # A lease that ends by itself
//! Nobody outside has to live for an application to go on. The command that asks a container to hold still starts a
//! *watch* in it, a detached shell, and the watch does everything: it notes when the lease ends, runs `pre`, waits, and
//! runs `post` at the end of the lease or when it is told to. The end is there before `pre` begins. It is counted as a
//! duration, on a clock of the node that nobody can set (`/proc/uptime`), so skewed clocks do not matter.
//!
//! | what dies | what lets go |
//! |---|---|
//! | we do, or the network to the member, or its API server | the watch, at the end of the lease; or whoever comes after us under the same owner |
//! | the watch | the next call for the container finds it dead, and its `post` runs |
//! | the container | its processes are gone; what outlives them (a frozen file system) is thawed by the next call |
//!
//! What is held is written down on the member before anything is held: a Lease named after the owner in the namespace
//! of the backup server, with the containers as an annotation.
//!
//! # What is needed of a container
//! `sh`, `sleep`, `mkdir`, `mv`, `rm`, and a folder that can be written and is not frozen itself, by default `/dev/shm`
//! or `/tmp`. All containers are asked for that before the first is held; one that cannot gives
//! [`QuiesceState::Failed`] with nothing held anywhere.
//!
//! # What is needed of `post`
//! It must do no harm when it runs twice, or where `pre` failed or never ran: a watch that died may have run it, and a
//! `pre` that failed may have done half its work. A `post` that fails is repeated five times; then the release fails
//! too, and repeats it when it is asked again.
//!
//! # What it promises
//! - Of two owners that want one container, the second is refused.
//! - A lease that has ended is never taken again by its owner, even by a request that arrives late.
//! - Commands of one container run in the order of the hooks. There is no order between containers.
//! - A pod that starts while others are held is not held: the lease then counts as broken, and everything is released.
//!   What does not run when its pod is looked at is neither held nor waited for.
//! - Neither commands nor their output are logged, or part of a URL, an error or an object.

mod call;
mod command;
mod judge;
mod member;
mod pods;
mod record;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, sync::Arc};

use async_trait::async_trait;
use kube::ResourceExt as _;
use kurator_core::{
    clock::{Clock, SystemClock},
    connect::{ClientPurpose, ClusterConnector},
    names::ClusterName,
};

use self::{
    call::Called,
    command::{Answer, Verb},
    judge::{Problem, Tally, not_held, unfit},
    member::Member,
    pods::Place,
};
use crate::driver::{ConsistencyBarrier, DriverError, OwnerToken, QuiesceRequest, QuiesceState};

/// Holds applications still by commands in their pods.
///
/// Cheap to clone; holds nothing of a member.
///
/// ```
/// use std::sync::Arc;
/// use kurator_backup::exec_barrier::ExecBarrier;
/// use kurator_core::connect::StaticConnector;
///
/// let barrier = ExecBarrier::new(Arc::new(StaticConnector::default())).in_namespace("velero-system");
/// # let _ = barrier;
/// ```
#[derive(Clone)]
pub struct ExecBarrier {
    connector: Arc<dyn ClusterConnector>,
    clock: Arc<dyn Clock>,
    namespace: Arc<str>,
    folders: Arc<str>,
}

impl fmt::Debug for ExecBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecBarrier")
            .field("connector", &self.connector)
            .field("namespace", &self.namespace)
            .field("folders", &self.folders)
            .finish_non_exhaustive()
    }
}

impl ExecBarrier {
    /// A barrier on every member that `connector` reaches, whose Leases lie in the namespace `velero`.
    pub fn new(connector: Arc<dyn ClusterConnector>) -> Self {
        Self {
            connector,
            clock: Arc::new(SystemClock::new()),
            namespace: "velero".into(),
            folders: "/dev/shm /tmp".into(),
        }
    }

    /// Its Leases lie in another namespace, on every member.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Another folder of the containers in which it keeps what it must remember: it can be written, and `pre` does
    /// not freeze it. Default `/dev/shm`, or `/tmp` where that cannot be written. Blanks and wildcards are not for it.
    #[must_use]
    pub fn keeping_state_in(mut self, folder: &str) -> Self {
        self.folders = folder.into();
        self
    }

    /// Another clock for the time that is left of a lease.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    async fn member<'a>(
        &'a self,
        cluster: &'a ClusterName,
        action: &'a str,
    ) -> Result<Member<'a>, DriverError> {
        let unreachable = |source| DriverError::Unreachable {
            cluster: cluster.clone(),
            action: action.to_owned(),
            source: Some(Box::new(source)),
        };
        let client = self.connector.client(cluster, ClientPurpose::Control).await;
        Ok(Member {
            barrier: self,
            cluster,
            action,
            client: client.map_err(unreachable)?,
        })
    }
}

#[async_trait]
impl ConsistencyBarrier for ExecBarrier {
    async fn quiesce(
        &self,
        cluster: &ClusterName,
        request: &QuiesceRequest,
    ) -> Result<QuiesceState, DriverError> {
        let refused = |message: String| Ok(QuiesceState::Failed { message });
        if let Some(message) = unfit(request) {
            return refused(message);
        }
        let action = format!("hold its applications still for {}", request.owner);
        let member = self.member(cluster, &action).await?;
        let found = member.record(&request.owner).await?;
        if found.is_none() && request.only_renew {
            return refused("there is no lease to renew".to_owned());
        }
        let known = match &found {
            None => Vec::new(),
            Some(lease) => match record::places(lease) {
                Some(places) => places,
                None => {
                    return refused(format!(
                        "Lease {} says nothing that can be read",
                        lease.name_any()
                    ));
                }
            },
        };
        let now = self.clock.now();
        let seconds = request.until.duration_since(now).as_secs();
        if seconds <= 0 {
            return Ok(member
                .give_up(request, &known, "the lease has ended".to_owned())
                .await);
        }
        let selected = match member.places(&request.hooks).await? {
            Ok(places) => places,
            Err(message) => return Ok(member.give_up(request, &known, message).await),
        };
        let newcomers: Vec<Place> = selected
            .into_iter()
            .filter(|place| known.iter().all(|known| known.key() != place.key()))
            .collect();
        if let Some(place) = newcomers.first().filter(|_| request.only_renew) {
            let message = format!("{place} started meanwhile and is not held still");
            return Ok(member.give_up(request, &known, message).await);
        }
        if let Some(state) = member.probe(request, &newcomers).await? {
            let QuiesceState::Failed { message } = state else {
                return Ok(state);
            };
            return Ok(member.give_up(request, &known, message).await);
        }
        if found.is_none() {
            member.sweep(now).await?;
        }
        let mut places = known;
        places.extend(newcomers);
        member.write_down(request, found, &places, now).await?;

        let now = self.clock.now();
        let seconds = request.until.duration_since(now).as_secs();
        let verb = if request.only_renew {
            Verb::Renew(seconds)
        } else {
            Verb::Hold(seconds)
        };
        let mut tally = Tally::default();
        for (place, called) in member.call_all(request, &places, verb).await {
            let lasts = match &called {
                Called::Answer(Answer::Held(seconds)) => Some(*seconds),
                _ => None,
            };
            match (not_held(request, &place, called), lasts) {
                (None, Some(seconds)) => tally.hold(&place, seconds),
                (Some(Problem::No(message)), _) => tally.failed(message),
                (Some(Problem::Forbidden(error)), _) => {
                    return Err(member.problem(&place, Problem::Forbidden(error)));
                }
                (Some(Problem::Gone), _) if request.only_renew => {
                    tally.failed(format!("{place} is gone, and was not held still to the end"));
                }
                (Some(Problem::Gone), _) => {}
                (None | Some(Problem::Later | Problem::Silent(_)), _) => tally.wait(&place),
            }
        }
        Ok(match tally.failure.take() {
            Some(message) => member.give_up(request, &places, message).await,
            None => tally.state(now, request.until),
        })
    }

    async fn release(&self, cluster: &ClusterName, request: &QuiesceRequest) -> Result<(), DriverError> {
        if unfit(request).is_some() {
            // Nothing was ever held for it.
            return Ok(());
        }
        let action = format!("let its applications go for {}", request.owner);
        let member = self.member(cluster, &action).await?;
        let Some(lease) = member.record(&request.owner).await? else {
            // Nothing is held before it is written down.
            return Ok(());
        };
        let places = record::places(&lease).unwrap_or_default();
        match member.release(request, &places).await {
            None => member.forget(&request.owner).await,
            Some((place, problem)) => Err(member.problem(&place, problem)),
        }
    }

    /// The owners whose Leases have not ended yet.
    async fn holders(&self, cluster: &ClusterName) -> Result<BTreeSet<OwnerToken>, DriverError> {
        let member = self.member(cluster, "say who holds it still").await?;
        let now = self.clock.now();
        let leases = member.all_records().await?;
        let current = leases.iter().filter(|lease| record::end(lease) > now);
        Ok(current.filter_map(record::owner).collect())
    }
}
