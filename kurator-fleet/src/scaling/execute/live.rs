//! What the watches have seen.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
    storage::v1::VolumeAttachment,
};
use kube::{ResourceExt, runtime::watcher};
use kurator_core::selector::LabelMatcher;

/// Namespace and name.
pub(super) type Key = (String, String);

/// What there is to know of a pod.
#[derive(Clone, Debug)]
pub(super) struct LivePod {
    pub(super) uid: String,
    pub(super) node: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    /// UID of its controller.
    pub(super) controller: Option<String>,
    pub(super) ready: bool,
    pub(super) terminating: bool,
    pub(super) pending: bool,
    pub(super) finished: bool,
    /// Static, or of a DaemonSet: it stays with its node.
    pub(super) bound_to_node: bool,
    pub(super) system: bool,
    pub(super) grace: i64,
}

impl LivePod {
    fn new(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let phase = status
            .and_then(|status| status.phase.as_deref())
            .unwrap_or("Pending");
        let controller = pod
            .owner_references()
            .iter()
            .find(|owner| owner.controller == Some(true));
        let kind = controller.map(|owner| owner.kind.as_str());
        Self {
            uid: pod.uid().unwrap_or_default(),
            node: spec
                .and_then(|spec| spec.node_name.clone())
                .filter(|node| !node.is_empty()),
            labels: pod.labels().clone(),
            controller: controller.map(|owner| owner.uid.clone()),
            ready: status
                .and_then(|status| status.conditions.as_ref())
                .is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True")),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            pending: phase == "Pending",
            finished: matches!(phase, "Succeeded" | "Failed"),
            bound_to_node: matches!(kind, Some("DaemonSet" | "Node"))
                || pod.annotations().contains_key("kubernetes.io/config.mirror"),
            system: spec.and_then(|spec| spec.priority).unwrap_or_default() >= 2_000_000_000,
            grace: spec
                .and_then(|spec| spec.termination_grace_period_seconds)
                .unwrap_or(30)
                .max(1),
        }
    }
}

/// A budget as the server goes by it.
#[derive(Clone, Debug)]
pub(super) struct LiveBudget {
    pub(super) matcher: Option<LabelMatcher>,
    pub(super) always_allow_unhealthy: bool,
    /// The controller has seen the present spec.
    pub(super) fresh: bool,
    pub(super) allowed: i64,
    pub(super) healthy: i64,
    pub(super) desired: i64,
    /// Pods whose eviction the status already counts.
    pub(super) disrupted: BTreeSet<String>,
    /// Goes up with every version seen.
    pub(super) version: u64,
}

/// The cluster, as far as draining needs it.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) pods: BTreeMap<Key, LivePod>,
    pub(super) budgets: BTreeMap<Key, LiveBudget>,
    /// Nodes by name of the attachment.
    pub(super) attachments: BTreeMap<String, String>,
    on_node: BTreeMap<String, BTreeSet<Key>>,
    arriving: BTreeMap<&'static str, BTreeSet<Key>>,
    synced: BTreeSet<&'static str>,
    versions: u64,
}

/// An event of one of the watches.
#[derive(Debug)]
pub(super) enum Seen {
    Attachment(Box<watcher::Event<VolumeAttachment>>),
    Budget(Box<watcher::Event<PodDisruptionBudget>>),
    Node(Box<watcher::Event<Node>>),
    Pod(Box<watcher::Event<Pod>>),
}

fn key<K: ResourceExt>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

impl Live {
    /// Whether every kind has been listed once.
    pub(super) fn is_complete(&self) -> bool {
        self.synced.len() == 4
    }

