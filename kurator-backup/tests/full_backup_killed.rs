//! The manager is killed with SIGKILL before and after every write to an API server, of the hub and of the members,
//! each time continued by a fresh process: from the schedule over a run at one instant and a restore to the deletion.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "manager_rig/killed.rs"]
mod killed;
mod manager_rig;
mod velero_rig;

use std::{collections::BTreeSet, env, path::Path};

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use kurator_backup::api::{
    BackupSchedule, ClusterPhase, ExecutionPhase, RestoreExecution, RestorePhase, labels,
};
use serde_json::json;
use tokio::time::Instant;

use self::{
    killed::{Goal, Grave},
    manager_rig::{FLEET, Ground, consistent, entry, reason, standstill::Ledger},
    velero_rig::{objects, shop, velero},
};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["--manage", folder, goal, name] => {
            runtime.block_on(killed::manage(Path::new(folder), goal, name));
        }
        _ => runtime.block_on(dies_everywhere()),
    }
}

/// What the server of a member has of ours for this execution.
async fn of_execution(ground: &Ground, member: &str, kind: &str, uid: &str) -> Vec<DynamicObject> {
    let params = ListParams::default().labels(&format!("{}={uid}", labels::EXECUTION_UID));
    velero(ground.member(member), kind)
        .list(&params)
        .await
        .unwrap()
        .items
}

