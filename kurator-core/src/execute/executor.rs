use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    ClusterReport, Done, Journal, Outcome, Run, RunReport, Step, StepContext, StepFailure, StepLog,
    StepReport, StepResult, step_fn,
};
use crate::{
    clock::Clock,
    names::ClusterName,
    progress::{Progress, ProgressEvent, ProgressSink},
};

/// Why a run did not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Two steps of one member have the same identity: the log could not tell them apart.
    #[error("cluster {cluster} has two steps {step}; give each its own identity")]
    DuplicateStep {
        /// The member.
        cluster: ClusterName,
        /// The identity.
        step: String,
    },
    /// The log is of another run: its steps may mean something else.
    #[error(
        "the step log is of run {found}, not of {run}; resume with the log of the same run, or with none"
    )]
    ForeignLog {
        /// Identity of the run.
        run: String,
        /// Identity in the log.
        found: String,
    },
}

/// Runs steps on many members at once.
///
/// # Guarantees
/// - At most [`Executor::with_concurrency`] members at a time, begun in the order of their names; the steps of one
///   member one after another.
/// - A result for every member. What happens on one changes nothing on the others.
/// - No member takes longer than its deadline, counted from its first step; a step that is still running then is
///   dropped.
/// - After cancellation no step begins; those that run have the grace period to come to an end.
/// - Dropping the future of a run drops every step.
#[derive(Clone)]
pub struct Executor {
    concurrency: usize,
    deadline: Duration,
    grace: Duration,
    shared: Arc<Shared>,
}

struct Shared {
    clock: Box<dyn Clock>,
    progress: Box<dyn ProgressSink>,
    journal: Box<dyn Journal>,
}

impl Executor {
    /// Members worked on at once, unless set otherwise.
    pub const DEFAULT_CONCURRENCY: usize = 32;
    /// Time for a member, unless set otherwise.
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);
    /// Time to come to an end after cancellation, unless set otherwise.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

    /// An executor that reports to nobody and records nothing. The clock stamps progress events.
    pub fn new(clock: impl Clock) -> Self {
        Self::observed(clock, (), ())
    }

    /// An executor that reports progress to `progress` and records finished steps in `journal`.
    pub fn observed(clock: impl Clock, progress: impl ProgressSink, journal: impl Journal) -> Self {
        let shared = Shared {
            clock: Box::new(clock),
            progress: Box::new(progress),
            journal: Box::new(journal),
        };
        Self {
            concurrency: Self::DEFAULT_CONCURRENCY,
            deadline: Self::DEFAULT_DEADLINE,
            grace: Self::DEFAULT_GRACE,
            shared: Arc::new(shared),
        }
    }

    /// Sets how many members are worked on at once, at least 1.
    #[must_use]
    pub fn with_concurrency(mut self, members: usize) -> Self {
        self.concurrency = members.max(1);
        self
    }

    /// Sets how long a member may take, all its steps together.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how long a step may go on after cancellation.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Runs one function on each member.
    pub async fn each<T, F, W>(
        &self,
        clusters: impl IntoIterator<Item = ClusterName>,
        cancel: CancellationToken,
        work: F,
    ) -> RunReport<T>
    where
        T: Send + 'static,
        F: Fn(StepContext) -> W + Send + Sync + 'static,
        W: Future<Output = Result<T, StepFailure>> + Send + 'static,
    {
        let work = Arc::new(work);
        let step: Arc<dyn Step<T>> = Arc::new(step_fn("each", move |context| {
            let work = Arc::clone(&work);
            async move { work(context).await.map(Done::Changed) }
        }));
        let clusters = clusters
            .into_iter()
            .map(|cluster| (cluster, vec![Arc::clone(&step)]))
            .collect();
        self.run_all("each".to_owned(), clusters, &StepLog::default(), cancel)
            .await
    }

    /// Runs what is not in `log` yet.
    ///
    /// # Errors
    /// [`RunError`]: nothing was begun. What goes wrong on a member is part of the report.
    pub async fn run<T: Send + 'static>(
        &self,
        run: Run<T>,
        log: &StepLog,
        cancel: CancellationToken,
    ) -> Result<RunReport<T>, RunError> {
        if !log.finished.is_empty() && log.run != run.id() {
            return Err(RunError::ForeignLog {
                run: run.id().to_owned(),
                found: log.run.clone(),
            });
        }
        for (cluster, steps) in run.clusters() {
            let mut seen = BTreeSet::new();
            if let Some(twice) = steps.iter().find(|step| !seen.insert(step.id())) {
                return Err(RunError::DuplicateStep {
                    cluster: cluster.clone(),
                    step: twice.id().to_owned(),
                });
            }
        }
        Ok(self
            .run_all(run.id().to_owned(), run.into_clusters(), log, cancel)
            .await)
    }

    async fn run_all<T: Send + 'static>(
        &self,
        id: String,
        clusters: BTreeMap<ClusterName, Vec<Arc<dyn Step<T>>>>,
        log: &StepLog,
        cancel: CancellationToken,
    ) -> RunReport<T> {
        let run: Arc<str> = id.as_str().into();
        let mut report = RunReport::new(id);
        let mut tasks = JoinSet::new();
        let mut names = BTreeMap::new();
        let mut queue = clusters.into_iter();
        loop {
            while tasks.len() < self.concurrency
                && let Some((cluster, steps)) = queue.next()
            {
                let finished = log.finished.get(&cluster).cloned().unwrap_or_default();
                let context = StepContext::new(cluster.clone(), cancel.clone());
                let member = Member {
                    executor: self.clone(),
                    run: Arc::clone(&run),
                    context,
                    finished,
                };
                let task = tasks.spawn(member.run(steps));
                names.insert(task.id(), cluster);
            }
            // Steps are caught when they panic; a task that does is the executor's own fault or was aborted.
            let (task, result) = match tasks.join_next_with_id().await {
                None => return report,
                Some(Ok((task, result))) => (task, result),
                Some(Err(error)) => (
                    error.id(),
                    ClusterReport::new(Outcome::Panicked { step: String::new() }, Vec::new()),
                ),
            };
            if let Some(cluster) = names.remove(&task) {
                report.clusters.insert(cluster, result);
            }
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("concurrency", &self.concurrency)
            .field("deadline", &self.deadline)
            .field("grace", &self.grace)
            .field("journal", &self.shared.journal)
            .finish_non_exhaustive()
    }
}

