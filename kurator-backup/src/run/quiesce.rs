//! Holding the fleet still: rounds over all members, leases that are renewed while they are needed.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Run,
    member::{self, Attempt},
    reason::ClusterReason,
    step::{Action, Work},
};
use crate::{
    api::{BackupExecutionStatus, ClusterExecution, ClusterPhase, QuiesceRecord},
    driver::{QuiesceRequest, QuiesceState},
};

/// The lease that the status has on record for a member, if it may be holding still.
pub(super) fn request(
    run: &Run,
    status: &BackupExecutionStatus,
    entry: &ClusterExecution,
) -> Option<QuiesceRequest> {
    let (record, policy) = (status.quiesce.as_ref()?, run.policy.quiesce.as_ref()?);
    entry.held_until.as_ref()?;
    let owner = run.id.quiesce_owner(&entry.cluster, record.round);
    Some(QuiesceRequest::new(owner, policy.hooks.clone(), record.until.0))
}

/// Whether members are waiting for each other to be held still.
pub(super) fn is_gathering(run: &Run, status: &BackupExecutionStatus) -> bool {
    run.policy.quiesce.is_some()
        && status
            .quiesce
            .as_ref()
            .is_none_or(|record| record.held_at.is_none())
}

/// Begins a round when everyone is ready, or when those who are will have to do.
///
/// `ready` are the members whose servers would take the backup.
pub(super) fn gather(run: &Run, work: &mut Work<'_>, ready: &[Attempt]) {
    let Some(policy) = &run.policy.quiesce else { return };
    if work
        .status
        .clusters
        .iter()
        .any(|entry| entry.held_until.is_some())
    {
        return;
    }
    let open = work
        .status
        .clusters
        .iter()
        .filter(|entry| !entry.phase.has_ended())
        .count();
    let began = work.status.started_at.as_ref().map_or(work.now, |at| at.0);
    let patience_over = began
        .checked_add(policy.timeout)
        .is_ok_and(|until| until <= work.now);
    let needed = super::outcome::needed(run, &work.status);
    let enough = ready.len() == open || (patience_over && ready.len() >= needed);
    if ready.is_empty() || !enough {
        for attempt in ready {
            work.say(attempt.index, &ClusterReason::WaitingForOthers);
        }
        work.wake_after(SignedDuration::from_secs(1));
        return;
    }
    let round = work.status.quiesce.as_ref().map_or(0, |record| record.round) + 1;
    let until = work.now.checked_add(policy.lease).unwrap_or(work.now);
    work.status.quiesce = Some(QuiesceRecord {
        round,
        started_at: Time(work.now),
        until: Time(until),
        held_at: None,
        consistent: None,
    });
    for attempt in ready {
        work.enter(attempt.index, ClusterPhase::Quiescing, &ClusterReason::Quiescing);
        if let Some(entry) = work.status.clusters.get_mut(attempt.index) {
            entry.held_until = Some(Time(until));
            entry.hold_broken = false;
            entry.store.clone_from(&attempt.store);
        }
    }
    work.wake_now();
}

/// Looks at who holds still: goes on when all do, gives the round up when one cannot, renews where it lasts.
pub(super) fn hold(run: &Run, work: &mut Work<'_>) {
    let Some(policy) = &run.policy.quiesce else { return };
    let Some(record) = work.status.quiesce.clone() else {
        return;
    };
    let quiescing: Vec<usize> = work.indices(|entry| entry.phase == ClusterPhase::Quiescing);
    if !quiescing.is_empty() {
        gather_holds(run, work, &record, &quiescing);
    } else {
        confirm(work);
    }
    renew(work, policy.lease);
}

fn gather_holds(run: &Run, work: &mut Work<'_>, record: &QuiesceRecord, quiescing: &[usize]) {
    let Some(policy) = &run.policy.quiesce else { return };
    let mut missing = Vec::new();
    let mut failed = None;
    for index in quiescing {
        let Some(entry) = work.status.clusters.get(*index) else {
            continue;
        };
        let state = work
            .seen
            .get(&entry.cluster)
            .and_then(|seen| seen.quiesce.as_ref());
        match state {
            Some(Ok(QuiesceState::Held { until, .. })) if *until > work.now => {}
            Some(Ok(QuiesceState::Failed { message })) => {
                let reason = ClusterReason::QuiesceFailed {
                    message: message.clone(),
                };
                failed.get_or_insert((*index, reason));
            }
            Some(Err(obstacle)) => {
                let reason = ClusterReason::QuiesceFailed {
                    message: obstacle.message.clone(),
                };
                missing.push((*index, reason));
            }
            _ => {
                let reason = ClusterReason::QuiesceFailed {
                    message: "not everything held still in time".to_owned(),
                };
                missing.push((*index, reason));
            }
        }
    }
    let timed_out = record
        .started_at
        .0
        .checked_add(policy.timeout)
        .is_ok_and(|until| until <= work.now)
        || record.until.0 <= work.now;
    let culprits = match (failed, timed_out) {
        (Some(failed), _) => vec![failed],
        (None, true) if !missing.is_empty() => missing,
        (None, _) if missing.is_empty() => {
            if let Some(record) = &mut work.status.quiesce {
                record.held_at = Some(Time(work.now));
            }
            for index in quiescing {
                member::submit(run, work, *index);
            }
            return;
        }
        _ => {
            work.wake_after(SignedDuration::from_millis(500));
            return;
        }
    };
    give_up(run, work, quiescing, culprits);
}

