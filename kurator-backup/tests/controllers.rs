//! The controllers on a real API server, under exactly the rules of `deploy/rbac`, over members in memory.
#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use kurator_backup::{
    api::{
        self, BackupExecution, BackupExecutionSpec, BackupPolicy, BackupSchedule, ExecutionPhase, Migration,
        MigrationPhase, RestoreExecution, RestoreExecutionSpec, RestorePhase, RestoreSource,
    },
    controller::{BackupCounts, BackupManager},
    driver::{
        ResourceKind, StoreAddress,
        memory::{Fault, InMemoryBackups},
    },
};
use kurator_core::{
    membership::{Member as Registration, StaticMembership},
    names::{ClusterName, NamespacedName},
};
use kurator_envtest::{Error, Fleet, Member};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

const NAMES: [&str; 3] = ["a", "b", "c"];

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

/// A hub with our definitions, members in memory whose time goes on, and who they are.
struct Ground {
    hub: Fleet,
    /// What the controllers use: it may do what `deploy/rbac/backup.yaml` says.
    account: Client,
    members: InMemoryBackups,
    membership: Arc<StaticMembership>,
    counts: BackupCounts,
    clockwork: JoinHandle<()>,
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.clockwork.abort();
    }
}

impl Ground {
    async fn new() -> Self {
        let hub = Fleet::builder().members(["hub"]).start().await.unwrap();
        hub.members()[0].install(&api::crds()).await.unwrap();
        let account = hub.members()[0]
            .account("kurator-system", "kurator-backup")
            .await
            .unwrap();
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/rbac/backup.yaml");
        hub.members()[0]
            .apply(&std::fs::read_to_string(rules).unwrap())
            .await
            .unwrap();
        let members = InMemoryBackups::new("2026-11-23T03:00:00Z".parse().unwrap());
        let membership = Arc::new(StaticMembership::default());
        for name in NAMES {
            members.add_member(&cluster(name));
            membership.join(Registration::new(cluster(name)));
        }
        membership.enrol("storefront".parse().unwrap(), NAMES.map(cluster));
        let clock = members.clone();
        // The servers of the members work on their own; four of their seconds are one of ours.
        let clockwork = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(250));
            loop {
                ticks.tick().await;
                clock.advance(SignedDuration::from_secs(1));
            }
        });
        Self {
            account: account.client().unwrap(),
            hub,
            members,
            membership,
            counts: BackupCounts::default(),
            clockwork,
        }
    }

    fn member(&self) -> &Member {
        &self.hub.members()[0]
    }

    fn client(&self) -> Client {
        self.member().client().unwrap()
    }

    fn executions(&self) -> Api<BackupExecution> {
        Api::default_namespaced(self.client())
    }

    /// A manager that runs until what is returned is used or dropped.
    fn manager(&self) -> (oneshot::Sender<()>, JoinHandle<()>) {
        let (stop, stopped) = oneshot::channel::<()>();
        let manager = BackupManager::new(
            self.account.clone(),
            Arc::<StaticMembership>::clone(&self.membership),
            Arc::new(self.members.clone()),
            Arc::new(self.members.clone()),
        )
        .with_clock(Arc::new(self.members.clone()))
        .with_metrics(self.counts.clone())
        .with_scratch(Arc::new(self.members.clone()));
        let running = tokio::spawn(manager.run(async move { drop(stopped.await) }));
        (stop, running)
    }

    async fn create(&self, name: &str, policy: Value) -> BackupExecution {
        let policy: BackupPolicy = serde_json::from_value(policy).unwrap();
        let execution = BackupExecution::new(name, BackupExecutionSpec::new(policy));
        self.executions()
            .create(&PostParams::default(), &execution)
            .await
            .unwrap()
    }

    async fn phase(&self, name: &str, wanted: ExecutionPhase) -> BackupExecution {
        let reached = move |found: Option<&BackupExecution>| {
            found
                .and_then(|it| it.status.as_ref())
                .is_some_and(|status| status.phase == wanted)
        };
        let found = self.member().wait_for(&self.executions(), name, reached).await;
        found.unwrap().unwrap()
    }

    /// The execution, once nobody is on record as held still by it.
    async fn released(&self, name: &str) -> BackupExecution {
        let released = |found: Option<&BackupExecution>| {
            found
                .and_then(|it| it.status.as_ref())
                .is_some_and(|status| status.clusters.iter().all(|entry| entry.held_until.is_none()))
        };
        let found = self.member().wait_for(&self.executions(), name, released).await;
        found.unwrap().unwrap()
    }

    async fn gone(&self, name: &str) {
        let gone = |found: Option<&BackupExecution>| found.is_none();
        self.member()
            .wait_for(&self.executions(), name, gone)
            .await
            .unwrap();
    }

    /// How often each backup was created on the members.
    fn creations(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.members.journal() {
            if entry.what.starts_with("create backup") {
                *counts
                    .entry(format!("{} {}", entry.cluster, entry.what))
                    .or_default() += 1;
            }
        }
        counts
    }
}

