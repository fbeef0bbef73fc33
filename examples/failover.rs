//! An application leaves a cluster that is tainted and comes home: `cargo run --example failover`
//!
//! Needs nothing but Go, to build the control planes of the test fleet the first time. See `docs/failover.md`.

mod test_fleet;

use kurator::{fleet::api::AttachedCluster, policy::api::DistributionPolicyStatus};
use serde_json::json;
use test_fleet::{Outcome, TestFleet, web};

const POLICY: &str = r"
apiVersion: policy.kurator.dev/v1alpha1
kind: DistributionPolicy
metadata: { name: web, namespace: default }
spec:
  resourceSelectors:
    - { apiVersion: apps/v1, kind: Deployment, name: web }
  placement:
    replicaScheduling:
      replicaDivisionPreference: Weighted
      rebalancing: { maxMovesPercent: 50, stabilizationSeconds: 1 }
  failover:
    cluster: { tolerationSeconds: 60 }
    stabilizationSeconds: 3
";

fn ready(status: &DistributionPolicyStatus, shares: &[(&str, i64)]) -> bool {
    let replicas = |name: &str| {
        let entry = status.clusters.iter().find(|entry| entry.cluster == name);
        entry.map_or(0, |entry| entry.ready_replicas)
    };
    shares.iter().all(|(name, wanted)| replicas(name) == *wanted)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let fleet = TestFleet::start(&[("oslo", &[]), ("paris", &[])]).await?;
    fleet.apply(&web(6, "registry.example/web:1")).await?;
    fleet.apply(POLICY).await?;
    println!("six replicas, divided:");
    fleet
        .until("web", |status| ready(status, &[("oslo", 3), ("paris", 3)]))
        .await?;

    let taint = json!([{ "key": "maintenance", "effect": "NoExecute" }]);
    fleet
        .patch::<AttachedCluster>("paris", json!({ "spec": { "taints": taint } }))
        .await?;
    println!("paris is tainted with maintenance:NoExecute:");
    let status = fleet
        .until("web", |status| ready(status, &[("oslo", 6), ("paris", 0)]))
        .await?;
    for it in &status.failovers {
        println!(
            "  {} {} left {}: {:?} {}",
            it.kind, it.name, it.cluster, it.cause, it.detail
        );
    }

    fleet
        .patch::<AttachedCluster>("paris", json!({ "spec": { "taints": null } }))
        .await?;
    println!("the taint is gone, and three seconds later the replicas come home:");
    fleet
        .until("web", |status| ready(status, &[("oslo", 3), ("paris", 3)]))
        .await?;
    Ok(())
}
