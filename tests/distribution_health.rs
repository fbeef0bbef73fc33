//! How objects are doing in the members decides what is ready, and makes the status of their templates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::PersistentVolumeClaim};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use kurator::policy::{
    api::DistributionPolicy,
    controller::Settings,
    propagate::{CustomKind, Kinds, ObjectHealth, ObjectKind},
};
use serde_json::{Value, json};
use storefront::{DR, PATIENCE, PROD, Storefront, condition, create, deployment, deployments, entry, reason};

const ENGINE: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: engines.ml.example.com }
spec:
  group: ml.example.com
  scope: Namespaced
  names: { kind: Engine, plural: engines, singular: engine }
  versions:
    - name: v1
      served: true
      storage: true
      subresources: { status: {} }
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: { type: object, x-kubernetes-preserve-unknown-fields: true }
            status: { type: object, x-kubernetes-preserve-unknown-fields: true }
"#;

fn engines(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("ml.example.com", "v1", "Engine");
    Api::namespaced_with(client.clone(), "default", &ApiResource::from_gvk(&kind))
}

/// What the controllers of a member would write.
async fn tell<K>(api: &Api<K>, name: &str, status: Value)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = Patch::Merge(json!({ "status": status }));
    let params = PatchParams {
        field_manager: Some("its-controller".into()),
        ..PatchParams::default()
    };
    api.patch_status(name, &params, &patch).await.unwrap();
}

/// An Engine tells by its phase.
fn kinds() -> Kinds {
    let health = |engine: &Value| match engine.pointer("/status/phase").and_then(Value::as_str) {
        Some("Running") => ObjectHealth::Healthy,
        Some("Broken") => ObjectHealth::Unhealthy {
            why: "a cylinder is broken".into(),
        },
        _ => ObjectHealth::Progressing {
            why: "it warms up".into(),
        },
    };
    let engine = CustomKind::default().with_health(health);
    Kinds::default().with(ObjectKind::new("ml.example.com/v1", "Engine"), engine)
}

