use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kurator_core::{
    names::ClusterName,
    reason::{Reason as _, is_token},
};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    api::{
        BackupPolicy, BackupScheduleSpec, ExecutionPhase, MemberVerification, RestoreExecutionSpec,
        RestoreExecutionStatus, VerificationPhase, VerificationPolicy, VerificationStatus,
    },
    driver::{BackupRequest, OwnerToken, memory::InMemoryBackups},
    restore::{self, Restore, RestoreAsk, RunView, SeenTarget, TargetView},
    run::{Obstacle, RunId},
};

const NAMES: [&str; 2] = ["a", "b"];

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn object(kind: &str, namespace: &str, name: &str) -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": kind, "metadata": { "namespace": namespace, "name": name } })
}

/// A restore execution on the hub.
struct OnHub {
    spec: RestoreExecutionSpec,
    status: Option<RestoreExecutionStatus>,
    uid: String,
    ours: bool,
    deleting: bool,
}

/// A hub with a schedule, members in memory with one complete backup each, and what keeps going wrong.
struct Sim {
    fleet: InMemoryBackups,
    spec: BackupScheduleSpec,
    status: VerificationStatus,
    restores: BTreeMap<String, OnHub>,
    runs: Vec<RunView>,
    made: u32,
    leaving: bool,
    reasons: Vec<&'static str>,
    left_behind: Vec<String>,
    members: Vec<&'static str>,
}

impl Sim {
    fn new() -> Self {
        let fleet = InMemoryBackups::new("2026-11-28T04:00:00Z".parse().unwrap());
        let mut template = BackupPolicy::new("storefront".parse().unwrap());
        template.scope.included_namespaces = vec!["shop".into(), "till".into()];
        let mut spec = BackupScheduleSpec::new("0 3 * * *", template);
        let mut policy = VerificationPolicy::new("@every 10m");
        policy.members = Some(2);
        spec.verification = Some(policy);
        let mut sim = Self {
            fleet,
            spec,
            status: VerificationStatus::default(),
            restores: BTreeMap::new(),
            runs: Vec::new(),
            made: 0,
            leaving: false,
            reasons: Vec::new(),
            left_behind: Vec::new(),
            members: NAMES.to_vec(),
        };
        for name in NAMES {
            sim.fleet.add_member(&cluster(name));
            for namespace in ["shop", "till"] {
                for object in [
                    object("ConfigMap", namespace, "prices"),
                    object("Secret", namespace, "key"),
                    object("Pod", namespace, "web"),
                    object("Service", namespace, "web"),
                ] {
                    sim.fleet.put_object(&cluster(name), object);
                }
            }
        }
        sim.back_up("first");
        sim
    }

    fn back_up(&mut self, run: &str) {
        let mut view = RunView::new(run, self.fleet.now(), ExecutionPhase::Completed);
        for name in NAMES {
            let backup = format!("{name}-{run}").parse().unwrap();
            let mut request = BackupRequest::new(backup, OwnerToken::bounded([run]));
            request.scope = self.spec.template.scope.clone();
            self.fleet.create_backup(&cluster(name), &request).unwrap();
            view = view.with_backup(cluster(name), request.name, true);
        }
        self.advance(3);
        self.runs.push(view);
    }

    fn advance(&self, seconds: u32) {
        for _ in 0..seconds {
            self.fleet.advance(SignedDuration::from_secs(1));
        }
    }

    fn verification(&self) -> Verification {
        Verification::new("default", "nightly", "uid-1", &self.spec)
    }

    fn current(&self) -> Option<VerificationPhase> {
        self.status.current.as_ref().map(|run| run.phase)
    }

    fn member_labels(&self) -> crate::run::SeenMembers {
        self.members
            .iter()
            .map(|name| (cluster(name), BTreeMap::new()))
            .collect()
    }

