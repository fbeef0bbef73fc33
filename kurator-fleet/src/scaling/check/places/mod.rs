//! That every pod fits where it is sent, when it gets there.

mod nodes;
mod peers;
mod room;
mod spread;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod};
use kurator_core::plan::Notes;

use self::nodes::{accepts, taints, tolerates};
use super::{
    Flaw,
    world::{Key, World, is_over, is_ready, node_name},
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
            .filter(|key| {
                world
                    .pods
                    .get(key)
                    .is_some_and(|pod| !peers::anti(pod).is_empty())
            })
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
}
