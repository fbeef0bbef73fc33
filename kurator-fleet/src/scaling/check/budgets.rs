//! That no budget is exceeded at any instant.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kurator_core::plan::Notes;

use super::{
    Flaw,
    world::{Key, World, is_over, is_pod_ready, labels, managing, phase, pod_key, selects},
};
use crate::scaling::ScaleDownPlan;

pub(super) fn check(plan: &ScaleDownPlan, world: &World<'_>, notes: &mut Notes) {
    for ((namespace, name), budget) in &world.budgets {
        let object = format!("PodDisruptionBudget {namespace}/{name}");
        let tally = Tally::new(world, namespace, budget);
        let mut allowed = tally.allowed;
        let surged = plan
            .surges
            .iter()
            .any(|surge| surge.budget.namespace == *namespace && surge.budget.name == *name);
        if surged {
            allowed = allowed.max(1);
        }
        for (wave, steps) in (1..).zip(&plan.waves) {
            // Nodes of a wave are not in step: on each the worst round may be the one that runs.
            let mut gone = 0;
            for node in &steps.nodes {
                let mut rounds: BTreeMap<u32, i64> = BTreeMap::new();
                for step in &node.moves {
                    let key = (step.pod.namespace.as_str(), step.pod.name.as_str());
                    let Some(pod) = world.pods.get(&key) else { continue };
                    if tally.takes(pod) {
                        *rounds.entry(step.round).or_default() += 1;
                    }
                }
                gone += rounds.into_values().max().unwrap_or(0);
            }
            if gone > allowed {
                notes.error(
                    &object,
                    &Flaw::BudgetExceeded {
                        wave,
                        pods: gone,
                        allowed,
                    },
                );
            }
        }
    }
    several(plan, world, notes);
}

/// The API server refuses to evict a pod that several budgets select.
fn several(plan: &ScaleDownPlan, world: &World<'_>, notes: &mut Notes) {
    for step in plan.moves() {
        let key = (step.pod.namespace.as_str(), step.pod.name.as_str());
        let Some(pod) = world.pods.get(&key) else { continue };
        let labels = labels(pod);
        let budgets = world
            .budgets
            .range((key.0, "")..)
            .take_while(|((namespace, _), _)| *namespace == key.0)
            .filter(|(_, budget)| selector_of(budget).is_some_and(|selector| selects(selector, &labels)))
            .count();
        if budgets > 1 && is_covered(pod) {
            notes.error(
                format!("Pod {}", step.pod),
                &Flaw::NotMovable {
                    why: "several budgets select it",
                },
            );
        }
    }
}

fn selector_of(
    budget: &PodDisruptionBudget,
) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector> {
    budget.spec.as_ref()?.selector.as_ref()
}

/// Whether the server asks budgets before it evicts the pod.
fn is_covered(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !is_over(pod) && phase(pod) != "Pending"
}

/// A budget with its pods counted.
struct Tally<'a> {
    members: BTreeMap<Key<'a>, &'a Pod>,
    healthy: i64,
    desired: i64,
    allowed: i64,
    always: bool,
}

