use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::{
    names::ClusterName,
    reason::{Reason as _, with_causes},
};

use super::{
    pick::pick,
    policy::{Rules, Verification},
    reason::VerificationReason,
};
use crate::{
    api::{
        ClusterRestore, MemberVerification, RestoreExecutionSpec, RestorePhase, VerificationPhase,
        VerificationRun, VerificationStatus,
    },
    driver::{RestoreName, ScratchNamespace, ScratchRequest, ScratchView, Stage, cut},
    restore::RunView,
    run::{Obstacle, SeenMembers},
};

/// How soon scratch namespaces and servers at work are looked at again.
const POLL: SignedDuration = SignedDuration::from_secs(2);
/// How soon something that is in the way is looked at again.
const OBSTACLE: SignedDuration = SignedDuration::from_secs(10);
/// How long after its execution was stopped a restore may still reach a server: longer than any call takes.
const SETTLE: SignedDuration = SignedDuration::from_secs(60);
/// How many members are on record.
const MOST_RECORDS: usize = 150;
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 256;

/// The restore execution of a verification as it is on the hub.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SeenRestore {
    /// Whether it is of this schedule.
    pub ours: bool,
    /// Whether it is being deleted: nothing more is asked of any server for it.
    pub deleting: bool,
    /// Where it is.
    pub phase: RestorePhase,
    /// What became of every member.
    pub clusters: Vec<ClusterRestore>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// What its condition `Ready` says.
    pub message: String,
}

impl SeenRestore {
    /// A restore of this schedule in this phase.
    #[must_use]
    pub fn new(phase: RestorePhase) -> Self {
        Self {
            ours: true,
            deleting: false,
            phase,
            clusters: Vec::new(),
            started_at: None,
            completed_at: None,
            message: String::new(),
        }
    }
}

/// What was seen.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Seen {
    /// The runs of the schedule.
    pub runs: Vec<RunView>,
    /// The members of the fleet; `None` while nobody can say.
    pub members: Option<SeenMembers>,
    /// The restore of the current verification; `None` is certain.
    pub restore: Option<SeenRestore>,
    /// Scratch namespaces, by the member they are on.
    pub scratch: BTreeMap<ClusterName, Result<ScratchView, Obstacle>>,
    /// The stage of the restore on a server, by the member; `None` if it is certain that there is none.
    pub servers: BTreeMap<ClusterName, Result<Option<Stage>, Obstacle>>,
    /// Whether the schedule is being deleted.
    pub leaving: bool,
}

/// What to look at on one member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ask {
    /// The member.
    pub cluster: ClusterName,
    /// Its scratch namespaces.
    pub request: ScratchRequest,
    /// The restore on its server.
    pub restore: Option<RestoreName>,
}

/// Something to do after the status was written. Doing it twice is doing it once.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Make scratch namespaces on a member.
    MakeScratch {
        /// The member.
        cluster: ClusterName,
        /// The namespaces.
        request: ScratchRequest,
    },
    /// Remove scratch namespaces from a member.
    RemoveScratch {
        /// The member.
        cluster: ClusterName,
        /// The namespaces.
        request: ScratchRequest,
    },
    /// Create the restore execution, with a finalizer that keeps it until it is forgotten.
    Restore {
        /// Its name.
        name: String,
        /// What it does.
        spec: Box<RestoreExecutionSpec>,
    },
    /// Delete the restore execution; its finalizer stays.
    DeleteRestore {
        /// Its name.
        name: String,
    },
    /// Take the finalizer off the restore execution.
    ForgetRestore {
        /// Its name.
        name: String,
    },
}

/// What follows: write the status, then do the actions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The next status.
    pub status: VerificationStatus,
    /// What to do once it is written.
    pub actions: Vec<Action>,
    /// When to come back; `None` if only a change brings something to do.
    pub wake_at: Option<Timestamp>,
    /// What is now known of the backups; `None` if that is what was known before.
    pub reason: Option<VerificationReason>,
    /// Namespaces on members that stay there: members that left the fleet, and namespaces that somebody else took.
    pub left_behind: Vec<String>,
}

