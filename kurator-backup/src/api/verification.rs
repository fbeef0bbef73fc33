//! Test restores of what a schedule has backed up.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Duration;
use kurator_core::names::ClusterName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::ClusterSelection;

/// Test restores on a schedule: the newest complete backup of a member is restored into scratch namespaces, compared
/// with what is in it, and removed again.
///
/// Nothing runs there: only kinds of [`verification::KINDS`](crate::verification::KINDS) are restored, workloads are
/// scaled to nothing or suspended, and a quota forbids pods, services and volume claims. Cluster-scoped objects, custom
/// resources and volumes are not touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VerificationPolicy {
    /// When: a cron expression in the time zone of the schedule. A time that passed while a verification was at work,
    /// or nobody was there, is made up for once.
    #[schemars(length(min = 1, max = 256))]
    pub schedule: String,
    /// Whose backups; without it, those of all members.
    #[serde(default)]
    pub clusters: ClusterSelection,
    /// How many members at one time. Default 1. Those that were verified longest ago come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub members: Option<u32>,
    /// The member that has the scratch namespaces; without it, each member has its own. Its server must see the
    /// backups, by a location on the same bucket and prefix. One member is verified at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onto: Option<ClusterName>,
    /// Namespaces of the backup that are restored. Without it, `template.scope.includedNamespaces`, which must then be
    /// names and not globs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// How long a verification may take; later it has failed. Default 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Keeps the scratch namespaces of a verification that failed until the next one is due. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_failed: bool,
}

impl VerificationPolicy {
    /// Verifications at the times of `schedule`, one member at a time.
    pub fn new(schedule: impl Into<String>) -> Self {
        Self {
            schedule: schedule.into(),
            clusters: ClusterSelection::default(),
            members: None,
            onto: None,
            namespaces: Vec::new(),
            deadline: None,
            keep_failed: false,
        }
    }
}

/// Where a verification is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum VerificationPhase {
    /// Scratch namespaces are being made.
    #[default]
    Preparing,
    /// The restore is at work.
    Restoring,
    /// It failed and its scratch namespaces are kept.
    Kept,
    /// Scratch namespaces are being removed.
    CleaningUp,
}

/// A verification that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VerificationRun {
    /// The backup execution that is verified.
    pub execution: String,
    /// When that execution began.
    pub point: Time,
    /// When the verification began. Names of what it makes follow from it.
    pub started_at: Time,
    /// When it has failed at the latest.
    pub until: Time,
    /// Where it is.
    #[serde(default)]
    pub phase: VerificationPhase,
    /// Members whose backups are verified.
    pub clusters: Vec<ClusterName>,
    /// The member that has the scratch namespaces, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onto: Option<ClusterName>,
    /// Namespaces of the backup.
    pub namespaces: Vec<String>,
    /// The `RestoreExecution`, from when it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<String>,
    /// Whether it was seen on the hub.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restore_seen: bool,
    /// Since when nothing is restored any more and the scratch namespaces are being removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// What is being waited for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What the last verification of a member found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MemberVerification {
    /// The member.
    pub cluster: ClusterName,
    /// The backup execution.
    pub execution: String,
    /// When that execution began.
    pub point: Time,
    /// When the verification ended.
    pub verified_at: Time,
    /// `Verified`, or why it failed; one CamelCase word.
    pub result: String,
    /// Whether the backup was put to the test. If not, the failure says nothing of it, and it is tried again.
    #[serde(default)]
    pub tried: bool,
    /// How long the restore took, in seconds, for what was restored: without volumes.
    #[serde(default)]
    pub seconds: u64,
    /// Objects that were compared.
    #[serde(default)]
    pub objects: u64,
    /// Objects that are in the backup and were not restored.
    #[serde(default)]
    pub missing: u64,
    /// The same for people; of the last verification only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The first objects that were not restored, at most ten; of the last verification only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

impl MemberVerification {
    /// Whether everything that was to be restored was found.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.result == "Verified"
    }
}

/// What verifications have found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VerificationStatus {
    /// The expression and zone that times are counted from `countedFrom` with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub counted_by: String,
    /// Times up to this one are dealt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_from: Option<Time>,
    /// The next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Time>,
    /// The verification that has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<VerificationRun>,
    /// When a verification found everything for the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Time>,
    /// The last verification of each member, by name; at most 150 members, the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberVerification>,
}
