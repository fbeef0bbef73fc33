//! Moving what runs on one member to another.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use kurator_core::names::{ClusterName, FleetName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    policy::{Consistency, QuiescePolicy, RunLimits},
    restore::RestoreTotals,
};
use crate::driver::{BackupHook, BackupScope, ExistingResources, LocationName};

/// Objects of one member, backed up and restored on another, gate by gate, with a way back.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "backup.kurator.dev",
    version = "v1alpha1",
    kind = "Migration",
    plural = "migrations",
    shortname = "migr",
    category = "kurator",
    namespaced,
    status = "MigrationStatus",
    derive = "PartialEq",
    doc = "Migration moves objects of one member of a fleet to another: backup, plan, restore and verification, each behind a gate, with a way back until it is finished.",
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from"),
    printcolumn(name = "To", type_ = "string", json_path = ".spec.to"),
    printcolumn(name = "Gate", type_ = "string", json_path = ".spec.proceedTo"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
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
#[x_kube(validation = Rule::new("self.from != self.to")
    .message("from and to are the same member; name another one to move to"))]
#[non_exhaustive]
pub struct MigrationSpec {
    /// The fleet of both members.
    #[x_kube(validation = Rule::new("self == oldSelf").message("a migration cannot be changed; create another"))]
    pub fleet: FleetName,
    /// The member that is moved from. Nothing there is changed or deleted.
    #[x_kube(validation = Rule::new("self == oldSelf").message("a migration cannot be changed; create another"))]
    pub from: ClusterName,
    /// The member that is moved to. Its server must see what the other one writes: by a location on the same bucket
    /// and prefix, read-only at best.
    #[x_kube(validation = Rule::new("self == oldSelf").message("a migration cannot be changed; create another"))]
    pub to: ClusterName,
    /// What is taken, and how.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a migration cannot be changed; create another"))]
    pub backup: MigrationBackup,
    /// How it is put there.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a migration cannot be changed; create another"))]
    pub restore: MigrationRestore,
    /// How far it may go. Default `Plan`: it is known what would change on the target, and nothing was written there.
    #[serde(default)]
    pub proceed_to: MigrationGate,
    /// Takes it back: what runs is stopped, its backup is deleted. What was restored is left on the target and said
    /// in the status. It is too late once the migration has completed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub go_back: bool,
    /// How busy and how patient backup and restore are.
    #[serde(default)]
    pub limits: RunLimits,
}

impl MigrationSpec {
    /// Everything on `from`, moved to `to`, as far as the plan.
    #[must_use]
    pub fn new(fleet: FleetName, from: ClusterName, to: ClusterName) -> Self {
        Self {
            fleet,
            from,
            to,
            backup: MigrationBackup::default(),
            restore: MigrationRestore::default(),
            proceed_to: MigrationGate::default(),
            go_back: false,
            limits: RunLimits::default(),
        }
    }
}

/// What is taken from the source, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MigrationBackup {
    /// Which objects; without it, everything.
    #[serde(default)]
    pub scope: BackupScope,
    /// Where the backup goes; without it, to the default location of the source's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_location: Option<LocationName>,
    /// `Application` runs `hooks` around each pod; `Fleet` freezes the source by `quiesce` while it is read.
    #[serde(default)]
    pub consistency: Consistency,
    /// Commands around the backup of pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub hooks: Vec<BackupHook>,
    /// How the source is frozen while it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesce: Option<QuiescePolicy>,
    /// Whether volumes are snapshotted; without it, the server decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_volumes: Option<bool>,
    /// Whether the files of volumes are copied; without it, the server decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system_backup: Option<bool>,
}

/// How it is put onto the target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MigrationRestore {
    /// Namespaces that are restored under another name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_mapping: BTreeMap<String, String>,
    /// What happens to objects that exist on the target. Default `Skip`.
    #[serde(default)]
    pub existing: ExistingResources,
    /// Kinds whose status is restored too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    pub status_of: Vec<String>,
    /// Whether volumes are restored; without it, the server decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_volumes: Option<bool>,
    /// Whether services keep their node ports; without it, the server decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve_node_ports: Option<bool>,
    /// Storage classes that volume claims get instead of theirs, and so do the volumes and stateful sets that come with
    /// them. A class that the target does not have must be replaced, or by itself to be kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_classes: BTreeMap<String, String>,
    /// Changes to objects on their way: Velero's resource modifiers, `version: v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub modifiers: Option<String>,
}

/// How far a migration may go.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum MigrationGate {
    /// Up to a complete backup of the source.
    Backup,
    /// Up to a plan of what would change on the target.
    #[default]
    Plan,
    /// Up to a verified restore on the target. The way back is open.
    Restore,
    /// To its end.
    Finish,
}

/// Where a migration is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum MigrationPhase {
    /// Nothing was done yet.
    #[default]
    Pending,
    /// The source is being backed up.
    BackingUp,
    /// The backup is complete; the gate `Plan` is closed.
    BackedUp,
    /// What would change on the target is being found out.
    Planning,
    /// It is known what would change on the target; the gate `Restore` is closed.
    Planned,
    /// The target is being written.
    Restoring,
    /// Everything is there; the gate `Finish` is closed.
    Restored,
    /// Done.
    Completed,
    /// It cannot go on. The way back is open.
    Failed,
    /// It is being taken back.
    GoingBack,
    /// It was taken back.
    WentBack,
}

impl MigrationPhase {
    /// Whether nothing more happens, whatever is asked.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::WentBack)
    }
}

/// What became of a migration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MigrationStatus {
    /// The generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Progressing` and `Degraded`, with a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where it is.
    #[serde(default)]
    pub phase: MigrationPhase,
    /// The `BackupExecution` that takes the objects, from when it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// The `RestoreExecution` that puts them there, from when it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<String>,
    /// Whether the target may have been written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub target_written: bool,
    /// What the plan changes on the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<RestoreTotals>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it completed or was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}
