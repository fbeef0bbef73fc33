use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DetachPolicy;

/// A named group of member clusters that is treated as one unit.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "fleet.kurator.dev",
    version = "v1alpha1",
    kind = "Fleet",
    category = "kurator",
    namespaced,
    status = "FleetStatus",
    derive = "PartialEq",
    doc = "Fleet is a named group of member clusters that is treated as one unit.",
    printcolumn(
        name = "Clusters",
        type_ = "integer",
        json_path = ".status.totalClusters",
        description = "Members of the fleet"
    ),
    printcolumn(
        name = "Ready-Clusters",
        type_ = "integer",
        json_path = ".status.readyClusters",
        description = "Members that can be reached and are healthy"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct FleetSpec {
    /// The members, by the objects that describe them in the fleet's namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into(), "kind".into()]))]
    pub clusters: Vec<FleetMember>,
    /// Further members: every cluster in the fleet's namespace, attached or managed, whose labels this selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_selector: Option<LabelSelector>,
    /// What happens to what was placed on the members when the fleet is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detach: Option<DetachPolicy>,
    /// What is installed in every member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<FleetPlugin>,
}

/// A reference to the object that describes a member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetMember {
    /// Name of the object, and of the member wherever clusters are named.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Kind of the object.
    pub kind: MemberKind,
}

/// The kinds that describe a member cluster.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum MemberKind {
    /// A cluster that was created elsewhere and is known by its kubeconfig.
    AttachedCluster,
    /// A cluster whose machines are managed here too.
    #[default]
    Cluster,
}

/// What is installed in every member of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetPlugin {
    /// Metrics of all members in one place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricPlugin>,
    /// Dashboards over these metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grafana: Option<GrafanaPlugin>,
}

/// Metrics of all members in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricPlugin {
    /// The long-term store of the metrics.
    pub thanos: ThanosStore,
}

/// Where Thanos keeps its blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThanosStore {
    /// The object store.
    pub object_store_config: ObjectStoreConfig,
}

/// A reference to the configuration of an object store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreConfig {
    /// Name of the Secret, in the fleet's namespace, that holds the configuration.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// Dashboards over the fleet's metrics; it has no settings yet, `{}` asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct GrafanaPlugin {}

/// What is known of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    /// The generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Progressing` and `Degraded`, with a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Members of the fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_clusters: Option<i64>,
    /// Members that can be reached and are healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_clusters: Option<i64>,
    /// The members, and what is known of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into(), "kind".into()]))]
    pub clusters: Vec<FleetMemberStatus>,
    /// How many members are not listed for want of room; those that are not ready are listed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted_clusters: Option<i64>,
}

/// What is known of one member of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetMemberStatus {
    /// Name of the member.
    pub name: String,
    /// Kind of the object that describes it.
    pub kind: MemberKind,
    /// Whether it can be reached and is healthy.
    #[serde(default)]
    pub ready: bool,
    /// Why it is so, one CamelCase word.
    #[serde(default)]
    pub reason: String,
    /// The same for people.
    #[serde(default)]
    pub message: String,
    /// Version of its API server, such as `v1.37.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Since when it is ready, or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When it last answered, for members that are not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}
