//! With `applyStrategy: ReportDiff` nothing is written to any member, and the status says what would be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use kurator::policy::api::{DistributionPolicy, DistributionPolicyStatus, ObjectState};
use serde_json::{Value, json};
use storefront::{
    DR, PATIENCE, PROD, Storefront, condition, create, deployment, deployments, edit, entry, reason,
};

fn objects(status: &DistributionPolicyStatus, cluster: &str) -> BTreeMap<String, ObjectState> {
    let objects = entry(status, cluster)
        .map(|it| it.objects.clone())
        .unwrap_or_default();
    objects.into_iter().map(|it| (it.name.clone(), it)).collect()
}

fn reasons(status: &DistributionPolicyStatus, cluster: &str) -> Vec<(String, String)> {
    let objects = objects(status, cluster).into_values();
    objects.map(|it| (it.name, it.reason)).collect()
}

fn are(status: &DistributionPolicyStatus, cluster: &str, expected: &[(&str, &str)]) -> bool {
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, reason)| ((*name).to_owned(), (*reason).to_owned()))
        .collect();
    reasons(status, cluster) == expected
}

/// Everything in the members that a policy might touch, down to the resource versions.
async fn members(fleet: &Storefront) -> Vec<String> {
    let mut all = Vec::new();
    let params = ListParams::default();
    for member in [PROD, DR] {
        let client = fleet.member(member).direct_client().unwrap();
        let note = |kind: &str, namespace: Option<String>, name: String, version: Option<String>| {
            format!("{member} {kind} {namespace:?} {name} {version:?}")
        };
        for it in Api::<Deployment>::all(client.clone())
            .list(&params)
            .await
            .unwrap()
        {
            all.push(note(
                "Deployment",
                it.namespace(),
                it.name_any(),
                it.resource_version(),
            ));
        }
        for it in Api::<ConfigMap>::all(client.clone()).list(&params).await.unwrap() {
            // The server's own, which it writes when it likes.
            if it.namespace().is_some_and(|it| !it.starts_with("kube-")) {
                all.push(note(
                    "ConfigMap",
                    it.namespace(),
                    it.name_any(),
                    it.resource_version(),
                ));
            }
        }
        for it in Api::<Namespace>::all(client).list(&params).await.unwrap() {
            all.push(note("Namespace", None, it.name_any(), it.resource_version()));
        }
    }
    all
}

async fn map(fleet: &Storefront, namespace: &str, name: &str) {
    let api: Api<ConfigMap> = Api::namespaced(fleet.hub.clone(), namespace);
    let labels = json!({ "app": "shop" });
    let object = json!({ "metadata": { "name": name, "labels": labels }, "data": { "mode": "first" } });
    let _: ConfigMap = create(&api, object).await;
}

fn policy(selectors: Value) -> Value {
    json!({ "metadata": { "name": "shop" }, "spec": { "applyStrategy": "ReportDiff", "resourceSelectors": selectors } })
}

