//! Backup and restore of fleets of Kubernetes clusters on Velero.
//!
//! A fleet's backup is one thing or it is many unrelated backups. This crate makes it one: a run over all members whose
//! status says what became of each, at one instant if need be, kept by rules that never drop the last good backup, and
//! restored as a whole.
//!
//! | to | use |
//! |---|---|
//! | say what is wanted, as objects on a hub | [`api`] |
//! | decide what to do next in a run | [`run`] |
//! | decide when the next run is | [`schedule`], [`cron`] |
//! | decide which runs are kept | [`retention`] |
//! | decide what a restore changes, and follow it | [`restore`] |
//! | move what runs on one member to another | [`migration`] |
//! | know how much would be lost | [`recovery`] |
//! | prove that backups can be restored | [`verification`] |
//! | do it, through traits you can replace | [`driver`], `execute` (feature `client`) |
//! | know what Velero would refuse, and drive it | [`velero`] (`VeleroDriver` with feature `client`) |
//! | hold applications still by commands in their pods | `exec_barrier` (feature `client`) |
//! | have controllers do it | `controller` (feature `client`) |
//!
//! # A run, pass by pass
//!
//! Members in memory stand in for clusters with Velero. A pass looks at them, decides, writes the decision down, and
//! only then acts on it: whatever dies in between, the next pass goes on from what is written.
//!
//! ```
//! use std::collections::BTreeMap;
//! use jiff::SignedDuration;
//! use kurator_backup::{
//!     api::{BackupPolicy, ExecutionPhase},
//!     driver::memory::InMemoryBackups,
//!     run::{Action, Prepared, Question, Run, RunId, Seen, asks, begin, step},
//! };
//! use kurator_core::names::ClusterName;
//!
//! let fleet = InMemoryBackups::new("2026-11-23T03:00:00Z".parse()?);
//! let names: [ClusterName; 2] = ["cluster-a".parse()?, "cluster-b".parse()?];
//! for name in &names {
//!     fleet.add_member(name);
//! }
//!
//! // What is wanted: everything on every member of the fleet.
//! let policy = Prepared::new(&BackupPolicy::new("production".parse()?))?;
//! let run = Run::new(RunId::new("default", "before-upgrade", "uid-1", fleet.now()), policy)
//!     .with_members(names.iter().map(|name| (name.clone(), BTreeMap::new())).collect());
//!
//! let mut status = begin(&run, fleet.now());
//! let mut log = Vec::new();
//! while !status.phase.has_ended() {
//!     // Look.
//!     let mut seen = BTreeMap::new();
//!     for ask in asks(&run, &status, fleet.now()) {
//!         let answer = match &ask.question {
//!             Question::Facts => Seen::default().with_facts(fleet.facts(&ask.cluster)),
//!             Question::Backup(name) => Seen::default().with_backup(fleet.backup(&ask.cluster, name)),
//!             _ => continue,
//!         };
//!         seen.insert(ask.cluster, answer);
//!     }
//!     // Decide; here is where the status would be written.
//!     let next = step(&run, &status, &seen, fleet.now());
//!     status = next.status;
//!     // Act.
//!     for action in &next.actions {
//!         if let Action::Create { cluster, request } = action {
//!             fleet.create_backup(cluster, request)?;
//!             log.push(format!("{cluster}: attempt {}", request.labels["backup.kurator.dev/attempt"]));
//!         }
//!     }
//!     fleet.advance(SignedDuration::from_secs(1));
//! }
//! assert_eq!(status.phase, ExecutionPhase::Completed);
//! assert_eq!(log, ["cluster-a: attempt 1", "cluster-b: attempt 1"]);
//! let ready = status.conditions.iter().find(|it| it.type_ == "Ready").ok_or("it is there")?;
//! assert_eq!(ready.message, "2 of 2 members completed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the feature `client`, `execute::Executor` makes these passes over any `driver::BackupDriver`, and
//! `controller::BackupManager` makes them for the objects of a hub.

#![allow(clippy::duplicated_attributes, reason = "every printer column has a type")]

pub mod api;
#[cfg(feature = "client")]
pub mod controller;
pub mod cron;
pub mod driver;
#[cfg(feature = "client")]
pub mod exec_barrier;
#[cfg(feature = "client")]
pub mod execute;
pub mod migration;
pub mod recovery;
pub mod restore;
pub mod retention;
pub mod run;
pub mod schedule;
#[cfg(feature = "testing")]
pub mod testing;
pub mod velero;
pub mod verification;
