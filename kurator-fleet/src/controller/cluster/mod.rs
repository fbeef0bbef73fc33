//! The controller of `Cluster`: change `spec.workerNodes.count`, and nodes come and go without an outage.
//!
//! [`ClusterManager`] reaches the member of each Cluster through a [`ClusterConnector`], counts its worker nodes, and
//! asks the infrastructure for machines or plans and carries out a drain, whichever brings the number closer to what is
//! wanted. What it does is in the status: `Ready`, `Progressing`, `Degraded`, the progress of a drain, and
//! `PodIdentityReady` if pods are to have an identity of the cloud, which is set up once its role can be used.
//!
//! # Guarantees
//! - A plan is checked by an independent reader before it is carried out.
//! - A drain that a process began is continued by the next, with the same nodes; when more nodes are wanted meanwhile, it
//!   is called off, and what has not been drained is schedulable again.
//! - When the object is deleted, cordons of ours are taken back. Machines are left alone.
//!
//! # Assumptions
//! One process at a time runs this for a namespace: give it to the leader.
//!
//! # RBAC
//! On the hub, in the namespace: `clusters.cluster.kurator.dev`: `get`, `list`, `watch`, `patch`; `/status`: `patch`;
//! `events.events.k8s.io`: `create`, `patch`. On members what
//! [`execute`](crate::scaling::execute) says. `deploy/rbac/scaling.yaml` and `scaling-member.yaml` hold these rules, and the
//! tests run under them.

mod decide;
mod identity;
mod metrics;
mod nodes;
mod pass;
mod status;
mod task;
mod tended;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{self, Action};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use kurator_core::clock::Clock;
use kurator_core::connect::ClusterConnector;
use kurator_core::gate::Gate;
use kurator_core::names::ClusterName;
use serde_json::json;
use tokio::time::Instant;

pub use self::metrics::{ScalingCounts, ScalingMetric, ScalingMetrics};

use self::nodes::NodeWatch;
use self::pass::{Pass, tend};
use self::tended::Tended;
use self::work::Wake;
use crate::api::{Cluster, ClusterStatus};
use crate::scaling::DrainPolicy;
use crate::scaling::execute::{DrainOptions, IdentityProvider, InfrastructureProvider, WaitPolicy};

/// Whoever agrees to a plan puts its name here, on the Cluster.
pub const APPROVE: &str = "scaling.kurator.dev/approve";
/// Keeps a Cluster until cordons of ours are off its nodes.
const FINALIZER: &str = "cluster.kurator.dev/scaling";
/// How long that may take when its nodes do not answer.
const LEAVE_AFTER: i64 = 300;

/// What stops a pass. It is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The hub did not do what it was asked.
    #[error("failed to {action} Cluster {name}")]
    Hub {
        /// What was to be done.
        action: &'static str,
        /// To which object.
        name: String,
        /// The hub's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// It is being deleted, and marks of a plan are still on its nodes.
    #[error("Cluster {name} is waited for: marks of a plan are still on its nodes")]
    Leaving {
        /// The object.
        name: String,
    },
}

impl ClusterError {
    fn token(&self) -> &'static str {
        match self {
            Self::Hub { .. } => "HubFailed",
            Self::Leaving { .. } => "Leaving",
        }
    }
}

/// How clusters are scaled.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterOptions {
    /// Rules of draining; the spec of a Cluster adds to them.
    pub policy: DrainPolicy,
    /// Patience of draining; the spec of a Cluster adds to it.
    pub drain: DrainOptions,
    /// How long a role is waited for.
    pub identity_wait: WaitPolicy,
    /// After that long a machine that was asked for and has not joined is worth a word; ten minutes by default.
    pub join_deadline: Duration,
    /// Are asked, in order, before a plan is carried out.
    pub gates: Vec<Arc<dyn Gate>>,
    /// Counts and times.
    pub metrics: Arc<dyn ScalingMetrics>,
    /// By `spec.infrastructure.cloudProvider`.
    infrastructures: BTreeMap<String, Arc<dyn InfrastructureProvider>>,
    identities: BTreeMap<String, Arc<dyn IdentityProvider>>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            policy: DrainPolicy::default(),
            drain: DrainOptions::default(),
            identity_wait: WaitPolicy::default(),
            join_deadline: Duration::from_secs(600),
            gates: Vec::new(),
            metrics: Arc::new(()),
            infrastructures: BTreeMap::new(),
            identities: BTreeMap::new(),
        }
    }
}

impl ClusterOptions {
    /// Machines of clusters whose `cloudProvider` is this come from there.
    #[must_use]
    pub fn with_infrastructure(
        mut self,
        cloud_provider: impl Into<String>,
        infrastructure: impl InfrastructureProvider,
    ) -> Self {
        self.infrastructures
            .insert(cloud_provider.into(), Arc::new(infrastructure));
        self
    }

