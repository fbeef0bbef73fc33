//! Before a backup and a restore on real Velero servers: the claims in an archive and their storage classes, and who else
//! writes to a bucket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod velero_rig;

use std::{collections::BTreeMap, time::Duration};

use kube::api::{Api, ApiResource, DynamicObject};
use kurator_backup::{
    api::labels,
    driver::{BackupDriver, ClaimedClass, Phase, ResourceKind, RestoreRequest},
    run::RunId,
    testing::{DriverGround, check_driver},
};
use kurator_core::names::NamespacedName;
use kurator_envtest::{Cut, Fleet, MemberSpec, Velero};
use serde_json::json;
use velero_rig::{
    backup_ends, backup_name, cluster, driver, eventually, owner, request, restore_ends, restore_name, shop,
};

fn objects() -> String {
    let claim = |name: &str, class: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "bank"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        })
    };
    let class = |name: &str, default: &str| {
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.org/none",
            "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default}},
        })
    };
    let template = |name: &str, class: &str| {
        json!({
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        })
    };
    [
        class("fast", "false"),
        class("slow", "true"),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bank"}}),
        claim("ledger", "gold"),
        claim("copy", "fast"),
        claim("by-hand", ""),
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "bank"},
            "spec": {
                "serviceName": "db", "replicas": 1, "selector": {"matchLabels": {"app": "db"}},
                "template": {
                    "metadata": {"labels": {"app": "db"}},
                    "spec": {"containers": [{"name": "db", "image": "db"}]},
                },
                "volumeClaimTemplates": [template("data", "fast"), template("log", "gold")],
            },
        }),
    ]
    .map(|object| object.to_string())
    .join("\n---\n")
}

#[tokio::test]
async fn the_claims_of_a_backup_are_told_and_their_storage_classes_replaced_where_they_are_restored() {
    let member = MemberSpec::new("east").with_velero(Velero::on("backups"));
    let fleet = Fleet::builder().member(member).start().await.unwrap();
    let (east, driver) = (fleet.member("east").unwrap(), driver(&fleet));
    east.apply(&objects()).await.unwrap();

    driver
        .create_backup(&cluster("east"), &request("bank", &["bank"]))
        .await
        .unwrap();
    let ended = backup_ends(&driver, "east", "bank").await;
    assert_eq!(ended.phase, Phase::Completed, "{ended:?}");
    let claims = driver
        .claims(&cluster("east"), &backup_name("bank"))
        .await
        .unwrap();
    let named = |name: &str| ClaimedClass::Named(name.to_owned());
    let expected = [
        ("by-hand", ClaimedClass::Fixed),
        ("copy", named("fast")),
        ("ledger", named("gold")),
    ];
    let expected = expected.map(|(name, class)| (NamespacedName::new("bank", name), class));
    assert_eq!(claims, Some(expected.into()));
    let capabilities = driver.capabilities(&cluster("east")).await.unwrap();
    assert_eq!(capabilities.default_storage_class.as_deref(), Some("slow"));
    assert_eq!(capabilities.storage_classes.len(), 2);

    let mut restore = RestoreRequest::new(restore_name("moved"), owner("moved"), backup_name("bank"));
    restore.namespace_mapping = BTreeMap::from([("bank".to_owned(), "moved".to_owned())]);
    restore.storage_classes = BTreeMap::from([("gold".to_owned(), "slow".to_owned())]);
    restore.modifiers = Some(
        "version: v1\nresourceModifierRules:\n- conditions: {groupResource: persistentvolumeclaims}\n  \
         mergePatches: [{patchData: '{\"metadata\": {\"labels\": {\"moved\": \"yes\"}}}'}]"
            .to_owned(),
    );
    driver.create_restore(&cluster("east"), &restore).await.unwrap();
    let ended = restore_ends(&driver, "east", "moved").await;
    assert_eq!((ended.phase, ended.errors), (Phase::Completed, 0));

    let of_kind = |api_version: &str, kind: &str| {
        let kind = ResourceKind::new(api_version, kind);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = kube::core::GroupVersionKind::gvk(group, version, &kind.kind);
        Api::<DynamicObject>::namespaced_with(
            east.direct_client().unwrap(),
            "moved",
            &ApiResource::from_gvk(&gvk),
        )
    };
    let claims = of_kind("v1", "PersistentVolumeClaim");
    for (name, class) in [("ledger", "slow"), ("copy", "fast"), ("by-hand", "")] {
        let found = claims.get(name).await.unwrap();
        assert_eq!(found.data["spec"]["storageClassName"], class, "{name}");
        // The modifiers that were given came too.
        assert_eq!(found.metadata.labels.unwrap()["moved"], "yes", "{name}");
    }
    let set = of_kind("apps/v1", "StatefulSet").get("db").await.unwrap();
    let templates = &set.data["spec"]["volumeClaimTemplates"];
    assert_eq!(templates[0]["spec"]["storageClassName"], "fast");
    assert_eq!(templates[1]["spec"]["storageClassName"], "slow");
}

