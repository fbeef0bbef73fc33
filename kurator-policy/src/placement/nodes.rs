//! Room counted node by node: what is free in many small pieces is not free for one large replica.

use kurator_core::observe::NodeView;

use super::hardware::Hardware;
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
pub(super) fn room(
    nodes: &[NodeView],
    workload: &Workload,
    hardware: &Hardware,
    request: &[(&str, u64)],
) -> u64 {
    let admitted = nodes
        .iter()
        .filter(|node| admits(node, workload) && hardware.admits(node, workload));
    admitted.fold(0_u64, |total, node| total.saturating_add(fitting(node, request)))
}

/// How many more replicas one node holds.
fn fitting(node: &NodeView, request: &[(&str, u64)]) -> u64 {
    let pods = if node.allocatable.contains_key("pods") {
        free(node, "pods")
    } else {
        u64::MAX
    };
    request
        .iter()
        .map(|&(name, amount)| free(node, name) / amount)
        .fold(pods, u64::min)
}

/// Takes the room of so many replicas from the nodes, as if they ran there.
pub(super) fn reserve(
    nodes: &mut [NodeView],
    workload: &Workload,
    hardware: &Hardware,
    request: &[(&str, u64)],
    mut replicas: u64,
) {
    for node in nodes.iter_mut() {
        if replicas == 0 {
            return;
        }
        if !admits(node, workload) || !hardware.admits(node, workload) {
            continue;
        }
        let here = fitting(node, request).min(replicas);
        replicas -= here;
        node.pods = node.pods.saturating_add(u32::try_from(here).unwrap_or(u32::MAX));
        for (name, amount) in &workload.request {
            let taken = i64::try_from(here).ok().and_then(|here| amount.checked_mul(here));
            let held = node.allocated.get(name).copied().unwrap_or_default();
            let now = taken.and_then(|taken| held.checked_add(taken));
            node.allocated
                .insert(name.clone(), now.unwrap_or(kurator_core::quantity::Quantity::MAX));
        }
    }
}
