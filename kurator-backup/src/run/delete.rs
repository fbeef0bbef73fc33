//! Deleting the backups of a run, everywhere, for good.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::{condition::ConditionSet, names::ClusterName, reason::Reason as _};

use super::{
    Ask, Question, Run,
    reason::{ClusterReason, RunReason},
    seen::Seen,
    size,
    step::Action,
};
use crate::{
    api::{BackupExecutionStatus, ClusterExecution, ExecutionPhase},
    driver::{BackupName, DeletionRequest},
};

/// A request that is pending for longer than this was lost: Velero skips one that was in progress when it restarted.
const LOST_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// What follows from a pass over a run that is being deleted.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeletionStep {
    /// The next status. Members where nothing is left are on it no more.
    pub status: BackupExecutionStatus,
    /// What to do once it is written.
    pub actions: Vec<Action>,
    /// When to come back; `None` when nothing is left anywhere.
    pub wake_at: Option<Timestamp>,
    /// Members that left the fleet with backups of the run: nobody can ask them.
    pub left_behind: Vec<ClusterName>,
}

fn backups(run: &Run, entry: &ClusterExecution) -> Vec<BackupName> {
    (1..=entry.attempt)
        .map(|attempt| run.id.backup_name(&entry.cluster, attempt))
        .collect()
}

/// What to look at: every attempt's backup on every member that may have one.
#[must_use]
pub fn deletion_asks(run: &Run, status: &BackupExecutionStatus, now: Timestamp) -> Vec<Ask> {
    let due = |entry: &&ClusterExecution| entry.retry_at.as_ref().is_none_or(|at| at.0 <= now);
    let mut asks = Vec::new();
    for entry in status.clusters.iter().filter(due) {
        for backup in backups(run, entry) {
            asks.push(Ask {
                cluster: entry.cluster.clone(),
                question: Question::Deletion(backup),
            });
        }
    }
    asks
}

/// What follows from what was seen. A backup counts as deleted when its server shows it no more and works on no request.
#[must_use]
pub fn deletion_step(
    run: &Run,
    status: &BackupExecutionStatus,
    seen: &BTreeMap<ClusterName, Seen>,
    now: Timestamp,
) -> DeletionStep {
    let mut step = DeletionStep {
        status: status.clone(),
        actions: Vec::new(),
        wake_at: None,
        left_behind: Vec::new(),
    };
    // A deletion begins anew: what was in the way of the backup is not in the way of this.
    if status.phase != ExecutionPhase::Deleting {
        for entry in &mut step.status.clusters {
            entry.retry_at = None;
            entry.obstacles = 0;
        }
    }
    step.status.phase = ExecutionPhase::Deleting;
    let mut left = Vec::new();
    for mut entry in std::mem::take(&mut step.status.clusters) {
        if entry.attempt == 0 {
            continue;
        }
        if !run.members.contains_key(entry.cluster.as_str()) {
            step.left_behind.push(entry.cluster);
            continue;
        }
        if let Some(at) = entry.retry_at.as_ref().filter(|at| at.0 > now) {
            step.wake_at = earlier(step.wake_at, at.0);
            left.push(entry);
            continue;
        }
        let answers = seen.get(&entry.cluster).map(|seen| seen.deletions.as_slice());
        if !member(run, &mut entry, answers.unwrap_or_default(), &mut step, now) {
            left.push(entry);
        }
    }
    step.status.clusters = left;
    let reason = RunReason::Deleting {
        left: u32::try_from(step.status.clusters.len()).unwrap_or(u32::MAX),
    };
    let mut conditions = ConditionSet::new(std::mem::take(&mut step.status.conditions), run.generation, now);
    conditions.ready(false, &reason);
    conditions.progressing(true, &reason);
    step.status.conditions = conditions.into_vec();
    size::fit(&mut step.status);
    if step.status.clusters.is_empty() {
        step.wake_at = None;
    }
    step
}

/// Whether nothing is left on the member.
fn member(
    run: &Run,
    entry: &mut ClusterExecution,
    answers: &[(
        BackupName,
        Result<crate::driver::DeletionObservation, super::Obstacle>,
    )],
    step: &mut DeletionStep,
    now: Timestamp,
) -> bool {
    let mut gone = true;
    let mut reason = ClusterReason::Deleting;
    for backup in backups(run, entry) {
        match answers.iter().find(|(name, _)| *name == backup).map(|(_, it)| it) {
            None => gone = false,
            Some(Err(obstacle)) => {
                gone = false;
                reason = ClusterReason::Obstacle {
                    token: obstacle.token,
                    message: obstacle.message.clone(),
                };
            }
            Some(Ok(deletion)) if deletion.is_gone() => {}
            Some(Ok(deletion)) => {
                gone = false;
                let lost = deletion.pending
                    && deletion
                        .pending_since
                        .is_some_and(|since| now.duration_since(since) >= LOST_AFTER);
                if deletion.pending && !lost {
                    continue;
                }
                if let Some(message) = deletion.errors.last() {
                    reason = ClusterReason::DeletionFailed {
                        message: message.clone(),
                    };
                }
                // A process may have died before it sent the request that is on record: the same one is sent again.
                let on_record = run.id.deletion_name(&backup, entry.deletion);
                let untold = deletion.requests.is_empty() && (lost || !deletion.errors.is_empty());
                if entry.deletion == 0 || deletion.requests.contains(&on_record) || untold {
                    entry.deletion = entry.deletion.saturating_add(1);
                }
                let request = DeletionRequest::new(
                    run.id.deletion_name(&backup, entry.deletion),
                    run.id.owner(&entry.cluster, 0),
                    backup,
                );
                step.actions.push(Action::Delete {
                    cluster: entry.cluster.clone(),
                    request,
                });
            }
        }
    }
    if gone {
        return true;
    }
    reason.token().clone_into(&mut entry.reason);
    entry.message = crate::driver::cut(reason.to_string(), size::MAX_MESSAGE);
    let pause = if reason == ClusterReason::Deleting {
        entry.obstacles = 0;
        SignedDuration::from_secs(2)
    } else {
        entry.obstacles = entry.obstacles.saturating_add(1);
        run.policy.limits.backoff(entry.obstacles)
    };
    let at = now.checked_add(pause).unwrap_or(now);
    entry.retry_at = Some(Time(at));
    step.wake_at = earlier(step.wake_at, at);
    false
}

fn earlier(a: Option<Timestamp>, b: Timestamp) -> Option<Timestamp> {
    Some(a.map_or(b, |a| a.min(b)))
}
