//! What becomes of one member in a step.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::{names::bounded_name, reason::Reason as _};

use super::{
    Run, asks,
    preflight::{self, Refusal},
    quiesce,
    reason::ClusterReason,
    request::backup_request,
    step::{Action, Work},
};
use crate::{
    api::{ClusterExecution, ClusterPhase},
    driver::{BackupObservation, DeletionRequest, Phase, Stage},
};

/// How soon a server at work is looked at again.
const POLL: SignedDuration = SignedDuration::from_secs(1);

/// A member whose server would take the backup.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) index: usize,
    pub(super) store: String,
}

/// A member that waits: is its server ready for the next attempt?
pub(super) fn look_before(run: &Run, work: &mut Work<'_>, index: usize) -> Option<Attempt> {
    let entry = work.status.clusters.get(index)?.clone();
    if let Some(at) = entry.retry_at.as_ref().filter(|at| at.0 > work.now) {
        work.wake_at(at.0);
        return None;
    }
    let turn = asks::turn(run, &work.status, &entry);
    if turn > work.now {
        work.say(index, &ClusterReason::WaitingForTurn);
        work.wake_at(turn);
        return None;
    }
    let facts = match work.seen.get(&entry.cluster).and_then(|seen| seen.facts.as_ref()) {
        None => {
            if entry.reason.is_empty() {
                work.say(index, &ClusterReason::WaitingForTurn);
            }
            return None;
        }
        Some(Err(obstacle)) => {
            let reason = ClusterReason::Obstacle {
                token: obstacle.token,
                message: obstacle.message.clone(),
            };
            work.say(index, &reason);
            work.back_off(run, index);
            return None;
        }
        Some(Ok(facts)) => facts,
    };
    let request = backup_request(run, &entry.cluster, entry.attempt + 1);
    let mut refusals = run.preflight.backup(&request, facts);
    let store = facts
        .location(request.location.as_ref())
        .map(|(_, location)| location.store.to_string())
        .unwrap_or_default();
    let store = bounded_name([store.as_str()]);
    let store = store
        .get(store.len().saturating_sub(10)..)
        .unwrap_or(&store)
        .to_owned();
    if !run.policy.source.allow_shared_store {
        let other = work
            .status
            .clusters
            .iter()
            .find(|other| other.store == store && other.cluster != entry.cluster);
        refusals.extend(other.map(|other| Refusal::shared_store(&other.cluster)));
        let fleet = run.policy.source.fleet.as_str();
        let other = preflight::other_writer(&request, facts, fleet, &entry.cluster);
        refusals.extend(other.map(Refusal::two_writers));
    }
    if let Some(refusal) = refusals.into_iter().next() {
        work.say(index, &ClusterReason::Refused(refusal));
        work.back_off(run, index);
        return None;
    }
    if let Some(entry) = work.status.clusters.get_mut(index) {
        entry.obstacles = 0;
        entry.store.clone_from(&store);
    }
    Some(Attempt { index, store })
}

/// Decides the next attempt. From here on the backup may exist.
pub(super) fn submit(run: &Run, work: &mut Work<'_>, index: usize) {
    let now = work.now;
    let Some(entry) = work.status.clusters.get_mut(index) else {
        return;
    };
    let attempt = entry.attempt + 1;
    let request = backup_request(run, &entry.cluster, attempt);
    entry.attempt = attempt;
    entry.backup = Some(request.name.clone());
    entry.pokes = 0;
    entry.obstacles = 0;
    entry.progress = None;
    entry.started_at = None;
    entry.completed_at = None;
    entry.retry_at = None;
    entry.changed_at = Some(Time(now));
    let cluster = entry.cluster.clone();
    work.enter(index, ClusterPhase::Submitting, &ClusterReason::Submitted);
    let request = Box::new(request);
    work.actions.push(Action::Create { cluster, request });
    work.wake_after(POLL);
}

