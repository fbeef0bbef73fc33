//! Nodes.

use k8s_openapi::api::{core::v1 as core, storage::v1 as storage};
use kube::core::Duration;

use super::{
    Model, ModelError,
    constraint::{CORDON, Effect, Taint},
    labels::Labels,
    name_of,
    resources::Resources,
    symbols::{Map, Sym, id},
};

/// What the `Ready` condition of a node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    Yes,
    /// `False` or `Unknown`, with the second since the epoch it became so.
    No {
        unknown: bool,
        since: Option<i64>,
    },
}

/// How long an edge node keeps its pods without the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Autonomy {
    Forever,
    Seconds(i64),
}

#[derive(Clone, Debug)]
pub(crate) struct NodeRecord {
    pub(crate) name: Sym,
    pub(crate) labels: Labels,
    pub(crate) allocatable: Resources,
    /// With the taint an unschedulable node has by `spec.unschedulable`.
    pub(crate) taints: Box<[Taint]>,
    pub(crate) unschedulable: bool,
    pub(crate) ready: Ready,
    /// A cloud edge gateway reports the heartbeat of a kubelet that cannot.
    pub(crate) delegated_heartbeat: bool,
    pub(crate) created: i64,
    pub(crate) control_plane: bool,
    pub(crate) edge: bool,
    pub(crate) autonomy: Option<Autonomy>,
    /// The user marked it to go first.
    pub(crate) delete_mark: bool,
    /// The annotation that keeps it.
    pub(crate) keep: Option<&'static str>,
    pub(crate) deleting: bool,
}

/// What a kubelet takes if nothing else is said. Every real node says it; a file cut down to what matters may not.
const PODS: i64 = 110;

/// Annotation on a node (Cluster API has it on the Machine) that makes it the first to go.
pub(crate) const DELETE_MARKS: [&str; 2] = [
    "cluster.x-k8s.io/delete-machine",
    "cluster.kurator.dev/delete-node",
];
/// Annotations of the autoscalers that keep a node, by their value `true`.
pub(crate) const KEEP_MARKS: [&str; 3] = [
    "cluster-autoscaler.kubernetes.io/scale-down-disabled",
    "karpenter.sh/do-not-disrupt",
    "cluster.kurator.dev/keep-node",
];
const HEARTBEAT_TAINT: &str = "node.openyurt.io/unschedulable";

impl NodeRecord {
    fn new(node: &core::Node, model: &mut Model) -> Result<Self, ModelError> {
        let name = name_of("Node", &node.metadata)?;
        let object = || format!("Node {name}");
        let symbols = &mut model.symbols;
        let status = node.status.as_ref();
        let spec = node.spec.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        let mut taints: Vec<Taint> = spec
            .and_then(|spec| spec.taints.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|taint| {
                let effect = match taint.effect.as_str() {
                    "NoSchedule" => Effect::NoSchedule,
                    "NoExecute" => Effect::NoExecute,
                    _ => return None,
                };
                Some(Taint {
                    key: symbols.intern(&taint.key),
                    value: symbols.intern(taint.value.as_deref().unwrap_or_default()),
                    effect,
                })
            })
            .collect();
        let unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or_default();
        let has_taint =
            |taints: &[Taint], key: Option<Sym>| taints.iter().any(|taint| Some(taint.key) == key);
        let heartbeat = symbols.find(HEARTBEAT_TAINT);
        let not_ready = symbols.find("node.kubernetes.io/not-ready");
        let unreachable = symbols.find("node.kubernetes.io/unreachable");
        let condition = status
            .and_then(|status| status.conditions.as_ref())
            .and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"));
        let ready = match condition {
            Some(condition) if condition.status == "True" => Ready::Yes,
            Some(condition) => Ready::No {
                unknown: condition.status != "False",
                since: condition
                    .last_transition_time
                    .as_ref()
                    .map(|time| time.0.as_second()),
            },
            // No kubelet has reported yet; the taint the API server gave it says so as well.
            None if has_taint(&taints, not_ready) || has_taint(&taints, unreachable) => Ready::No {
                unknown: true,
                since: None,
            },
            None => Ready::Yes,
        };
        let delegated_heartbeat = heartbeat.is_some() && has_taint(&taints, heartbeat);
        if unschedulable {
            taints.push(CORDON);
        }
        taints.sort_unstable();
        taints.dedup();
        let labels = node.metadata.labels.as_ref();
        let has_label = |key: &str| labels.is_some_and(|labels| labels.contains_key(key));
        let annotations = node.metadata.annotations.as_ref();
        let annotation = |key: &str| annotations.and_then(|all| all.get(key)).map(String::as_str);
        Ok(Self {
            name: symbols.intern(name),
            labels: Labels::new(labels, symbols),
            allocatable: {
                let mut all =
                    Resources::new(allocatable, &|| "status.allocatable".to_owned(), &object, symbols)?;
                if allocatable.is_none_or(|all| !all.contains_key("pods")) {
                    all.pods = PODS;
                }
                all
            },
            taints: taints.into_boxed_slice(),
            unschedulable,
            ready,
            delegated_heartbeat,
            created: node
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(0, |time| time.0.as_second()),
            control_plane: has_label("node-role.kubernetes.io/control-plane")
                || has_label("node-role.kubernetes.io/master"),
            edge: labels.is_some_and(|labels| {
                labels
                    .get("openyurt.io/is-edge-worker")
                    .is_some_and(|value| value == "true")
                    || labels.contains_key("node-role.kubernetes.io/edge")
            }),
            autonomy: autonomy(annotation),
            delete_mark: DELETE_MARKS
                .iter()
                .any(|key| annotation(key).is_some_and(|value| value != "false")),
            keep: KEEP_MARKS.into_iter().find(|key| annotation(key) == Some("true")),
            deleting: node.metadata.deletion_timestamp.is_some(),
        })
    }
}

