//! Cloud nodes and edge nodes.
//!
//! A disconnected edge node is everyday life (OpenYurt, KubeEdge: its pods keep running), so edge nodes have no say in
//! the health of a member.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;

use super::{HealthReason, Probe};

/// What matters of a node here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the two facts the rule is about")]
pub struct NodeHealth {
    /// It stands at the edge, by OpenYurt's or KubeEdge's label.
    pub edge: bool,
    /// Its Ready condition is True.
    pub ready: bool,
}

impl NodeHealth {
    /// Reads a node's labels: `openyurt.io/is-edge-worker=true`, or `node-role.kubernetes.io/edge` with any value.
    #[must_use]
    pub fn is_edge(labels: &BTreeMap<String, String>) -> bool {
        labels
            .get("openyurt.io/is-edge-worker")
            .is_some_and(|value| value == "true")
            || labels.contains_key("node-role.kubernetes.io/edge")
    }
}

impl From<&Node> for NodeHealth {
    fn from(node: &Node) -> Self {
        let edge = node.metadata.labels.as_ref().is_some_and(Self::is_edge);
        let ready = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        Self { edge, ready }
    }
}

/// The nodes' part in a probe: failed only when there are cloud nodes and not one of them is Ready.
///
/// ```
/// use kurator_core::health::{HealthReason, NodeHealth, Probe, cloud_nodes};
///
/// let cloud = NodeHealth { edge: false, ready: true };
/// let lost_edge = NodeHealth { edge: true, ready: false };
/// assert_eq!(cloud_nodes([cloud, lost_edge, lost_edge]), Probe::Succeeded);
/// assert_eq!(cloud_nodes([lost_edge]), Probe::Succeeded);
/// let down = NodeHealth { ready: false, ..cloud };
/// assert_eq!(cloud_nodes([down, lost_edge]), Probe::Failed(HealthReason::CloudNodesNotReady));
/// ```
#[must_use]
pub fn cloud_nodes(nodes: impl IntoIterator<Item = NodeHealth>) -> Probe {
    let (mut cloud, mut ready) = (0_usize, 0_usize);
    for node in nodes.into_iter().filter(|node| !node.edge) {
        cloud += 1;
        ready += usize::from(node.ready);
    }
    if cloud > 0 && ready == 0 {
        Probe::Failed(HealthReason::CloudNodesNotReady)
    } else {
        Probe::Succeeded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: &[(&str, &str)], ready: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"labels": labels.iter().copied().collect::<BTreeMap<_, _>>()},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn disconnected_edge_nodes_are_no_verdict() {
        let nodes = [
            node(&[("openyurt.io/is-edge-worker", "true")], "Unknown"),
            node(&[("node-role.kubernetes.io/edge", "")], "False"),
            node(&[("openyurt.io/is-edge-worker", "false")], "True"),
        ];
        assert_eq!(cloud_nodes(nodes.iter().map(NodeHealth::from)), Probe::Succeeded);
    }

    #[test]
    fn no_ready_cloud_node_is_a_verdict() {
        let nodes = [
            node(&[], "Unknown"),
            node(&[("node-role.kubernetes.io/edge", "")], "True"),
        ];
        assert_eq!(
            cloud_nodes(nodes.iter().map(NodeHealth::from)),
            Probe::Failed(HealthReason::CloudNodesNotReady)
        );
    }
}