#[tokio::test]
async fn who_else_writes_to_a_bucket_is_told_by_the_backups_that_come_with_the_sync() {
    let on_one_bucket = || Velero::on("backups").with_sync_period(Duration::from_secs(1));
    let fleet = Fleet::builder()
        .member(MemberSpec::new("east").with_velero(on_one_bucket()))
        .member(MemberSpec::new("west").with_velero(on_one_bucket()))
        .start()
        .await
        .unwrap();
    let driver = driver(&fleet);
    // Each hub calls its fleet and its member as it likes.
    for (member, uid, second) in [("east", "ours", 100), ("west", "theirs", 200)] {
        fleet
            .member(member)
            .unwrap()
            .apply(&shop("shop", 3))
            .await
            .unwrap();
        let at = jiff::Timestamp::from_second(second).unwrap();
        let run = RunId::new("default", uid, uid, at);
        let name = run.backup_name(&cluster(member), 1);
        let mut request = request(name.as_str(), &["shop"]);
        request.labels = BTreeMap::from([
            (labels::FLEET.to_owned(), uid.to_owned()),
            (labels::CLUSTER.to_owned(), member.to_owned()),
        ]);
        driver.create_backup(&cluster(member), &request).await.unwrap();
        let ended = backup_ends(&driver, member, name.as_str()).await;
        assert_eq!(ended.phase, Phase::Completed, "{ended:?}");
    }
    let east = fleet.member("east").unwrap();
    east.restart_velero().await.unwrap();
    eventually("east sees what west wrote", async || {
        let facts = driver.facts(&cluster("east")).await.unwrap();
        let (location, _) = facts.location(None).unwrap();
        let mut writers: Vec<_> = facts
            .writers
            .get(location.as_str())
            .into_iter()
            .flatten()
            .map(|it| (it.fleet.as_str(), it.cluster.as_str(), it.last.as_second()))
            .collect();
        writers.sort_unstable();
        writers == [("ours", "east", 100), ("theirs", "west", 200)]
    })
    .await;
}

#[tokio::test]
async fn the_driver_keeps_the_laws_on_a_real_server() {
    let here = MemberSpec::new("east").with_velero(Velero::on("backups"));
    let fleet = Fleet::builder()
        .member(here)
        .members(["away"])
        .start()
        .await
        .unwrap();
    let east = fleet.member("east").unwrap();
    east.apply(&shop("shop", 3)).await.unwrap();
    east.apply(&objects()).await.unwrap();
    fleet.member("away").unwrap().link().cut(Cut::Refuse);
    let driver = driver(&fleet);
    let (here, away) = (cluster("east"), cluster("away"));
    let ground = DriverGround::new(&driver, &here, "suite").with_unreachable(&away);
    let step = async || tokio::time::sleep(Duration::from_millis(500)).await;
    let laws = check_driver(&ground, step).await;
    assert_eq!(
        laws.map(|laws| laws.len())
            .map_err(|broken| format!("{broken:?}")),
        Ok(9)
    );
}