    fn seen_restore(&self) -> Option<SeenRestore> {
        let name = self.verification().restore_name(self.status.current.as_ref()?);
        let found = self.restores.get(&name)?;
        let status = found.status.clone().unwrap_or_default();
        let mut seen = SeenRestore::new(status.phase);
        seen.ours = found.ours;
        seen.deleting = found.deleting;
        seen.clusters = status.clusters;
        seen.started_at = status.started_at.map(|at| at.0);
        seen.completed_at = status.completed_at.map(|at| at.0);
        Some(seen)
    }

    /// One pass. It dies after `lives` actions.
    fn pass(&mut self, lives: usize) {
        let verification = self.verification();
        let mut seen = Seen::default();
        seen.runs.clone_from(&self.runs);
        seen.members = Some(self.member_labels());
        seen.restore = self.seen_restore();
        seen.leaving = self.leaving;
        for ask in asks(&verification, &self.status, seen.restore.as_ref()) {
            let scratch = self.fleet.scratch(&ask.cluster, &ask.request);
            seen.scratch
                .insert(ask.cluster.clone(), scratch.map_err(Obstacle::from));
            if let Some(name) = ask.restore {
                let found = self.fleet.restore(&ask.cluster, &name).map_err(Obstacle::from);
                let stage = found.map(|found| found.map(|it| it.phase.stage()));
                seen.servers.insert(ask.cluster, stage);
            }
        }
        let next = step(&verification, &self.status, &seen, self.fleet.now());
        self.status = next.status;
        if let Some(reason) = &next.reason {
            assert!(is_token(reason.token()) && !reason.to_string().is_empty());
            if self.reasons.last() != Some(&reason.token()) {
                self.reasons.push(reason.token());
            }
        }
        if self.status.current.is_none() {
            self.left_behind.extend(next.left_behind);
        }
        for action in next.actions.into_iter().take(lives) {
            match action {
                Action::MakeScratch { cluster, request } => drop(self.fleet.make_scratch(&cluster, &request)),
                Action::RemoveScratch { cluster, request } => {
                    drop(self.fleet.remove_scratch(&cluster, &request));
                }
                Action::Restore { name, spec } => {
                    self.made += 1;
                    let on_hub = OnHub {
                        spec: *spec,
                        status: None,
                        uid: format!("restore-{}", self.made),
                        ours: true,
                        deleting: false,
                    };
                    self.restores.entry(name).or_insert(on_hub);
                }
                Action::DeleteRestore { name } => {
                    if let Some(restore) = self.restores.get_mut(&name) {
                        restore.deleting = true;
                    }
                }
                Action::ForgetRestore { name } => {
                    assert!(self.restores.get(&name).is_none_or(|it| it.ours && it.deleting));
                    self.restores.remove(&name);
                }
            }
        }
    }

    /// One pass of the controller of restores over each.
    fn restore_pass(&mut self) {
        let (now, members) = (self.fleet.now(), self.member_labels());
        let fleet = self.fleet.clone();
        for (name, on_hub) in self.restores.iter_mut().filter(|(_, it)| !it.deleting && it.ours) {
            let id = RunId::new(
                "default",
                name,
                &on_hub.uid,
                "2026-11-28T04:00:00Z".parse().unwrap(),
            );
            let restore = Restore::new(id, &on_hub.spec).unwrap();
            let Some(status) = on_hub.status.clone() else {
                let run = restore::select(&on_hub.spec.from, &self.runs).unwrap();
                on_hub.status = Some(restore::begin(&restore, run, &members, now));
                continue;
            };
            if status.phase.has_ended() {
                continue;
            }
            let mut seen = BTreeMap::new();
            for ask in restore::asks(&status, now) {
                let answer = match &ask {
                    RestoreAsk::Target { target, backup, .. } => {
                        let look = || {
                            let mut view = TargetView::without_backup();
                            view.backup = fleet.backup(target, backup)?;
                            if view.backup.is_some() {
                                view.contents = fleet.contents(target, backup)?;
                                let kinds = view.contents.keys().cloned().collect();
                                view.present = fleet.inventory(target, &kinds)?;
                                view.capabilities = fleet.capabilities(target)?;
                            }
                            Ok(Box::new(view))
                        };
                        SeenTarget::Target(look().map_err(|error: crate::driver::DriverError| error.into()))
                    }
                    RestoreAsk::Restore { target, restore, .. } => {
                        let found = fleet.restore(target, restore).map_err(Obstacle::from);
                        SeenTarget::Restore(Box::new(found))
                    }
                };
                seen.insert(ask.cluster().clone(), answer);
            }
            let next = restore::step(&restore, &status, &seen, now);
            let mut results = Vec::new();
            for action in next.actions {
                let created = fleet.create_restore(&action.target, &action.request);
                results.push((action, created.map(drop).map_err(Obstacle::from)));
            }
            on_hub.status = Some(restore::absorb(&restore, &next.status, &results, now));
        }
    }

