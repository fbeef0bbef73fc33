//! Pods of which nobody knows whether they run: their node cannot be reached.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use crate::observe::PodOwner;

/// A replica on a node that cannot be reached, and what node and pod say about running on all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CutOffPod {
    /// Whose replica it is.
    pub owner: PodOwner,
    /// Since when the node cannot be reached.
    pub since: Timestamp,
    /// Those annotations of the node by which edge systems say how long it runs its pods on.
    pub node_annotations: BTreeMap<String, String>,
    /// The label by which such a system says it of the pod.
    pub pod_labels: BTreeMap<String, String>,
}

/// Whether an annotation of a node is one by which `OpenYurt` says how long the node runs its pods on.
pub(super) fn is_about_autonomy(annotation: &str) -> bool {
    let domain = annotation.split_once('/').map_or("", |(domain, _)| domain);
    domain.ends_with("openyurt.io")
}

/// The label by which `KubeEdge` says that a pod runs on while its node cannot be reached.
pub(super) const OFFLINE: &str = "app-offline.kubeedge.io";

/// Since when a node cannot be reached, if it cannot: nobody has heard of it, which is not what a sick node says.
pub(super) fn cut_off_since(node: &Node) -> Option<Timestamp> {
    let conditions = node.status.as_ref()?.conditions.iter().flatten();
    let ready = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")?;
    let since = ready.last_transition_time.as_ref().map(|time| time.0);
    (ready.status == "Unknown").then(|| since.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The pods on such nodes.
pub(super) fn cut_off<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    pods: impl Iterator<Item = &'a Pod>,
) -> Vec<CutOffPod> {
    let nodes: BTreeMap<String, (Timestamp, &Node)> = nodes
        .filter_map(|node| Some((node.name_any(), (cut_off_since(node)?, node))))
        .collect();
    if nodes.is_empty() {
        return Vec::new();
    }
    let on_them = pods.filter_map(|pod| {
        let name = pod.spec.as_ref()?.node_name.as_ref()?;
        let (since, node) = nodes.get(name)?;
        Some(CutOffPod {
            owner: PodOwner::of(pod)?,
            since: *since,
            node_annotations: node.annotations().clone(),
            pod_labels: pod.labels().clone(),
        })
    });
    on_them.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": name, "annotations": { "node.beta.openyurt.io/autonomy": "true" } },
            "status": { "conditions": [
                { "type": "Ready", "status": ready, "lastTransitionTime": "2026-01-02T03:04:05Z" },
            ] },
        }))
        .unwrap()
    }

    fn pod(node: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("on-{node}"), "namespace": "shop",
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": true }],
            },
            "spec": { "nodeName": node, "containers": [] },
        }))
        .unwrap()
    }

    #[test]
    fn a_node_that_says_it_is_not_ready_can_be_reached() {
        let nodes = [
            node("gone", "Unknown"),
            node("sick", "False"),
            node("well", "True"),
        ];
        let pods = ["gone", "sick", "well"].map(pod);
        let found = cut_off(nodes.iter(), pods.iter());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].owner, PodOwner::new("StatefulSet", "shop", "db"));
        assert_eq!(found[0].since, "2026-01-02T03:04:05Z".parse().unwrap());
        assert_eq!(found[0].node_annotations.len(), 1);
    }
}