impl<'a> Tally<'a> {
    fn new(world: &World<'a>, namespace: &'a str, budget: &'a PodDisruptionBudget) -> Self {
        let spec = budget.spec.as_ref();
        let members: BTreeMap<Key<'a>, &'a Pod> = match selector_of(budget) {
            None => BTreeMap::new(),
            Some(selector) => world
                .pods_in(namespace)
                .filter(|(_, pod)| selects(selector, &labels(pod)))
                .map(|(_, pod)| (pod_key(pod), *pod))
                .collect(),
        };
        let status = budget.status.as_ref();
        let recently_evicted = |name: &str| {
            status
                .and_then(|status| status.disrupted_pods.as_ref()?.get(name))
                .is_some_and(|time| world.now.as_second() < time.0.as_second() + 120)
        };
        let healthy = members
            .iter()
            .filter(|((_, name), pod)| {
                is_pod_ready(pod) && pod.metadata.deletion_timestamp.is_none() && !recently_evicted(name)
            })
            .count();
        let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
        let (scale, complete) = scale(world, namespace, members.values().copied());
        let share = |amount: &IntOrString| match amount {
            IntOrString::Int(count) => i64::from(*count),
            IntOrString::String(text) => {
                let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(100);
                (scale.unwrap_or(0) * percent).div_euclid(100)
                    + i64::from((scale.unwrap_or(0) * percent).rem_euclid(100) > 0)
            }
        };
        let min = spec.and_then(|spec| spec.min_available.as_ref());
        let max = spec.and_then(|spec| spec.max_unavailable.as_ref());
        let by_count = matches!(min, Some(IntOrString::Int(_)));
        let (mut expected, mut desired) = match (max, min) {
            (Some(max), _) => (scale.unwrap_or(0), (scale.unwrap_or(0) - share(max)).max(0)),
            (None, Some(min)) if by_count => (i64::try_from(members.len()).unwrap_or(i64::MAX), share(min)),
            (None, Some(min)) => (scale.unwrap_or(0), share(min)),
            (None, None) => (0, 0),
        };
        let fresh = status.filter(|status| {
            let generation = budget.metadata.generation.unwrap_or(0);
            let written = status.observed_generation.is_some()
                || status.expected_pods.unwrap_or(0) > 0
                || status.conditions.is_some();
            written && status.observed_generation.unwrap_or(generation) >= generation
        });
        let failed = fresh.is_some_and(|status| {
            status
                .conditions
                .iter()
                .flatten()
                .any(|one| one.type_ == "DisruptionAllowed" && one.reason == "SyncFailed")
        });
        let mut no_scale = !by_count && scale.is_none();
        if let Some(status) = fresh
            && !by_count
            && !complete
            && !failed
        {
            expected = i64::from(status.expected_pods.unwrap_or(0));
            desired = i64::from(status.desired_healthy.unwrap_or(0));
            no_scale = false;
        }
        let mut allowed = if expected <= 0 || no_scale {
            0
        } else {
            (healthy - desired).max(0)
        };
        if let Some(status) = fresh {
            allowed = allowed.min(i64::from(status.disruptions_allowed.unwrap_or(0)).max(0));
        }
        Self {
            members,
            healthy,
            desired,
            allowed,
            always: spec.and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref())
                == Some("AlwaysAllow"),
        }
    }

    /// Whether the pod's eviction takes one from the budget.
    fn takes(&self, pod: &Pod) -> bool {
        if !self.members.contains_key(&pod_key(pod)) || !is_covered(pod) {
            return false;
        }
        is_pod_ready(pod) || !self.always && (self.healthy < self.desired || self.desired == 0)
    }
}

/// The scales of the distinct controllers of pods, added, and whether all their objects are known; no scale at all if
/// one has none.
fn scale<'a>(
    world: &World<'a>,
    namespace: &'a str,
    pods: impl Iterator<Item = &'a Pod>,
) -> (Option<i64>, bool) {
    let mut owners: BTreeMap<(String, String), ()> = BTreeMap::new();
    for pod in pods {
        if let Some(root) = root(world, pod) {
            owners.insert(root, ());
        }
    }
    let (mut sum, mut complete) = (0, true);
    for owner in owners.into_keys() {
        let known = world
            .replicas
            .iter()
            .find(|((kind, own, name), _)| *kind == owner.0 && *own == namespace && *name == owner.1);
        match known {
            Some((_, replicas)) => sum += replicas,
            None if matches!(owner.0.as_str(), "DaemonSet" | "Job" | "Node") => return (None, true),
            None => {
                complete = false;
                let alive = world.pods_in(namespace).filter(|(_, pod)| {
                    !is_over(pod)
                        && pod.metadata.deletion_timestamp.is_none()
                        && root(world, pod).as_ref() == Some(&owner)
                });
                sum += i64::try_from(alive.count()).unwrap_or(i64::MAX);
            }
        }
    }
    (Some(sum), complete)
}

/// Kind and name of the controller whose scale counts.
fn root(world: &World<'_>, pod: &Pod) -> Option<(String, String)> {
    let owner = managing(pod.metadata.owner_references.as_deref())?;
    if owner.kind == "ReplicaSet"
        && let Some(deployment) = world.deployment_of.get(&(pod_key(pod).0, owner.name.as_str()))
    {
        return Some(("Deployment".to_owned(), (*deployment).to_owned()));
    }
    Some((owner.kind.clone(), owner.name.clone()))
}
