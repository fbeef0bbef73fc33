//! How the replicas of a workload are shared out among the chosen clusters.

#![allow(
    unreachable_pub,
    reason = "KubeSchema derives a private twin with the visibility of its original"
)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster_affinity::{ClusterAffinity, ClusterField};
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
    /// The fewest and the most replicas for some clusters; of several entries for a cluster the strictest count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub cluster_limits: Vec<ClusterLimit>,
    /// Give no cluster more than it has room for, in a division by static weights too; the others take the rest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cap_by_capacity: bool,
    /// Place what fits when not everything does, instead of nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial_placement: bool,
    /// How the division follows a change of the number of replicas; left out, it is
    /// [`Incremental`](ScalePath::Incremental).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_path: Option<ScalePath>,
    /// What must be left when any one cluster is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survive_cluster_loss: Option<SurviveClusterLoss>,
    /// Move running replicas where the division would put them today; left out, running replicas stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalancing: Option<Rebalancing>,
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
    /// Weights of groups of clusters, from the outermost level to the innermost: the replicas are divided among the
    /// groups of the first level, the part of each among the groups of the next in it, and last among its clusters by
    /// `staticWeightList`, in equal parts without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub hierarchy: Vec<WeightLevel>,
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

/// One level of a division by groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.groupByField) != has(self.groupByLabel)")
        .message("exactly one of groupByField and groupByLabel must be set")
)]
pub struct WeightLevel {
    /// What the groups share. Exactly one of this and `groupByLabel` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by_field: Option<ClusterField>,
    /// The label whose values make the groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub group_by_label: Option<String>,
    /// The weights of the groups. A group that is not listed gets nothing, unless no group present is listed with a
    /// weight above 0: then all weigh the same.
    #[schemars(length(max = 1000))]
    pub weights: Vec<GroupWeight>,
}

/// The weight of one group of clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupWeight {
    /// The value its clusters share.
    #[schemars(length(max = 253))]
    pub group: String,
    /// Its weight.
    pub weight: Weight,
}

/// The fewest and the most replicas some clusters get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas")
        .message("minReplicas must not be larger than maxReplicas")
)]
pub struct ClusterLimit {
    /// The clusters; each has the limits for itself.
    pub target_cluster: ClusterAffinity,
    /// A chosen cluster gets at least so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2_147_483_647))]
    pub min_replicas: Option<u32>,
    /// A chosen cluster gets at most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2_147_483_647))]
    pub max_replicas: Option<u32>,
}

/// How a division follows a change of the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a wire value: a new path is a new API version"
)]
pub enum ScalePath {
    /// Only what is added is placed, only what is taken away is removed. Where replicas end up depends on the steps
    /// by which their number came about.
    Incremental,
    /// The result depends on the number alone: many small steps end where one large step ends. Room counts with what
    /// runs in it, so no step moves what is placed while the room of the clusters stays as it is.
    PathIndependent,
}

/// What must be left of a workload when any one cluster is lost. Exactly one field is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.minAvailable) != has(self.minAvailablePercent)")
        .message("exactly one of minAvailable and minAvailablePercent must be set")
)]
pub struct SurviveClusterLoss {
    /// So many replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2_147_483_647))]
    pub min_available: Option<u32>,
    /// So many percent of the replicas, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub min_available_percent: Option<u32>,
}

/// When and how fast running replicas move to where the division would put them today, and back to an earlier
/// affinity group once it can have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rebalancing {
    /// At most so many percent of the replicas move in one pass, but at least one; left out, 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_moves_percent: Option<u32>,
    /// Nothing moves while fewer than so many percent of the replicas would; left out, 0. This keeps small changes of
    /// free room from moving replicas to and fro.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub min_gain_percent: Option<u32>,
    /// A cluster takes replicas by rebalancing only when it has been ready for so many seconds; left out, 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 604_800))]
    pub stabilization_seconds: Option<u32>,
}
