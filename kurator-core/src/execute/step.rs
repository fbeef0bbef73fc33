use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    names::ClusterName,
    reason::{Blocked, Reason},
};

/// One thing to do on one member.
///
/// # Assumptions of the executor
/// A step looks at the member before it acts, for the plan may be old by then, and running it twice does no more
/// than running it once. It may be dropped at any await, when its time is up or the run is cancelled.
#[async_trait]
pub trait Step<T>: fmt::Debug + Send + Sync + 'static {
    /// What the step is called in progress, reports and the step log: the same in every process that runs the
    /// same plan, and unique among the steps of its member.
    fn id(&self) -> &str;

    /// Does it.
    ///
    /// # Errors
    /// [`StepFailure`]: the member gets no further in this run. That something is not possible *now* is
    /// [`Done::Blocked`], not an error.
    async fn run(&self, context: &StepContext) -> Result<Done<T>, StepFailure>;
}

/// How a step ended that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Done<T> {
    /// It cannot be done now. The later steps of the member are not tried.
    Blocked {
        /// CamelCase token of what is in the way.
        reason: String,
        /// The same as a sentence.
        message: String,
        /// When to try again at the earliest.
        until: Option<Timestamp>,
    },
    /// It is done.
    Changed(T),
    /// Nothing was to be done.
    Unchanged(T),
}

impl<T, R: Reason> From<Blocked<R>> for Done<T> {
    fn from(blocked: Blocked<R>) -> Self {
        Self::Blocked {
            reason: blocked.reason.token().to_owned(),
            message: blocked.reason.to_string(),
            until: blocked.until,
        }
    }
}

/// What a step knows of the run it is part of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepContext {
    /// The member.
    pub cluster: ClusterName,
    /// Set when the run is to end: steps that take long should come to a good stop.
    pub cancel: CancellationToken,
}

impl StepContext {
    pub(super) fn new(cluster: ClusterName, cancel: CancellationToken) -> Self {
        Self { cluster, cancel }
    }
}

/// Why a step failed, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct StepFailure {
    /// CamelCase token.
    pub reason: String,
    /// The same as a sentence.
    pub message: String,
}

impl StepFailure {
    /// A failure for this reason.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// A failure for this reason, in the words of an error and all its sources.
    pub fn of(reason: impl Into<String>, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            message = format!("{message}: {inner}");
            source = inner.source();
        }
        Self::new(reason, message)
    }
}

/// What is to be done on which member.
#[derive(Debug)]
pub struct Run<T> {
    id: String,
    clusters: BTreeMap<ClusterName, Vec<Arc<dyn Step<T>>>>,
}

impl<T> Run<T> {
    /// A run of nothing yet. The identity must be the same in every process that carries out the same plan, and
    /// differ from that of every other plan: the UID and generation of what is reconciled, say.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            clusters: BTreeMap::new(),
        }
    }

    /// Adds a step after those the member has already.
    #[must_use]
    pub fn with_step(mut self, cluster: ClusterName, step: impl Step<T>) -> Self {
        self.clusters.entry(cluster).or_default().push(Arc::new(step));
        self
    }

    /// The identity.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn clusters(&self) -> &BTreeMap<ClusterName, Vec<Arc<dyn Step<T>>>> {
        &self.clusters
    }

    pub(super) fn into_clusters(self) -> BTreeMap<ClusterName, Vec<Arc<dyn Step<T>>>> {
        self.clusters
    }
}

/// A step made of a function.
pub fn step_fn<T, F, W>(id: &str, run: F) -> impl Step<T> + use<T, F, W>
where
    T: Send + 'static,
    F: Fn(StepContext) -> W + Send + Sync + 'static,
    W: Future<Output = Result<Done<T>, StepFailure>> + Send + 'static,
{
    StepFn {
        id: id.to_owned(),
        run,
    }
}

struct StepFn<F> {
    id: String,
    run: F,
}

impl<F> fmt::Debug for StepFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("step_fn").field(&self.id).finish()
    }
}

#[async_trait]
impl<T, F, W> Step<T> for StepFn<F>
where
    T: Send + 'static,
    F: Fn(StepContext) -> W + Send + Sync + 'static,
    W: Future<Output = Result<Done<T>, StepFailure>> + Send + 'static,
{
    fn id(&self) -> &str {
        &self.id
    }

    async fn run(&self, context: &StepContext) -> Result<Done<T>, StepFailure> {
        (self.run)(context.clone()).await
    }
}
