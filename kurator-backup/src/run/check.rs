//! An independent reading of a step: does it keep the laws, whoever made it?

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use kurator_core::{names::ClusterName, plan::Notes, reason::Reason};

use super::{Run, step::Action, step::Step};
use crate::api::{BackupExecutionStatus, ClusterPhase, Consistency};

/// A law that a step breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// A backup is to be created that the status to be written does not know: after a crash nobody would.
    NotOnRecord {
        /// The backup.
        backup: String,
    },
    /// Two backups are to be created on one member.
    TwoBackups,
    /// A member changes after its end.
    ChangedAfterEnd,
    /// An attempt is skipped or taken back.
    AttemptJumps {
        /// Before.
        before: u32,
        /// After.
        after: u32,
    },
    /// A backup of the consistency `Fleet` is to be created before everyone holds still.
    BeforeHold,
    /// A member that may hold still is forgotten.
    HoldForgotten,
    /// A member appears or disappears.
    MembersChange,
    /// More members are at work than the policy allows.
    TooManyAtWork {
        /// How many.
        at_work: usize,
        /// The limit.
        limit: usize,
    },
    /// Nobody would come back to a run that has not ended.
    NeverWakes,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOnRecord { backup } => write!(f, "{backup} would be created without being on record"),
            Self::TwoBackups => f.write_str("two backups would be created at once"),
            Self::ChangedAfterEnd => f.write_str("it has ended and would change"),
            Self::AttemptJumps { before, after } => write!(f, "from attempt {before} to {after}"),
            Self::BeforeHold => f.write_str("a backup would be created before every member holds still"),
            Self::HoldForgotten => f.write_str("it may hold still and would be forgotten"),
            Self::MembersChange => f.write_str("it was no member of the run, or would be none any more"),
            Self::TooManyAtWork { at_work, limit } => write!(f, "{at_work} members at work, {limit} allowed"),
            Self::NeverWakes => f.write_str("the run has not ended and nobody would come back to it"),
        }
    }
}

impl Reason for Breach {
    fn token(&self) -> &'static str {
        match self {
            Self::NotOnRecord { .. } => "NotOnRecord",
            Self::TwoBackups => "TwoBackups",
            Self::ChangedAfterEnd => "ChangedAfterEnd",
            Self::AttemptJumps { .. } => "AttemptJumps",
            Self::BeforeHold => "BeforeHold",
            Self::HoldForgotten => "HoldForgotten",
            Self::MembersChange => "MembersChange",
            Self::TooManyAtWork { .. } => "TooManyAtWork",
            Self::NeverWakes => "NeverWakes",
        }
    }
}

/// Reads a step without trusting whoever made it. A step with errors must not be carried out.
pub fn check(run: &Run, before: &BackupExecutionStatus, step: &Step, now: Timestamp) -> Notes {
    let mut notes = Notes::default();
    let old: BTreeMap<&ClusterName, _> = before.clusters.iter().map(|it| (&it.cluster, it)).collect();
    let new: BTreeMap<&ClusterName, _> = step.status.clusters.iter().map(|it| (&it.cluster, it)).collect();
    if !old.keys().eq(new.keys()) {
        notes.error(&run.id.name, &Breach::MembersChange);
        return notes;
    }
    for (cluster, after) in &new {
        let Some(before) = old.get(*cluster) else { continue };
        if before.phase.has_ended() && (before.phase != after.phase || before.attempt != after.attempt) {
            notes.error(cluster, &Breach::ChangedAfterEnd);
        }
        if !(before.attempt..=before.attempt.saturating_add(1)).contains(&after.attempt) {
            let (before, after) = (before.attempt, after.attempt);
            notes.error(cluster, &Breach::AttemptJumps { before, after });
        }
    }
    creations(run, step, &new, &mut notes);
    for (cluster, before) in &old {
        let Some(after) = new.get(*cluster) else { continue };
        // Only a lease that has ended may leave the record in a step.
        if let Some(until) = &before.held_until
            && after.held_until.is_none()
            && until.0 > now
        {
            notes.error(cluster, &Breach::HoldForgotten);
        }
    }
    let at_work = new.values().filter(|entry| entry.phase.is_at_work()).count();
    let limit = run.policy.limits.max_parallel;
    if run.policy.source.consistency != Consistency::Fleet && at_work > limit {
        notes.error(&run.id.name, &Breach::TooManyAtWork { at_work, limit });
    }
    if step.wake_at.is_none() && new.values().any(|entry| !entry.phase.has_ended()) {
        notes.error(&run.id.name, &Breach::NeverWakes);
    }
    notes
}

fn creations(
    run: &Run,
    step: &Step,
    new: &BTreeMap<&ClusterName, &crate::api::ClusterExecution>,
    notes: &mut Notes,
) {
    let mut created = BTreeMap::new();
    for action in &step.actions {
        let Action::Create { cluster, request } = action else {
            continue;
        };
        if created.insert(cluster, request).is_some() {
            notes.error(cluster, &Breach::TwoBackups);
        }
        let on_record = new.get(cluster).is_some_and(|entry| {
            entry.phase == ClusterPhase::Submitting
                && entry.attempt > 0
                && request.name == run.id.backup_name(cluster, entry.attempt)
                && request.owner == run.id.owner(cluster, entry.attempt)
        });
        if !on_record {
            let backup = request.name.to_string();
            notes.error(cluster, &Breach::NotOnRecord { backup });
        }
        let held = step
            .status
            .quiesce
            .as_ref()
            .is_some_and(|record| record.held_at.is_some());
        if run.policy.source.consistency == Consistency::Fleet && !held {
            notes.error(cluster, &Breach::BeforeHold);
        }
    }
}
