//! The whole way: custom resources on a real hub, the controllers under the rules of `deploy/rbac`, members with real
//! Velero servers, and a real S3 server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod manager_rig;
mod velero_rig;

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use kurator_backup::{
    api::{
        BackupExecution, BackupSchedule, ClusterPhase, ExecutionPhase, Migration, MigrationPhase,
        RestoreExecution, RestorePhase, labels,
    },
    driver::{BackupDriver, Phase},
};
use kurator_envtest::{Controllers, Cut, Delay, Part, Velero};
use manager_rig::{BUCKET, FLEET, Ground, consistent, entry, member, policy, reason, standstill::Ledger};
use serde_json::json;
use tokio::{
    sync::{Mutex, MutexGuard, OnceCell},
    time::Instant,
};
use velero_rig::{backup_is, cluster, eventually, objects, set_phase, shop, syncs, velero};

/// All tests stand on one ground, one after another: some of them kill what others need. It ends with the process.
async fn ground() -> MutexGuard<'static, &'static Ground> {
    let ground = next().await;
    // Of a test that failed.
    ground.members().for_each(|member| member.link().heal());
    ground.fleet.object_store().unwrap().link().heal();
    ground
}

async fn next() -> MutexGuard<'static, &'static Ground> {
    static GROUND: OnceCell<Ground> = OnceCell::const_new();
    static TURN: OnceCell<Mutex<&'static Ground>> = OnceCell::const_new();
    let turn = TURN.get_or_init(|| async {
        let ground = GROUND.get_or_init(|| async {
            let ground = Ground::start(&["east", "north", "west"]).await;
            for (number, member) in ground.members().enumerate() {
                member.apply(&shop("shop", 5 * (number + 1))).await.unwrap();
            }
            ground.member("east").apply(&shop("harbour", 4)).await.unwrap();
            lend(&ground).await;
            ground
        });
        Mutex::new(ground.await)
    });
    turn.await.lock().await
}