#[tokio::test(flavor = "multi_thread")]
async fn how_every_kind_is_doing_decides_what_is_ready_and_makes_the_status_of_the_template() {
    let fleet = Storefront::idle().await;
    for member in ["hub", PROD, DR] {
        fleet.member(member).apply(ENGINE).await.unwrap();
    }
    let mut settings = Settings::default();
    settings.aggregate_status = true;
    let controller = storefront::distribution(&fleet.seen, None)
        .with_settings(settings)
        .with_interpreter(std::sync::Arc::new(kinds()));
    let running = tokio::spawn(controller.run(std::future::pending()));

    let hub = &fleet.hub;
    for name in ["main", "other"] {
        let engine = json!({
            "apiVersion": "ml.example.com/v1", "kind": "Engine", "metadata": { "name": name }, "spec": {},
        });
        let engine: DynamicObject = serde_json::from_value(engine).unwrap();
        engines(hub)
            .create(&PostParams::default(), &engine)
            .await
            .unwrap();
    }
    let templates: Api<Deployment> = Api::namespaced(hub.clone(), "default");
    for name in ["web", "theirs"] {
        let _: Deployment = create(&templates, deployment(name, 2)).await;
    }
    // Somebody on the hub takes this one for its own.
    tell(&templates, "theirs", json!({ "replicas": 1, "readyReplicas": 1 })).await;
    let claim = json!({ "metadata": { "name": "data" }, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
    } });
    let _: PersistentVolumeClaim = create(&Api::namespaced(hub.clone(), "default"), claim).await;
    let selector = |api_version: &str, kind: &str, name: &str| json!({ "apiVersion": api_version, "kind": kind, "name": name });
    let engine = |name: &str| selector("ml.example.com/v1", "Engine", name);
    for (policy, selectors) in [
        (
            "all",
            json!([
                engine("main"),
                selector("apps/v1", "Deployment", "web"),
                selector("apps/v1", "Deployment", "theirs"),
                selector("v1", "PersistentVolumeClaim", "data"),
            ]),
        ),
        ("other", json!([engine("other")])),
    ] {
        let object = json!({ "metadata": { "name": policy }, "spec": { "resourceSelectors": selectors } });
        let _: DistributionPolicy = create(&fleet.policy_api(), object).await;
    }
    let status = fleet
        .status("all", "everything there, and nothing ready", |it| {
            [PROD, DR].iter().all(|cluster| {
                entry(it, cluster).is_some_and(|it| it.applied_objects == 4 && it.reason == "NotReady")
            })
        })
        .await;
    assert!(condition(&status, "Ready", "False").is_some());
    let since = entry(&status, DR).unwrap().since.clone().unwrap();

    let mut claims = Vec::new();
    for member in [PROD, DR] {
        let client = fleet.member(member).direct_client().unwrap();
        let ready = json!({ "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2 });
        for name in ["web", "theirs"] {
            tell(&deployments(fleet.member(member)), name, ready.clone()).await;
        }
        claims.push(Api::<PersistentVolumeClaim>::namespaced(
            client.clone(),
            "default",
        ));
        tell(&engines(&client), "main", json!({ "phase": "Running" })).await;
    }
    // The last thing that is not well is the reason; a cluster keeps its age with it.
    let status = fleet
        .status("all", "all but the claims", |it| {
            [PROD, DR].iter().all(|cluster| {
                entry(it, cluster)
                    .is_some_and(|it| it.message.contains("it is not bound") && it.ready_replicas == 4)
            })
        })
        .await;
    assert_eq!(reason(&status, DR), "NotReady");
    assert_eq!(entry(&status, DR).unwrap().since.as_ref(), Some(&since));
    for claims in &claims {
        tell(claims, "data", json!({ "phase": "Bound" })).await;
    }
    let status = fleet
        .status("all", "ready", |it| condition(it, "Ready", "True").is_some())
        .await;
    assert!(
        [PROD, DR]
            .iter()
            .all(|cluster| reason(&status, cluster) == "Applied")
    );

    // The sum of the copies; and not where somebody else has a say.
    let summed = |it: Option<&Deployment>| {
        let status = it.and_then(|it| it.status.as_ref());
        status.is_some_and(|it| (it.replicas, it.ready_replicas) == (Some(4), Some(4)))
    };
    let waited = fleet.member("hub").wait_for(&templates, "web", summed);
    tokio::time::timeout(PATIENCE, waited).await.unwrap().unwrap();
    let theirs = templates.get("theirs").await.unwrap().status.unwrap();
    assert_eq!(theirs.ready_replicas, Some(1));

    // What says nothing about how it is doing makes no write: the other policy hears of a later event of the same watch.
    let dr = engines(&fleet.member(DR).direct_client().unwrap());
    let version = fleet
        .policy_api()
        .get("all")
        .await
        .unwrap()
        .resource_version()
        .unwrap();
    tell(&dr, "main", json!({ "phase": "Running", "noise": "a lot" })).await;
    for phase in ["Running", "Broken"] {
        tell(&dr, "other", json!({ "phase": phase })).await;
        let told = if phase == "Broken" { "Unhealthy" } else { "Applied" };
        fleet.status("other", told, |it| reason(it, DR) == told).await;
    }
    assert_eq!(
        fleet
            .policy_api()
            .get("all")
            .await
            .unwrap()
            .resource_version()
            .unwrap(),
        version
    );

    // What will not get well by waiting is something wrong, of that object in that cluster.
    tell(&dr, "main", json!({ "phase": "Broken" })).await;
    let status = fleet
        .status("all", "broken", |it| reason(it, DR) == "Unhealthy")
        .await;
    let object = &entry(&status, DR).unwrap().objects[0];
    assert_eq!((object.kind.as_str(), object.name.as_str()), ("Engine", "main"));
    assert_eq!(object.message, "a cylinder is broken");
    assert_eq!(reason(&status, PROD), "Applied");
    assert_eq!(condition(&status, "Degraded", "True").unwrap().0, "Unhealthy");
    assert!(entry(&status, DR).unwrap().since.as_ref().unwrap().0 >= since.0);
    running.abort();
}
