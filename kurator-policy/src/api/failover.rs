//! When the objects of a policy leave a cluster, and when they may return.

#![allow(
    unreachable_pub,
    reason = "KubeSchema derives a private twin with the visibility of its original"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether and how objects leave clusters. Each part is off where it is left out; the words are Karmada's where there
/// are such.
///
/// ```
/// use kurator_policy::api::{FailoverBehavior, PurgeMode};
///
/// let failover: FailoverBehavior = serde_json::from_str(r#"{
///     "cluster": { "tolerationSeconds": 60 },
///     "application": { "tolerationSeconds": 300, "purgeMode": "Never" },
///     "stabilizationSeconds": 600
/// }"#)?;
/// assert_eq!(failover.application.unwrap().purge_mode, Some(PurgeMode::Never));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverBehavior {
    /// Leave clusters that have a `NoExecute` taint which `placement.clusterTolerations` does not tolerate, or not any
    /// longer, and clusters that are out of reach or not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterFailover>,
    /// Leave clusters in which the object is not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationFailover>,
    /// How long replacements may take before an object is taken out of the cluster that it leaves `Gracefully`, although
    /// they are not ready; left out, 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 604_800))]
    pub grace_period_seconds: Option<u32>,
    /// How long a cluster must have been well before an object may be placed there again; left out, 600. How much of it
    /// moves at a time, and whether what runs elsewhere by then moves at all, is
    /// `placement.replicaScheduling.rebalancing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 604_800))]
    pub stabilization_seconds: Option<u32>,
    /// What the copy in a cluster that is left says of its state, for the copy that replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_preservation: Option<StatePreservation>,
}

/// Fields of the status of a copy that go along, as labels, to the one cluster that takes over from it: a mutating
/// webhook there can let a job begin where the other ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatePreservation {
    /// Which fields.
    #[schemars(length(min = 1, max = 8))]
    pub rules: Vec<StatePreservationRule>,
}

/// One field of the status, and the label that it becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatePreservationRule {
    /// Name of the label, such as `example.com/last-checkpoint`.
    #[schemars(length(min = 1, max = 317))]
    pub alias_label_name: String,
    /// Where the field is within `status`, such as `{.jobStatus.jobID}`: names and indices, nothing that finds several.
    /// Its value must do as that of a label.
    #[schemars(length(min = 1, max = 512))]
    pub json_path: String,
}

/// How objects leave a cluster as such.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFailover {
    /// How long a cluster may be out of reach or not ready; left out, 300. It counts from when the cluster was given up,
    /// which is a while after it fell silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 604_800))]
    pub toleration_seconds: Option<u32>,
    /// How the object is taken out of the cluster; left out, `Gracefully`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_mode: Option<PurgeMode>,
    /// What becomes of replicas on edge nodes that are cut off on purpose; left out, they are waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeFailover>,
}

/// How objects leave a cluster in which they are not well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationFailover {
    /// How long an object may be without all of its ready replicas; left out, 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 604_800))]
    pub toleration_seconds: Option<u32>,
    /// How the object is taken out of the cluster; left out, `Gracefully`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_mode: Option<PurgeMode>,
}

/// What becomes of replicas on autonomous edge nodes that cannot be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeFailover {
    /// Replace them when they have been cut off for so long; two copies may run then.
    #[schemars(range(max = 31_536_000))]
    pub replace_after_seconds: u32,
}

/// How an object is taken out of a cluster that it leaves.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a wire value: a new mode is a new API version"
)]
pub enum PurgeMode {
    /// At once, before it runs anywhere else: for what must not run twice.
    Directly,
    /// When what replaces it is ready, or the grace period is over.
    #[default]
    Gracefully,
    /// When the policy's annotation `policy.kurator.dev/release` names the cluster.
    Never,
}

/// An object that has left a cluster, or is leaving it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedOver {
    /// Group and version, such as `apps/v1`; `*` with kind and name `*` for everything without replicas.
    pub api_version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Name of the object, in the namespace of the policy.
    pub name: String,
    /// The cluster.
    pub cluster: String,
    /// Why it left.
    pub cause: FailoverCause,
    /// The taint, or since when the object was not well, or its nodes cut off.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// When it was decided.
    pub since: Time,
    /// How it is taken out of the cluster.
    pub purge_mode: PurgeMode,
    /// Whether it was told to go from there; until then it is kept.
    #[serde(default)]
    pub purged: bool,
    /// What its copy there said of its state, and where that goes; see `spec.failover.statePreservation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CarriedState>,
}

/// The state of a copy that was left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CarriedState {
    /// The labels that the copy which replaces it gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How far it is.
    #[serde(default)]
    pub phase: CarryPhase,
    /// The cluster that took over, and gets them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Fingerprint of the template with which it began to run there: another one goes without the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// How far the state of a copy that was left is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum CarryPhase {
    /// No cluster has taken over yet.
    #[default]
    Waiting,
    /// The cluster that took over gets it.
    Carried,
    /// It has been followed by a newer one, or there was none.
    Over,
    /// No cluster got it: those that took over had the object already, or were several.
    NoSingleTarget,
}

impl FailedOver {
    /// Whether both are about the same object and cluster.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        let key = |it: &Self| [&it.api_version, &it.kind, &it.name, &it.cluster].map(Clone::clone);
        key(self) == key(other)
    }
}

/// Why an object leaves a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum FailoverCause {
    /// The cluster has a taint that is not tolerated; one that is out of reach or not ready counts as tainted.
    Tainted,
    /// The object was not well there for too long.
    Unhealthy,
    /// Its edge nodes were cut off for too long.
    EdgeLost,
    /// It is a gang, and not enough of it got ready for too long; see `placement.gang.pendingSeconds`.
    GangPending,
}
