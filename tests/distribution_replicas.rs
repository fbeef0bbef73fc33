//! Two replicas of the controller: one works, nothing is written twice, and the other goes on when it is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use std::{fs, path::Path};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde_json::Value;
use storefront::{DR, PROD, Storefront, condition};
use tokio::runtime::Runtime;

/// A replica in a runtime of its own; when this is dropped nothing gets to run any more, as after SIGKILL.
struct Replica(Option<Runtime>);

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn replica(hub: &Client, name: &'static str) -> Replica {
    let runtime = Runtime::new().unwrap();
    let hub = hub.clone();
    runtime.spawn(async move {
        let shards = storefront::shards(&hub, name);
        storefront::distribution(&hub, Some(&shards))
            .run(std::future::pending())
            .await
            .unwrap();
    });
    Replica(Some(runtime))
}

/// How often Deployments of a member were written by the controller, as its API server has it.
fn writes(log: &Path) -> usize {
    let text = fs::read_to_string(log).unwrap();
    let events = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    events
        .filter(|event| event["objectRef"]["resource"] == "deployments" && event["verb"] == "patch")
        .count()
}

async fn settled(fleet: &Storefront, replicas: i64) {
    fleet
        .status("storefront", &format!("{replicas} applied"), |it| {
            it.totals
                .as_ref()
                .is_some_and(|it| it.applied_replicas == replicas)
                && condition(it, "Degraded", "False").is_some()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_write_nothing_twice_and_one_goes_on_when_the_other_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = Storefront::restricted(folder.path()).await;
    let replicas = [
        ("left", replica(&fleet.seen, "left")),
        ("right", replica(&fleet.seen, "right")),
    ];
    fleet.template(20).await;
    fleet.policies().await;
    settled(&fleet, 19).await;
    for count in [30, 40, 50] {
        fleet.template(count).await;
        settled(&fleet, i64::from(count) * 9 / 10 + 1).await;
    }
    let log = |member: &str| folder.path().join(member);
    assert_eq!(writes(&log(PROD)), 4, "created, and changed three times");
    assert_eq!(writes(&log(DR)), 1, "the override keeps it at one");

    let leases: Api<Lease> = Api::namespaced(fleet.hub.clone(), "kurator-system");
    let holder = leases.get("kurator-distribution-shard-0").await.unwrap();
    let holder = holder.spec.unwrap().holder_identity.unwrap();
    let (killed, survivors): (Vec<_>, Vec<_>) = replicas.into_iter().partition(|(name, _)| *name == holder);
    assert_eq!(
        (killed.len(), survivors.len()),
        (1, 1),
        "one of the two holds the lease: {holder}"
    );
    drop(killed);
    fleet.template(60).await;
    settled(&fleet, 55).await;
    assert_eq!(writes(&log(PROD)), 5);
    assert_eq!(writes(&log(DR)), 1);
}
