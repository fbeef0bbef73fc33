//! Hardware a policy asks of a cluster, read from its nodes.

use kurator_core::observe::{NodeView, Resources};

use super::bits::Bits;
use super::devices;
use super::index::{FleetIndex, units};
use super::nodes;
use crate::api::{AcceleratorOperator, AcceleratorRequirement, Placement, ResourceConstraint};

/// The hardware of one policy, by position.
#[derive(Clone, Debug, Default)]
pub(super) struct Hardware {
    pub(super) constraints: Vec<Constraint>,
    /// The sum of the weights of the preferences each cluster satisfies; empty without preferences.
    pub(super) liked: Vec<u64>,
}

/// One constraint, with what each cluster has for it.
#[derive(Clone, Debug)]
pub(super) struct Constraint {
    pub(super) asked: ResourceConstraint,
    pub(super) wanted: u64,
    found: Vec<u64>,
    there: Vec<u64>,
}

impl Constraint {
    /// What a cluster has for it; also what is taken if the workload runs there.
    pub(super) fn found(&self, at: usize, target: bool) -> u64 {
        let amounts = if target { &self.there } else { &self.found };
        amounts.get(at).copied().unwrap_or(0)
    }
}

/// The node labels that may name the type of the hardware behind a resource.
fn type_labels(resource: &str) -> [String; 4] {
    [
        format!("{resource}.product"),
        format!("{resource}.product-name"),
        "cloud.google.com/gke-accelerator".to_owned(),
        "accelerator".to_owned(),
    ]
}

impl Hardware {
    pub(super) fn new(placement: &Placement, fleet: &FleetIndex) -> Self {
        let constraints = placement.resource_constraints.iter().map(|asked| Constraint {
            asked: asked.clone(),
            wanted: u64::from(asked.min_quantity.unwrap_or(1)),
            found: (0..fleet.len()).map(|at| found(asked, at, fleet)).collect(),
            there: (0..fleet.len()).map(|at| there(asked, at, fleet)).collect(),
        });
        let constraints: Vec<Constraint> = constraints.collect();
        let mut liked = Vec::new();
        if !placement.preference.is_empty() {
            let mut resources: Vec<String> = placement
                .resource_constraints
                .iter()
                .flat_map(|asked| [asked.name.clone(), devices::resource_of_class(&asked.name)])
                .collect();
            if resources.is_empty() {
                resources.extend(["nvidia.com/gpu", "amd.com/gpu"].map(str::to_owned));
            }
            liked.extend((0..fleet.len()).map(|at| {
                let nodes = fleet
                    .nodes
                    .get(at)
                    .and_then(Option::as_ref)
                    .map_or(&[][..], Vec::as_slice);
                let satisfied = placement.preference.iter().filter(|preference| {
                    nodes.iter().any(|node| {
                        resources.iter().any(|resource| {
                            node.allocatable.contains_key(resource)
                                && satisfies(node, resource, &preference.preference)
                        })
                    })
                });
                satisfied.fold(0_u64, |sum, preference| {
                    sum.saturating_add(preference.weight.get())
                })
            }));
        }
        Self { constraints, liked }
    }

    /// Takes out the clusters that offer too little. Where the workload runs already (`targets`), some of what is taken
    /// is its own doing: there everything counts that the cluster has, free or not.
    pub(super) fn filter(&self, keep: &mut Bits, targets: &Bits) {
        for constraint in &self.constraints {
            for at in 0..constraint.found.len() {
                if constraint.found(at, targets.has(at)) < constraint.wanted {
                    keep.set(at, false);
                }
            }
        }
    }

    /// Whether a node has the type its resources are asked to have.
    pub(super) fn admits(&self, node: &NodeView, request: &Resources) -> bool {
        self.constraints.iter().all(|constraint| {
            let asked = &constraint.asked;
            let of_class = devices::resource_of_class(&asked.name);
            let takes = |name: &String| request.contains_key(name);
            // A replica that takes none of it may run beside it.
            !(takes(&asked.name) || takes(&of_class)) || suits(node, asked)
        })
    }
}

/// The free units on nodes of a fitting type. Where the nodes are not known, the sum counts only if any type will do.
fn found(asked: &ResourceConstraint, at: usize, fleet: &FleetIndex) -> u64 {
    let of_class = devices::resource_of_class(&asked.name);
    match fleet.nodes.get(at).and_then(Option::as_ref) {
        Some(nodes) => {
            let fitting = nodes
                .iter()
                .filter(|node| node.ready && !node.unschedulable && suits(node, asked));
            fitting.fold(0_u64, |sum, node| {
                let free = nodes::free(node, &asked.name).saturating_add(nodes::free(node, &of_class));
                sum.saturating_add(free)
            })
        }
        None if asked.requirements.is_empty() => [&asked.name, &of_class]
            .into_iter()
            .filter_map(|name| fleet.free.get(name).and_then(|column| column.free.get(at)))
            .fold(0_u64, |sum, free| sum.saturating_add(*free)),
        None => 0,
    }
}

/// The units on nodes of a fitting type, taken or not, whether or not the nodes take pods now.
fn there(asked: &ResourceConstraint, at: usize, fleet: &FleetIndex) -> u64 {
    let Some(nodes) = fleet.nodes.get(at).and_then(Option::as_ref) else {
        // What was good enough to run there has not got worse as far as anybody knows.
        return u64::MAX;
    };
    let of_class = devices::resource_of_class(&asked.name);
    let all = |node: &NodeView, name: &str| units(name, node.allocatable.get(name).copied());
    let fitting = nodes.iter().filter(|node| suits(node, asked));
    fitting.fold(0_u64, |sum, node| {
        sum.saturating_add(all(node, &asked.name).saturating_add(all(node, &of_class)))
    })
}

/// Whether the hardware of a node, as a resource or as a device class, is of every type asked for.
fn suits(node: &NodeView, asked: &ResourceConstraint) -> bool {
    let of_class = devices::resource_of_class(&asked.name);
    [&asked.name, &of_class].into_iter().any(|name| {
        node.allocatable.contains_key(name)
            && asked
                .requirements
                .iter()
                .all(|requirement| satisfies(node, name, requirement))
    })
}

fn satisfies(node: &NodeView, resource: &str, requirement: &AcceleratorRequirement) -> bool {
    let named = match &requirement.key {
        Some(key) => node.labels.get(key),
        None => type_labels(resource)
            .iter()
            .find_map(|label| node.labels.get(label)),
    };
    let one_of = || named.is_some_and(|named| requirement.values.iter().any(|value| is(named, value)));
    match requirement.operator {
        AcceleratorOperator::In => one_of(),
        // Hardware of no known type might be what is to be avoided.
        AcceleratorOperator::NotIn => named.is_some() && !one_of(),
        AcceleratorOperator::Exists => named.is_some(),
    }
}

/// Whether a product name is, or has as one of its words, a type.
fn is(named: &str, value: &str) -> bool {
    named.eq_ignore_ascii_case(value)
        || named
            .split(['-', '_', ' ', '.', '/'])
            .any(|word| word.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_a_word_of_the_product_name() {
        assert!(is("NVIDIA-A100-SXM4-80GB", "a100"));
        assert!(is("nvidia-tesla-t4", "T4"));
        assert!(!is("NVIDIA-A100-SXM4-80GB", "a10"));
        assert!(is("a100", "A100"));
    }
}
