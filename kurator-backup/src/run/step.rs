use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::{names::ClusterName, reason::Reason};

use super::{
    Run, asks, member,
    outcome::conclude,
    quiesce,
    reason::ClusterReason,
    seen::{ActionResult, Seen},
};
use crate::{
    api::{BackupExecutionStatus, ClusterExecution, ClusterPhase},
    driver::{BackupName, BackupRequest, DeletionRequest, QuiesceRequest},
};

/// Something to do on a member, after the status was written. Doing it twice is doing it once.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Create a backup.
    Create {
        /// The member.
        cluster: ClusterName,
        /// The backup.
        request: Box<BackupRequest>,
    },
    /// Remind the server of a backup.
    Poke {
        /// The member.
        cluster: ClusterName,
        /// The backup.
        backup: BackupName,
        /// Which reminder it is.
        token: String,
    },
    /// Have the server delete a backup.
    Delete {
        /// The member.
        cluster: ClusterName,
        /// The request.
        request: DeletionRequest,
    },
    /// Let the member go on.
    Release {
        /// The member.
        cluster: ClusterName,
        /// The lease to end.
        request: QuiesceRequest,
    },
}

impl Action {
    /// The member.
    #[must_use]
    pub const fn cluster(&self) -> &ClusterName {
        match self {
            Self::Create { cluster, .. }
            | Self::Poke { cluster, .. }
            | Self::Delete { cluster, .. }
            | Self::Release { cluster, .. } => cluster,
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Create { cluster, request } => write!(f, "{cluster}: create backup {}", request.name),
            Self::Poke { cluster, backup, .. } => write!(f, "{cluster}: remind the server of {backup}"),
            Self::Delete { cluster, request } => write!(f, "{cluster}: delete backup {}", request.backup),
            Self::Release { cluster, .. } => write!(f, "{cluster}: let go"),
        }
    }
}

/// What follows from a pass: write the status, then do the actions, then come back.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The next status.
    pub status: BackupExecutionStatus,
    /// What to do once it is written.
    pub actions: Vec<Action>,
    /// When to come back; `None` when nothing is left to do.
    pub wake_at: Option<Timestamp>,
}

/// The status, actions and wake-up that a step is collecting.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) status: BackupExecutionStatus,
    pub(super) seen: &'a BTreeMap<ClusterName, Seen>,
    pub(super) now: Timestamp,
    pub(super) actions: Vec<Action>,
    wake: Option<Timestamp>,
}

impl Work<'_> {
    pub(super) fn indices(&self, which: impl Fn(&ClusterExecution) -> bool) -> Vec<usize> {
        let entries = self.status.clusters.iter().enumerate();
        entries
            .filter(|(_, entry)| which(entry))
            .map(|(index, _)| index)
            .collect()
    }

    /// Says why a member is where it is.
    pub(super) fn say(&mut self, index: usize, reason: &ClusterReason) {
        if let Some(entry) = self.status.clusters.get_mut(index) {
            reason.token().clone_into(&mut entry.reason);
            entry.message = crate::driver::cut(reason.to_string(), super::size::MAX_MESSAGE);
        }
    }

    /// Moves a member to a phase.
    pub(super) fn enter(&mut self, index: usize, phase: ClusterPhase, reason: &ClusterReason) {
        let now = self.now;
        if let Some(entry) = self.status.clusters.get_mut(index)
            && entry.phase != phase
        {
            entry.phase = phase;
            entry.changed_at = Some(Time(now));
            entry.retry_at = None;
        }
        self.say(index, reason);
    }

    /// Something is in the way: the next look is after a pause that grows.
    pub(super) fn back_off(&mut self, run: &Run, index: usize) {
        let now = self.now;
        let Some(entry) = self.status.clusters.get_mut(index) else {
            return;
        };
        entry.obstacles = entry.obstacles.saturating_add(1);
        let pause = run.policy.limits.backoff(entry.obstacles);
        let at = now.checked_add(pause).unwrap_or(now);
        entry.retry_at = Some(Time(at));
        self.wake_at(at);
    }

    pub(super) fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    pub(super) fn wake_after(&mut self, pause: SignedDuration) {
        self.wake_at(self.now.checked_add(pause).unwrap_or(self.now));
    }

    pub(super) fn wake_now(&mut self) {
        self.wake_at(self.now);
    }
}

/// What follows from what is on record and what was seen.
///
/// Pure: the same input gives the same bytes. `seen` answers the [`asks`](super::asks()) of the same status; an answer
/// that is missing changes nothing for its member.
///
/// # Guarantees
/// - At most one backup is asked for in each attempt: its name is in the returned status.
/// - For the consistency `Fleet`, no backup of the round is created before every member of it holds still.
/// - A member that may hold still is on record until it is released or its lease has ended.
/// - The status stays below [`MAX_STATUS_BYTES`](super::MAX_STATUS_BYTES).
#[must_use]
pub fn step(
    run: &Run,
    status: &BackupExecutionStatus,
    seen: &BTreeMap<ClusterName, Seen>,
    now: Timestamp,
) -> Step {
    let mut work = Work {
        status: status.clone(),
        seen,
        now,
        actions: Vec::new(),
        wake: None,
    };
    if !status.phase.has_ended() {
        pursue(run, &mut work);
    }
    quiesce::release_idle(run, &mut work);
    if !work.status.phase.has_ended() && work.status.clusters.iter().any(|entry| !entry.phase.has_ended()) {
        let began = work.status.started_at.as_ref().map_or(now, |at| at.0);
        work.wake_at(run.deadline(began));
    }
    let wake_at = work.wake.map(|at| at.max(now));
    Step {
        status: conclude(run, work.status, now),
        actions: work.actions,
        wake_at,
    }
}

