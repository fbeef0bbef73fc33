//! What is backed up, where, how consistently, and when it counts as done.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{KubeSchema, core::Duration};
use kurator_core::names::{ClusterName, FleetName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::driver::{BackupHook, BackupScope, LocationName};

/// Which members of the fleet. Empty: all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClusterSelection {
    /// By name. A name that is no member of the fleet is reported and counts as failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub names: Vec<ClusterName>,
    /// By the labels of their registration; with `names`, the members that either selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// How the backups of the members belong together.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum Consistency {
    /// Each member by itself; nothing is held still.
    #[default]
    None,
    /// Each member by itself; `hooks` run around each pod.
    Application,
    /// All members at one instant: every member holds still before the first backup starts.
    Fleet,
}

/// How members are held still for a backup that is consistent over the fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct QuiescePolicy {
    /// What to run in which pods: `pre` holds still, `post` lets go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub hooks: Vec<BackupHook>,
    /// When a member lets go by itself if nobody renews. Default 2m, at least 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Duration>,
    /// How long members may take until all of them hold still. Default 1m; later the attempt is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// When the run as a whole counts as completed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum SuccessMode {
    /// Every member completed.
    #[default]
    All,
    /// At least `quorum` members completed.
    Quorum,
    /// At least one member completed.
    BestEffort,
}

/// When the run as a whole counts as completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode != 'Quorum' || has(self.quorum)")
    .message("the mode Quorum needs quorum: how many members must complete"))]
#[non_exhaustive]
pub struct SuccessRule {
    /// The rule.
    #[serde(default)]
    pub mode: SuccessMode,
    /// How many members must complete; for the mode `Quorum`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5000))]
    pub quorum: Option<u32>,
}

/// How busy and how patient a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RunLimits {
    /// How many members are at work at once. Default 10. A backup that is consistent over the fleet starts on all of
    /// them together, whatever stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_parallel: Option<u32>,
    /// Members start spread over this time, each always at the same point of it. Default 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// When the run ends at the latest, counted from its start. Default 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// How often a backup is made on one member at most. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: Option<u32>,
    /// The pause after the first failure; it doubles up to `longestBackoff`. Default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_backoff: Option<Duration>,
    /// The longest pause. Default 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_backoff: Option<Duration>,
    /// When a backup that its server does not begin counts as forgotten. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_after: Option<Duration>,
    /// When a backup that makes no progress is given up. Default 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hang_after: Option<Duration>,
}

/// What is different for some members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClusterOverride {
    /// The members; later entries win over earlier ones.
    pub clusters: ClusterSelection,
    /// Instead of the policy's scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<BackupScope>,
    /// Instead of the policy's storage location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_location: Option<LocationName>,
    /// Instead of the policy's time to live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Instead of the policy's hooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 50))]
    pub hooks: Option<Vec<BackupHook>>,
    /// Instead of the policy's choice about volume snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_volumes: Option<bool>,
    /// Instead of the policy's choice about copying the files of volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system_backup: Option<bool>,
}

/// What is backed up of a fleet, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.consistency) || self.consistency == 'Fleet' || !has(self.quiesce)")
    .message("quiesce is for the consistency Fleet; with Application, use hooks"))]
#[x_kube(validation = Rule::new("!has(self.consistency) || self.consistency != 'Fleet' || (has(self.quiesce) && has(self.quiesce.hooks) && size(self.quiesce.hooks) > 0)")
    .message("the consistency Fleet needs quiesce.hooks: what holds the applications still"))]
#[x_kube(validation = Rule::new("!has(self.hooks) || size(self.hooks) == 0 || (has(self.consistency) && self.consistency != 'None')")
    .message("hooks need the consistency Application or Fleet"))]
#[non_exhaustive]
pub struct BackupPolicy {
    /// The fleet.
    pub fleet: FleetName,
    /// Which of its members; without it, all.
    #[serde(default)]
    pub clusters: ClusterSelection,
    /// Which objects; without it, everything.
    #[serde(default)]
    pub scope: BackupScope,
    /// How long servers keep the backups. Without it the server decides (720h on Velero). A schedule with `retention`
    /// deletes earlier than that; this is the net below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Where the backups go; without it, to each server's default location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_location: Option<LocationName>,
    /// Whether volumes are snapshotted; without it, the server decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_volumes: Option<bool>,
    /// Whether the files of volumes are copied; without it, the server decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system_backup: Option<bool>,
    /// Volume snapshot locations, at most one a provider.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub snapshot_locations: Vec<String>,
    /// ConfigMap in each server's namespace that says what to do with which volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub resource_policy: Option<String>,
    /// How the backups of the members belong together.
    #[serde(default)]
    pub consistency: Consistency,
    /// Commands around the backup of pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub hooks: Vec<BackupHook>,
    /// How members are held still; for the consistency `Fleet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesce: Option<QuiescePolicy>,
    /// What is different for some members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub overrides: Vec<ClusterOverride>,
    /// When the run counts as completed.
    #[serde(default)]
    pub success: SuccessRule,
    /// How busy and how patient the run is.
    #[serde(default)]
    pub limits: RunLimits,
    /// Whether several members may write backups to one bucket and prefix. Servers expect one writer there. Default
    /// false: such members are reported and not backed up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_shared_store: bool,
}

impl BackupPolicy {
    /// Everything on every member of `fleet`, into the default locations.
    #[must_use]
    pub fn new(fleet: FleetName) -> Self {
        Self {
            fleet,
            clusters: ClusterSelection::default(),
            scope: BackupScope::default(),
            ttl: None,
            storage_location: None,
            snapshot_volumes: None,
            file_system_backup: None,
            snapshot_locations: Vec::new(),
            resource_policy: None,
            consistency: Consistency::default(),
            hooks: Vec::new(),
            quiesce: None,
            overrides: Vec::new(),
            success: SuccessRule::default(),
            limits: RunLimits::default(),
            allow_shared_store: false,
        }
    }
}
