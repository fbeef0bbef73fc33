//! Ten members of 500 objects each, backed up at one instant and restored at once: the controllers on a real hub over
//! real Velero servers and a real S3 server.
//!
//! `cargo test -p kurator-backup --all-features --test scale_velero -- --nocapture`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod manager_rig;
mod velero_rig;

use std::time::Duration;

use futures::{StreamExt, future::join_all, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use kurator_backup::{
    api::{RestoreExecution, RestorePhase},
    driver::{BackupDriver, Phase},
};
use kurator_envtest::Member;
use manager_rig::{FLEET, Ground, consistent, reason, standstill::Idle};
use serde_json::json;
use tokio::time::Instant;
use velero_rig::{backup_ends, cluster, objects, request, shop};

const MEMBERS: [&str; 10] = [
    "member-0", "member-1", "member-2", "member-3", "member-4", "member-5", "member-6", "member-7",
    "member-8", "member-9",
];
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

/// How long a run takes from its creation until it has completed.
async fn timed(ground: &Ground, name: &str, clusters: &[&str]) -> Duration {
    let mut policy = consistent(&["shop"]);
    policy["clusters"] = json!({ "names": clusters });
    let began = Instant::now();
    ground.create(name, policy).await;
    let ended = ground.completed(name).await;
    let took = began.elapsed();
    assert_eq!(reason(&ended, "Consistent"), "Consistent", "{name}");
    let status = ended.status.as_ref().unwrap();
    assert_eq!(status.totals.completed as usize, clusters.len());
    assert!(
        status.totals.items > (OBJECTS * clusters.len()) as u64,
        "{status:#?}"
    );
    took
}

/// How long the slowest of ten servers takes when all are asked at once and nothing is coordinated: on a machine with
/// fewer cores than servers they are slower together than alone, whoever asks.
async fn at_once(ground: &Ground) -> Duration {
    let driver = ground.driver();
    let took = join_all(ground.members().map(async |member| {
        let (began, name) = (Instant::now(), member.name());
        let request = request(&format!("plain-{name}"), &["shop"]);
        driver.create_backup(&cluster(name), &request).await.unwrap();
        let ended = backup_ends(&driver, name, request.name.as_str()).await;
        assert_eq!(ended.phase, Phase::Completed, "{ended:?}");
        began.elapsed()
    }));
    took.await.into_iter().max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_members_are_backed_up_at_one_instant_within_a_minute_and_restored_within_five() {
    let started = Instant::now();
    let ground = Ground::start(&MEMBERS).await;
    println!(
        "a hub and {} members with Velero started in {:.1} s",
        MEMBERS.len(),
        started.elapsed().as_secs_f64()
    );
    join_all(ground.members().map(fill)).await;
    let _applications = Idle::start(ground.members());
    let manager = ground.manager();

    let mut alone = Vec::new();
    for name in MEMBERS {
        alone.push((timed(&ground, &format!("alone-{name}"), &[name]).await, name));
    }
    alone.sort();
    let (slowest, slowest_name) = *alone.last().unwrap();
    let uncoordinated = at_once(&ground).await;
    let all = timed(&ground, "all", &MEMBERS).await;
    assert_eq!(ground.holders().await, Vec::<String>::new());

    let restores = ground.restores();
    let restore: RestoreExecution = serde_json::from_value(json!({
        "apiVersion": "backup.kurator.dev/v1alpha1", "kind": "RestoreExecution", "metadata": { "name": "back" },
        "spec": {
            "fleet": FLEET,
            "from": { "execution": "all" },
            "namespaceMapping": { "shop": "copy" },
        },
    }))
    .unwrap();
    let began = Instant::now();
    restores.create(&PostParams::default(), &restore).await.unwrap();
    let ended = |found: Option<&RestoreExecution>| {
        let status = found.and_then(|it| it.status.as_ref());
        status.is_some_and(|status| status.phase.has_ended())
    };
    let ended = ground.hub().wait_for(&restores, "back", ended).await.unwrap();
    let restored = began.elapsed();
    let status = ended.unwrap().status.unwrap();
    assert_eq!(status.phase, RestorePhase::Completed, "{status:#?}");
    for member in ground.members() {
        let (was, is) = (objects(member, "shop").await, objects(member, "copy").await);
        assert_eq!(was.len(), OBJECTS);
        assert_eq!(is, was, "{}", member.name());
    }
    manager.end().await;
    println!(
        "{} members x {OBJECTS} objects at one instant: {:.1} s; asked at once without any coordination: {:.1} s; each \
         member alone: {:.1} s to {:.1} s ({slowest_name}); restore of all: {:.1} s",
        MEMBERS.len(),
        all.as_secs_f64(),
        uncoordinated.as_secs_f64(),
        alone[0].0.as_secs_f64(),
        slowest.as_secs_f64(),
        restored.as_secs_f64()
    );
    assert!(all <= Duration::from_secs(60), "{all:?}");
    let slowest = slowest.max(uncoordinated);
    assert!(
        all <= slowest + Duration::from_secs(3),
        "{all:?}, the slowest {slowest:?}"
    );
    assert!(restored <= Duration::from_secs(300), "{restored:?}");
}
