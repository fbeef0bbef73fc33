//! Ten members shared by two processes: one is suspended and wakes up late, then one is killed. The witnesses take part in
//! nothing: one watches the Leases, and one on each member watches who writes there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod example;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use kurator::core::multicluster::shard::shard_of;
use kurator_envtest::Fleet;
use replicas::{LEASE, PATIENCE, Replica, create, greeted, holders, observe, write_kubeconfig};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

const MEMBERS: [&str; 10] = ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9"];

/// When somebody wrote to a member, and who.
#[derive(Clone, Debug)]
struct Greeting {
    at: Instant,
    member: &'static str,
    by: String,
}

type Greetings = Arc<Mutex<Vec<Greeting>>>;

/// Notes every greeting on a member.
fn witness(member: &'static str, client: Client, seen: &Greetings) -> tokio::task::JoinHandle<()> {
    let seen = Arc::clone(seen);
    tokio::spawn(async move {
        let maps: Api<ConfigMap> = Api::namespaced(client, "default");
        let config = watcher::Config::default().labels("greet=true");
        let events = watcher(maps, config).default_backoff().applied_objects();
        futures::pin_mut!(events);
        let mut known = BTreeSet::new();
        while let Some(event) = events.next().await {
            let Ok(map) = event else { continue };
            let by = map.data.as_ref().and_then(|data| data.get("by").cloned());
            if let Some(by) = by
                && known.insert(map.name_any())
            {
                let at = Instant::now();
                seen.lock().unwrap().push(Greeting { at, member, by });
            }
        }
    })
}

/// Who held which shard from when on.
type History = Arc<Mutex<Vec<(Instant, BTreeMap<String, String>)>>>;

fn record(mut shards: watch::Receiver<BTreeMap<String, String>>) -> History {
    let history = History::default();
    let written = Arc::clone(&history);
    tokio::spawn(async move {
        loop {
            let now = shards.borrow_and_update().clone();
            written.lock().unwrap().push((Instant::now(), now));
            if shards.changed().await.is_err() {
                return;
            }
        }
    });
    history
}

/// Every greeting is by the one who held the member's shard then, by the Leases. Watches may be behind by a little.
fn check(greetings: &[Greeting], history: &[(Instant, BTreeMap<String, String>)]) {
    const BEHIND: Duration = Duration::from_secs(1);
    for greeting in greetings {
        let shard = format!("greeter-shard-{}", shard_of(greeting.member, 32));
        let from = greeting.at.checked_sub(BEHIND).unwrap();
        let before = history.iter().rposition(|(at, _)| *at <= from).unwrap_or(0);
        let mut around = history[before..]
            .iter()
            .take_while(|(at, _)| *at <= greeting.at + BEHIND);
        assert!(
            around.any(|(_, holders)| holders.get(&shard) == Some(&greeting.by)),
            "{} was written to by {}, which did not hold {shard}",
            greeting.member,
            greeting.by
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_members_never_have_two_owners_while_one_is_suspended_and_one_is_killed() {
    let fleet = Fleet::builder()
        .members(["hub"])
        .members(MEMBERS)
        .patience(Duration::from_secs(300))
        .start()
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let all: Vec<&str> = ["hub"].into_iter().chain(MEMBERS).collect();
    write_kubeconfig(&path, &fleet, &all);
    let kubeconfig = path.to_str().unwrap();
    let clients: BTreeMap<&str, Client> = all
        .iter()
        .map(|name| (*name, fleet.member(name).unwrap().direct_client().unwrap()))
        .collect();
    let (mut shards, observer) = observe(&clients["hub"]);
    let history = record(shards.clone());
    let greetings = Greetings::default();
    let witnesses: Vec<_> = MEMBERS
        .iter()
        .map(|member| witness(member, clients[member].clone(), &greetings))
        .collect();

    let mut first = Replica::start(&[kubeconfig, "hub", "first"]);
    let second = Replica::start(&[kubeconfig, "hub", "second"]);
    let shared = |shards: &BTreeMap<String, String>| {
        shards.len() == 32
            && ["first", "second"]
                .iter()
                .all(|one| shards.values().filter(|it| it == one).count() == 16)
    };
    timeout(PATIENCE, shards.wait_for(shared)).await.unwrap().unwrap();
    greet_everywhere(&clients, "shared").await;
    let owners: BTreeSet<String> = greetings.lock().unwrap().iter().map(|it| it.by.clone()).collect();
    assert_eq!(owners.len(), 2, "both have members: {owners:?}");

    // Suspended, replaced, and awake again: it must not finish what it was about to do.
    second.signal("STOP");
    let all_first = |shards: &BTreeMap<String, String>| {
        shards.len() == 32 && holders(shards) == BTreeSet::from(["first"])
    };
    let stopped = Instant::now();
    timeout(PATIENCE, shards.wait_for(all_first))
        .await
        .unwrap()
        .unwrap();
    println!(
        "taken over {:.1} s after SIGSTOP, lease {} s",
        stopped.elapsed().as_secs_f64(),
        LEASE.as_secs()
    );
    for member in MEMBERS {
        create(&clients[member], "while-suspended").await;
    }
    second.signal("CONT");
    for member in MEMBERS {
        greeted(&clients[member], "while-suspended").await;
    }
    timeout(PATIENCE, shards.wait_for(shared)).await.unwrap().unwrap();
    greet_everywhere(&clients, "shared-again").await;

    first.kill();
    let killed = Instant::now();
    for member in MEMBERS {
        create(&clients[member], "orphaned").await;
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
    for member in MEMBERS {
        greeted(&clients[member], "orphaned").await;
    }
    println!(
        "every member was served again {:.1} s after SIGKILL",
        killed.elapsed().as_secs_f64()
    );

    assert!(
        !observer.is_finished(),
        "nobody ever saw a shard change hands too early"
    );
    assert!(witnesses.iter().all(|witness| !witness.is_finished()));
    let greetings = greetings.lock().unwrap().clone();
    check(&greetings, &history.lock().unwrap());
    println!("{} writes, each by the owner of its member", greetings.len());
}

async fn greet_everywhere(clients: &BTreeMap<&str, Client>, object: &str) {
    for member in MEMBERS {
        create(&clients[member], object).await;
    }
    for member in MEMBERS {
        assert_eq!(greeted(&clients[member], object).await, member);
    }
}
