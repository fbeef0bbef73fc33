//! Over how many clusters, regions, zones, providers or label values a workload spreads.

#![allow(
    unreachable_pub,
    reason = "KubeSchema derives a private twin with the visibility of its original"
)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many groups of clusters a workload is placed in.
///
/// The groups are the clusters themselves, or the clusters that share a region, a zone, a provider or the value of a
/// label. Several constraints hold together. With static weights they are not looked at: the weights name the clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.minGroups) || !has(self.maxGroups) || self.maxGroups == 0 || self.minGroups <= self.maxGroups")
        .message("minGroups must not be larger than maxGroups")
)]
#[x_kube(
    validation = Rule::new("has(self.spreadByField) != has(self.spreadByLabel)")
        .message("exactly one of spreadByField and spreadByLabel must be set")
)]
pub struct SpreadConstraint {
    /// What the groups share. Exactly one of this and `spreadByLabel` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_by_field: Option<SpreadField>,
    /// The label whose values make the groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub spread_by_label: Option<String>,
    /// At least so many groups; left out or 0 means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub min_groups: Option<u32>,
    /// At most so many groups; left out means as many as there are. 0 is accepted and means the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub max_groups: Option<u32>,
}

/// What the groups of a spread share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::exhaustive_enums,
    reason = "a wire value: a new field is a new API version"
)]
pub enum SpreadField {
    /// Every cluster is a group of its own.
    Cluster,
    /// The clusters of one provider.
    Provider,
    /// The clusters of one region.
    Region,
    /// The clusters of one zone; a cluster that spans several zones counts as the first of them by name.
    Zone,
}
