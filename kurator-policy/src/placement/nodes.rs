//! Room counted node by node: what is free in many small pieces is not free for one large replica.

use kurator_core::observe::NodeView;

use super::index::units;
use super::policy::{repels, tolerates};
use super::workload::Workload;

/// Whether a node may run replicas of the workload at all.
pub(super) fn admits(node: &NodeView, workload: &Workload) -> bool {
    node.ready
        && !node.unschedulable
        && workload
            .node_selector
            .iter()
            .all(|(key, value)| node.labels.get(key) == Some(value))
        && node
            .taints
            .iter()
            .all(|taint| !repels(taint) || tolerates(&workload.tolerations, taint))
}

/// What is free of a resource on a node, in planner units.
pub(super) fn free(node: &NodeView, resource: &str) -> u64 {
    units(resource, node.free(resource))
}

/// How many more replicas the nodes hold.
pub(super) fn room(nodes: &[NodeView], workload: &Workload, request: &[(&str, u64)]) -> u64 {
    let admitted = nodes.iter().filter(|node| admits(node, workload));
    admitted.fold(0_u64, |total, node| {
        let pods = if node.allocatable.contains_key("pods") {
            free(node, "pods")
        } else {
            u64::MAX
        };
        let fits = request
            .iter()
            .map(|&(name, amount)| free(node, name) / amount)
            .fold(pods, u64::min);
        total.saturating_add(fits)
    })
}
