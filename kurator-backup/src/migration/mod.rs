//! Moving objects of one member to another, gate by gate, with a way back.
//!
//! A migration is a backup execution of the source and a restore execution onto the target, and what it does next
//! follows from how far those two are. Nothing is written to the target before a plan is on record and the gate
//! `Restore` is open; nothing is ever changed on the source. Until it has completed it can go back: what runs is
//! stopped and its backup deleted, in the store too.
//!
//! ```
//! use kurator_backup::{
//!     api::{ExecutionPhase, MigrationPhase, MigrationSpec, MigrationStatus},
//!     migration::{Action, Migration, Seen, SeenBackup, step},
//! };
//!
//! let now = "2026-11-23T03:00:00Z".parse()?;
//! let spec = MigrationSpec::new("production".parse()?, "cluster-old".parse()?, "cluster-new".parse()?);
//! let migration = Migration::new("default", "move", "uid-1", &spec);
//! let next = step(&migration, &MigrationStatus::default(), &Seen::default(), now);
//! assert_eq!(next.status.phase, MigrationPhase::BackingUp);
//! assert!(matches!(next.actions.as_slice(), [Action::BackUp { .. }]));
//!
//! let mut seen = Seen::default();
//! seen.backup = Some(SeenBackup::new(ExecutionPhase::Completed));
//! let next = step(&migration, &next.status, &seen, now);
//! assert!(matches!(next.actions.as_slice(), [Action::Plan { spec, .. }] if spec.dry_run));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod reason;
mod step;

pub use self::{
    reason::MigrationReason,
    step::{Action, Migration, Seen, SeenBackup, SeenRestore, Step, step},
};

#[cfg(test)]
mod tests;
