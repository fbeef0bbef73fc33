use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ActivatedObjects, Activation, FailoverBehavior, Placement, PlacementInUse, ResourceSelector, Suspension,
    failover::FailedOver,
    rollout::{ClusterRollout, RolloutBehavior, RolloutStatus},
};

/// Which objects go to which clusters, and how their replicas are divided.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "policy.kurator.dev",
    version = "v1alpha1",
    kind = "DistributionPolicy",
    plural = "distributionpolicies",
    shortname = "dpol",
    category = "kurator",
    namespaced,
    status = "DistributionPolicyStatus",
    derive = "PartialEq",
    doc = "DistributionPolicy says which objects of its namespace go to which clusters of the fleet, and how their replicas are divided.",
    printcolumn(
        name = "Clusters",
        type_ = "integer",
        json_path = ".status.totals.clusters",
        description = "Clusters that were given something"
    ),
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".status.totals.desiredReplicas",
        description = "Replicas the selected objects ask for"
    ),
    printcolumn(
        name = "Planned",
        type_ = "integer",
        json_path = ".status.totals.plannedReplicas",
        description = "Replicas the division gave to clusters"
    ),
    printcolumn(
        name = "Applied",
        type_ = "integer",
        json_path = ".status.totals.appliedReplicas",
        description = "Replicas the members were told to run, after overrides"
    ),
    printcolumn(
        name = "Running",
        type_ = "integer",
        json_path = ".status.totals.readyReplicas",
        description = "Replicas that are ready in the members"
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
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DistributionPolicySpec {
    /// The objects to distribute; one match is enough.
    #[schemars(length(max = 100))]
    #[x_kube(validation = Rule::new("size(self) > 0")
        .message("name at least one kind of object: a policy without selectors would distribute nothing"))]
    pub resource_selectors: Vec<ResourceSelector>,
    /// Where they go and how their replicas are divided.
    #[serde(default)]
    pub placement: Placement,
    /// Whether what the objects refer to goes along: of their pods the ConfigMaps, Secrets, volume claims, service
    /// account and claim templates, of an Ingress and a StatefulSet the services, of a custom kind its
    /// CustomResourceDefinition. Shared with other policies; it leaves a cluster with the last object there that needs
    /// it, a volume claim with its data. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub propagate_deps: bool,
    /// What to do with an object that is already in a member and was not put there by this policy. Default `Abort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict_resolution: Option<ConflictResolution>,
    /// How objects get into the members: by server-side apply, or not at all, to learn first what would change. Default
    /// `ServerSideApply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply_strategy: Option<ApplyStrategy>,
    /// What is not done for now; left out, everything is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspension: Option<Suspension>,
    /// Which of several policies that select an object gets it: the highest priority does, then the one that names it
    /// most precisely. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Whether this policy takes objects away from policies of strictly lower priority. Default `Never`: it waits until
    /// they let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemption: Option<Preemption>,
    /// When a change of the placement begins to hold for an object, and when it is taken away from another policy: at
    /// once, or with the next change of the object itself, its replica count apart. Default `Immediate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Whether and how the objects leave clusters that are tainted, out of reach, or in which they are not well; left
    /// out, they stay wherever they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverBehavior>,
    /// How a change of templates, placement or overrides reaches the clusters; left out, all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutBehavior>,
}

/// Whether a policy takes objects away from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum Preemption {
    /// It waits until they let go.
    #[default]
    Never,
    /// It takes what policies of strictly lower priority have.
    Always,
}

/// What to do with an object that exists in a member and belongs to someone else.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum ConflictResolution {
    /// Leave it alone and say so in the status.
    #[default]
    Abort,
    /// Take it over.
    Overwrite,
}

/// How objects get into the members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum ApplyStrategy {
    /// By server-side apply.
    #[default]
    ServerSideApply,
    /// Not at all: nothing is written to any member. Each is asked what applying would do there, and the status says what
    /// would be created, changed (with the paths of the fields) or removed, and what is in conflict with whom.
    ReportDiff,
}

