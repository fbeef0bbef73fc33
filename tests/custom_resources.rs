//! The definitions in `deploy/crds` and the manifests in `examples/manifests`, on a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use kurator::{
    fleet::api::{AttachedCluster, Cluster, Fleet as FleetObject},
    policy::api::{DistributionPolicy, OverridePolicy, apps},
};
use kurator_envtest::{Error, Fleet, Member};
use serde_json::{Value, json};

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn manifest(name: &str) -> String {
    std::fs::read_to_string(folder("examples/manifests").join(name)).unwrap()
}

/// One control plane with every definition of `deploy/crds`.
async fn hub() -> Fleet {
    let fleet = Fleet::builder().members(["hub"]).start().await.unwrap();
    let mut files: Vec<_> = std::fs::read_dir(folder("deploy/crds"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 5);
    for file in files {
        fleet.members()[0]
            .apply(&std::fs::read_to_string(file).unwrap())
            .await
            .unwrap();
    }
    fleet
}

fn hub_of(fleet: &Fleet) -> (&Member, Client) {
    let member = &fleet.members()[0];
    (member, member.client().unwrap())
}

#[tokio::test]
async fn definitions_are_accepted_whole_and_the_manifests_users_have_apply_unchanged() {
    let fleet = hub().await;
    let (member, client) = hub_of(&fleet);
    let definitions = Api::<CustomResourceDefinition>::all(client);
    for definition in definitions.list(&ListParams::default()).await.unwrap() {
        let name = definition.metadata.name.unwrap();
        let conditions = definition.status.and_then(|status| status.conditions).unwrap();
        let states: Vec<_> = conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str()))
            .collect();
        assert!(states.contains(&("Established", "True")), "{name}: {states:?}");
        assert!(
            !states.iter().any(|(kind, _)| *kind == "NonStructuralSchema"),
            "{name}: {states:?}"
        );
    }
    for name in ["accelerators.yaml", "distribution.yaml", "fleet.yaml"] {
        let text = manifest(name);
        let written = serde_saphyr::from_multiple::<Value>(&text).unwrap();
        let stored = member.apply(&text).await.unwrap();
        assert_eq!(stored.len(), written.len());
        for (stored, written) in stored.iter().zip(&written) {
            assert_eq!(stored.data["spec"], written["spec"], "{name}");
        }
    }
}

/// What the server says to a spec, which must not be to its liking.
async fn refused(member: &Member, kind: &str, spec: Value) -> String {
    let (group, kind) = kind.split_once('/').unwrap();
    let object = json!({
        "apiVersion": format!("{group}/v1alpha1"), "kind": kind, "metadata": { "name": "refused" }, "spec": spec,
    });
    match member.apply(&object.to_string()).await.unwrap_err() {
        Error::Api { source, .. } => source.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_one_object_alone_shows_to_be_wrong_is_refused_with_the_reason() {
    let fleet = hub().await;
    let (member, _) = hub_of(&fleet);
    let selectors = json!([{ "apiVersion": "apps/v1", "kind": "Deployment" }]);
    let overrides = |rule: Value| json!({ "resourceSelectors": selectors, "overrideRules": [rule] });
    for (kind, spec, said) in [
        (
            "policy.kurator.dev/OverridePolicy",
            overrides(json!({ "overrides": [{ "path": "spec/replicas", "value": 1 }] })),
            "a path is a JSON pointer and begins with \"/\"",
        ),
        (
            "policy.kurator.dev/OverridePolicy",
            overrides(json!({})),
            "a rule needs overrides or overriders",
        ),
        (
            "policy.kurator.dev/OverridePolicy",
            overrides(
                json!({ "overriders": { "imageOverrider": [{ "component": "Tag", "operator": "add" }] } }),
            ),
            "add and replace need a value",
        ),
        (
            "policy.kurator.dev/OverridePolicy",
            overrides(
                json!({ "overriders": { "argsOverrider": [{ "containerName": "a", "operator": "replace" }] } }),
            ),
            "operator must be add or remove",
        ),
        (
            "policy.kurator.dev/OverridePolicy",
            overrides(json!({ "overriders": { "plaintext": [{ "path": "/a", "operator": "move" }] } })),
            "supported values: \"add\", \"remove\", \"replace\"",
        ),
        (
            "policy.kurator.dev/OverridePolicy",
            json!({ "resourceSelectors": [], "overrideRules": [] }),
            "a policy without selectors would change nothing",
        ),
        (
            "policy.kurator.dev/DistributionPolicy",
            json!({ "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "a",
                "labelSelector": {} }] }),
            "give either name or labelSelector",
        ),
        (
            "apps.kurator.dev/DistributionPolicy",
            json!({ "resourceSelectors": [] }),
            "a policy without selectors would distribute nothing",
        ),
        (
            "policy.kurator.dev/DistributionPolicy",
            json!({ "resourceSelectors": selectors, "placement": { "replicaScheduling": { "weightPreference":
                { "staticWeightList": [{ "targetCluster": { "clusterNames": ["a"] }, "weight": -1 }] } } } }),
            "should be greater than or equal to 0",
        ),
        (
            "fleet.kurator.dev/Fleet",
            json!({ "clusters": [{ "name": "a", "kind": "Cluster" }, { "name": "a", "kind": "Cluster" }] }),
            "duplicate entries",
        ),
        (
            "cluster.kurator.dev/AttachedCluster",
            json!({ "kubeconfig": { "name": "secret" } }),
            "spec.kubeconfig.key: Required value",
        ),
    ] {
        let answer = refused(member, kind, spec).await;
        assert!(answer.contains(said), "{kind}: {answer}");
    }
}

