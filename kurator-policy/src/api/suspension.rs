//! What a distribution policy does not do for now.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a distribution policy does not do for now. The words are Karmada's.
///
/// ```
/// use kurator_policy::api::Suspension;
///
/// let suspension: Suspension = serde_json::from_str(r#"{"dispatchingOnClusters": {"clusterNames": ["dr"]}}"#)?;
/// assert!(suspension.dispatching_to("dr") && !suspension.dispatching_to("prod"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suspension {
    /// Decide nothing anew about where objects go and how many replicas each cluster has: what is placed stays where
    /// it is with the numbers it has, what is not placed waits. Other changes of templates and overrides go out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scheduling: bool,
    /// Write nothing to any cluster: no change, no correction of drift, no removal. The deletion of the policy is
    /// carried out all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dispatching: bool,
    /// Write nothing to these clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatching_on_clusters: Option<SuspendedClusters>,
}

/// Clusters to which nothing is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspendedClusters {
    /// Their names.
    #[serde(default)]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253)))]
    pub cluster_names: Vec<String>,
}

impl Suspension {
    /// Whether nothing is to be written to this cluster.
    #[must_use]
    pub fn dispatching_to(&self, cluster: &str) -> bool {
        let listed = self.dispatching_on_clusters.as_ref();
        self.dispatching
            || listed.is_some_and(|listed| listed.cluster_names.iter().any(|name| name == cluster))
    }
}
