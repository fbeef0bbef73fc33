//! Real Velero servers: what they write is in the store, others see it, and they break as they are told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{fs, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
    core::GroupVersionKind,
};
use kurator_envtest::{Error, Fleet, Member, MemberSpec, Nodes, Part, Velero};
use serde_json::{Value, json};

fn velero(member: &Member, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("velero.io", "v1", kind));
    Api::namespaced_with(member.client().unwrap(), Velero::NAMESPACE, &resource)
}

async fn create(member: &Member, kind: &str, name: &str, spec: Value) {
    let object = json!({
        "apiVersion": "velero.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": Velero::NAMESPACE},
        "spec": spec,
    });
    let object = serde_json::from_value::<DynamicObject>(object).unwrap();
    velero(member, kind)
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}

fn phase(object: &DynamicObject) -> &str {
    object.data["status"]["phase"].as_str().unwrap_or_default()
}

async fn reaches(member: &Member, kind: &str, name: &str, wanted: &str) -> DynamicObject {
    let met = |object: Option<&DynamicObject>| object.is_some_and(|object| phase(object) == wanted);
    let reached = member.wait_for(&velero(member, kind), name, met).await;
    reached
        .unwrap_or_else(|error| panic!("{kind} {name}: {error}"))
        .unwrap()
}

/// A phase after which nothing changes any more.
async fn ends(member: &Member, kind: &str, name: &str) -> DynamicObject {
    let ended = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| {
            ["Completed", "PartiallyFailed", "Failed", "FailedValidation"].contains(&phase(object))
        })
    };
    let ended = member.wait_for(&velero(member, kind), name, ended).await;
    ended
        .unwrap_or_else(|error| panic!("{kind} {name}: {error}"))
        .unwrap()
}

const SHOP: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: prices, namespace: shop, labels: {tier: web}}, data: {tea: '3'}}
---
{apiVersion: v1, kind: Secret, metadata: {name: till, namespace: shop}, stringData: {pin: '1234'}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: elsewhere, namespace: default}, data: {not: 'backed up'}}
";

#[tokio::test]
async fn a_backup_is_in_the_store_and_another_member_on_the_bucket_restores_it() {
    let fleet = Fleet::builder()
        .member(MemberSpec::new("east").with_velero(Velero::on("backups").with_prefix("fleet")))
        .member(MemberSpec::new("west").with_velero(Velero::on("backups").with_prefix("fleet").read_only()))
        .start()
        .await
        .unwrap();
    let (east, west) = (fleet.member("east").unwrap(), fleet.member("west").unwrap());
    assert_eq!(east.startup().versions[&Part::Velero], "v1.18.3");
    let store = fleet.object_store().unwrap();
    assert!(store.objects("backups", "").unwrap().is_empty());

    east.apply(SHOP).await.unwrap();
    create(east, "Backup", "first", json!({"includedNamespaces": ["shop"]})).await;
    let backup = ends(east, "Backup", "first").await;
    assert_eq!(phase(&backup), "Completed", "{:#}", backup.data);
    // The files come first, then the phase: they are complete.
    let files = store.objects("backups", "fleet/backups/first/").unwrap();
    assert!(
        files.contains(&"fleet/backups/first/velero-backup.json".to_owned()),
        "{files:?}"
    );
    let archive = store.file("backups", "fleet/backups/first/first.tar.gz");
    assert_eq!(fs::read(archive).unwrap()[..2], [0x1f, 0x8b], "gzip");

    let synced = reaches(west, "Backup", "first", "Completed").await;
    assert_eq!(synced.data["spec"]["storageLocation"], Velero::LOCATION);
    create(west, "Restore", "first", json!({"backupName": "first"})).await;
    let restore = ends(west, "Restore", "first").await;
    assert_eq!(phase(&restore), "Completed", "{:#}", restore.data);
    let client = west.client().unwrap();
    let map = Api::<ConfigMap>::namespaced(client.clone(), "shop")
        .get("prices")
        .await
        .unwrap();
    assert_eq!(map.data.unwrap()["tea"], "3");
    assert_eq!(map.metadata.labels.unwrap()["tier"], "web");
    let secret = Api::<Secret>::namespaced(client.clone(), "shop")
        .get("till")
        .await
        .unwrap();
    assert_eq!(secret.data.unwrap()["pin"].0, b"1234");
    let elsewhere = Api::<ConfigMap>::default_namespaced(client)
        .get_opt("elsewhere")
        .await;
    assert!(elsewhere.unwrap().is_none());

    // Only to be read there.
    create(west, "Backup", "second", json!({})).await;
    assert_eq!(phase(&ends(west, "Backup", "second").await), "FailedValidation");
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "db"}},
        "spec": {"nodeName": "node-0", "containers": [{"name": "db", "image": "db"}]},
    }))
    .unwrap()
}

async fn running_pods(member: &Member, names: &[&str]) {
    let pods = Api::<Pod>::default_namespaced(member.client().unwrap());
    for name in names {
        pods.create(&PostParams::default(), &pod(name)).await.unwrap();
    }
    let running = |pods: &[&Pod]| {
        let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
        pods.len() == names.len() && pods.iter().all(|pod| phase(pod).as_deref() == Some("Running"))
    };
    member
        .wait_for_all(&pods, &ListParams::default(), "the pods run", running)
        .await
        .unwrap();
}

