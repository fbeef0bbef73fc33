//! What objects refer to goes along to real members, is shared between policies, and goes with the last that needs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        batch::v1::Job,
        core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams},
};
use kurator::policy::api::DistributionPolicy;
use serde_json::{Value, json};
use storefront::{DR, PATIENCE, PROD, Storefront, condition, create, deployment, deployments, edit, reason};

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
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: { type: object, x-kubernetes-preserve-unknown-fields: true }
"#;

fn engines(client: kube::Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("ml.example.com", "v1", "Engine");
    Api::namespaced_with(client, "default", &ApiResource::from_gvk(&kind))
}

fn definitions(fleet: &Storefront, member: &str) -> Api<CustomResourceDefinition> {
    Api::all(fleet.member(member).direct_client().unwrap())
}

fn within<K>(fleet: &Storefront, member: &str) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(fleet.member(member).direct_client().unwrap(), "default")
}

/// Waits until an object is there, or gone.
async fn is<K>(fleet: &Storefront, member: &str, api: &Api<K>, name: &str, there: bool)
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + std::hash::Hash + Clone,
{
    let wanted = |object: Option<&K>| object.is_some() == there;
    let waited = tokio::time::timeout(PATIENCE, fleet.member(member).wait_for(api, name, wanted)).await;
    waited
        .unwrap_or_else(|_| {
            panic!(
                "{member}: {name} should {}be there",
                if there { "" } else { "not " }
            )
        })
        .unwrap();
}

/// Waits until the Job of the first policy, and what only that policy's objects refer to, are there, or gone.
async fn only_first_needs(fleet: &Storefront, member: &str, there: bool) {
    let engine = "engines.ml.example.com";
    is(fleet, member, &definitions(fleet, member), engine, there).await;
    is::<ServiceAccount>(fleet, member, &within(fleet, member), "runner", there).await;
    is::<Service>(fleet, member, &within(fleet, member), "db", there).await;
    is::<PersistentVolumeClaim>(fleet, member, &within(fleet, member), "seed", there).await;
    is::<Job>(fleet, member, &within(fleet, member), "count", there).await;
}

fn pods(app: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["containers"] = json!([{
        "name": "main", "image": "registry.example/main:1",
        "envFrom": [{ "configMapRef": { "name": "settings" } }],
    }]);
    json!({ "metadata": { "labels": { "app": app } }, "spec": spec })
}

/// What the first policy distributes, and what that refers to.
async fn templates(fleet: &Storefront) {
    let hub = &fleet.hub;
    fleet.member("hub").apply(ENGINE).await.unwrap();
    let engine = json!({
        "apiVersion": "ml.example.com/v1", "kind": "Engine",
        "metadata": { "name": "small", "namespace": "default" }, "spec": { "workers": 3 },
    });
    fleet.member("hub").apply(&engine.to_string()).await.unwrap();
    let _: ConfigMap = create(
        &Api::namespaced(hub.clone(), "default"),
        json!({ "metadata": { "name": "settings" }, "data": { "mode": "first" } }),
    )
    .await;
    for name in ["pull", "unused"] {
        let secret = json!({ "metadata": { "name": name }, "stringData": { "key": "from the hub" } });
        let _: Secret = create(&Api::namespaced(hub.clone(), "default"), secret).await;
    }
    let _: ServiceAccount = create(
        &Api::namespaced(hub.clone(), "default"),
        json!({ "metadata": { "name": "runner" }, "imagePullSecrets": [{ "name": "pull" }] }),
    )
    .await;
    let claim =
        json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    let _: PersistentVolumeClaim = create(
        &Api::namespaced(hub.clone(), "default"),
        json!({ "metadata": { "name": "seed" }, "spec": claim }),
    )
    .await;
    let _: Service = create(
        &Api::namespaced(hub.clone(), "default"),
        json!({ "metadata": { "name": "db" }, "spec": {
            "clusterIP": "None", "selector": { "app": "db" }, "ports": [{ "port": 5432 }],
        } }),
    )
    .await;
    let _: Job = create(
        &Api::namespaced(hub.clone(), "default"),
        json!({ "metadata": { "name": "count" }, "spec": {
            "parallelism": 4, "completions": 10,
            "template": pods("count", json!({ "serviceAccountName": "runner", "restartPolicy": "Never" })),
        } }),
    )
    .await;
    let volumes = json!([{ "name": "seed", "persistentVolumeClaim": { "claimName": "seed" } }]);
    let _: StatefulSet = create(
        &Api::namespaced(hub.clone(), "default"),
        json!({ "metadata": { "name": "db" }, "spec": {
            "replicas": 2, "serviceName": "db", "selector": { "matchLabels": { "app": "db" } },
            "template": pods("db", json!({ "volumes": volumes })),
            "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": claim }],
        } }),
    )
    .await;
}