/// Lets everyone go. Those who could not hold still wait longer than those who could.
fn give_up(run: &Run, work: &mut Work<'_>, quiescing: &[usize], culprits: Vec<(usize, ClusterReason)>) {
    let Some(first) = culprits
        .first()
        .and_then(|(index, _)| work.status.clusters.get(*index))
        .map(|entry| entry.cluster.clone())
    else {
        return;
    };
    for index in quiescing {
        let own = culprits.iter().find(|(culprit, _)| culprit == index);
        let reason = own.map_or_else(
            || ClusterReason::QuiesceGivenUp {
                culprit: first.clone(),
            },
            |(_, reason)| reason.clone(),
        );
        release(run, work, *index);
        work.enter(*index, ClusterPhase::Waiting, &reason);
        if own.is_some() {
            work.back_off(run, *index);
        }
    }
    let rounds = work.status.quiesce.as_ref().map_or(0, |record| record.round);
    if rounds >= run.policy.limits.max_attempts {
        for index in quiescing {
            let last = work
                .status
                .clusters
                .get(*index)
                .map(|entry| entry.message.clone())
                .unwrap_or_default();
            let reason = ClusterReason::AttemptsExhausted {
                attempts: rounds,
                last,
            };
            work.enter(*index, ClusterPhase::Failed, &reason);
        }
    }
}

/// Notes how long members that are being backed up are known to hold still, and who does not any more: what is read
/// there from now on is not as the others are. The lease stays on record, so that it is released all the same.
fn confirm(work: &mut Work<'_>) {
    for index in work.indices(|entry| entry.held_until.is_some()) {
        let Some(entry) = work.status.clusters.get_mut(index) else {
            continue;
        };
        let state = work
            .seen
            .get(&entry.cluster)
            .and_then(|seen| seen.quiesce.as_ref());
        let lasts = entry.held_until.as_ref().is_some_and(|until| until.0 > work.now);
        match state {
            Some(Ok(QuiesceState::Held { until, .. })) if lasts => entry.held_until = Some(Time(*until)),
            Some(Ok(QuiesceState::Failed { .. })) => entry.hold_broken = true,
            _ => {}
        }
    }
}

/// Extends the lease on record once half of it is gone; the members hear of it in the next pass.
fn renew(work: &mut Work<'_>, lease: SignedDuration) {
    let needed = work.status.clusters.iter().any(|entry| {
        entry.held_until.as_ref().is_some_and(|until| until.0 > work.now)
            && (entry.phase == ClusterPhase::Quiescing || entry.phase.is_at_work())
    });
    let now = work.now;
    if let Some(record) = &mut work.status.quiesce
        && needed
        && record.until.0.duration_since(now) <= lease / 2
    {
        record.until = Time(now.checked_add(lease).unwrap_or(now));
    }
}

/// Whether a member that has been read completely was held still all the while; notes it.
pub(super) fn captured(entry: &mut ClusterExecution, at: Timestamp) {
    if let Some(until) = &entry.held_until {
        entry.in_cut = at <= until.0 && !entry.hold_broken;
    }
}

/// Lets a member go. It stays on record until that is confirmed, or its lease has ended by itself.
pub(super) fn release(run: &Run, work: &mut Work<'_>, index: usize) {
    let Some(entry) = work.status.clusters.get(index) else {
        return;
    };
    if let Some(request) = request(run, &work.status, entry) {
        let cluster = entry.cluster.clone();
        work.actions.push(Action::Release { cluster, request });
    }
}

/// Lets go of everyone who is not being held or read any more.
pub(super) fn release_idle(run: &Run, work: &mut Work<'_>) {
    let now = work.now;
    let idle = work.indices(|entry| {
        entry.held_until.is_some()
            && entry.phase != ClusterPhase::Quiescing
            && !matches!(
                entry.phase,
                ClusterPhase::Submitting | ClusterPhase::Queued | ClusterPhase::InProgress
            )
    });
    for index in idle {
        let ended = work
            .status
            .clusters
            .get(index)
            .and_then(|entry| entry.held_until.as_ref())
            .is_some_and(|until| until.0 <= now);
        let asked = work.status.clusters.get(index).is_some_and(|entry| {
            work.actions
                .iter()
                .any(|action| matches!(action, Action::Release { cluster, .. } if *cluster == entry.cluster))
        });
        if ended {
            if let Some(entry) = work.status.clusters.get_mut(index) {
                entry.held_until = None;
            }
        } else if !asked {
            release(run, work, index);
        }
        work.wake_after(SignedDuration::from_secs(1));
    }
}
