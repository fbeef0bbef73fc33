use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kurator_core::names::{ClusterName, NamespacedName};
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        ExecutionPhase, RestoreExecutionSpec, RestoreExecutionStatus, RestorePhase, RestoreSource,
        RestoreTarget,
    },
    driver::{
        BackupRequest, ExistingResources, Inventory, OwnerToken, ResourceKind, StoreAddress,
        memory::InMemoryBackups,
    },
    run::{Obstacle, RunId, SeenMembers},
};

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn config_map(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "namespace": namespace, "name": name }, "data": { "of": name },
    })
}

/// Two members with three ConfigMaps each, backed up; and a spare one on the store of the first.
struct Sim {
    fleet: InMemoryBackups,
    members: SeenMembers,
    view: RunView,
    dies_after: Option<usize>,
    writes: usize,
    status: Option<RestoreExecutionStatus>,
}

impl Sim {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// With more on the members before they are backed up.
    fn with(more: impl FnOnce(&InMemoryBackups)) -> Self {
        let fleet = InMemoryBackups::new("2026-11-23T03:00:00Z".parse().unwrap());
        let mut view = RunView::new("nightly", fleet.now(), ExecutionPhase::Completed);
        for name in ["a", "b"] {
            fleet.add_member(&cluster(name));
            for object in ["x", "y", "z"] {
                fleet.put_object(&cluster(name), config_map("shop", object));
            }
        }
        more(&fleet);
        for name in ["a", "b"] {
            let backup = format!("{name}-1");
            let request = BackupRequest::new(backup.parse().unwrap(), OwnerToken::bounded([&backup]));
            fleet.create_backup(&cluster(name), &request).unwrap();
            view = view.with_backup(cluster(name), request.name, true);
        }
        for _ in 0..3 {
            fleet.advance(SignedDuration::from_secs(1));
        }
        fleet.add_member_on(&cluster("spare"), StoreAddress::new("memory", "fleet", "a"));
        let members = ["a", "b", "spare"]
            .map(|name| (cluster(name), BTreeMap::new()))
            .into();
        Self {
            fleet,
            members,
            view,
            dies_after: None,
            writes: 0,
            status: None,
        }
    }

    fn restore(&self, spec: &RestoreExecutionSpec) -> Restore {
        let id = RunId::new("default", "back", "uid", self.fleet.now());
        Restore::new(id, spec).unwrap()
    }

    fn wrote(&mut self) -> bool {
        self.writes += 1;
        self.dies_after == Some(self.writes)
    }

    fn look(&self, ask: &RestoreAsk) -> SeenTarget {
        let view = |target: &ClusterName,
                    backup,
                    claims: bool|
         -> Result<Box<TargetView>, crate::driver::DriverError> {
            let mut view = TargetView::without_backup();
            view.backup = self.fleet.backup(target, backup)?;
            if view.backup.is_some() {
                view.contents = self.fleet.contents(target, backup)?;
                let kinds = view.contents.keys().cloned().collect();
                view.present = self.fleet.inventory(target, &kinds)?;
                view.capabilities = self.fleet.capabilities(target)?;
                if claims {
                    view.claims = Some(self.fleet.claims(target, backup)?);
                }
            }
            Ok(Box::new(view))
        };
        match ask {
            RestoreAsk::Target {
                target,
                backup,
                claims,
                ..
            } => SeenTarget::Target(view(target, backup, *claims).map_err(Obstacle::from)),
            RestoreAsk::Restore { target, restore, .. } => SeenTarget::Restore(Box::new(
                self.fleet.restore(target, restore).map_err(Obstacle::from),
            )),
        }
    }

    /// A pass; whether the process is alive, and when the next one is due.
    fn pass(&mut self, restore: &Restore) -> Option<Option<Timestamp>> {
        let now = self.fleet.now();
        let Some(status) = self.status.clone() else {
            self.status = Some(begin(restore, &self.view, &self.members, now));
            return if self.wrote() { None } else { Some(Some(now)) };
        };
        let seen = asks(&status, now)
            .iter()
            .map(|ask| (ask.cluster().clone(), self.look(ask)))
            .collect();
        let next = step(restore, &status, &seen, now);
        if next.status != status {
            self.status = Some(next.status.clone());
            if self.wrote() {
                return None;
            }
        }
        let mut results = Vec::new();
        for action in next.actions {
            let result = self
                .fleet
                .create_restore(&action.target, &action.request)
                .map(drop);
            if self.wrote() {
                return None;
            }
            results.push((action, result.map_err(Obstacle::from)));
        }
        self.status = Some(absorb(restore, &next.status, &results, now));
        Some(next.wake_at)
    }

