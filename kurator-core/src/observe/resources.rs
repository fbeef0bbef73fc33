//! Sums and size classes of the nodes of a cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;

/// Amounts by resource name, such as `cpu`, `memory`, `pods` or `nvidia.com/gpu`.
pub type Resources = BTreeMap<String, Quantity>;

/// What a cluster has and what of it is taken, summed over its nodes.
///
/// The same three sums as `status.resourceSummary` of a Karmada `Cluster`. A resource that is missing in
/// `allocatable` does not exist there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ResourceSummary {
    /// What pods can have, over all ready and schedulable nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocatable: Resources,
    /// What pods that were given a node request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocated: Resources,
    /// What pods that wait for a node request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocating: Resources,
}

impl ResourceSummary {
    /// Sets what pods can have of `resource`.
    #[must_use]
    pub fn with_allocatable(mut self, resource: impl Into<String>, amount: Quantity) -> Self {
        self.allocatable.insert(resource.into(), amount);
        self
    }

    /// Sets what running pods request of `resource`.
    #[must_use]
    pub fn with_allocated(mut self, resource: impl Into<String>, amount: Quantity) -> Self {
        self.allocated.insert(resource.into(), amount);
        self
    }

    /// Sets what waiting pods request of `resource`.
    #[must_use]
    pub fn with_allocating(mut self, resource: impl Into<String>, amount: Quantity) -> Self {
        self.allocating.insert(resource.into(), amount);
        self
    }

    /// What is left of `resource`: allocatable less allocated less allocating. Below zero when more is requested
    /// than there is. `None` if the cluster does not have the resource, or if the difference leaves the range.
    pub fn free(&self, resource: &str) -> Option<Quantity> {
        let taken = |from: &Resources| from.get(resource).copied().unwrap_or_default();
        self.allocatable
            .get(resource)?
            .checked_sub(taken(&self.allocated))?
            .checked_sub(taken(&self.allocating))
    }
}

/// One size class of nodes, and how many nodes are in it.
///
/// One entry of `spec.resourceModels` of a Karmada `Cluster` with its count from `status.resourceSummary.allocatableModelings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ModelGrade {
    /// Rank of the class; a larger one has more of everything.
    pub grade: u32,
    /// What a node of this class has free, by resource.
    #[serde(default)]
    pub ranges: BTreeMap<String, QuantityRange>,
    /// How many nodes of this class the cluster has.
    #[serde(default)]
    pub nodes: u64,
}

/// From `min`, included, to `max`, excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "a range has two ends")]
pub struct QuantityRange {
    /// The lower end, included.
    pub min: Quantity,
    /// The upper end, excluded; `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Quantity>,
}

impl ModelGrade {
    /// A class of `nodes` nodes without ranges.
    pub fn new(grade: u32, nodes: u64) -> Self {
        Self {
            grade,
            ranges: BTreeMap::new(),
            nodes,
        }
    }

    /// Sets the range of `resource`.
    #[must_use]
    pub fn with_range(mut self, resource: impl Into<String>, min: Quantity, max: Option<Quantity>) -> Self {
        self.ranges.insert(resource.into(), QuantityRange { min, max });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_counts_running_and_waiting_pods() {
        let summary = ResourceSummary::default()
            .with_allocatable("cpu", Quantity::from_units(4))
            .with_allocated("cpu", Quantity::from_milli(2500))
            .with_allocating("cpu", Quantity::from_units(2));
        assert_eq!(summary.free("cpu"), Some(Quantity::from_milli(-500)));
        assert_eq!(summary.free("memory"), None);
    }
}
