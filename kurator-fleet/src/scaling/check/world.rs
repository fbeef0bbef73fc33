//! The objects by name, as strings.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec},
        policy::v1::PodDisruptionBudget,
        storage::v1::CSINode,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference},
};

use crate::scaling::Object;

/// Namespace and name.
pub(super) type Key<'a> = (&'a str, &'a str);

pub(super) struct World<'a> {
    pub(super) now: Timestamp,
    pub(super) nodes: BTreeMap<&'a str, &'a Node>,
    pub(super) pods: BTreeMap<Key<'a>, &'a Pod>,
    by_node: BTreeMap<&'a str, Vec<&'a Pod>>,
    pub(super) budgets: BTreeMap<Key<'a>, &'a PodDisruptionBudget>,
    pub(super) claims: BTreeMap<Key<'a>, &'a PersistentVolumeClaim>,
    pub(super) volumes: BTreeMap<&'a str, &'a PersistentVolume>,
    pub(super) csi: BTreeMap<&'a str, &'a CSINode>,
    pub(super) namespaces: BTreeMap<&'a str, BTreeMap<String, String>>,
    /// Replicas by kind, namespace and name.
    pub(super) replicas: BTreeMap<(&'static str, &'a str, &'a str), i64>,
    /// The Deployment of a ReplicaSet.
    pub(super) deployment_of: BTreeMap<Key<'a>, &'a str>,
}

impl<'a> World<'a> {
    pub(super) fn new(objects: &'a [Object], now: Timestamp) -> Self {
        let mut world = Self {
            now,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            by_node: BTreeMap::new(),
            budgets: BTreeMap::new(),
            claims: BTreeMap::new(),
            volumes: BTreeMap::new(),
            csi: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            replicas: BTreeMap::new(),
            deployment_of: BTreeMap::new(),
        };
        for object in objects {
            let (kind, namespace, name) = object.key();
            let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
            let mut scale = |replicas: Option<i32>| {
                world
                    .replicas
                    .insert((kind, namespace, name), i64::from(replicas.unwrap_or(1)));
            };
            match object {
                Object::CsiNode(object) => drop(world.csi.insert(name, object)),
                Object::Deployment(object) => scale(object.spec.replicas),
                Object::Namespace(object) => {
                    world
                        .namespaces
                        .insert(name, object.metadata.labels.clone().unwrap_or_default());
                }
                Object::Node(object) => drop(world.nodes.insert(name, object)),
                Object::PersistentVolume(object) => drop(world.volumes.insert(name, object)),
                Object::PersistentVolumeClaim(object) => drop(world.claims.insert((namespace, name), object)),
                Object::Pod(object) => {
                    world.pods.insert((namespace, name), object);
                    if let Some(node) = node_name(object) {
                        world.by_node.entry(node).or_default().push(object);
                    }
                }
                Object::PodDisruptionBudget(object) => drop(world.budgets.insert((namespace, name), object)),
                Object::ReplicaSet(object) => {
                    scale(object.spec.replicas);
                    let owner = managing(object.metadata.owner_references.as_deref());
                    if let Some(owner) = owner.filter(|owner| owner.kind == "Deployment") {
                        world.deployment_of.insert((namespace, name), &owner.name);
                    }
                }
                Object::ReplicationController(object) => {
                    scale(object.spec.as_ref().and_then(|spec| spec.replicas));
                }
                Object::StatefulSet(object) => scale(object.spec.replicas),
            }
        }
        world
    }

    pub(super) fn pods_on(&self, node: &str) -> impl Iterator<Item = &'a Pod> {
        self.by_node.get(node).into_iter().flatten().copied()
    }

    /// Pods of one namespace.
    pub(super) fn pods_in(&self, namespace: &'a str) -> impl Iterator<Item = (&Key<'a>, &&'a Pod)> {
        self.pods
            .range((namespace, "")..)
            .take_while(move |((own, _), _)| *own == namespace)
    }

    /// Why a node must not be removed by any plan.
    pub(super) fn must_stay(&self, name: &str) -> Option<&'static str> {
        let Some(node) = self.nodes.get(name) else {
            return Some("it does not exist");
        };
        let labels = node.metadata.labels.iter().flatten();
        if labels.clone().any(|(key, _)| {
            key == "node-role.kubernetes.io/control-plane" || key == "node-role.kubernetes.io/master"
        }) {
            return Some("it carries the control plane");
        }
        let annotation = |key: &str| node.metadata.annotations.as_ref().and_then(|all| all.get(key));
        let edge = labels.clone().any(|(key, value)| {
            key == "node-role.kubernetes.io/edge" || key == "openyurt.io/is-edge-worker" && value == "true"
        });
        let promised = annotation("node.openyurt.io/autonomy-duration").is_some()
            || annotation("node.beta.openyurt.io/autonomy").is_some_and(|value| value == "true")
            || annotation("apps.openyurt.io/binding").is_some_and(|value| value == "true");
        let unbounded = annotation("node.openyurt.io/autonomy-duration").is_none();
        // A bound that may have passed is the planner's to judge; without one nothing may be done.
        if (edge || promised) && unbounded && !is_ready(node) {
            return Some("it is an edge node out of reach");
        }
        None
    }
}

pub(super) fn managing(owners: Option<&[OwnerReference]>) -> Option<&OwnerReference> {
    owners
        .unwrap_or_default()
        .iter()
        .find(|owner| owner.controller == Some(true))
}

pub(super) fn pod_key(pod: &Pod) -> Key<'_> {
    (
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    )
}

pub(super) fn spec(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

pub(super) fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()?
        .node_name
        .as_deref()
        .filter(|node| !node.is_empty())
}

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

pub(super) fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(super) fn is_pod_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions
        .filter(|condition| condition.type_ == "Ready")
        .peekable();
    if ready.peek().is_none() {
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        return !taints.into_iter().any(|taint| {
            taint.key == "node.kubernetes.io/not-ready" || taint.key == "node.kubernetes.io/unreachable"
        });
    }
    ready.any(|condition| condition.status == "True")
}

/// A label selector on labels, by the words of the API documentation.
pub(super) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let pairs = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten().all(|expression| {
        let value = labels.get(&expression.key);
        let listed = value.is_some_and(|value| expression.values.iter().flatten().any(|one| one == value));
        match expression.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    pairs && expressions
}

pub(super) fn labels(pod: &Pod) -> BTreeMap<String, String> {
    pod.metadata.labels.clone().unwrap_or_default()
}
