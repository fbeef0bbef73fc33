//! Reads the override policies of Karmada, which mean here what they mean there.
//!
//! The words are the same as in our own policies, their meaning is not quite: Karmada changes the images of
//! containers only and of the kinds it knows, leaves a tag it cannot read, takes negative numbers in a path, and
//! does not mind if an override renames an object. Priority is 0; policies of the cluster scope come first.
//!
//! ```
//! use kurator_core::observe::ClusterView;
//! use kurator_policy::overrides::{OverrideSet, karmada};
//! use serde_json::json;
//!
//! let policy = karmada::override_policy("default", "mirror", &json!({
//!     "resourceSelectors": [{ "apiVersion": "v1", "kind": "Pod" }],
//!     "overrideRules": [{ "overriders": { "imageOverrider": [
//!         { "component": "Registry", "operator": "replace", "value": "mirror.local:5000" },
//!     ] } }],
//! }))?;
//! let pod = json!({
//!     "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "namespace": "default" },
//!     "spec": { "containers": [{ "name": "main", "image": "docker.io/nginx:1.25" }] },
//! });
//! let rendered = OverrideSet::compile([policy]).render(&pod, &ClusterView::new("member1".parse()?))?;
//! assert_eq!(rendered.object["spec"]["containers"][0]["image"], "mirror.local:5000/nginx:1.25");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{ClusterAffinity, OverrideRule, Overriders};

use super::{Dialect, OverrideSource, report::PolicyName, select::SelectorSource};

/// A policy of Karmada that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the spec of override policy {policy} is not one of Karmada's")]
pub struct KarmadaSpecError {
    /// The policy.
    pub policy: PolicyName,
    /// What is wrong with it.
    #[source]
    pub source: serde_json::Error,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    resource_selectors: Option<Vec<Selector>>,
    #[serde(default)]
    override_rules: Option<Vec<Rule>>,
    /// The two before there were rules.
    #[serde(default)]
    target_cluster: Option<ClusterAffinity>,
    #[serde(default)]
    overriders: Option<Overriders>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    api_version: String,
    kind: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    label_selector: Option<LabelSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    target_cluster: Option<ClusterAffinity>,
    #[serde(default)]
    overriders: Option<Overriders>,
}

/// Reads the spec of an `OverridePolicy` of `policy.karmada.io/v1alpha1`.
///
/// # Errors
/// [`KarmadaSpecError`] if it is none.
pub fn override_policy(
    namespace: &str,
    name: &str,
    spec: &Value,
) -> Result<OverrideSource, KarmadaSpecError> {
    read(PolicyName::new(Some(namespace), name), spec)
}

/// Reads the spec of a `ClusterOverridePolicy` of `policy.karmada.io/v1alpha1`.
///
/// # Errors
/// [`KarmadaSpecError`] if it is none.
pub fn cluster_override_policy(name: &str, spec: &Value) -> Result<OverrideSource, KarmadaSpecError> {
    read(PolicyName::new(None, name), spec)
}

fn read(name: PolicyName, spec: &Value) -> Result<OverrideSource, KarmadaSpecError> {
    let spec = match Spec::deserialize(spec) {
        Ok(spec) => spec,
        Err(source) => return Err(KarmadaSpecError { policy: name, source }),
    };
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let selectors: Vec<_> = spec
        .resource_selectors
        .unwrap_or_default()
        .into_iter()
        .map(|selector| SelectorSource {
            api_version: selector.api_version,
            kind: selector.kind,
            namespace: given(selector.namespace),
            name: given(selector.name),
            labels: selector.label_selector,
        })
        .collect();
    let mut rules = spec.override_rules.unwrap_or_default();
    if rules.is_empty() {
        rules.push(Rule {
            target_cluster: spec.target_cluster,
            overriders: spec.overriders,
        });
    }
    let rules = rules.into_iter().map(|rule| OverrideRule {
        target_clusters: rule.target_cluster,
        overrides: Vec::new(),
        overriders: rule.overriders,
    });
    Ok(OverrideSource {
        dialect: Dialect::Karmada,
        name,
        priority: 0,
        selectors: (!selectors.is_empty()).then_some(selectors),
        rules: rules.collect(),
    })
}