    /// Identities of clusters whose `cloudProvider` is this come from there.
    #[must_use]
    pub fn with_identity(
        mut self,
        cloud_provider: impl Into<String>,
        identity: impl IdentityProvider,
    ) -> Self {
        self.identities.insert(cloud_provider.into(), Arc::new(identity));
        self
    }

    /// How long a role is waited for.
    #[must_use]
    pub fn with_identity_wait(mut self, wait: WaitPolicy) -> Self {
        self.identity_wait = wait;
        self
    }

    /// Asks the gate, after those before it, before a plan is carried out.
    #[must_use]
    pub fn with_gate(mut self, gate: impl Gate) -> Self {
        self.gates.push(Arc::new(gate));
        self
    }

    /// Counts and times go there.
    #[must_use]
    pub fn with_metrics(mut self, metrics: impl ScalingMetrics) -> Self {
        self.metrics = Arc::new(metrics);
        self
    }

    /// Rules of draining.
    #[must_use]
    pub fn with_policy(mut self, policy: DrainPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Patience of draining.
    #[must_use]
    pub fn with_drain(mut self, drain: DrainOptions) -> Self {
        self.drain = drain;
        self
    }
}

/// What the passes share.
struct Context {
    hub: Client,
    namespace: String,
    connector: Arc<dyn ClusterConnector>,
    options: ClusterOptions,
    clock: Arc<dyn Clock>,
    recorder: Recorder,
    tended: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Tended>>>>,
    wake: mpsc::UnboundedSender<ObjectRef<Cluster>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// What is kept of the cluster; it is followed from now on.
    fn tended(&self, cluster: &Cluster, member: &ClusterName) -> Arc<tokio::sync::Mutex<Tended>> {
        let mut all = self.tended.lock().unwrap_or_else(PoisonError::into_inner);
        let same = all
            .get(&cluster.name_any())
            .filter(|known| known.try_lock().is_ok_and(|known| known.uid == cluster.uid()));
        if let Some(known) = same {
            return Arc::clone(known);
        }
        let wake = self.waker(cluster);
        let nodes = NodeWatch::start(Arc::clone(&self.connector), member.clone(), move || wake());
        let fresh = Arc::new(tokio::sync::Mutex::new(Tended::new(cluster, nodes)));
        all.insert(cluster.name_any(), Arc::clone(&fresh));
        fresh
    }

    fn forget(&self, cluster: &Cluster) {
        let mut all = self.tended.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&cluster.name_any());
    }

    fn waker(&self, cluster: &Cluster) -> Wake {
        let (wake, reference) = (self.wake.clone(), ObjectRef::from_obj(cluster));
        Arc::new(move || drop(wake.unbounded_send(reference.clone())))
    }

    /// An Event, as well as it goes.
    async fn tell(&self, about: &Cluster, type_: EventType, reason: &str, note: &str) {
        // The API takes a kilobyte.
        let end = (0..=1000.min(note.len()))
            .rev()
            .find(|end| note.is_char_boundary(*end));
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: note.get(..end.unwrap_or(0)).map(str::to_owned),
            action: "Scale".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &about.object_ref(&())).await {
            tracing::debug!(%error, reason, "an Event was not recorded");
        }
    }

    /// Writes a status that is another than before, and tells by Events which conditions changed.
    async fn write(&self, cluster: &Cluster, status: ClusterStatus) -> Result<(), ClusterError> {
        if cluster.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let name = cluster.name_any();
        // A merge patch leaves what it does not mention: what is unset now has to be said.
        let mut wanted = json!(status);
        for field in ["drain", "podIdentity"] {
            if wanted.get(field).is_none() {
                wanted[field] = serde_json::Value::Null;
            }
        }
        if let Some(drain) = wanted.get_mut("drain").and_then(|drain| drain.as_object_mut()) {
            drain.entry("expectedEnd").or_insert(serde_json::Value::Null);
            drain.entry("nodes").or_insert(serde_json::Value::Null);
        }
        // Of the object this status is about, not of one that came after it under its name.
        let patch = json!({ "metadata": { "uid": cluster.uid() }, "status": wanted });
        let api: Api<Cluster> = Api::namespaced(self.hub.clone(), &self.namespace);
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(|source| hub("write the status of", cluster, source))?;
        let before = cluster.status.clone().unwrap_or_default();
        let mut told = Vec::new();
        for condition in &status.conditions {
            let same = |old: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
                old.type_ == condition.type_
                    && old.status == condition.status
                    && old.reason == condition.reason
            };
            if before.conditions.iter().find(same).is_some() || told.contains(&&condition.reason) {
                continue;
            }
            let bad = (condition.type_ == "Degraded") == (condition.status == "True");
            // That nothing is wrong is news only after something was.
            if condition.reason == "NoTrouble" && before.conditions.is_empty() {
                continue;
            }
            let type_ = match condition.type_.as_str() {
                "Degraded" if bad => EventType::Warning,
                _ => EventType::Normal,
            };
            self.tell(cluster, type_, &condition.reason, &condition.message)
                .await;
            told.push(&condition.reason);
        }
        Ok(())
    }
}

