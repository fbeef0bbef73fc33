//! A gang that waits in one cluster in vain is tried in the next, whole, and is never in two at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kurator::policy::api::{DistributionPolicy, DistributionPolicyStatus, FailoverCause};
use kurator_envtest::{Controllers, MemberSpec, Nodes};
use serde_json::json;
use storefront::{DR, PROD, Storefront, condition, create, deployment, deployments, edit};

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_that_is_pending_too_long_goes_whole_to_the_next_cluster_also_over_a_restart() {
    // Of two clusters with room for it, nobody schedules pods in the one that comes first.
    let member = |name| {
        MemberSpec::new(name)
            .with_controllers(Controllers::Tuned)
            .with_nodes(Nodes::new(2))
    };
    let mut fleet = Storefront::of([member(DR), member(PROD).with_scheduler()]).await;
    let templates: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    let _: Deployment = create(&templates, deployment("train", 4)).await;
    let policy = json!({
        "metadata": { "name": "train" },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment" }],
            "placement": { "gang": { "pendingSeconds": 3 } },
        },
    });
    let _: DistributionPolicy = create(&fleet.policy_api(), policy).await;

    fleet.run();
    fleet.replicas(DR, "train", 4).await;
    // Something in that cluster takes its time to let it go.
    let held = json!({ "metadata": { "finalizers": ["example.com/hold"] } });
    edit(&deployments(fleet.member(DR)), "train", held).await;
    let says = |it: &DistributionPolicyStatus, what: &str| {
        condition(it, "GangsRunning", "False")
            .is_some_and(|(reason, message)| reason == "GangPending" && message.contains(what))
    };
    fleet
        .status("train", "it is pending", |it| says(it, "it is pending"))
        .await;
    let status = fleet
        .status("train", "it is leaving", |it| says(it, "it is not gone yet"))
        .await;
    assert_eq!(status.failovers[0].cause, FailoverCause::GangPending);
    assert_eq!(status.failovers[0].cluster, DR);
    // Whoever comes next waits too, and goes on when it is gone.
    fleet.crash().await;
    fleet.run();
    let told_again = |it: &DistributionPolicyStatus| {
        says(it, "it is not gone yet") && it.clusters.iter().any(|entry| entry.reason == "Removing")
    };
    fleet.status("train", "it is still leaving", told_again).await;
    let elsewhere = deployments(fleet.member(PROD)).get_opt("train").await.unwrap();
    assert!(elsewhere.is_none(), "it would be in two clusters at once");
    let released = json!({ "metadata": { "finalizers": null } });
    edit(&deployments(fleet.member(DR)), "train", released).await;
    fleet.gone(DR, "train").await;
    fleet.replicas(PROD, "train", 4).await;
    let status = fleet
        .status("train", "it runs whole", |it| {
            condition(it, "GangsRunning", "True").is_some()
                && it
                    .totals
                    .as_ref()
                    .is_some_and(|totals| totals.ready_replicas == 4)
        })
        .await;
    assert!(status.failovers.is_empty(), "{:?}", status.failovers);
    fleet.event("Evicted").await;
}