fn pursue(run: &Run, work: &mut Work<'_>) {
    leave(run, work);
    if run.cancel {
        cancel(run, work);
        return;
    }
    quiesce::hold(run, work);
    for index in work.indices(|entry| entry.phase.is_at_work()) {
        member::look_after(run, work, index);
    }
    expire(run, work);
    let mut ready = Vec::new();
    for index in work.indices(|entry| entry.phase == ClusterPhase::Waiting) {
        ready.extend(member::look_before(run, work, index));
    }
    if quiesce::is_gathering(run, &work.status) {
        if work
            .indices(|entry| entry.phase == ClusterPhase::Quiescing)
            .is_empty()
        {
            quiesce::gather(run, work, &ready);
        }
        return;
    }
    let slots = asks::slots(run, &work.status);
    for attempt in ready.iter().take(slots) {
        member::submit(run, work, attempt.index);
    }
    if !work
        .indices(|entry| entry.phase == ClusterPhase::Waiting && entry.retry_at.is_none())
        .is_empty()
    {
        work.wake_after(SignedDuration::from_secs(1));
    }
}

/// Members that left the fleet are given up.
fn leave(run: &Run, work: &mut Work<'_>) {
    let gone =
        work.indices(|entry| !entry.phase.has_ended() && !run.members.contains_key(entry.cluster.as_str()));
    for index in gone {
        work.enter(index, ClusterPhase::Failed, &ClusterReason::LeftFleet);
    }
}

/// The run was told to stop: what has not begun is taken back, what has begun is left to its server.
fn cancel(run: &Run, work: &mut Work<'_>) {
    for index in work.indices(|entry| !entry.phase.has_ended()) {
        let Some(phase) = work.status.clusters.get(index).map(|entry| entry.phase) else {
            continue;
        };
        let at_work = matches!(phase, ClusterPhase::InProgress | ClusterPhase::Finalizing);
        if matches!(phase, ClusterPhase::Submitting | ClusterPhase::Queued) {
            member::take_back(run, work, index);
        }
        work.enter(
            index,
            ClusterPhase::Cancelled,
            &ClusterReason::Cancelled { at_work },
        );
    }
}

/// Members that are not done by the deadline are given up.
fn expire(run: &Run, work: &mut Work<'_>) {
    let began = work.status.started_at.as_ref().map_or(work.now, |at| at.0);
    let deadline = run.deadline(began);
    if work.now < deadline {
        return;
    }
    for index in work.indices(|entry| !entry.phase.has_ended()) {
        let Some(entry) = work.status.clusters.get(index) else {
            continue;
        };
        let last = match (entry.reason.as_str(), entry.message.as_str()) {
            ("", _) => String::new(),
            (reason, message) => format!("{reason}: {message}"),
        };
        if matches!(entry.phase, ClusterPhase::Submitting | ClusterPhase::Queued) {
            member::take_back(run, work, index);
        }
        let reason = ClusterReason::DeadlineExceeded { deadline, last };
        work.enter(index, ClusterPhase::Failed, &reason);
    }
}

/// The status after the actions of a step were tried: what was refused for good ends its attempt, and a member that
/// was released is on record no more.
///
/// Results in the order of the actions; what was not tried is left out with its action.
#[must_use]
pub fn absorb(
    run: &Run,
    status: &BackupExecutionStatus,
    results: &[(Action, ActionResult)],
    now: Timestamp,
) -> BackupExecutionStatus {
    let seen = BTreeMap::new();
    let mut work = Work {
        status: status.clone(),
        seen: &seen,
        now,
        actions: Vec::new(),
        wake: None,
    };
    for (action, result) in results {
        let found = work.indices(|entry| entry.cluster == *action.cluster());
        let Some(index) = found.first().copied() else {
            continue;
        };
        match (action, result) {
            (Action::Release { .. }, Ok(())) => {
                if let Some(entry) = work.status.clusters.get_mut(index) {
                    entry.held_until = None;
                }
            }
            (Action::Create { .. }, Err(obstacle)) => {
                let reason = ClusterReason::Obstacle {
                    token: obstacle.token,
                    message: obstacle.message.clone(),
                };
                // Out of reach, the backup may have been created all the same: the next look decides.
                if matches!(
                    obstacle.token,
                    "NameTaken" | "RequestRefused" | "Forbidden" | "BackupServerMissing"
                ) {
                    member::failed(run, &mut work, index, &reason);
                } else {
                    work.say(index, &reason);
                }
            }
            _ => {}
        }
    }
    conclude(run, work.status, now)
}