    fn tick(&mut self, seconds: u32) {
        self.pass(usize::MAX);
        self.restore_pass();
        self.advance(seconds);
    }

    /// Everything that is in a scratch namespace of ours, or is one.
    fn scratch(&self) -> Vec<String> {
        let mut found = Vec::new();
        for name in NAMES {
            for object in self.fleet.objects(&cluster(name)) {
                let metadata = &object["metadata"];
                let place = metadata["namespace"]
                    .as_str()
                    .or(metadata["name"].as_str())
                    .unwrap();
                if place.starts_with("verify-") && metadata["labels"]["team"] != "theirs" {
                    found.push(format!("{name}: {object}"));
                }
            }
        }
        found
    }

    /// What was there before, and is not ours.
    fn theirs(&self) -> Vec<serde_json::Value> {
        let of = |name: &&str| self.fleet.objects(&cluster(name));
        let all = NAMES.iter().flat_map(of);
        all.filter(|object| {
            let metadata = &object["metadata"];
            let place = metadata["namespace"]
                .as_str()
                .or(metadata["name"].as_str())
                .unwrap();
            !place.starts_with("verify-") || metadata["labels"]["team"] == "theirs"
        })
        .collect()
    }

    fn until(&mut self, what: &str, met: impl Fn(&Self) -> bool) {
        for _ in 0..3000 {
            if met(self) {
                return;
            }
            self.tick(1);
        }
        panic!("{what}: {:#?}", self.status);
    }

    fn record(&self, name: &str) -> &MemberVerification {
        let found = self.status.members.iter().find(|it| it.cluster.as_str() == name);
        found.unwrap()
    }
}

#[test]
fn the_newest_backup_is_restored_aside_compared_recorded_and_leaves_nothing() {
    let mut sim = Sim::new();
    let before = sim.theirs();
    sim.until("it restores", |sim| {
        !sim.scratch().is_empty() && sim.status.members.len() == 2
    });
    assert_eq!(sim.theirs(), before);
    let restored = sim.scratch();
    assert!(restored.iter().any(|it| it.contains("prices")), "{restored:?}");
    assert!(
        !restored
            .iter()
            .any(|it| it.contains("Pod") || it.contains("Service")),
        "{restored:?}"
    );
    for name in NAMES {
        let record = sim.record(name);
        assert!(record.is_good() && record.tried, "{record:?}");
        // A ConfigMap and a Secret in each of two namespaces.
        assert_eq!(
            (record.objects, record.missing, record.execution.as_str()),
            (4, 0, "first")
        );
    }
    sim.until("it is cleaned up", |sim| sim.current().is_none());
    assert_eq!(sim.scratch(), Vec::<String>::new());
    assert_eq!(sim.theirs(), before);
    assert!(sim.restores.is_empty() && sim.left_behind.is_empty());
    assert_eq!(sim.reasons, ["NeverVerified", "Verified"]);
    // The same backup is not verified twice; a new one is.
    let verified_at = sim.status.verified_at.clone();
    sim.advance(1200);
    sim.tick(1);
    assert_eq!((sim.current(), &sim.status.verified_at), (None, &verified_at));
    sim.back_up("second");
    sim.advance(600);
    sim.until("the next", |sim| sim.status.verified_at != verified_at);
    assert_eq!(sim.record("a").execution, "second");
}

