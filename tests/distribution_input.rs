//! Bad input gets a typed reason on what it concerns; nothing is lost, and the rest goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
};
use kurator::policy::api::{DistributionPolicy, OverridePolicy};
use serde_json::{Value, json};
use storefront::{DR, PROD, Storefront, condition, create, deployment, deployments, edit, entry, reason};

/// A policy that gives the Deployment `name` to both members in equal parts.
fn policy(name: &str) -> Value {
    let weight = |cluster: &str, weight: Value| json!({ "targetCluster": { "clusterNames": [cluster] }, "weight": weight });
    json!({
        "metadata": { "name": name },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": name }],
            "placement": {
                "clusterAffinity": { "clusterNames": [PROD, DR] },
                "replicaScheduling": { "weightPreference": { "staticWeightList": [weight(PROD, json!(1)), weight(DR, json!(1))] } },
            },
        },
    })
}

const WEIGHT: &str = "/spec/placement/replicaScheduling/weightPreference/staticWeightList/0/weight";

async fn refused(fleet: &Storefront, object: &Value) -> String {
    let raw: Api<kube::api::DynamicObject> = Api::namespaced_with(
        fleet.hub.clone(),
        "default",
        &<DistributionPolicy as kube::CustomResourceExt>::api_resource(),
    );
    let mut object = object.clone();
    object["apiVersion"] = json!("policy.kurator.dev/v1alpha1");
    object["kind"] = json!("DistributionPolicy");
    let object = serde_json::from_value(object).unwrap();
    raw.create(&PostParams::default(), &object)
        .await
        .unwrap_err()
        .to_string()
}

