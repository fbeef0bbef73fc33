//! Room counted node by node: what is free in many small pieces is not free for one large replica.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, Toleration};
use kurator_core::observe::{NodeView, Resources};
use kurator_core::quantity::Quantity;

use super::amount::Amount;
use super::capacity;
use super::hardware::Hardware;
use super::index::units;
use super::node_affinity;
use super::policy::{repels, tolerates};
use super::workload::Workload;

/// What a replica, or a member of a gang, asks of the node it goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks<'a> {
    pub(super) request: &'a Resources,
    pub(super) node_selector: &'a BTreeMap<String, String>,
    pub(super) affinity: Option<&'a NodeSelector>,
    pub(super) tolerations: &'a [Toleration],
}

impl<'a> Asks<'a> {
    pub(super) fn of(workload: &'a Workload) -> Self {
        Self {
            request: &workload.request,
            node_selector: &workload.node_selector,
            affinity: workload.node_affinity.as_ref(),
            tolerations: &workload.tolerations,
        }
    }
}

/// Whether a node may run replicas that ask for this at all.
pub(super) fn admits(node: &NodeView, asks: &Asks<'_>, hardware: &Hardware) -> bool {
    node.ready
        && !node.unschedulable
        && asks
            .node_selector
            .iter()
            .all(|(key, value)| node.labels.get(key) == Some(value))
        && asks
            .affinity
            .is_none_or(|selector| node_affinity::satisfied(selector, node))
        && node
            .taints
            .iter()
            .all(|taint| !repels(taint) || tolerates(asks.tolerations, taint))
        && hardware.admits(node, asks.request)
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
    let asks = Asks::of(workload);
    let admitted = nodes.iter().filter(|node| admits(node, &asks, hardware));
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

/// The node that needs least for one replica more, and what it needs: of the nodes that lack one resource only, the one
/// that lacks the smallest part of what a replica asks for. `None` if no node is that near.
pub(super) fn nearest<'n>(
    nodes: &'n [NodeView],
    workload: &Workload,
    hardware: &Hardware,
    request: &[(&str, u64)],
) -> Option<(&'n str, String, Amount)> {
    let asks = Asks::of(workload);
    let mut best: Option<(u128, &str, &str, u64)> = None;
    for node in nodes.iter().filter(|node| admits(node, &asks, hardware)) {
        let here = fitting(node, request);
        let mut short = request.iter().filter_map(|&(name, amount)| {
            let left = free(node, name).saturating_sub(here.saturating_mul(amount));
            (left < amount).then(|| (name, amount, amount - left))
        });
        let (Some((name, amount, missing)), None) = (short.next(), short.next()) else {
            continue;
        };
        let part = u128::from(missing) * 1_000_000 / u128::from(amount.max(1));
        if best.is_none_or(|(least, ..)| part < least) {
            best = Some((part, &node.name, name, missing));
        }
    }
    best.map(|(_, node, name, missing)| (node, name.to_owned(), Amount::of(name, missing)))
}

/// Takes the room of so many replicas from the nodes, as if they ran there.
pub(super) fn reserve(nodes: &mut [NodeView], asks: &Asks<'_>, hardware: &Hardware, mut replicas: u64) {
    let request = capacity::amounts(asks.request);
    for node in nodes.iter_mut() {
        if replicas == 0 {
            return;
        }
        if !admits(node, asks, hardware) {
            continue;
        }
        let here = fitting(node, &request).min(replicas);
        replicas -= here;
        take(node, asks.request, here);
    }
}

/// Takes the room of so many replicas from one node.
pub(super) fn take(node: &mut NodeView, request: &Resources, replicas: u64) {
    node.pods = node
        .pods
        .saturating_add(u32::try_from(replicas).unwrap_or(u32::MAX));
    for (name, amount) in request {
        let taken = i64::try_from(replicas)
            .ok()
            .and_then(|replicas| amount.checked_mul(replicas));
        let held = node.allocated.get(name).copied().unwrap_or_default();
        let now = taken.and_then(|taken| held.checked_add(taken));
        node.allocated.insert(name.clone(), now.unwrap_or(Quantity::MAX));
    }
}
