//! Carrying a scale-down plan out.
//!
//! A [`DrainExecutor`] cordons and marks every node of the plan, then takes wave by wave: it evicts a pod only when the
//! budget's watched status, less what it has asked for itself and not yet seen there, allows one; waits until the pods
//! are gone, their replacements Ready and the volumes detached; and removes the machines through an
//! [`InfrastructureProvider`]. While the empty nodes of a wave wait for that, pods of the next one go whose controllers
//! miss none.
//!
//! # Guarantees
//! - In a cluster where nobody else evicts, no eviction is refused, because none is sent that the server would refuse.
//! - Grace period and UID reach the server, so a pod of the same name and another UID is never evicted.
//! - What has to survive is on the nodes: the plan on the node that goes last, the step of each on itself. A process
//!   that dies at any point is continued by [`DrainExecutor::resume`] in another, with the same nodes; the machine of a
//!   node marked for removal is asked for before it is removed.
//! - Only cordons of this plan are taken back. A node somebody uncordons meanwhile leaves the plan.
//! - An edge node out of reach, or a node whose kubelet has been silent for a while, is let go of; nothing is evicted
//!   from it. While too many nodes are not Ready, nothing is evicted at all.
//!
//! # Replanning
//! With [`DrainExecutor::with_replanning`], an edited budget, a pod that comes to a node of the plan, or a node that can
//! no longer take pods makes the executor plan the rest again: the waves change, and a node that can no longer go leaves
//! the plan with the reason ([`DrainReport::left`]). No node is added; a host that still wants fewer plans again.
//!
//! # Assumptions
//! One executor at a time works on a cluster: the host holds a lease or runs one process.
//!
//! # RBAC
//! `get, list, watch, patch, delete` on nodes; `list, watch, delete` on pods (delete only with
//! [`OnDeadline::Force`]) and `create` on `pods/eviction`; `list, watch` on `policy/poddisruptionbudgets` and
//! `storage.k8s.io/volumeattachments`; `get, patch` on `apps/deployments` if plans surge. With replanning also what
//! [`observe()`] lists.

mod evict;
mod identity;
mod infrastructure;
mod live;
mod mark;
mod observe;
mod pace;
mod remove;
mod replan;
mod report;
mod session;
mod standing;
mod surge;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
    storage::v1::VolumeAttachment,
};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use kurator_core::{
    clock::{Clock, SystemClock},
    connect::{ClientPurpose, ClusterConnector},
    names::ClusterName,
    progress::{Progress, ProgressEvent, ProgressSink},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::replan::passes;
pub use self::{
    identity::{IdentityError, IdentityProvider, RoleState, WaitError, WaitPolicy, set_up, wait_ready},
    infrastructure::{
        InMemoryInfrastructure, InfrastructureError, InfrastructureProvider, Machine, WorkerPool,
    },
    mark::{MARK, PLAN, plan_id},
    observe::observe,
    report::{DrainError, DrainOutcome, DrainReport, Left},
    standing::{DrainStanding, Waiting},
    surge::SURGE,
};
use self::{
    live::Seen,
    mark::{Course, Mark, Marks},
    session::Session,
};
use super::{DrainPolicy, ScaleDownPlan, Window};

/// What happens when a node is not empty by its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDeadline {
    /// Delete what is left, past its budget, with its own grace period but no more than this.
    Force {
        /// Seconds, at least 1: with 0 two pods of one identity could run at once.
        max_grace_seconds: u32,
    },
    /// Let go of the node, with its cordon if that is ours, and go on with the others.
    Leave,
    /// Stop, and take back the cordons of nodes that have not been drained.
    Stop,
}

/// How patient the executor is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DrainOptions {
    /// How long a node may take to become empty; no limit by default.
    pub node_deadline: Option<Duration>,
    /// What happens then; it stops by default.
    pub on_deadline: OnDeadline,
    /// How long replacements may take to become Ready after a wave; ten minutes by default.
    pub replacement_deadline: Duration,
    /// How long volumes may stay attached to an empty node before it is removed anyway; five minutes by default.
    pub volume_deadline: Duration,
    /// How long a node of the plan may be not Ready before it is let go of; a minute by default. Nothing is evicted from
    /// it meanwhile.
    pub unready_patience: Duration,
    /// Eviction requests at once, over all nodes; 16 by default.
    pub requests: usize,
    /// Seconds a pod gets at most to end; its own grace period by default.
    pub max_grace_seconds: Option<u32>,
}