#[test]
fn a_namespace_of_somebody_else_is_refused_and_stays() {
    let mut sim = Sim::new();
    sim.tick(600);
    let mut taken = sim.status.clone();
    sim.pass(0);
    std::mem::swap(&mut taken, &mut sim.status);
    let name = sim.verification().scratch(taken.current.as_ref().unwrap()).names;
    let name = name.first().unwrap().clone();
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": { "team": "theirs" } },
    });
    sim.fleet.put_object(&cluster("b"), namespace);
    sim.status = taken;
    let before = sim.theirs();
    sim.until("it gives up", |sim| !sim.status.members.is_empty());
    assert_eq!(
        (sim.record("b").result.as_str(), sim.record("b").tried),
        ("ScratchTaken", false)
    );
    assert!(sim.restores.is_empty());
    sim.until("it is cleaned up", |sim| sim.current().is_none());
    assert_eq!((sim.theirs(), sim.scratch()), (before, Vec::new()));
    // That says nothing of the backup: it is tried again.
    sim.until("tried again", |sim| sim.status.verified_at.is_some());
}

#[test]
fn members_take_turns_and_one_that_cannot_be_tried_holds_up_nobody() {
    let mut sim = Sim::new();
    sim.spec.verification.as_mut().unwrap().members = Some(1);
    sim.spec.verification.as_mut().unwrap().deadline = serde_json::from_value(json!("1m")).ok();
    sim.fleet.set_reachable(&cluster("a"), false);
    sim.until("a fails", |sim| !sim.status.members.is_empty());
    assert_eq!(
        (sim.record("a").result.as_str(), sim.record("a").tried),
        ("ScratchNotReady", false)
    );
    // What may be left on it must be removed first; nobody can say that there is nothing.
    sim.advance(600);
    sim.tick(1);
    assert_eq!(sim.current(), Some(VerificationPhase::CleaningUp));
    sim.fleet.set_reachable(&cluster("a"), true);
    sim.until("b has its turn", |sim| sim.status.verified_at.is_some());
    assert!(sim.record("b").is_good());
}

#[test]
fn a_member_that_left_is_told_and_forgotten() {
    let mut sim = Sim::new();
    sim.until("it restores", |sim| {
        sim.current() == Some(VerificationPhase::Restoring)
    });
    sim.fleet.set_reachable(&cluster("b"), false);
    sim.members.pop();
    sim.leaving = true;
    sim.until("it is cleaned up", |sim| sim.current().is_none());
    assert_eq!(sim.left_behind, ["b: no member any more"]);
    assert!(sim.scratch().iter().all(|it| it.starts_with("b: ")));
}