    fn finish(&mut self, spec: &RestoreExecutionSpec) -> RestorePhase {
        let restore = self.restore(spec);
        for _ in 0..5000 {
            if self.pass(&restore) == Some(None) {
                return self.status.as_ref().unwrap().phase;
            }
            self.fleet.advance(SignedDuration::from_secs(1));
        }
        panic!("it never ends: {:#?}", self.status);
    }

    fn reason(&self, name: &str) -> String {
        let status = self.status.as_ref().unwrap();
        let entry = status.clusters.iter().find(|entry| entry.cluster == name);
        entry.unwrap().reason.clone()
    }

    fn remove(&self, on: &str, name: &str) {
        let kind = ResourceKind::new("v1", "ConfigMap");
        self.fleet
            .remove_object(&cluster(on), &kind, &NamespacedName::new("shop", name));
    }
}

fn spec() -> RestoreExecutionSpec {
    RestoreExecutionSpec::new("fleet".parse().unwrap(), RestoreSource::execution("nightly"))
}

#[test]
fn a_dry_run_counts_what_would_change_and_writes_nothing() {
    let mut sim = Sim::new();
    sim.remove("a", "x");
    let before = sim.fleet.journal().len();
    let mut dry = spec();
    dry.dry_run = true;
    assert_eq!(sim.finish(&dry), RestorePhase::Planned);
    let totals = sim.status.as_ref().unwrap().totals;
    assert_eq!((totals.create, totals.skip, totals.patch), (1, 5, 0));
    assert_eq!(sim.fleet.journal().len(), before);
    // Switched off, the same object goes on from its plan.
    assert_eq!(sim.finish(&spec()), RestorePhase::Completed);
    assert_eq!(sim.fleet.objects(&cluster("a")).len(), 3);
    assert_eq!(sim.reason("a"), "Verified");
}

#[test]
fn the_plan_is_what_happens() {
    let mut sim = Sim::new();
    sim.remove("a", "x");
    sim.remove("b", "y");
    let mut update = spec();
    update.existing = ExistingResources::Update;
    update
        .namespace_mapping
        .insert("shop".to_owned(), "scratch".to_owned());
    let before: usize = ["a", "b"]
        .map(|name| sim.fleet.objects(&cluster(name)).len())
        .iter()
        .sum();
    assert_eq!(sim.finish(&update), RestorePhase::Completed);
    let totals = sim.status.as_ref().unwrap().totals;
    let after: usize = ["a", "b"]
        .map(|name| sim.fleet.objects(&cluster(name)).len())
        .iter()
        .sum();
    assert_eq!((totals.create, totals.skip, totals.patch), (6, 0, 0));
    assert_eq!(after - before, 6);
}

#[test]
fn a_backup_is_restored_into_another_cluster_that_sees_it() {
    let mut sim = Sim::new();
    let mut elsewhere = spec();
    elsewhere.clusters.names = vec![cluster("a")];
    elsewhere.targets = vec![RestoreTarget::new(cluster("a"), cluster("spare"))];
    assert_eq!(sim.finish(&elsewhere), RestorePhase::Completed);
    assert_eq!(
        sim.fleet.objects(&cluster("spare")),
        sim.fleet.objects(&cluster("a"))
    );
}

#[test]
fn a_target_that_does_not_see_the_backup_or_serve_its_kinds_says_so() {
    let mut sim = Sim::new();
    let mut blind = spec();
    blind.clusters.names = vec![cluster("b")];
    blind.targets = vec![RestoreTarget::new(cluster("b"), cluster("spare"))];
    blind.limits.deadline = Some(std::time::Duration::from_secs(60).into());
    assert_eq!(sim.finish(&blind), RestorePhase::Failed);
    let message = &sim.status.as_ref().unwrap().clusters[0].message;
    assert!(message.contains("BackupNotSynced"), "{message}");

    let mut sim = Sim::new();
    sim.fleet.change_capabilities(&cluster("a"), |it| {
        it.kinds.insert(ResourceKind::new("v1", "Secret"));
    });
    assert_eq!(sim.finish(&spec()), RestorePhase::PartiallyFailed);
    assert_eq!(sim.reason("a"), "KindsNotServed");
    assert_eq!(sim.reason("b"), "Verified");
}

