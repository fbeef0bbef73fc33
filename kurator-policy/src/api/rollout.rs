//! How a change reaches the clusters, and how far it has come.

#![allow(
    unreachable_pub,
    reason = "KubeSchema derives a private twin with the visibility of its original"
)]

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{LabelSelector, Time},
    util::intstr::IntOrString,
};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a change of templates, placement or overrides reaches the clusters: stage after stage, so many at a time, and
/// back where it came from if it fails. A change of a replica count alone is no change in this sense: it goes out at
/// once.
///
/// ```
/// use kurator_policy::api::RolloutBehavior;
///
/// let rollout: RolloutBehavior = serde_json::from_str(r#"{
///     "stages": [
///         { "name": "canary", "labelSelector": { "matchLabels": { "tier": "canary" } }, "soakSeconds": 600 },
///         { "name": "rest", "maxConcurrency": "25%", "approval": true }
///     ]
/// }"#)?;
/// assert!(rollout.stages[1].approval && rollout.rolls_back());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.stages) || size(self.stages) == 0 || !has(self.groups)")
        .message("stages and groups exclude each other")
)]
pub struct RolloutBehavior {
    /// The stages, one after the other. A cluster belongs to the first that selects it; those that none selects follow
    /// last, one at a time. Without stages and groups all clusters are one stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub stages: Vec<RolloutStage>,
    /// A stage for each value of a label. Not together with `stages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<RolloutGroups>,
    /// How many clusters of a stage change at the same time, as a number or in percent of the stage, rounded up; left
    /// out, 1, and all of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<IntOrString>,
    /// How many clusters of a stage may fail, as a number or in percent of the stage, rounded down, before nothing goes
    /// out any more; left out, 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<IntOrString>,
    /// How long a cluster must have been well with a change before the next one gets it; left out, 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2_592_000))]
    pub soak_seconds: Option<u32>,
    /// How long a cluster may take to be well with a change before it counts as failed; left out, 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub progress_deadline_seconds: Option<u32>,
    /// Whether the clusters return to what was good before when too many have failed; left out, they do. Otherwise
    /// everything stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<bool>,
    /// How many revisions are kept, each as a Secret beside the policy; left out, 10. What is wanted, what was good last
    /// and what clusters still have is kept in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub revision_history_limit: Option<u32>,
}

impl RolloutBehavior {
    /// Whether a failed change is taken back.
    #[must_use]
    pub fn rolls_back(&self) -> bool {
        self.rollback.unwrap_or(true)
    }
}

/// Clusters that change side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStage {
    /// Its name, by which it is approved.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The clusters; left out, all that no earlier stage has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// How many change at the same time; left out, as the rollout says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<IntOrString>,
    /// How long they must have been well; left out, as the rollout says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2_592_000))]
    pub soak_seconds: Option<u32>,
    /// Whether the stage waits until the policy's annotation `policy.kurator.dev/approve` names it, as
    /// `REVISION/STAGE`. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approval: bool,
}

/// A stage for each value of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutGroups {
    /// The label of the clusters.
    #[schemars(length(min = 1, max = 317))]
    pub label: String,
    /// Its values in the order of the stages; clusters with other values follow last, one at a time.
    #[schemars(length(min = 1, max = 32))]
    pub values: Vec<String>,
}

/// How far a change has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The revision that is wanted: of templates, placement and overrides together.
    pub revision: String,
    /// How it stands, one CamelCase word, such as `RolloutProgressing` or `RolloutAwaitingApproval`.
    #[serde(default)]
    pub reason: String,
    /// The same for people.
    #[serde(default)]
    pub message: String,
    /// The stages and their clusters, counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub stages: Vec<RolloutStageStatus>,
    /// The revisions that are kept, the one wanted last at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["revision".into()]))]
    pub revisions: Vec<RolloutRevision>,
}

/// The clusters of a stage, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStageStatus {
    /// Its name.
    pub name: String,
    /// Have the revision and are well with it.
    pub done: i64,
    /// Are well with it, not for long enough yet.
    pub soaking: i64,
    /// Have been told, and are not well with it yet.
    pub updating: i64,
    /// Refused it, or did not get well with it in time.
    pub failed: i64,
    /// Have another revision.
    pub waiting: i64,
    /// Cannot be reached.
    pub away: i64,
}

/// A revision and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRevision {
    /// Its name.
    pub revision: String,
    /// What became of it.
    pub outcome: RolloutOutcome,
}

/// What became of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_enums, reason = "good, bad or not known")]
pub enum RolloutOutcome {
    /// It is on its way, or was given up for another.
    Open,
    /// It reached every cluster that could be reached, and was good.
    Good,
    /// It was taken back; the annotation `policy.kurator.dev/retry` lets it be tried again.
    Condemned,
}

/// How a revision does in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRollout {
    /// The revision the cluster was told to hold.
    pub revision: String,
    /// How it does there.
    pub phase: RolloutPhase,
    /// Since when.
    pub since: Time,
}

/// How a revision does in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_enums, reason = "on its way, good or bad")]
pub enum RolloutPhase {
    /// It is not well yet.
    Updating,
    /// It is well.
    Healthy,
    /// The cluster refused it, or it will not get well by waiting.
    Failed,
}
