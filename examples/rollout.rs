//! A change that goes in stages and is approved, and one that comes back: `cargo run --example rollout`
//!
//! Needs nothing but Go, to build the control planes of the test fleet the first time. See `docs/rollout.md`.

mod test_fleet;

use kurator::policy::api::{DistributionPolicy, DistributionPolicyStatus};
use serde_json::json;
use test_fleet::{Outcome, TestFleet, web};

const POLICY: &str = r"
apiVersion: policy.kurator.dev/v1alpha1
kind: DistributionPolicy
metadata: { name: web, namespace: default }
spec:
  resourceSelectors:
    - { apiVersion: apps/v1, kind: Deployment, name: web }
  rollout:
    stages:
      - name: canary
        labelSelector: { matchLabels: { tier: canary } }
      - name: rest
        maxConcurrency: 100%
        approval: true
";

fn stands(status: &DistributionPolicyStatus, reason: &str, before: &str) -> bool {
    let rollout = status.rollout.as_ref();
    rollout.is_some_and(|rollout| rollout.reason == reason && rollout.revision != before)
}

/// Prints which image runs where.
async fn show(fleet: &TestFleet) -> Outcome<()> {
    for member in ["canary", "oslo", "paris"] {
        let found = fleet.deployments(member)?.get_opt("web").await?;
        let pod = found.and_then(|it| it.spec.template.spec);
        let image = pod.and_then(|pod| pod.containers.into_iter().next()?.image);
        println!("  {member} has {}", image.as_deref().unwrap_or("nothing"));
    }
    Ok(())
}

/// Waits for the approval to be asked for, gives it, and waits for the end. Gives the name of the revision.
async fn approved(fleet: &TestFleet, before: &str) -> Outcome<String> {
    let status = fleet
        .until("web", |status| stands(status, "RolloutAwaitingApproval", before))
        .await?;
    let rollout = status.rollout.unwrap_or_default();
    println!("{}", rollout.message);
    show(fleet).await?;
    let annotations = json!({ "policy.kurator.dev/approve": format!("{}/rest", rollout.revision) });
    fleet
        .patch::<DistributionPolicy>("web", json!({ "metadata": { "annotations": annotations } }))
        .await?;
    println!("approved:");
    fleet
        .until("web", |status| stands(status, "RolloutCompleted", before))
        .await?;
    show(fleet).await?;
    Ok(rollout.revision)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let members: [(&str, &[(&str, &str)]); 3] =
        [("canary", &[("tier", "canary")]), ("oslo", &[]), ("paris", &[])];
    let fleet = TestFleet::start(&members).await?;
    fleet.apply(&web(2, "registry.example/web:1")).await?;
    fleet.apply(POLICY).await?;
    let first = approved(&fleet, "").await?;
    fleet.apply(&web(2, "registry.example/web:2")).await?;
    let second = approved(&fleet, &first).await?;

    println!("a change whose pods find no node:");
    let lost = web(2, "registry.example/web:3")
        .replace(r#""containers""#, r#""nodeSelector":{"no":"node"},"containers""#)
        .replace(r#""replicas""#, r#""progressDeadlineSeconds":1,"replicas""#);
    fleet.apply(&lost).await?;
    let status = fleet
        .until("web", |status| stands(status, "RolloutRolledBack", &second))
        .await?;
    println!("{}", status.rollout.unwrap_or_default().message);
    let well =
        |status: &DistributionPolicyStatus| status.clusters.iter().all(|entry| entry.reason == "Applied");
    fleet.until("web", well).await?;
    show(&fleet).await
}
