//! The placement part of the policies as it is written and as an API server is told about it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

use kube::{CustomResource, CustomResourceExt, KubeSchema};
use kurator_policy::api::{
    AcceleratorOperator, Placement, ReplicaDivisionPreference, ReplicaSchedulingType, SpreadField,
};
use serde::{Deserialize, Serialize};

#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug)]
#[kube(group = "test.kurator.dev", version = "v1", kind = "Placed", namespaced)]
struct PlacedSpec {
    placement: Placement,
}

fn placement_of(manifest: &str, name: &str) -> Placement {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(manifest).unwrap();
    let document = documents.iter().find(|d| d["metadata"]["name"] == name).unwrap();
    serde_json::from_value(document["spec"]["placement"].clone()).unwrap()
}

#[test]
fn the_ninety_ten_manifest_is_a_weighted_division() {
    let placement = placement_of(
        include_str!("../../examples/manifests/distribution.yaml"),
        "storefront",
    );
    assert_eq!(placement.scheduling_type(), ReplicaSchedulingType::Divided);
    let scheduling = placement.replica_scheduling.unwrap();
    assert_eq!(
        scheduling.replica_division_preference,
        Some(ReplicaDivisionPreference::Weighted)
    );
    let weights: Vec<u64> = scheduling
        .weight_preference
        .unwrap()
        .static_weight_list
        .iter()
        .map(|entry| entry.weight.get())
        .collect();
    assert_eq!(weights, [90, 10]);
}

#[test]
fn the_accelerator_manifest_keeps_every_field() {
    let placement = placement_of(
        include_str!("../../examples/manifests/accelerators.yaml"),
        "inference",
    );
    let constraint = &placement.resource_constraints[0];
    assert_eq!(constraint.name, "nvidia.com/gpu");
    assert_eq!(constraint.min_quantity, Some(4));
    assert_eq!(constraint.requirements[0].operator, AcceleratorOperator::In);
    assert_eq!(constraint.requirements[0].values, ["a100", "h100"]);
    assert_eq!(placement.preference[0].weight.get(), 100);
    assert_eq!(placement.preference[0].preference.values, ["a100"]);
    assert_eq!(placement.scheduling_type(), ReplicaSchedulingType::Duplicated);
}

#[test]
fn what_is_read_is_what_is_written_back() {
    let written = serde_json::json!({
        "clusterAffinities": [{
            "affinityName": "near",
            "labelSelector": { "matchLabels": { "tier": "gold" } },
            "overflowAffinities": [{ "affinityName": "far", "exclude": ["m1"] }],
        }],
        "clusterTolerations": [{ "key": "k", "operator": "Exists" }],
        "spreadConstraints": [
            { "spreadByField": "region", "minGroups": 2, "maxGroups": 3 },
            { "spreadByLabel": "example.com/row" },
        ],
        "replicaScheduling": {
            "replicaSchedulingType": "Divided",
            "weightPreference": { "dynamicWeight": "AvailableReplicas" },
        },
    });
    let placement: Placement = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(
        placement.spread_constraints[0].spread_by_field,
        Some(SpreadField::Region)
    );
    assert_eq!(serde_json::to_value(&placement).unwrap(), written);
}

#[test]
fn the_schema_is_structural_and_carries_its_rules() {
    let crd = serde_json::to_value(Placed::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    refuse_unstructural(schema, "schema");
    let placement = &schema["properties"]["spec"]["properties"]["placement"];
    assert!(
        placement["x-kubernetes-validations"][0]["rule"]
            .as_str()
            .unwrap()
            .contains("clusterAffinities")
    );
    let spread = &placement["properties"]["spreadConstraints"]["items"];
    assert_eq!(spread["x-kubernetes-validations"].as_array().unwrap().len(), 2);
    let weight = &placement["properties"]["replicaScheduling"]["properties"]["weightPreference"]["properties"]
        ["staticWeightList"]["items"]["properties"]["weight"];
    assert_eq!(weight["minimum"].as_f64(), Some(0.0));
    assert_eq!(weight["type"], "integer");
}

/// Every node has a type, and no node's structure depends on its value.
fn refuse_unstructural(node: &serde_json::Value, path: &str) {
    for word in ["$ref", "oneOf", "anyOf", "allOf", "not"] {
        assert!(node.get(word).is_none(), "{path} has {word}: {node}");
    }
    assert!(
        node.get("type").is_some() || node.get("x-kubernetes-int-or-string").is_some(),
        "{path} has no type: {node}"
    );
    for (name, property) in node
        .get("properties")
        .and_then(|p| p.as_object())
        .into_iter()
        .flatten()
    {
        refuse_unstructural(property, &format!("{path}.{name}"));
    }
    if let Some(items) = node.get("items") {
        refuse_unstructural(items, &format!("{path}[]"));
    }
    if let Some(values) = node.get("additionalProperties").filter(|v| v.is_object()) {
        refuse_unstructural(values, &format!("{path}{{}}"));
    }
}
