//! Proving that backups can be restored: test restores into scratch namespaces, on a schedule.
//!
//! A verification takes the newest complete backup of a member, restores it into namespaces of its own, compares what
//! is there with what is in the backup, and removes them again. Everything it needs is on record before anything is
//! made, so whoever comes after a process that died finishes it or cleans up after it.
//!
//! # What it never does
//! - restore into a namespace that is there already and is not its own;
//! - touch cluster-scoped objects, custom resources, volumes, or a namespace of anybody else;
//! - let anything run: see [`KINDS`], [`modifiers`] and
//!   [`ScratchNamespace::Ready`](crate::driver::ScratchNamespace::Ready);
//! - remove a scratch namespace into which a server may still be restoring.
//!
//! ```
//! use kurator_backup::{
//!     api::{BackupPolicy, BackupScheduleSpec, ExecutionPhase, VerificationPolicy, VerificationStatus},
//!     restore::RunView,
//!     verification::{Action, Seen, Verification, step},
//! };
//!
//! let mut template = BackupPolicy::new("storefront".parse()?);
//! template.scope.included_namespaces = vec!["shop".to_owned()];
//! let mut spec = BackupScheduleSpec::new("0 3 * * *", template);
//! spec.verification = Some(VerificationPolicy::new("0 5 * * 6"));
//! let verification = Verification::new("default", "nightly", "uid-1", &spec);
//!
//! let cluster: kurator_core::names::ClusterName = "cluster-a".parse()?;
//! let run = RunView::new("nightly-1", "2026-11-28T03:00:00Z".parse()?, ExecutionPhase::Completed)
//!     .with_backup(cluster.clone(), "cluster-a-1".parse()?, true);
//! let mut seen = Seen::default();
//! seen.runs = vec![run];
//! seen.members = Some([(cluster, Default::default())].into());
//!
//! // A new schedule counts from now on; on Saturday at five it begins.
//! let counted = step(&verification, &VerificationStatus::default(), &seen, "2026-11-28T04:00:00Z".parse()?);
//! assert!(counted.status.current.is_none());
//! let begun = step(&verification, &counted.status, &seen, "2026-11-28T05:00:00Z".parse()?);
//! let Some(Action::MakeScratch { request, .. }) = begun.actions.first() else { panic!() };
//! assert!(request.names.iter().all(|name| name.starts_with("verify-shop-")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod pick;
mod policy;
mod reason;
mod safety;
mod step;

pub use self::{
    policy::{Verification, VerificationError},
    reason::VerificationReason,
    safety::{KINDS, modifiers},
    step::{Action, Ask, Seen, SeenRestore, Step, absorb, asks, step},
};

#[cfg(test)]
mod tests;
