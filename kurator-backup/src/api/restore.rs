//! One restore of a fleet, or of a part of it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use kurator_core::names::{ClusterName, FleetName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::{ClusterSelection, RunLimits, SuccessRule};
use crate::driver::{BackupName, ExistingResources, ItemProgress, RestoreName, RestoreScope};

/// One restore from a run of a backup: of the whole fleet or some members, where they were or elsewhere.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "backup.kurator.dev",
    version = "v1alpha1",
    kind = "RestoreExecution",
    plural = "restoreexecutions",
    shortname = "rexec",
    category = "kurator",
    namespaced,
    status = "RestoreExecutionStatus",
    derive = "PartialEq",
    doc = "RestoreExecution is one restore of a fleet from a run of its backup: what was asked for, what it would change, and what became of it on every member.",
    printcolumn(name = "Run", type_ = "string", json_path = ".status.execution"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Completed",
        type_ = "integer",
        json_path = ".status.totals.completed",
        description = "Members that are restored"
    ),
    printcolumn(
        name = "Clusters",
        type_ = "integer",
        json_path = ".status.totals.clusters",
        description = "Members that are to be restored"
    ),
    printcolumn(
        name = "Create",
        type_ = "integer",
        json_path = ".status.totals.create",
        description = "Objects the plan creates"
    ),
    printcolumn(
        name = "Skip",
        type_ = "integer",
        json_path = ".status.totals.skip",
        description = "Objects that exist and are left as they are"
    ),
    printcolumn(
        name = "Patch",
        type_ = "integer",
        json_path = ".status.totals.patch",
        description = "Objects that exist and are patched"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf || (oldSelf.dryRun && !self.dryRun)")
    .message("a restore cannot be changed, except that dryRun can be switched off; create another"))]
#[non_exhaustive]
pub struct RestoreExecutionSpec {
    /// The fleet whose members are restored to.
    pub fleet: FleetName,
    /// Which run is restored from.
    pub from: RestoreSource,
    /// Which members of the run; without it, all.
    #[serde(default)]
    pub clusters: ClusterSelection,
    /// Members whose backup is restored elsewhere; all others are restored where they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub targets: Vec<RestoreTarget>,
    /// Which objects; without it, everything in the backups.
    #[serde(default)]
    pub scope: RestoreScope,
    /// Namespaces that are restored under another name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_mapping: BTreeMap<String, String>,
    /// What happens to objects that exist. Default `Skip`.
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
    /// Whether backups that miss items are restored from. Default false: such members fail.
    #[serde(default)]
    pub allow_partial: bool,
    /// Plans only: nothing is written to any member. Switch it off to carry the plan out.
    #[serde(default)]
    pub dry_run: bool,
    /// When the restore counts as completed.
    #[serde(default)]
    pub success: SuccessRule,
    /// How busy and how patient it is.
    #[serde(default)]
    pub limits: RunLimits,
}

impl RestoreExecutionSpec {
    /// A restore of everything `from`, where it was.
    #[must_use]
    pub fn new(fleet: FleetName, from: RestoreSource) -> Self {
        Self {
            fleet,
            from,
            clusters: ClusterSelection::default(),
            targets: Vec::new(),
            scope: RestoreScope::default(),
            namespace_mapping: BTreeMap::new(),
            existing: ExistingResources::default(),
            status_of: Vec::new(),
            restore_volumes: None,
            preserve_node_ports: None,
            storage_classes: BTreeMap::new(),
            modifiers: None,
            allow_partial: false,
            dry_run: false,
            success: SuccessRule::default(),
            limits: RunLimits::default(),
        }
    }
}

/// Which run a restore is from: one run, or the last one of a schedule at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.execution) != has(self.schedule)")
    .message("name either an execution or a schedule"))]
#[x_kube(validation = Rule::new("!has(self.at) || has(self.schedule)")
    .message("a point in time is for a schedule; an execution is one already"))]
#[non_exhaustive]
pub struct RestoreSource {
    /// A `BackupExecution` in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub execution: Option<String>,
    /// A `BackupSchedule` in the same namespace: its newest run that can be restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub schedule: Option<String>,
    /// With `schedule`: the newest run that began at this time or before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}

impl RestoreSource {
    /// From this execution.
    pub fn execution(name: impl Into<String>) -> Self {
        Self {
            execution: Some(name.into()),
            ..Self::default()
        }
    }

