//! The manifests users have today, read as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kube::{CustomResourceExt, Resource};
use kurator_fleet::api::{AttachedCluster, Cluster, Fleet, MemberKind, crds};

const FLEET: &str = include_str!("../../examples/manifests/fleet.yaml");

#[test]
fn the_fleet_manifest_is_read_whole() {
    let fleet: Fleet = serde_saphyr::from_str(FLEET).unwrap();
    let members: Vec<_> = fleet
        .spec
        .clusters
        .iter()
        .map(|m| (m.name.as_str(), m.kind))
        .collect();
    assert_eq!(
        members,
        [
            ("cluster-prod", MemberKind::Cluster),
            ("cluster-dr", MemberKind::Cluster)
        ]
    );
    let plugin = fleet.spec.plugin.clone().unwrap();
    assert_eq!(
        plugin.metric.unwrap().thanos.object_store_config.secret_name,
        "thanos-objstore"
    );
    assert!(plugin.grafana.is_some());

    let written: serde_json::Value = serde_saphyr::from_str(FLEET).unwrap();
    assert_eq!(
        serde_json::to_value(&fleet).unwrap(),
        written,
        "nothing is dropped or added on the way out"
    );
}

#[test]
fn the_cluster_manifest_is_read_whole() {
    let yaml = include_str!("../../examples/manifests/cluster.yaml");
    let cluster: Cluster = serde_saphyr::from_str(yaml).unwrap();
    assert_eq!(cluster.spec.worker_nodes.count, 5);
    assert!(cluster.spec.pod_identity.as_ref().unwrap().enabled);
    let written: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
    assert_eq!(serde_json::to_value(&cluster).unwrap(), written);
}

#[test]
fn an_attached_cluster_names_its_secret() {
    let yaml = "{metadata: {name: dr}, spec: {kubeconfig: {name: dr-kubeconfig, key: value}, zones: [a, b]}}";
    let cluster: AttachedCluster = serde_saphyr::from_str(yaml).unwrap();
    assert_eq!(cluster.spec.kubeconfig.name, "dr-kubeconfig");
    assert_eq!(cluster.spec.kubeconfig.key, "value");
    assert_eq!(cluster.spec.zones, ["a", "b"]);
    assert_eq!(cluster.spec.region, None);
}

#[test]
fn conditions_and_members_merge_by_their_keys() {
    assert_eq!(Fleet::api_version(&()), "fleet.kurator.dev/v1alpha1");
    assert_eq!(
        AttachedCluster::crd_name(),
        "attachedclusters.cluster.kurator.dev"
    );
    let crd = serde_json::to_value(Fleet::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let conditions = &schema["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(
        conditions["x-kubernetes-list-map-keys"],
        serde_json::json!(["type"])
    );
    let clusters = &schema["spec"]["properties"]["clusters"];
    assert_eq!(
        clusters["x-kubernetes-list-map-keys"],
        serde_json::json!(["name", "kind"])
    );
}

#[test]
fn every_definition_has_a_status_and_the_category() {
    for crd in crds() {
        let name = crd.metadata.name.clone().unwrap();
        assert!(
            crd.spec
                .names
                .categories
                .as_ref()
                .is_some_and(|c| c.contains(&"kurator".into())),
            "{name}"
        );
        for version in &crd.spec.versions {
            assert!(
                version.subresources.as_ref().is_some_and(|s| s.status.is_some()),
                "{name}"
            );
            assert!(
                version
                    .additional_printer_columns
                    .as_ref()
                    .is_some_and(|c| c.len() >= 3),
                "{name}"
            );
        }
    }
}