fn later(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

/// The members that have scratch namespaces.
fn targets(run: &VerificationRun) -> Vec<ClusterName> {
    run.onto
        .as_ref()
        .map_or_else(|| run.clusters.clone(), |onto| vec![onto.clone()])
}

/// What to look at in this pass.
#[must_use]
pub fn asks(
    verification: &Verification,
    status: &VerificationStatus,
    restore: Option<&SeenRestore>,
) -> Vec<Ask> {
    let Some(run) = &status.current else {
        return Vec::new();
    };
    let cleaning = match run.phase {
        VerificationPhase::Preparing => false,
        VerificationPhase::CleaningUp => true,
        VerificationPhase::Restoring | VerificationPhase::Kept => return Vec::new(),
    };
    let on_server = |cluster: &ClusterName| entry(restore, cluster)?.restore.clone();
    let ask = |cluster: ClusterName| Ask {
        request: verification.scratch(run),
        restore: on_server(&cluster).filter(|_| cleaning),
        cluster,
    };
    targets(run).into_iter().map(ask).collect()
}

fn entry<'a>(restore: Option<&'a SeenRestore>, target: &ClusterName) -> Option<&'a ClusterRestore> {
    let restore = restore.filter(|restore| restore.ours)?;
    restore.clusters.iter().find(|entry| entry.target == *target)
}

/// What follows for the verifications of a schedule. Pure; `seen` answers the [`asks`] of the same status.
///
/// # Guarantees
/// - Nothing is made on a member before it is on record, and nothing is restored before every scratch namespace was
///   seen to be ours and guarded.
/// - Scratch namespaces are removed only when no server restores into them, or can be about to.
/// - A verification is off the record only when none of its scratch namespaces is left, but for those it says were
///   left behind.
#[must_use]
pub fn step(verification: &Verification, status: &VerificationStatus, seen: &Seen, now: Timestamp) -> Step {
    let mut next = Step {
        status: status.clone(),
        actions: Vec::new(),
        wake_at: None,
        reason: None,
        left_behind: Vec::new(),
    };
    match next.status.current.take() {
        None => idle(verification, &mut next, seen, now),
        Some(run) => {
            let pass = Pass {
                verification,
                seen,
                now,
            };
            next.status.current = pass.advance(run, &mut next);
            if next.status.current.is_none() {
                // What is due since is looked at in the next pass.
                next.wake_at = Some(now);
            }
        }
    }
    next
}

fn idle(verification: &Verification, next: &mut Step, seen: &Seen, now: Timestamp) {
    next.status.next_at = None;
    if seen.leaving {
        return;
    }
    let rules = match &verification.rules {
        Ok(Some(rules)) => rules,
        Ok(None) => return,
        Err(error) => {
            next.reason = Some(VerificationReason::Invalid {
                token: error.token(),
                message: with_causes(error),
            });
            return;
        }
    };
    let from = match &next.status.counted_from {
        Some(from) if next.status.counted_by == rules.counted_by => from.0,
        _ => now,
    };
    next.status.counted_by.clone_from(&rules.counted_by);
    next.status.counted_from = Some(Time(from));
    let mut due = rules.next_after(from);
    if due.is_some_and(|at| at <= now) {
        let Some(members) = &seen.members else {
            next.wake_at = Some(later(now, OBSTACLE));
            return;
        };
        next.status.counted_from = Some(Time(now));
        due = rules.next_after(now);
        begin(verification, rules, next, seen, members, now);
    }
    next.status.next_at = due.map(Time);
    if next.status.current.is_none() {
        next.wake_at = due;
        if next.status.members.is_empty() && next.reason.is_none() {
            next.reason = Some(VerificationReason::NeverVerified { next: due });
        }
    }
}

