//! How many more replicas of a workload fit into each cluster.

use kurator_core::observe::{ModelGrade, Resources};

use super::amount::Amount;
use super::bits::Bits;
use super::hardware::Hardware;
use super::index::{FleetIndex, units};
use super::nodes;
use super::options::Dialect;
use super::reason::Limit;
use super::workload::Workload;

/// Pods a node is taken to hold where only its size class is known.
const PODS_PER_MODEL_NODE: u64 = 110;

/// What one replica asks for, in planner units; what asks for nothing is left out.
pub(super) fn request(workload: &Workload) -> Vec<(&str, u64)> {
    amounts(&workload.request)
}

/// Amounts in planner units, without those that are nothing.
pub(super) fn amounts(request: &Resources) -> Vec<(&str, u64)> {
    let wanted = request
        .iter()
        .map(|(name, amount)| (name.as_str(), units(name, Some(*amount))));
    wanted.filter(|&(_, amount)| amount > 0).collect()
}

/// Fills in the room of every candidate; `u64::MAX` where nothing is known. The smallest estimate counts.
pub(super) fn fill(
    room: &mut Vec<u64>,
    candidates: &Bits,
    fleet: &FleetIndex,
    workload: &Workload,
    hardware: &Hardware,
    dialect: Dialect,
) {
    let request = request(workload);
    room.clear();
    room.resize(fleet.len(), 0);
    for at in candidates.iter() {
        let known = fleet.summed.has(at);
        let pods = fleet.pods.get(at).copied().unwrap_or(0);
        if let Some(slot) = room.get_mut(at) {
            *slot = if known { pods } else { u64::MAX };
        }
    }
    for &(resource, amount) in &request {
        let column = fleet.free.get(resource);
        for at in candidates.iter().filter(|&at| fleet.summed.has(at)) {
            let free = column
                .and_then(|column| column.free.get(at))
                .copied()
                .unwrap_or(0);
            if let Some(slot) = room.get_mut(at) {
                *slot = (*slot).min(free / amount);
            }
        }
    }
    for at in candidates.iter() {
        let Some(slot) = room.get_mut(at) else { continue };
        if let Some(models) = fleet
            .models
            .get(at)
            .filter(|models| !models.is_empty() && !request.is_empty())
            && let Some(replicas) = by_models(models, &request).or(unlisted(dialect))
        {
            // Karmada asks the size classes instead of the sums.
            let pods = fleet
                .pods
                .get(at)
                .copied()
                .filter(|_| dialect == Dialect::Karmada);
            *slot = pods.unwrap_or(*slot).min(replicas);
        }
        if let Some(nodes) = fleet.nodes.get(at).and_then(Option::as_ref) {
            *slot = (*slot).min(nodes::room(nodes, workload, hardware, &request));
        }
    }
}

/// A resource the size classes say nothing about: none of it for Karmada, no answer for us.
fn unlisted(dialect: Dialect) -> Option<u64> {
    (dialect == Dialect::Karmada).then_some(0)
}

/// The room by size classes: every node is taken to have the least its class promises. `None` if the classes say
/// nothing about a resource asked for.
fn by_models(models: &[ModelGrade], request: &[(&str, u64)]) -> Option<u64> {
    let mut total = 0_u64;
    for model in models {
        let mut each = PODS_PER_MODEL_NODE;
        for &(resource, amount) in request {
            let range = model.ranges.get(resource)?;
            each = each.min(units(resource, Some(range.min)) / amount);
        }
        total = total.saturating_add(each.saturating_mul(model.nodes));
    }
    Some(total)
}

/// What ends the room of one cluster.
pub(super) fn limit(
    at: usize,
    room: u64,
    fleet: &FleetIndex,
    workload: &Workload,
    hardware: &Hardware,
) -> Limit {
    if room == u64::MAX {
        return Limit::Unknown;
    }
    let request = request(workload);
    if fleet.summed.has(at) {
        for &(name, amount) in &request {
            let column = fleet.free.get(name).filter(|column| column.offered.has(at));
            let Some(column) = column else {
                return Limit::NotOffered {
                    name: name.to_owned(),
                };
            };
            let free = column.free.get(at).copied().unwrap_or(0);
            if free / amount == room {
                let missing = Amount::of(name, amount - free % amount);
                return Limit::Resource {
                    name: name.to_owned(),
                    missing,
                };
            }
        }
        if fleet.pods.get(at) == Some(&room) {
            return Limit::Pods;
        }
    }
    let models = fleet.models.get(at).filter(|models| !models.is_empty());
    if models.and_then(|models| by_models(models, &request)) == Some(room) {
        return Limit::Models;
    }
    let Some(nodes) = fleet.nodes.get(at).and_then(Option::as_ref) else {
        return Limit::Host;
    };
    if nodes::room(nodes, workload, hardware, &request) != room {
        return Limit::Host;
    }
    match nodes::nearest(nodes, workload, hardware, &request) {
        Some((node, name, missing)) => Limit::Node {
            node: node.to_owned(),
            name,
            missing,
        },
        None => Limit::Nodes,
    }
}