#[test]
fn a_kind_whose_definition_is_in_the_backup_need_not_be_served_and_another_version_is_said() {
    let widget = json!({
        "apiVersion": "example.org/v1", "kind": "Widget", "metadata": { "namespace": "shop", "name": "w" },
    });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.org" },
    });
    let served = [
        ResourceKind::new("v1", "ConfigMap"),
        ResourceKind::new("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ];
    let older = ResourceKind::new("example.org/v1beta1", "Widget");
    for (brought, serves_older, reason) in [
        (false, false, "KindsNotServed"),
        (true, false, "Verified"),
        (false, true, "VersionsNotServed"),
        (true, true, "VersionsNotServed"),
    ] {
        let mut sim = Sim::with(|fleet| {
            fleet.put_object(&cluster("a"), widget.clone());
            if brought {
                fleet.put_object(&cluster("a"), definition.clone());
            }
        });
        sim.fleet.change_capabilities(&cluster("a"), |it| {
            it.kinds.extend(served.clone());
            if serves_older {
                it.kinds.insert(older.clone());
            }
        });
        sim.finish(&spec());
        assert_eq!(sim.reason("a"), reason, "{brought} {serves_older}");
    }
}

fn claim(name: &str, class: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "namespace": "shop", "name": name },
        "spec": class.map_or(json!({}), |class| json!({ "storageClassName": class })),
    })
}

/// What was backed up on `a` has claims; the spare member has other classes.
fn with_claims() -> Sim {
    let sim = Sim::with(|fleet| {
        for (name, class) in [
            ("data", Some("gold")),
            ("logs", Some("gold")),
            ("cache", Some("fast")),
            ("any", None),
            ("by-hand", Some("")),
        ] {
            fleet.put_object(&cluster("a"), claim(name, class));
        }
    });
    sim.fleet.change_capabilities(&cluster("spare"), |it| {
        it.storage_classes = ["fast", "slow"].map(String::from).into();
        it.default_storage_class = Some("slow".to_owned());
    });
    sim
}

fn to_spare() -> RestoreExecutionSpec {
    let mut elsewhere = spec();
    elsewhere.clusters.names = vec![cluster("a")];
    elsewhere.targets = vec![RestoreTarget::new(cluster("a"), cluster("spare"))];
    elsewhere
}

#[test]
fn a_storage_class_the_target_does_not_have_is_said_before_anything_is_written() {
    let mut sim = with_claims();
    let before = sim.fleet.journal().len();
    assert_eq!(sim.finish(&to_spare()), RestorePhase::Failed);
    assert_eq!(sim.fleet.journal().len(), before);
    let entry = &sim.status.as_ref().unwrap().clusters[0];
    assert_eq!(entry.reason, "StorageClassesMissing");
    assert_eq!(
        entry.message,
        "the target has no storage class gold (2 claims); replace it in storageClasses by fast or slow, or by itself \
         to keep it"
    );
    let planned: Vec<_> = entry
        .storage_classes
        .iter()
        .map(|plan| {
            (
                plan.class.as_str(),
                plan.becomes.as_str(),
                plan.claims,
                plan.on_target,
            )
        })
        .collect();
    assert_eq!(planned, [("", "slow", 1, true), ("gold", "gold", 2, false)]);
}

#[test]
fn a_storage_class_is_replaced_as_planned_or_kept_by_itself() {
    for (becomes, reason) in [
        ("fast", "Verified"),
        ("gold", "Verified"),
        ("bronze", "StorageClassesMissing"),
    ] {
        let mut sim = with_claims();
        let mut replacing = to_spare();
        replacing.storage_classes = BTreeMap::from([("gold".to_owned(), becomes.to_owned())]);
        sim.finish(&replacing);
        assert_eq!(sim.reason("a"), reason, "{becomes}");
        let wrote = reason == "Verified";
        let objects = sim.fleet.objects(&cluster("spare"));
        assert_eq!(objects.contains(&claim("data", Some(becomes))), wrote);
        assert_eq!(objects.contains(&claim("cache", Some("fast"))), wrote);
    }
}

#[test]
fn claims_that_are_there_or_may_not_be_restored_are_no_reason_to_refuse() {
    let mut sim = with_claims();
    for name in ["data", "logs"] {
        sim.fleet.put_object(&cluster("spare"), claim(name, Some("gold")));
    }
    assert_eq!(sim.finish(&to_spare()), RestorePhase::Completed);

    let mut sim = with_claims();
    let mut some = to_spare();
    some.scope.included_resources = vec!["configmaps".to_owned(), "pvc".to_owned()];
    assert_eq!(sim.finish(&some), RestorePhase::Completed);
}

