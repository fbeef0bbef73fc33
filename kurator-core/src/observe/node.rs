//! One node of a member cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Resources, Taint};
use crate::quantity::Quantity;

/// What node-level estimation needs to know of a node: how much is free, and what may go there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NodeView {
    /// Name of the node.
    pub name: String,
    /// Labels, among them zone, instance type and accelerator type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// What pods can have here, `pods` among it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocatable: Resources,
    /// What the pods here request; without `pods`, which the field of that name counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocated: Resources,
    /// How many pods are here that have not ended.
    #[serde(default)]
    pub pods: u32,
    /// Whether the node says it is ready.
    #[serde(default = "yes")]
    pub ready: bool,
    /// Whether the node is cordoned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unschedulable: bool,
}

fn yes() -> bool {
    true
}

impl NodeView {
    /// A ready node with nothing on it and no resources.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            allocatable: Resources::new(),
            allocated: Resources::new(),
            pods: 0,
            ready: true,
            unschedulable: false,
        }
    }

    /// Adds or replaces a label.
    #[must_use]
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds a taint.
    #[must_use]
    pub fn with_taint(mut self, taint: Taint) -> Self {
        self.taints.push(taint);
        self
    }

    /// Sets what pods can have here of `resource`.
    #[must_use]
    pub fn with_allocatable(mut self, resource: impl Into<String>, amount: Quantity) -> Self {
        self.allocatable.insert(resource.into(), amount);
        self
    }

    /// Sets what the pods here request of `resource`.
    #[must_use]
    pub fn with_allocated(mut self, resource: impl Into<String>, amount: Quantity) -> Self {
        self.allocated.insert(resource.into(), amount);
        self
    }

    /// Sets how many pods are here.
    #[must_use]
    pub fn with_pods(mut self, pods: u32) -> Self {
        self.pods = pods;
        self
    }

    /// Marks the node as not ready.
    #[must_use]
    pub fn with_not_ready(mut self) -> Self {
        self.ready = false;
        self
    }

    /// Cordons the node.
    #[must_use]
    pub fn with_unschedulable(mut self) -> Self {
        self.unschedulable = true;
        self
    }

    /// What is left of `resource` here, below zero when more is requested than there is. `pods` are counted by the
    /// field of that name. `None` if the node does not have the resource, or if the difference leaves the range.
    pub fn free(&self, resource: &str) -> Option<Quantity> {
        let taken = match resource {
            "pods" => Quantity::from_units(i64::from(self.pods)),
            _ => self.allocated.get(resource).copied().unwrap_or_default(),
        };
        self.allocatable.get(resource)?.checked_sub(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_pods_are_counted_not_summed() {
        let node = NodeView::new("n")
            .with_allocatable("pods", Quantity::from_units(110))
            .with_pods(10);
        assert_eq!(node.free("pods"), Some(Quantity::from_units(100)));
        assert_eq!(node.free("cpu"), None);
    }
}
