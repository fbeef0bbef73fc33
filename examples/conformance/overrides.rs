//! Cases of one object rendered for one cluster.

use std::collections::BTreeMap;

use kurator_core::observe::ClusterView;
use kurator_policy::overrides::{OverrideSet, karmada};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;

/// The namespace of the namespaced policies of every case.
const NAMESPACE: &str = "ns";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    object: Value,
    cluster: Cluster,
    #[serde(default)]
    cluster_override_policies: Vec<Policy>,
    #[serde(default)]
    override_policies: Vec<Policy>,
}

#[derive(Deserialize)]
struct Policy {
    name: String,
    spec: Value,
}

#[derive(Deserialize)]
struct Cluster {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    provider: String,
    region: String,
    zones: Vec<String>,
}

/// The rendered object, or that it cannot be rendered.
pub(super) fn answer(case: &Value) -> Answer {
    let case = Case::deserialize(case)?;
    let Cluster { metadata, spec } = case.cluster;
    let mut cluster = ClusterView::new(metadata.name.parse()?)
        .with_provider(spec.provider)
        .with_region(spec.region);
    cluster.labels = metadata.labels;
    cluster.zones = spec.zones.into_iter().collect();

    let mut policies = Vec::new();
    for policy in &case.cluster_override_policies {
        policies.push(karmada::cluster_override_policy(&policy.name, &policy.spec)?);
    }
    for policy in &case.override_policies {
        policies.push(karmada::override_policy(NAMESPACE, &policy.name, &policy.spec)?);
    }
    Ok(
        match OverrideSet::compile(policies).render(&case.object, &cluster) {
            Ok(rendered) => ("want", rendered.object),
            Err(_) => ("err", json!(true)),
        },
    )
}