fn hub(action: &'static str, cluster: &Cluster, source: kube::Error) -> ClusterError {
    ClusterError::Hub {
        action,
        name: cluster.name_any(),
        source: Box::new(source),
    }
}

/// Looks after the Clusters of one namespace.
#[derive(Debug)]
pub struct ClusterManager {
    context: Arc<Context>,
    woken: mpsc::UnboundedReceiver<ObjectRef<Cluster>>,
}

impl ClusterManager {
    /// Members are reached through `connector`, each under the name of its Cluster.
    #[must_use]
    pub fn new(
        hub: Client,
        namespace: &str,
        connector: Arc<dyn ClusterConnector>,
        options: ClusterOptions,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let reporter = Reporter {
            controller: "kurator-cluster".to_owned(),
            instance: None,
        };
        let (wake, woken) = mpsc::unbounded();
        let context = Context {
            recorder: Recorder::new(hub.clone(), reporter),
            hub,
            namespace: namespace.to_owned(),
            connector,
            options,
            clock,
            tended: Mutex::default(),
            wake,
        };
        Self {
            context: Arc::new(context),
            woken,
        }
    }

    /// Runs the controller until `stop` resolves. Drains under way are dropped where they are; the next process
    /// continues them.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        let clusters: Api<Cluster> = Api::namespaced(self.context.hub.clone(), &self.context.namespace);
        let running = Controller::new(clusters, watcher::Config::default())
            .with_config(controller::Config::default().concurrency(16))
            .reconcile_on(self.woken)
            .run(reconcile, retry, Arc::clone(&self.context))
            .for_each(|_| std::future::ready(()));
        tokio::select! {
            () = running => {}
            () = stop => {}
        }
        self.context
            .tended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

async fn reconcile(cluster: Arc<Cluster>, context: Arc<Context>) -> Result<Action, ClusterError> {
    let began = Instant::now();
    let api: Api<Cluster> = Api::namespaced(context.hub.clone(), &context.namespace);
    let mut token = "Deleted";
    let outcome = finalizer(&api, FINALIZER, Arc::clone(&cluster), |event| async {
        match event {
            finalizer::Event::Apply(cluster) => {
                let (action, reason) = tend(&cluster, &context).await?;
                token = reason;
                Ok(action)
            }
            finalizer::Event::Cleanup(cluster) => leave(&cluster, &context).await,
        }
    })
    .await;
    let outcome = outcome.map_err(|error| match error {
        finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error) => error,
        finalizer::Error::AddFinalizer(source) | finalizer::Error::RemoveFinalizer(source) => {
            hub("set the finalizers of", &cluster, source)
        }
        other => hub("look at", &cluster, kube::Error::Service(Box::new(other))),
    });
    if let Ok(member) = cluster.name_any().parse() {
        let metric = ScalingMetric::Reconciled {
            reason: outcome.as_ref().map_or_else(ClusterError::token, |_| token),
            took: began.elapsed(),
        };
        context.options.metrics.record(&member, &metric);
    }
    outcome
}

/// Lets the object go when nothing of ours is on its nodes, or nobody can tell any more.
async fn leave(cluster: &Cluster, context: &Context) -> Result<Action, ClusterError> {
    let now = context.clock.now();
    let since = cluster
        .metadata
        .deletion_timestamp
        .as_ref()
        .map_or(now, |time| time.0);
    let waited = now.duration_since(since).as_secs();
    if let Ok(member) = cluster.name_any().parse::<ClusterName>() {
        let tended = context.tended(cluster, &member);
        let pass = Pass {
            cluster,
            member: &member,
            context,
            now,
        };
        let clean = pass.leave(&mut *tended.lock().await);
        if !clean && waited < LEAVE_AFTER {
            return Err(ClusterError::Leaving {
                name: cluster.name_any(),
            });
        }
        if !clean {
            let note = "its nodes do not answer; cordons of a plan may be left on them";
            context
                .tell(cluster, EventType::Warning, "LeftMarked", note)
                .await;
        }
    }
    context.forget(cluster);
    Ok(Action::await_change())
}

fn retry(cluster: Arc<Cluster>, error: &ClusterError, _: Arc<Context>) -> Action {
    if let ClusterError::Leaving { .. } = error {
        return Action::requeue(Duration::from_secs(1));
    }
    tracing::warn!(
        name = cluster.name_any(),
        error = error as &dyn std::error::Error,
        "will be tried again"
    );
    Action::requeue(Duration::from_secs(5))
}
