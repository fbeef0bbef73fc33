//! One run of a backup over a fleet.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use kurator_core::names::ClusterName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::BackupPolicy;
use crate::driver::{BackupName, ItemProgress};

/// One backup of a fleet: made by a user, or by a schedule.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "backup.kurator.dev",
    version = "v1alpha1",
    kind = "BackupExecution",
    plural = "backupexecutions",
    shortname = "bexec",
    category = "kurator",
    namespaced,
    status = "BackupExecutionStatus",
    derive = "PartialEq",
    doc = "BackupExecution is one backup of a fleet: what was asked for, and what became of it on every member.",
    printcolumn(name = "Fleet", type_ = "string", json_path = ".spec.policy.fleet"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Completed",
        type_ = "integer",
        json_path = ".status.totals.completed",
        description = "Members whose backup is complete"
    ),
    printcolumn(
        name = "Clusters",
        type_ = "integer",
        json_path = ".status.totals.clusters",
        description = "Members that are backed up"
    ),
    printcolumn(
        name = "Items",
        type_ = "integer",
        json_path = ".status.totals.items",
        description = "Items backed up"
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
#[non_exhaustive]
pub struct BackupExecutionSpec {
    /// What is backed up. It cannot be changed: this object is the record of one run.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("the policy of an execution cannot be changed; create another execution"))]
    pub policy: BackupPolicy,
    /// The schedule that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub schedule: Option<String>,
    /// When the schedule wanted it, where a schedule made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Time>,
    /// Stops the run. What has completed stays; backups that have not begun are taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// Keeps the backups whatever retention says, and refuses their deletion.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
}

impl BackupExecutionSpec {
    /// One run of `policy`.
    #[must_use]
    pub fn new(policy: BackupPolicy) -> Self {
        Self {
            policy,
            schedule: None,
            scheduled_at: None,
            cancel: false,
            hold: false,
        }
    }
}

/// Where a run is as a whole.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum ExecutionPhase {
    /// Nothing was asked of any member yet.
    #[default]
    Pending,
    /// Members are being held still.
    Quiescing,
    /// Backups are being made.
    InProgress,
    /// All items are read; data or files are still being written.
    Finalizing,
    /// The success rule is met.
    Completed,
    /// The success rule is not met, and something can be restored.
    PartiallyFailed,
    /// Nothing can be restored.
    Failed,
    /// The backups are being deleted.
    Deleting,
}

impl ExecutionPhase {
    /// Whether the run has ended.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::PartiallyFailed | Self::Failed)
    }

    /// As the API spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Quiescing => "Quiescing",
            Self::InProgress => "InProgress",
            Self::Finalizing => "Finalizing",
            Self::Completed => "Completed",
            Self::PartiallyFailed => "PartiallyFailed",
            Self::Failed => "Failed",
            Self::Deleting => "Deleting",
        }
    }
}

impl std::fmt::Display for ExecutionPhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where one member is in a run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum ClusterPhase {
    /// Waiting for its turn, for its server, or for the next attempt.
    #[default]
    Waiting,
    /// Being held still.
    Quiescing,
    /// The backup is decided: it may or may not be on the server yet.
    Submitting,
    /// The server has it and has not begun.
    Queued,
    /// The server is at work.
    InProgress,
    /// All items are read.
    Finalizing,
    /// Complete.
    Completed,
    /// Ended with items that failed; it can be restored from.
    PartiallyFailed,
    /// Given up.
    Failed,
    /// Cancelled.
    Cancelled,
}

impl ClusterPhase {
    /// Whether the member is done.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::PartiallyFailed | Self::Failed | Self::Cancelled
        )
    }

    /// Whether the member's server may be at work, or have work of ours in its queue.
    #[must_use]
    pub const fn is_at_work(self) -> bool {
        matches!(
            self,
            Self::Submitting | Self::Queued | Self::InProgress | Self::Finalizing
        )
    }
}

/// What became of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClusterExecution {
    /// Name of the cluster.
    pub cluster: ClusterName,
    /// Where it is.
    #[serde(default)]
    pub phase: ClusterPhase,
    /// The attempt, counted from 1; 0 while there was none.
    #[serde(default)]
    pub attempt: u32,
    /// The backup of this attempt on the member's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupName>,
    /// Why it is so, one CamelCase word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ItemProgress>,
    /// When phase or progress changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
    /// When it is tried again at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// How often in a row something was in the way.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub obstacles: u32,
    /// How often the server was reminded of this attempt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pokes: u32,
    /// When the server began to read: what is restored is as it was then or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the backup ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// While the member may be holding still for us: when it lets go by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Time>,
    /// Whether it stopped holding still before its lease ended, such as by a pod that went.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold_broken: bool,
    /// Whether everything was read while the whole fleet held still.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_cut: bool,
    /// Which bucket and prefix the backup went to, as a hash.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub store: String,
    /// While it is being deleted: the number of the request.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deletion: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl ClusterExecution {
    /// A member of which nothing was asked yet.
    #[must_use]
    pub fn new(cluster: ClusterName) -> Self {
        Self {
            cluster,
            phase: ClusterPhase::Waiting,
            attempt: 0,
            backup: None,
            reason: String::new(),
            message: String::new(),
            progress: None,
            changed_at: None,
            retry_at: None,
            obstacles: 0,
            pokes: 0,
            started_at: None,
            completed_at: None,
            held_until: None,
            hold_broken: false,
            in_cut: false,
            store: String::new(),
            deletion: 0,
        }
    }
}

/// Sums over the members of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ExecutionTotals {
    /// Members that are backed up.
    #[serde(default)]
    pub clusters: u32,
    /// Members whose backup is complete.
    #[serde(default)]
    pub completed: u32,
    /// Members whose backup misses items.
    #[serde(default)]
    pub partially_failed: u32,
    /// Members without a backup, for good.
    #[serde(default)]
    pub failed: u32,
    /// Items backed up.
    #[serde(default)]
    pub items: u64,
}

/// The hold over a fleet that is backed up at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct QuiesceRecord {
    /// The round, counted from 1: members that cannot be held together are let go, and another round begins.
    pub round: u32,
    /// When the round began.
    pub started_at: Time,
    /// When every member has let go at the latest.
    pub until: Time,
    /// When all members held still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_at: Option<Time>,
    /// Whether all members held still until everything was read. `None` while that is not decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent: Option<bool>,
}

/// What became of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BackupExecutionStatus {
    /// The generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Progressing` and `Degraded`, with a reason and a message; `Consistent` for the consistency `Fleet`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where the run is.
    #[serde(default)]
    pub phase: ExecutionPhase,
    /// When the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// What became of every member, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cluster".into()]))]
    pub clusters: Vec<ClusterExecution>,
    /// Sums.
    #[serde(default)]
    pub totals: ExecutionTotals,
    /// The hold over the fleet, for the consistency `Fleet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesce: Option<QuiesceRecord>,
}
