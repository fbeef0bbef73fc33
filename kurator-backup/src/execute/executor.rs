use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kurator_core::names::ClusterName;

use super::{error::ExecuteError, store::StatusStore};
use crate::{
    api::BackupExecutionStatus,
    driver::{BackupDriver, ConsistencyBarrier, DriverError},
    run::{
        Action, ActionResult, Ask, DeletionStep, Obstacle, Question, Run, Seen, absorb, asks, check,
        deletion_asks, deletion_step, step,
    },
};

/// How busy and how patient a pass is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExecutorOptions {
    /// How many calls run at once, over all members. Default 64.
    pub concurrency: usize,
    /// How long a member may take to answer one call. Default 10 s: a member that hangs keeps the others of its run
    /// waiting for that long, once, and is then asked less and less often.
    pub patience: Duration,
}

impl Default for ExecutorOptions {
    fn default() -> Self {
        Self {
            concurrency: 64,
            patience: Duration::from_secs(10),
        }
    }
}

/// What became of a pass.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pass {
    /// The status as it is in the store now.
    pub status: BackupExecutionStatus,
    /// When the next pass is due; `None` when nothing is left to do.
    pub wake_at: Option<Timestamp>,
}

/// Makes the passes of runs. Holds no state of any run.
#[derive(Clone, Debug)]
pub struct Executor {
    pub(super) driver: Arc<dyn BackupDriver>,
    barrier: Arc<dyn ConsistencyBarrier>,
    pub(super) options: ExecutorOptions,
}

impl Executor {
    /// An executor over these members.
    #[must_use]
    pub fn new(driver: Arc<dyn BackupDriver>, barrier: Arc<dyn ConsistencyBarrier>) -> Self {
        Self {
            driver,
            barrier,
            options: ExecutorOptions::default(),
        }
    }

    /// Sets how busy and how patient it is.
    #[must_use]
    pub fn with_options(mut self, options: ExecutorOptions) -> Self {
        self.options = options;
        self
    }

    pub(crate) fn driver(&self) -> &dyn BackupDriver {
        &*self.driver
    }

    /// Looks, decides, writes the decision down, and only then does it.
    ///
    /// # Errors
    /// [`ExecuteError`]: the status could not be written, and nothing that follows from it was done.
    pub async fn pass(
        &self,
        run: &Run,
        status: &BackupExecutionStatus,
        store: &dyn StatusStore,
        now: Timestamp,
    ) -> Result<Pass, ExecuteError> {
        let seen = self.look(asks(run, status, now)).await;
        let next = step(run, status, &seen, now);
        let notes = check(run, status, &next, now);
        if !notes.permits() {
            return Err(ExecuteError::Unsound {
                run: run.id.name.clone(),
                notes,
            });
        }
        if next.status != *status {
            save(run, store, &next.status).await?;
        }
        let results = self.act(next.actions).await;
        let after = absorb(run, &next.status, &results, now);
        if after != next.status {
            save(run, store, &after).await?;
        }
        Ok(Pass {
            status: after,
            wake_at: next.wake_at,
        })
    }

    /// One pass over a run that is being deleted.
    ///
    /// # Errors
    /// [`ExecuteError`].
    pub async fn deletion_pass(
        &self,
        run: &Run,
        status: &BackupExecutionStatus,
        store: &dyn StatusStore,
        now: Timestamp,
    ) -> Result<DeletionStep, ExecuteError> {
        let seen = self.look(deletion_asks(run, status, now)).await;
        let next = deletion_step(run, status, &seen, now);
        if next.status != *status && !next.status.clusters.is_empty() {
            save(run, store, &next.status).await?;
        }
        self.act(next.actions.clone()).await;
        Ok(next)
    }

