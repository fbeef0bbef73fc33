//! Which workload a pod is a replica of.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

/// What the controller of a Deployment puts on its ReplicaSets and their pods: the last part of the ReplicaSet's name.
pub(crate) const TEMPLATE_HASH: &str = "pod-template-hash";

/// The workload that a pod is a replica of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct PodOwner {
    /// Its kind, such as `Deployment`.
    pub kind: String,
    /// Its namespace, which is the pod's.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl PodOwner {
    /// The workload of this kind and name.
    #[must_use]
    pub fn new(kind: impl Into<String>, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Whose replica a pod is: its controller, or the Deployment behind the ReplicaSet that is its controller. `None`
    /// for a pod of nobody, and for one that ends or has ended, which is no replica any more.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        let controller = pod
            .owner_references()
            .iter()
            .find(|owner| owner.controller == Some(true))?;
        let namespace = pod.namespace()?;
        let deployment = pod
            .labels()
            .get(TEMPLATE_HASH)
            .filter(|_| controller.kind == "ReplicaSet")
            .and_then(|hash| controller.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
        Some(match deployment {
            Some(name) => Self::new("Deployment", namespace, name),
            None => Self::new(&controller.kind, namespace, &controller.name),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn owner(kind: &str, name: &str, deleted: Value, phase: &str) -> Option<PodOwner> {
        let pod = json!({
            "metadata": {
                "namespace": "default",
                "deletionTimestamp": deleted,
                "labels": {TEMPLATE_HASH: "5d9c"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "1"},
                    {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "2", "controller": true},
                ],
            },
            "status": {"phase": phase},
        });
        PodOwner::of(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn pods_of_a_replica_set_of_a_deployment_are_the_deployments() {
        let of = |name| owner("ReplicaSet", name, Value::Null, "Running");
        assert_eq!(
            of("web-a-5d9c"),
            Some(PodOwner::new("Deployment", "default", "web-a"))
        );
        assert_eq!(
            of("by-hand"),
            Some(PodOwner::new("ReplicaSet", "default", "by-hand"))
        );
        let set = owner("StatefulSet", "db-5d9c", Value::Null, "Running");
        assert_eq!(set, Some(PodOwner::new("StatefulSet", "default", "db-5d9c")));
    }

    #[test]
    fn what_ends_is_no_replica() {
        let of = |deleted, phase| owner("Job", "once", deleted, phase);
        assert_eq!(of("2026-01-02T03:04:05Z".into(), "Running"), None);
        assert_eq!(of(Value::Null, "Succeeded"), None);
        assert!(of(Value::Null, "Running").is_some());
    }
}
