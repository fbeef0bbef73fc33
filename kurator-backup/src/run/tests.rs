use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::{
    api::{
        BackupExecutionStatus, BackupPolicy, ClusterPhase, Consistency, ExecutionPhase, QuiescePolicy,
        SuccessMode, SuccessRule,
    },
    driver::{
        BackupHook, ExecHook, LocationName, LocationState, Phase, StoreAddress,
        memory::{Fault, InMemoryBackups},
    },
};

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn policy() -> BackupPolicy {
    BackupPolicy::new("fleet".parse().unwrap())
}

fn consistent() -> BackupPolicy {
    let mut policy = policy();
    let hook = BackupHook {
        name: "freeze".to_owned(),
        pre: vec![ExecHook::new(["freeze"])],
        post: vec![ExecHook::new(["thaw"])],
        ..BackupHook::default()
    };
    policy.consistency = Consistency::Fleet;
    policy.quiesce = Some(QuiescePolicy {
        hooks: vec![hook],
        ..QuiescePolicy::default()
    });
    policy
}

/// What a host does, with a process that can die after any write.
struct Sim {
    fleet: InMemoryBackups,
    run: Run,
    status: Option<BackupExecutionStatus>,
    writes: usize,
    dies_after: Option<usize>,
}

#[derive(Debug, PartialEq)]
enum Passed {
    Alive(Option<Timestamp>),
    Died,
}

impl Sim {
    fn new(names: &[&str], policy: &BackupPolicy) -> Self {
        let now = "2026-11-23T03:00:00Z".parse().unwrap();
        let fleet = InMemoryBackups::new(now);
        let mut members = SeenMembers::new();
        for name in names {
            fleet.add_member(&cluster(name));
            members.insert(cluster(name), BTreeMap::new());
        }
        let id = RunId::new("default", "run", "uid", now);
        let run = Run::new(id, Prepared::new(policy).unwrap()).with_members(members);
        Self {
            fleet,
            run,
            status: None,
            writes: 0,
            dies_after: None,
        }
    }

    /// One member of a fleet, on that store.
    fn with_store(name: &str, fleet: &str, store: StoreAddress) -> Self {
        let mut policy = BackupPolicy::new(fleet.parse().unwrap());
        policy.limits.deadline = Some(std::time::Duration::from_secs(60).into());
        let mut sim = Self::new(&[], &policy);
        sim.fleet.add_member_on(&cluster(name), store);
        sim.run.members.insert(cluster(name), BTreeMap::new());
        sim
    }

    /// Another run of the same policy, asked for now.
    fn again(&mut self, uid: &str) {
        self.fleet.advance(SignedDuration::from_secs(10));
        self.run.id = RunId::new("default", uid, uid, self.fleet.now());
        self.status = None;
    }

    fn allow_shared_store(&mut self) {
        let mut policy = self.run.policy.source.clone();
        policy.allow_shared_store = true;
        self.run.policy = Prepared::new(&policy).unwrap();
    }

    /// Counts a write; whether the process dies right after it.
    fn wrote(&mut self) -> bool {
        self.writes += 1;
        self.dies_after == Some(self.writes)
    }

    fn pass(&mut self) -> Passed {
        let now = self.fleet.now();
        let Some(status) = self.status.clone() else {
            self.status = Some(begin(&self.run, now));
            return if self.wrote() {
                Passed::Died
            } else {
                Passed::Alive(Some(now))
            };
        };
        let mut seen: BTreeMap<ClusterName, Seen> = BTreeMap::new();
        for ask in asks(&self.run, &status, now) {
            let entry = seen.entry(ask.cluster.clone()).or_default();
            let was = std::mem::take(entry);
            *entry = match &ask.question {
                Question::Facts => was.with_facts(self.fleet.facts(&ask.cluster)),
                Question::Backup(name) => was.with_backup(self.fleet.backup(&ask.cluster, name)),
                Question::Quiesce(request) => {
                    let state = self.fleet.quiesce(&ask.cluster, request);
                    if self.wrote() {
                        return Passed::Died;
                    }
                    was.with_quiesce(state)
                }
                Question::Deletion(_) => was,
            };
        }
        let next = step(&self.run, &status, &seen, now);
        let notes = check(&self.run, &status, &next, now);
        assert!(notes.permits(), "{notes}");
        assert!(serde_json::to_vec(&next.status).unwrap().len() < MAX_STATUS_BYTES);
        if next.status != status {
            self.status = Some(next.status.clone());
            if self.wrote() {
                return Passed::Died;
            }
        }
        let mut results = Vec::new();
        for action in next.actions {
            let result = match &action {
                Action::Create { cluster, request } => self.fleet.create_backup(cluster, request).map(drop),
                Action::Poke {
                    cluster,
                    backup,
                    token,
                } => self.fleet.poke(cluster, backup, token),
                Action::Delete { cluster, request } => {
                    self.fleet.request_deletion(cluster, request).map(drop)
                }
                Action::Release { cluster, request } => self.fleet.release(cluster, request),
            };
            if self.wrote() {
                return Passed::Died;
            }
            results.push((action, result.map_err(Obstacle::from)));
        }
        let after = absorb(&self.run, &next.status, &results, now);
        if after != next.status {
            self.status = Some(after);
            if self.wrote() {
                return Passed::Died;
            }
        }
        Passed::Alive(next.wake_at)
    }