async fn dies_everywhere() {
    let ground = Ground::start(&["east", "west"]).await;
    for member in ground.members() {
        member.apply(&shop("shop", 5)).await.unwrap();
    }
    let mut ledger = Ledger::start(&ground.fleet, &ground.names).await;
    ledger.goes_on(3).await;
    let grave = Grave::in_folder_of(&ground.fleet);
    let began = Instant::now();
    let mut processes = 0;

    // A schedule makes one run and is paused.
    let schedules = Api::<BackupSchedule>::default_namespaced(ground.hub().client().unwrap());
    let schedule: BackupSchedule = serde_json::from_value(json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "BackupSchedule", "metadata": { "name": "often" },
        "spec": { "schedule": "@every 30s", "template": consistent(&["shop", "ledger"]) },
    }))
    .unwrap();
    schedules.create(&PostParams::default(), &schedule).await.unwrap();
    let executions = ground.executions();
    let pause = async {
        let made = |found: Option<&BackupSchedule>| {
            let status = found.and_then(|it| it.status.as_ref());
            status.is_some_and(|status| status.last_scheduled_at.is_some())
        };
        ground.hub().wait_for(&schedules, "often", made).await.unwrap();
        let pause = Patch::Merge(json!({ "spec": { "paused": true } }));
        schedules
            .patch("often", &PatchParams::default(), &pause)
            .await
            .unwrap();
    };
    let (count, ()) = tokio::join!(killed::until_the_end(&grave, Goal::Scheduled, "often"), pause);
    processes += count;
    let runs = executions.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(runs.len(), 1, "one run for one time: {runs:?}");
    let run = runs[0].name_any();

    // The run is carried out at one instant.
    processes += killed::until_the_end(&grave, Goal::Ended, &run).await;
    let ended = ground.ended(&run).await;
    let status = ended.status.as_ref().unwrap();
    assert_eq!(status.phase, ExecutionPhase::Completed, "{status:#?}");
    assert_eq!(reason(&ended, "Consistent"), "Consistent");
    for name in &ground.names {
        let entry = entry(&ended, name);
        assert_eq!(
            (entry.phase, entry.attempt),
            (ClusterPhase::Completed, 1),
            "{entry:?}"
        );
        let backups = of_execution(&ground, name, "Backup", &ended.uid().unwrap()).await;
        let backups = backups.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
        assert_eq!(
            backups,
            [entry.backup.as_ref().unwrap().to_string()],
            "one for each attempt"
        );
    }
    let entries = ground.entries_in(&ended).await;
    assert!(
        entries[1].is_subset(&entries[0]) && entries[0].len() - entries[1].len() <= 1,
        "{entries:?}"
    );
    assert_eq!(ground.holders().await, Vec::<String>::new());
    ledger.goes_on(3).await;

    // Two more die where the first did not get to: they say in Events what it was killed before.
    for again in ["again", "once-more"] {
        ground.create(again, consistent(&["shop", "ledger"])).await;
        processes += killed::until_the_end(&grave, Goal::Ended, again).await;
        let ended = ground.completed(again).await;
        for name in &ground.names {
            let backups = of_execution(&ground, name, "Backup", &ended.uid().unwrap()).await;
            assert_eq!(backups.len() as u32, entry(&ended, name).attempt);
        }
        assert_eq!(ground.holders().await, Vec::<String>::new());
    }

    // It is restored under another name.
    let restore: RestoreExecution = serde_json::from_value(json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "RestoreExecution", "metadata": { "name": "back" },
        "spec": {
            "fleet": FLEET,
            "from": { "schedule": "often" },
            "scope": { "includedNamespaces": ["shop"] },
            "namespaceMapping": { "shop": "copy" },
        },
    }))
    .unwrap();
    ground
        .restores()
        .create(&PostParams::default(), &restore)
        .await
        .unwrap();
    processes += killed::until_the_end(&grave, Goal::Restored, "back").await;
    let restored = ground.restores().get("back").await.unwrap();
    let status = restored.status.as_ref().unwrap();
    assert_eq!(status.phase, RestorePhase::Completed, "{status:#?}");
    for name in &ground.names {
        let restores = of_execution(&ground, name, "Restore", &restored.uid().unwrap()).await;
        assert_eq!(restores.len(), 1, "{name}: {restores:?}");
        let member = ground.member(name);
        assert_eq!(objects(member, "copy").await, objects(member, "shop").await);
    }

    // It is deleted with all it has in the store.
    executions.delete(&run, &DeleteParams::default()).await.unwrap();
    processes += killed::until_the_end(&grave, Goal::Gone, &run).await;
    for name in &ground.names {
        assert_eq!(ground.stored(entry(&ended, name)), Vec::<String>::new());
        let backups = of_execution(&ground, name, "Backup", &ended.uid().unwrap()).await;
        assert!(backups.is_empty(), "{name}: {backups:?}");
    }

    let deaths = grave.deaths();
    println!(
        "{} boundaries of writes, a SIGKILL at each, {processes} processes, {:.1} s",
        deaths.len(),
        began.elapsed().as_secs_f64(),
    );
    assert!(killed::each_once(&deaths), "{deaths:#?}");
    assert_eq!(processes, deaths.len() + 6, "{deaths:#?}");
    for write in [
        "POST hub/apis/backup.kurator.dev/v1alpha1/namespaces/default/backupexecutions ",
        "PATCH hub/apis/backup.kurator.dev/v1alpha1/namespaces/default/backupexecutions/",
        "PUT hub/apis/backup.kurator.dev/v1alpha1/namespaces/default/backupexecutions/",
        "PUT hub/apis/backup.kurator.dev/v1alpha1/namespaces/default/backupschedules/",
        "PUT hub/apis/backup.kurator.dev/v1alpha1/namespaces/default/restoreexecutions/",
        "POST hub/apis/events.k8s.io/v1/namespaces/default/events ",
        "POST east/apis/coordination.k8s.io/v1/namespaces/default/leases ",
        "DELETE east/apis/coordination.k8s.io/v1/namespaces/default/leases/",
        "POST east/apis/velero.io/v1/namespaces/velero/backups ",
        "POST east/apis/velero.io/v1/namespaces/velero/restores ",
        "POST east/apis/velero.io/v1/namespaces/velero/deletebackuprequests ",
    ] {
        let west = write.replace(" east/", " west/");
        for (when, write) in ["before", "after"]
            .iter()
            .flat_map(|when| [(when, write), (when, &west)])
        {
            let boundary = format!("{when} {write}");
            let died = deaths.iter().any(|death| death.starts_with(&boundary));
            assert!(died, "nobody died {boundary}: {deaths:#?}");
        }
    }
    // A status or an Event that was not written may be another one the next time, and the rest comes again.
    let comes_again = |write: &&str| {
        !["/status ", "/events ", "/serverstatusrequests"]
            .iter()
            .any(|it| write.contains(it))
    };
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) =
        (written(&deaths, "before "), written(&deaths, "after "));
    assert_eq!(
        before.iter().filter(|it| comes_again(it)).collect::<Vec<_>>(),
        after.iter().filter(|it| comes_again(it)).collect::<Vec<_>>(),
    );
}

fn written<'a>(deaths: &'a [String], when: &str) -> BTreeSet<&'a str> {
    deaths
        .iter()
        .filter_map(|death| death.strip_prefix(when))
        .collect()
}
