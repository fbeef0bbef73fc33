//! How the replicas of a workload are shared out among the chosen clusters.

#![allow(
    unreachable_pub,
    reason = "KubeSchema derives a private twin with the visibility of its original"
)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster_affinity::ClusterAffinity;
use super::weight::Weight;

/// How replicas are shared out. The words and their meaning are Karmada's `ReplicaSchedulingStrategy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.replicaSchedulingType) || self.replicaSchedulingType != 'Duplicated' || (!has(self.replicaDivisionPreference) && !has(self.weightPreference))"
    )
    .message("replicaSchedulingType Duplicated divides nothing: leave out replicaDivisionPreference and weightPreference")
)]
pub struct ReplicaScheduling {
    /// Copy or divide. Left out, it is [`Divided`](ReplicaSchedulingType::Divided) when a preference or weights are
    /// given and [`Duplicated`](ReplicaSchedulingType::Duplicated) otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_scheduling_type: Option<ReplicaSchedulingType>,
    /// What a division aims at; left out, it is [`Weighted`](ReplicaDivisionPreference::Weighted).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_division_preference: Option<ReplicaDivisionPreference>,
    /// The weights of a weighted division; left out, every cluster weighs the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_preference: Option<WeightPreference>,
}

impl ReplicaScheduling {
    /// Copy or divide, with the default applied.
    ///
    /// ```
    /// # fn main() -> Result<(), serde_json::Error> {
    /// use kurator_policy::api::{ReplicaScheduling, ReplicaSchedulingType};
    ///
    /// let seldom_written: ReplicaScheduling =
    ///     serde_json::from_str(r#"{"replicaDivisionPreference": "Weighted"}"#)?;
    /// assert_eq!(seldom_written.scheduling_type(), ReplicaSchedulingType::Divided);
    /// assert_eq!(ReplicaScheduling::default().scheduling_type(), ReplicaSchedulingType::Duplicated);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scheduling_type(&self) -> ReplicaSchedulingType {
        self.replica_scheduling_type.unwrap_or({
            if self.replica_division_preference.is_some() || self.weight_preference.is_some() {
                ReplicaSchedulingType::Divided
            } else {
                ReplicaSchedulingType::Duplicated
            }
        })
    }
}

/// Copy the replicas to every cluster, or divide them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a wire value: a new type is a new API version"
)]
pub enum ReplicaSchedulingType {
    /// Every chosen cluster runs all the replicas.
    Duplicated,
    /// The chosen clusters share the replicas.
    Divided,
}

/// What a division aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a wire value: a new preference is a new API version"
)]
pub enum ReplicaDivisionPreference {
    /// As few clusters as hold the replicas.
    Aggregated,
    /// In proportion to weights.
    Weighted,
}

/// Where the weights of a division come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightPreference {
    /// Weights that stand in the policy. A cluster that several entries match has the largest of their weights; one
    /// that none matches gets no replicas. If no chosen cluster has a weight above 0, all weigh the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub static_weight_list: Vec<StaticClusterWeight>,
    /// Weights that are measured. Wins over `staticWeightList`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_weight: Option<DynamicWeight>,
}

/// The weight of some clusters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticClusterWeight {
    /// The clusters.
    pub target_cluster: ClusterAffinity,
    /// The weight each of them has; 0 is legal and means no replicas.
    pub weight: Weight,
}

/// A weight that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a wire value: a new measure is a new API version"
)]
pub enum DynamicWeight {
    /// How many more replicas of the workload the cluster has room for.
    AvailableReplicas,
}
