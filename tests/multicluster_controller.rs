//! The example controller as a user runs it: on members that join and leave, and as two processes of which one dies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod example;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::Client;
use kurator_envtest::Fleet;
use replicas::{LEASE, PATIENCE, Replica, create, greeted, holders, observe, write_kubeconfig};
use tokio::time::{Instant, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_members_and_one_takes_over_when_the_other_is_killed() {
    let members = ["a", "b", "c"];
    let fleet = Fleet::builder()
        .members(["hub"])
        .members(members)
        .start()
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let all = ["hub", "a", "b", "c"];
    write_kubeconfig(&path, &fleet, &all);
    let kubeconfig = path.to_str().unwrap();
    let clients: BTreeMap<&str, Client> = all
        .iter()
        .map(|name| (*name, fleet.member(name).unwrap().direct_client().unwrap()))
        .collect();
    let (mut shards, observer) = observe(&clients["hub"]);

    let mut first = Replica::start(&[kubeconfig, "hub", "first"]);
    timeout(PATIENCE, shards.wait_for(|shards| shards.len() == 32))
        .await
        .unwrap()
        .unwrap();
    let _second = Replica::start(&[kubeconfig, "hub", "second"]);
    let shared = |shards: &BTreeMap<String, String>| {
        shards.len() == 32
            && ["first", "second"]
                .iter()
                .all(|one| shards.values().filter(|it| it == one).count() == 16)
    };
    timeout(PATIENCE, shards.wait_for(shared)).await.unwrap().unwrap();
    for name in all {
        create(&clients[name], "shared").await;
        assert_eq!(greeted(&clients[name], "shared").await, name);
    }

    let killed = Instant::now();
    first.kill();
    for name in all {
        create(&clients[name], "orphaned").await;
    }
    let over = |shards: &BTreeMap<String, String>| {
        shards.len() == 32 && holders(shards) == BTreeSet::from(["second"])
    };
    timeout(PATIENCE, shards.wait_for(over)).await.unwrap().unwrap();
    let taken = killed.elapsed();
    println!(
        "taken over {:.1} s after SIGKILL, lease {} s",
        taken.as_secs_f64(),
        LEASE.as_secs()
    );
    assert!(taken <= LEASE + Duration::from_secs(2), "{taken:?}");
    for name in all {
        assert_eq!(greeted(&clients[name], "orphaned").await, name);
    }

    // A member leaves and another joins while it runs.
    write_kubeconfig(&path, &fleet, &["hub", "a", "b"]);
    create(&clients["a"], "still-here").await;
    assert_eq!(greeted(&clients["a"], "still-here").await, "a");
    write_kubeconfig(&path, &fleet, &all);
    create(&clients["c"], "back-again").await;
    assert_eq!(greeted(&clients["c"], "back-again").await, "c");
    assert!(
        !observer.is_finished(),
        "nobody ever saw a shard change hands too early"
    );
}
