//! Whether the minimum of a gang fits into a cluster at the same time, node by node.

use std::collections::BTreeSet;

use kurator_core::observe::{NodeView, Resources};

use super::capacity;
use super::gang::Gang;
use super::hardware::Hardware;
use super::nodes::{self, Asks, admits};
use super::workload::Workload;

/// How many partial packings are looked at before the search for one gives up.
const SEARCH_LIMIT: usize = 100_000;
/// On how many nodes a packing is searched for; on more, the one found node after node has to do.
const SEARCH_NODES: usize = 512;

/// Members of one role that have to fit: how many of how many, and what each asks for.
pub(super) struct Need<'a> {
    /// The ones that must run together.
    pub(super) count: u32,
    /// All of them.
    pub(super) replicas: u32,
    pub(super) asks: Asks<'a>,
}

/// How a gang fits into a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fit {
    /// How many of the members that must run together fit, at best `wanted`.
    pub(super) fit: u32,
    pub(super) wanted: u32,
    /// What a node needs for one of the members that do not fit.
    pub(super) lacking: String,
    /// Which nodes take how many members of each role, if all fit.
    pub(super) packing: Vec<(usize, Vec<u32>)>,
}

/// Looks for a packing of the gang's minimum: exactly, unless the search gets longer than [`SEARCH_LIMIT`], when the
/// answer is no.
pub(super) fn fit(gang: &Gang, workload: &Workload, nodes: &[NodeView], hardware: &Hardware) -> Fit {
    let needs = needs(gang, workload);
    let Some(label) = &gang.topology else {
        return pack(&needs, nodes, hardware, |_| true);
    };
    let domains: BTreeSet<&String> = nodes.iter().filter_map(|node| node.labels.get(label)).collect();
    let mut best: Option<Fit> = None;
    for domain in domains {
        let found = pack(&needs, nodes, hardware, |node| {
            node.labels.get(label) == Some(domain)
        });
        if best.as_ref().is_none_or(|best| found.fit > best.fit) {
            best = Some(found);
        }
    }
    best.unwrap_or_else(|| pack(&needs, &[], hardware, |_| true))
}

/// The minimum of every role; what the gang's own minimum asks for beyond their sum is spread over the roles in order.
pub(super) fn needs<'a>(gang: &'a Gang, workload: &'a Workload) -> Vec<Need<'a>> {
    if gang.roles.is_empty() {
        let replicas = workload.replicas.unwrap_or(gang.min);
        return vec![Need {
            count: gang.min.min(replicas),
            replicas,
            asks: Asks::of(workload),
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
            replicas: role.replicas,
            asks: Asks {
                request: &role.request,
                node_selector: &role.node_selector,
                affinity: role.node_affinity.as_ref(),
                tolerations: &role.tolerations,
            },
        }
    });
    needs.collect()
}

