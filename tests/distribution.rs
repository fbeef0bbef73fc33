//! A manifest as users write it goes in, Deployments with the right replicas come out in two real members, their
//! status comes back, and what changes is followed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{Api, ResourceExt, api::DeleteParams};
use kurator::policy::api::{DistributionPolicy, OverridePolicy, apps};
use serde_json::json;
use storefront::{DR, PROD, Storefront, condition, deployments, edit, entry};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_replicas_become_eighteen_and_one_and_the_broken_total_is_told() {
    let fleet = Storefront::alive().await;
    fleet.template(20).await;
    fleet.policies().await;
    fleet.replicas(PROD, "storefront", 18).await;
    fleet.replicas(DR, "storefront", 1).await;

    let status = fleet
        .status("storefront", "19 ready", |status| {
            status
                .totals
                .as_ref()
                .is_some_and(|totals| totals.ready_replicas == 19)
                && condition(status, "Ready", "True").is_some()
        })
        .await;
    let totals = status.totals.clone().unwrap();
    assert_eq!(
        (
            totals.desired_replicas,
            totals.planned_replicas,
            totals.applied_replicas
        ),
        (20, 20, 19)
    );
    let numbers = |cluster| {
        let entry = entry(&status, cluster).unwrap();
        (
            entry.planned_replicas,
            entry.applied_replicas,
            entry.ready_replicas,
            entry.reason.as_str(),
        )
    };
    assert_eq!(numbers(PROD), (18, 18, 18, "Applied"));
    assert_eq!(numbers(DR), (2, 1, 1, "Applied"));
    let (token, message) = condition(&status, "TotalKept", "False").unwrap();
    assert_eq!(token, "TotalChanged");
    assert!(message.contains("19 of 20") && message.contains(DR), "{message}");
    assert!(condition(&status, "Degraded", "False").is_some());
    assert!(
        status
            .conditions
            .iter()
            .all(|it| it.observed_generation == status.observed_generation)
    );
    let event = fleet.event("TotalChanged").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert!(event.note.unwrap().contains("19 of 20"));

    // Nothing changes here, so nothing is written here: while another policy comes, is carried out and goes, no
    // version moves on any side.
    let versions = async || {
        let policy = fleet.policy_api().get("storefront").await.unwrap();
        let mut versions = vec![policy.resource_version()];
        for member in [PROD, DR] {
            let found = deployments(fleet.member(member)).get("storefront").await.unwrap();
            versions.push(found.resource_version());
        }
        versions
    };
    let before = versions().await;
    fleet.another("fence", "fence", 1).await;
    fleet
        .status("fence", "ready", |it| condition(it, "Ready", "True").is_some())
        .await;
    fleet
        .policy_api()
        .delete("fence", &DeleteParams::default())
        .await
        .unwrap();
    fleet.policy_gone("fence").await;
    assert_eq!(versions().await, before);

    // The end of the policy is the end of what it placed.
    fleet
        .policy_api()
        .delete("storefront", &DeleteParams::default())
        .await
        .unwrap();
    fleet.gone(PROD, "storefront").await;
    fleet.gone(DR, "storefront").await;
    fleet.policy_gone("storefront").await;
    let template: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    assert_eq!(template.get("storefront").await.unwrap().spec.replicas, Some(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_template_policy_and_override_are_followed_and_drift_is_set_back() {
    let fleet = Storefront::still().await;
    fleet.template(20).await;
    fleet.policies().await;
    fleet.replicas(PROD, "storefront", 18).await;
    fleet.replicas(DR, "storefront", 1).await;

    // The template.
    fleet.template(30).await;
    fleet.replicas(PROD, "storefront", 27).await;
    // The override.
    let overrides: Api<OverridePolicy> = Api::namespaced(fleet.hub.clone(), "default");
    overrides
        .delete("storefront-dr", &DeleteParams::default())
        .await
        .unwrap();
    fleet.replicas(DR, "storefront", 3).await;
    fleet
        .status("storefront", "total kept", |status| {
            condition(status, "TotalKept", "True").is_some()
                && status
                    .totals
                    .as_ref()
                    .is_some_and(|totals| totals.applied_replicas == 30)
        })
        .await;
    // The policy.
    let weights = json!([
        { "targetCluster": { "clusterNames": [PROD] }, "weight": 2 },
        { "targetCluster": { "clusterNames": [DR] }, "weight": 1 },
    ]);
    let patch = json!({ "spec": { "placement": { "replicaScheduling": { "weightPreference": { "staticWeightList": weights } } } } });
    edit(&fleet.policy_api(), "storefront", patch).await;
    fleet.replicas(PROD, "storefront", 20).await;
    fleet.replicas(DR, "storefront", 10).await;
    // Drift: a changed field, and an object that is gone.
    edit(
        &deployments(fleet.member(PROD)),
        "storefront",
        json!({ "spec": { "replicas": 7 } }),
    )
    .await;
    fleet
        .deployment(PROD, "storefront", "set back", |it| {
            it.is_some_and(|it| it.spec.replicas == Some(20) && it.metadata.generation >= Some(4))
        })
        .await;
    let uid = fleet.replicas(DR, "storefront", 10).await.uid();
    deployments(fleet.member(DR))
        .delete("storefront", &DeleteParams::default())
        .await
        .unwrap();
    fleet
        .deployment(DR, "storefront", "there again", |it| {
            it.is_some_and(|it| it.uid() != uid)
        })
        .await;
    fleet
        .status("storefront", "drift was set back", |_| {
            fleet.counts.sum("objects_drifted") >= 2.0
        })
        .await;
    // A cluster that leaves the policy is cleaned, and its share goes to who stays.
    edit(
        &fleet.policy_api(),
        "storefront",
        json!({ "spec": { "placement": { "clusterAffinity": { "clusterNames": [PROD] } } } }),
    )
    .await;
    fleet.gone(DR, "storefront").await;
    fleet.replicas(PROD, "storefront", 30).await;
    fleet
        .status("storefront", "one cluster", |status| {
            let prod = entry(status, PROD);
            status.clusters.len() == 1 && prod.is_some_and(|prod| prod.applied_replicas == 30)
        })
        .await;
    // A template that goes takes its copies with it.
    let templates: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    templates
        .delete("storefront", &DeleteParams::default())
        .await
        .unwrap();
    fleet.gone(PROD, "storefront").await;
    fleet
        .status("storefront", "nothing selected", |it| {
            condition(it, "Ready", "False").is_some_and(|(token, _)| token == "NothingSelected")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_crashed_finds_everything_it_had_placed() {
    let mut fleet = Storefront::still().await;
    fleet.template(20).await;
    fleet.policies().await;
    fleet.replicas(PROD, "storefront", 18).await;
    fleet.replicas(DR, "storefront", 1).await;
    fleet.crash().await;
    // While nobody looks: a cluster leaves the policy, and the kind that is selected becomes another.
    let patch = json!({ "spec": {
        "resourceSelectors": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": "settings" }],
        "placement": { "clusterAffinity": { "clusterNames": [PROD] } },
    } });
    edit(&fleet.policy_api(), "storefront", patch).await;
    let settings: Api<ConfigMap> = Api::namespaced(fleet.hub.clone(), "default");
    let map = json!({ "metadata": { "name": "settings" }, "data": { "a": "b" } });
    storefront::create(&settings, map).await;
    fleet.run();
    fleet.gone(DR, "storefront").await;
    fleet.gone(PROD, "storefront").await;
    let copies: Api<ConfigMap> = Api::namespaced(fleet.member(PROD).direct_client().unwrap(), "default");
    fleet
        .member(PROD)
        .wait_for(&copies, "settings", |it: Option<&ConfigMap>| it.is_some())
        .await
        .unwrap();
    let status = fleet
        .status("storefront", "settled", |it| {
            condition(it, "Ready", "True").is_some() && it.clusters.len() == 1
        })
        .await;
    assert_eq!(
        status
            .placed_kinds
            .iter()
            .map(|kind| kind.kind.as_str())
            .collect::<Vec<_>>(),
        ["ConfigMap"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_the_other_group_means_the_same_and_both_groups_respect_each_other() {
    let fleet = Storefront::still().await;
    fleet.template(20).await;
    let others: Api<apps::DistributionPolicy> = Api::namespaced(fleet.hub.clone(), "default");
    let selector = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "storefront" });
    let placement = json!({ "clusterAffinity": { "clusterNames": [PROD] } });
    let policy = json!({
        "metadata": { "name": "first" },
        "spec": { "resourceSelectors": [selector], "placement": placement },
    });
    let _: apps::DistributionPolicy = storefront::create(&others, policy).await;
    fleet.replicas(PROD, "storefront", 20).await;
    // The younger policy of the other group waits, and takes over when the first goes.
    let hub = fleet.member("hub");
    let settled = |policy: Option<&apps::DistributionPolicy>| {
        let status = policy.and_then(|it| it.status.as_ref());
        status.is_some_and(|it| entry(it, PROD).is_some_and(|it| it.applied_replicas == 20))
    };
    hub.wait_for(&others, "first", settled).await.unwrap();
    let second = json!({ "metadata": { "name": "zz-second" }, "spec": { "resourceSelectors": [selector] } });
    let _: DistributionPolicy = storefront::create(&fleet.policy_api(), second).await;
    let status = fleet
        .status("zz-second", "claimed by the other", |it| {
            condition(it, "Ready", "False").is_some_and(|(token, _)| token == "ClaimedByOther")
        })
        .await;
    let (_, message) = condition(&status, "Ready", "False").unwrap();
    assert!(message.contains("apps.kurator.dev"), "{message}");
    others.delete("first", &DeleteParams::default()).await.unwrap();
    fleet.replicas(DR, "storefront", 20).await;
    fleet.replicas(PROD, "storefront", 20).await;
}