    /// Passes and seconds until nothing is left to do; gives the final phase.
    fn finish(&mut self) -> ExecutionPhase {
        for _ in 0..20_000 {
            match self.pass() {
                Passed::Alive(None) => return self.status.as_ref().unwrap().phase,
                Passed::Alive(Some(_)) | Passed::Died => self.fleet.advance(SignedDuration::from_secs(1)),
            }
        }
        panic!("it never ends: {:#?}", self.status);
    }

    fn phase_of(&self, name: &str) -> ClusterPhase {
        self.entry(name).phase
    }

    fn entry(&self, name: &str) -> crate::api::ClusterExecution {
        let status = self.status.as_ref().unwrap();
        status
            .clusters
            .iter()
            .find(|entry| entry.cluster == name)
            .unwrap()
            .clone()
    }

    /// How often each backup was created, over all members.
    fn creations(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.fleet.journal() {
            if let Some(name) = entry.what.strip_prefix("create backup ") {
                *counts.entry(format!("{} {name}", entry.cluster)).or_default() += 1;
            }
        }
        counts
    }

    fn assert_nobody_is_held(&self) {
        for name in self.run.members.keys() {
            assert_eq!(self.fleet.held_by(name), BTreeSet::new(), "{name}");
        }
    }
}

#[test]
fn every_member_completes_and_the_run_with_them() {
    let mut sim = Sim::new(&["a", "b", "c"], &policy());
    assert_eq!(sim.finish(), ExecutionPhase::Completed);
    assert_eq!(sim.creations().len(), 3);
    let totals = sim.status.unwrap().totals;
    assert_eq!((totals.clusters, totals.completed), (3, 3));
}

