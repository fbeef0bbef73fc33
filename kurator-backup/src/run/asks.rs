use jiff::{SignedDuration, Timestamp};
use kurator_core::names::{ClusterName, bounded_name};

use super::{Run, quiesce};
use crate::{
    api::{BackupExecutionStatus, ClusterExecution, ClusterPhase},
    driver::{BackupName, QuiesceRequest},
};

/// Something to look at before the next [`step`](super::step).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ask {
    /// The member.
    pub cluster: ClusterName,
    /// What to look at there.
    pub question: Question,
}

/// What to look at on a member.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Question {
    /// Its server.
    Facts,
    /// A backup.
    Backup(BackupName),
    /// Whether it holds still; asking takes or renews the lease, which the status has on record.
    Quiesce(QuiesceRequest),
    /// How far the deletion of a backup is.
    Deletion(BackupName),
}

/// What to look at in this pass: nothing of members that are done, wait for their next attempt, or have no slot.
///
/// Sorted by cluster.
#[must_use]
pub fn asks(run: &Run, status: &BackupExecutionStatus, now: Timestamp) -> Vec<Ask> {
    let mut asks = Vec::new();
    if status.phase.has_ended() && status.clusters.iter().all(|entry| entry.held_until.is_none()) {
        return asks;
    }
    let mut slots = slots(run, status);
    for entry in &status.clusters {
        let ask = |question| Ask {
            cluster: entry.cluster.clone(),
            question,
        };
        let due = entry.retry_at.as_ref().is_none_or(|at| at.0 <= now);
        match entry.phase {
            ClusterPhase::Waiting if due && slots > 0 && turn(run, status, entry) <= now => {
                slots -= 1;
                asks.push(ask(Question::Facts));
            }
            phase if phase.is_at_work() && due => {
                if let Some(backup) = &entry.backup {
                    asks.push(ask(Question::Backup(backup.clone())));
                }
            }
            _ => {}
        }
        // A lease that has ended is not taken again: what is read from then on is not of the same instant.
        let lasts = entry.held_until.as_ref().is_some_and(|until| until.0 > now);
        if let Some(request) = quiesce::request(run, status, entry)
            && lasts
            && (entry.phase == ClusterPhase::Quiescing || entry.phase.is_at_work())
        {
            let request = if entry.phase == ClusterPhase::Quiescing {
                request
            } else {
                request.renewing()
            };
            asks.push(ask(Question::Quiesce(request)));
        }
    }
    asks
}

/// How many members may begin now. All at once where they are held still together.
pub(super) fn slots(run: &Run, status: &BackupExecutionStatus) -> usize {
    if quiesce::is_gathering(run, status) {
        return usize::MAX;
    }
    let busy = status
        .clusters
        .iter()
        .filter(|entry| entry.phase.is_at_work())
        .count();
    run.policy.limits.max_parallel.saturating_sub(busy)
}

/// When the jitter lets a member begin: always the same part of it for the same member.
pub(super) fn turn(run: &Run, status: &BackupExecutionStatus, entry: &ClusterExecution) -> Timestamp {
    let start = status.started_at.as_ref().map_or(Timestamp::MIN, |at| at.0);
    let jitter = run.policy.limits.jitter;
    if jitter.is_zero() || run.policy.quiesce.is_some() {
        return start;
    }
    let share = bounded_name([entry.cluster.as_str(), "jitter"])
        .bytes()
        .rev()
        .take(10)
        .fold(0_u64, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
    let whole = u64::try_from(jitter.as_millis()).unwrap_or(0).max(1);
    let offset = SignedDuration::from_millis(i64::try_from(share % whole).unwrap_or(0));
    start.checked_add(offset).unwrap_or(start)
}