fn policies() -> [Value; 2] {
    let equal = |cluster: &str| json!({ "targetCluster": { "clusterNames": [cluster] }, "weight": 1 });
    [
        json!({ "metadata": { "name": "first" }, "spec": {
            "propagateDeps": true,
            "resourceSelectors": [
                { "apiVersion": "ml.example.com/v1", "kind": "Engine" },
                { "apiVersion": "batch/v1", "kind": "Job" },
                { "apiVersion": "apps/v1", "kind": "StatefulSet" },
            ],
            "placement": { "replicaScheduling": {
                "replicaSchedulingType": "Divided",
                "weightPreference": { "staticWeightList": [equal(PROD), equal(DR)] },
            } },
        } }),
        json!({ "metadata": { "name": "second" }, "spec": {
            "propagateDeps": true,
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment" }],
        } }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_referred_to_arrives_is_shared_and_goes_with_the_last_that_needs_it() {
    let mut fleet = Storefront::alive().await;
    // Somebody's own Secret of that name in one member.
    let theirs = json!({ "metadata": { "name": "pull" }, "stringData": { "key": "theirs" } });
    let _: Secret = create(&within(&fleet, DR), theirs).await;
    templates(&fleet).await;
    let mut web = deployment("web", 1);
    web["spec"]["template"] = pods("web", json!({}));
    let _: k8s_openapi::api::apps::v1::Deployment =
        create(&Api::namespaced(fleet.hub.clone(), "default"), web).await;
    for policy in policies() {
        let _: DistributionPolicy = create(&fleet.policy_api(), policy).await;
    }

    // A custom resource, a Job, a StatefulSet with its claims, each with what it refers to.
    for member in [PROD, DR] {
        only_first_needs(&fleet, member, true).await;
        is::<ConfigMap>(&fleet, member, &within(&fleet, member), "settings", true).await;
        // Made by the member's own controller from the template of claims.
        is::<PersistentVolumeClaim>(&fleet, member, &within(&fleet, member), "data-db-0", true).await;
        let job = within::<Job>(&fleet, member)
            .get("count")
            .await
            .unwrap()
            .spec
            .unwrap();
        assert_eq!((job.parallelism, job.completions), (Some(2), Some(5)));
    }
    let status = fleet
        .status("first", "everything there but what is somebody else's", |it| {
            it.clusters.iter().all(|entry| entry.applied_objects == 3)
                && reason(it, DR) == "OwnedByOther"
                && condition(it, "DependenciesFound", "True").is_some()
        })
        .await;
    let along: Vec<&str> = status.dependencies.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        along,
        [
            "engines.ml.example.com",
            "settings",
            "seed",
            "pull",
            "db",
            "runner"
        ]
    );
    for member in [PROD, DR] {
        let engine = engines(fleet.member(member).direct_client().unwrap())
            .get("small")
            .await
            .unwrap();
        assert_eq!(engine.data["spec"]["workers"], 3);
        assert!(
            within::<Secret>(&fleet, member)
                .get_opt("unused")
                .await
                .unwrap()
                .is_none()
        );
    }
    let key = |secret: &Secret| secret.data.as_ref().unwrap()["key"].0.clone();
    let untouched = within::<Secret>(&fleet, DR).get("pull").await.unwrap();
    assert_eq!(key(&untouched), b"theirs");
    assert!(untouched.labels().is_empty());
    assert_eq!(
        key(&within::<Secret>(&fleet, PROD).get("pull").await.unwrap()),
        b"from the hub"
    );

    // A change of what is referred to is followed, and drift of it is set back.
    let hub: Api<ConfigMap> = Api::namespaced(fleet.hub.clone(), "default");
    edit(&hub, "settings", json!({ "data": { "mode": "second" } })).await;
    let mode = |wanted: &'static str| {
        move |map: Option<&ConfigMap>| {
            map.and_then(|it| Some(it.data.as_ref()?["mode"] == wanted)) == Some(true)
        }
    };
    let map = within::<ConfigMap>(&fleet, PROD);
    fleet
        .member(PROD)
        .wait_for(&map, "settings", mode("second"))
        .await
        .unwrap();
    edit(&map, "settings", json!({ "data": { "mode": "drifted" } })).await;
    fleet
        .member(PROD)
        .wait_for(&map, "settings", mode("second"))
        .await
        .unwrap();

    // The end of the policy takes away what nobody else needs; the other policy keeps what it shares.
    fleet
        .policy_api()
        .delete("first", &DeleteParams::default())
        .await
        .unwrap();
    fleet.policy_gone("first").await;
    for member in [PROD, DR] {
        only_first_needs(&fleet, member, false).await;
        assert!(
            within::<ConfigMap>(&fleet, member)
                .get_opt("settings")
                .await
                .unwrap()
                .is_some()
        );
    }
    assert!(
        within::<Secret>(&fleet, PROD)
            .get_opt("pull")
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        key(&within::<Secret>(&fleet, DR).get("pull").await.unwrap()),
        b"theirs"
    );

    // A process that finds the last user on its way out knows what it brought.
    fleet.crash().await;
    fleet
        .policy_api()
        .delete("second", &DeleteParams::default())
        .await
        .unwrap();
    fleet.run();
    fleet.policy_gone("second").await;
    for member in [PROD, DR] {
        is::<ConfigMap>(&fleet, member, &within(&fleet, member), "settings", false).await;
        assert!(
            deployments(fleet.member(member))
                .get_opt("web")
                .await
                .unwrap()
                .is_none()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_referred_to_and_missing_is_told_comes_later_and_goes_when_it_is_not_referred_to() {
    let fleet = Storefront::still().await;
    let mut web = deployment("web", 1);
    web["spec"]["template"] = pods("web", json!({}));
    let api: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    let _: k8s_openapi::api::apps::v1::Deployment = create(&api, web).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), policies()[1].clone()).await;
    let status = fleet
        .status("second", "told what is missing", |it| {
            condition(it, "DependenciesFound", "False").is_some()
        })
        .await;
    let (token, message) = condition(&status, "DependenciesFound", "False").unwrap();
    assert_eq!(token, "DependencyMissing");
    assert!(message.contains("ConfigMap default/settings"), "{message}");
    for member in [PROD, DR] {
        fleet.replicas(member, "web", 1).await;
    }
    let _: ConfigMap = create(
        &Api::namespaced(fleet.hub.clone(), "default"),
        json!({ "metadata": { "name": "settings" }, "data": { "mode": "first" } }),
    )
    .await;
    for member in [PROD, DR] {
        is::<ConfigMap>(&fleet, member, &within(&fleet, member), "settings", true).await;
    }
    edit(
        &api,
        "web",
        json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "main", "image": "registry.example/main:2" },
    ] } } } }),
    )
    .await;
    for member in [PROD, DR] {
        is::<ConfigMap>(&fleet, member, &within(&fleet, member), "settings", false).await;
    }
    fleet
        .status("second", "nothing goes along", |it| it.dependencies.is_empty())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_a_member_does_not_know_waits_for_its_definition_or_brings_it_along() {
    let fleet = Storefront::still().await;
    let pump = ENGINE.replace("engine", "pump").replace("Engine", "Pump");
    for definition in [ENGINE, &pump] {
        fleet.member("hub").apply(definition).await.unwrap();
    }
    for (kind, along) in [("Engine", true), ("Pump", false)] {
        let name = kind.to_lowercase();
        let object = json!({
            "apiVersion": "ml.example.com/v1", "kind": kind,
            "metadata": { "name": "small", "namespace": "default" }, "spec": { "workers": 3 },
        });
        fleet.member("hub").apply(&object.to_string()).await.unwrap();
        let selector = json!({ "apiVersion": "ml.example.com/v1", "kind": kind });
        let spec = json!({ "resourceSelectors": [selector], "propagateDeps": along });
        let policy = json!({ "metadata": { "name": name }, "spec": spec });
        let _: DistributionPolicy = create(&fleet.policy_api(), policy).await;
    }
    let pumps = |member| {
        let kind = GroupVersionKind::gvk("ml.example.com", "v1", "Pump");
        let client = fleet.member(member).direct_client().unwrap();
        Api::<DynamicObject>::namespaced_with(client, "default", &ApiResource::from_gvk(&kind))
    };
    for member in [PROD, DR] {
        is(
            &fleet,
            member,
            &definitions(&fleet, member),
            "engines.ml.example.com",
            true,
        )
        .await;
        let engines = engines(fleet.member(member).direct_client().unwrap());
        arrives(&fleet, member, &engines).await;
    }
    fleet
        .status("pump", "no cluster serves it", |it| {
            condition(it, "Ready", "False").is_some_and(|(token, _)| token == "NotPlaced")
        })
        .await;
    // Somebody else brings it: what waits is placed at once, not with the next look at what a member serves.
    for member in [PROD, DR] {
        fleet.member(member).apply(&pump).await.unwrap();
    }
    for member in [PROD, DR] {
        arrives(&fleet, member, &pumps(member)).await;
    }
}

/// Waits until an object of a custom kind is there, also while the kind is not served yet.
async fn arrives(fleet: &Storefront, member: &str, api: &Api<DynamicObject>) {
    let named = ListParams::default().fields("metadata.name=small");
    let member = fleet.member(member);
    let waited = member.wait_for_all(api, &named, "small is there", |found| !found.is_empty());
    tokio::time::timeout(PATIENCE, waited)
        .await
        .expect("in time")
        .unwrap_or_else(|error| panic!("{error}"));
}
