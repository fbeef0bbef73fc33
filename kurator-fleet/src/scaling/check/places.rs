//! That every pod fits where it is sent, when it gets there.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{
        Container, Node, NodeSelector, NodeSelectorRequirement, Pod, PodAffinityTerm, ResourceRequirements,
        Taint, TopologySpreadConstraint,
    },
    apimachinery::pkg::api::resource::Quantity as WireQuantity,
};
use kurator_core::{plan::Notes, quantity::Quantity};

use super::{
    Flaw,
    world::{Key, World, is_over, is_ready, labels, node_name, pod_key, selects, spec},
};
use crate::scaling::ScaleDownPlan;

/// Where everything is after some waves.
struct Scene<'w, 'a> {
    world: &'w World<'a>,
    at: BTreeMap<Key<'a>, &'a str>,
    on: BTreeMap<&'a str, BTreeSet<Key<'a>>>,
    /// Pods with anti-affinity.
    averse: BTreeSet<Key<'a>>,
    nodes: BTreeMap<&'a str, &'a Node>,
    leaving: BTreeSet<&'a str>,
}

pub(super) fn check<'a>(plan: &'a ScaleDownPlan, world: &World<'a>, notes: &mut Notes) {
    let at: BTreeMap<Key<'a>, &'a str> = world
        .pods
        .iter()
        .filter(|(_, pod)| !is_over(pod))
        .filter_map(|(key, pod)| Some((*key, node_name(pod)?)))
        .collect();
    let mut on: BTreeMap<&str, BTreeSet<Key<'_>>> = BTreeMap::new();
    for (key, node) in &at {
        on.entry(node).or_default().insert(*key);
    }
    let mut scene = Scene {
        world,
        averse: at
            .keys()
            .copied()
            .filter(|key| world.pods.get(key).is_some_and(|pod| !anti(pod).is_empty()))
            .collect(),
        at,
        on,
        nodes: world.nodes.clone(),
        leaving: plan.remove.iter().map(String::as_str).collect(),
    };
    for wave in &plan.waves {
        let steps = || wave.nodes.iter().flat_map(|node| &node.moves);
        for step in steps() {
            let key = (step.pod.namespace.as_str(), step.pod.name.as_str());
            if let Some(from) = scene.at.get(&key).copied() {
                scene.on.entry(from).or_default().remove(&key);
                scene.on.entry(&step.to).or_default().insert(key);
                scene.at.insert(key, &step.to);
            }
        }
        // All at once: what fits together fits in some order, and then in any, except that the first of pods that
        // want to be together must come first.
        for step in steps() {
            let key = (step.pod.namespace.as_str(), step.pod.name.as_str());
            let Some(pod) = world.pods.get(&key) else { continue };
            if let Err(why) = scene.fits(pod, &step.to) {
                notes.error(
                    format!("Pod {}", step.pod),
                    &Flaw::DoesNotFit {
                        to: step.to.clone(),
                        why,
                    },
                );
            }
        }
        for node in &wave.nodes {
            scene.nodes.remove(node.node.as_str());
            for key in scene.on.remove(node.node.as_str()).unwrap_or_default() {
                scene.at.remove(&key);
            }
        }
    }
}

