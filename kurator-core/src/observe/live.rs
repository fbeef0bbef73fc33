//! From the objects of a member to its view.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{self as api, Node, Pod};

use super::{
    ClusterView, NodeView, RequestsError, ResourceSummary, Resources, Taint, TaintEffect,
    requests::{add, parse},
    running_pod_requests,
};

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

/// An object of a member that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the resources of {object}")]
#[non_exhaustive]
pub struct ObserveError {
    /// Kind and name of the object, such as `Pod default/web-0`.
    pub object: String,
    /// What is wrong.
    #[source]
    pub source: RequestsError,
}

impl ClusterView {
    /// Sets the nodes, the sums over them and, where the labels of the nodes say so, zones and region, from all nodes
    /// and pods of the member.
    ///
    /// - Pods that have ended take nothing. Pods without a node count as `allocating`.
    /// - The sums are over nodes that are ready and not cordoned, and the pods on those.
    /// - A region that is set already is kept, and so is none if the nodes name several.
    ///
    /// # Errors
    /// [`ObserveError`], naming the object, if an amount is not a quantity or a sum leaves the range.
    pub fn with_observed_nodes<'a>(
        mut self,
        nodes: impl IntoIterator<Item = &'a Node>,
        pods: impl IntoIterator<Item = &'a Pod>,
    ) -> Result<Self, ObserveError> {
        let mut views = BTreeMap::new();
        for node in nodes {
            let view = NodeView::try_from(node)?;
            views.insert(view.name.clone(), view);
        }
        let mut summary = ResourceSummary::default();
        let mut waiting = 0_i64;
        for pod in pods.into_iter().filter(|pod| !has_ended(pod)) {
            let blame = |source| ObserveError {
                object: object("Pod", &pod.metadata),
                source,
            };
            let requests = running_pod_requests(pod).map_err(blame)?;
            match pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.as_deref())
                .filter(|name| !name.is_empty())
            {
                None => {
                    add(&mut summary.allocating, &requests).map_err(blame)?;
                    waiting = waiting.saturating_add(1);
                }
                Some(name) => {
                    // A node that is not there: its pods are about to be collected.
                    if let Some(node) = views.get_mut(name) {
                        add(&mut node.allocated, &requests).map_err(blame)?;
                        node.pods = node.pods.saturating_add(1);
                    }
                }
            }
        }
        if waiting > 0 {
            summary.allocating.insert("pods".to_owned(), waiting.into());
        }
        let mut running = 0_i64;
        for node in views.values().filter(|node| node.ready && !node.unschedulable) {
            let blame = |source| ObserveError {
                object: format!("Node {}", node.name),
                source,
            };
            add(&mut summary.allocatable, &node.allocatable).map_err(blame)?;
            add(&mut summary.allocated, &node.allocated).map_err(blame)?;
            running = running.saturating_add(node.pods.into());
        }
        if running > 0 {
            summary.allocated.insert("pods".to_owned(), running.into());
        }
        self.zones
            .extend(views.values().filter_map(|node| node.labels.get(ZONE).cloned()));
        if self.region.is_none() {
            let mut regions = views.values().filter_map(|node| node.labels.get(REGION));
            let first = regions.next();
            self.region = first
                .filter(|first| regions.all(|other| other == *first))
                .cloned();
        }
        self.resources = Some(summary);
        self.nodes = Some(views.into_values().collect());
        Ok(self)
    }
}

/// The node without the pods on it.
impl TryFrom<&Node> for NodeView {
    type Error = ObserveError;

    fn try_from(node: &Node) -> Result<Self, Self::Error> {
        let mut view = Self::new(node.metadata.name.clone().unwrap_or_default());
        view.labels = node.metadata.labels.clone().unwrap_or_default();
        if let Some(spec) = &node.spec {
            view.taints = spec
                .taints
                .iter()
                .flatten()
                .filter_map(|taint| Taint::try_from(taint).ok())
                .collect();
            view.taints.sort_unstable();
            view.unschedulable = spec.unschedulable.unwrap_or(false);
        }
        let status = node.status.as_ref();
        view.ready = status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        view.allocatable = match status.and_then(|status| status.allocatable.as_ref()) {
            Some(amounts) => parse(amounts).map_err(|source| ObserveError {
                object: object("Node", &node.metadata),
                source,
            })?,
            None => Resources::new(),
        };
        Ok(view)
    }
}

