use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::names::ClusterName;

/// The steps of a run that are finished. Serialisable: it is what a host keeps where it survives the process (a
/// status, an annotation, a ConfigMap).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StepLog {
    /// Identity of the run; empty if nothing has been done.
    pub run: String,
    /// Identities of the finished steps, by member.
    pub finished: BTreeMap<ClusterName, BTreeSet<String>>,
}

impl StepLog {
    /// Whether the step is finished.
    pub fn contains(&self, cluster: &ClusterName, step: &str) -> bool {
        self.finished
            .get(cluster)
            .is_some_and(|steps| steps.contains(step))
    }

    /// Notes a finished step of a run. What another run has finished is forgotten.
    pub fn insert(&mut self, run: &str, cluster: &ClusterName, step: &str) {
        if self.run != run {
            *self = Self {
                run: run.to_owned(),
                finished: BTreeMap::new(),
            };
        }
        self.finished
            .entry(cluster.clone())
            .or_default()
            .insert(step.to_owned());
    }
}

/// Records finished steps where they survive the process.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync + 'static {
    /// Records that `step` of `run` is finished on `cluster`, before the next step of the member begins. Called
    /// for several members at once.
    ///
    /// # Errors
    /// Whatever went wrong: the member gets no further in this run. Its step is run again in the next, which is
    /// why steps are idempotent.
    async fn finished(
        &self,
        run: &str,
        cluster: &ClusterName,
        step: &str,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// For runs whose steps are cheap to repeat.
#[async_trait]
impl Journal for () {
    async fn finished(
        &self,
        _: &str,
        _: &ClusterName,
        _: &str,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Journal + ?Sized> Journal for Arc<T> {
    async fn finished(
        &self,
        run: &str,
        cluster: &ClusterName,
        step: &str,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        (**self).finished(run, cluster, step).await
    }
}

/// Keeps the log in memory: for tests, and for hosts that write it elsewhere from time to time. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal(Arc<Mutex<StepLog>>);

impl MemoryJournal {
    /// The log so far.
    pub fn log(&self) -> StepLog {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn finished(
        &self,
        run: &str,
        cluster: &ClusterName,
        step: &str,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(run, cluster, step);
        Ok(())
    }
}
