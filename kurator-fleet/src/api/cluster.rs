use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema, core::Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cluster whose worker nodes come and go with a number.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "cluster.kurator.dev",
    version = "v1alpha1",
    kind = "Cluster",
    category = "kurator",
    namespaced,
    status = "ClusterStatus",
    derive = "PartialEq",
    doc = "Cluster is a cluster whose worker nodes come and go with a number, without an outage.",
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".spec.workerNodes.count",
        description = "Worker nodes wanted"
    ),
    printcolumn(
        name = "Current",
        type_ = "integer",
        json_path = ".status.workerNodes.current",
        description = "Worker nodes there are"
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
pub struct ClusterSpec {
    /// Where its machines are.
    pub infrastructure: ClusterInfrastructure,
    /// Its worker nodes.
    pub worker_nodes: WorkerNodes,
    /// Whether its pods get an identity of the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_identity: Option<PodIdentity>,
}

/// Where the machines of a cluster are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfrastructure {
    /// The cloud, such as `aws`.
    #[schemars(length(min = 1, max = 63))]
    pub cloud_provider: String,
    /// Its region, such as `us-west-2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// The Kubernetes version, such as `1.36`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub version: Option<String>,
}

/// The worker nodes of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerNodes {
    /// How many are wanted.
    #[schemars(range(min = 0, max = 15_000))]
    pub count: u32,
    /// The kind of machine for new ones, such as `m5.large`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub instance_type: Option<String>,
    /// How nodes are taken away; without it, at once and without losing data or a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainSettings>,
}

/// How nodes are taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainSettings {
    /// Whether somebody has to agree to a plan before it is carried out.
    #[serde(default)]
    pub approval: Approval,
    /// Nodes that are drained at once; 10 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_parallel: Option<u32>,
    /// How long a node may take to become empty, such as `15m`; no limit if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_deadline: Option<Duration>,
    /// What happens when it takes longer.
    #[serde(default)]
    pub on_deadline: DeadlineAction,
    /// When nodes may be taken away; at any time if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub windows: Vec<DrainWindow>,
    /// Run one replica more of a Deployment with a single one while its pod moves, if its budget allows nothing else.
    #[serde(default)]
    pub surge: bool,
    /// Take nodes away although data in `emptyDir` or `hostPath` volumes of their pods is lost.
    #[serde(default)]
    pub delete_local_data: bool,
    /// Take nodes away although they have pods that no controller makes again.
    #[serde(default)]
    pub delete_unreplicated: bool,
}

/// A time in which nodes may be taken away, or may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainWindow {
    /// When it begins: a cron expression of five fields, in UTC, such as `0 22 * * MON-FRI`.
    #[schemars(length(min = 9, max = 128))]
    pub schedule: String,
    /// How long it lasts, such as `6h`.
    pub duration: Duration,
    /// Whether nodes may not be taken away in it, whatever others say.
    #[serde(default)]
    pub closed: bool,
}

/// Whether somebody has to agree to a plan before it is carried out.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum Approval {
    /// Nobody has to.
    #[default]
    Automatic,
    /// Nothing is carried out: the plan is shown in the status.
    DryRun,
    /// The annotation `scaling.kurator.dev/approve` has to name the plan that the status shows.
    Manual,
}

/// What happens when a node is not empty by its deadline.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum DeadlineAction {
    /// What is left on it is deleted, past its budget, with its own grace period but at most 30 seconds of it.
    Force,
    /// It stays, and is schedulable again; the others go on.
    #[default]
    Leave,
    /// Nothing more is taken away, and what has not been drained is schedulable again.
    Stop,
}

/// Whether pods get an identity of the cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentity {
    /// It is set up once its role is ready.
    #[serde(default)]
    pub enabled: bool,
    /// The role; the provider names one if this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub iam_role: Option<String>,
}

/// What is known of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Progressing` and `Degraded`, and `PodIdentityReady` if pods are to have one, each with a reason and a
    /// message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Which cluster it is: the UID of its `kube-system` namespace at first contact. Another cluster behind its
    /// kubeconfig is refused from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,
    /// Its worker nodes, counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_nodes: Option<WorkerNodeCount>,
    /// The removal of nodes that is under way, or that waits for approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainProgress>,
    /// The identity its pods have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_identity: Option<PodIdentityStatus>,
}

/// The identity of the pods of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentityStatus {
    /// The role.
    pub role: String,
    /// What the cloud calls it, such as an ARN.
    pub id: String,
}

/// Worker nodes, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerNodeCount {
    /// There are, the control plane not counted.
    #[serde(default)]
    pub current: u32,
    /// Of them are Ready.
    #[serde(default)]
    pub ready: u32,
}

/// How far the removal of nodes is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainProgress {
    /// The plan, as the nodes name it.
    pub plan: String,
    /// Nodes that are still to go; the first hundred by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// The wave that is being drained, from 1; 0 while the plan waits.
    #[serde(default)]
    pub wave: u32,
    /// Waves of the plan.
    #[serde(default)]
    pub waves: u32,
    /// Pods that have moved.
    #[serde(default)]
    pub pods_moved: u32,
    /// Pods of the plan.
    #[serde(default)]
    pub pods_to_move: u32,
    /// When it is expected to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_end: Option<Time>,
}
