//! What a backup or a restore takes in, in the words of Velero's filters.

#![allow(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each public struct inside a function"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{KubeSchema, core::Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which objects a backup takes. Empty: everything.
///
/// There are two families of resource filters and a server takes only one of them: `includedResources`,
/// `excludedResources` and `includeClusterResources`, or the four that tell cluster-scoped from namespaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!((size(self.?includedResources.orValue([])) > 0 || size(self.?excludedResources.orValue([])) > 0 || has(self.includeClusterResources)) && (size(self.?includedClusterScopedResources.orValue([])) > 0 || size(self.?excludedClusterScopedResources.orValue([])) > 0 || size(self.?includedNamespaceScopedResources.orValue([])) > 0 || size(self.?excludedNamespaceScopedResources.orValue([])) > 0))")
    .message("use either includedResources, excludedResources and includeClusterResources, or the filters by scope: a server refuses both together"))]
#[x_kube(validation = Rule::new("!(has(self.labelSelector) && size(self.?orLabelSelectors.orValue([])) > 0)")
    .message("labelSelector and orLabelSelectors cannot be used together"))]
#[non_exhaustive]
pub struct BackupScope {
    /// Namespaces to take, by name or glob; empty or `*`: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub included_namespaces: Vec<String>,
    /// Namespaces to leave out, by name or glob.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub excluded_namespaces: Vec<String>,
    /// Kinds to take, such as `deployments.apps`; empty or `*`: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub included_resources: Vec<String>,
    /// Kinds to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub excluded_resources: Vec<String>,
    /// Whether cluster-scoped objects are taken; without it, those that the selected objects need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_cluster_resources: Option<bool>,
    /// Cluster-scoped kinds to take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub included_cluster_scoped_resources: Vec<String>,
    /// Cluster-scoped kinds to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub excluded_cluster_scoped_resources: Vec<String>,
    /// Namespaced kinds to take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub included_namespace_scoped_resources: Vec<String>,
    /// Namespaced kinds to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub excluded_namespace_scoped_resources: Vec<String>,
    /// Only objects with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Only objects that one of these selects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub or_label_selectors: Vec<LabelSelector>,
    /// Objects to take in this order, by kind: `pods: shop/db-0,shop/db-1`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ordered_resources: BTreeMap<String, String>,
}

impl BackupScope {
    /// Whether one of the filters that know no scope is used.
    #[must_use]
    pub fn uses_plain_filters(&self) -> bool {
        !self.included_resources.is_empty()
            || !self.excluded_resources.is_empty()
            || self.include_cluster_resources.is_some()
    }

    /// Whether one of the filters by scope is used.
    #[must_use]
    pub fn uses_scoped_filters(&self) -> bool {
        !self.included_cluster_scoped_resources.is_empty()
            || !self.excluded_cluster_scoped_resources.is_empty()
            || !self.included_namespace_scoped_resources.is_empty()
            || !self.excluded_namespace_scoped_resources.is_empty()
    }
}

/// What a hook that fails does to the backup of its pod.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum OnHookError {
    /// The pod is left out and the backup ends partially failed. Always sent explicitly: Velero's documented default
    /// is this, but a server takes a missing value for `Continue`.
    #[default]
    Fail,
    /// The pod is taken all the same.
    Continue,
}

/// A command that runs in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ExecHook {
    /// The container; without it, the pod's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The command and its arguments; no shell is added.
    #[schemars(length(min = 1, max = 64))]
    pub command: Vec<String>,
    /// What a failure does. Default `Fail`.
    #[serde(default)]
    pub on_error: OnHookError,
    /// How long it may take. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

impl ExecHook {
    /// This command, in the pod's first container.
    pub fn new(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

/// Commands around the backup of some pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BackupHook {
    /// Name, unique in its policy.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Namespaces whose pods it is for; empty: all of the backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub included_namespaces: Vec<String>,
    /// Namespaces whose pods it is not for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub excluded_namespaces: Vec<String>,
    /// Labels of the pods it is for; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Before the pod is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pre: Vec<ExecHook>,
    /// After the pod was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub post: Vec<ExecHook>,
}

/// Which objects of a backup a restore takes. Empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.labelSelector) && size(self.?orLabelSelectors.orValue([])) > 0)")
    .message("labelSelector and orLabelSelectors cannot be used together"))]
#[non_exhaustive]
pub struct RestoreScope {
    /// Namespaces to take; empty or `*`: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub included_namespaces: Vec<String>,
    /// Namespaces to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub excluded_namespaces: Vec<String>,
    /// Kinds to take, such as `deployments.apps`; empty or `*`: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub included_resources: Vec<String>,
    /// Kinds to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    pub excluded_resources: Vec<String>,
    /// Whether cluster-scoped objects are taken; without it, those that the selected objects need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_cluster_resources: Option<bool>,
    /// Only objects with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Only objects that one of these selects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub or_label_selectors: Vec<LabelSelector>,
}

/// What a restore does with an object that exists.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[non_exhaustive]
pub enum ExistingResources {
    /// Leave it as it is.
    #[default]
    Skip,
    /// Patch it to be as in the backup.
    Update,
}