/// North may read what east writes.
async fn lend(ground: &Ground) {
    let location = velero(ground.member("east"), "BackupStorageLocation")
        .get(Velero::LOCATION)
        .await
        .unwrap();
    let mut spec = location.data["spec"].clone();
    spec["default"] = json!(false);
    spec["accessMode"] = json!("ReadOnly");
    let of_east = json!({
        "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
        "metadata": { "name": "of-east", "namespace": Velero::NAMESPACE }, "spec": spec,
    });
    ground.member("north").apply(&of_east.to_string()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_at_one_instant_completes_on_every_member_and_no_effect_is_without_its_cause() {
    let ground = ground().await;
    let manager = ground.manager();
    let mut ledger = Ledger::start(&ground.fleet, &ground.names).await;
    ledger.goes_on(3).await;
    ground.create("instant", consistent(&["shop", "ledger"])).await;
    let ended = ground.completed("instant").await;
    assert_eq!(reason(&ended, "Ready"), "Succeeded");
    assert_eq!(reason(&ended, "Consistent"), "Consistent");
    assert_eq!(ended.status.as_ref().unwrap().totals.completed, 3);
    for name in &ground.names {
        let entry = entry(&ended, name);
        assert!(entry.in_cut && entry.attempt == 1, "{entry:?}");
        let backup = entry.backup.as_ref().unwrap();
        let keys = ground.stored(entry);
        let tarball = format!("{name}/backups/{backup}/{backup}.tar.gz");
        assert!(keys.contains(&tarball), "{keys:?}");
    }
    let entries = ground.entries_in(&ended).await;
    let counts = entries.iter().map(BTreeSet::len).collect::<Vec<_>>();
    assert!(counts[2] >= 3, "{counts:?}");
    for pair in entries.windows(2) {
        assert!(
            pair[1].is_subset(&pair[0]),
            "an effect without its cause: {counts:?}"
        );
    }
    assert!(
        counts[0] - counts[2] <= 1,
        "not all held still before the first was read: {counts:?}"
    );
    assert_eq!(ground.holders().await, Vec::<String>::new());
    ledger.goes_on(3).await;
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_down_holds_up_nobody_and_is_backed_up_when_it_returns_in_time() {
    let ground = ground().await;
    let manager = ground.manager();
    let west = ground.member("west");
    west.link().cut(Cut::Refuse);
    let mut enough = policy(&["shop"]);
    enough["success"] = json!({ "mode": "Quorum", "quorum": 2 });
    enough["limits"]["deadline"] = json!("20s");
    ground.create("enough", enough).await;
    // Two were enough, and the third did not return in time: the status says who, and what was in the way.
    let enough = ground.completed("enough").await;
    assert_eq!(enough.status.as_ref().unwrap().totals.completed, 2);
    let away = entry(&enough, "west");
    assert_eq!(
        (away.phase, away.reason.as_str()),
        (ClusterPhase::Failed, "DeadlineExceeded")
    );
    assert!(away.message.contains("MemberUnreachable"), "{away:?}");

    ground.create("patient", policy(&["shop"])).await;
    let waiting = ground
        .until("patient", |status| {
            let completed = |name: &str| {
                let entry = status.clusters.iter().find(|it| it.cluster.as_str() == name);
                entry.is_some_and(|entry| entry.phase == ClusterPhase::Completed)
            };
            completed("east") && completed("north")
        })
        .await;
    let status = waiting.status.as_ref().unwrap();
    assert_eq!(status.phase, ExecutionPhase::InProgress);
    let away = entry(&waiting, "west");
    assert_eq!(
        (away.phase, away.attempt, away.reason.as_str()),
        (ClusterPhase::Waiting, 0, "MemberUnreachable"),
        "{away:?}"
    );
    assert!(
        away.message.contains("west") && away.retry_at.is_some(),
        "{away:?}"
    );

    west.link().heal();
    let ended = ground.completed("patient").await;
    assert_eq!(ended.status.as_ref().unwrap().totals.completed, 3);
    assert_eq!(entry(&ended, "west").attempt, 1);
    assert!(!ground.stored(entry(&ended, "west")).is_empty());
    let driver = ground.driver();
    for name in &ground.names {
        let of_run = driver.backups(&cluster(name)).await.unwrap();
        let uid = ended.uid().unwrap();
        let of_run = of_run
            .iter()
            .filter(|backup| backup.labels.get(labels::EXECUTION_UID) == Some(&uid));
        assert_eq!(of_run.count(), 1, "{name}");
    }
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_execution_empties_the_store_and_its_backups_do_not_come_back() {
    let ground = ground().await;
    let manager = ground.manager();
    ground.create("kept", policy(&["shop"])).await;
    let kept = ground.completed("kept").await;
    ground.create("gone", policy(&["shop"])).await;
    let gone = ground.completed("gone").await;
    for name in &ground.names {
        assert!(!ground.stored(entry(&gone, name)).is_empty(), "{name}");
    }
    // A copy, so to say, on a cluster that reads the same prefix.
    let copied = entry(&gone, "east").backup.clone().unwrap();
    syncs(ground.member("north"), 1).await;
    let driver = ground.driver();
    backup_is(&driver, "north", copied.as_str(), |seen| {
        seen.phase == Phase::Completed
    })
    .await;

    ground.delete("gone").await;
    for name in &ground.names {
        assert_eq!(ground.stored(entry(&gone, name)), Vec::<String>::new());
    }
    // Servers look at the store when they start, and each minute.
    join_all(ground.members().map(|member| syncs(member, 3))).await;
    for name in &ground.names {
        assert_eq!(ground.stored(entry(&gone, name)), Vec::<String>::new());
        let backup = entry(&gone, name).backup.clone().unwrap();
        let seen = driver.deletion(&cluster(name), &backup).await.unwrap();
        assert!(seen.is_gone(), "{name}: {seen:?}");
        assert!(!ground.stored(entry(&kept, name)).is_empty());
        let backup = entry(&kept, name).backup.clone().unwrap();
        let seen = driver.backup(&cluster(name), &backup).await.unwrap();
        assert_eq!(seen.unwrap().phase, Phase::Completed);
    }
    eventually("the copy goes too", async || {
        driver.backup(&cluster("north"), &copied).await.unwrap().is_none()
    })
    .await;
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_into_another_cluster_gives_back_what_was_there_object_by_object() {
    let ground = ground().await;
    let manager = ground.manager();
    let (east, north) = (ground.member("east"), ground.member("north"));
    let mut with_harbour = policy(&["shop"]);
    with_harbour["overrides"] = json!([{
        "clusters": { "names": ["east"] },
        "scope": { "includedNamespaces": ["shop", "harbour"] },
    }]);
    ground.create("source", with_harbour).await;
    ground.completed("source").await;
    let restores = ground.restores();
    let restore: RestoreExecution = serde_json::from_value(json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "RestoreExecution", "metadata": { "name": "moved" },
        "spec": {
            "fleet": FLEET,
            "from": { "execution": "source" },
            "clusters": { "names": ["east"] },
            "targets": [{ "from": "east", "to": "north" }],
            "namespaceMapping": { "shop": "shop-of-east" },
            "dryRun": true,
            "limits": { "firstBackoff": "1s", "longestBackoff": "2s" },
        },
    }))
    .unwrap();
    restores.create(&PostParams::default(), &restore).await.unwrap();
    let phase_is = |phase: RestorePhase| {
        move |found: Option<&RestoreExecution>| {
            let status = found.and_then(|it| it.status.as_ref());
            status.is_some_and(|status| status.phase == phase)
        }
    };
    // It waits until the server of the target has found the backup, which it does when it starts, and each minute.
    let not_there_yet = |found: Option<&RestoreExecution>| {
        let status = found.and_then(|it| it.status.as_ref());
        status.is_some_and(|status| {
            status.phase == RestorePhase::Planned || status.clusters[0].reason == "BackupNotSynced"
        })
    };
    ground
        .hub()
        .wait_for(&restores, "moved", not_there_yet)
        .await
        .unwrap();
    north.restart_velero().await.unwrap();
    let planned = ground
        .hub()
        .wait_for(&restores, "moved", phase_is(RestorePhase::Planned))
        .await
        .unwrap()
        .unwrap();
    // Two namespaces with a Secret, a Service, a Deployment and a Role each, five and four ConfigMaps.
    let totals = planned.status.unwrap().totals;
    assert_eq!((totals.skip, totals.patch), (0, 0), "{totals:?}");
    assert!(totals.create >= 2 * 5 + 5 + 4, "{totals:?}");
    for namespace in ["shop-of-east", "harbour"] {
        assert!(
            objects(north, namespace).await.is_empty(),
            "a plan writes nothing"
        );
    }
    let go = Patch::Merge(json!({ "spec": { "dryRun": false } }));
    restores
        .patch("moved", &PatchParams::default(), &go)
        .await
        .unwrap();
    let ended = |found: Option<&RestoreExecution>| {
        let status = found.and_then(|it| it.status.as_ref());
        status.is_some_and(|status| status.phase.has_ended())
    };
    let ended = ground.hub().wait_for(&restores, "moved", ended).await.unwrap();
    let status = ended.unwrap().status.unwrap();
    assert_eq!(status.phase, RestorePhase::Completed, "{status:#?}");
    assert_eq!(
        (status.clusters[0].reason.as_str(), status.clusters[0].missing),
        ("Verified", Some(0))
    );
    for (was, is) in [("shop", "shop-of-east"), ("harbour", "harbour")] {
        let (was, is) = (objects(east, was).await, objects(north, is).await);
        assert!(was.len() >= 4 + 4, "{:?}", was.keys());
        assert_eq!(is, was);
    }
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_planned_moves_what_was_there_and_takes_its_backup_back() {
    let ground = ground().await;
    let manager = ground.manager();
    let (east, north) = (ground.member("east"), ground.member("north"));
    let migrations = Api::<Migration>::default_namespaced(ground.hub().client().unwrap());
    let migration: Migration = serde_json::from_value(json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "Migration", "metadata": { "name": "move" },
        "spec": {
            "fleet": FLEET, "from": "east", "to": "north",
            "backup": { "scope": { "includedNamespaces": ["harbour"] } },
            "restore": { "namespaceMapping": { "harbour": "harbour-moved" } },
            "limits": { "firstBackoff": "1s", "longestBackoff": "2s" },
        },
    }))
    .unwrap();
    let made = migrations
        .create(&PostParams::default(), &migration)
        .await
        .unwrap();
    let params = ListParams::default().labels(&format!("{}={}", labels::MIGRATION, made.uid().unwrap()));
    let reaches = async |phase: MigrationPhase| {
        let is = move |found: Option<&Migration>| {
            let status = found.and_then(|it| it.status.as_ref());
            status.is_some_and(|status| status.phase == phase)
        };
        match ground.hub().wait_for(&migrations, "move", is).await {
            Ok(found) => found.unwrap(),
            Err(error) => panic!("{error}: {:#?}", migrations.get_status("move").await),
        }
    };
    let set = async |spec: serde_json::Value| {
        let patch = Patch::Merge(json!({ "spec": spec }));
        migrations
            .patch("move", &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    let asked = |found: Option<&Migration>| {
        let status = found.and_then(|it| it.status.as_ref());
        status.is_some_and(|status| status.restore.is_some())
    };
    ground.hub().wait_for(&migrations, "move", asked).await.unwrap();
    // Its server looks for backups of others when it starts, and each minute.
    north.restart_velero().await.unwrap();
    let planned = reaches(MigrationPhase::Planned).await.status.unwrap();
    let totals = planned.planned.unwrap();
    assert!(
        totals.create >= 4 + 4 && totals.skip == 0 && !planned.target_written,
        "{totals:?}"
    );
    assert!(objects(north, "harbour-moved").await.is_empty());
    let executions = ground.executions();
    let backup = executions.list(&params).await.unwrap().items.remove(0);
    assert!(!ground.stored(entry(&backup, "east")).is_empty());

    set(json!({ "proceedTo": "Restore" })).await;
    reaches(MigrationPhase::Restored).await;
    let (was, is) = (
        objects(east, "harbour").await,
        objects(north, "harbour-moved").await,
    );
    assert!(was.len() >= 4 + 4, "{:?}", was.keys());
    assert_eq!(is, was);

    set(json!({ "goBack": true })).await;
    let back = reaches(MigrationPhase::WentBack).await;
    assert!(back.status.unwrap().target_written);
    assert_eq!(ground.stored(entry(&backup, "east")), Vec::<String>::new());
    assert!(executions.list(&params).await.unwrap().items.is_empty());
    assert_eq!(objects(east, "harbour").await, was, "the source is as it was");
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_proven_by_a_restore_aside_in_which_nothing_runs() {
    // The namespace and the quota are the work of a controller manager.
    let east = member("east").with_controllers(Controllers::Tuned);
    let ground = Ground::of([("east", east)]).await;
    let east = ground.member("east");
    let till = r#"
apiVersion: v1
kind: Namespace
metadata: { name: till }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: till, namespace: till }
spec:
  replicas: 3
  selector: { matchLabels: { app: till } }
  template:
    metadata: { labels: { app: till } }
    spec: { containers: [{ name: till, image: till }] }
---
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: agent, namespace: till }
spec:
  selector: { matchLabels: { app: agent } }
  template:
    metadata: { labels: { app: agent } }
    spec: { containers: [{ name: agent, image: agent }] }
---
apiVersion: batch/v1
kind: CronJob
metadata: { name: close, namespace: till }
spec:
  schedule: "0 0 1 1 *"
  jobTemplate: { spec: { template: { spec: { restartPolicy: Never, containers: [{ name: close, image: close }] } } } }
---
apiVersion: v1
kind: Service
metadata: { name: till, namespace: till }
spec: { type: LoadBalancer, selector: { app: till }, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: prices, namespace: till }
data: { tea: "3" }
"#;
    east.apply(till).await.unwrap();
    let manager = ground.manager();
    let schedules = Api::<BackupSchedule>::default_namespaced(ground.hub().client().unwrap());
    let mut template = policy(&["till"]);
    template["clusters"] = json!({ "names": ["east"] });
    let schedule: BackupSchedule = serde_json::from_value(json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "BackupSchedule", "metadata": { "name": "proven" },
        "spec": {
            "schedule": "@every 20s", "retention": { "last": 1 }, "template": template,
            "verification": { "schedule": "@every 10s" },
        },
    }))
    .unwrap();
    schedules.create(&PostParams::default(), &schedule).await.unwrap();
    // While it is there: nothing of it runs, and the API server lets nobody run anything.
    let namespaces = Api::<Namespace>::all(east.client().unwrap());
    let ours = ListParams::default().labels(labels::SCRATCH);
    let deployments = Api::<Deployment>::all(east.client().unwrap());
    let aside = east
        .wait_for_all(
            &deployments,
            &ListParams::default(),
            "the restore aside",
            |found| {
                found
                    .iter()
                    .any(|it| it.namespace().unwrap().starts_with("verify-till-"))
            },
        )
        .await
        .unwrap();
    let aside = aside
        .into_iter()
        .find(|it| it.namespace().unwrap().starts_with("verify-till-"))
        .unwrap();
    assert_eq!(aside.spec.replicas, Some(0));
    let scratch = aside.namespace().unwrap();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "intruder" }, "spec": { "containers": [{ "name": "x", "image": "x" }] },
    }))
    .unwrap();
    let refused = Api::<Pod>::namespaced(east.client().unwrap(), &scratch)
        .create(&PostParams::default(), &pod)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("exceeded quota"), "{refused}");

    let verified = |found: Option<&BackupSchedule>| {
        let status = found.and_then(|it| it.status.as_ref());
        status.is_some_and(|it| {
            it.conditions
                .iter()
                .any(|it| it.type_ == "Verified" && it.reason == "Verified")
        })
    };
    let proven = match ground.hub().wait_for(&schedules, "proven", verified).await {
        Ok(found) => found.unwrap(),
        Err(error) => panic!("{error}: {:#?}", schedules.get_status("proven").await),
    };
    let verification = proven.status.unwrap().verification.unwrap();
    let record = &verification.members[0];
    // Deployment, DaemonSet, CronJob and two ConfigMaps, and the ServiceAccount of the namespace.
    assert!(record.objects >= 6, "{record:?}");
    assert_eq!(
        (record.missing, record.result.as_str()),
        (0, "Verified"),
        "{record:?}"
    );
    println!("verified {} objects in {} s", record.objects, record.seconds);

    schedules
        .delete("proven", &DeleteParams::default())
        .await
        .unwrap();
    let gone = |found: Option<&BackupSchedule>| found.is_none();
    ground.hub().wait_for(&schedules, "proven", gone).await.unwrap();
    assert!(
        namespaces.list(&ours).await.unwrap().items.is_empty(),
        "no scratch namespace is left"
    );
    let till = deployments.list(&ListParams::default()).await.unwrap();
    let till = till.items.iter().find(|it| it.name_any() == "till").unwrap();
    assert_eq!(till.spec.replicas, Some(3), "what was backed up is as it was");
    manager.end().await;
}