#[test]
fn what_failed_is_kept_until_the_next_if_asked() {
    let mut sim = Sim::new();
    sim.spec.verification.as_mut().unwrap().keep_failed = true;
    sim.until("it restores", |sim| {
        let restores = sim.fleet.journal();
        restores
            .iter()
            .filter(|it| it.what.starts_with("create restore"))
            .count()
            == 2
    });
    // The server dies in the middle.
    sim.fleet.restart_server(&cluster("a"));
    sim.fleet.restart_server(&cluster("b"));
    sim.until("it has failed", |sim| !sim.status.members.is_empty());
    assert_eq!(
        (sim.record("a").result.as_str(), sim.record("a").tried),
        ("RestoreFailed", true)
    );
    assert!(
        sim.record("a").message.contains("given up"),
        "{:?}",
        sim.record("a")
    );
    sim.tick(60);
    assert_eq!(sim.current(), Some(VerificationPhase::Kept));
    assert!(!sim.scratch().is_empty());
    sim.until("the next is due", |sim| {
        sim.current() != Some(VerificationPhase::Kept)
    });
    sim.until("it is cleaned up", |sim| sim.current().is_none());
    assert_eq!(sim.scratch(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_verified_is_refused_with_a_reason() {
    let mut sim = Sim::new();
    let policy = |sim: &mut Sim, change: &dyn Fn(&mut VerificationPolicy)| {
        let mut policy = VerificationPolicy::new("@daily");
        change(&mut policy);
        sim.spec.verification = Some(policy);
        sim.reasons.clear();
        sim.pass(usize::MAX);
        sim.reasons.first().copied()
    };
    for (wanted, change) in [
        (
            "InvalidSchedule",
            &(|it: &mut VerificationPolicy| it.schedule = "61 * * * *".into()) as &dyn Fn(&mut _),
        ),
        ("InvalidNamespace", &|it: &mut VerificationPolicy| {
            it.namespaces = vec!["sh*p".into()]
        }),
        ("TooManyNamespaces", &|it: &mut VerificationPolicy| {
            it.namespaces = (0..21).map(|number| format!("n{number}")).collect();
        }),
        ("InvalidDuration", &|it: &mut VerificationPolicy| {
            it.deadline = serde_json::from_value(json!("0s")).ok();
        }),
    ] {
        assert_eq!(policy(&mut sim, change), Some(wanted));
    }
    sim.spec.template.scope.included_namespaces = vec!["*".into()];
    assert_eq!(policy(&mut sim, &|_| {}), Some("NoNamespaces"));
    assert_eq!(
        sim.fleet
            .journal()
            .iter()
            .filter(|it| it.what.contains("namespace"))
            .count(),
        0
    );
}

#[test]
fn the_record_of_many_members_is_bounded() {
    let mut sim = Sim::new();
    let long = |head: &str, number: usize| format!("{head}{number:03}{}", "x".repeat(63 - head.len() - 3));
    for number in 0..200 {
        sim.status.members.push(MemberVerification {
            cluster: cluster(&long("m", number)),
            execution: long("run", number),
            point: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
            verified_at: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
            result: "PartiallyFailed".into(),
            tried: true,
            seconds: 100_000,
            objects: 1_000_000,
            missing: 1_000_000,
            message: "m".repeat(256),
            differences: vec!["d".repeat(128); 10],
        });
    }
    sim.until("it ends", |sim| sim.status.verified_at.is_some());
    assert_eq!(sim.status.members.len(), 150);
    assert!(sim.record("a").is_good() && sim.record("b").is_good());
    // Ten more could have ended with all their room in use.
    let size = serde_json::to_vec(&sim.status).unwrap().len() + 10 * (256 + 10 * 131);
    assert!(size < 64 * 1024, "{size}");
}

#[test]
fn the_restore_takes_named_namespaces_aside_and_nothing_else() {
    let mut sim = Sim::new();
    sim.until("it restores", |sim| !sim.restores.is_empty());
    let spec = &sim.restores.values().next().unwrap().spec;
    assert_eq!(spec.scope.included_namespaces, ["shop", "till"]);
    assert!(spec.namespace_mapping.keys().eq(&spec.scope.included_namespaces));
    assert_eq!(spec.scope.include_cluster_resources, Some(false));
    assert_eq!(spec.restore_volumes, Some(false));
    assert!(spec.modifiers.as_ref().unwrap().contains("\"replicas\":0"));
    assert!(
        spec.scope
            .included_resources
            .iter()
            .all(|kind| !kind.starts_with("pods"))
    );
    for name in spec.namespace_mapping.values() {
        assert!(name.len() <= 63 && name.starts_with("verify-"), "{name}");
    }
}

/// Something that happens to the hub, a member or a pass.
#[derive(Clone, Debug)]
enum Blow {
    Tick(u32),
    DieAfter(usize),
    Cut(usize, bool),
    LoseAnswers(usize),
    Restart(usize),
    DeleteRestore,
    Leave,
    Unwanted(bool),
    BackUp,
    TakeNamespace(usize),
}

fn blow() -> impl Strategy<Value = Blow> {
    let member = 0..NAMES.len();
    prop_oneof![
        8 => (1_u32..20).prop_map(Blow::Tick),
        2 => (30_u32..900).prop_map(Blow::Tick),
        4 => (0_usize..3).prop_map(Blow::DieAfter),
        2 => (member.clone(), any::<bool>()).prop_map(|(it, up)| Blow::Cut(it, up)),
        1 => member.clone().prop_map(Blow::LoseAnswers),
        1 => member.clone().prop_map(Blow::Restart),
        1 => Just(Blow::DeleteRestore),
        1 => Just(Blow::Leave),
        1 => any::<bool>().prop_map(Blow::Unwanted),
        1 => Just(Blow::BackUp),
        1 => member.prop_map(Blow::TakeNamespace),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_no_scratch_namespace_is_left_and_nobody_elses_is_touched(
        blows in prop::collection::vec(blow(), 1..60),
    ) {
        let mut sim = Sim::new();
        let policy = sim.spec.verification.clone();
        let mut runs = 0;
        for blow in blows {
            let before = sim.theirs();
            match blow {
                Blow::Tick(seconds) => sim.tick(seconds),
                Blow::DieAfter(actions) => sim.pass(actions),
                Blow::Cut(member, up) => sim.fleet.set_reachable(&cluster(NAMES[member]), up),
                Blow::LoseAnswers(member) => sim.fleet.lose_answers(&cluster(NAMES[member]), 1),
                Blow::Restart(member) => sim.fleet.restart_server(&cluster(NAMES[member])),
                Blow::DeleteRestore => sim.restores.values_mut().for_each(|it| it.deleting = true),
                Blow::Leave => sim.leaving = true,
                Blow::Unwanted(wanted) => sim.spec.verification = policy.clone().filter(|_| wanted),
                Blow::BackUp => {
                    NAMES.iter().for_each(|name| sim.fleet.set_reachable(&cluster(name), true));
                    NAMES.iter().for_each(|name| sim.fleet.lose_answers(&cluster(name), 0));
                    runs += 1;
                    sim.back_up(&format!("run-{runs}"));
                    continue;
                }
                Blow::TakeNamespace(member) => {
                    // Somebody is faster than we, before or after the restore.
                    if let Some(run) = &sim.status.current {
                        let name = sim.verification().scratch(run).names.first().unwrap().clone();
                        sim.fleet.put_object(&cluster(NAMES[member]), json!({
                            "apiVersion": "v1", "kind": "Namespace",
                            "metadata": { "name": name, "labels": { "team": "theirs" } },
                        }));
                    }
                    continue;
                }
            }
            prop_assert_eq!(sim.theirs(), before);
        }
        // Everybody is back, nobody wants it any more.
        for name in NAMES {
            sim.fleet.set_reachable(&cluster(name), true);
            sim.fleet.lose_answers(&cluster(name), 0);
        }
        sim.leaving = true;
        sim.until("everything is gone", |sim| sim.current().is_none());
        sim.advance(300);
        let taken: Vec<String> = sim.theirs().iter()
            .filter(|it| it["kind"] == "Namespace")
            .filter_map(|it| it["metadata"]["name"].as_str().map(str::to_owned))
            .collect();
        let left: Vec<String> = sim.scratch().into_iter()
            .filter(|it| !taken.iter().any(|name| it.contains(name.as_str())))
            .collect();
        prop_assert_eq!(left, Vec::<String>::new());
        prop_assert!(sim.restores.is_empty());
    }
}