    async fn look(&self, asks: Vec<Ask>) -> BTreeMap<ClusterName, Seen> {
        let answers: Vec<(ClusterName, Answer)> = stream::iter(asks)
            .map(|ask| async move { (ask.cluster.clone(), self.ask(ask).await) })
            .buffer_unordered(self.options.concurrency.max(1))
            .collect()
            .await;
        let mut seen: BTreeMap<ClusterName, Seen> = BTreeMap::new();
        for (cluster, answer) in answers {
            let entry = seen.entry(cluster).or_default();
            match answer {
                Answer::Facts(facts) => entry.facts = Some(facts),
                Answer::Backup(backup) => entry.backup = Some(backup),
                Answer::Quiesce(state) => entry.quiesce = Some(state),
                Answer::Deletion(backup, state) => entry.deletions.push((backup, state)),
            }
        }
        seen
    }

    async fn ask(&self, ask: Ask) -> Answer {
        let cluster = &ask.cluster;
        match ask.question {
            Question::Facts => Answer::Facts(self.patiently(self.driver.facts(cluster)).await),
            Question::Backup(name) => {
                Answer::Backup(self.patiently(self.driver.backup(cluster, &name)).await)
            }
            Question::Quiesce(request) => {
                Answer::Quiesce(self.patiently(self.barrier.quiesce(cluster, &request)).await)
            }
            Question::Deletion(backup) => {
                let state = self.patiently(self.driver.deletion(cluster, &backup)).await;
                Answer::Deletion(backup, state)
            }
        }
    }

    /// Actions of one member in their order, members beside each other.
    async fn act(&self, actions: Vec<Action>) -> Vec<(Action, ActionResult)> {
        let mut by_cluster: BTreeMap<ClusterName, Vec<Action>> = BTreeMap::new();
        for action in actions {
            by_cluster
                .entry(action.cluster().clone())
                .or_default()
                .push(action);
        }
        let results: Vec<Vec<(Action, ActionResult)>> = stream::iter(by_cluster.into_values())
            .map(|actions| async move {
                let mut results = Vec::with_capacity(actions.len());
                for action in actions {
                    let result = self.one(&action).await;
                    if let Err(obstacle) = &result {
                        tracing::warn!(reason = obstacle.token, %action, "{}", obstacle.message);
                    }
                    results.push((action, result));
                }
                results
            })
            .buffer_unordered(self.options.concurrency.max(1))
            .collect()
            .await;
        let mut results: Vec<_> = results.into_iter().flatten().collect();
        results.sort_by(|(a, _), (b, _)| a.cluster().cmp(b.cluster()));
        results
    }

    async fn one(&self, action: &Action) -> ActionResult {
        match action {
            Action::Create { cluster, request } => {
                let created = self.driver.create_backup(cluster, request);
                self.patiently(created).await.map(drop)
            }
            Action::Poke {
                cluster,
                backup,
                token,
            } => self.patiently(self.driver.poke(cluster, backup, token)).await,
            Action::Delete { cluster, request } => {
                let requested = self.driver.request_deletion(cluster, request);
                self.patiently(requested).await.map(drop)
            }
            Action::Release { cluster, request } => {
                self.patiently(self.barrier.release(cluster, request)).await
            }
        }
    }

    /// Waits for a member as long as a pass has patience.
    pub(crate) async fn patiently<T>(
        &self,
        call: impl Future<Output = Result<T, DriverError>> + Send,
    ) -> Result<T, Obstacle> {
        match tokio::time::timeout(self.options.patience, call).await {
            Ok(answer) => answer.map_err(Obstacle::from),
            Err(_) => Err(Obstacle::slow(self.options.patience.as_secs())),
        }
    }
}

enum Answer {
    Facts(Result<crate::driver::MemberFacts, Obstacle>),
    Backup(Result<Option<crate::driver::BackupObservation>, Obstacle>),
    Quiesce(Result<crate::driver::QuiesceState, Obstacle>),
    Deletion(
        crate::driver::BackupName,
        Result<crate::driver::DeletionObservation, Obstacle>,
    ),
}

async fn save(
    run: &Run,
    store: &dyn StatusStore,
    status: &BackupExecutionStatus,
) -> Result<(), ExecuteError> {
    store.save(status).await.map_err(|source| ExecuteError::Store {
        run: run.id.name.clone(),
        source,
    })
}
