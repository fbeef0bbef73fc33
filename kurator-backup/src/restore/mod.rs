//! Restoring a fleet, or a part of it, from a run of its backup.
//!
//! The same four steps as in [`run`](crate::run): look, decide, write down, do. Before anything is written to a member
//! it is known what would be created, skipped and patched there, and whether the member serves every kind; afterwards
//! what is there is compared with what was in the backup.
//!
//! ```
//! use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
//! use kurator_backup::{
//!     api::{ExecutionPhase, RestoreSource},
//!     restore::{RunView, select},
//! };
//!
//! let run = |name: &str, at: &str| -> Result<RunView, Box<dyn std::error::Error>> {
//!     let run = RunView::new(name, at.parse()?, ExecutionPhase::Completed).of_schedule("nightly");
//!     Ok(run.with_backup("cluster-a".parse()?, format!("cluster-a-{name}").parse()?, true))
//! };
//! let runs = [run("monday", "2026-11-23T03:00:00Z")?, run("tuesday", "2026-11-24T03:00:00Z")?];
//! let mut from = RestoreSource::schedule("nightly");
//! assert_eq!(select(&from, &runs)?.name, "tuesday");
//! from.at = Some(Time("2026-11-23T12:00:00Z".parse()?));
//! assert_eq!(select(&from, &runs)?.name, "monday");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod classes;
mod counts;
mod reason;
mod select;
mod step;

pub use self::{
    classes::storage_classes,
    counts::{Expected, NOT_RESTORED, WELL_KNOWN, counts, expected},
    reason::RestoreReason,
    select::{RunView, SelectError, select},
    step::{
        Restore, RestoreAction, RestoreAsk, RestoreStep, SeenTarget, TargetView, absorb, asks, begin, step,
    },
};

#[cfg(test)]
mod tests;