/// A member whose server has, or may have, a backup of ours.
pub(super) fn look_after(run: &Run, work: &mut Work<'_>, index: usize) {
    let Some(entry) = work.status.clusters.get(index).cloned() else {
        return;
    };
    work.wake_after(POLL);
    let seen = work
        .seen
        .get(&entry.cluster)
        .and_then(|seen| seen.backup.as_ref());
    let observation = match seen {
        None => {
            if let Some(at) = &entry.retry_at {
                work.wake_at(at.0);
            }
            return;
        }
        Some(Err(obstacle)) => {
            let reason = ClusterReason::Obstacle {
                token: obstacle.token,
                message: obstacle.message.clone(),
            };
            work.say(index, &reason);
            work.back_off(run, index);
            return;
        }
        Some(Ok(observation)) => observation,
    };
    if let Some(entry) = work.status.clusters.get_mut(index) {
        entry.obstacles = 0;
        entry.retry_at = None;
    }
    match observation {
        None if entry.phase == ClusterPhase::Submitting => {
            let request = backup_request(run, &entry.cluster, entry.attempt);
            work.actions.push(Action::Create {
                cluster: entry.cluster,
                request: Box::new(request),
            });
        }
        None => failed(run, work, index, &ClusterReason::BackupVanished),
        Some(observation) => follow(run, work, index, &entry, observation),
    }
}

fn follow(run: &Run, work: &mut Work<'_>, index: usize, entry: &ClusterExecution, seen: &BackupObservation) {
    if seen.owner.as_ref() != Some(&run.id.owner(&entry.cluster, entry.attempt)) {
        let reason = ClusterReason::Obstacle {
            token: "NameTaken",
            message: format!("{} belongs to somebody else; another name is taken", seen.name),
        };
        failed(run, work, index, &reason);
        return;
    }
    let message = seen.messages.join("; ");
    note_progress(work, index, seen);
    match seen.phase.stage() {
        Stage::Waiting => waiting(run, work, index, entry, seen),
        Stage::Running => {
            work.enter(index, ClusterPhase::InProgress, &ClusterReason::InProgress);
            let changed = work
                .status
                .clusters
                .get(index)
                .and_then(|entry| entry.changed_at.as_ref())
                .map_or(work.now, |at| at.0);
            if work.now.duration_since(changed) >= run.policy.limits.hang_after {
                work.enter(index, ClusterPhase::Failed, &ClusterReason::BackupHangs);
            }
        }
        Stage::Finalizing => {
            read_completely(work, index, seen);
            work.enter(index, ClusterPhase::Finalizing, &ClusterReason::Finalizing);
        }
        Stage::Ended => match &seen.phase {
            Phase::Completed => ended(
                work,
                index,
                seen,
                ClusterPhase::Completed,
                &ClusterReason::Completed,
            ),
            Phase::PartiallyFailed => {
                let errors = seen.errors;
                let reason = ClusterReason::PartiallyFailed { errors, message };
                ended(work, index, seen, ClusterPhase::PartiallyFailed, &reason);
            }
            Phase::FailedValidation => failed(run, work, index, &ClusterReason::BackupRefused { message }),
            _ => failed(run, work, index, &ClusterReason::BackupFailed { message }),
        },
        Stage::Leaving => failed(run, work, index, &ClusterReason::BackupVanished),
        Stage::Unknown => {
            let phase = seen.phase.to_string();
            work.say(index, &ClusterReason::UnknownPhase { phase });
        }
    }
}

