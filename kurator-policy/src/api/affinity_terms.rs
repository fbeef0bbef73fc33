//! Groups of clusters tried one after the other, each with groups that may take what does not fit.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster_affinity::{ClusterAffinity, FieldSelector};

/// One of several groups of clusters, tried in the order they are listed: the next one is used when the workload
/// cannot be placed in this one.
///
/// The fields beside `affinity_name` and `overflow_affinities` are those of [`ClusterAffinity`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterAffinityTerm {
    /// The group's name, unique in the policy; it is kept in the status as the group in use.
    #[schemars(length(min = 1, max = 32))]
    pub affinity_name: String,
    /// See [`ClusterAffinity::cluster_names`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(max = 253)))]
    pub cluster_names: Vec<String>,
    /// See [`ClusterAffinity::exclude`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(max = 253)))]
    pub exclude: Vec<String>,
    /// See [`ClusterAffinity::label_selector`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// See [`ClusterAffinity::field_selector`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_selector: Option<FieldSelector>,
    /// Groups that take, in order, the replicas this one has no room for. Only divisions that look at room
    /// (by available replicas, aggregated) use them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub overflow_affinities: Vec<OverflowAffinity>,
}

impl ClusterAffinityTerm {
    /// The clusters of the group, as an affinity.
    pub fn affinity(&self) -> ClusterAffinity {
        ClusterAffinity {
            cluster_names: self.cluster_names.clone(),
            exclude: self.exclude.clone(),
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
        }
    }
}

/// A group of clusters that takes what its primary group has no room for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverflowAffinity {
    /// The group's name, unique in the policy.
    #[schemars(length(min = 1, max = 32))]
    pub affinity_name: String,
    /// See [`ClusterAffinity::cluster_names`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(max = 253)))]
    pub cluster_names: Vec<String>,
    /// See [`ClusterAffinity::exclude`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(max = 253)))]
    pub exclude: Vec<String>,
    /// See [`ClusterAffinity::label_selector`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// See [`ClusterAffinity::field_selector`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_selector: Option<FieldSelector>,
}

impl OverflowAffinity {
    /// The clusters of the group, as an affinity.
    pub fn affinity(&self) -> ClusterAffinity {
        ClusterAffinity {
            cluster_names: self.cluster_names.clone(),
            exclude: self.exclude.clone(),
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
        }
    }
}
