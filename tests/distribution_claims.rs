//! Each object on the hub says which policy has it, and whoever has it by that word keeps it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt, api::DeleteParams};
use kurator::policy::{
    api::DistributionPolicy,
    propagate::{CLAIMED_BY, PolicyKey},
};
use serde_json::json;
use storefront::{DR, PROD, Storefront, create, edit};

/// Waits until the object says that it belongs to this policy, or to none.
async fn claimed_by(fleet: &Storefront, name: &str, policy: Option<&str>) {
    let api: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    let owner = policy.map(|policy| PolicyKey::new("policy.kurator.dev", "default", policy).owner());
    let says = |object: Option<&Deployment>| {
        object.is_some_and(|object| object.annotations().get(CLAIMED_BY) == owner.as_ref())
    };
    let hub = fleet.member("hub");
    tokio::time::timeout(storefront::PATIENCE, hub.wait_for(&api, name, says))
        .await
        .unwrap_or_else(|_| panic!("{name} does not come to be of {policy:?}"))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_says_who_has_it_and_stays_with_whoever_that_is() {
    let mut fleet = Storefront::still().await;
    fleet.another("first", "web", 3).await;
    fleet.replicas(PROD, "web", 3).await;
    claimed_by(&fleet, "web", Some("first")).await;
    let copy = fleet.replicas(DR, "web", 3).await;
    assert_eq!(copy.annotations().get(CLAIMED_BY), None, "it is the hub's");

    // One that takes over says so, and the object follows.
    let selector = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" });
    let urgent = json!({
        "metadata": { "name": "urgent" },
        "spec": {
            "resourceSelectors": [selector], "priority": 10, "preemption": "Always",
            "placement": { "clusterAffinity": { "clusterNames": [PROD] } },
        },
    });
    let _: DistributionPolicy = create(&fleet.policy_api(), urgent).await;
    fleet.gone(DR, "web").await;
    claimed_by(&fleet, "web", Some("urgent")).await;

    // It has it from then on, by the word of the object, when its priority is lowered and over a restart.
    edit(
        &fleet.policy_api(),
        "urgent",
        json!({ "spec": { "priority": 0, "preemption": "Never" } }),
    )
    .await;
    fleet
        .status("urgent", "the change is seen", |it| {
            it.observed_generation == Some(2)
        })
        .await;
    fleet.crash().await;
    fleet.run();
    fleet.another("other", "other", 1).await;
    fleet.replicas(DR, "other", 1).await;
    claimed_by(&fleet, "other", Some("other")).await;
    claimed_by(&fleet, "web", Some("urgent")).await;
    assert!(
        storefront::deployments(fleet.member(DR))
            .get_opt("web")
            .await
            .unwrap()
            .is_none()
    );

    // What somebody writes over it is set right, and with the last policy it goes.
    let api: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    let wrong = json!({ "metadata": { "annotations": { CLAIMED_BY: "nobody" } } });
    edit(&api, "other", wrong).await;
    claimed_by(&fleet, "other", Some("other")).await;
    for policy in ["urgent", "first", "other"] {
        fleet
            .policy_api()
            .delete(policy, &DeleteParams::default())
            .await
            .unwrap();
    }
    for policy in ["urgent", "first", "other"] {
        fleet.policy_gone(policy).await;
    }
    claimed_by(&fleet, "web", None).await;
    claimed_by(&fleet, "other", None).await;
}
