//! What the watches have seen.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
    storage::v1::VolumeAttachment,
};
use kube::{ResourceExt, runtime::watcher};
use kurator_core::selector::LabelMatcher;

use super::mark::Mark;

fn revision(object: &impl ResourceExt) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

/// Seconds past its grace period after which a pod that is still there is stuck.
const OVER_GRACE: i64 = 30;

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
    /// When it is to have ended, if it is being deleted.
    pub(super) due: Option<Timestamp>,
    /// What keeps it in the API once it has ended.
    pub(super) finalizers: Vec<String>,
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
            due: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            finalizers: pod.finalizers().to_vec(),
        }
    }

    /// Whether it should have ended, its grace period and some more being over.
    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        self.due
            .is_some_and(|due| now.duration_since(due).as_secs() >= OVER_GRACE)
    }

    fn counts_ready(&self) -> bool {
        self.ready && !self.terminating
    }
}

/// What there is to know of a node.
#[derive(Clone, Debug)]
pub(super) struct LiveNode {
    pub(super) uid: Option<String>,
    pub(super) provider_id: Option<String>,
    pub(super) mark: Option<Mark>,
    pub(super) cordoned: bool,
    pub(super) ready: bool,
    pub(super) edge: bool,
}

impl LiveNode {
    fn new(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        Self {
            uid: node.uid(),
            provider_id: spec.and_then(|spec| spec.provider_id.clone()),
            mark: Mark::of(node),
            cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            ready: is_ready(node),
            edge: is_edge(node),
        }
    }

    fn is_open(&self) -> bool {
        self.ready && !self.cordoned
    }
}

/// Something that a plan could not know, and that may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Drift {
    /// A budget was made, deleted, or has another spec.
    Budget,
    /// A node to which pods were to go is gone, not Ready, or cordoned.
    Destination,
    /// A pod has come to a node of the plan.
    Pod,
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
    pub(super) revision: Option<u64>,
    generation: i64,
}

/// Pods of one controller.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    all: usize,
    ready: usize,
}

