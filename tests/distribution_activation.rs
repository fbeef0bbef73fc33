//! A policy that activates lazily: a changed placement holds for an object once the object itself changes, whoever runs
//! the controller by then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt, api::PostParams};
use kurator::policy::api::{DistributionPolicy, DistributionPolicyStatus};
use serde_json::{Value, json};
use storefront::{DR, PROD, Storefront, condition, create, deployment, deployments, edit};

fn policy(cluster: &str) -> Value {
    json!({
        "metadata": { "name": "web" },
        "spec": {
            "activation": "Lazy",
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment" }],
            "placement": { "clusterAffinity": { "clusterNames": [cluster] } },
        },
    })
}

/// The placement that the policy has from now on.
async fn place(fleet: &Storefront, cluster: &str) {
    let spec = json!({ "placement": { "clusterAffinity": { "clusterNames": [cluster] } } });
    let _: DistributionPolicy = edit(&fleet.policy_api(), "web", json!({ "spec": spec })).await;
}

async fn change(fleet: &Storefront, name: &str, spec: Value) {
    let api: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    edit(&api, name, json!({ "spec": spec })).await;
}

/// The objects that wait.
fn waiting(status: &DistributionPolicyStatus) -> Vec<String> {
    let waiting = status.activations.iter().filter(|it| it.waiting);
    let objects = waiting.flat_map(|it| &it.objects);
    objects
        .flat_map(|of_kind| of_kind.templates.keys().cloned())
        .collect()
}

async fn waits(fleet: &Storefront, names: &[&str]) -> DistributionPolicyStatus {
    let generation = fleet.policy_api().get("web").await.unwrap().metadata.generation;
    let what = format!("{names:?} wait at generation {generation:?}");
    fleet
        .status("web", &what, |it| {
            it.observed_generation == generation && waiting(it) == names
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_placement_waits_for_each_template_to_change_also_over_restarts() {
    let mut fleet = Storefront::idle().await;
    let templates: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    for name in ["api", "web"] {
        let _: Deployment = create(&templates, deployment(name, 1)).await;
    }
    let _: DistributionPolicy = create(&fleet.policy_api(), policy(PROD)).await;
    fleet.run();
    for name in ["api", "web"] {
        fleet.replicas(PROD, name, 1).await;
    }
    waits(&fleet, &[]).await;

    // The policy changes while nobody runs; its successor knows by what each object was placed.
    fleet.crash().await;
    place(&fleet, DR).await;
    fleet.run();
    let status = waits(&fleet, &["api", "web"]).await;
    let (reason, message) = condition(&status, "Activated", "False").unwrap();
    assert_eq!(reason, "WaitingForTemplate");
    assert!(
        message.ends_with("2 (Deployment api, Deployment web)"),
        "{message}"
    );
    fleet.event("WaitingForTemplate").await;

    // Scaling is no change; it goes where the object is.
    change(&fleet, "web", json!({ "replicas": 3 })).await;
    fleet.replicas(PROD, "web", 3).await;
    // A change of one object moves that one, also if it came while nobody ran.
    fleet.crash().await;
    change(&fleet, "web", json!({ "minReadySeconds": 1 })).await;
    fleet.run();
    fleet.replicas(DR, "web", 3).await;
    waits(&fleet, &["api"]).await;
    assert!(
        deployments(fleet.member(DR))
            .get_opt("api")
            .await
            .unwrap()
            .is_none()
    );
    fleet.replicas(PROD, "api", 1).await;

    // The next change of the policy, and a restart: both wait where they are.
    place(&fleet, PROD).await;
    fleet
        .status("web", "only web waits", |it| waiting(it) == ["web"])
        .await;
    fleet.crash().await;
    fleet.run();
    fleet.replicas(DR, "web", 3).await;
    waits(&fleet, &["web"]).await;

    // A policy that activates at once does so at once, and keeps no record.
    let spec = json!({ "spec": { "activation": "Immediate" } });
    let _: DistributionPolicy = edit(&fleet.policy_api(), "web", spec).await;
    fleet.replicas(PROD, "web", 3).await;
    let status = waits(&fleet, &[]).await;
    assert!(status.activations.is_empty());
    assert!(condition(&status, "Activated", "True").is_none());
    assert!(fleet.counts.sum("activations") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lazy_policy_takes_objects_over_when_they_change_also_over_a_restart() {
    let mut fleet = Storefront::idle().await;
    let templates: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    for name in ["api", "web"] {
        let _: Deployment = create(&templates, deployment(name, 1)).await;
    }
    let placed = |name: &str, cluster: &str| {
        let mut object = policy(cluster);
        object["metadata"]["name"] = json!(name);
        object
    };
    let mut old = placed("old", PROD);
    old["spec"]["activation"] = json!("Immediate");
    let _: DistributionPolicy = create(&fleet.policy_api(), old).await;
    fleet.run();
    for name in ["api", "web"] {
        fleet.replicas(PROD, name, 1).await;
    }

    let mut new = placed("new", DR);
    new["spec"]["priority"] = json!(10);
    new["spec"]["preemption"] = json!("Always");
    // A policy of the same second would count as one that was there when the objects came.
    let web = templates.get("web").await.unwrap();
    let try_out = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let object: DistributionPolicy = serde_json::from_value(new.clone()).unwrap();
    while fleet
        .policy_api()
        .create(&try_out, &object)
        .await
        .unwrap()
        .creation_timestamp()
        == web.creation_timestamp()
    {}
    let _: DistributionPolicy = create(&fleet.policy_api(), new).await;
    let awaited = |status: &DistributionPolicyStatus| -> Vec<String> {
        let kinds = status.to_take_over.iter();
        kinds
            .flat_map(|of_kind| of_kind.templates.keys().cloned())
            .collect()
    };
    let status = fleet
        .status("new", "it waits for both", |it| awaited(it) == ["api", "web"])
        .await;
    assert!(condition(&status, "Activated", "False").is_some());
    assert!(condition(&status, "Degraded", "True").is_none(), "{status:#?}");

    // It goes over with its change, and so it does when nobody runs at that time.
    fleet.crash().await;
    change(&fleet, "web", json!({ "minReadySeconds": 1 })).await;
    fleet.run();
    fleet.replicas(DR, "web", 1).await;
    fleet.gone(PROD, "web").await;
    fleet
        .status("new", "it waits for the other", |it| awaited(it) == ["api"])
        .await;
    fleet.replicas(PROD, "api", 1).await;
    // What it has taken it keeps over a restart, and takes the other one too when that changes.
    fleet.crash().await;
    fleet.run();
    change(&fleet, "api", json!({ "minReadySeconds": 1 })).await;
    fleet.replicas(DR, "api", 1).await;
    fleet.gone(PROD, "api").await;
    fleet.replicas(DR, "web", 1).await;
    let status = fleet
        .status("new", "it waits for nothing", |it| awaited(it).is_empty())
        .await;
    assert!(condition(&status, "Activated", "True").is_some());
}