#[test]
fn members_that_are_down_are_retried_and_complete_when_they_return() {
    let names: Vec<String> = (0..10).map(|index| format!("c{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut sim = Sim::new(&names, &policy());
    for name in ["c1", "c5", "c9"] {
        sim.fleet.set_reachable(&cluster(name), false);
    }
    for _ in 0..60 {
        assert!(matches!(sim.pass(), Passed::Alive(Some(_))));
        sim.fleet.advance(SignedDuration::from_secs(1));
    }
    assert_eq!(sim.status.as_ref().unwrap().totals.completed, 7);
    assert_eq!(sim.entry("c5").reason, "MemberUnreachable");
    for name in ["c1", "c5", "c9"] {
        sim.fleet.set_reachable(&cluster(name), true);
    }
    assert_eq!(sim.finish(), ExecutionPhase::Completed);
    assert!(sim.creations().values().all(|count| *count == 1));
}

#[test]
fn the_success_rule_judges_members_that_never_return() {
    for (rule, expected) in [
        (SuccessMode::All, ExecutionPhase::PartiallyFailed),
        (SuccessMode::Quorum, ExecutionPhase::Completed),
        (SuccessMode::BestEffort, ExecutionPhase::Completed),
    ] {
        let mut policy = policy();
        policy.success = SuccessRule {
            mode: rule,
            quorum: (rule == SuccessMode::Quorum).then_some(2),
        };
        let mut sim = Sim::new(&["a", "b", "c"], &policy);
        sim.fleet.set_reachable(&cluster("b"), false);
        assert_eq!(sim.finish(), expected, "{rule:?}");
        assert_eq!(sim.entry("b").reason, "DeadlineExceeded");
        assert!(
            sim.entry("b").message.contains("MemberUnreachable"),
            "{}",
            sim.entry("b").message
        );
    }
}

#[test]
fn a_member_without_a_server_an_unknown_one_and_a_missing_location_are_named() {
    let mut policy = policy();
    policy.clusters.names = ["a", "b", "c", "typo"].map(cluster).to_vec();
    policy.limits.deadline = Some(std::time::Duration::from_secs(60).into());
    let mut sim = Sim::new(&["a", "b", "c"], &policy);
    sim.fleet.set_installed(&cluster("a"), false);
    sim.fleet
        .change_facts(&cluster("b"), |facts| facts.locations.clear());
    assert_eq!(sim.finish(), ExecutionPhase::PartiallyFailed);
    assert_eq!(sim.entry("typo").reason, "UnknownCluster");
    assert!(sim.entry("a").message.contains("BackupServerMissing"));
    assert!(sim.entry("b").message.contains("StorageLocationMissing"));
    assert_eq!(sim.phase_of("c"), ClusterPhase::Completed);
}

#[test]
fn two_members_on_one_prefix_are_not_both_backed_up_unless_it_is_allowed() {
    for allowed in [false, true] {
        let mut policy = policy();
        policy.allow_shared_store = allowed;
        policy.limits.deadline = Some(std::time::Duration::from_secs(60).into());
        let mut sim = Sim::new(&["a"], &policy);
        sim.fleet
            .add_member_on(&cluster("b"), StoreAddress::new("memory", "fleet", "a"));
        sim.run.members.insert(cluster("b"), BTreeMap::new());
        let end = sim.finish();
        if allowed {
            assert_eq!(end, ExecutionPhase::Completed);
        } else {
            assert_eq!(end, ExecutionPhase::PartiallyFailed);
            assert!(sim.entry("b").message.contains("SharedStore"));
        }
    }
}

#[test]
fn a_store_that_another_fleet_began_to_write_to_is_refused_with_its_name_and_one_that_was_handed_on_is_not() {
    // Two hubs whose fleets have a member each on the same bucket and prefix.
    let store = || StoreAddress::new("memory", "fleet", "shared");
    let mut ours = Sim::with_store("a", "ours", store());
    let theirs = |fleet: &InMemoryBackups, uid: &str| {
        let mut theirs = Sim::with_store("b", "theirs", store());
        fleet.add_member_on(&cluster("b"), store());
        theirs.fleet = fleet.clone();
        theirs.again(uid);
        theirs
    };
    // Theirs wrote first: the store was handed on, as far as anybody can tell.
    assert_eq!(theirs(&ours.fleet, "their-1").finish(), ExecutionPhase::Completed);
    ours.again("our-1");
    assert_eq!(ours.finish(), ExecutionPhase::Completed);
    ours.again("our-2");
    assert_eq!(ours.finish(), ExecutionPhase::Completed, "they have stopped");
    // They have not: ours has written since, and they are told at once.
    let mut refused = theirs(&ours.fleet, "their-2");
    assert_eq!(refused.finish(), ExecutionPhase::Failed);
    let message = &refused.entry("b").message;
    assert!(message.contains("TwoWriters: a of fleet ours"), "{message}");
    // Nothing was written, so ours goes on.
    ours.again("our-3");
    assert_eq!(ours.finish(), ExecutionPhase::Completed);
    let mut allowed = theirs(&ours.fleet, "their-3");
    allowed.allow_shared_store();
    assert_eq!(allowed.finish(), ExecutionPhase::Completed);
}

#[test]
fn nothing_is_sent_before_the_location_is_available() {
    let mut sim = Sim::new(&["a"], &policy());
    let location = LocationName::new("default").unwrap();
    sim.fleet
        .set_location(&cluster("a"), &location, LocationState::Unknown);
    for _ in 0..30 {
        sim.pass();
        sim.fleet.advance(SignedDuration::from_secs(1));
    }
    assert!(sim.creations().is_empty());
    sim.fleet
        .set_location(&cluster("a"), &location, LocationState::Available);
    assert_eq!(sim.finish(), ExecutionPhase::Completed);
}

#[test]
fn a_failed_backup_is_made_again_under_another_name_until_the_attempts_are_used_up() {
    let mut sim = Sim::new(&["a"], &policy());
    sim.fleet
        .inject(&cluster("a"), Fault::Fails("disk full".to_owned()));
    assert_eq!(sim.finish(), ExecutionPhase::Completed);
    assert_eq!((sim.entry("a").attempt, sim.creations().len()), (2, 2));

    let mut sim = Sim::new(&["a"], &policy());
    for _ in 0..5 {
        sim.fleet
            .inject(&cluster("a"), Fault::Refused("bad spec".to_owned()));
    }
    assert_eq!(sim.finish(), ExecutionPhase::Failed);
    assert_eq!(sim.entry("a").reason, "AttemptsExhausted");
    assert!(sim.entry("a").message.contains("bad spec"));
    assert_eq!(sim.creations().len(), 5);
}

#[test]
fn a_partial_backup_is_kept_and_said_to_be_partial() {
    let mut sim = Sim::new(&["a", "b"], &policy());
    sim.fleet.inject(&cluster("a"), Fault::FailsPartially(3));
    assert_eq!(sim.finish(), ExecutionPhase::PartiallyFailed);
    assert_eq!(sim.phase_of("a"), ClusterPhase::PartiallyFailed);
    assert_eq!(sim.entry("a").message, "3 errors");
}

#[test]
fn a_backup_that_its_server_forgot_is_poked_and_recovers_within_90_seconds() {
    let mut sim = Sim::new(&["a"], &policy());
    sim.fleet.inject(&cluster("a"), Fault::Forgotten);
    let began = sim.fleet.now();
    assert_eq!(sim.finish(), ExecutionPhase::Completed);
    assert_eq!((sim.entry("a").attempt, sim.entry("a").pokes), (1, 1));
    let took = sim.fleet.now().duration_since(began);
    assert!(took <= SignedDuration::from_secs(90), "{took:?}");
}

#[test]
fn a_backup_that_does_not_react_to_being_poked_is_made_again() {
    let mut sim = Sim::new(&["a"], &policy());
    // A server that is gone for good after it took the backup: nothing moves until it is replaced.
    while sim.phase_of_or_waiting("a") != ClusterPhase::Submitting {
        sim.pass();
    }
    sim.fleet.set_installed(&cluster("a"), true);
    let frozen = sim.entry("a").backup.unwrap();
    // Time passes on our side only: the servers take no step.
    let mut now = sim.fleet.now();
    let mut status = sim.status.clone().unwrap();
    let mut deleted = false;
    for _ in 0..120 {
        now += SignedDuration::from_secs(1);
        let seen = BTreeMap::from([(
            cluster("a"),
            Seen::default().with_backup(sim.fleet.backup(&cluster("a"), &frozen)),
        )]);
        let next = step(&sim.run, &status, &seen, now);
        for action in &next.actions {
            match action {
                Action::Poke {
                    cluster,
                    backup,
                    token,
                } => sim.fleet.poke(cluster, backup, token).unwrap(),
                Action::Delete { request, .. } => deleted |= request.backup == frozen,
                _ => {}
            }
        }
        status = next.status;
        if deleted {
            break;
        }
    }
    assert!(deleted);
    assert_eq!(status.clusters[0].phase, ClusterPhase::Waiting);
    assert_eq!(status.clusters[0].reason, "BackupStalled");
    assert!(now.duration_since(sim.fleet.now()) <= SignedDuration::from_secs(90));
}

impl Sim {
    fn phase_of_or_waiting(&self, name: &str) -> ClusterPhase {
        self.status
            .as_ref()
            .map_or(ClusterPhase::Waiting, |_| self.phase_of(name))
    }
}

#[test]
fn a_backup_that_hangs_is_given_up() {
    let mut sim = Sim::new(&["a", "b"], &policy());
    sim.fleet.inject(&cluster("a"), Fault::Hangs);
    assert_eq!(sim.finish(), ExecutionPhase::PartiallyFailed);
    assert_eq!(sim.entry("a").reason, "BackupHangs");
}

#[test]
fn a_phase_from_the_future_is_watched_until_the_deadline() {
    let mut sim = Sim::new(&["a"], &policy());
    sim.pass();
    sim.pass();
    let entry = sim.entry("a");
    let mut seen = crate::driver::Observation::new(entry.backup.clone().unwrap(), "u");
    seen.owner = Some(sim.run.id.owner(&entry.cluster, 1));
    seen.phase = Phase::from("Compacting");
    let seen = BTreeMap::from([(cluster("a"), Seen::default().with_backup(Ok(Some(seen))))]);
    let status = sim.status.clone().unwrap();
    let next = step(&sim.run, &status, &seen, sim.fleet.now());
    assert_eq!(next.status.clusters[0].reason, "UnknownPhase");
    assert!(!next.status.phase.has_ended());
    let late = sim.fleet.now() + SignedDuration::from_hours(1);
    let next = step(&sim.run, &next.status, &seen, late);
    assert_eq!(next.status.clusters[0].reason, "DeadlineExceeded");
}

#[test]
fn no_more_members_than_allowed_are_at_work_at_once() {
    let names: Vec<String> = (0..12).map(|index| format!("c{index:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut policy = policy();
    policy.limits.max_parallel = Some(3);
    let mut sim = Sim::new(&names, &policy);
    // One that is down holds no slot.
    sim.fleet.set_reachable(&cluster("c00"), false);
    let mut most = 0;
    for _ in 0..100 {
        sim.pass();
        let status = sim.status.as_ref().unwrap();
        most = most.max(
            status
                .clusters
                .iter()
                .filter(|entry| entry.phase.is_at_work())
                .count(),
        );
        sim.fleet.advance(SignedDuration::from_secs(1));
    }
    assert_eq!(most, 3);
    assert_eq!(sim.status.unwrap().totals.completed, 11);
}

#[test]
fn jitter_spreads_members_and_is_the_same_every_time() {
    let names: Vec<String> = (0..50).map(|index| format!("c{index:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut policy = policy();
    policy.limits.max_parallel = Some(100);
    policy.limits.jitter = Some(std::time::Duration::from_secs(100).into());
    let starts = || {
        let mut sim = Sim::new(&names, &policy);
        assert_eq!(sim.finish(), ExecutionPhase::Completed);
        let journal = sim.fleet.journal();
        journal
            .into_iter()
            .map(|it| (it.cluster, it.at))
            .collect::<BTreeMap<_, _>>()
    };
    let first = starts();
    assert_eq!(first, starts());
    let distinct: BTreeSet<_> = first.values().collect();
    assert!(distinct.len() > 25, "{} different seconds", distinct.len());
}

#[test]
fn a_cancelled_run_takes_back_what_has_not_begun() {
    let mut sim = Sim::new(&["a", "b"], &policy());
    sim.fleet.inject(&cluster("a"), Fault::Forgotten);
    for _ in 0..4 {
        sim.pass();
        sim.fleet.advance(SignedDuration::from_secs(1));
    }
    sim.run.cancel = true;
    let end = sim.finish();
    assert_eq!(sim.phase_of("a"), ClusterPhase::Cancelled);
    assert!(matches!(
        end,
        ExecutionPhase::Failed | ExecutionPhase::PartiallyFailed
    ));
    sim.fleet.advance(SignedDuration::from_secs(1));
    let backup = sim.run.id.backup_name(&cluster("a"), 1);
    assert_eq!(sim.fleet.backup(&cluster("a"), &backup).unwrap(), None);
}

#[test]
fn nobody_at_all_is_a_failure_and_not_a_success() {
    let mut sim = Sim::new(&[], &policy());
    sim.pass();
    let status = sim.status.unwrap();
    assert_eq!(status.phase, ExecutionPhase::Failed);
    assert_eq!(status.conditions[1].reason, "NoClusters");
}

#[test]
fn a_consistent_run_creates_no_backup_before_every_member_holds_still() {
    let mut sim = Sim::new(&["a", "b", "c"], &consistent());
    assert_eq!(sim.finish(), ExecutionPhase::Completed);
    let journal = sim.fleet.journal();
    let last_hold = journal
        .iter()
        .rposition(|it| it.what.starts_with("quiesce"))
        .unwrap();
    let first_backup = journal
        .iter()
        .position(|it| it.what.starts_with("create"))
        .unwrap();
    assert!(last_hold < first_backup, "{journal:#?}");
    sim.assert_nobody_is_held();
    let status = sim.status.unwrap();
    assert_eq!(status.quiesce.unwrap().consistent, Some(true));
    assert!(status.clusters.iter().all(|entry| entry.in_cut));
}

#[test]
fn a_member_that_cannot_hold_still_lets_all_others_go_at_once() {
    let mut sim = Sim::new(&["a", "b"], &consistent());
    sim.fleet
        .refuse_to_hold(&cluster("b"), Some("no such command".to_owned()));
    for _ in 0..10 {
        sim.pass();
    }
    assert!(sim.creations().is_empty());
    sim.assert_nobody_is_held();
    assert_eq!(sim.entry("b").reason, "QuiesceFailed");
    sim.fleet.refuse_to_hold(&cluster("b"), None);
    assert_eq!(sim.finish(), ExecutionPhase::Completed);
    assert_eq!(sim.status.as_ref().unwrap().quiesce.as_ref().unwrap().round, 2);
}

#[test]
fn a_hold_that_breaks_while_its_member_is_read_is_let_go_and_not_in_the_cut() {
    let mut sim = Sim::new(&["a", "b"], &consistent());
    while sim.creations().len() < 2 {
        sim.pass();
    }
    sim.fleet
        .refuse_to_hold(&cluster("b"), Some("the pod is gone".to_owned()));
    sim.finish();
    sim.assert_nobody_is_held();
    assert!(sim.entry("a").in_cut && !sim.entry("b").in_cut);
    assert_eq!(sim.status.unwrap().quiesce.unwrap().consistent, Some(false));
}

#[test]
fn a_member_that_is_cut_off_while_it_holds_still_lets_go_by_itself_and_is_not_in_the_cut() {
    let mut policy = consistent();
    policy.limits.deadline = Some(std::time::Duration::from_secs(600).into());
    let mut sim = Sim::new(&["a", "b"], &policy);
    sim.fleet.inject(&cluster("b"), Fault::Hangs);
    while sim.creations().len() < 2 {
        sim.pass();
    }
    sim.fleet.set_reachable(&cluster("b"), false);
    for _ in 0..130 {
        sim.pass();
        sim.fleet.advance(SignedDuration::from_secs(1));
    }
    sim.assert_nobody_is_held();
    assert_eq!(sim.finish(), ExecutionPhase::PartiallyFailed);
    assert!(sim.entry("a").in_cut && !sim.entry("b").in_cut);
}

#[test]
fn a_hold_is_renewed_while_it_is_needed() {
    let mut sim = Sim::new(&["a", "b"], &consistent());
    sim.fleet.inject(&cluster("b"), Fault::Hangs);
    for _ in 0..400 {
        sim.pass();
        sim.fleet.advance(SignedDuration::from_secs(1));
    }
    assert_eq!(
        sim.fleet.held_by(&cluster("a")),
        BTreeSet::new(),
        "a is read and let go"
    );
    assert_eq!(sim.fleet.held_by(&cluster("b")).len(), 1);
    assert_eq!(sim.finish(), ExecutionPhase::PartiallyFailed);
    sim.assert_nobody_is_held();
}

/// What must hold however the process died.
fn assert_sound(sim: &Sim, when: &str) {
    let creations = sim.creations();
    assert!(
        creations.values().all(|count| *count == 1),
        "{when}: {creations:?}"
    );
    for name in sim.run.members.keys() {
        let attempts = creations
            .keys()
            .filter(|key| key.starts_with(&format!("{name} ")))
            .count();
        assert_eq!(
            attempts,
            sim.entry(name.as_str()).attempt as usize,
            "{when}: {name}"
        );
    }
    sim.assert_nobody_is_held();
}

#[test]
fn a_process_that_dies_after_any_write_leaves_one_backup_an_attempt_and_nobody_held() {
    for policy in [policy(), consistent()] {
        let mut whole = Sim::new(&["a", "b", "c"], &policy);
        assert_eq!(whole.finish(), ExecutionPhase::Completed);
        let writes = whole.writes;
        assert!(writes >= 8);
        for dies_after in 1..=writes {
            let mut sim = Sim::new(&["a", "b", "c"], &policy);
            sim.dies_after = Some(dies_after);
            assert_eq!(
                sim.finish(),
                ExecutionPhase::Completed,
                "died after write {dies_after}"
            );
            assert_sound(&sim, &format!("died after write {dies_after}"));
        }
        // Dead for longer than any lease: the fleet lets go by itself, and the run still ends.
        for dies_after in 1..=writes {
            let mut sim = Sim::new(&["a", "b", "c"], &policy);
            sim.dies_after = Some(dies_after);
            while sim.pass() != Passed::Died {
                sim.fleet.advance(SignedDuration::from_secs(1));
            }
            for _ in 0..150 {
                sim.fleet.advance(SignedDuration::from_secs(1));
            }
            sim.assert_nobody_is_held();
            assert!(sim.finish().has_ended());
            assert_sound(&sim, &format!("dead for long after write {dies_after}"));
        }
    }
}

#[test]
fn deletion_removes_every_attempt_and_asks_again_when_a_request_is_lost() {
    let mut sim = Sim::new(&["a", "b"], &policy());
    sim.fleet
        .inject(&cluster("a"), Fault::Fails("disk full".to_owned()));
    assert_eq!(sim.finish(), ExecutionPhase::Completed);
    let mut status = sim.status.clone().unwrap();
    let mut restarted = false;
    for _ in 0..400 {
        let now = sim.fleet.now();
        let mut seen: BTreeMap<ClusterName, Seen> = BTreeMap::new();
        for ask in deletion_asks(&sim.run, &status, now) {
            let Question::Deletion(backup) = ask.question else {
                panic!()
            };
            let found = sim.fleet.deletion(&ask.cluster, &backup).map_err(Obstacle::from);
            seen.entry(ask.cluster)
                .or_default()
                .deletions
                .push((backup, found));
        }
        let next = deletion_step(&sim.run, &status, &seen, now);
        status = next.status;
        for action in next.actions {
            let Action::Delete { cluster, request } = action else {
                panic!()
            };
            sim.fleet.request_deletion(&cluster, &request).unwrap();
        }
        if !restarted {
            restarted = true;
            sim.fleet.restart_server(&cluster("b"));
        }
        if next.wake_at.is_none() {
            break;
        }
        sim.fleet.advance(SignedDuration::from_secs(2));
    }
    assert!(status.clusters.is_empty());
    for name in ["a", "b"] {
        assert_eq!(sim.fleet.backups(&cluster(name)).unwrap(), []);
        assert!(
            sim.fleet
                .stored(&StoreAddress::new("memory", "fleet", name))
                .is_empty()
        );
    }
}

#[test]
fn a_deletion_request_that_was_never_sent_is_sent_under_the_same_name_and_one_that_failed_under_another() {
    let mut sim = Sim::new(&["a"], &policy());
    assert_eq!(sim.finish(), ExecutionPhase::Completed);
    let mut status = sim.status.clone().unwrap();
    let backup = status.clusters[0].backup.clone().unwrap();
    let mut now = sim.fleet.now();
    // What a pass asks for when it sees this; the process dies before it is sent.
    let mut pass = |seen: &crate::driver::DeletionObservation| {
        let answers = Seen {
            deletions: vec![(backup.clone(), Ok(seen.clone()))],
            ..Seen::default()
        };
        now += SignedDuration::from_secs(60);
        let next = deletion_step(&sim.run, &status, &BTreeMap::from([(cluster("a"), answers)]), now);
        status = next.status;
        let names = next.actions.into_iter().map(|action| match action {
            Action::Delete { request, .. } => request.name,
            other => panic!("{other}"),
        });
        (names.collect::<Vec<_>>(), status.clusters[0].deletion)
    };
    let name = |number| sim.run.id.deletion_name(&backup, number);
    let mut seen = crate::driver::DeletionObservation {
        backup_present: true,
        ..Default::default()
    };
    for _ in 0..3 {
        assert_eq!(pass(&seen), (vec![name(1)], 1));
    }
    // It was sent, and failed; so the next is another, and the same one until it is there.
    seen.requests = [name(1)].into();
    seen.errors = vec!["the store is away".to_owned()];
    for _ in 0..3 {
        assert_eq!(pass(&seen), (vec![name(2)], 2));
    }
    // It is there: nothing is sent while it is worked on, and another once it must be lost.
    seen.requests.insert(name(2));
    seen.pending = true;
    seen.pending_since = Some(sim.fleet.now() + SignedDuration::from_secs(6 * 60));
    assert_eq!(pass(&seen), (vec![], 2));
    seen.pending_since = Some(sim.fleet.now());
    assert_eq!(pass(&seen), (vec![name(3)], 3));
}

#[test]
fn a_status_of_many_members_with_long_stories_stays_small_and_too_many_are_refused() {
    let names: Vec<String> = (0..250).map(|index| format!("cluster-{index:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut sim = Sim::new(&names, &policy());
    for name in &names {
        sim.fleet
            .change_facts(&cluster(name), |facts| facts.locations.clear());
    }
    for _ in 0..100 {
        sim.pass();
        sim.fleet.advance(SignedDuration::from_secs(1));
    }
    assert_eq!(sim.status.unwrap().clusters.len(), 250);
    let names: Vec<String> = (0..2000).map(|index| format!("cluster-{index:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut sim = Sim::new(&names, &policy());
    sim.pass();
    let status = sim.status.unwrap();
    assert_eq!(status.phase, ExecutionPhase::Failed);
    assert_eq!(status.conditions[1].reason, "TooManyClusters");
}

/// Something that happens to one of four members at some second.
#[derive(Clone, Debug)]
enum Blow {
    Cut(usize),
    Join(usize),
    Restart(usize),
    Fault(usize, Fault),
    LoseAnswers(usize),
    RefuseToHold(usize, bool),
}

fn blow() -> impl Strategy<Value = (u64, Blow)> {
    let fault = prop_oneof![
        Just(Fault::Forgotten),
        Just(Fault::Fails("broken".to_owned())),
        Just(Fault::FailsPartially(2)),
        Just(Fault::Refused("no".to_owned())),
    ];
    let blow = prop_oneof![
        (0..4_usize).prop_map(Blow::Cut),
        (0..4_usize).prop_map(Blow::Join),
        (0..4_usize).prop_map(Blow::Restart),
        ((0..4_usize), fault).prop_map(|(at, fault)| Blow::Fault(at, fault)),
        (0..4_usize).prop_map(Blow::LoseAnswers),
        ((0..4_usize), any::<bool>()).prop_map(|(at, on)| Blow::RefuseToHold(at, on)),
    ];
    (0..120_u64, blow)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whatever_happens_a_run_ends_with_one_backup_an_attempt_and_nobody_held(
        blows in proptest::collection::vec(blow(), 0..12),
        deaths in proptest::collection::btree_set(1..60_usize, 0..6),
        together in any::<bool>(),
    ) {
        let mut policy = if together { consistent() } else { policy() };
        policy.limits.deadline = Some(std::time::Duration::from_secs(300).into());
        let names = ["a", "b", "c", "d"];
        let mut sim = Sim::new(&names, &policy);
        let mut deaths: Vec<_> = deaths.into_iter().collect();
        let mut ended = false;
        for second in 0..700 {
            for (_, blow) in blows.iter().filter(|(at, _)| *at == second) {
                let on = |at: &usize| cluster(names[*at]);
                match blow {
                    Blow::Cut(at) => sim.fleet.set_reachable(&on(at), false),
                    Blow::Join(at) => sim.fleet.set_reachable(&on(at), true),
                    Blow::Restart(at) => sim.fleet.restart_server(&on(at)),
                    Blow::Fault(at, fault) => sim.fleet.inject(&on(at), fault.clone()),
                    Blow::LoseAnswers(at) => sim.fleet.lose_answers(&on(at), 2),
                    Blow::RefuseToHold(at, refuses) => {
                        sim.fleet.refuse_to_hold(&on(at), refuses.then(|| "no".to_owned()));
                    }
                }
            }
            sim.dies_after = deaths.first().copied();
            match sim.pass() {
                Passed::Died => { deaths.remove(0); }
                Passed::Alive(None) => { ended = true; break; }
                Passed::Alive(Some(_)) => {}
            }
            sim.fleet.advance(SignedDuration::from_secs(1));
        }
        prop_assert!(ended, "{:#?}", sim.status);
        let creations = sim.creations();
        prop_assert!(creations.values().all(|count| *count == 1), "{creations:?}");
        for name in names {
            prop_assert!(sim.fleet.held_by(&cluster(name)).is_empty());
        }
        let status = sim.status.unwrap();
        prop_assert!(status.phase.has_ended());
        let rule = SuccessRule::default();
        let mut reversed = status.clusters.clone();
        reversed.reverse();
        prop_assert_eq!(verdict(&rule, &status.clusters), verdict(&rule, &reversed));
    }
}