/// The server has not begun: remind it, and in the end make another backup.
fn waiting(run: &Run, work: &mut Work<'_>, index: usize, entry: &ClusterExecution, seen: &BackupObservation) {
    let phase = seen.phase.clone();
    work.enter(index, ClusterPhase::Queued, &ClusterReason::Queued { phase });
    let token = |pokes: u32| format!("{}-{pokes}", entry.attempt);
    let stalled_for = entry
        .changed_at
        .as_ref()
        .filter(|_| entry.phase == ClusterPhase::Queued)
        .map_or(SignedDuration::ZERO, |at| work.now.duration_since(at.0));
    let patience = run.policy.limits.stall_after;
    let due = stalled_for >= patience.saturating_mul(i32::try_from(entry.pokes + 1).unwrap_or(i32::MAX));
    // Behind others in the queue is no stall: only a backup that the server should have begun is made anew.
    let forgotten = matches!(seen.phase, Phase::New | Phase::ReadyToStart);
    let poked = seen.poked.as_deref() == Some(&token(entry.pokes));
    if due && entry.pokes >= 1 && poked && forgotten {
        take_back(run, work, index);
        let phase = seen.phase.clone();
        failed(run, work, index, &ClusterReason::BackupStalled { phase });
        if let Some(entry) = work.status.clusters.get_mut(index) {
            entry.retry_at = None;
        }
        work.wake_now();
    } else if due || (entry.pokes > 0 && !poked) {
        let pokes = if due && (entry.pokes == 0 || poked) {
            entry.pokes + 1
        } else {
            entry.pokes
        };
        if let Some(entry) = work.status.clusters.get_mut(index) {
            entry.pokes = pokes;
        }
        work.say(index, &ClusterReason::Reminded { times: pokes });
        work.actions.push(Action::Poke {
            cluster: entry.cluster.clone(),
            backup: seen.name.clone(),
            token: token(pokes),
        });
    } else if entry.pokes > 0 {
        work.say(index, &ClusterReason::Reminded { times: entry.pokes });
    }
}

fn note_progress(work: &mut Work<'_>, index: usize, seen: &BackupObservation) {
    let now = work.now;
    if let Some(entry) = work.status.clusters.get_mut(index) {
        if seen.progress.is_some() && entry.progress != seen.progress {
            entry.progress = seen.progress;
            entry.changed_at = Some(Time(now));
        }
        if seen.started_at.is_some() {
            entry.started_at = seen.started_at.map(Time);
        }
    }
}

fn read_completely(work: &mut Work<'_>, index: usize, seen: &BackupObservation) {
    let at: Timestamp = seen.completed_at.unwrap_or(work.now).min(work.now);
    if let Some(entry) = work.status.clusters.get_mut(index)
        && entry.phase != ClusterPhase::Finalizing
    {
        quiesce::captured(entry, at);
    }
}

fn ended(
    work: &mut Work<'_>,
    index: usize,
    seen: &BackupObservation,
    phase: ClusterPhase,
    reason: &ClusterReason,
) {
    read_completely(work, index, seen);
    let now = work.now;
    if let Some(entry) = work.status.clusters.get_mut(index) {
        entry.completed_at = Some(Time(seen.completed_at.unwrap_or(now)));
    }
    work.enter(index, phase, reason);
}

/// The attempt failed: another one after a pause, if one is left.
pub(super) fn failed(run: &Run, work: &mut Work<'_>, index: usize, reason: &ClusterReason) {
    let Some(attempt) = work.status.clusters.get(index).map(|entry| entry.attempt) else {
        return;
    };
    if attempt >= run.policy.limits.max_attempts {
        let last = if attempt == 1 {
            reason.clone()
        } else {
            ClusterReason::AttemptsExhausted {
                attempts: attempt,
                last: format!("{}: {reason}", reason.token()),
            }
        };
        work.enter(index, ClusterPhase::Failed, &last);
        return;
    }
    work.enter(index, ClusterPhase::Waiting, reason);
    let pause = run.policy.limits.backoff(attempt);
    let at = work.now.checked_add(pause).unwrap_or(work.now);
    if let Some(entry) = work.status.clusters.get_mut(index) {
        entry.retry_at = Some(Time(at));
        entry.obstacles = 0;
    }
    work.wake_at(at);
}

/// Has the server delete a backup that it has not begun, so that it never does.
pub(super) fn take_back(run: &Run, work: &mut Work<'_>, index: usize) {
    let Some(entry) = work.status.clusters.get(index) else {
        return;
    };
    let Some(backup) = entry.backup.clone() else {
        return;
    };
    let request = DeletionRequest::new(
        run.id.deletion_name(&backup, 0),
        run.id.owner(&entry.cluster, entry.attempt),
        backup,
    );
    let cluster = entry.cluster.clone();
    work.actions.push(Action::Delete { cluster, request });
}
