//! Carrying a plan out on many members at once.
//!
//! A plan becomes a [`Run`]: for each member, steps in order. The [`Executor`] runs the members beside each other,
//! a bounded number at a time, each with a deadline of its own, and returns a result for every one: a member that
//! fails, hangs, blocks or panics stops itself and nobody else. Every step checks its precondition again and is
//! idempotent, so a run can be cancelled, or die with its process, and be taken up by another process: a
//! [`Journal`] records finished steps where they survive, and the [`StepLog`] read back from there says what need
//! not be done again.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use kurator_core::{
//!     clock::SystemClock,
//!     execute::{Executor, Outcome, StepFailure, StepLog},
//! };
//! use tokio_util::sync::CancellationToken;
//!
//! let executor = Executor::new(SystemClock::new());
//! let clusters = ["cluster-a".parse()?, "cluster-b".parse()?];
//! let report = executor
//!     .each(clusters, CancellationToken::new(), |context| async move {
//!         if context.cluster == "cluster-a" {
//!             return Err(StepFailure::new("MemberUnreachable", "connection refused"));
//!         }
//!         Ok(context.cluster.as_str().len())
//!     })
//!     .await;
//! let (a, b) = (&report.clusters["cluster-a"], &report.clusters["cluster-b"]);
//! assert_eq!(a.outcome.reason(), "MemberUnreachable");
//! assert_eq!((&b.outcome, b.output()), (&Outcome::Completed, Some(&9)));
//! # Ok(())
//! # }
//! ```

mod executor;
mod journal;
mod report;
mod step;
#[cfg(test)]
mod tests;

#[cfg(feature = "mock")]
pub use self::journal::MockJournal;
pub use self::{
    executor::{Executor, RunError},
    journal::{Journal, MemoryJournal, StepLog},
    report::{ClusterReport, Outcome, RunReport, StepReport, StepResult},
    step::{Done, Run, Step, StepContext, StepFailure, step_fn},
};
