//! Members shared through Leases of a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use kurator_core::clock::SystemClock;
use kurator_core::multicluster::shard::{ReplicaId, ShardOptions, Shards};
use kurator_envtest::{Cut, Fleet, Member};
use tokio::time::{Instant, timeout};

const LEASE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

fn join(hub: Client, replica: &str) -> Shards {
    let options = ShardOptions::default().with_shards(4).with_lease_seconds(3);
    Shards::join(
        hub,
        "default",
        "test",
        ReplicaId::new(replica),
        options,
        SystemClock::new(),
    )
    .unwrap()
}

/// A client as a connector makes them for Leases: through the link, without retries of its own.
fn client(hub: &Member) -> Client {
    let mut config = hub.config();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

async fn owns(shards: &Shards, count: usize) {
    let mut owned = shards.owned();
    timeout(PATIENCE, owned.wait_for(|owned| owned.iter().count() == count))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_cannot_renew_stops_before_another_starts() {
    let fleet = Fleet::builder().members(["hub"]).start().await.unwrap();
    let hub = fleet.member("hub").unwrap();
    let first = join(client(hub), "first");
    owns(&first, 4).await;
    let before = first.owned().borrow().fence("member").unwrap();
    assert!(before.holds());

    hub.link().cut(Cut::Refuse);
    let cut = Instant::now();
    let second = join(hub.direct_client().unwrap(), "second");
    let mut owned = second.owned();
    let stopped = async {
        before.revoked().await;
        cut.elapsed()
    };
    let started = async {
        let fence = owned
            .wait_for(|owned| owned.fence("member").is_some())
            .await
            .unwrap()
            .fence("member")
            .unwrap();
        assert!(!before.holds(), "the first still held when the second began");
        assert!(fence.holds() && fence.epoch() > before.epoch());
        cut.elapsed()
    };
    let (stopped, started) = timeout(PATIENCE, async { tokio::join!(stopped, started) })
        .await
        .unwrap();
    println!("the owner stopped after {stopped:?}, the next began after {started:?}, lease {LEASE:?}");
    assert!(stopped < started && stopped <= LEASE);

    hub.link().heal();
    owns(&first, 2).await;
    owns(&second, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_ends_in_an_orderly_way_hands_over_at_once_and_leaves_nothing_behind() {
    let fleet = Fleet::builder().members(["hub"]).start().await.unwrap();
    let hub = fleet.member("hub").unwrap();
    let (first, second) = (join(client(hub), "first"), join(client(hub), "second"));
    owns(&first, 2).await;
    owns(&second, 2).await;
    let start = Instant::now();
    first.close().await;
    owns(&second, 4).await;
    assert!(
        start.elapsed() < LEASE,
        "handed over after {:?}, without waiting for a lease to run out",
        start.elapsed()
    );
    second.close().await;
    let leases: Api<Lease> = Api::namespaced(hub.direct_client().unwrap(), "default");
    let left = leases
        .list(&ListParams::default().labels("multicluster.kurator.dev/controller=test"))
        .await
        .unwrap();
    let holders: BTreeMap<String, Option<String>> = left
        .items
        .into_iter()
        .map(|lease| (lease.name_any(), lease.spec.and_then(|spec| spec.holder_identity)))
        .collect();
    let free: BTreeMap<String, Option<String>> = (0..4)
        .map(|shard| (format!("test-shard-{shard}"), None))
        .collect();
    assert_eq!(
        holders, free,
        "the signs of life are gone, and the shards wait for their next owner"
    );
}
