//! The manifests users have today, read as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kube::{CustomResourceExt, Resource};
use kurator_policy::api::{DistributionPolicy, OverrideOperator, OverridePolicy, PathOverride, apps, crds};
use serde_json::{Value, json};

const DISTRIBUTION: &str = include_str!("../../examples/manifests/distribution.yaml");
const ACCELERATORS: &str = include_str!("../../examples/manifests/accelerators.yaml");

fn documents(yaml: &str) -> Vec<&str> {
    yaml.split("\n---\n").collect()
}

#[test]
fn the_distribution_manifest_is_read_whole() {
    let [policy, overrides] = documents(DISTRIBUTION)[..] else {
        panic!("two documents")
    };

    let read: DistributionPolicy = serde_saphyr::from_str(policy).unwrap();
    assert_eq!(read.spec.resource_selectors[0].kind, "Deployment");
    let written: Value = serde_saphyr::from_str(policy).unwrap();
    assert_eq!(
        serde_json::to_value(&read).unwrap(),
        written,
        "nothing is dropped or added on the way out"
    );

    let read: OverridePolicy = serde_saphyr::from_str(overrides).unwrap();
    let rule = &read.spec.override_rules[0];
    assert_eq!(
        rule.target_clusters.as_ref().unwrap().cluster_names,
        ["cluster-dr"]
    );
    let wanted = PathOverride {
        path: "/spec/replicas".into(),
        operator: None,
        value: Some(json!(1)),
    };
    assert_eq!(rule.overrides, [wanted]);
    let written: Value = serde_saphyr::from_str(overrides).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), written);
}

#[test]
fn the_accelerator_manifest_is_read_whole_under_its_own_group() {
    let read: apps::DistributionPolicy = serde_saphyr::from_str(ACCELERATORS).unwrap();
    let written: Value = serde_saphyr::from_str(ACCELERATORS).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), written);
    assert_eq!(
        apps::DistributionPolicy::api_version(&()),
        "apps.kurator.dev/v1alpha1"
    );

    let converted = DistributionPolicy::from(read.clone());
    assert_eq!((converted.metadata, converted.spec), (read.metadata, read.spec));
}

#[test]
fn an_explicit_null_is_a_value_and_a_missing_value_is_none() {
    let yaml = "[{path: /a, operator: add, value: null}, {path: /a, operator: remove}]";
    let read: Vec<PathOverride> = serde_saphyr::from_str(yaml).unwrap();
    assert_eq!(read[0].value, Some(Value::Null));
    assert_eq!(
        (read[1].operator, &read[1].value),
        (Some(OverrideOperator::Remove), &None)
    );
}

#[test]
fn both_groups_have_the_same_schema() {
    let (policy, apps) = (DistributionPolicy::crd(), apps::DistributionPolicy::crd());
    assert_eq!(policy.spec.versions, apps.spec.versions);
    assert_eq!(
        policy.metadata.name.as_deref(),
        Some("distributionpolicies.policy.kurator.dev")
    );
    assert_eq!(
        apps.metadata.name.as_deref(),
        Some(apps::DistributionPolicy::crd_name())
    );
    assert_eq!(apps.spec.group, "apps.kurator.dev");
}

#[test]
fn status_lists_merge_by_their_keys() {
    let crd = serde_json::to_value(DistributionPolicy::crd()).unwrap();
    let status =
        &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
    for (list, key) in [("conditions", "type"), ("clusters", "cluster")] {
        assert_eq!(status[list]["x-kubernetes-list-type"], "map", "{list}");
        assert_eq!(status[list]["x-kubernetes-list-map-keys"], json!([key]), "{list}");
    }
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