/// What OpenYurt's annotations promise.
fn autonomy<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Option<Autonomy> {
    if let Some(text) = annotation("node.openyurt.io/autonomy-duration") {
        let seconds = text.parse::<Duration>().ok().map(|duration| {
            (
                duration.is_negative(),
                std::time::Duration::from(duration).as_secs(),
            )
        });
        return Some(match seconds {
            Some((false, seconds)) if seconds > 0 => {
                Autonomy::Seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
            }
            // Zero or less is for ever; what cannot be read must not cost a node its autonomy.
            _ => Autonomy::Forever,
        });
    }
    ["node.beta.openyurt.io/autonomy", "apps.openyurt.io/binding"]
        .into_iter()
        .any(|key| annotation(key) == Some("true"))
        .then_some(Autonomy::Forever)
}

impl Model {
    /// Takes in a node, new or changed.
    ///
    /// # Errors
    /// [`ModelError`] if a quantity or the name is not valid; the model is as before then.
    pub fn upsert_node(&mut self, node: &core::Node) -> Result<(), ModelError> {
        let record = NodeRecord::new(node, self)?;
        let name = record.name;
        let place = self.place(name);
        match self.places.get(place as usize).and_then(|place| place.node) {
            Some(at) => self.nodes.set(at, record),
            None => {
                let at = self.nodes.push(record);
                if let Some(place) = self.places.get_mut(place as usize) {
                    place.node = Some(at);
                }
                self.places_by_name.insert(self.symbols.text(name), place);
            }
        }
        Ok(())
    }

    /// Forgets a node. Its pods stay until they are removed too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(place) = self.places_by_name.remove(name) else {
            return;
        };
        let place = self.places.get_mut(place as usize);
        if let Some(at) = place.and_then(|place| place.node.take()) {
            self.nodes.clear(at);
        }
    }

    /// Takes in the attach limits of a node's volume drivers.
    ///
    /// # Errors
    /// [`ModelError::NoName`].
    pub fn upsert_csi_node(&mut self, node: &storage::CSINode) -> Result<(), ModelError> {
        let name = self.symbols.intern(name_of("CSINode", &node.metadata)?);
        let mut limits: Vec<(Sym, i64)> = Vec::new();
        for driver in &node.spec.drivers {
            if let Some(count) = driver
                .allocatable
                .as_ref()
                .and_then(|allocatable| allocatable.count)
            {
                limits.push((self.symbols.intern(&driver.name), i64::from(count)));
            }
        }
        limits.sort_unstable();
        self.attach_limits.insert(name, limits.into_boxed_slice());
        Ok(())
    }

    /// Forgets the attach limits of a node.
    pub fn remove_csi_node(&mut self, name: &str) {
        if let Some(name) = self.symbols.find(name) {
            self.attach_limits.remove(&name);
        }
    }
}

/// Rows with stable numbers; freed rows are used again.
#[derive(Clone, Debug)]
pub(crate) struct Slots<T> {
    rows: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    pub(crate) fn push(&mut self, row: T) -> u32 {
        if let Some(at) = self.free.pop() {
            self.set(at, row);
            return at;
        }
        self.rows.push(Some(row));
        id(self.rows.len() - 1)
    }

    pub(crate) fn set(&mut self, at: u32, row: T) {
        if let Some(slot) = self.rows.get_mut(at as usize) {
            *slot = Some(row);
        }
    }

    pub(crate) fn clear(&mut self, at: u32) -> Option<T> {
        let row = self.rows.get_mut(at as usize).and_then(Option::take);
        if row.is_some() {
            self.free.push(at);
        }
        row
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.rows.get(at as usize).and_then(Option::as_ref)
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.rows.get_mut(at as usize).and_then(Option::as_mut)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..)
            .zip(&self.rows)
            .filter_map(|(at, row)| row.as_ref().map(|row| (at, row)))
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }
}

/// Attach limits by node name.
pub(crate) type AttachLimits = Map<Sym, Box<[(Sym, i64)]>>;
