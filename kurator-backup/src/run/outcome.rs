//! From members to the run: phase, sums, conditions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::condition::{ConditionSet, ConditionStatus};

use super::{Run, reason::RunReason, size};
use crate::api::{
    BackupExecutionStatus, ClusterExecution, ClusterPhase, ExecutionPhase, ExecutionTotals, SuccessMode,
    SuccessRule,
};

/// Whether everything was read while the fleet held still; for the consistency `Fleet`.
const CONSISTENT: &str = "Consistent";

/// How many members a message names.
const NAMED: usize = 10;

/// How many members must complete, of that many.
fn needed_of(rule: &SuccessRule, clusters: usize) -> usize {
    match rule.mode {
        SuccessMode::All => clusters,
        SuccessMode::Quorum => usize::try_from(rule.quorum.unwrap_or(u32::MAX)).unwrap_or(usize::MAX),
        SuccessMode::BestEffort => 1,
    }
}

pub(super) fn needed(run: &Run, status: &BackupExecutionStatus) -> usize {
    needed_of(&run.policy.source.success, status.clusters.len())
}

/// What the members together make of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// The phase of the run.
    pub phase: ExecutionPhase,
    /// Sums over the members.
    pub totals: ExecutionTotals,
    /// How many members must complete.
    pub needed: u32,
}

/// What these members make of a run under `rule`, whatever their order.
#[must_use]
pub fn verdict(rule: &SuccessRule, clusters: &[ClusterExecution]) -> Verdict {
    let count = |which: fn(ClusterPhase) -> bool| {
        u32::try_from(clusters.iter().filter(|entry| which(entry.phase)).count()).unwrap_or(u32::MAX)
    };
    let totals = ExecutionTotals {
        clusters: u32::try_from(clusters.len()).unwrap_or(u32::MAX),
        completed: count(|phase| phase == ClusterPhase::Completed),
        partially_failed: count(|phase| phase == ClusterPhase::PartiallyFailed),
        failed: count(|phase| matches!(phase, ClusterPhase::Failed | ClusterPhase::Cancelled)),
        items: clusters
            .iter()
            .filter_map(|entry| entry.progress)
            .map(|progress| progress.done)
            .fold(0, u64::saturating_add),
    };
    let needed = u32::try_from(needed_of(rule, clusters.len())).unwrap_or(u32::MAX);
    let any = |which: fn(ClusterPhase) -> bool| clusters.iter().any(|entry| which(entry.phase));
    let phase = if any(|phase| !phase.has_ended()) {
        if any(|phase| phase == ClusterPhase::Quiescing) {
            ExecutionPhase::Quiescing
        } else if any(|phase| {
            matches!(
                phase,
                ClusterPhase::Submitting | ClusterPhase::Queued | ClusterPhase::InProgress
            )
        }) || (any(ClusterPhase::has_ended)
            && any(|phase| phase == ClusterPhase::Waiting)
            && clusters.iter().any(|entry| entry.attempt > 0))
        {
            ExecutionPhase::InProgress
        } else if any(|phase| phase == ClusterPhase::Finalizing) {
            ExecutionPhase::Finalizing
        } else if clusters.iter().any(|entry| entry.attempt > 0) {
            ExecutionPhase::InProgress
        } else {
            ExecutionPhase::Pending
        }
    } else if !clusters.is_empty() && totals.completed >= needed {
        ExecutionPhase::Completed
    } else if totals.completed + totals.partially_failed > 0 {
        ExecutionPhase::PartiallyFailed
    } else {
        ExecutionPhase::Failed
    };
    Verdict {
        phase,
        totals,
        needed,
    }
}

/// A run that failed before any member was asked.
pub(super) fn refuse(
    run: &Run,
    mut status: BackupExecutionStatus,
    reason: &RunReason,
    now: Timestamp,
) -> BackupExecutionStatus {
    status.phase = ExecutionPhase::Failed;
    status.completed_at = Some(Time(now));
    status.observed_generation = run.generation;
    let mut conditions = ConditionSet::new(status.conditions, run.generation, now);
    conditions.ready(false, reason);
    conditions.progressing(false, reason);
    conditions.degraded(true, reason);
    status.conditions = conditions.into_vec();
    status
}

/// Fills in what follows from the members.
pub(super) fn conclude(
    run: &Run,
    mut status: BackupExecutionStatus,
    now: Timestamp,
) -> BackupExecutionStatus {
    status.observed_generation = run.generation;
    if status.clusters.is_empty() {
        return status;
    }
    let found = verdict(&run.policy.source.success, &status.clusters);
    status.phase = found.phase;
    status.totals = found.totals;
    if found.phase.has_ended() && status.completed_at.is_none() {
        status.completed_at = Some(Time(now));
    }
    let mut conditions = ConditionSet::new(std::mem::take(&mut status.conditions), run.generation, now);
    let reason = reason(run, &status, found.needed);
    let ended = found.phase.has_ended();
    let ready = if ended {
        ConditionStatus::from(found.phase == ExecutionPhase::Completed)
    } else {
        ConditionStatus::Unknown
    };
    conditions.ready(ready, &reason);
    conditions.progressing(!ended, &reason);
    conditions.degraded(ended && found.phase != ExecutionPhase::Completed, &reason);
    if run.policy.quiesce.is_some() {
        let (holds, reason) = cut(&status, ended);
        conditions.set(CONSISTENT, holds, &reason);
        if let Some(record) = &mut status.quiesce
            && ended
        {
            record.consistent = Some(holds == ConditionStatus::True);
        }
    }
    status.conditions = conditions.into_vec();
    size::fit(&mut status);
    status
}

fn reason(run: &Run, status: &BackupExecutionStatus, needed: u32) -> RunReason {
    let totals = status.totals;
    if !status.phase.has_ended() {
        return RunReason::Running {
            ended: totals.completed + totals.partially_failed + totals.failed,
            clusters: totals.clusters,
        };
    }
    if status.phase == ExecutionPhase::Completed {
        return RunReason::Succeeded {
            completed: totals.completed,
            clusters: totals.clusters,
        };
    }
    if run.cancel {
        return RunReason::Cancelled {
            completed: totals.completed,
        };
    }
    RunReason::Missed {
        completed: totals.completed,
        needed,
        clusters: totals.clusters,
        which: status
            .clusters
            .iter()
            .filter(|entry| entry.phase != ClusterPhase::Completed)
            .take(NAMED)
            .map(|entry| (entry.cluster.clone(), entry.reason.clone()))
            .collect(),
    }
}

fn cut(status: &BackupExecutionStatus, ended: bool) -> (ConditionStatus, RunReason) {
    let usable = |entry: &&ClusterExecution| {
        matches!(
            entry.phase,
            ClusterPhase::Completed | ClusterPhase::PartiallyFailed
        )
    };
    let outside: Vec<_> = status
        .clusters
        .iter()
        .filter(usable)
        .filter(|entry| !entry.in_cut)
        .take(NAMED)
        .map(|entry| entry.cluster.clone())
        .collect();
    if !outside.is_empty() {
        return (ConditionStatus::False, RunReason::OutsideCut { which: outside });
    }
    let clusters = u32::try_from(status.clusters.iter().filter(usable).count()).unwrap_or(u32::MAX);
    if ended && clusters > 0 {
        (ConditionStatus::True, RunReason::Consistent { clusters })
    } else if ended {
        (ConditionStatus::False, RunReason::Consistent { clusters })
    } else {
        (ConditionStatus::Unknown, RunReason::CutOpen)
    }
}