proptest::proptest! {
    /// Held against a second reading: a restore that was begun asks for no class that the target lacks.
    #[test]
    fn no_claim_is_restored_with_a_class_that_the_target_lacks(
        wanted in proptest::collection::vec(proptest::option::of(0..4_usize), 0..6),
        has in proptest::collection::btree_set(0..4_usize, 0..4),
        chosen in proptest::collection::btree_map(0..4_usize, 0..4_usize, 0..4),
    ) {
        const NAMES: [&str; 4] = ["bronze", "fast", "gold", "slow"];
        let mut sim = Sim::with(|fleet| {
            for (index, class) in wanted.iter().enumerate() {
                fleet.put_object(&cluster("a"), claim(&format!("c{index}"), class.map(|class| NAMES[class])));
            }
        });
        sim.fleet.change_capabilities(&cluster("spare"), |it| {
            it.storage_classes = has.iter().map(|class| NAMES[*class].to_owned()).collect();
            // One that nobody asks for, or the member takes them all.
            it.storage_classes.insert("other".to_owned());
        });
        let mut elsewhere = to_spare();
        elsewhere.storage_classes = chosen
            .iter()
            .map(|(class, becomes)| (NAMES[*class].to_owned(), NAMES[*becomes].to_owned()))
            .collect();
        let restored = sim.finish(&elsewhere) == RestorePhase::Completed;
        let lacks = |class: &usize| {
            let becomes = chosen.get(class).unwrap_or(class);
            chosen.get(class) != Some(class) && !has.contains(becomes)
        };
        proptest::prop_assert_eq!(restored, !wanted.iter().flatten().any(lacks));
        if restored {
            for (index, class) in wanted.iter().enumerate() {
                let becomes = class.map(|class| NAMES[*chosen.get(&class).unwrap_or(&class)]);
                let objects = sim.fleet.objects(&cluster("spare"));
                let there = objects.contains(&claim(&format!("c{index}"), becomes));
                proptest::prop_assert!(there);
            }
        }
    }
}

#[test]
fn partial_missing_and_doubled_backups_are_refused_before_anything_is_written() {
    let mut sim = Sim::new();
    let partial = sim.view.backups.get_mut("b").unwrap();
    partial.1 = false;
    let mut odd = spec();
    odd.clusters.names = ["a", "b", "nobody"].map(cluster).to_vec();
    sim.finish(&odd);
    assert_eq!(
        (sim.reason("b"), sim.reason("nobody")),
        ("BackupPartial".into(), "NoBackup".into())
    );

    let mut sim = Sim::new();
    let mut doubled = spec();
    doubled.targets = ["a", "b"]
        .map(|name| RestoreTarget::new(cluster(name), cluster("spare")))
        .to_vec();
    sim.finish(&doubled);
    assert_eq!(sim.reason("b"), "TargetTwice");
}

#[test]
fn a_process_that_dies_after_any_write_restores_each_member_once() {
    let mut whole = Sim::new();
    whole.finish(&spec());
    for dies_after in 1..=whole.writes {
        let mut sim = Sim::new();
        sim.remove("a", "x");
        sim.dies_after = Some(dies_after);
        assert_eq!(
            sim.finish(&spec()),
            RestorePhase::Completed,
            "died after write {dies_after}"
        );
        let journal = sim.fleet.journal();
        let restores = journal
            .iter()
            .filter(|entry| entry.what.starts_with("create restore"));
        assert_eq!(restores.count(), 2, "died after write {dies_after}");
    }
}

#[test]
fn what_cannot_be_chosen_is_named() {
    let run = |name: &str, phase| {
        RunView::new(name, "2026-11-23T03:00:00Z".parse().unwrap(), phase).of_schedule("s")
    };
    let runs = [
        run("going", ExecutionPhase::InProgress),
        run("empty", ExecutionPhase::Failed),
    ];
    let token =
        |source: &RestoreSource| kurator_core::reason::Reason::token(&select(source, &runs).unwrap_err());
    assert_eq!(token(&RestoreSource::execution("other")), "ExecutionNotFound");
    assert_eq!(token(&RestoreSource::execution("going")), "ExecutionNotEnded");
    assert_eq!(token(&RestoreSource::execution("empty")), "NothingRestorable");
    assert_eq!(token(&RestoreSource::schedule("s")), "NoRestorableRun");
}

#[test]
fn kinds_that_describe_the_old_cluster_are_counted_and_left_out() {
    let contents: Inventory = [
        (
            ResourceKind::new("v1", "Node"),
            [NamespacedName::cluster_scoped("n1")].into(),
        ),
        (
            ResourceKind::new("v1", "Secret"),
            [NamespacedName::new("shop", "s")].into(),
        ),
    ]
    .into();
    let found = expected(
        &contents,
        &crate::driver::RestoreScope::default(),
        &BTreeMap::new(),
    );
    assert_eq!((found.refused, found.objects.len(), found.exact), (1, 1, true));
}