/// The cluster, as far as draining needs it.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) nodes: BTreeMap<String, LiveNode>,
    pub(super) pods: BTreeMap<Key, LivePod>,
    pub(super) budgets: BTreeMap<Key, LiveBudget>,
    /// Nodes by name of the attachment.
    pub(super) attachments: BTreeMap<String, String>,
    on_node: BTreeMap<String, BTreeSet<Key>>,
    /// By UID.
    controllers: BTreeMap<String, Counted>,
    arriving: BTreeMap<&'static str, BTreeSet<Key>>,
    synced: BTreeSet<&'static str>,
    versions: u64,
    /// Nodes of the plan.
    pub(super) leaving: BTreeSet<String>,
    /// What has drifted since somebody last looked.
    pub(super) drift: BTreeSet<Drift>,
    /// When pods of nodes of the plan were deleted, by UID: resource versions, which can be compared over kinds.
    pub(super) ended: BTreeMap<String, u64>,
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
    pub(super) fn with_leaving(leaving: BTreeSet<String>) -> Self {
        Self {
            leaving,
            ..Self::default()
        }
    }

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
            Seen::Pod(event) => {
                if let watcher::Event::Delete(pod) = &*event {
                    self.pod_ended(pod);
                }
                self.event("pod", *event, Self::put_pod, Self::drop_pod);
            }
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
        let node = LiveNode::new(&node);
        let closed = !node.is_open();
        let before = self.nodes.insert(name.clone(), node);
        if closed && before.is_some_and(|before| before.is_open()) && !self.leaving.contains(&name) {
            self.drifted(Drift::Destination);
        }
    }

    fn drop_node(&mut self, (_, name): &Key) {
        if self.nodes.remove(name).is_some() && !self.leaving.contains(name) {
            self.drifted(Drift::Destination);
        }
    }

    /// Only after everything has been listed once: before that all is new.
    fn drifted(&mut self, what: Drift) {
        if self.is_complete() {
            self.drift.insert(what);
        }
    }

    fn pod_ended(&mut self, pod: &Pod) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        let counts = node.is_some_and(|node| self.leaving.contains(node));
        if let (true, Some(uid), Some(revision)) = (counts, pod.uid(), revision(pod)) {
            self.ended.entry(uid).or_insert(revision);
        }
    }

    fn put_pod(&mut self, key: Key, pod: Pod) {
        if pod.metadata.deletion_timestamp.is_some() {
            self.pod_ended(&pod);
        }
        let pod = LivePod::new(&pod);
        let was_there = self
            .pods
            .get(&key)
            .is_some_and(|old| old.uid == pod.uid && old.node == pod.node);
        let to_leaving = pod.node.as_ref().is_some_and(|node| self.leaving.contains(node));
        if !was_there && to_leaving && !pod.bound_to_node && !pod.finished && !pod.terminating {
            self.drifted(Drift::Pod);
        }
        self.drop_pod(&key);
        if let Some(node) = &pod.node {
            self.on_node.entry(node.clone()).or_default().insert(key.clone());
        }
        if let Some(controller) = &pod.controller {
            let counted = self.controllers.entry(controller.clone()).or_default();
            counted.all += 1;
            counted.ready += usize::from(pod.counts_ready());
        }
        self.pods.insert(key, pod);
    }

    fn drop_pod(&mut self, key: &Key) {
        let Some(pod) = self.pods.remove(key) else { return };
        if let Some(pods) = pod.node.as_ref().and_then(|node| self.on_node.get_mut(node)) {
            pods.remove(key);
        }
        let Some(controller) = &pod.controller else { return };
        if let Some(counted) = self.controllers.get_mut(controller) {
            counted.all -= 1;
            counted.ready -= usize::from(pod.counts_ready());
            if counted.all == 0 {
                self.controllers.remove(controller);
            }
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
        let generation = budget.metadata.generation.unwrap_or_default();
        let revision = revision(&budget);
        if self
            .budgets
            .get(&key)
            .is_none_or(|old| old.generation != generation)
        {
            self.drifted(Drift::Budget);
        }
        self.budgets.insert(
            key,
            LiveBudget {
                // The server takes an invalid selector for one that selects nothing.
                matcher: spec
                    .and_then(|spec| spec.selector.as_ref())
                    .and_then(|selector| LabelMatcher::compile(selector).ok()),
                always_allow_unhealthy: spec.and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref())
                    == Some("AlwaysAllow"),
                fresh: status.is_some() && observed >= generation,
                allowed: status.map_or(0, |status| number(status.disruptions_allowed)),
                healthy: status.map_or(0, |status| number(status.current_healthy)),
                desired: status.map_or(0, |status| number(status.desired_healthy)),
                disrupted: status
                    .and_then(|status| status.disrupted_pods.as_ref())
                    .map(|pods| pods.keys().cloned().collect())
                    .unwrap_or_default(),
                version: self.versions,
                revision,
                generation,
            },
        );
    }

    fn drop_budget(&mut self, key: &Key) {
        if self.budgets.remove(key).is_some() {
            self.drifted(Drift::Budget);
        }
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
        self.nodes.get(name).is_some_and(|node| node.edge && !node.ready)
    }

    /// Whether the node is there and its kubelet does not answer, or answers that it is not well.
    pub(super) fn is_unready(&self, name: &str) -> bool {
        self.nodes.get(name).is_some_and(|node| !node.ready)
    }

    /// Nodes that are not Ready, and all, edge nodes not counted.
    pub(super) fn unready(&self) -> (u32, u32) {
        let cloud = self.nodes.values().filter(|node| !node.edge);
        cloud.fold((0, 0), |(unready, all), node| {
            (unready + u32::from(!node.ready), all + 1)
        })
    }

    /// Pods of a controller that are Ready and not on their way out.
    pub(super) fn ready_of(&self, controller: &str) -> usize {
        self.controllers.get(controller).map_or(0, |pods| pods.ready)
    }

    /// Whether a controller still has pods: one that was deleted or rolled over is not waited for.
    pub(super) fn has_pods(&self, controller: &str) -> bool {
        self.controllers.contains_key(controller)
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    // A node without the condition is being set up, as the planner has it.
    conditions
        .into_iter()
        .all(|condition| condition.type_ != "Ready" || condition.status == "True")
}

fn is_edge(node: &Node) -> bool {
    node.labels()
        .get("openyurt.io/is-edge-worker")
        .is_some_and(|value| value == "true")
        || node.labels().contains_key("node-role.kubernetes.io/edge")
        || [
            "node.openyurt.io/autonomy-duration",
            "node.beta.openyurt.io/autonomy",
            "apps.openyurt.io/binding",
        ]
        .iter()
        .any(|key| node.annotations().contains_key(*key))
}

fn drop_all(keys: &mut BTreeSet<Key>) {
    keys.clear();
}
