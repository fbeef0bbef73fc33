//! Nodes without machines.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Node, NodeSpec, NodeStatus, Taint},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::sleep;

use super::{Error, Member, Part};

/// Label of nodes that KWOK leaves alone.
pub(super) const SILENT: &str = "envtest.kurator.dev/silent";
const POLL: Duration = Duration::from_millis(100);

/// Nodes of one kind, played by KWOK.
#[derive(Clone, Debug)]
#[must_use]
pub struct Nodes {
    count: u32,
    prefix: String,
    capacity: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    zones: Vec<String>,
}

impl Nodes {
    /// So many nodes, called `node-0` and on, each with 4 CPUs, 16 GiB of memory, 100 GiB of disk and 110 pods.
    pub fn new(count: u32) -> Self {
        let capacity = [
            ("cpu", "4"),
            ("ephemeral-storage", "100Gi"),
            ("memory", "16Gi"),
            ("pods", "110"),
        ];
        Self {
            count,
            prefix: "node".into(),
            capacity: capacity.map(|(name, amount)| (name.into(), amount.into())).into(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            zones: Vec::new(),
        }
    }

    /// Call them `<prefix>-0` and on.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Capacity and allocatable amount of a resource, extended ones too, as a Kubernetes quantity.
    pub fn with_capacity(mut self, resource: impl Into<String>, amount: impl Into<String>) -> Self {
        self.capacity.insert(resource.into(), amount.into());
        self
    }

    /// A label of all of them.
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// A taint of all of them; `effect` as in the core API, such as `NoSchedule`.
    pub fn with_taint(
        mut self,
        key: impl Into<String>,
        value: impl Into<String>,
        effect: impl Into<String>,
    ) -> Self {
        let value = Some(value.into()).filter(|value| !value.is_empty());
        self.taints.push(Taint {
            key: key.into(),
            value,
            effect: effect.into(),
            time_added: None,
        });
        self
    }

    /// Label them with these zones in turn (`topology.kubernetes.io/zone`).
    pub fn with_zones<Z: Into<String>>(mut self, zones: impl IntoIterator<Item = Z>) -> Self {
        self.zones = zones.into_iter().map(Into::into).collect();
        self
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The objects, as a kubelet would register them.
    pub fn objects(&self) -> impl Iterator<Item = Node> {
        (0..self.count).map(|number| self.object(number))
    }

    fn object(&self, number: u32) -> Node {
        let name = format!("{}-{number}", self.prefix);
        let mut labels = self.labels.clone();
        for (key, value) in [
            ("kubernetes.io/arch", "amd64"),
            ("kubernetes.io/hostname", name.as_str()),
            ("kubernetes.io/os", "linux"),
        ] {
            labels.entry(key.into()).or_insert_with(|| value.into());
        }
        if let Some(zone) = self.zones.iter().cycle().nth(number as usize) {
            labels
                .entry("topology.kubernetes.io/zone".into())
                .or_insert_with(|| zone.clone());
        }
        let capacity = self
            .capacity
            .iter()
            .map(|(resource, amount)| (resource.clone(), Quantity(amount.clone())))
            .collect::<BTreeMap<_, _>>();
        Node {
            metadata: ObjectMeta {
                name: Some(name),
                labels: Some(labels),
                annotations: Some([("kwok.x-k8s.io/node".into(), "fake".into())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                taints: Some(self.taints.clone()).filter(|taints| !taints.is_empty()),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                allocatable: Some(capacity.clone()),
                capacity: Some(capacity),
                ..NodeStatus::default()
            }),
        }
    }
}

impl Member {
    /// Registers nodes and waits until all of them are Ready and, where a controller manager takes it off, without the
    /// taint of a node that is not: only then are pods spread over all of them.
    ///
    /// # Errors
    /// [`Error::NoSuchPart`] when the member has no KWOK to play them, [`Error::Api`] and [`Error::Timeout`].
    pub async fn create_nodes(&self, nodes: &Nodes) -> Result<(), Error> {
        self.process(Part::Kwok)?;
        let api = Api::<Node>::all(self.direct_client()?);
        let mut names = Vec::new();
        for node in nodes.objects() {
            let name = node.metadata.name.clone().unwrap_or_default();
            api.create(&PostParams::default(), &node)
                .await
                .map_err(Error::api(self.name(), format!("create node {name}")))?;
            names.push(name);
        }
        let params = ListParams::default();
        let cleared = self.process(Part::ControllerManager).is_ok();
        let ready = self.wait_for_all(&api, &params, "its nodes are Ready", |known| {
            let ready = known
                .iter()
                .filter(|node| is_ready(node) && !(cleared && is_tainted(node)));
            let ready = ready
                .filter_map(|node| node.metadata.name.as_ref())
                .collect::<BTreeSet<_>>();
            names.iter().all(|name| ready.contains(name))
        });
        tokio::select! {
            ready = ready => ready.map(|_| ()),
            exited = self.exited() => Err(exited),
        }
    }

    /// Lets a node fall silent, as if its machine had lost its network: its lease lapses, the node lifecycle
    /// controller makes it NotReady after its grace period (50 s unless the controller manager is started with
    /// another `--node-monitor-grace-period`), and its pods stay as they are, also when they are deleted.
    ///
    /// # Errors
    /// [`Error::NoSuchPart`] without KWOK, [`Error::Api`].
    pub async fn silence_node(&self, name: &str) -> Result<(), Error> {
        self.label_silent(name, Some("true")).await
    }

    /// Lets a silent node speak again.
    ///
    /// # Errors
    /// As [`Member::silence_node`].
    pub async fn revive_node(&self, name: &str) -> Result<(), Error> {
        self.label_silent(name, None).await
    }

    async fn label_silent(&self, name: &str, value: Option<&str>) -> Result<(), Error> {
        self.process(Part::Kwok)?;
        let patch = Patch::Merge(json!({"metadata": {"labels": {SILENT: value}}}));
        Api::<Node>::all(self.direct_client()?)
            .patch(name, &PatchParams::default(), &patch)
            .await
            .map_err(Error::api(self.name(), format!("label node {name}")))?;
        Ok(())
    }

    /// The first part that ends by itself.
    pub(super) async fn exited(&self) -> Error {
        loop {
            if let Err(error) = self.check() {
                return error;
            }
            sleep(POLL).await;
        }
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether pods are kept away because it is not Ready, or was not until just now.
fn is_tainted(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    taints
        .unwrap_or_default()
        .iter()
        .any(|taint| taint.key == "node.kubernetes.io/not-ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_dealt_in_turn_and_a_label_wins() {
        let zone = |nodes: &Nodes| {
            nodes
                .objects()
                .map(|node| node.metadata.labels.unwrap()["topology.kubernetes.io/zone"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(zone(&Nodes::new(3).with_zones(["a", "b"])), ["a", "b", "a"]);
        let fixed = Nodes::new(2)
            .with_zones(["a", "b"])
            .with_label("topology.kubernetes.io/zone", "c");
        assert_eq!(zone(&fixed), ["c", "c"]);
    }
}
