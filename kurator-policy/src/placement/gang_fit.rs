//! Whether the minimum of a gang fits into a cluster at the same time, node by node.

use std::collections::BTreeSet;

use kurator_core::observe::NodeView;

use super::gang::Gang;
use super::hardware::Hardware;
use super::index::units;
use super::nodes;
use super::workload::Workload;

/// How many partial packings are looked at before the search for one gives up.
const SEARCH_LIMIT: usize = 100_000;

/// Members of one role that have to fit: how many, and what each asks for.
struct Need {
    count: u32,
    request: Vec<(String, u64)>,
}

/// How many of the members that must run together fit, at best `wanted`.
pub(super) struct Fit {
    pub(super) fit: u32,
    pub(super) wanted: u32,
}

/// Looks for a packing of the gang's minimum: exactly, unless the search gets longer than [`SEARCH_LIMIT`], when the
/// answer is no.
pub(super) fn fit(gang: &Gang, workload: &Workload, nodes: &[NodeView], hardware: &Hardware) -> Fit {
    let needs = needs(gang, workload);
    let wanted = needs
        .iter()
        .fold(0_u32, |sum, need| sum.saturating_add(need.count));
    let admitted: Vec<&NodeView> = nodes
        .iter()
        .filter(|node| nodes::admits(node, workload) && hardware.admits(node, workload))
        .collect();
    let fit = match &gang.topology {
        None => pack(&needs, &admitted),
        Some(label) => {
            let domains: BTreeSet<&String> = admitted
                .iter()
                .filter_map(|node| node.labels.get(label))
                .collect();
            let domains = domains.into_iter().map(|domain| {
                let inside: Vec<&NodeView> = admitted
                    .iter()
                    .copied()
                    .filter(|node| node.labels.get(label) == Some(domain))
                    .collect();
                pack(&needs, &inside)
            });
            domains.max().unwrap_or(0)
        }
    };
    Fit { fit, wanted }
}

/// The minimum of every role; what the gang's own minimum asks for beyond their sum is spread over the roles in order.
fn needs(gang: &Gang, workload: &Workload) -> Vec<Need> {
    let own = |request: &kurator_core::observe::Resources| -> Vec<(String, u64)> {
        let wanted = request
            .iter()
            .map(|(name, amount)| (name.clone(), units(name, Some(*amount))));
        wanted.filter(|(_, amount)| *amount > 0).collect()
    };
    if gang.roles.is_empty() {
        let count = gang.min.min(workload.replicas.unwrap_or(gang.min));
        return vec![Need {
            count,
            request: own(&workload.request),
        }];
    }
    let least: u32 = gang.roles.iter().fold(0, |sum: u32, role| {
        sum.saturating_add(role.min.min(role.replicas))
    });
    let mut more = gang.min.saturating_sub(least);
    let needs = gang.roles.iter().map(|role| {
        let extra = more.min(role.replicas.saturating_sub(role.min));
        more -= extra;
        Need {
            count: role.min.min(role.replicas) + extra,
            request: own(&role.request),
        }
    });
    needs.collect()
}

/// How many members fit, at best all.
fn pack(needs: &[Need], nodes: &[&NodeView]) -> u32 {
    let wanted: Vec<u32> = needs.iter().map(|need| need.count).collect();
    let mut search = Search {
        needs,
        nodes,
        seen: BTreeSet::new(),
        best: 0,
        steps: 0,
    };
    search.walk(0, &wanted);
    search.best
}

struct Search<'a> {
    needs: &'a [Need],
    nodes: &'a [&'a NodeView],
    /// Where the search has been: a node, and what was still to be placed from there on.
    seen: BTreeSet<(usize, Vec<u32>)>,
    best: u32,
    steps: usize,
}

