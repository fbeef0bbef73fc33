//! Where the objects a policy selects are placed.

#![allow(
    unreachable_pub,
    reason = "KubeSchema derives a private twin with the visibility of its original"
)]

use k8s_openapi::api::core::v1::Toleration;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::accelerators::{AcceleratorPreference, ResourceConstraint};
use super::affinity_terms::ClusterAffinityTerm;
use super::cluster_affinity::ClusterAffinity;
use super::replica_scheduling::ReplicaScheduling;
use super::spread_constraint::SpreadConstraint;

/// Where the selected objects are placed, and how their replicas are shared out.
///
/// The empty placement copies everything to every cluster of the fleet.
///
/// ```
/// # fn main() -> Result<(), serde_json::Error> {
/// use kurator_policy::api::{Placement, ReplicaSchedulingType};
///
/// let placement: Placement = serde_json::from_str(r#"{
///     "clusterAffinity": { "clusterNames": ["prod", "dr"] },
///     "replicaScheduling": {
///         "replicaDivisionPreference": "Weighted",
///         "weightPreference": { "staticWeightList": [
///             { "targetCluster": { "clusterNames": ["prod"] }, "weight": 90 },
///             { "targetCluster": { "clusterNames": ["dr"] }, "weight": 10 }
///         ] }
///     }
/// }"#)?;
/// assert_eq!(placement.scheduling_type(), ReplicaSchedulingType::Divided);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.clusterAffinity) || !has(self.clusterAffinities)")
        .message("clusterAffinity and clusterAffinities exclude each other")
)]
pub struct Placement {
    /// The clusters to choose from; left out, all of the fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_affinity: Option<ClusterAffinity>,
    /// Groups of clusters to choose from, tried in order. Not together with `clusterAffinity`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub cluster_affinities: Vec<ClusterAffinityTerm>,
    /// Cluster taints that do not keep the workload away. `Exists` and `Equal` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub cluster_tolerations: Vec<Toleration>,
    /// Over how many clusters, regions and the like the workload spreads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub spread_constraints: Vec<SpreadConstraint>,
    /// How the replicas are shared out; left out, every cluster runs all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_scheduling: Option<ReplicaScheduling>,
    /// Hardware a cluster must offer; every entry must be met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub resource_constraints: Vec<ResourceConstraint>,
    /// Hardware that is liked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub preference: Vec<AcceleratorPreference>,
}

impl Placement {
    /// Copy or divide, with the defaults applied.
    pub fn scheduling_type(&self) -> super::ReplicaSchedulingType {
        self.replica_scheduling.as_ref().map_or(
            super::ReplicaSchedulingType::Duplicated,
            ReplicaScheduling::scheduling_type,
        )
    }
}
