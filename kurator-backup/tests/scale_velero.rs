//! Ten members of 500 objects each, backed up and restored at once on real Velero servers.
//!
//! `cargo test --release -p kurator-backup --all-features --test scale_velero -- --nocapture`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod velero_rig;

use std::time::Duration;

use futures::{StreamExt, future::join_all, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use kurator_backup::driver::{BackupDriver, Phase, RestoreRequest};
use kurator_envtest::{Fleet, Member, MemberSpec, Velero};
use tokio::time::Instant;
use velero_rig::{
    backup_ends, backup_name, cluster, driver, objects, owner, request, restore_ends, restore_name, shop,
};

const MEMBERS: usize = 10;
const OBJECTS: usize = 500;

/// So that the namespace holds [`OBJECTS`] objects of five kinds.
async fn fill(member: &Member) {
    member.apply(&shop("shop", 0)).await.unwrap();
    // A ConfigMap for each but the Secret, the Service, the Deployment and the Role.
    let maps = Api::<ConfigMap>::namespaced(member.direct_client().unwrap(), "shop");
    stream::iter(0..OBJECTS - 4)
        .for_each_concurrent(8, async |number| {
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(format!("item-{number}")),
                    ..ObjectMeta::default()
                },
                data: Some([("price".to_owned(), number.to_string())].into()),
                ..ConfigMap::default()
            };
            maps.create(&PostParams::default(), &map).await.unwrap();
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_members_are_backed_up_within_a_minute_and_restored_within_five() {
    let started = Instant::now();
    let fleet = (0..MEMBERS).fold(
        Fleet::builder().patience(Duration::from_secs(300)),
        |fleet, number| {
            let velero = Velero::on("backups").with_prefix(format!("member-{number}"));
            fleet.member(MemberSpec::new(format!("member-{number}")).with_velero(velero))
        },
    );
    let fleet = fleet.start().await.unwrap();
    println!(
        "{MEMBERS} members with Velero started in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let driver = driver(&fleet);
    let members = fleet.members();
    join_all(members.iter().map(fill)).await;

    let started = Instant::now();
    let alone = &members[0];
    driver
        .create_backup(&cluster(alone.name()), &request("alone", &["shop"]))
        .await
        .unwrap();
    assert_eq!(
        backup_ends(&driver, alone.name(), "alone").await.phase,
        Phase::Completed
    );
    let alone = started.elapsed();

    let started = Instant::now();
    let backups = join_all(members.iter().map(async |member| {
        let created = driver
            .create_backup(&cluster(member.name()), &request(member.name(), &["shop"]))
            .await;
        created.unwrap();
        backup_ends(&driver, member.name(), member.name()).await
    }))
    .await;
    let all = started.elapsed();
    for backup in &backups {
        assert_eq!(backup.phase, Phase::Completed, "{backup:?}");
        assert!(backup.progress.unwrap().done > OBJECTS as u64, "{backup:?}");
    }

    let restoring = Instant::now();
    join_all(members.iter().map(async |member| {
        let name = member.name();
        let mut request = RestoreRequest::new(restore_name(name), owner(name), backup_name(name));
        request.namespace_mapping = [("shop".to_owned(), "copy".to_owned())].into();
        driver.create_restore(&cluster(name), &request).await.unwrap();
        let restored = restore_ends(&driver, name, name).await;
        assert_eq!(restored.phase, Phase::Completed, "{restored:?}");
    }))
    .await;
    let restored = restoring.elapsed();
    for member in members {
        let (was, is) = (objects(member, "shop").await, objects(member, "copy").await);
        assert_eq!(was.len(), OBJECTS);
        assert_eq!(is, was, "{}", member.name());
    }
    println!(
        "backup of {MEMBERS} x {OBJECTS} objects: {:.1} s; one member alone: {:.1} s; restore of all: {:.1} s",
        all.as_secs_f64(),
        alone.as_secs_f64(),
        restored.as_secs_f64()
    );
    assert!(all <= Duration::from_secs(60), "{all:?}");
    assert!(restored <= Duration::from_secs(300), "{restored:?}");
}