impl Default for DrainOptions {
    fn default() -> Self {
        Self {
            node_deadline: None,
            on_deadline: OnDeadline::Stop,
            replacement_deadline: Duration::from_secs(600),
            volume_deadline: Duration::from_secs(300),
            unready_patience: Duration::from_secs(60),
            requests: 16,
            max_grace_seconds: None,
        }
    }
}

impl DrainOptions {
    /// A node has that long to become empty.
    #[must_use]
    pub fn with_node_deadline(self, deadline: Duration, then: OnDeadline) -> Self {
        Self {
            node_deadline: Some(deadline),
            on_deadline: then,
            ..self
        }
    }

    /// A node of the plan may be not Ready for that long.
    #[must_use]
    pub fn with_unready_patience(self, unready_patience: Duration) -> Self {
        Self {
            unready_patience,
            ..self
        }
    }

    /// Pods get at most that many seconds to end, and at least one.
    #[must_use]
    pub fn with_max_grace_seconds(self, max_grace_seconds: u32) -> Self {
        Self {
            max_grace_seconds: Some(max_grace_seconds.max(1)),
            ..self
        }
    }

    /// Replacements have that long to become Ready.
    #[must_use]
    pub fn with_replacement_deadline(self, replacement_deadline: Duration) -> Self {
        Self {
            replacement_deadline,
            ..self
        }
    }
}

/// Carries scale-down plans out on one cluster. See the [module documentation](self).
#[derive(Clone, Debug)]
pub struct DrainExecutor {
    connector: Arc<dyn ClusterConnector>,
    cluster: ClusterName,
    infrastructure: Arc<dyn InfrastructureProvider>,
    clock: Arc<dyn Clock>,
    options: DrainOptions,
    policy: Option<DrainPolicy>,
    windows: Vec<Window>,
    progress: Arc<dyn ProgressSink>,
    standing: Option<watch::Sender<Option<DrainStanding>>>,
}

impl DrainExecutor {
    /// An executor for `cluster`, whose machines are removed through `infrastructure`.
    pub fn new(
        connector: impl ClusterConnector,
        cluster: ClusterName,
        infrastructure: impl InfrastructureProvider,
    ) -> Self {
        Self {
            connector: Arc::new(connector),
            cluster,
            infrastructure: Arc::new(infrastructure),
            clock: Arc::new(SystemClock::new()),
            options: DrainOptions::default(),
            policy: None,
            windows: Vec::new(),
            progress: Arc::new(()),
            standing: None,
        }
    }

    /// With other patience.
    #[must_use]
    pub fn with_options(self, options: DrainOptions) -> Self {
        Self { options, ..self }
    }

    /// By another clock than that of the machine.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Plans the rest again when the cluster has changed, by these rules: those the plan was made with. Keeps to their
    /// windows too.
    #[must_use]
    pub fn with_replanning(self, policy: DrainPolicy) -> Self {
        Self {
            windows: policy.windows.clone(),
            policy: Some(policy),
            ..self
        }
    }

    /// Begins evictions, and surges, only in these windows. Pods on their way are waited for, and empty nodes removed;
    /// a deadline that is over ends the drain all the same.
    #[must_use]
    pub fn with_windows(self, windows: impl IntoIterator<Item = Window>) -> Self {
        Self {
            windows: windows.into_iter().collect(),
            ..self
        }
    }

    /// Tells of every step as it begins and ends.
    #[must_use]
    pub fn with_progress(self, progress: impl ProgressSink) -> Self {
        Self {
            progress: Arc::new(progress),
            ..self
        }
    }

    /// Tells how far it is, whenever that changes.
    #[must_use]
    pub fn with_standing(self, standing: watch::Sender<Option<DrainStanding>>) -> Self {
        Self {
            standing: Some(standing),
            ..self
        }
    }

    /// Carries out a plan. Running a plan again that is under way continues it.
    ///
    /// # Errors
    /// [`DrainError`]. Marks and cordons stay then, so that it can be run again.
    pub async fn run(
        &self,
        plan: &ScaleDownPlan,
        cancel: CancellationToken,
    ) -> Result<DrainReport, DrainError> {
        let marks = self.marks().await?;
        let (mut course, fresh) = mark::course(plan, self.clock.now());
        match marks.read().await? {
            // What is left of a plan that was given up is taken back first.
            Some((found, _)) if found.stop => {
                let _ = self.drive(marks.clone(), found, CancellationToken::new()).await?;
            }
            Some((found, _)) if found.plan == course.plan => course = found,
            Some((found, _)) => {
                return Err(DrainError::OtherPlan {
                    found: found.plan,
                    wanted: course.plan,
                });
            }
            None => {}
        }
        self.cordon(&marks, &course, &fresh).await?;
        self.drive(marks, course, cancel).await
    }