/// The run of one member.
struct Member {
    executor: Executor,
    run: Arc<str>,
    context: StepContext,
    finished: BTreeSet<String>,
}

impl Member {
    async fn run<T: Send + 'static>(self, steps: Vec<Arc<dyn Step<T>>>) -> ClusterReport<T> {
        let end = Instant::now() + self.executor.deadline;
        let mut reports = Vec::with_capacity(steps.len());
        for step in steps {
            if self.finished.contains(step.id()) {
                self.emit(step.id(), Progress::Skipped);
                reports.push(StepReport::new(step.id(), StepResult::Resumed, None));
                continue;
            }
            let stopped = match self.step(&*step, end).await {
                Ok((result, output)) => {
                    reports.push(StepReport::new(step.id(), result, Some(output)));
                    self.record(step.id()).await
                }
                Err(outcome) => {
                    reports.push(StepReport::new(step.id(), StepResult::Stopped, None));
                    Some(outcome)
                }
            };
            if let Some(outcome) = stopped {
                self.emit(step.id(), told(&outcome));
                return ClusterReport::new(outcome, reports);
            }
            let changed = reports
                .last()
                .is_some_and(|report| report.result == StepResult::Changed);
            self.emit(
                step.id(),
                if changed {
                    Progress::Succeeded
                } else {
                    Progress::Skipped
                },
            );
        }
        ClusterReport::new(Outcome::Completed, reports)
    }

    async fn step<T: Send + 'static>(
        &self,
        step: &dyn Step<T>,
        end: Instant,
    ) -> Result<(StepResult, T), Outcome> {
        let name = || step.id().to_owned();
        if self.context.cancel.is_cancelled() {
            return Err(Outcome::Cancelled);
        }
        self.emit(step.id(), Progress::Started);
        let done = tokio::select! {
            biased;
            done = AssertUnwindSafe(step.run(&self.context)).catch_unwind() => done,
            () = tokio::time::sleep_until(end) => {
                let after_ms = u64::try_from(self.executor.deadline.as_millis()).unwrap_or(u64::MAX);
                return Err(Outcome::DeadlineExceeded { step: name(), after_ms });
            }
            () = self.cancelled() => return Err(Outcome::Cancelled),
        };
        match done {
            Ok(Ok(Done::Changed(output))) => Ok((StepResult::Changed, output)),
            Ok(Ok(Done::Unchanged(output))) => Ok((StepResult::Unchanged, output)),
            Ok(Ok(Done::Blocked {
                reason,
                message,
                until,
            })) => Err(Outcome::Blocked {
                step: name(),
                reason,
                message,
                until,
            }),
            Ok(Err(failure)) => Err(Outcome::Failed {
                step: name(),
                failure,
            }),
            Err(_) => Err(Outcome::Panicked { step: name() }),
        }
    }

    async fn cancelled(&self) {
        self.context.cancel.cancelled().await;
        tokio::time::sleep(self.executor.grace).await;
    }

    /// A journal that hangs must not hold the member for ever either.
    async fn record(&self, step: &str) -> Option<Outcome> {
        let journal = &self.executor.shared.journal;
        let recording = journal.finished(&self.run, &self.context.cluster, step);
        let message = match tokio::time::timeout(self.executor.deadline, recording).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the journal did not answer in time".to_owned(),
        };
        Some(Outcome::NotRecorded {
            step: step.to_owned(),
            message,
        })
    }

    fn emit(&self, step: &str, progress: Progress) {
        let shared = &self.executor.shared;
        let event = ProgressEvent::new(shared.clock.now(), step, progress);
        shared
            .progress
            .emit(event.with_cluster(self.context.cluster.clone()));
    }
}

fn told(outcome: &Outcome) -> Progress {
    match outcome {
        Outcome::Blocked {
            reason,
            message,
            until,
            ..
        } => Progress::Blocked {
            reason: reason.clone(),
            message: message.clone(),
            until: *until,
        },
        Outcome::Cancelled => Progress::Cancelled,
        other => Progress::Failed {
            reason: other.reason().to_owned(),
            message: other.to_string(),
        },
    }
}
