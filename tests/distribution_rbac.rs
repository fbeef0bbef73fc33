//! The controller under exactly the rules of `deploy/rbac`, on the hub and on the members.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use kube::api::DeleteParams;
use storefront::{DR, PROD, Storefront, condition, edit};

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_rules_are_enough() {
    let fleet = Storefront::restricted().await;
    fleet.template(20).await;
    fleet.policies().await;
    fleet.replicas(PROD, "storefront", 18).await;
    fleet.replicas(DR, "storefront", 1).await;
    fleet
        .status("storefront", "both in place", |it| {
            it.totals
                .as_ref()
                .is_some_and(|totals| totals.applied_replicas == 19)
                && condition(it, "Degraded", "False").is_some()
        })
        .await;
    fleet.event("TotalChanged").await;
    // Drift is seen and set back.
    let api = storefront::deployments(fleet.member(PROD));
    edit(
        &api,
        "storefront",
        serde_json::json!({ "spec": { "replicas": 7 } }),
    )
    .await;
    fleet
        .deployment(PROD, "storefront", "set back", |it| {
            it.is_some_and(|it| it.spec.replicas == Some(18) && it.metadata.generation >= Some(3))
        })
        .await;
    fleet
        .policy_api()
        .delete("storefront", &DeleteParams::default())
        .await
        .unwrap();
    fleet.gone(PROD, "storefront").await;
    fleet.gone(DR, "storefront").await;
    fleet.policy_gone("storefront").await;
}