/// How long after its server has come back a member may take to its end.
const BOUND: Duration = Duration::from_secs(60);

/// Kills the server of a member as soon as what an execution has there is in this phase.
async fn killed_in(ground: &Ground, member: &str, kind: &str, uid: &str, phase: &str) -> String {
    let member = ground.member(member);
    let api = velero(member, kind);
    let params = ListParams::default().labels(&format!("{}={uid}", labels::EXECUTION_UID));
    let is = |object: &DynamicObject| object.data["status"]["phase"] == phase;
    let reached = member.wait_for_all(&api, &params, phase, |objects| objects.iter().any(|it| is(it)));
    let reached = reached.await.unwrap();
    member.kill(Part::Velero).unwrap();
    let name = reached.iter().find(|it| is(it)).unwrap().name_any();
    let left = api.get(&name).await.unwrap();
    assert!(is(&left), "it was faster than we: {}", left.data["status"]);
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_any_phase_costs_an_attempt_at_most() {
    let turn = ground().await;
    let ground: &Ground = &turn;
    let manager = ground.manager();
    let east = ground.member("east");
    // So that each phase lasts.
    let slow_store = || {
        let store = ground.fleet.object_store().unwrap();
        store.link().delay(Delay::fixed(Duration::from_millis(300)));
        store.link()
    };
    for (phase, attempts) in [
        ("InProgress", 2),
        ("Finalizing", 1),
        ("WaitingForPluginOperations", 1),
    ] {
        let run = format!("killed-{}", phase.to_lowercase());
        let link = slow_store();
        ground.create(&run, policy(&["shop"])).await;
        let uid = ground.executions().get(&run).await.unwrap().uid().unwrap();
        if phase == "WaitingForPluginOperations" {
            // No plug-in here has operations to wait for: what it dies in is the phase after.
            let name = killed_in(ground, "east", "Backup", &uid, "Finalizing").await;
            set_phase(east, "Backup", &name, phase).await;
        } else {
            killed_in(ground, "east", "Backup", &uid, phase).await;
        }
        link.heal();
        east.restart_velero().await.unwrap();
        let back = Instant::now();
        let ended = ground.completed(&run).await;
        let took = back.elapsed();
        println!(
            "killed in {phase}: completed {:.1} s after the server was back",
            took.as_secs_f64()
        );
        assert!(took <= BOUND, "{took:?}");
        assert_eq!(entry(&ended, "east").attempt, attempts, "{phase}");
        assert_eq!(entry(&ended, "west").attempt, 1);
        let driver = ground.driver();
        let backups = driver.backups(&cluster("east")).await.unwrap();
        let mut phases = backups
            .into_iter()
            .filter(|backup| backup.labels.get(labels::EXECUTION_UID) == Some(&uid))
            .map(|backup| backup.phase.to_string())
            .collect::<Vec<_>>();
        phases.sort();
        let expected = ["Completed", "Failed"];
        assert_eq!(phases, expected[..attempts as usize], "{phase}");
        assert!(!ground.stored(entry(&ended, "east")).is_empty());
    }

    let link = slow_store();
    let restore: RestoreExecution = serde_json::from_value(json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "RestoreExecution", "metadata": { "name": "killed" },
        "spec": {
            "fleet": FLEET,
            "from": { "execution": "killed-inprogress" },
            "clusters": { "names": ["east"] },
            "namespaceMapping": { "shop": "again" },
            "limits": { "firstBackoff": "1s", "longestBackoff": "2s" },
        },
    }))
    .unwrap();
    let restores = ground.restores();
    let restore = restores.create(&PostParams::default(), &restore).await.unwrap();
    killed_in(ground, "east", "Restore", &restore.uid().unwrap(), "InProgress").await;
    link.heal();
    east.restart_velero().await.unwrap();
    let back = Instant::now();
    let ended = |found: Option<&RestoreExecution>| {
        let status = found.and_then(|it| it.status.as_ref());
        status.is_some_and(|status| status.phase.has_ended())
    };
    let ended = ground.hub().wait_for(&restores, "killed", ended).await.unwrap();
    let took = back.elapsed();
    println!(
        "killed in InProgress of a restore: completed {:.1} s after the server was back",
        took.as_secs_f64()
    );
    assert!(took <= BOUND, "{took:?}");
    let status = ended.unwrap().status.unwrap();
    assert_eq!(status.phase, RestorePhase::Completed, "{status:#?}");
    assert_eq!(
        (status.clusters[0].attempt, status.clusters[0].missing),
        (2, Some(0))
    );
    assert_eq!(objects(east, "again").await, objects(east, "shop").await);
    manager.end().await;
}