impl Search<'_> {
    fn total(&self) -> u32 {
        self.needs
            .iter()
            .fold(0, |sum, need| sum.saturating_add(need.count))
    }

    /// Places from one node on; `left` is still to be placed. Returns whether all of it was.
    fn walk(&mut self, at: usize, left: &[u32]) -> bool {
        let open = left.iter().fold(0_u32, |sum, &count| sum.saturating_add(count));
        self.best = self.best.max(self.total().saturating_sub(open));
        if left.iter().all(|&count| count == 0) {
            return true;
        }
        self.steps += 1;
        let Some(&node) = self.nodes.get(at) else {
            return false;
        };
        if self.steps > SEARCH_LIMIT || !self.seen.insert((at, left.to_vec())) {
            return false;
        }
        let pods = if node.allocatable.contains_key("pods") {
            nodes::free(node, "pods")
        } else {
            u64::MAX
        };
        self.fill(at, node, 0, pods, &mut Vec::new(), left)
    }

    /// Tries every number of members of each role on one node, most first.
    fn fill(
        &mut self,
        at: usize,
        node: &NodeView,
        role: usize,
        pods: u64,
        taken: &mut Vec<u32>,
        left: &[u32],
    ) -> bool {
        let (Some(need), Some(&open)) = (self.needs.get(role), left.get(role)) else {
            let rest: Vec<u32> = left
                .iter()
                .zip(taken.iter())
                .map(|(left, taken)| left - taken)
                .collect();
            return self.walk(at + 1, &rest);
        };
        let most = need
            .request
            .iter()
            .fold(pods.min(u64::from(open)), |most, (resource, amount)| {
                let used: u64 = taken.iter().zip(self.needs).fold(0, |sum, (&count, other)| {
                    let each = other
                        .request
                        .iter()
                        .find(|(name, _)| name == resource)
                        .map_or(0, |(_, amount)| *amount);
                    sum + u64::from(count).saturating_mul(each)
                });
                most.min(nodes::free(node, resource).saturating_sub(used) / amount)
            });
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        // With one role left on the node, fewer is never better.
        let least = if role + 1 == self.needs.len() { most } else { 0 };
        for count in (least..=most).rev() {
            taken.push(count);
            if self.fill(at, node, role + 1, pods - u64::from(count), taken, left) {
                return true;
            }
            taken.pop();
            if self.steps > SEARCH_LIMIT {
                return false;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::gang::Role;
    use kurator_core::quantity::Quantity;
    use proptest::prelude::*;

    fn node(name: &str, cpu: i64, gpu: i64) -> NodeView {
        NodeView::new(name)
            .with_allocatable("cpu", Quantity::from_units(cpu))
            .with_allocatable("gpu", Quantity::from_units(gpu))
            .with_label("rack", &name[..1])
    }

    fn fits(gang: &Gang, nodes: &[NodeView]) -> bool {
        let fit = fit(
            gang,
            &Workload::new("g", "v1", "Job"),
            nodes,
            &Hardware::default(),
        );
        fit.fit == fit.wanted
    }

    #[test]
    fn summed_free_capacity_is_not_enough() {
        let gang = Gang::of(5).with_role(Role::new("w", 5, 5).with_request("cpu", Quantity::from_units(2)));
        assert!(!fits(&gang, &[node("a", 5, 0), node("b", 5, 0)]));
        assert!(fits(&gang, &[node("a", 6, 0), node("b", 5, 0)]));
    }

    #[test]
    fn a_topology_keeps_the_gang_under_one_label() {
        let gang = Gang::of(4).with_role(Role::new("w", 4, 4).with_request("cpu", Quantity::from_units(1)));
        let nodes = [node("a1", 2, 0), node("a2", 1, 0), node("b1", 2, 0)];
        assert!(fits(&gang, &nodes));
        assert!(!fits(&gang.with_topology("rack"), &nodes));
    }

    /// Every assignment of every member to every node.
    fn exhaustive(members: &[(i64, i64)], free: &mut Vec<(i64, i64)>) -> bool {
        let Some((&(cpu, gpu), rest)) = members.split_first() else {
            return true;
        };
        for at in 0..free.len() {
            if free[at].0 >= cpu && free[at].1 >= gpu {
                free[at] = (free[at].0 - cpu, free[at].1 - gpu);
                if exhaustive(rest, free) {
                    return true;
                }
                free[at] = (free[at].0 + cpu, free[at].1 + gpu);
            }
        }
        false
    }

    proptest! {
        #[test]
        fn a_packing_is_found_exactly_if_there_is_one(
            nodes in prop::collection::vec((0_i64..5, 0_i64..3), 1..6),
            roles in prop::collection::vec((1_u32..4, 0_i64..4, 0_i64..3), 1..4),
        ) {
            let mut gang = Gang::default();
            let mut members = vec![];
            for (index, &(count, cpu, gpu)) in roles.iter().enumerate() {
                gang = gang.with_role(
                    Role::new(index.to_string(), count, count)
                        .with_request("cpu", Quantity::from_units(cpu))
                        .with_request("gpu", Quantity::from_units(gpu)),
                );
                members.extend((0..count).map(|_| (cpu, gpu)));
            }
            let views: Vec<NodeView> =
                nodes.iter().enumerate().map(|(at, &(cpu, gpu))| node(&format!("n{at}"), cpu, gpu)).collect();
            prop_assert_eq!(fits(&gang, &views), exhaustive(&members, &mut nodes.clone()));
        }
    }
}