/// A taint whose effect this version does not know; the server has such only if it is newer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("taint {key} has the effect {effect:?}, which is not known")]
#[non_exhaustive]
pub struct UnknownEffect {
    /// Key of the taint.
    pub key: String,
    /// Its effect.
    pub effect: String,
}

impl TryFrom<&api::Taint> for Taint {
    type Error = UnknownEffect;

    fn try_from(taint: &api::Taint) -> Result<Self, Self::Error> {
        let effect = match taint.effect.as_str() {
            "NoExecute" => TaintEffect::NoExecute,
            "NoSchedule" => TaintEffect::NoSchedule,
            "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
            other => {
                return Err(UnknownEffect {
                    key: taint.key.clone(),
                    effect: other.to_owned(),
                });
            }
        };
        Ok(Self {
            key: taint.key.clone(),
            value: taint.value.clone().unwrap_or_default(),
            effect,
            time_added: taint.time_added.as_ref().map(|time| time.0),
        })
    }
}

fn has_ended(pod: &Pod) -> bool {
    matches!(
        pod.status.as_ref().and_then(|status| status.phase.as_deref()),
        Some("Succeeded" | "Failed")
    )
}

fn object(kind: &str, metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> String {
    let name = metadata.name.as_deref().unwrap_or_default();
    match metadata.namespace.as_deref() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::quantity::Quantity;

    fn node(name: &str, region: &str, ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {REGION: region, ZONE: format!("{region}-{name}")}},
            "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {
                "allocatable": {"cpu": "4", "pods": "110"},
                "conditions": [{"type": "Ready", "status": ready}],
            },
        }))
        .unwrap()
    }

    fn pod(node: Value, phase: &str, cpu: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": "p"},
            "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn empty() -> ClusterView {
        ClusterView::new("a".parse().unwrap())
    }

    #[test]
    fn sums_are_over_nodes_that_take_pods() {
        let nodes = [node("n1", "r", "True"), node("n2", "r", "False")];
        let pods = [
            pod("n1".into(), "Running", "1"),
            pod("n1".into(), "Succeeded", "1"),
            pod("n2".into(), "Running", "2"),
            pod("gone".into(), "Running", "2"),
            pod(Value::Null, "Pending", "500m"),
        ];
        let view = empty().with_observed_nodes(&nodes, &pods).unwrap();
        let resources = view.resources.unwrap();
        assert_eq!(resources.free("cpu"), Some(Quantity::from_milli(2500)));
        assert_eq!(resources.free("pods"), Some(Quantity::from_units(108)));
        let seen: Vec<_> = view
            .nodes
            .iter()
            .flatten()
            .map(|node| (node.name.as_str(), node.pods, node.ready))
            .collect();
        assert_eq!(seen, [("n1", 1, true), ("n2", 1, false)]);
        assert_eq!(view.region.as_deref(), Some("r"));
        assert!(view.zones.iter().eq(["r-n1", "r-n2"]));
    }

    #[test]
    fn nodes_in_several_regions_name_none() {
        let nodes = [node("n1", "r", "True"), node("n2", "s", "True")];
        assert_eq!(empty().with_observed_nodes(&nodes, []).unwrap().region, None);
    }

    #[test]
    fn the_order_of_the_objects_does_not_matter() {
        let nodes = [node("n1", "r", "True"), node("n2", "r", "True")];
        let pods = [pod("n1".into(), "Running", "1"), pod("n2".into(), "Running", "3")];
        let forth = empty().with_observed_nodes(&nodes, &pods).unwrap();
        let back = empty()
            .with_observed_nodes(nodes.iter().rev(), pods.iter().rev())
            .unwrap();
        assert_eq!(
            serde_json::to_string(&forth).unwrap(),
            serde_json::to_string(&back).unwrap()
        );
    }

    #[test]
    fn an_object_that_cannot_be_read_is_named() {
        let error = empty()
            .with_observed_nodes([], &[pod(Value::Null, "Pending", "x")])
            .unwrap_err();
        assert_eq!(error.object, "Pod default/p");
    }
}