/// Runs of a schedule, oldest first.
fn by_age(runs: &[&BackupExecution]) -> Vec<BackupExecution> {
    let mut runs = runs.iter().map(|run| (*run).clone()).collect::<Vec<_>>();
    runs.sort_by_key(|run| run.spec.scheduled_at.as_ref().map(|at| at.0));
    runs
}

fn phase(run: &BackupExecution) -> ExecutionPhase {
    run.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_makes_runs_when_they_are_due_and_its_last_good_set_stays_in_the_store() {
    let ground = ground().await;
    let manager = ground.manager();
    let schedules = Api::<BackupSchedule>::default_namespaced(ground.hub().client().unwrap());
    let mut template = policy(&["shop"]);
    template["limits"]["deadline"] = json!("20s");
    let schedule: BackupSchedule = serde_json::from_value(json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "BackupSchedule", "metadata": { "name": "often" },
        "spec": { "schedule": "@every 10s", "retention": { "last": 1 }, "template": template },
    }))
    .unwrap();
    schedules.create(&PostParams::default(), &schedule).await.unwrap();
    let executions = ground.executions();
    let params = ListParams::default().labels(&format!("{}=often", labels::SCHEDULE));
    let good = |run: &&&BackupExecution| phase(run) == ExecutionPhase::Completed;
    let runs = ground
        .hub()
        .wait_for_all(&executions, &params, "a run completes", |runs| {
            runs.iter().filter(good).count() > 0
        });
    let runs = runs.await.unwrap();
    let first = by_age(&runs.iter().collect::<Vec<_>>())
        .into_iter()
        .find(|run| phase(run) == ExecutionPhase::Completed)
        .unwrap();
    assert!(first.name_any().starts_with("often-"), "{}", first.name_any());
    for name in &ground.names {
        assert!(!ground.stored(entry(&first, name)).is_empty(), "{name}");
    }

    // With the next good one it goes, in the store too.
    let runs = ground.hub().wait_for_all(
        &executions,
        &params,
        "a later run takes the place of the first",
        |runs| runs.iter().all(|run| run.uid() != first.uid()) && runs.iter().filter(good).count() > 0,
    );
    let second = runs.await.unwrap();
    let second = second.iter().find(|run| good(&run)).unwrap().clone();
    for name in &ground.names {
        assert_eq!(ground.stored(entry(&first, name)), Vec::<String>::new(), "{name}");
    }

    // Nobody can be reached any more: run after run fails, and what was good last stays.
    for member in ground.members() {
        member.link().cut(Cut::Refuse);
    }
    let mut failures = BTreeSet::new();
    let runs = ground
        .hub()
        .wait_for_all(&executions, &params, "two runs fail", |runs| {
            let failed = runs.iter().filter(|run| phase(run) == ExecutionPhase::Failed);
            failures.extend(failed.map(|run| run.name_any()));
            failures.len() >= 2
        });
    runs.await.unwrap();
    let one_failure = |runs: &[&BackupExecution]| {
        let failed = runs.iter().filter(|run| phase(run) == ExecutionPhase::Failed);
        failed.count() == 1
    };
    let runs = ground.hub().wait_for_all(
        &executions,
        &params,
        "retention has deleted a failure",
        one_failure,
    );
    let runs = runs.await.unwrap();
    let last_good = by_age(&runs.iter().collect::<Vec<_>>())
        .into_iter()
        .rfind(|run| phase(run) == ExecutionPhase::Completed)
        .expect("retention deleted the only set that can be restored");
    assert!(last_good.spec.scheduled_at >= second.spec.scheduled_at);
    for name in &ground.names {
        let keys = ground.stored(entry(&last_good, name));
        assert!(
            keys.iter().any(|key| key.ends_with(".tar.gz")),
            "{name}: {keys:?}"
        );
    }

    // With the first good one after that it may go.
    for member in ground.members() {
        member.link().heal();
    }
    let runs = ground
        .hub()
        .wait_for_all(&executions, &params, "the last good run is replaced", |runs| {
            runs.iter().all(|run| run.uid() != last_good.uid()) && runs.iter().filter(good).count() > 0
        });
    runs.await.unwrap();
    for name in &ground.names {
        assert_eq!(
            ground.stored(entry(&last_good, name)),
            Vec::<String>::new(),
            "{name}"
        );
    }
    let pause = Patch::Merge(json!({ "spec": { "paused": true } }));
    let paused = schedules
        .patch("often", &PatchParams::default(), &pause)
        .await
        .unwrap();
    let settled = |found: Option<&BackupSchedule>| {
        found.and_then(|it| it.status.as_ref()).is_some_and(|status| {
            status.observed_generation == paused.metadata.generation && status.next_at.is_none()
        })
    };
    ground.hub().wait_for(&schedules, "often", settled).await.unwrap();
    let one_good = |runs: &[&BackupExecution]| runs.len() == 1 && runs.iter().all(|run| good(&run));
    ground
        .hub()
        .wait_for_all(
            &executions,
            &params,
            "the newest good run alone is left",
            one_good,
        )
        .await
        .unwrap();
    manager.end().await;
    // All that the store has of scheduled runs is of those that are there.
    let left = executions.list(&params).await.unwrap();
    let of_runs = left.iter().flat_map(|run| &run.status.as_ref().unwrap().clusters);
    let known = of_runs
        .filter_map(|entry| {
            entry
                .backup
                .as_ref()
                .map(|backup| format!("{}/backups/{backup}/", entry.cluster))
        })
        .collect::<Vec<_>>();
    assert!(known.len() >= 3, "{known:?}");
    let store = ground.fleet.object_store().unwrap();
    for prefix in &known {
        assert!(!store.objects(BUCKET, prefix).unwrap().is_empty(), "{prefix}");
    }
}
