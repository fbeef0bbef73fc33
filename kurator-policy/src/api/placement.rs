//! Where the objects a policy selects are placed.

#![allow(
    unreachable_pub,
    reason = "KubeSchema derives a private twin with the visibility of its original"
)]

use k8s_openapi::api::core::v1::Toleration;
use kube::KubeSchema;
use schemars::JsonSchema;
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
    /// Makes the replicas of each workload of use only together: they go whole to one cluster, or nowhere. A workload
    /// that says so itself (a Volcano Job, a pod group) does not need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang: Option<GangRequirement>,
}

/// How many replicas of a workload must run together, in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GangRequirement {
    /// At least so many must fit at the same time, node by node; left out, all of them. The others go with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub min_available: Option<u32>,
    /// They must share the value of this node label, for example that of a rack; left out, they may be anywhere in
    /// the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: Option<String>,
    /// The replicas are divided into so many gangs, whose sizes differ by one at most: each of them needs
    /// `minAvailable` together in one cluster, the division and its weights apply to their number, and they are placed
    /// all or not at all. Needs `replicaSchedulingType: Divided`; left out, all replicas stay together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub sub_gangs: Option<u32>,
    /// How long a gang may be in a cluster without so many of it ready. Then it is taken out there, and once it is gone
    /// it is tried in the next cluster that it fits, never in two at once. For kinds with replicas, without `subGangs`;
    /// left out, it waits where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub pending_seconds: Option<u32>,
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