/// Packs the members on the nodes that are `inside`.
fn pack(
    needs: &[Need<'_>],
    nodes: &[NodeView],
    hardware: &Hardware,
    inside: impl Fn(&NodeView) -> bool,
) -> Fit {
    let takes = |node: &NodeView| -> Vec<bool> {
        needs
            .iter()
            .map(|need| admits(node, &need.asks, hardware))
            .collect()
    };
    let places: Vec<Place<'_>> = nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| inside(node))
        .map(|(position, node)| Place {
            position,
            node,
            takes: takes(node),
        })
        .filter(|place| place.takes.contains(&true))
        .collect();
    let wanted: Vec<u32> = needs.iter().map(|need| need.count).collect();
    let total = wanted.iter().fold(0_u32, |sum, &count| sum.saturating_add(count));
    let requests: Vec<Vec<(&str, u64)>> = needs
        .iter()
        .map(|need| capacity::amounts(need.asks.request))
        .collect();
    let (mut left, mut packing) = one_after_the_other(&requests, &places, &wanted);
    let roles = wanted.iter().filter(|&&count| count > 0).count();
    // Members that are all alike fit one after the other or not at all.
    if left.iter().any(|&open| open > 0) && roles > 1 && places.len() <= SEARCH_NODES {
        let mut search = Search {
            requests,
            places: &places,
            seen: BTreeSet::new(),
            total,
            best: None,
            steps: 0,
            packing: Vec::new(),
        };
        search.walk(0, &wanted);
        packing = search.packing;
        if let Some((fit, open)) = search.best
            && fit > total.saturating_sub(sum(&left))
        {
            left = open;
        }
    }
    let fit = total.saturating_sub(sum(&left));
    let whole = fit == total;
    let lacking = left
        .iter()
        .position(|&open| open > 0)
        .and_then(|role| needs.get(role))
        .map(|need| in_words(need.asks.request));
    Fit {
        fit,
        wanted: total,
        lacking: lacking.unwrap_or_default(),
        packing: if whole { packing } else { Vec::new() },
    }
}

fn sum(counts: &[u32]) -> u32 {
    counts
        .iter()
        .fold(0, |sum: u32, &count| sum.saturating_add(count))
}

/// Fills node after node, role after role. Returns what is left of each role, and who is where.
fn one_after_the_other(
    requests: &[Vec<(&str, u64)>],
    places: &[Place<'_>],
    wanted: &[u32],
) -> (Vec<u32>, Vec<(usize, Vec<u32>)>) {
    let mut left = wanted.to_vec();
    let mut packing = Vec::new();
    for place in places {
        if sum(&left) == 0 {
            break;
        }
        let mut taken: Vec<u32> = Vec::with_capacity(requests.len());
        let mut pods = place.pods();
        for (role, open) in left.iter_mut().enumerate() {
            let here = place.most(requests, role, &taken, pods.min(u64::from(*open)));
            *open -= here;
            pods = pods.saturating_sub(u64::from(here));
            taken.push(here);
        }
        packing.push((place.position, taken));
    }
    (left, packing)
}

/// `2 cpu, 1 nvidia.com/gpu`.
fn in_words(request: &Resources) -> String {
    let each: Vec<String> = request
        .iter()
        .map(|(name, amount)| format!("{amount} {name}"))
        .collect();
    if each.is_empty() {
        return "room for a pod".to_owned();
    }
    each.join(", ")
}

/// A node, and which roles may run on it.
struct Place<'a> {
    position: usize,
    node: &'a NodeView,
    takes: Vec<bool>,
}

impl Place<'_> {
    fn pods(&self) -> u64 {
        if self.node.allocatable.contains_key("pods") {
            nodes::free(self.node, "pods")
        } else {
            u64::MAX
        }
    }

    /// The most members of a role that fit beside those of the roles before it, at most `limit`.
    fn most(&self, requests: &[Vec<(&str, u64)>], role: usize, taken: &[u32], limit: u64) -> u32 {
        let Some(request) = requests.get(role).filter(|_| self.takes.get(role) == Some(&true)) else {
            return 0;
        };
        let most = request.iter().fold(limit, |most, &(resource, amount)| {
            let used = taken.iter().zip(requests).fold(0_u64, |sum, (&count, other)| {
                let each = other
                    .iter()
                    .find(|(name, _)| *name == resource)
                    .map_or(0, |(_, amount)| *amount);
                sum.saturating_add(u64::from(count).saturating_mul(each))
            });
            most.min(nodes::free(self.node, resource).saturating_sub(used) / amount)
        });
        u32::try_from(most).unwrap_or(u32::MAX)
    }
}

struct Search<'a> {
    requests: Vec<Vec<(&'a str, u64)>>,
    places: &'a [Place<'a>],
    /// Where the search has been: a node, and what was still to be placed from there on.
    seen: BTreeSet<(usize, Vec<u32>)>,
    total: u32,
    /// The most that was placed, and what was left then.
    best: Option<(u32, Vec<u32>)>,
    steps: usize,
    packing: Vec<(usize, Vec<u32>)>,
}

impl Search<'_> {
    /// Places from one node on; `left` is still to be placed. Returns whether all of it was.
    fn walk(&mut self, at: usize, left: &[u32]) -> bool {
        let open = sum(left);
        let placed = self.total.saturating_sub(open);
        if self.best.as_ref().is_none_or(|(best, _)| placed > *best) {
            self.best = Some((placed, left.to_vec()));
        }
        if open == 0 {
            return true;
        }
        self.steps += 1;
        let places = self.places;
        let Some(place) = places.get(at) else {
            return false;
        };
        if self.steps > SEARCH_LIMIT || !self.seen.insert((at, left.to_vec())) {
            return false;
        }
        self.fill(at, place, place.pods(), &mut Vec::new(), left)
    }

    /// Tries every number of members of each role on one node, most first.
    fn fill(&mut self, at: usize, place: &Place<'_>, pods: u64, taken: &mut Vec<u32>, left: &[u32]) -> bool {
        let role = taken.len();
        let Some(&open) = left.get(role) else {
            let rest: Vec<u32> = left
                .iter()
                .zip(taken.iter())
                .map(|(left, taken)| left - taken)
                .collect();
            self.packing.push((place.position, taken.clone()));
            if self.walk(at + 1, &rest) {
                return true;
            }
            self.packing.pop();
            return false;
        };
        let most = place.most(&self.requests, role, taken, pods.min(u64::from(open)));
        // With one role left on the node, fewer is never better.
        let least = if role + 1 == self.requests.len() { most } else { 0 };
        for count in (least..=most).rev() {
            taken.push(count);
            if self.fill(at, place, pods.saturating_sub(u64::from(count)), taken, left) {
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
