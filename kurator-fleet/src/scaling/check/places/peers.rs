//! Required affinity and anti-affinity between pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm};

use super::{
    super::world::{labels, pod_key, selects, spec},
    Scene,
};

impl Scene<'_, '_> {
    pub(super) fn peers(&self, pod: &Pod, node: &Node) -> Result<(), String> {
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
}

pub(super) fn anti(pod: &Pod) -> &[PodAffinityTerm] {
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