    /// From the newest run of this schedule.
    pub fn schedule(name: impl Into<String>) -> Self {
        Self {
            schedule: Some(name.into()),
            ..Self::default()
        }
    }
}

/// Where the backup of a member is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RestoreTarget {
    /// The member that was backed up.
    pub from: ClusterName,
    /// The member it is restored to. Its server must see the backup: by a location on the same bucket and prefix,
    /// read-only at best.
    pub to: ClusterName,
}

impl RestoreTarget {
    /// The backup of `from`, restored to `to`.
    #[must_use]
    pub fn new(from: ClusterName, to: ClusterName) -> Self {
        Self { from, to }
    }
}

/// Where a restore, or one member of it, is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum RestorePhase {
    /// It is not known yet what it would change.
    #[default]
    Pending,
    /// It is known what it would change; nothing was written.
    Planned,
    /// Being written.
    InProgress,
    /// The server is done; what is there is compared with what was in the backup.
    Verifying,
    /// Restored.
    Completed,
    /// Restored, with items that failed; of a run: the success rule is not met, and something was restored.
    PartiallyFailed,
    /// Given up.
    Failed,
}

impl RestorePhase {
    /// Whether nothing more happens.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::PartiallyFailed | Self::Failed)
    }
}

/// What a restore would change on a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RestoreCounts {
    /// Objects that do not exist and are created.
    #[serde(default)]
    pub create: u64,
    /// Objects that exist and are left as they are.
    #[serde(default)]
    pub skip: u64,
    /// Objects that exist and are patched.
    #[serde(default)]
    pub patch: u64,
    /// Objects of kinds that are never restored, or that the member does not serve.
    #[serde(default)]
    pub refused: u64,
}

/// What becomes of one storage class that claims in the backup ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StorageClassPlan {
    /// The class; empty for claims that name none.
    #[serde(default)]
    pub class: String,
    /// The class they get on the target; empty while the target has no default one.
    #[serde(default)]
    pub becomes: String,
    /// How many claims that are created.
    #[serde(default)]
    pub claims: u64,
    /// Whether the target has it, or the backup brings it.
    #[serde(default)]
    pub on_target: bool,
}

/// What became of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClusterRestore {
    /// The member that was backed up.
    pub cluster: ClusterName,
    /// The member it is restored to.
    pub target: ClusterName,
    /// The backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupName>,
    /// Where it is.
    #[serde(default)]
    pub phase: RestorePhase,
    /// The attempt, counted from 1; 0 while there was none.
    #[serde(default)]
    pub attempt: u32,
    /// The restore of this attempt on the target's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreName>,
    /// What it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<RestoreCounts>,
    /// Storage classes that are replaced, missing, or left to the target to choose; at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage_classes: Vec<StorageClassPlan>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ItemProgress>,
    /// Warnings the server counted.
    #[serde(default)]
    pub warnings: u64,
    /// Errors the server counted.
    #[serde(default)]
    pub errors: u64,
    /// Objects that were in the backup and are not on the member after the restore. `None` while nobody looked, or
    /// where the scope does not let anybody tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
    /// The first of them, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_objects: Vec<String>,
    /// Why it is so, one CamelCase word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it is tried again at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// How often in a row something was in the way.
    #[serde(default)]
    pub obstacles: u32,
}

impl ClusterRestore {
    /// A member of which nothing was asked yet.
    #[must_use]
    pub fn new(cluster: ClusterName, target: ClusterName, backup: Option<BackupName>) -> Self {
        Self {
            cluster,
            target,
            backup,
            phase: RestorePhase::Pending,
            attempt: 0,
            restore: None,
            planned: None,
            storage_classes: Vec::new(),
            progress: None,
            warnings: 0,
            errors: 0,
            missing: None,
            missing_objects: Vec::new(),
            reason: String::new(),
            message: String::new(),
            retry_at: None,
            obstacles: 0,
        }
    }
}

/// Sums over the members of a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RestoreTotals {
    /// Members that are to be restored.
    #[serde(default)]
    pub clusters: u32,
    /// Members that are restored.
    #[serde(default)]
    pub completed: u32,
    /// Objects the plan creates.
    #[serde(default)]
    pub create: u64,
    /// Objects that exist and are left as they are.
    #[serde(default)]
    pub skip: u64,
    /// Objects that exist and are patched.
    #[serde(default)]
    pub patch: u64,
}

/// What became of a restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RestoreExecutionStatus {
    /// The generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Progressing` and `Degraded`, with a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where the restore is.
    #[serde(default)]
    pub phase: RestorePhase,
    /// The run it is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// What became of every member, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cluster".into()]))]
    pub clusters: Vec<ClusterRestore>,
    /// Sums.
    #[serde(default)]
    pub totals: RestoreTotals,
}
