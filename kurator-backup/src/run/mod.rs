//! One backup of a fleet, from its first thought to its end: a pure machine over what is written down and what is seen.
//!
//! A pass is four steps, and a process may die between any two of them:
//!
//! 1. [`asks`] says what to look at, member by member.
//! 2. [`step`] takes what was seen and returns the next status and the [`Action`]s that follow from it.
//! 3. The status is written, *then* the actions are done. Names and owners are decided in the status, so an action
//!    that is done twice is done once.
//! 4. [`absorb`] takes what became of the actions.
//!
//! ```
//! use std::collections::BTreeMap;
//! use kurator_backup::{
//!     api::{BackupPolicy, ClusterPhase},
//!     driver::memory::InMemoryBackups,
//!     run::{Action, Prepared, Run, RunId, Seen, SeenMembers, asks, begin, step},
//! };
//! use kurator_core::names::ClusterName;
//!
//! let now = "2026-11-23T03:00:00Z".parse()?;
//! let fleet = InMemoryBackups::new(now);
//! let cluster: ClusterName = "cluster-a".parse()?;
//! fleet.add_member(&cluster);
//!
//! let policy = BackupPolicy::new("storefront".parse()?);
//! let run = Run::new(RunId::new("default", "before-upgrade", "uid-1", now), Prepared::new(&policy)?);
//! let run = run.with_members(SeenMembers::from([(cluster.clone(), BTreeMap::new())]));
//! let status = begin(&run, now);
//!
//! let mut seen = BTreeMap::new();
//! for ask in asks(&run, &status, now) {
//!     seen.insert(ask.cluster.clone(), Seen::default().with_facts(fleet.facts(&ask.cluster)));
//! }
//! let next = step(&run, &status, &seen, now);
//! assert_eq!(next.status.clusters[0].phase, ClusterPhase::Submitting);
//! let [Action::Create { request, .. }] = next.actions.as_slice() else { panic!("{next:?}") };
//! assert!(request.name.as_str().starts_with("cluster-a-1795402800-1-"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod asks;
mod begin;
mod check;
mod delete;
mod event;
mod identity;
mod member;
mod outcome;
mod policy;
mod preflight;
mod quiesce;
mod reason;
mod request;
mod seen;
mod size;
mod step;

pub use self::{
    asks::{Ask, Question, asks},
    begin::begin,
    check::{Breach, check},
    delete::{DeletionStep, deletion_asks, deletion_step},
    event::{RunEvent, events},
    identity::RunId,
    outcome::{Verdict, verdict},
    policy::{PolicyError, Prepared},
    preflight::{Preflight, Refusal},
    reason::{ClusterReason, RunReason},
    request::backup_request,
    seen::{ActionResult, Obstacle, Seen},
    size::MAX_STATUS_BYTES,
    step::{Action, Step, absorb, step},
};

pub(crate) use self::policy::{Limits, Selection, signed};

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use kurator_core::names::ClusterName;

use crate::velero::VeleroPreflight;

/// One run: who it is, what it is to do, and what was asked of it since.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run {
    /// Who it is.
    pub id: RunId,
    /// What it is to do.
    pub policy: Prepared,
    /// Whether it was told to stop.
    pub cancel: bool,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// The members of the fleet now.
    pub members: SeenMembers,
    /// What servers would refuse. Default [`VeleroPreflight`].
    pub preflight: Arc<dyn Preflight>,
}

/// The members of a fleet, with the labels of their registrations.
pub type SeenMembers = BTreeMap<ClusterName, BTreeMap<String, String>>;

impl Run {
    /// The run `id` of `policy`.
    #[must_use]
    pub fn new(id: RunId, policy: Prepared) -> Self {
        Self {
            id,
            policy,
            cancel: false,
            generation: None,
            members: SeenMembers::new(),
            preflight: Arc::new(VeleroPreflight),
        }
    }

    /// Sets who is in the fleet now.
    #[must_use]
    pub fn with_members(mut self, members: SeenMembers) -> Self {
        self.members = members;
        self
    }

    /// Sets whether it was told to stop.
    #[must_use]
    pub fn with_cancel(mut self, cancel: bool) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sets the generation of the spec.
    #[must_use]
    pub fn with_generation(mut self, generation: Option<i64>) -> Self {
        self.generation = generation;
        self
    }

    /// Sets what servers would refuse.
    #[must_use]
    pub fn with_preflight(mut self, preflight: Arc<dyn Preflight>) -> Self {
        self.preflight = preflight;
        self
    }

    /// When the run ends at the latest, given when it began.
    #[must_use]
    pub fn deadline(&self, started_at: Timestamp) -> Timestamp {
        started_at
            .checked_add(self.policy.limits.deadline)
            .unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests;