async fn strategy(fleet: &Storefront, strategy: Value) {
    let patch = json!({ "spec": { "applyStrategy": strategy } });
    edit(&fleet.policy_api(), "shop", patch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_and_what_would_be_is_told_by_object_and_field() {
    let fleet = Storefront::still().await;
    let templates: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    let mut web = deployment("web", 2);
    web["spec"]["minReadySeconds"] = json!(5);
    let _: Deployment = create(&templates, web).await;
    map(&fleet, "default", "plain").await;
    // Somebody's own of that name in one member.
    let _: Deployment = create(&deployments(fleet.member(DR)), deployment("web", 1)).await;
    // A namespace that no member has.
    let namespaces: Api<Namespace> = Api::all(fleet.hub.clone());
    let _: Namespace = create(&namespaces, json!({ "metadata": { "name": "shop" } })).await;
    map(&fleet, "shop", "far").await;
    let before = members(&fleet).await;

    let maps = json!({ "apiVersion": "v1", "kind": "ConfigMap", "labelSelector": { "matchLabels": { "app": "shop" } } });
    let selectors = json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" }, maps]);
    let _: DistributionPolicy = create(&fleet.policy_api(), policy(selectors)).await;
    let elsewhere: Api<DistributionPolicy> = Api::namespaced(fleet.hub.clone(), "shop");
    let _: DistributionPolicy = create(&elsewhere, policy(json!([maps]))).await;
    let status = fleet
        .status("shop", "what would be created", |it| {
            are(it, PROD, &[("plain", "WouldCreate"), ("web", "WouldCreate")])
                && are(it, DR, &[("plain", "WouldCreate"), ("web", "OwnedByOther")])
        })
        .await;
    assert_eq!(reason(&status, PROD), "Differs");
    assert_eq!(entry(&status, PROD).unwrap().applied_objects, 0);
    assert!(
        condition(&status, "Ready", "False").is_some()
            && condition(&status, "Progressing", "False").is_some()
    );
    let told = |policy: Option<&DistributionPolicy>| {
        let status = policy.and_then(|it| it.status.as_ref());
        status.is_some_and(|it| {
            [PROD, DR]
                .iter()
                .all(|cluster| are(it, cluster, &[("far", "WouldCreate")]))
        })
    };
    let waited = fleet.member("hub").wait_for(&elsewhere, "shop", told);
    tokio::time::timeout(PATIENCE, waited).await.unwrap().unwrap();
    assert_eq!(members(&fleet).await, before);

    // What was reported is done when it is asked for, and then there is nothing to report.
    deployments(fleet.member(DR))
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    strategy(&fleet, Value::Null).await;
    for member in [PROD, DR] {
        fleet.replicas(member, "web", 2).await;
    }
    fleet
        .status("shop", "in place", |it| {
            [PROD, DR]
                .iter()
                .all(|cluster| entry(it, cluster).is_some_and(|it| it.applied_objects == 2))
        })
        .await;
    strategy(&fleet, json!("ReportDiff")).await;
    let policies = fleet.policy_api();
    let generation = policies.get("shop").await.unwrap().metadata.generation;
    fleet
        .status("shop", "no difference", |it| {
            it.observed_generation == generation && reasons(it, PROD).is_empty() && reasons(it, DR).is_empty()
        })
        .await;

    // Somebody applies a field of ours in one member, and somebody edits another; then the template changes.
    let theirs = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "spec": { "minReadySeconds": 9 } });
    let params = PatchParams::apply("their-operator").force();
    deployments(fleet.member(DR))
        .patch("web", &params, &Patch::Apply(&theirs))
        .await
        .unwrap();
    edit(
        &deployments(fleet.member(PROD)),
        "web",
        json!({ "spec": { "replicas": 7 } }),
    )
    .await;
    let before = members(&fleet).await;
    let image = json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "registry.example/web:2" }]);
    let image = Patch::Json::<()>(serde_json::from_value(image).unwrap());
    templates
        .patch("web", &PatchParams::default(), &image)
        .await
        .unwrap();
    let status = fleet
        .status("shop", "what would change", |it| {
            are(it, PROD, &[("web", "WouldUpdate")])
                && objects(it, PROD)["web"].fields.len() == 2
                && are(it, DR, &[("web", "FieldConflict")])
        })
        .await;
    let changes = objects(&status, PROD);
    assert_eq!(
        changes["web"].fields,
        [".spec.replicas", ".spec.template.spec.containers[0].image"]
    );
    let conflict = objects(&status, DR);
    assert_eq!(conflict["web"].fields, [".spec.minReadySeconds"]);
    assert!(
        conflict["web"].message.contains("held by their-operator"),
        "{}",
        conflict["web"].message
    );
    assert_eq!(members(&fleet).await, before);

    // What would go is named too, and stays.
    let maps: Api<ConfigMap> = Api::namespaced(fleet.hub.clone(), "default");
    maps.delete("plain", &DeleteParams::default()).await.unwrap();
    fleet
        .status("shop", "what would be removed", |it| {
            are(it, PROD, &[("plain", "WouldRemove"), ("web", "WouldUpdate")])
        })
        .await;
    assert_eq!(members(&fleet).await, before);

    // The end of the policy is no difference to report: what it placed goes.
    policies.delete("shop", &DeleteParams::default()).await.unwrap();
    fleet.policy_gone("shop").await;
    for member in [PROD, DR] {
        fleet.gone(member, "web").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_fails_no_stage_and_makes_nothing_leave() {
    let mut fleet = Storefront::idle().await;
    fleet.run_with(|settings| settings.eviction_pace = std::time::Duration::from_millis(20));
    let templates: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    // Nothing gets ready in these members, so whatever is told to run there leaves after a second.
    let object = |name: &str, strategy: Value| {
        json!({ "metadata": { "name": name }, "spec": {
            "applyStrategy": strategy,
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": name }],
            "failover": {
                "application": { "tolerationSeconds": 1, "purgeMode": "Directly" }, "cluster": { "tolerationSeconds": 1 },
            },
            "rollout": { "stages": [{ "name": "all" }], "progressDeadlineSeconds": 1 },
        }})
    };
    let _: Deployment = create(&templates, deployment("shop", 2)).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), object("shop", json!("ReportDiff"))).await;
    let differs =
        |it: &DistributionPolicyStatus| [PROD, DR].iter().all(|cluster| reason(it, cluster) == "Differs");
    fleet.status("shop", "what would be created", differs).await;

    let _: Deployment = create(&templates, deployment("probe", 2)).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), object("probe", json!("ServerSideApply"))).await;
    let left = |it: &DistributionPolicyStatus| !it.failovers.is_empty();
    fleet.status("probe", "that it leaves", left).await;
    let reported = fleet.policy_api().get("shop").await.unwrap().status.unwrap();
    assert_eq!(reported.failovers, [], "it was due before the other");
    assert_eq!(reported.rollout, None);
    assert!(differs(&reported));

    // From the moment it is applied the rules hold, and what has left stays away while differences are reported again.
    strategy(&fleet, json!("ServerSideApply")).await;
    fleet.status("shop", "that it leaves", left).await;
    strategy(&fleet, json!("ReportDiff")).await;
    let gone = fleet
        .status("shop", "a report again", |it| {
            it.observed_generation.is_some_and(|seen| seen >= 3) && left(it)
        })
        .await;
    assert!(gone.failovers.iter().all(|it| it.name == "shop"));
}