    pub(super) fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Attachment(event) => {
                self.event("attachment", *event, Self::put_attachment, Self::drop_attachment)
            }
            Seen::Budget(event) => self.event("budget", *event, Self::put_budget, Self::drop_budget),
            Seen::Node(event) => self.event("node", *event, Self::put_node, Self::drop_node),
            Seen::Pod(event) => self.event("pod", *event, Self::put_pod, Self::drop_pod),
        }
    }

    fn event<K: ResourceExt>(
        &mut self,
        kind: &'static str,
        event: watcher::Event<K>,
        put: fn(&mut Self, Key, K),
        drop: fn(&mut Self, &Key),
    ) {
        match event {
            watcher::Event::Init => drop_all(self.arriving.entry(kind).or_default()),
            watcher::Event::InitApply(object) => {
                let key = key(&object);
                self.arriving.entry(kind).or_default().insert(key.clone());
                put(self, key, object);
            }
            watcher::Event::InitDone => {
                let listed = self.arriving.remove(kind).unwrap_or_default();
                let gone: Vec<Key> = self
                    .keys(kind)
                    .into_iter()
                    .filter(|key| !listed.contains(key))
                    .collect();
                gone.iter().for_each(|key| drop(self, key));
                self.synced.insert(kind);
            }
            watcher::Event::Apply(object) => put(self, key(&object), object),
            watcher::Event::Delete(object) => drop(self, &key(&object)),
        }
    }

    fn keys(&self, kind: &str) -> Vec<Key> {
        let cluster_wide = |name: &String| (String::new(), name.clone());
        match kind {
            "attachment" => self.attachments.keys().map(cluster_wide).collect(),
            "budget" => self.budgets.keys().cloned().collect(),
            "node" => self.nodes.keys().map(cluster_wide).collect(),
            _ => self.pods.keys().cloned().collect(),
        }
    }

    fn put_attachment(&mut self, (_, name): Key, attachment: VolumeAttachment) {
        self.attachments.insert(name, attachment.spec.node_name);
    }

    fn drop_attachment(&mut self, (_, name): &Key) {
        self.attachments.remove(name);
    }

    fn put_node(&mut self, (_, name): Key, node: Node) {
        self.nodes.insert(name, node);
    }

    fn drop_node(&mut self, (_, name): &Key) {
        self.nodes.remove(name);
    }

    fn put_pod(&mut self, key: Key, pod: Pod) {
        let pod = LivePod::new(&pod);
        self.drop_pod(&key);
        if let Some(node) = &pod.node {
            self.on_node.entry(node.clone()).or_default().insert(key.clone());
        }
        self.pods.insert(key, pod);
    }

    fn drop_pod(&mut self, key: &Key) {
        let node = self.pods.remove(key).and_then(|pod| pod.node);
        if let Some(pods) = node.and_then(|node| self.on_node.get_mut(&node)) {
            pods.remove(key);
        }
    }

    fn put_budget(&mut self, key: Key, budget: PodDisruptionBudget) {
        self.versions += 1;
        let spec = budget.spec.as_ref();
        let status = budget.status.as_ref();
        let number = |field: Option<i32>| i64::from(field.unwrap_or_default());
        let observed = status
            .and_then(|status| status.observed_generation)
            .unwrap_or_default();
        self.budgets.insert(
            key,
            LiveBudget {
                // The server takes an invalid selector for one that selects nothing.
                matcher: spec
                    .and_then(|spec| spec.selector.as_ref())
                    .and_then(|selector| LabelMatcher::compile(selector).ok()),
                always_allow_unhealthy: spec.and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref())
                    == Some("AlwaysAllow"),
                fresh: status.is_some() && observed >= budget.metadata.generation.unwrap_or_default(),
                allowed: status.map_or(0, |status| number(status.disruptions_allowed)),
                healthy: status.map_or(0, |status| number(status.current_healthy)),
                desired: status.map_or(0, |status| number(status.desired_healthy)),
                disrupted: status
                    .and_then(|status| status.disrupted_pods.as_ref())
                    .map(|pods| pods.keys().cloned().collect())
                    .unwrap_or_default(),
                version: self.versions,
            },
        );
    }

    fn drop_budget(&mut self, key: &Key) {
        self.budgets.remove(key);
    }

    /// Pods on a node.
    pub(super) fn pods_on(&self, node: &str) -> impl Iterator<Item = (&Key, &LivePod)> {
        self.on_node
            .get(node)
            .into_iter()
            .flatten()
            .filter_map(|key| self.pods.get_key_value(key))
    }

    /// Budgets that select a pod.
    pub(super) fn budgets_of(&self, key: &Key, pod: &LivePod) -> Vec<(&Key, &LiveBudget)> {
        self.budgets
            .range((key.0.clone(), String::new())..)
            .take_while(|((namespace, _), _)| *namespace == key.0)
            .filter(|(_, budget)| {
                budget
                    .matcher
                    .as_ref()
                    .is_some_and(|matcher| matcher.matches(&pod.labels))
            })
            .collect()
    }

    /// Whether an edge node is out of reach and trusted to run on: what is done to its pods through the API would strike
    /// when it comes back.
    pub(super) fn is_edge_away(&self, name: &str) -> bool {
        let Some(node) = self.nodes.get(name) else {
            return false;
        };
        let edge = node
            .labels()
            .get("openyurt.io/is-edge-worker")
            .is_some_and(|value| value == "true")
            || node.labels().contains_key("node-role.kubernetes.io/edge")
            || [
                "node.openyurt.io/autonomy-duration",
                "node.beta.openyurt.io/autonomy",
                "apps.openyurt.io/binding",
            ]
            .iter()
            .any(|key| node.annotations().contains_key(*key));
        let conditions = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        edge && conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status != "True")
    }

    pub(super) fn is_cordoned(&self, node: &str) -> Option<bool> {
        self.nodes.get(node).map(|node| {
            node.spec
                .as_ref()
                .and_then(|spec| spec.unschedulable)
                .unwrap_or(false)
        })
    }

    /// Ready pods of a controller that are not on these nodes.
    pub(super) fn ready_of(&self, controller: &str) -> usize {
        self.pods
            .values()
            .filter(|pod| pod.controller.as_deref() == Some(controller) && pod.ready && !pod.terminating)
            .count()
    }
}

fn drop_all(keys: &mut BTreeSet<Key>) {
    keys.clear();
}
