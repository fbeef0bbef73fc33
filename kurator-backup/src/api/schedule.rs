//! Backups of a fleet again and again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema, core::Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    policy::BackupPolicy,
    verification::{VerificationPolicy, VerificationStatus},
};

/// Backups of a fleet at the times of a cron expression.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "backup.kurator.dev",
    version = "v1alpha1",
    kind = "BackupSchedule",
    plural = "backupschedules",
    shortname = "bsched",
    category = "kurator",
    namespaced,
    status = "BackupScheduleStatus",
    derive = "PartialEq",
    doc = "BackupSchedule makes backups of a fleet at the times of a cron expression, and deletes the old ones.",
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.timeZone", priority = 1),
    printcolumn(name = "Fleet", type_ = "string", json_path = ".spec.template.fleet"),
    printcolumn(name = "Paused", type_ = "boolean", json_path = ".spec.paused"),
    printcolumn(name = "Last", type_ = "date", json_path = ".status.lastScheduledAt"),
    printcolumn(
        name = "Last-Good",
        type_ = "date",
        json_path = ".status.lastGoodAt",
        description = "When the last run that met its success rule began"
    ),
    printcolumn(
        name = "Verified",
        type_ = "date",
        json_path = ".status.verification.verifiedAt",
        description = "When a test restore found everything for the last time"
    ),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextAt"),
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
#[non_exhaustive]
pub struct BackupScheduleSpec {
    /// When: five fields, `@daily` and the like, or `@every 6h`; see the crate's `cron`.
    #[schemars(length(min = 1, max = 256))]
    pub schedule: String,
    /// The time zone of the fields, such as `Europe/Berlin`. Default UTC. A `CRON_TZ=` in the expression wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Makes no new runs. Times that pass meanwhile are not caught up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What happens to times that passed while nobody was there to act. Default `Once`.
    #[serde(default)]
    pub missed_runs: MissedRuns,
    /// How late a run may start; later it is missed for good. Default 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_deadline: Option<Duration>,
    /// What happens when the run before has not ended. Default `Forbid`.
    #[serde(default)]
    pub concurrency: ConcurrencyPolicy,
    /// Which runs are kept. Without it, all, until their time to live ends on the servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionPolicy>,
    /// Test restores of what was backed up. Without it, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationPolicy>,
    /// What is backed up.
    pub template: BackupPolicy,
}

impl BackupScheduleSpec {
    /// Runs of `template` at the times of `schedule`.
    pub fn new(schedule: impl Into<String>, template: BackupPolicy) -> Self {
        Self {
            schedule: schedule.into(),
            time_zone: None,
            paused: false,
            missed_runs: MissedRuns::default(),
            starting_deadline: None,
            concurrency: ConcurrencyPolicy::default(),
            retention: None,
            verification: None,
            template,
        }
    }
}

/// What happens to times that passed while nobody was there to act.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum MissedRuns {
    /// Nothing: the next time is the next time.
    Skip,
    /// One run for all of them, if the last of them is not later than the starting deadline.
    #[default]
    Once,
}

/// What happens when the run before has not ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum ConcurrencyPolicy {
    /// The new run waits until the one before ends, or its starting deadline passes.
    #[default]
    Forbid,
    /// The one before is cancelled.
    Replace,
    /// Both run.
    Allow,
}

/// Which runs of a schedule are kept. A run is kept if one rule keeps it; the newest restorable run of every member
/// is kept in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.last) || has(self.daily) || has(self.weekly) || has(self.monthly)")
    .message("say how many runs are kept: last, daily, weekly or monthly"))]
#[non_exhaustive]
pub struct RetentionPolicy {
    /// The newest runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub last: Option<u32>,
    /// The newest run of a day, for this many days that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub daily: Option<u32>,
    /// The newest run of an ISO week, for this many weeks that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub weekly: Option<u32>,
    /// The newest run of a month, for this many months that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub monthly: Option<u32>,
}

/// What a schedule has done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BackupScheduleStatus {
    /// The generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and with a verification `Verified`, with a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The expression and zone that times are counted from `countedFrom` with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub counted_by: String,
    /// Times up to this one are dealt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_from: Option<Time>,
    /// The time of the last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scheduled_at: Option<Time>,
    /// When the last run that met its success rule began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good_at: Option<Time>,
    /// The next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Time>,
    /// Times that were missed for good since the schedule exists.
    #[serde(default)]
    pub missed: u64,
    /// What test restores have found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
}