    /// Continues the plan that is under way on the nodes, if there is one.
    ///
    /// # Errors
    /// As [`DrainExecutor::run`].
    pub async fn resume(&self, cancel: CancellationToken) -> Result<Option<DrainReport>, DrainError> {
        let marks = self.marks().await?;
        let Some((course, found)) = marks.read().await? else {
            return Ok(None);
        };
        // The process may have died before it had marked all of them.
        if !course.stop {
            self.cordon(&marks, &course, &found).await?;
        }
        self.drive(marks, course, cancel).await.map(Some)
    }

    /// Gives up the plan that is under way: its marks go, and the cordons that are its own, and what it has scaled up is
    /// scaled back. A node whose removal had begun is removed.
    ///
    /// # Errors
    /// As [`DrainExecutor::run`].
    pub async fn roll_back(&self) -> Result<Option<DrainReport>, DrainError> {
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        let marks = self.marks().await?;
        let Some((course, _)) = marks.read().await? else {
            return Ok(None);
        };
        self.drive(marks, course, cancelled).await.map(Some)
    }

    /// Cordons and marks every node of the course that is not marked yet, the one that holds the course first.
    async fn cordon(
        &self,
        marks: &Marks,
        course: &Course,
        known: &BTreeMap<String, Mark>,
    ) -> Result<(), DrainError> {
        let holder = course.holder();
        let others = course.nodes().filter(|node| Some(*node) != holder);
        for name in holder.into_iter().chain(others) {
            let mark = known
                .get(name)
                .cloned()
                .unwrap_or_else(|| Marks::plain(course, name));
            let carried = (Some(name) == holder).then_some(course);
            let step = format!("cordon {name}");
            self.emit(&step, Progress::Started);
            marks.cordon(name, mark, carried).await?;
            self.emit(&step, Progress::Succeeded);
        }
        Ok(())
    }

    fn emit(&self, step: &str, progress: Progress) {
        let event = ProgressEvent::new(self.clock.now(), step, progress);
        self.progress.emit(event.with_cluster(self.cluster.clone()));
    }

    async fn client(&self, purpose: ClientPurpose) -> Result<Client, DrainError> {
        let client = self.connector.client(&self.cluster, purpose).await;
        client.map_err(|error| DrainError::Connect(Box::new(error)))
    }

    async fn marks(&self) -> Result<Marks, DrainError> {
        Ok(Marks {
            nodes: Api::all(self.client(ClientPurpose::Control).await?),
        })
    }

    async fn drive(
        &self,
        marks: Marks,
        course: Course,
        cancel: CancellationToken,
    ) -> Result<DrainReport, DrainError> {
        let watch = self.client(ClientPurpose::Watch).await?;
        let config = watcher::Config::default;
        let nodes = watcher(Api::<Node>::all(watch.clone()), config())
            .default_backoff()
            .boxed();
        let pods = watcher(Api::<Pod>::all(watch.clone()), config())
            .default_backoff()
            .boxed();
        let budgets = watcher(Api::<PodDisruptionBudget>::all(watch.clone()), config())
            .default_backoff()
            .boxed();
        let attachments = watcher(Api::<VolumeAttachment>::all(watch), config())
            .default_backoff()
            .boxed();
        let events = stream::select_all([
            nodes.filter_map(|event| seen(event, Seen::Node)).boxed(),
            pods.filter_map(|event| seen(event, Seen::Pod)).boxed(),
            budgets.filter_map(|event| seen(event, Seen::Budget)).boxed(),
            attachments
                .filter_map(|event| seen(event, Seen::Attachment))
                .boxed(),
        ]);
        let session = Session::new(
            self,
            marks,
            course,
            events.boxed(),
            self.client(ClientPurpose::Evict).await?,
            self.client(ClientPurpose::Control).await?,
        );
        session.run(cancel).await
    }
}

/// A watch that fails is started again with back-off; meanwhile what is known stays.
async fn seen<K>(
    event: watcher::Result<watcher::Event<K>>,
    wrap: fn(Box<watcher::Event<K>>) -> Seen,
) -> Option<Seen> {
    match event {
        Ok(event) => Some(wrap(Box::new(event))),
        Err(error) => {
            tracing::debug!(%error, "a watch failed and is started again");
            None
        }
    }
}