fn begin(
    verification: &Verification,
    rules: &Rules,
    next: &mut Step,
    seen: &Seen,
    members: &SeenMembers,
    now: Timestamp,
) {
    if let Some(onto) = rules.onto.as_ref().filter(|onto| !members.contains_key(*onto)) {
        next.reason = Some(VerificationReason::Invalid {
            token: "UnknownCluster",
            message: format!("spec.verification.onto is {onto}, and no member of the fleet has this name"),
        });
        return;
    }
    let Some((execution, clusters)) = pick(rules, &next.status, &seen.runs, members) else {
        return;
    };
    // Names follow from the second, and so must the record of it.
    let started_at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let run = VerificationRun {
        execution: execution.name.clone(),
        point: Time(execution.started_at),
        started_at: Time(started_at),
        until: Time(later(started_at, rules.deadline)),
        phase: VerificationPhase::Preparing,
        clusters,
        onto: rules.onto.clone(),
        namespaces: rules.namespaces.clone(),
        restore: None,
        restore_seen: false,
        ended_at: None,
        message: "scratch namespaces are being made".to_owned(),
    };
    let request = verification.scratch(&run);
    next.actions = targets(&run)
        .into_iter()
        .map(|cluster| Action::MakeScratch {
            cluster,
            request: request.clone(),
        })
        .collect();
    next.wake_at = Some(later(now, POLL));
    next.status.current = Some(run);
}

/// One pass over the current verification.
struct Pass<'a> {
    verification: &'a Verification,
    seen: &'a Seen,
    now: Timestamp,
}

/// What one member came to.
struct Found {
    result: String,
    tried: bool,
    message: String,
}

