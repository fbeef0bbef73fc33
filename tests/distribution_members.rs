//! What the controllers of a member own stays theirs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, core::v1::ConfigMap};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use kurator::policy::api::DistributionPolicy;
use kurator_envtest::{Controllers, MemberSpec};
use serde_json::json;
use storefront::{DR, PATIENCE, PROD, Storefront, create, deployment, deployments, edit, entry};

const IMAGE: &str = "registry.example/web:2";

fn image(deployment: &Deployment) -> String {
    let pod = deployment.spec.template.spec.as_ref().unwrap();
    pod.containers[0].image.clone().unwrap()
}

/// Another image on the hub, without the fields that are the member's.
async fn new_image(fleet: &Storefront, name: &str, image: &str) {
    let api: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    let patch =
        json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image }]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
    api.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_keeps_the_replicas_it_set_and_without_one_drift_is_corrected() {
    let members = [
        MemberSpec::new(PROD).with_controllers(Controllers::Stock),
        MemberSpec::new(DR),
    ];
    let mut fleet = Storefront::of(members).await;
    fleet.run();
    fleet.another("web", "web", 3).await;
    for member in [PROD, DR] {
        fleet.replicas(member, "web", 3).await;
    }

    // The real thing: it scales to its minimum even where nothing is measured.
    let prod = fleet.member(PROD).direct_client().unwrap();
    let scalers: Api<HorizontalPodAutoscaler> = Api::namespaced(prod, "default");
    let scaler = json!({ "metadata": { "name": "web" }, "spec": {
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
        "minReplicas": 5, "maxReplicas": 8,
    } });
    let _: HorizontalPodAutoscaler = create(&scalers, scaler).await;
    fleet.replicas(PROD, "web", 5).await;
    fleet
        .status("web", "the autoscaler's number is told", |it| {
            entry(it, PROD).is_some_and(|it| (it.planned_replicas, it.applied_replicas) == (3, 5))
        })
        .await;

    let scaled = deployments(fleet.member(PROD)).get("web").await.unwrap();

    // Everything else of the object goes on being ours: a change arrives, and the number stays, without ever having been
    // another: each change of the spec is one generation.
    new_image(&fleet, "web", IMAGE).await;
    let changed = |it: Option<&Deployment>| it.is_some_and(|it| image(it) == IMAGE);
    let after = fleet.deployment(PROD, "web", "new image", changed).await.unwrap();
    assert_eq!(after.spec.replicas, Some(5));
    assert_eq!(
        after.metadata.generation,
        scaled.metadata.generation.map(|it| it + 1)
    );

    // A successor does not set it back either, although it does not know what its predecessor has seen.
    fleet.crash().await;
    fleet.run();
    new_image(&fleet, "web", "registry.example/web:3").await;
    let changed = |it: Option<&Deployment>| it.is_some_and(|it| image(it) == "registry.example/web:3");
    let again = fleet
        .deployment(PROD, "web", "newer image", changed)
        .await
        .unwrap();
    assert_eq!(again.spec.replicas, Some(5));
    assert_eq!(
        again.metadata.generation,
        after.metadata.generation.map(|it| it + 1)
    );

    // Where there is no autoscaler a number that somebody sets is drift.
    edit(
        &deployments(fleet.member(DR)),
        "web",
        json!({ "spec": { "replicas": 7 } }),
    )
    .await;
    fleet
        .deployment(DR, "web", "set back", |it| {
            it.is_some_and(|it| it.spec.replicas == Some(3) && it.metadata.generation >= Some(5))
        })
        .await;

    // And with the end of the autoscaler its number is drift too.
    scalers.delete("web", &DeleteParams::default()).await.unwrap();
    fleet.replicas(PROD, "web", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_object_of_a_kind_goes_with_its_template() {
    let fleet = Storefront::still().await;
    let templates: Api<ConfigMap> = Api::namespaced(fleet.hub.clone(), "default");
    let _: ConfigMap = create(&templates, json!({ "metadata": { "name": "web" } })).await;
    let deployed: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    let _: Deployment = create(&deployed, deployment("web", 2)).await;
    let selectors = json!([
        { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
        { "apiVersion": "v1", "kind": "ConfigMap", "name": "web" },
    ]);
    let policy = json!({ "metadata": { "name": "web" }, "spec": { "resourceSelectors": selectors } });
    let _: DistributionPolicy = create(&fleet.policy_api(), policy).await;
    fleet
        .status("web", "in place", |it| {
            [PROD, DR]
                .iter()
                .all(|cluster| entry(it, cluster).is_some_and(|it| it.applied_objects == 2))
        })
        .await;
    templates.delete("web", &DeleteParams::default()).await.unwrap();
    for member in [PROD, DR] {
        let member = fleet.member(member);
        let maps: Api<ConfigMap> = Api::namespaced(member.direct_client().unwrap(), "default");
        let gone = |it: Option<&ConfigMap>| it.is_none();
        tokio::time::timeout(PATIENCE, member.wait_for(&maps, "web", gone))
            .await
            .unwrap()
            .unwrap();
    }
    fleet
        .status("web", "looked for no more", |it| it.placed_kinds.len() == 1)
        .await;
    fleet.replicas(PROD, "web", 2).await;
}