async fn template(fleet: &Storefront, name: &str, replicas: i32) {
    let api: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    let _: Deployment = create(&api, deployment(name, replicas)).await;
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_policies_and_overrides_get_a_reason_and_the_rest_goes_on() {
    let fleet = Storefront::still().await;

    // Weights that are no weights never get in.
    let mut negative = policy("web");
    *negative.pointer_mut(WEIGHT).unwrap() = json!(-1);
    assert!(refused(&fleet, &negative).await.contains("weight"));
    let mut overflowing = policy("web");
    *overflowing.pointer_mut(WEIGHT).unwrap() = serde_json::from_str("18446744073709551616").unwrap();
    assert!(refused(&fleet, &overflowing).await.contains("weight"));
    // The largest weights there are add up all the same.
    let mut huge = policy("huge");
    *huge.pointer_mut(WEIGHT).unwrap() = json!(i64::MAX);
    *huge.pointer_mut(&WEIGHT.replace("/0/", "/1/")).unwrap() = json!(i64::MAX);
    template(&fleet, "huge", 10).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), huge).await;
    fleet.replicas(PROD, "huge", 5).await;
    fleet.replicas(DR, "huge", 5).await;

    // A cluster nobody knows.
    let mut unknown = policy("unknown");
    unknown["spec"]["placement"]["clusterAffinity"]["clusterNames"] = json!([PROD, "cluster-moon"]);
    template(&fleet, "unknown", 4).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), unknown).await;
    fleet.replicas(PROD, "unknown", 4).await;
    fleet
        .status("unknown", "unknown cluster named", |it| {
            reason(it, "cluster-moon") == "UnknownCluster"
        })
        .await;

    // A policy that selects nothing.
    let _: DistributionPolicy = create(&fleet.policy_api(), policy("nothing")).await;
    fleet
        .status("nothing", "selects nothing", |it| {
            condition(it, "Ready", "False").is_some_and(|(token, _)| token == "NothingSelected")
        })
        .await;

    // A kind that the hub does not have.
    let mut missing = policy("missing");
    missing["spec"]["resourceSelectors"] = json!([{ "apiVersion": "example.dev/v1", "kind": "Thing" }]);
    let _: DistributionPolicy = create(&fleet.policy_api(), missing).await;
    fleet
        .status("missing", "kind not served", |it| {
            condition(it, "Degraded", "True").is_some_and(|(token, _)| token == "KindNotServed")
        })
        .await;

    // An override whose path is not there: that object, in that cluster.
    let broken = json!({
        "metadata": { "name": "broken" },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" }],
            "overrideRules": [{
                "targetClusters": { "clusterNames": [DR] },
                "overrides": [{ "path": "/spec/template/spec/nodeName", "operator": "replace", "value": "a" }],
            }],
        },
    });
    let overrides: Api<OverridePolicy> = Api::namespaced(fleet.hub.clone(), "default");
    let _: OverridePolicy = create(&overrides, broken).await;
    template(&fleet, "web", 8).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), policy("web")).await;
    fleet.replicas(PROD, "web", 4).await;
    fleet
        .status(
            "web",
            "the override is told of, and the other is in place",
            |it| {
                entry(it, DR).is_some_and(|it| it.message.contains("/spec/template/spec/nodeName"))
                    && entry(it, PROD).is_some_and(|it| it.applied_replicas == 4)
            },
        )
        .await;
    overrides
        .delete("broken", &DeleteParams::default())
        .await
        .unwrap();
    fleet.replicas(DR, "web", 4).await;

    // A second policy for one object gets nothing, and says who has it; when the first goes, it takes over.
    let mut second = policy("web");
    second["metadata"]["name"] = json!("zz-second");
    second["spec"]["placement"] = json!({ "clusterAffinity": { "clusterNames": [PROD] } });
    let _: DistributionPolicy = create(&fleet.policy_api(), second).await;
    let status = fleet
        .status("zz-second", "claimed by the other", |it| {
            condition(it, "Ready", "False").is_some_and(|(token, _)| token == "ClaimedByOther")
        })
        .await;
    assert!(
        condition(&status, "Ready", "False")
            .unwrap()
            .1
            .contains("default/web")
    );
    fleet.replicas(PROD, "web", 4).await;
    fleet
        .policy_api()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    fleet.gone(DR, "web").await;
    fleet.replicas(PROD, "web", 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_someone_else_and_what_is_too_large_is_left_alone_and_told() {
    let fleet = Storefront::still().await;
    // Somebody's own Deployment of the same name in one member.
    let _: Deployment = create(&deployments(fleet.member(DR)), deployment("web", 1)).await;
    template(&fleet, "web", 8).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), policy("web")).await;
    fleet.replicas(PROD, "web", 4).await;
    fleet
        .status("web", "owned by another", |it| reason(it, DR) == "OwnedByOther")
        .await;
    fleet.event("OwnedByOther").await;
    let theirs = deployments(fleet.member(DR)).get("web").await.unwrap();
    assert_eq!(
        (
            theirs.spec.replicas,
            theirs.labels().keys().any(|key| key.contains("kurator"))
        ),
        (Some(1), false)
    );
    // The word of the policy's owner makes it ours; the end of the policy then takes it away.
    edit(
        &fleet.policy_api(),
        "web",
        json!({ "spec": { "conflictResolution": "Overwrite" } }),
    )
    .await;
    fleet.replicas(DR, "web", 4).await;

    // A manifest of 1 MiB arrives; one that only an override makes too large does not, and is told.
    let _: ConfigMap = create(
        &maps(&fleet.hub),
        json!({ "metadata": { "name": "big" }, "data": { "a": "x".repeat(1_040_000) } }),
    )
    .await;
    let mut big = policy("big");
    big["spec"]["resourceSelectors"] = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "big" }]);
    let _: DistributionPolicy = create(&fleet.policy_api(), big).await;
    fleet
        .status("big", "in place", |it| {
            condition(it, "Ready", "True").is_some() && it.clusters.len() == 2
        })
        .await;
    assert_eq!(
        maps(&fleet.member(DR).direct_client().unwrap())
            .get("big")
            .await
            .unwrap()
            .data
            .unwrap()["a"]
            .len(),
        1_040_000
    );
    let larger = json!({
        "metadata": { "name": "larger" },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": "big" }],
            "overrideRules": [{
                "targetClusters": { "clusterNames": [DR] },
                "overrides": [{ "path": "/data/b", "value": "x".repeat(600_000) }],
            }],
        },
    });
    let _: OverridePolicy = create(&Api::namespaced(fleet.hub.clone(), "default"), larger).await;
    let status = fleet
        .status("big", "too large", |it| {
            ["TooLarge", "Invalid"].contains(&reason(it, DR).as_str()) && reason(it, PROD) == "Applied"
        })
        .await;
    assert!(
        entry(&status, DR).unwrap().message.len() < 600,
        "the manifest is not quoted"
    );
    fleet.replicas(PROD, "web", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_that_cannot_be_used_is_told_by_its_reason_and_never_by_its_content() {
    let fleet = Storefront::still().await;
    template(&fleet, "web", 8).await;
    let good = fleet.member(DR).kubeconfig();
    let exec = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
        contexts: [{name: a, context: {cluster: a, user: a}}]\n\
        clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\n\
        users: [{name: a, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: canary-c4n4ry}}}]\n";
    fleet.attach(DR, exec).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), policy("web")).await;
    fleet.replicas(PROD, "web", 4).await;
    let refused = |it: &_| entry(it, DR).is_some_and(|it| it.message.contains("exec"));
    let status = fleet.status("web", "exec refused", refused).await;
    let text = serde_json::to_string(&status).unwrap();
    assert!(!text.contains("c4n4ry"), "{text}");
    assert!(
        reason(&status, DR).starts_with("Kubeconfig"),
        "{}",
        reason(&status, DR)
    );

    // No kubeconfig at all, and then none that is one.
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(fleet.hub.clone(), "default");
    secrets
        .delete(&format!("{DR}-kubeconfig"), &DeleteParams::default())
        .await
        .unwrap();
    fleet
        .status("web", "no Secret", |it| {
            reason(it, DR) == "KubeconfigSecretNotFound"
        })
        .await;
    fleet.attach(DR, "c4n4ry: [").await;
    let status = fleet
        .status("web", "unreadable", |it| {
            reason(it, DR).starts_with("Kubeconfig") && reason(it, DR) != "KubeconfigSecretNotFound"
        })
        .await;
    assert!(!serde_json::to_string(&status).unwrap().contains("c4n4ry"));

    // The right one, and it catches up alone.
    fleet.attach(DR, &good).await;
    fleet.replicas(DR, "web", 4).await;
    fleet
        .status("web", "well", |it| condition(it, "Degraded", "False").is_some())
        .await;
}