impl Pass<'_> {
    fn advance(&self, run: VerificationRun, next: &mut Step) -> Option<VerificationRun> {
        let unwanted = self.seen.leaving || !self.verification.is_wanted();
        match run.phase {
            VerificationPhase::Preparing | VerificationPhase::Restoring if unwanted => {
                Some(self.give_up(run, "Cancelled", "the schedule does not want it any more", next))
            }
            VerificationPhase::Preparing => Some(self.prepare(run, next)),
            VerificationPhase::Restoring => Some(self.restore(run, next)),
            VerificationPhase::Kept => Some(self.keep(run, unwanted, next)),
            VerificationPhase::CleaningUp => self.clean_up(run, next),
        }
    }

    fn wait(&self, next: &mut Step, pause: SignedDuration) {
        let at = later(self.now, pause);
        next.wake_at = Some(next.wake_at.map_or(at, |wake| wake.min(at)));
    }

    fn prepare(&self, mut run: VerificationRun, next: &mut Step) -> VerificationRun {
        let request = self.verification.scratch(&run);
        let mut ready = true;
        for cluster in targets(&run) {
            let view = match self.seen.scratch.get(&cluster) {
                Some(Ok(view)) => view,
                Some(Err(obstacle)) => {
                    run.message = cut(format!("{cluster}: {}", obstacle.message), MAX_MESSAGE);
                    ready = false;
                    self.wait(next, OBSTACLE);
                    continue;
                }
                None => {
                    ready = false;
                    continue;
                }
            };
            let state = |name: &String| view.get(name).copied().unwrap_or(ScratchNamespace::Absent);
            let named = |wanted: ScratchNamespace| request.names.iter().find(|name| state(name) == wanted);
            if let Some(name) = named(ScratchNamespace::Foreign) {
                let what =
                    format!("{cluster} has a namespace {name} that is not of this schedule; delete it there");
                return self.give_up(run, "ScratchTaken", &what, next);
            }
            if let Some(name) = named(ScratchNamespace::Leaving) {
                let what = format!("somebody deletes namespace {name} on {cluster}");
                return self.give_up(run, "ScratchGone", &what, next);
            }
            let unmade = named(ScratchNamespace::Absent);
            if let Some(name) = unmade.or_else(|| named(ScratchNamespace::Unguarded)) {
                ready = false;
                if run.message.is_empty() || unmade.is_none() {
                    run.message = format!("{cluster}: namespace {name} waits for its quota to be in force");
                }
                next.actions.push(Action::MakeScratch {
                    cluster,
                    request: request.clone(),
                });
            }
        }
        if ready {
            let name = self.verification.restore_name(&run);
            run.phase = VerificationPhase::Restoring;
            run.restore = Some(name.clone());
            run.message.clear();
            next.actions = vec![Action::Restore {
                name,
                spec: Box::new(self.verification.restore(&run)),
            }];
        } else if self.now >= run.until.0 {
            next.actions.clear();
            let what = run.message.clone();
            return self.give_up(run, "ScratchNotReady", &what, next);
        }
        self.wait(next, POLL);
        run
    }

    fn restore(&self, mut run: VerificationRun, next: &mut Step) -> VerificationRun {
        let name = self.verification.restore_name(&run);
        let too_late = self.now >= later(run.until.0, SETTLE);
        match &self.seen.restore {
            None if run.restore_seen => {
                self.give_up(run, "RestoreGone", "its restore execution is gone", next)
            }
            None if too_late => self.give_up(run, "DeadlineExceeded", "its restore was never made", next),
            None => {
                // By a pass that died, nobody has made it.
                let spec = Box::new(self.verification.restore(&run));
                next.actions.push(Action::Restore { name, spec });
                self.wait(next, POLL);
                run
            }
            Some(restore) if !restore.ours => {
                let what = format!("restore execution {name} is not of this schedule; delete it");
                self.give_up(run, "NameTaken", &what, next)
            }
            Some(restore) if restore.phase.has_ended() => {
                let found = |cluster: &ClusterName| judge(restore, cluster);
                let found = run.clusters.iter().map(|it| (it.clone(), found(it))).collect();
                run.restore_seen = true;
                self.end(run, found, Some(restore), next)
            }
            Some(restore) if restore.deleting => {
                run.restore_seen = true;
                self.give_up(run, "RestoreGone", "its restore execution was deleted", next)
            }
            Some(_) if too_late => self.give_up(run, "DeadlineExceeded", "its restore does not end", next),
            Some(restore) => {
                run.restore_seen = true;
                run.message = cut(restore.message.clone(), MAX_MESSAGE);
                // A change of the restore comes first.
                self.wait(next, OBSTACLE);
                run
            }
        }
    }

    fn keep(&self, mut run: VerificationRun, unwanted: bool, next: &mut Step) -> VerificationRun {
        let due = match (&self.verification.rules, &next.status.counted_from) {
            (Ok(Some(rules)), Some(from)) => rules.next_after(from.0),
            _ => None,
        };
        if unwanted || due.is_some_and(|at| at <= self.now) {
            run.phase = VerificationPhase::CleaningUp;
            self.wait(next, SignedDuration::ZERO);
        } else {
            next.wake_at = due;
        }
        run
    }

    fn clean_up(&self, mut run: VerificationRun, next: &mut Step) -> Option<VerificationRun> {
        let name = self.verification.restore_name(&run);
        let ours = self.seen.restore.as_ref().filter(|restore| restore.ours);
        if ours.is_some_and(|restore| !restore.deleting) {
            // From then on nothing is asked of a server for it.
            next.actions.push(Action::DeleteRestore { name });
            self.wait(next, POLL);
            return Some(run);
        }
        let request = self.verification.scratch(&run);
        let mut clean = true;
        for cluster in targets(&run) {
            let members = self.seen.members.as_ref();
            if members.is_some_and(|members| !members.contains_key(&cluster)) {
                next.left_behind.push(format!("{cluster}: no member any more"));
                continue;
            }
            if let Some(waits_for) = self.busy(&run, &cluster) {
                clean = false;
                run.message = cut(format!("{cluster}: {waits_for}"), MAX_MESSAGE);
                self.wait(next, OBSTACLE);
                continue;
            }
            let view = match self.seen.scratch.get(&cluster) {
                Some(Ok(view)) => view,
                Some(Err(obstacle)) => {
                    clean = false;
                    run.message = cut(format!("{cluster}: {}", obstacle.message), MAX_MESSAGE);
                    self.wait(next, OBSTACLE);
                    continue;
                }
                None => {
                    clean = false;
                    self.wait(next, POLL);
                    continue;
                }
            };
            let any = |states: &[ScratchNamespace]| view.values().any(|state| states.contains(state));
            if any(&[ScratchNamespace::Ready, ScratchNamespace::Unguarded]) {
                clean = false;
                next.actions.push(Action::RemoveScratch {
                    cluster: cluster.clone(),
                    request: request.clone(),
                });
            }
            if any(&[ScratchNamespace::Leaving]) {
                clean = false;
                run.message = format!("{cluster}: its scratch namespaces are on their way out");
            }
            self.wait(next, POLL);
            if run.restore.is_some() {
                let foreign = view
                    .iter()
                    .filter(|(_, state)| **state == ScratchNamespace::Foreign);
                let left =
                    foreign.map(|(name, _)| format!("{cluster}: namespace {name} is somebody else's now"));
                next.left_behind.extend(left);
            }
        }
        if !clean {
            next.left_behind.clear();
            return Some(run);
        }
        if ours.is_some() {
            next.left_behind.clear();
            next.actions.push(Action::ForgetRestore { name });
            self.wait(next, POLL);
            return Some(run);
        }
        None
    }

    /// What a server may still restore into scratch namespaces of this member; `None` if nothing.
    fn busy(&self, run: &VerificationRun, target: &ClusterName) -> Option<String> {
        run.restore.as_ref()?;
        let settled = run
            .ended_at
            .as_ref()
            .is_some_and(|at| self.now >= later(at.0, SETTLE));
        let unsettled = || (!settled).then(|| "a restore may still reach its server".to_owned());
        let Some(entry) = entry(self.seen.restore.as_ref(), target) else {
            // Forgotten by us once nothing was at work, or never made, or taken away by force.
            return unsettled();
        };
        if entry.restore.is_none() {
            return if entry.phase.has_ended() && entry.attempt == 0 {
                None
            } else {
                unsettled()
            };
        }
        match self.seen.servers.get(target) {
            Some(Ok(Some(Stage::Ended | Stage::Leaving))) => None,
            Some(Ok(Some(_))) => Some("its server is at work on the restore".to_owned()),
            Some(Ok(None)) => unsettled(),
            Some(Err(obstacle)) => Some(obstacle.message.clone()),
            None => Some("its server was not asked yet".to_owned()),
        }
    }

    /// It could not be tried, or not to its end.
    fn give_up(&self, run: VerificationRun, result: &str, what: &str, next: &mut Step) -> VerificationRun {
        let found = |cluster: &ClusterName| {
            let found = Found {
                result: result.to_owned(),
                tried: false,
                message: what.to_owned(),
            };
            (cluster.clone(), found)
        };
        let found = run.clusters.iter().map(found).collect();
        self.end(run, found, None, next)
    }

    /// Puts on record what was found, and lets the cleaning begin.
    fn end(
        &self,
        mut run: VerificationRun,
        found: Vec<(ClusterName, Found)>,
        restore: Option<&SeenRestore>,
        next: &mut Step,
    ) -> VerificationRun {
        let seconds = restore.and_then(|restore| {
            let ended = restore.completed_at.unwrap_or(self.now);
            u64::try_from(ended.duration_since(restore.started_at?).as_secs()).ok()
        });
        let mut objects = 0;
        let mut failed: Option<(bool, String)> = None;
        let members = found.len();
        let records = &mut next.status.members;
        for record in records.iter_mut() {
            record.message.clear();
            record.differences.clear();
        }
        for (cluster, found) in found {
            let of_member = restore.and_then(|it| it.clusters.iter().find(|entry| entry.cluster == cluster));
            let planned = of_member.and_then(|entry| entry.planned).unwrap_or_default();
            let record = MemberVerification {
                execution: run.execution.clone(),
                point: run.point.clone(),
                verified_at: Time(self.now),
                tried: found.tried,
                seconds: seconds.unwrap_or_default(),
                objects: planned.create + planned.skip + planned.patch,
                missing: of_member.and_then(|entry| entry.missing).unwrap_or_default(),
                differences: of_member
                    .map(|entry| entry.missing_objects.clone())
                    .unwrap_or_default(),
                message: cut(found.message, MAX_MESSAGE),
                result: found.result,
                cluster,
            };
            objects += record.objects;
            if !record.is_good() && failed.as_ref().is_none_or(|(tried, _)| !tried) {
                let what = format!("{}: {}: {}", record.cluster, record.result, record.message);
                failed = Some((record.tried, what));
            }
            records.retain(|it| it.cluster != record.cluster);
            records.push(record);
        }
        records.sort_by(|a, b| (b.verified_at.0, &a.cluster).cmp(&(a.verified_at.0, &b.cluster)));
        records.truncate(MOST_RECORDS);
        records.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        let execution = run.execution.clone();
        let tried = matches!(failed, Some((true, _)));
        next.reason = Some(match failed {
            None => {
                next.status.verified_at = Some(Time(self.now));
                VerificationReason::Verified {
                    execution,
                    members,
                    objects,
                    seconds: seconds.unwrap_or_default(),
                }
            }
            Some((true, what)) => VerificationReason::NotRestorable { execution, what },
            Some((false, what)) => VerificationReason::NotVerified { execution, what },
        });
        let keep = matches!(&self.verification.rules, Ok(Some(rules)) if rules.keep_failed);
        run.phase = if keep && tried && !self.seen.leaving {
            VerificationPhase::Kept
        } else {
            VerificationPhase::CleaningUp
        };
        run.ended_at = Some(Time(self.now));
        run.message.clear();
        next.actions.clear();
        next.wake_at = Some(self.now);
        run
    }
}

