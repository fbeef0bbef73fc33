//! The driver on real Velero servers: backups, restores into another cluster, deletion, and servers that die.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod velero_rig;

use std::{fs, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use kurator_backup::{
    driver::{
        BackupDriver, BackupHook, Created, DeletionName, DeletionRequest, DriverError, ExecHook,
        LocationState, Phase, ResourceKind, RestoreRequest,
    },
    velero::preflight,
};
use kurator_core::names::NamespacedName;
use kurator_envtest::{Cut, Fleet, MemberSpec, Nodes, Part, Velero};
use serde_json::{Value, json};
use velero_rig::{
    backup_ends, backup_is, backup_name, cluster, driver, eventually, objects, owner, request, restore_ends,
    restore_name, run_pod, set_phase, shop, syncs, velero,
};

/// So that a server that starts syncs with the store, however short ago it did.
const EAGERLY: Duration = Duration::from_secs(1);

fn now() -> Timestamp {
    // As the members' clocks, which are this machine's.
    kurator_core::clock::Clock::now(&kurator_core::clock::SystemClock::new())
}

#[tokio::test]
async fn backups_of_two_members_are_restored_into_a_third_as_they_were() {
    let of = |prefix: &str| {
        Velero::on("backups")
            .with_prefix(prefix)
            .with_sync_period(EAGERLY)
    };
    let east = MemberSpec::new("east").with_velero(of("east"));
    let west = MemberSpec::new("west").with_velero(of("west"));
    // Reads what east wrote; what west wrote comes by a location of its own, below.
    let spare = MemberSpec::new("spare").with_velero(of("east").read_only());
    let fleet = Fleet::builder()
        .member(east)
        .member(west)
        .member(spare)
        .start()
        .await
        .unwrap();
    let (east, west) = (fleet.member("east").unwrap(), fleet.member("west").unwrap());
    let spare = fleet.member("spare").unwrap();
    let location = velero(west, "BackupStorageLocation")
        .get("default")
        .await
        .unwrap();
    let mut spec = location.data["spec"].clone();
    spec["default"] = json!(false);
    spec["accessMode"] = json!("ReadOnly");
    let of_west = json!({
        "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
        "metadata": {"name": "of-west", "namespace": Velero::NAMESPACE}, "spec": spec,
    });
    spare.apply(&of_west.to_string()).await.unwrap();
    let driver = driver(&fleet);

    for (member, namespace) in [(east, "shop-east"), (west, "shop-west")] {
        member.apply(&shop(namespace, 20)).await.unwrap();
        let facts = driver.facts(&cluster(member.name())).await.unwrap();
        assert_eq!(facts.server_version.as_deref(), Some("v1.18.3"));
        let (_, location) = facts.location(None).unwrap();
        assert!(
            preflight::is_fresh(location, now(), SignedDuration::from_secs(120)),
            "{location:?}"
        );
        let name = format!("of-{}", member.name());
        let request = request(&name, &[namespace]);
        assert_eq!(preflight::backup(&request, &facts), []);
        let created = driver
            .create_backup(&cluster(member.name()), &request)
            .await
            .unwrap();
        assert_eq!(created, Created::New);
        // What a crash between the two would do.
        let again = driver
            .create_backup(&cluster(member.name()), &request)
            .await
            .unwrap();
        assert_eq!(again, Created::Adopted);
        let mut other = request.clone();
        other.owner = owner("somebody else");
        let taken = driver
            .create_backup(&cluster(member.name()), &other)
            .await
            .unwrap_err();
        assert!(matches!(taken, DriverError::NameTaken { .. }), "{taken}");
    }
    for member in [east, west] {
        let name = format!("of-{}", member.name());
        let ended = backup_ends(&driver, member.name(), &name).await;
        assert_eq!(ended.phase, Phase::Completed, "{ended:?}");
        let progress = ended.progress.unwrap();
        assert!(
            progress.done >= 25 && progress.done == progress.total,
            "{progress}"
        );
        let store = fleet.object_store().unwrap();
        let key = format!("{}/backups/{name}/{name}.tar.gz", member.name());
        assert!(fs::metadata(store.file("backups", &key)).unwrap().len() > 1000);

        // What it says is in it is what was there.
        let contents = driver
            .contents(&cluster(member.name()), &backup_name(&name))
            .await
            .unwrap();
        let maps = ResourceKind::new("v1", "ConfigMap");
        let there = driver
            .inventory(&cluster(member.name()), &[maps.clone()].into())
            .await
            .unwrap();
        let namespace = format!("shop-{}", member.name());
        let expected = there[&maps]
            .iter()
            .filter(|object| object.namespace == namespace)
            .collect::<Vec<_>>();
        assert_eq!(contents[&maps].iter().collect::<Vec<_>>(), expected);
    }

    // It syncs when it starts, and each minute.
    spare.restart_velero().await.unwrap();
    for member in [east, west] {
        let name = format!("of-{}", member.name());
        let synced = backup_ends(&driver, "spare", &name).await;
        let facts = driver.facts(&cluster("spare")).await.unwrap();
        let restore = RestoreRequest::new(restore_name(&name), owner(&name), backup_name(&name));
        assert_eq!(preflight::restore(&restore, &facts, synced.location.as_ref()), []);
        assert_eq!(
            driver.create_restore(&cluster("spare"), &restore).await.unwrap(),
            Created::New
        );
        assert_eq!(
            driver.create_restore(&cluster("spare"), &restore).await.unwrap(),
            Created::Adopted
        );
        let restored = restore_ends(&driver, "spare", &name).await;
        assert_eq!(restored.phase, Phase::Completed, "{restored:?}");
        let namespace = format!("shop-{}", member.name());
        let (was, is) = (
            objects(member, &namespace).await,
            objects(spare, &namespace).await,
        );
        assert_eq!(was.len(), 24, "{:?}", was.keys());
        assert_eq!(is, was);
    }

    // Under another name, and changed on the way.
    let mut mapped = RestoreRequest::new(restore_name("mapped"), owner("mapped"), backup_name("of-east"));
    mapped.namespace_mapping = [("shop-east".to_owned(), "copy".to_owned())].into();
    mapped.modifiers = Some(
        "version: v1\nresourceModifierRules:\n- conditions: {groupResource: deployments.apps}\n  mergePatches:\n  \
         - patchData: '{\"spec\": {\"replicas\": 0}}'\n"
            .into(),
    );
    driver.create_restore(&cluster("spare"), &mapped).await.unwrap();
    driver.create_restore(&cluster("spare"), &mapped).await.unwrap();
    let restored = restore_ends(&driver, "spare", "mapped").await;
    assert_eq!(restored.phase, Phase::Completed, "{restored:?}");
    let (was, mut copy) = (objects(spare, "shop-east").await, objects(spare, "copy").await);
    let web = copy.get_mut("apps/Deployment web").unwrap();
    assert_eq!(
        std::mem::replace(&mut web["spec"]["replicas"], json!(3)),
        json!(0)
    );
    assert_eq!(copy, was);

    // A member that is away is that, and the others go on.
    east.link().cut(Cut::Refuse);
    let away = driver
        .create_backup(&cluster("east"), &request("late", &["shop-east"]))
        .await
        .unwrap_err();
    assert!(away.is_transient(), "{away}");
    driver
        .create_backup(&cluster("west"), &request("late", &["shop-west"]))
        .await
        .unwrap();
    assert_eq!(backup_ends(&driver, "west", "late").await.phase, Phase::Completed);
    east.link().heal();
    driver
        .create_backup(&cluster("east"), &request("late", &["shop-east"]))
        .await
        .unwrap();
    assert_eq!(backup_ends(&driver, "east", "late").await.phase, Phase::Completed);
}

#[tokio::test]
async fn a_deleted_backup_is_gone_from_the_store_and_does_not_come_back() {
    let velero_spec = Velero::on("backups")
        .with_prefix("east")
        .with_sync_period(EAGERLY);
    let spec = MemberSpec::new("east").with_velero(velero_spec);
    let fleet = Fleet::builder().member(spec).start().await.unwrap();
    let (east, store) = (fleet.member("east").unwrap(), fleet.object_store().unwrap());
    let driver = driver(&fleet);
    let east_name = cluster("east");
    east.apply(&shop("shop", 5)).await.unwrap();
    for name in ["kept", "gone", "returns"] {
        driver
            .create_backup(&east_name, &request(name, &["shop"]))
            .await
            .unwrap();
        assert_eq!(backup_ends(&driver, "east", name).await.phase, Phase::Completed);
    }
    driver
        .create_restore(
            &east_name,
            &RestoreRequest::new(restore_name("of-gone"), owner("r"), backup_name("gone")),
        )
        .await
        .unwrap();
    restore_ends(&driver, "east", "of-gone").await;
    let deletion = DeletionRequest::new(DeletionName::new("d1").unwrap(), owner("d1"), backup_name("gone"));
    assert_eq!(
        driver.request_deletion(&east_name, &deletion).await.unwrap(),
        Created::New
    );
    eventually("the backup is deleted", async || {
        driver
            .deletion(&east_name, &backup_name("gone"))
            .await
            .unwrap()
            .is_gone()
    })
    .await;
    assert_eq!(
        store.objects("backups", "east/backups/gone").unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(
        store.objects("backups", "east/restores/of-gone").unwrap(),
        Vec::<String>::new()
    );
    assert!(!store.objects("backups", "east/backups/kept").unwrap().is_empty());
    // Of what is gone there is nothing to ask for.
    assert_eq!(
        driver.request_deletion(&east_name, &deletion).await.unwrap(),
        Created::Adopted
    );
    assert!(
        driver
            .deletion(&east_name, &backup_name("gone"))
            .await
            .unwrap()
            .errors
            .is_empty()
    );

    // The counter-example: deleted as an object only, it returns with the first sync.
    velero(east, "Backup")
        .delete("returns", &DeleteParams::default())
        .await
        .unwrap();
    syncs(east, 3).await;
    let names = driver.backups(&east_name).await.unwrap();
    let names = names
        .iter()
        .map(|backup| backup.name.as_str())
        .collect::<Vec<_>>();
    assert_eq!(names, ["kept", "returns"]);
    assert_eq!(
        store.objects("backups", "east/backups/gone").unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_server_that_is_killed_in_any_phase_leaves_a_backup_with_a_defined_end() {
    let spec = MemberSpec::new("east")
        .with_velero(Velero::on("backups"))
        .with_nodes(Nodes::new(1))
        .with_exec();
    let fleet = Fleet::builder().member(spec).start().await.unwrap();
    let east = fleet.member("east").unwrap();
    let driver = driver(&fleet);
    let east_name = cluster("east");
    east.apply(&shop("shop", 5)).await.unwrap();
    run_pod(east, "shop", "db-0").await;

    // New: it is taken up.
    east.kill(Part::Velero).unwrap();
    driver
        .create_backup(&east_name, &request("new", &["shop"]))
        .await
        .unwrap();
    // ReadyToStart: the server died between taking it out of the queue and beginning. Behind it waits another.
    driver
        .create_backup(&east_name, &request("ready", &["shop"]))
        .await
        .unwrap();
    set_phase(east, "Backup", "ready", "ReadyToStart").await;
    east.restart_velero().await.unwrap();
    // It stays so, and what overlaps with it waits: the stall that a poke cures.
    let behind = backup_is(&driver, "east", "new", |seen| seen.phase == Phase::Queued).await;
    assert_eq!(behind.poked, None);
    assert_eq!(
        driver
            .backup(&east_name, &backup_name("ready"))
            .await
            .unwrap()
            .unwrap()
            .phase,
        Phase::ReadyToStart
    );
    driver
        .poke(&east_name, &backup_name("ready"), "one")
        .await
        .unwrap();
    let cured = backup_ends(&driver, "east", "ready").await;
    assert_eq!(
        (cured.phase, cured.poked.as_deref()),
        (Phase::Completed, Some("one"))
    );
    assert_eq!(backup_ends(&driver, "east", "new").await.phase, Phase::Completed);
    let nothing = driver
        .poke(&east_name, &backup_name("nothing"), "one")
        .await
        .unwrap_err();
    assert!(matches!(nothing, DriverError::NotFound { .. }), "{nothing}");

    // InProgress: failed for good, said at the next start. One that waits behind it is taken up.
    let mut held = request("held", &["shop"]);
    let mut hook = BackupHook::default();
    hook.name = "still".into();
    let wait = "touch reached; while [ ! -e go-on ]; do sleep 0.1; done";
    hook.pre = vec![ExecHook::new(["sh", "-c", wait])];
    hook.pre[0].timeout = Some("10m".parse().unwrap());
    held.hooks = vec![hook];
    driver.create_backup(&east_name, &held).await.unwrap();
    backup_is(&driver, "east", "held", |seen| seen.phase == Phase::InProgress).await;
    driver
        .create_backup(&east_name, &request("behind", &["shop"]))
        .await
        .unwrap();
    driver
        .create_backup(&east_name, &request("unwanted", &["shop"]))
        .await
        .unwrap();
    backup_is(&driver, "east", "behind", |seen| seen.phase == Phase::Queued).await;
    backup_is(&driver, "east", "unwanted", |seen| seen.phase == Phase::Queued).await;
    // Cancelled before its start, as Velero allows it.
    let cancel = DeletionRequest::new(
        DeletionName::new("cancel").unwrap(),
        owner("c"),
        backup_name("unwanted"),
    );
    driver.request_deletion(&east_name, &cancel).await.unwrap();
    eventually("the backup that waits is cancelled", async || {
        driver
            .deletion(&east_name, &backup_name("unwanted"))
            .await
            .unwrap()
            .is_gone()
    })
    .await;
    // The one at work cannot be deleted, and says so.
    let refused = DeletionRequest::new(
        DeletionName::new("refused").unwrap(),
        owner("c"),
        backup_name("held"),
    );
    driver.request_deletion(&east_name, &refused).await.unwrap();
    eventually("the deletion is refused", async || {
        let seen = driver.deletion(&east_name, &backup_name("held")).await.unwrap();
        seen.errors == ["backup is still in progress"] && !seen.pending
    })
    .await;
    east.restart_velero().await.unwrap();
    fs::write(east.exec_folder().join("go-on"), "").unwrap();
    let failed = backup_ends(&driver, "east", "held").await;
    assert_eq!(failed.phase, Phase::Failed);
    assert!(!failed.messages.is_empty(), "{failed:?}");
    assert_eq!(
        backup_ends(&driver, "east", "behind").await.phase,
        Phase::Completed
    );

    // Deleting: a request that was in progress is skipped for a day. Another one works.
    east.kill(Part::Velero).unwrap();
    let lost = DeletionRequest::new(DeletionName::new("lost").unwrap(), owner("l"), backup_name("new"));
    driver.request_deletion(&east_name, &lost).await.unwrap();
    set_phase(east, "DeleteBackupRequest", "lost", "InProgress").await;
    set_phase(east, "Backup", "new", "Deleting").await;
    east.restart_velero().await.unwrap();
    let seen = driver.deletion(&east_name, &backup_name("new")).await.unwrap();
    assert!(seen.pending && seen.backup_present, "{seen:?}");
    let again = DeletionRequest::new(
        DeletionName::new("again").unwrap(),
        owner("l"),
        backup_name("new"),
    );
    driver.request_deletion(&east_name, &again).await.unwrap();
    eventually("the second request deletes", async || {
        driver
            .deletion(&east_name, &backup_name("new"))
            .await
            .unwrap()
            .is_gone()
    })
    .await;

    // A store that is away: seen, and waited for.
    fleet.object_store().unwrap().kill().unwrap();
    east.restart_velero().await.unwrap();
    let facts = driver.facts(&east_name).await.unwrap();
    let (_, location) = facts.location(None).unwrap();
    assert!(
        matches!(location.state, LocationState::Unavailable { .. }),
        "{location:?}"
    );
    let objections = preflight::backup(&request("away", &["shop"]), &facts);
    assert!(objections.iter().all(preflight::Objection::may_pass) && !objections.is_empty());
    driver
        .create_backup(&east_name, &request("away", &["shop"]))
        .await
        .unwrap();
    assert_eq!(
        backup_ends(&driver, "east", "away").await.phase,
        Phase::FailedValidation
    );
}

#[tokio::test]
async fn a_member_without_velero_is_told_from_a_backup_that_is_not_there() {
    let fleet = Fleet::builder().members(["bare"]).start().await.unwrap();
    let driver = driver(&fleet);
    let bare = cluster("bare");
    let missing = driver.facts(&bare).await.unwrap_err();
    assert!(matches!(missing, DriverError::NotInstalled { .. }), "{missing}");
    let missing = driver.backup(&bare, &backup_name("a")).await.unwrap_err();
    assert!(matches!(missing, DriverError::NotInstalled { .. }), "{missing}");
    let missing = driver
        .create_backup(&bare, &request("a", &["shop"]))
        .await
        .unwrap_err();
    assert!(matches!(missing, DriverError::NotInstalled { .. }), "{missing}");

    // What it serves and holds can be said all the same.
    let capabilities = driver.capabilities(&bare).await.unwrap();
    assert_eq!(capabilities.kubernetes_version, "v1.37.2");
    assert!(
        capabilities
            .kinds
            .contains(&ResourceKind::new("apps/v1", "Deployment"))
    );
    let kinds = [
        ResourceKind::new("v1", "Namespace"),
        ResourceKind::new("example.com/v1", "Widget"),
    ];
    let inventory = driver.inventory(&bare, &kinds.into()).await.unwrap();
    assert_eq!(inventory.len(), 1);
    let namespaces = inventory.values().next().unwrap();
    assert!(namespaces.contains(&NamespacedName::cluster_scoped("default")));
}

#[tokio::test]
async fn volume_work_under_way_is_asked_to_stop() {
    let spec = MemberSpec::new("east").with_velero(Velero::on("backups"));
    let fleet = Fleet::builder().member(spec).start().await.unwrap();
    let east = fleet.member("east").unwrap();
    let driver = driver(&fleet);
    let work = |name: &str, phase: &str| {
        json!({
            "apiVersion": "velero.io/v1", "kind": "PodVolumeBackup",
            "metadata": {
                "name": name, "namespace": Velero::NAMESPACE, "labels": {"velero.io/backup-name": "nightly"},
            },
            "spec": {
                "backupStorageLocation": "default", "node": "node-0", "pod": {"name": "db-0", "namespace": "shop"},
                "repoIdentifier": "r", "uploaderType": "kopia", "volume": "data",
            },
            "status": {"phase": phase},
        })
    };
    east.apply(&work("running", "InProgress").to_string())
        .await
        .unwrap();
    east.apply(&work("done", "Completed").to_string()).await.unwrap();
    let asked = driver
        .cancel_volume_work(&cluster("east"), &backup_name("nightly"))
        .await
        .unwrap();
    assert_eq!(asked, 1);
    let cancel = |object: &kube::api::DynamicObject| object.data["spec"]["cancel"] == Value::Bool(true);
    assert!(cancel(
        &velero(east, "PodVolumeBackup").get("running").await.unwrap()
    ));
    assert!(!cancel(
        &velero(east, "PodVolumeBackup").get("done").await.unwrap()
    ));
}