impl<'a> Scene<'_, 'a> {
    fn pods_on<'s>(&'s self, node: &'s str) -> impl Iterator<Item = &'a Pod> + 's {
        self.on
            .get(node)
            .into_iter()
            .flatten()
            .filter_map(|key| self.world.pods.get(key).copied())
    }

    fn fits(&self, pod: &Pod, to: &str) -> Result<(), String> {
        let Some(node) = self.nodes.get(to) else {
            return Err("there is no such node".into());
        };
        let unschedulable = node
            .spec
            .as_ref()
            .and_then(|spec| spec.unschedulable)
            .unwrap_or(false);
        if !is_ready(node) || unschedulable || node.metadata.deletion_timestamp.is_some() {
            return Err("the node is not Ready, cordoned or being deleted".into());
        }
        if let Some(taint) = taints(node).find(|taint| !tolerates(pod, taint)) {
            return Err(format!("taint {}", taint.key));
        }
        if !accepts(pod, node) {
            return Err("node selector or affinity".into());
        }
        self.room(pod, node)?;
        self.volumes(pod, node)?;
        self.ports(pod, to)?;
        self.peers(pod, node)?;
        self.spread(pod, node)
    }

    fn room(&self, pod: &Pod, node: &Node) -> Result<(), String> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let own = requests(pod);
        let mut used: BTreeMap<String, i128> = BTreeMap::new();
        let mut count = 0;
        for other in self.pods_on(name) {
            count += 1;
            for (resource, amount) in requests(other) {
                *used.entry(resource).or_default() += amount;
            }
        }
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        let has = |resource: &str| {
            allocatable
                .and_then(|all| all.get(resource))
                .map_or(0, |quantity| amount(resource, quantity))
        };
        if count > has("pods") {
            return Err(format!("{count} pods, {} slots", has("pods")));
        }
        for (resource, amount) in own {
            let sum = used.get(&resource).copied().unwrap_or(0);
            if amount > 0 && sum > has(&resource) {
                return Err(format!("{resource}: {sum} requested of {}", has(&resource)));
            }
        }
        Ok(())
    }

    fn volumes(&self, pod: &Pod, node: &Node) -> Result<(), String> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        for volume in self.bound(pod) {
            let required = volume
                .spec
                .as_ref()
                .and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
            if required.is_some_and(|required| !node_matches(required, node)) {
                return Err("a volume is out of reach".into());
            }
        }
        let Some(csi) = self.world.csi.get(name) else {
            return Ok(());
        };
        for driver in &csi.spec.drivers {
            let Some(limit) = driver
                .allocatable
                .as_ref()
                .and_then(|allocatable| allocatable.count)
            else {
                continue;
            };
            let of_driver = |pod: &Pod| -> BTreeSet<String> {
                self.bound(pod)
                    .filter(|volume| {
                        volume
                            .spec
                            .as_ref()
                            .and_then(|spec| spec.csi.as_ref())
                            .is_some_and(|csi| csi.driver == driver.name)
                    })
                    .filter_map(|volume| volume.metadata.name.clone())
                    .collect()
            };
            let attached: BTreeSet<String> = self.pods_on(name).flat_map(of_driver).collect();
            if !of_driver(pod).is_empty()
                && i64::try_from(attached.len()).unwrap_or(i64::MAX) > i64::from(limit)
            {
                return Err(format!(
                    "{} volumes of {}, {limit} can be attached",
                    attached.len(),
                    driver.name
                ));
            }
        }
        Ok(())
    }

    /// Volumes of a pod's claims, as far as they are known.
    fn bound<'s>(
        &'s self,
        pod: &'s Pod,
    ) -> impl Iterator<Item = &'a k8s_openapi::api::core::v1::PersistentVolume> + use<'s, 'a> {
        let namespace = pod_key(pod).0;
        spec(pod)
            .into_iter()
            .flat_map(|spec| spec.volumes.iter().flatten())
            .filter_map(|volume| volume.persistent_volume_claim.as_ref())
            .filter_map(move |claim| self.world.claims.get(&(namespace, claim.claim_name.as_str())))
            .filter_map(|claim| claim.spec.as_ref()?.volume_name.as_deref())
            .filter_map(|volume| self.world.volumes.get(volume).copied())
    }

    fn ports(&self, pod: &Pod, to: &str) -> Result<(), String> {
        let own = host_ports(pod);
        for other in self.pods_on(to).filter(|other| pod_key(other) != pod_key(pod)) {
            for (ip, protocol, port) in host_ports(other) {
                let clash = own.iter().find(|(own_ip, own_protocol, own_port)| {
                    let any = |ip: &str| matches!(ip, "0.0.0.0" | "::");
                    *own_port == port
                        && *own_protocol == protocol
                        && (*own_ip == ip || any(&ip) || any(own_ip))
                });
                if clash.is_some() {
                    return Err(format!("host port {port}"));
                }
            }
        }
        Ok(())
    }

    /// The value of a topology label of the node a pod is on.
    fn domain(&self, node: &str, key: &str) -> Option<&'a str> {
        self.nodes
            .get(node)?
            .metadata
            .labels
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }

    fn peers(&self, pod: &Pod, node: &Node) -> Result<(), String> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let others = || {
            self.at
                .iter()
                .filter_map(|(key, at)| Some((*self.world.pods.get(key)?, *at)))
        };
        let together = |term: &PodAffinityTerm, at: &str| {
            let here = self.domain(name, &term.topology_key);
            here.is_some() && here == self.domain(at, &term.topology_key)
        };
        if !anti(pod).is_empty() {
            for (other, at) in others().filter(|(other, _)| pod_key(other) != pod_key(pod)) {
                for term in anti(pod) {
                    if together(term, at) && self.term_selects(term, pod, other, true) {
                        return Err(format!(
                            "anti-affinity to pod {}/{}",
                            pod_key(other).0,
                            pod_key(other).1
                        ));
                    }
                }
            }
        }
        for key in self.averse.iter().filter(|key| **key != pod_key(pod)) {
            let (Some(other), Some(at)) = (self.world.pods.get(key), self.at.get(key)) else {
                continue;
            };
            for term in anti(other) {
                if together(term, at) && self.term_selects(term, other, pod, true) {
                    return Err(format!(
                        "anti-affinity of pod {}/{}",
                        pod_key(other).0,
                        pod_key(other).1
                    ));
                }
            }
        }
        let terms = affinity(pod);
        let all = |other: &Pod| {
            terms
                .iter()
                .all(|term| self.term_selects(term, pod, other, false))
        };
        for term in terms {
            if self.domain(name, &term.topology_key).is_none() {
                return Err(format!("affinity needs label {}", term.topology_key));
            }
            // Itself counts: it may be the first of its group.
            let alone = all(pod) && !others().any(|(other, _)| pod_key(other) != pod_key(pod) && all(other));
            if !alone
                && !others()
                    .any(|(other, at)| together(term, at) && all(other) && pod_key(other) != pod_key(pod))
            {
                return Err("affinity to no pod there".into());
            }
        }
        Ok(())
    }

    /// Whether `term` of pod `holder` is about pod `other`.
    fn term_selects(&self, term: &PodAffinityTerm, holder: &Pod, other: &Pod, unknown: bool) -> bool {
        let (namespace, theirs) = (pod_key(holder).0, pod_key(other).0);
        let listed = term.namespaces.iter().flatten().any(|one| one == theirs);
        let by_label = term.namespace_selector.as_ref().is_some_and(|selector| {
            selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
                && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
                || self
                    .world
                    .namespaces
                    .get(theirs)
                    .map_or(unknown, |labels| selects(selector, labels))
        });
        let own = term.namespaces.as_ref().is_none_or(Vec::is_empty)
            && term.namespace_selector.is_none()
            && theirs == namespace;
        let (mine, labels) = (labels(holder), labels(other));
        let keys = |keys: &Option<Vec<String>>, equal: bool| {
            keys.iter().flatten().all(|key| {
                mine.get(key)
                    .is_none_or(|value| (labels.get(key) == Some(value)) == equal)
            })
        };
        (listed || by_label || own)
            && term
                .label_selector
                .as_ref()
                .is_some_and(|selector| selects(selector, &labels))
            && keys(&term.match_label_keys, true)
            && keys(&term.mismatch_label_keys, false)
    }

    fn spread(&self, pod: &Pod, node: &Node) -> Result<(), String> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let rules: Vec<&TopologySpreadConstraint> = spec(pod)
            .into_iter()
            .flat_map(|spec| spec.topology_spread_constraints.iter().flatten())
            .filter(|rule| rule.when_unsatisfiable == "DoNotSchedule")
            .collect();
        for rule in &rules {
            let Some(here) = self.domain(name, &rule.topology_key) else {
                return Err(format!("spread needs label {}", rule.topology_key));
            };
            let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
            let counted: BTreeSet<&str> = self
                .nodes
                .iter()
                .filter(|(name, node)| {
                    rules
                        .iter()
                        .all(|rule| self.domain(name, &rule.topology_key).is_some())
                        && (rule.node_affinity_policy.as_deref() == Some("Ignore") || accepts(pod, node))
                        && (rule.node_taints_policy.as_deref() != Some("Honor")
                            || self.tolerated(pod, name, node))
                })
                .map(|(name, _)| *name)
                .collect();
            for node in &counted {
                if let Some(domain) = self.domain(node, &rule.topology_key) {
                    domains.entry(domain).or_default();
                }
            }
            let mine = labels(pod);
            let matches = |other: &Pod| {
                let theirs = labels(other);
                pod_key(other).0 == pod_key(pod).0
                    && other.metadata.deletion_timestamp.is_none()
                    && rule
                        .label_selector
                        .as_ref()
                        .is_some_and(|selector| selects(selector, &theirs))
                    && rule
                        .match_label_keys
                        .iter()
                        .flatten()
                        .all(|key| mine.get(key).is_none_or(|value| theirs.get(key) == Some(value)))
            };
            for (key, at) in self.at.iter().filter(|(_, at)| counted.contains(*at)) {
                if let (Some(other), Some(domain)) =
                    (self.world.pods.get(key), self.domain(at, &rule.topology_key))
                    && matches(other)
                {
                    *domains.entry(domain).or_default() += 1;
                }
            }
            let wanted = usize::try_from(rule.min_domains.unwrap_or(1)).unwrap_or(1);
            let fewest = if domains.len() < wanted {
                0
            } else {
                domains.values().copied().min().unwrap_or(0)
            };
            let count = domains.get(here).copied().unwrap_or(0);
            if count - fewest > i64::from(rule.max_skew) {
                return Err(format!(
                    "spread over {}: {count} here, {fewest} elsewhere",
                    rule.topology_key
                ));
            }
        }
        Ok(())
    }

    /// Whether no taint keeps the pod off, the cordon of the plan included.
    fn tolerated(&self, pod: &Pod, name: &str, node: &Node) -> bool {
        let cordon = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        let cordoned = self.leaving.contains(name)
            || node
                .spec
                .as_ref()
                .and_then(|spec| spec.unschedulable)
                .unwrap_or(false);
        taints(node).all(|taint| tolerates(pod, taint)) && (!cordoned || tolerates(pod, &cordon))
    }
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
}

fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    spec(pod)
        .into_iter()
        .flat_map(|spec| spec.tolerations.iter().flatten())
        .any(|toleration| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            let (key, effect) = (text(&toleration.key), text(&toleration.effect));
            let exists = toleration.operator.as_deref() == Some("Exists");
            let equal = matches!(toleration.operator.as_deref(), None | Some("" | "Equal"));
            (effect.is_empty() || effect == taint.effect)
                && if key.is_empty() { exists } else { key == taint.key }
                && (exists || equal && text(&toleration.value) == text(&taint.value))
        })
}

fn accepts(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = spec(pod) else { return true };
    let empty = BTreeMap::new();
    let own = node.metadata.labels.as_ref().unwrap_or(&empty);
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    spec.node_selector
        .iter()
        .flatten()
        .all(|(key, value)| own.get(key) == Some(value))
        && required.is_none_or(|required| node_matches(required, node))
}

fn node_matches(selector: &NodeSelector, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let own = node.metadata.labels.as_ref().unwrap_or(&empty);
    let holds = |requirement: &NodeSelectorRequirement, value: Option<&String>| {
        let values = requirement.values.as_deref().unwrap_or_default();
        let number = |text: &str| text.parse::<i64>().ok();
        let compare = |less: bool| {
            let pair = value
                .and_then(|value| number(value))
                .zip(values.first().and_then(|bound| number(bound)));
            pair.is_some_and(|(value, bound)| if less { value < bound } else { value > bound })
        };
        match requirement.operator.as_str() {
            "In" => value.is_some_and(|value| values.contains(value)),
            "NotIn" => value.is_none_or(|value| !values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => compare(false),
            "Lt" => compare(true),
            _ => false,
        }
    };
    selector.node_selector_terms.iter().any(|term| {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        let fields = term.match_fields.as_deref().unwrap_or_default();
        (!expressions.is_empty() || !fields.is_empty())
            && expressions
                .iter()
                .all(|requirement| holds(requirement, own.get(&requirement.key)))
            && fields
                .iter()
                .all(|requirement| holds(requirement, node.metadata.name.as_ref()))
    })
}

/// Millicores for CPU, whole units for the rest, rounded up.
fn amount(resource: &str, quantity: &WireQuantity) -> i128 {
    let parsed: Quantity = quantity.0.parse().unwrap_or(Quantity::MAX);
    if resource == "cpu" {
        parsed.milli_value()
    } else {
        parsed.value()
    }
}

fn requests(pod: &Pod) -> BTreeMap<String, i128> {
    let Some(spec) = spec(pod) else {
        return BTreeMap::new();
    };
    let of = |resources: &Option<ResourceRequirements>| -> BTreeMap<String, i128> {
        let requests = resources
            .iter()
            .flat_map(|resources| resources.requests.iter().flatten());
        requests
            .into_iter()
            .map(|(name, quantity)| (name.clone(), amount(name, quantity)))
            .collect()
    };
    let add = |sum: &mut BTreeMap<String, i128>, more: &BTreeMap<String, i128>| {
        more.iter()
            .for_each(|(name, amount)| *sum.entry(name.clone()).or_default() += amount);
    };
    let is_sidecar = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    let mut sum = BTreeMap::new();
    spec.containers
        .iter()
        .for_each(|container| add(&mut sum, &of(&container.resources)));
    let mut sidecars = BTreeMap::new();
    let mut peaks: Vec<BTreeMap<String, i128>> = Vec::new();
    for container in spec.init_containers.iter().flatten() {
        let own = of(&container.resources);
        if is_sidecar(container) {
            add(&mut sidecars, &own);
            peaks.push(sidecars.clone());
        } else {
            let mut peak = sidecars.clone();
            add(&mut peak, &own);
            peaks.push(peak);
        }
    }
    add(&mut sum, &sidecars);
    for (name, amount) in peaks.into_iter().flatten() {
        let entry = sum.entry(name).or_default();
        *entry = (*entry).max(amount);
    }
    for (name, amount) in of(&spec.resources) {
        if matches!(name.as_str(), "cpu" | "memory") {
            sum.insert(name, amount);
        }
    }
    for (name, quantity) in spec.overhead.iter().flatten() {
        *sum.entry(name.clone()).or_default() += amount(name, quantity);
    }
    sum
}

fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let Some(spec) = spec(pod) else { return Vec::new() };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let ip = port
                .host_ip
                .clone()
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| "0.0.0.0".into());
            Some((ip, port.protocol.clone().unwrap_or_else(|| "TCP".into()), number))
        })
        .collect()
}

fn anti(pod: &Pod) -> &[PodAffinityTerm] {
    spec(pod)
        .and_then(|spec| spec.affinity.as_ref()?.pod_anti_affinity.as_ref())
        .and_then(|rules| {
            rules
                .required_during_scheduling_ignored_during_execution
                .as_deref()
        })
        .unwrap_or_default()
}

fn affinity(pod: &Pod) -> &[PodAffinityTerm] {
    spec(pod)
        .and_then(|spec| spec.affinity.as_ref()?.pod_affinity.as_ref())
        .and_then(|rules| {
            rules
                .required_during_scheduling_ignored_during_execution
                .as_deref()
        })
        .unwrap_or_default()
}
