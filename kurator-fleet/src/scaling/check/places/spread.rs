//! Hard topology spread.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod, Taint, TopologySpreadConstraint};

use super::{
    super::world::{labels, pod_key, selects, spec},
    Scene,
    nodes::{accepts, taints, tolerates},
};

impl Scene<'_, '_> {
    pub(super) fn spread(&self, pod: &Pod, node: &Node) -> Result<(), String> {
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