/// What an ended restore says of the backup of a member.
fn judge(restore: &SeenRestore, cluster: &ClusterName) -> Found {
    let Some(entry) = restore.clusters.iter().find(|entry| entry.cluster == *cluster) else {
        return Found {
            result: "NotRestored".to_owned(),
            tried: false,
            message: restore.message.clone(),
        };
    };
    let (result, tried) = match (entry.phase, entry.missing) {
        (RestorePhase::Completed, Some(0)) => ("Verified", true),
        // Nobody could compare: the backup is gone meanwhile.
        (RestorePhase::Completed, _) => ("NotCompared", false),
        (RestorePhase::PartiallyFailed, _) => (entry.reason.as_str(), true),
        (_, _) if entry.reason == "AttemptsExhausted" => ("RestoreFailed", true),
        (_, _) => {
            let tried = matches!(entry.reason.as_str(), "KindsNotServed" | "BackupUnusable");
            (entry.reason.as_str(), tried)
        }
    };
    Found {
        result: result.to_owned(),
        tried,
        message: entry.message.clone(),
    }
}

/// The status after the actions of a step were tried: what was in the way is said.
#[must_use]
pub fn absorb(status: &VerificationStatus, results: &[(Action, Result<(), Obstacle>)]) -> VerificationStatus {
    let mut status = status.clone();
    let failed = results
        .iter()
        .find_map(|(action, result)| match (action, result) {
            (Action::MakeScratch { cluster, .. } | Action::RemoveScratch { cluster, .. }, Err(obstacle)) => {
                Some(format!("{cluster}: {}", obstacle.message))
            }
            _ => None,
        });
    if let (Some(run), Some(message)) = (&mut status.current, failed) {
        run.message = cut(message, MAX_MESSAGE);
    }
    status
}
