//! Who has to move, and does.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kurator_core::plan::Notes;

use super::{
    Flaw,
    world::{Key, World, is_over, managing, node_name, pod_key},
};
use crate::scaling::{ScaleDownPlan, StayReason};

pub(super) fn check(plan: &ScaleDownPlan, world: &World<'_>, notes: &mut Notes) {
    let removed: BTreeSet<&str> = plan.remove.iter().map(String::as_str).collect();
    let mut seen: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    for node in plan.waves.iter().flat_map(|wave| &wave.nodes) {
        for step in &node.moves {
            let key = (step.pod.namespace.as_str(), step.pod.name.as_str());
            *seen.entry(key).or_default() += 1;
            let why = match world.pods.get(&key) {
                None => Some("it does not exist"),
                Some(pod) if node_name(pod) != Some(&node.node) => Some("it is on another node"),
                Some(pod) if pod.metadata.uid.as_deref().unwrap_or_default() != step.uid => {
                    Some("another pod has its name")
                }
                Some(pod) => must_not_move(pod),
            };
            if let Some(why) = why {
                notes.error(format!("Pod {}", step.pod), &Flaw::NotMovable { why });
            }
            if removed.contains(&*step.to) {
                let why = "the destination is removed as well, so it would move twice".to_owned();
                notes.error(
                    format!("Pod {}", step.pod),
                    &Flaw::DoesNotFit {
                        to: step.to.clone(),
                        why,
                    },
                );
            }
        }
        let left: BTreeSet<Key<'_>> = node
            .stay
            .iter()
            .filter(|stay| stay.why == StayReason::Rule)
            .map(|stay| (stay.pod.namespace.as_str(), stay.pod.name.as_str()))
            .collect();
        for pod in world.pods_on(&node.node) {
            let key = pod_key(pod);
            if must_not_move(pod).is_none() && !seen.contains_key(&key) && !left.contains(&key) {
                notes.error(
                    format!("Pod {}/{}", key.0, key.1),
                    &Flaw::LeftBehind {
                        node: node.node.clone(),
                    },
                );
            }
        }
    }
    for ((namespace, name), times) in seen {
        if times > 1 {
            notes.error(format!("Pod {namespace}/{name}"), &Flaw::Twice);
        }
    }
}

/// Why evicting a pod is wrong or pointless.
fn must_not_move(pod: &Pod) -> Option<&'static str> {
    let owner = managing(pod.metadata.owner_references.as_deref()).map(|owner| owner.kind.as_str());
    let annotations = pod.metadata.annotations.as_ref();
    if is_over(pod) {
        Some("it has finished")
    } else if annotations.is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"))
        || owner == Some("Node")
    {
        Some("the kubelet runs it from a file")
    } else if owner == Some("DaemonSet") {
        Some("its DaemonSet would bring it back")
    } else if pod.metadata.deletion_timestamp.is_some() {
        Some("it is being deleted already")
    } else if annotations.is_some_and(|all| {
        all.get("cluster-autoscaler.kubernetes.io/safe-to-evict")
            .is_some_and(|value| value == "false")
            || all
                .get("karpenter.sh/do-not-disrupt")
                .is_some_and(|value| value == "true")
    }) {
        Some("an annotation forbids it")
    } else {
        None
    }
}