/// What became of a distribution policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DistributionPolicyStatus {
    /// The generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Progressing` and `Degraded`, with a reason and a message; and where they apply `TotalKept`, whether
    /// overrides leave the number of replicas as it is, `DependenciesFound`, whether what the objects refer to is on
    /// the hub, and `Activated`, whether the placement holds for every object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What every cluster was given and what became of it there, over all selected objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cluster".into()]))]
    pub clusters: Vec<ClusterDistribution>,
    /// The sums over all clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<DistributionTotals>,
    /// The kinds of which something may be in some cluster: where to look for what is to be taken out again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placed_kinds: Vec<PlacedKind>,
    /// Where the replicas of each object were put: what runs where stays there, also when whoever decided it has been
    /// restarted and the members cannot be asked. Objects without replicas are not listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["apiVersion".into(), "kind".into(), "name".into()]))]
    pub placements: Vec<ObjectPlacement>,
    /// The objects that may be in some cluster only because what the policy distributes refers to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["apiVersion".into(), "kind".into(), "name".into()]))]
    pub dependencies: Vec<PlacedDependency>,
    /// What has left a cluster, or is leaving it, and may not be placed there again for now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["apiVersion".into(), "kind".into(), "name".into(), "cluster".into()]))]
    pub failovers: Vec<FailedOver>,
    /// With `activation: Lazy`, the placements that hold for some of the objects, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["revision".into()]))]
    pub activations: Vec<PlacementInUse>,
    /// With `activation: Lazy` and `preemption: Always`, the objects of other policies that are taken over once they
    /// change, and how they were when that was found out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["apiVersion".into(), "kind".into()]))]
    pub to_take_over: Vec<ActivatedObjects>,
    /// How far the last change of templates, placement or overrides has come, if the policy says how it is to be
    /// rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
}

/// An object that went along because another refers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacedDependency {
    /// Group and version, such as `v1`.
    pub api_version: String,
    /// Kind, such as `ConfigMap`.
    pub kind: String,
    /// Name of the object, in the namespace of the policy if its kind has namespaces.
    pub name: String,
}

/// Where the replicas of one object were put.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectPlacement {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Name of the object, in the namespace of the policy.
    pub name: String,
    /// The affinity group it was placed by, if the policy has groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// The replicas the division gave to each cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, i64>,
    /// The clusters that were told to run another number for now, and which: what leaves a cluster is kept there until
    /// what replaces it is ready, and a change of the placement reaches one stage of a rollout after the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holding: BTreeMap<String, i64>,
    /// What the copy in each cluster said last of its state, as labels; see `spec.failover.statePreservation`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, BTreeMap<String, String>>,
}

/// A kind of objects that was placed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacedKind {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
}

/// What one cluster was given, and what became of it there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDistribution {
    /// Name of the cluster.
    pub cluster: String,
    /// Objects that are in the cluster as planned.
    #[serde(default)]
    pub applied_objects: i64,
    /// Replicas the division gave to the cluster.
    #[serde(default)]
    pub planned_replicas: i64,
    /// Replicas the cluster was told to run: the planned ones, unless an override or an autoscaler there says otherwise.
    #[serde(default)]
    pub applied_replicas: i64,
    /// Replicas that are ready in the cluster.
    #[serde(default)]
    pub ready_replicas: i64,
    /// Replicas on edge nodes that are cut off on purpose: nobody sees them, and they are presumed to run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub presumed_replicas: i64,
    /// Why it is so, one CamelCase word, such as `Applied` or `Unreachable`.
    #[serde(default)]
    pub reason: String,
    /// The same for people.
    #[serde(default)]
    pub message: String,
    /// Since when it is so: how long the cluster has had this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Revision of the templates that were last applied there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Which revision of the policy the cluster was told to hold, if changes are rolled out in steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<ClusterRollout>,
    /// The objects of which something is wrong there, the worst first, and those that would change with `applyStrategy:
    /// ReportDiff`: as many as the status has room for, which is shared by all clusters. `message` counts all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectState>,
}

/// How one object is doing in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectState {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Name of the object, in the namespace of the policy if its kind has namespaces.
    pub name: String,
    /// Why it is so, one CamelCase word, such as `FieldImmutable` or `QuotaExceeded`.
    pub reason: String,
    /// The same for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// With `applyStrategy: ReportDiff` the paths of fields that would change, such as `.spec.replicas`: the first ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// Sums over all clusters of a distribution policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DistributionTotals {
    /// Clusters that were given something.
    #[serde(default)]
    pub clusters: i64,
    /// Objects of the hub that the policy distributes.
    #[serde(default)]
    pub objects: i64,
    /// Replicas these objects ask for.
    #[serde(default)]
    pub desired_replicas: i64,
    /// Replicas the division gave to clusters.
    #[serde(default)]
    pub planned_replicas: i64,
    /// Replicas the clusters were told to run, after overrides.
    #[serde(default)]
    pub applied_replicas: i64,
    /// Replicas that are ready.
    #[serde(default)]
    pub ready_replicas: i64,
    /// Replicas on edge nodes that are cut off on purpose, which are presumed to run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub presumed_replicas: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}
