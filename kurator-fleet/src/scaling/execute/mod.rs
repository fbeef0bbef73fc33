//! Carrying a scale-down plan out.
//!
//! A [`DrainExecutor`] cordons and marks every node of the plan, then takes wave by wave: it evicts a pod only when the
//! budget's watched status, less what it has asked for itself and not yet seen there, allows one; waits until the pods
//! are gone, their replacements Ready and the volumes detached; and removes the machines through an
//! [`InfrastructureProvider`].
//!
//! # Guarantees
//! - In a cluster where nobody else evicts, no eviction is refused, because none is sent that the server would refuse.
//! - Grace period and UID reach the server, so a pod of the same name and another UID is never evicted.
//! - What has to survive is on the nodes: the plan on the node that goes last, the step of each on itself. A process
//!   that dies at any point is continued by [`DrainExecutor::resume`] in another, with the same nodes; the machine of a
//!   node marked for removal is asked for before it is removed.
//! - Only cordons of this plan are taken back. A node somebody uncordons meanwhile leaves the plan.
//!
//! # Assumptions
//! One executor at a time works on a cluster: the host holds a lease or runs one process.
//!
//! # RBAC
//! `get, list, watch, patch, delete` on nodes; `list, watch, delete` on pods (delete only with
//! [`OnDeadline::Force`]) and `create` on `pods/eviction`; `list, watch` on `policy/poddisruptionbudgets` and
//! `storage.k8s.io/volumeattachments`.

mod evict;
mod identity;
mod infrastructure;
mod live;
mod mark;
mod report;
mod session;

use std::{sync::Arc, time::Duration};

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
};
use tokio_util::sync::CancellationToken;

pub use self::{
    identity::{IdentityError, IdentityProvider, RoleState, WaitError, WaitPolicy, wait_ready},
    infrastructure::{InMemoryInfrastructure, InfrastructureError, InfrastructureProvider, Machine},
    mark::{MARK, PLAN},
    report::{DrainError, DrainOutcome, DrainReport},
};
use self::{live::Seen, mark::Marks, session::Session};
use super::ScaleDownPlan;

/// What happens when a node is not empty by its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDeadline {
    /// Delete what is left, past its budget, with its own grace period but no more than this.
    Force {
        /// Seconds, at least 1: with 0 two pods of one identity could run at once.
        max_grace_seconds: u32,
    },
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
        }
    }

    /// With other patience.
    #[must_use]
    pub fn with_options(self, options: DrainOptions) -> Self {
        Self { options, ..self }
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
        let (mut course, fresh) = mark::course(plan);
        if let Some((found, _)) = marks.read().await? {
            if found.plan != course.plan {
                return Err(DrainError::OtherPlan {
                    found: found.plan,
                    wanted: course.plan,
                });
            }
            course = found;
        }
        marks.write(&course, &fresh).await?;
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
        marks.write(&course, &found).await?;
        self.drive(marks, course, cancel).await.map(Some)
    }

    /// Gives up the plan that is under way: its marks go, and the cordons that are its own. Names of the nodes.
    ///
    /// # Errors
    /// [`DrainError::Api`].
    pub async fn roll_back(&self) -> Result<Vec<String>, DrainError> {
        let marks = self.marks().await?;
        let Some((_, found)) = marks.read().await? else {
            return Ok(Vec::new());
        };
        for node in found.keys() {
            marks.roll_back(node).await?;
        }
        Ok(found.into_keys().collect())
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
        course: mark::Course,
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