/// A backup of the pods of `default` with a command before and after each.
fn with_hooks(pre: &str, post: &str) -> Value {
    let hook = |command: &str| json!([{"exec": {"command": ["sh", "-c", command], "onError": "Fail", "timeout": "600s"}}]);
    json!({
        "includedNamespaces": ["default"],
        "includedResources": ["pods"],
        "hooks": {"resources": [{
            "name": "still",
            "labelSelector": {"matchLabels": {"app": "db"}},
            "pre": hook(pre),
            "post": hook(post),
        }]},
    })
}

#[tokio::test]
async fn hooks_run_in_pods_and_a_server_killed_among_them_leaves_a_failed_backup() {
    let spec = MemberSpec::new("east")
        .with_velero(Velero::on("backups"))
        .with_nodes(Nodes::new(1))
        .with_exec();
    let fleet = Fleet::builder().member(spec).start().await.unwrap();
    let east = fleet.member("east").unwrap();
    running_pods(east, &["db-0", "db-1"]).await;

    let hooks = with_hooks("echo still >>hooks", "echo on >>hooks");
    create(east, "Backup", "hooked", hooks).await;
    let backup = ends(east, "Backup", "hooked").await;
    assert_eq!(phase(&backup), "Completed", "{:#}", backup.data);
    assert_eq!(backup.data["status"]["hookStatus"]["hooksAttempted"], 4);
    let ran = fs::read_to_string(east.exec_folder().join("hooks")).unwrap();
    assert_eq!(ran, "still\non\nstill\non\n");

    let failing = with_hooks("echo no >&2; exit 7", "true");
    create(east, "Backup", "refused", failing).await;
    assert_eq!(phase(&ends(east, "Backup", "refused").await), "PartiallyFailed");

    // The command says that it runs, then stays until its file is there: so does the backup.
    let waiting = with_hooks("touch reached; while [ ! -e go-on ]; do sleep 0.1; done", "true");
    create(east, "Backup", "killed", waiting).await;
    reaches(east, "Backup", "killed", "InProgress").await;
    east.restart_velero().await.unwrap();
    let killed = ends(east, "Backup", "killed").await;
    assert_eq!(phase(&killed), "Failed", "{:#}", killed.data);
    fs::write(east.exec_folder().join("go-on"), "").unwrap();
    create(
        east,
        "Backup",
        "after",
        json!({"includedNamespaces": ["default"]}),
    )
    .await;
    assert_eq!(phase(&ends(east, "Backup", "after").await), "Completed");
}

#[tokio::test]
async fn a_store_that_is_away_makes_the_location_unavailable_until_it_is_back() {
    let often = Velero::on("backups").with_validation_frequency(Duration::from_secs(1));
    let fleet = Fleet::builder()
        .member(MemberSpec::new("east").with_velero(often))
        .start()
        .await
        .unwrap();
    let east = fleet.member("east").unwrap();
    let store = fleet.object_store().unwrap();

    store.kill().unwrap();
    reaches(east, "BackupStorageLocation", Velero::LOCATION, "Unavailable").await;
    store.restart().await.unwrap();
    reaches(east, "BackupStorageLocation", Velero::LOCATION, "Available").await;

    store.link().cut(kurator_envtest::Cut::Refuse);
    reaches(east, "BackupStorageLocation", Velero::LOCATION, "Unavailable").await;
    store.link().heal();
    reaches(east, "BackupStorageLocation", Velero::LOCATION, "Available").await;
    create(east, "Backup", "last", json!({"includedNamespaces": ["default"]})).await;
    assert_eq!(phase(&ends(east, "Backup", "last").await), "Completed");
}

#[tokio::test]
async fn a_member_with_velero_can_join_later_and_nothing_of_it_stays() {
    let mut fleet = Fleet::builder().members(["hub"]).start().await.unwrap();
    assert!(matches!(fleet.object_store(), Err(Error::NoObjectStore)));
    let spec = MemberSpec::new("late").with_velero(Velero::on("backups"));
    fleet.add(spec).await.unwrap();
    assert!(
        fleet
            .object_store()
            .unwrap()
            .objects("backups", "")
            .unwrap()
            .is_empty()
    );
    let folder = fleet.folder().to_owned();
    if fs::exists("/proc/self/cmdline").unwrap() {
        let running = |program: &str| {
            let processes = processes_of(folder.to_str().unwrap());
            processes.iter().any(|line| line.contains(program))
        };
        assert!(running("versitygw") && running("velero"));
        fleet.remove("late").unwrap();
        assert!(running("versitygw") && !running("/velero "));
    }
    drop(fleet);
    assert!(!folder.exists());
    assert_eq!(processes_of(folder.to_str().unwrap()), Vec::<String>::new());
}

/// Command lines and environments that name the folder: Velero has it in the latter only. Zombies have neither.
fn processes_of(folder: &str) -> Vec<String> {
    let read = |path: std::path::PathBuf| {
        let text = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&text).replace('\0', " ")
    };
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| {
            (
                read(entry.path().join("cmdline")),
                read(entry.path().join("environ")),
            )
        })
        .filter(|(line, environment)| {
            let home = format!("HOME={folder}");
            !line.is_empty() && (line.contains(folder) || environment.contains(&home))
        })
        .map(|(line, _)| line)
        .collect()
}