#[tokio::test]
async fn get_shows_what_an_operator_wants_to_know() {
    let fleet = hub().await;
    let (member, client) = hub_of(&fleet);
    member.apply(&manifest("distribution.yaml")).await.unwrap();
    let status = json!({ "status": {
        "totals": { "clusters": 2, "desiredReplicas": 20, "plannedReplicas": 20, "appliedReplicas": 19, "readyReplicas": 17 },
        "conditions": [{ "type": "Ready", "status": "False", "reason": "RollingOut", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z" }],
    } });
    let policies = Api::<DistributionPolicy>::default_namespaced(client.clone());
    policies
        .patch_status("storefront", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();

    let table = table(&client, "policy.kurator.dev", "distributionpolicies").await;
    let names: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "Name", "Clusters", "Desired", "Planned", "Applied", "Running", "Ready", "Reason", "Message",
            "Age"
        ]
    );
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(
        cells[..8],
        json!(["storefront", 2, 20, 20, 19, 17, "False", "RollingOut"])
            .as_array()
            .unwrap()[..]
    );
}

async fn table(client: &Client, group: &str, plural: &str) -> Value {
    let path = format!("/apis/{group}/v1alpha1/namespaces/default/{plural}");
    let request = http::Request::get(path)
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    client.request(request).await.unwrap()
}

#[tokio::test]
async fn two_writers_of_a_status_keep_each_others_entries() {
    let fleet = hub().await;
    let (member, client) = hub_of(&fleet);
    member.apply(&manifest("accelerators.yaml")).await.unwrap();
    let policies = Api::<apps::DistributionPolicy>::default_namespaced(client);
    for (manager, condition, cluster) in [("one", "Ready", "a"), ("other", "Degraded", "b")] {
        let status = json!({
            "apiVersion": "apps.kurator.dev/v1alpha1", "kind": "DistributionPolicy", "metadata": { "name": "inference" },
            "status": {
                "conditions": [{ "type": condition, "status": "True", "reason": "Tested", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z" }],
                "clusters": [{ "cluster": cluster, "plannedReplicas": 1 }],
            },
        });
        policies
            .patch_status("inference", &PatchParams::apply(manager), &Patch::Apply(status))
            .await
            .unwrap();
    }
    let status = policies.get("inference").await.unwrap().status.unwrap();
    assert_eq!(
        status
            .conditions
            .iter()
            .map(|c| c.type_.as_str())
            .collect::<Vec<_>>(),
        ["Ready", "Degraded"]
    );
    assert_eq!(
        status
            .clusters
            .iter()
            .map(|c| c.cluster.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
}

#[test]
fn the_files_are_named_after_what_is_in_them() {
    for name in [
        AttachedCluster::crd_name(),
        Cluster::crd_name(),
        FleetObject::crd_name(),
        DistributionPolicy::crd_name(),
        OverridePolicy::crd_name(),
        apps::DistributionPolicy::crd_name(),
    ] {
        let (plural, group) = name.split_once('.').unwrap();
        assert!(
            folder("deploy/crds")
                .join(format!("{group}_{plural}.yaml"))
                .exists(),
            "{name}"
        );
    }
}