fn reason<'a>(execution: &'a BackupExecution, type_: &str) -> &'a str {
    let status = execution.status.as_ref().unwrap();
    let found = status.conditions.iter().find(|it| it.type_ == type_);
    found.map_or("", |condition| &condition.reason)
}

fn consistent() -> Value {
    json!({
        "fleet": "storefront",
        "consistency": "Fleet",
        "quiesce": { "hooks": [{ "name": "freeze", "pre": [{ "command": ["freeze"] }] }] },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_is_carried_out_on_every_member_and_its_deletion_empties_the_stores() {
    let ground = Ground::new().await;
    let (stop, running) = ground.manager();
    ground
        .members
        .inject(&cluster("b"), Fault::Fails("disk full".to_owned()));
    ground.create("now", consistent()).await;
    ground.phase("now", ExecutionPhase::Completed).await;
    let ended = ground.released("now").await;
    let status = ended.status.as_ref().unwrap();
    assert_eq!(status.totals.completed, 3);
    assert_eq!(reason(&ended, "Ready"), "Succeeded");
    assert_eq!(
        reason(&ended, "Consistent"),
        "OutsideCut",
        "b was made again, alone"
    );
    assert_eq!(ground.creations().len(), 4);
    for name in NAMES {
        assert!(ground.members.held_by(&cluster(name)).is_empty());
    }
    let events = Api::<Event>::default_namespaced(ground.client());
    let told: Vec<String> = events
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter_map(|event| event.reason)
        .collect();
    for reason in ["Quiescing", "InProgress", "Completed"] {
        assert!(told.iter().any(|it| it == reason), "{reason} in {told:?}");
    }

    ground
        .executions()
        .delete("now", &DeleteParams::default())
        .await
        .unwrap();
    ground.gone("now").await;
    for name in NAMES {
        let store = StoreAddress::new("memory", "fleet", name);
        assert!(ground.members.stored(&store).is_empty(), "{name}");
    }
    stop.send(()).unwrap();
    running.await.unwrap();
    let sums = [
        ("runs", 1.0),
        ("members", 3.0),
        ("attempt_failures", 1.0),
        ("retries", 1.0),
        ("quiesce_held", 3.0),
        ("quiesce_released", 3.0),
        ("quiesce_expired", 0.0),
        ("deletions", 4.0),
        ("left_behind", 0.0),
    ];
    for (name, sum) in sums {
        assert_eq!(ground.counts.sum(name), sum, "{name} in\n{}", ground.counts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_managers_that_come_and_go_make_one_backup_an_attempt() {
    let ground = Ground::new().await;
    let (first, first_running) = ground.manager();
    let (second, second_running) = ground.manager();
    ground.create("now", consistent()).await;
    ground.phase("now", ExecutionPhase::Quiescing).await;
    // One dies at whatever it is doing, another takes its place.
    first_running.abort();
    drop(first);
    let (third, third_running) = ground.manager();
    ground.phase("now", ExecutionPhase::Completed).await;
    let ended = ground.released("now").await;
    assert_eq!(ground.creations().len(), 3);
    assert!(ground.creations().values().all(|count| *count == 1));
    assert_eq!(reason(&ended, "Consistent"), "Consistent");
    for name in NAMES {
        assert!(ground.members.held_by(&cluster(name)).is_empty());
    }
    for stop in [second, third] {
        stop.send(()).unwrap();
    }
    second_running.await.unwrap();
    third_running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_is_stopped_before_the_hub_has_answered_ends_at_once() {
    let hub = Fleet::builder().members(["hub"]).start().await.unwrap();
    let hub = &hub.members()[0];
    hub.link().half_open();
    let members = InMemoryBackups::new("2026-11-23T03:00:00Z".parse().unwrap());
    let manager = BackupManager::new(
        hub.client().unwrap(),
        Arc::new(StaticMembership::default()),
        Arc::new(members.clone()),
        Arc::new(members),
    );
    let ended = tokio::time::timeout(Duration::from_secs(10), manager.run(async {})).await;
    ended.expect("it waits for a hub that nobody asks any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_makes_runs_and_keeps_as_many_as_it_should() {
    let ground = Ground::new().await;
    let (stop, running) = ground.manager();
    let schedules = Api::<BackupSchedule>::default_namespaced(ground.client());
    let schedule: BackupSchedule = serde_json::from_value(json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "BackupSchedule", "metadata": { "name": "often" },
        "spec": {
            "schedule": "@every 8s",
            "retention": { "last": 1 },
            "template": { "fleet": "storefront", "success": { "mode": "BestEffort" } },
        },
    }))
    .unwrap();
    schedules.create(&PostParams::default(), &schedule).await.unwrap();
    // Three runs have begun and been told of: by then the first is deleted, with all it had in the stores.
    let good = |found: Option<&BackupSchedule>| {
        found
            .and_then(|it| it.status.as_ref())
            .is_some_and(|status| status.last_good_at.is_some())
    };
    ground.member().wait_for(&schedules, "often", good).await.unwrap();
    let first = ground.executions().list(&ListParams::default()).await.unwrap();
    let first = first.items.iter().map(ResourceExt::name_any).min().unwrap();
    assert!(first.starts_with("often-"), "{first}");
    ground.gone(&first).await;
    // Paused: what is there stays.
    let pause = json!({ "spec": { "paused": true } });
    let paused = schedules
        .patch("often", &PatchParams::default(), &Patch::Merge(&pause))
        .await
        .unwrap();
    let settled = move |found: Option<&BackupSchedule>| {
        found.and_then(|it| it.status.as_ref()).is_some_and(|status| {
            status.observed_generation == paused.metadata.generation && status.next_at.is_none()
        })
    };
    ground
        .member()
        .wait_for(&schedules, "often", settled)
        .await
        .unwrap();
    let often = NamespacedName::new("default", "often");
    for name in NAMES {
        let last = ground.counts.last_success(&often, &cluster(name));
        assert!(last.is_some(), "{name}");
    }
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_nobody_knows_a_hold_and_a_wrong_expression_say_so() {
    let ground = Ground::new().await;
    let (stop, running) = ground.manager();
    ground.create("early", json!({ "fleet": "unborn" })).await;
    let waits = |found: Option<&BackupExecution>| {
        found.is_some_and(|it| it.status.is_some() && reason(it, "Ready") == "FleetNotFound")
    };
    ground
        .member()
        .wait_for(&ground.executions(), "early", waits)
        .await
        .unwrap();
    // It becomes known, and the run begins without being touched.
    ground.membership.enrol("unborn".parse().unwrap(), [cluster("a")]);
    ground.phase("early", ExecutionPhase::Completed).await;

    let hold = json!({ "spec": { "hold": true } });
    let executions = ground.executions();
    executions
        .patch("early", &PatchParams::default(), &Patch::Merge(&hold))
        .await
        .unwrap();
    executions
        .delete("early", &DeleteParams::default())
        .await
        .unwrap();
    let held = |found: Option<&BackupExecution>| found.is_some_and(|it| reason(it, "Ready") == "Held");
    ground
        .member()
        .wait_for(&executions, "early", held)
        .await
        .unwrap();
    let store = StoreAddress::new("memory", "fleet", "a");
    assert_eq!(ground.members.stored(&store).len(), 1);
    let free = json!({ "spec": { "hold": false } });
    executions
        .patch("early", &PatchParams::default(), &Patch::Merge(&free))
        .await
        .unwrap();
    ground.gone("early").await;
    assert!(ground.members.stored(&store).is_empty());

    let schedules = Api::<BackupSchedule>::default_namespaced(ground.client());
    let schedule: BackupSchedule = serde_json::from_value(json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "BackupSchedule", "metadata": { "name": "wrong" },
        "spec": { "schedule": "61 * * * *", "template": { "fleet": "storefront" } },
    }))
    .unwrap();
    schedules.create(&PostParams::default(), &schedule).await.unwrap();
    let told = |found: Option<&BackupSchedule>| {
        let conditions = found
            .and_then(|it| it.status.as_ref())
            .map(|it| it.conditions.as_slice());
        conditions
            .unwrap_or_default()
            .iter()
            .any(|it| it.reason == "InvalidSchedule" && it.message.contains("`61` at byte 0 is no minute"))
    };
    ground.member().wait_for(&schedules, "wrong", told).await.unwrap();
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_planned_first_and_then_gives_back_what_was_there() {
    let ground = Ground::new().await;
    for name in NAMES {
        for object in ["x", "y"] {
            ground.members.put_object(
                &cluster(name),
                json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "namespace": "shop", "name": object }, "data": { "of": name },
                }),
            );
        }
    }
    let before = NAMES.map(|name| ground.members.objects(&cluster(name)));
    let (stop, running) = ground.manager();
    ground.create("now", json!({ "fleet": "storefront" })).await;
    ground.phase("now", ExecutionPhase::Completed).await;
    let kind = ResourceKind::new("v1", "ConfigMap");
    for name in NAMES {
        ground
            .members
            .remove_object(&cluster(name), &kind, &NamespacedName::new("shop", "x"));
    }

    let restores = Api::<RestoreExecution>::default_namespaced(ground.client());
    let mut spec = RestoreExecutionSpec::new("storefront".parse().unwrap(), RestoreSource::execution("now"));
    spec.dry_run = true;
    let restore = RestoreExecution::new("back", spec);
    restores.create(&PostParams::default(), &restore).await.unwrap();
    let in_phase = |phase: RestorePhase| {
        move |found: Option<&RestoreExecution>| {
            found
                .and_then(|it| it.status.as_ref())
                .is_some_and(|status| status.phase == phase)
        }
    };
    let planned = ground
        .member()
        .wait_for(&restores, "back", in_phase(RestorePhase::Planned))
        .await
        .unwrap()
        .unwrap();
    let totals = planned.status.unwrap().totals;
    assert_eq!((totals.create, totals.skip, totals.patch), (3, 3, 0));
    let go = json!({ "spec": { "dryRun": false } });
    restores
        .patch("back", &PatchParams::default(), &Patch::Merge(&go))
        .await
        .unwrap();
    let done = ground
        .member()
        .wait_for(&restores, "back", in_phase(RestorePhase::Completed))
        .await
        .unwrap()
        .unwrap();
    assert!(
        done.status
            .unwrap()
            .clusters
            .iter()
            .all(|entry| entry.missing == Some(0))
    );
    assert_eq!(NAMES.map(|name| ground.members.objects(&cluster(name))), before);

    let spec = RestoreExecutionSpec::new("storefront".parse().unwrap(), RestoreSource::execution("other"));
    let restore = RestoreExecution::new("nothing", spec);
    restores.create(&PostParams::default(), &restore).await.unwrap();
    let refused = |found: Option<&RestoreExecution>| {
        let conditions = found
            .and_then(|it| it.status.as_ref())
            .map(|it| it.conditions.as_slice());
        conditions
            .unwrap_or_default()
            .iter()
            .any(|it| it.reason == "ExecutionNotFound")
    };
    ground
        .member()
        .wait_for(&restores, "nothing", refused)
        .await
        .unwrap();
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_waits_at_its_gates_moves_what_was_there_and_can_go_back() {
    let ground = Ground::new().await;
    // It reads the store that a writes to.
    let spare = cluster("spare");
    ground
        .members
        .add_member_on(&spare, StoreAddress::new("memory", "fleet", "a"));
    ground.membership.join(Registration::new(spare.clone()));
    ground
        .membership
        .enrol("pair".parse().unwrap(), [cluster("a"), spare.clone()]);
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": "shop", "name": "x" }, "data": { "of": "a" },
    });
    ground.members.put_object(&cluster("a"), object);
    let (stop, running) = ground.manager();
    let migrations = Api::<Migration>::default_namespaced(ground.client());
    let is = |phase: MigrationPhase| {
        move |found: Option<&Migration>| {
            let status = found.and_then(|it| it.status.as_ref());
            status.is_some_and(|status| status.phase == phase)
        }
    };
    let create = async |name: &str, gate: &str| {
        let migration: Migration = serde_json::from_value(json!({
            "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "Migration", "metadata": { "name": name },
            "spec": { "fleet": "pair", "from": "a", "to": "spare", "proceedTo": gate },
        }))
        .unwrap();
        migrations
            .create(&PostParams::default(), &migration)
            .await
            .unwrap();
    };
    let set = async |name: &str, spec: Value| {
        let patch = Patch::Merge(json!({ "spec": spec }));
        migrations
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    let reaches = async |name: &str, phase: MigrationPhase| {
        let found = ground.member().wait_for(&migrations, name, is(phase)).await;
        found.unwrap().unwrap()
    };

    create("move", "Plan").await;
    let planned = reaches("move", MigrationPhase::Planned).await;
    let status = planned.status.unwrap();
    assert_eq!(
        (status.planned.unwrap().create, status.target_written),
        (1, false)
    );
    assert!(ground.members.objects(&spare).is_empty(), "a plan writes nothing");
    set("move", json!({ "proceedTo": "Restore" })).await;
    reaches("move", MigrationPhase::Restored).await;
    assert_eq!(
        ground.members.objects(&spare),
        ground.members.objects(&cluster("a"))
    );
    set("move", json!({ "proceedTo": "Finish" })).await;
    reaches("move", MigrationPhase::Completed).await;
    let store = StoreAddress::new("memory", "fleet", "a");
    assert_eq!(ground.members.stored(&store).len(), 1, "its backup is kept");
    let refused = migrations
        .patch(
            "move",
            &PatchParams::default(),
            &Patch::Merge(json!({ "spec": { "to": "b" } })),
        )
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("a migration cannot be changed"),
        "{refused}"
    );

    // Another one is taken back from its plan: its backup goes, and nobody else's.
    create("regretted", "Plan").await;
    reaches("regretted", MigrationPhase::Planned).await;
    assert_eq!(ground.members.stored(&store).len(), 2);
    set("regretted", json!({ "goBack": true })).await;
    let back = reaches("regretted", MigrationPhase::WentBack).await;
    assert!(!back.status.unwrap().target_written);
    assert_eq!(ground.members.stored(&store).len(), 1);
    let restores = Api::<RestoreExecution>::default_namespaced(ground.client());
    assert_eq!(
        restores.list(&ListParams::default()).await.unwrap().items.len(),
        1
    );
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_proves_that_its_backups_restore_and_leaves_no_scratch_namespace() {
    let ground = Ground::new().await;
    for name in NAMES {
        for kind in ["ConfigMap", "Secret", "Service"] {
            ground.members.put_object(
                &cluster(name),
                json!({
                    "apiVersion": "v1", "kind": kind, "metadata": { "namespace": "shop", "name": "x" },
                }),
            );
        }
    }
    let before = NAMES.map(|name| ground.members.objects(&cluster(name)));
    let (stop, running) = ground.manager();
    let schedules = Api::<BackupSchedule>::default_namespaced(ground.client());
    let schedule: BackupSchedule = serde_json::from_value(json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "BackupSchedule", "metadata": { "name": "proven" },
        "spec": {
            "schedule": "@every 8s",
            "template": { "fleet": "storefront", "scope": { "includedNamespaces": ["shop"] } },
            "verification": { "schedule": "@every 12s", "members": 3 },
        },
    }))
    .unwrap();
    schedules.create(&PostParams::default(), &schedule).await.unwrap();
    let condition = |found: &BackupSchedule, reason: &str| {
        let status = found.status.as_ref();
        let conditions = status.map(|it| it.conditions.as_slice()).unwrap_or_default();
        conditions
            .iter()
            .any(|it| it.type_ == "Verified" && it.reason == reason)
    };
    let proven = ground
        .member()
        .wait_for(&schedules, "proven", |found: Option<&BackupSchedule>| {
            found.is_some_and(|it| condition(it, "Verified"))
        })
        .await
        .unwrap()
        .unwrap();
    let verification = proven.status.unwrap().verification.unwrap();
    assert_eq!(verification.members.len(), 3);
    for record in &verification.members {
        assert!(record.is_good() && record.objects == 2, "{record:?}");
    }
    assert!(proven.metadata.finalizers.is_some());
    let journal = ground.members.journal();
    let made = journal
        .iter()
        .filter(|it| it.what.starts_with("make namespace verify-shop-"));
    assert!(made.count() >= 3, "{journal:?}");

    // Whatever is under way when the schedule is deleted is removed first.
    let restores = Api::<RestoreExecution>::default_namespaced(ground.client());
    schedules
        .delete("proven", &DeleteParams::default())
        .await
        .unwrap();
    ground
        .member()
        .wait_for(&schedules, "proven", |found: Option<&BackupSchedule>| {
            found.is_none()
        })
        .await
        .unwrap();
    assert!(
        restores
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    for (name, before) in NAMES.iter().zip(before) {
        assert_eq!(ground.members.objects(&cluster(name)), before);
    }
    stop.send(()).unwrap();
    running.await.unwrap();
}

/// What the server says to a spec, which must not be to its liking.
async fn refused(member: &Member, kind: &str, spec: Value) -> String {
    let object = json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": kind, "metadata": { "name": "refused" }, "spec": spec,
    });
    match member.apply(&object.to_string()).await.unwrap_err() {
        Error::Api { source, .. } => source.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_object_alone_shows_to_be_wrong_is_refused_with_the_reason() {
    let ground = Ground::new().await;
    let policy = |extra: Value| {
        let mut policy = json!({ "fleet": "storefront" });
        policy
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        policy
    };
    for (extra, said) in [
        (
            json!({ "scope": { "includedResources": ["pods"], "includedClusterScopedResources": ["nodes"] } }),
            "a server refuses both together",
        ),
        (
            json!({ "scope": { "labelSelector": {}, "orLabelSelectors": [{}] } }),
            "labelSelector and orLabelSelectors cannot be used together",
        ),
        (
            json!({ "consistency": "Fleet" }),
            "the consistency Fleet needs quiesce.hooks",
        ),
        (
            json!({ "success": { "mode": "Quorum" } }),
            "the mode Quorum needs quorum",
        ),
        (
            json!({ "hooks": [{ "name": "x" }] }),
            "hooks need the consistency Application or Fleet",
        ),
        (json!({ "fleet": "Not_A_Name" }), "spec.policy.fleet"),
    ] {
        let answer = refused(
            ground.member(),
            "BackupExecution",
            json!({ "policy": policy(extra) }),
        )
        .await;
        assert!(answer.contains(said), "{said}: {answer}");
    }
    let answer = refused(
        ground.member(),
        "BackupSchedule",
        json!({ "schedule": "@daily", "retention": {}, "template": policy(json!({})) }),
    )
    .await;
    assert!(answer.contains("say how many runs are kept"), "{answer}");
    for (from, said) in [
        (json!({}), "name either an execution or a schedule"),
        (
            json!({ "execution": "a", "at": "2026-11-23T03:00:00Z" }),
            "a point in time is for a schedule",
        ),
    ] {
        let spec = json!({ "fleet": "storefront", "from": from });
        let answer = refused(ground.member(), "RestoreExecution", spec).await;
        assert!(answer.contains(said), "{said}: {answer}");
    }
    let spec = json!({ "fleet": "storefront", "from": "a", "to": "a" });
    let answer = refused(ground.member(), "Migration", spec).await;
    assert!(answer.contains("from and to are the same member"), "{answer}");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/manifests/backup.yaml");
    let stored = ground
        .member()
        .apply(&std::fs::read_to_string(manifest).unwrap())
        .await
        .unwrap();
    assert_eq!(stored.len(), 4);
    ground.create("record", json!({ "fleet": "storefront" })).await;
    let change = json!({ "spec": { "policy": { "fleet": "other" } } });
    let answer = ground
        .executions()
        .patch("record", &PatchParams::default(), &Patch::Merge(&change))
        .await
        .unwrap_err();
    assert!(answer.to_string().contains("cannot be changed"), "{answer}");
}
