//! Pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodSpec};
use kube::core::Duration;

use super::{
    Model, ModelError,
    constraint::Constraint,
    key_of,
    labels::Labels,
    owner::{OwnerKey, controller},
    peers::Peers,
    place::Seats,
    resources::Resources,
    symbols::Sym,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    /// Succeeded or Failed: it holds nothing and nobody misses it.
    Terminal,
    Unknown,
}

/// An annotation that says whether a pod may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    None,
    /// `cluster-autoscaler.kubernetes.io/safe-to-evict: "true"`: overrides local storage and a missing controller.
    SafeToEvict,
    /// `...safe-to-evict: "false"` or `karpenter.sh/do-not-disrupt: "true"`.
    Always(&'static str),
    /// `...safe-to-evict: "on-completion"`.
    OnCompletion,
    /// `karpenter.sh/do-not-disrupt` with a duration: until this second; `None` if the pod has not started.
    Until(Option<i64>),
}

/// Why a pod is not moved when its node goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    DaemonSet,
    Mirror,
    Ordinary,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    pub(crate) ip: Sym,
    pub(crate) any_ip: bool,
    pub(crate) protocol: Sym,
    pub(crate) port: i32,
}

impl HostPort {
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.any_ip || other.any_ip)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct PodRecord {
    pub(crate) namespace: Sym,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Arc<str>,
    /// The place by its node's name, if it is bound to one.
    pub(crate) place: Option<u32>,
    /// Number of its namespace and labels together.
    pub(crate) group: u32,
    pub(crate) constraint: u32,
    pub(crate) peers: u32,
    pub(crate) requests: u32,
    pub(crate) ports: u32,
    pub(crate) owner: Option<u32>,
    pub(crate) priority: i32,
    pub(crate) phase: Phase,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    pub(crate) class: Class,
    pub(crate) protection: Protection,
    /// A volume whose content stays behind on the node.
    pub(crate) local_volume: Option<Sym>,
    /// Claims by name, in its namespace.
    pub(crate) claims: Box<[Sym]>,
    /// KubeEdge: the pod stays on its node when the node loses the control plane.
    pub(crate) edge_autonomy: bool,
    /// It has scheduling gates, so the scheduler does not look at it.
    pub(crate) gated: bool,
    /// Grace period in seconds.
    pub(crate) grace: i64,
    /// Where it stands in the model's lists.
    pub(crate) seats: Seats,
}

impl PodRecord {
    /// Whether it takes room on its node.
    pub(crate) fn holds_room(&self) -> bool {
        self.phase != Phase::Terminal
    }

    /// Whether the API server asks budgets at all before it evicts the pod.
    pub(crate) fn asks_budgets(&self) -> bool {
        !self.terminating && !matches!(self.phase, Phase::Pending | Phase::Terminal)
    }

    /// Whether its controller counts it among its replicas.
    pub(crate) fn counts_for_owner(&self) -> bool {
        !self.terminating && self.phase != Phase::Terminal
    }
}

const SAFE: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
const SAFE_VOLUMES: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";

impl Model {
    /// Takes in a pod, new or changed.
    ///
    /// # Errors
    /// [`ModelError`] if a name, quantity or selector is not valid; what the model knew of the pod stays then.
    pub fn upsert_pod(&mut self, pod: &Pod) -> Result<(), ModelError> {
        let (namespace, name) = key_of("Pod", &pod.metadata)?;
        let object = || format!("Pod {namespace}/{name}");
        let default = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&default);
        let status = pod.status.as_ref();
        let annotations = pod.metadata.annotations.as_ref();
        let annotation = |key: &str| annotations.and_then(|all| all.get(key)).map(String::as_str);

        let ns = self.symbols.intern(namespace);
        let labels = Labels::new(pod.metadata.labels.as_ref(), &mut self.symbols);
        let constraint = Constraint::new(spec, &object, &mut self.symbols)?;
        let peers = Peers::new(spec, ns, &labels, &object, &mut self.symbols, &mut self.terms)?;
        let requests = Resources::of_pod(spec, &object, &mut self.symbols)?;
        let ports = self.host_ports(spec);
        let owner = controller(&pod.metadata);
        let started = status
            .and_then(|status| status.start_time.as_ref())
            .map(|time| time.0.as_second());
        let owner_kind = owner.map(|owner| owner.kind.as_str());
        let record = PodRecord {
            namespace: ns,
            name: name.into(),
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            place: spec
                .node_name
                .as_deref()
                .filter(|node| !node.is_empty())
                .map(|node| {
                    let name = self.symbols.intern(node);
                    self.place(name)
                }),
            group: self.group(ns, labels),
            constraint: self.constraints.intern(constraint),
            peers: self.template_peers(peers),
            requests: self.requests.intern(requests),
            ports: self.ports.intern(ports),
            owner: owner.map(|owner| {
                let key = OwnerKey::new(ns, &owner.kind, &owner.name, &mut self.symbols);
                self.owners.id(key)
            }),
            priority: spec.priority.unwrap_or_default(),
            phase: match status.and_then(|status| status.phase.as_deref()) {
                Some("Running") => Phase::Running,
                Some("Succeeded" | "Failed") => Phase::Terminal,
                Some("Unknown") => Phase::Unknown,
                _ => Phase::Pending,
            },
            ready: status
                .and_then(|status| status.conditions.as_ref())
                .is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True")),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            class: if annotation("kubernetes.io/config.mirror").is_some() || owner_kind == Some("Node") {
                Class::Mirror
            } else if owner_kind == Some("DaemonSet") {
                Class::DaemonSet
            } else {
                Class::Ordinary
            },
            protection: protection(annotation, started),
            local_volume: local_volume(spec, annotation(SAFE_VOLUMES)).map(|name| self.symbols.intern(name)),
            claims: spec
                .volumes
                .iter()
                .flatten()
                .filter_map(|volume| volume.persistent_volume_claim.as_ref())
                .map(|claim| self.symbols.intern(&claim.claim_name))
                .collect(),
            edge_autonomy: pod
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get("app-offline.kubeedge.io"))
                .is_some_and(|value| value == "autonomy"),
            gated: spec
                .scheduling_gates
                .as_ref()
                .is_some_and(|gates| !gates.is_empty()),
            grace: spec.termination_grace_period_seconds.unwrap_or(30).max(0),
            seats: Seats::default(),
        };
        let key = (ns, Arc::clone(&record.name));
        let at = match self.pod_ids.get(&key).copied() {
            Some(at) => {
                self.unlink(at);
                self.pods.set(at, record);
                at
            }
            None => {
                let at = self.pods.push(record);
                self.pod_ids.insert(key, at);
                at
            }
        };
        self.link(at);
        Ok(())
    }

    /// Forgets a pod.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        let Some(namespace) = self.symbols.find(namespace) else {
            return;
        };
        if let Some(at) = self.pod_ids.remove(&(namespace, name.into())) {
            self.unlink(at);
            self.pods.clear(at);
        }
    }

    fn host_ports(&mut self, spec: &PodSpec) -> Box<[HostPort]> {
        // A restartable init container holds its ports as long as the pod lives.
        let sidecars = spec
            .init_containers
            .iter()
            .flatten()
            .filter(|container| container.restart_policy.as_deref() == Some("Always"));
        spec.containers
            .iter()
            .chain(sidecars)
            .flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| self.host_port(port))
            .collect()
    }

    fn host_port(&mut self, port: &ContainerPort) -> Option<HostPort> {
        let number = port.host_port.filter(|port| *port > 0)?;
        let ip = port
            .host_ip
            .as_deref()
            .filter(|ip| !ip.is_empty())
            .unwrap_or("0.0.0.0");
        Some(HostPort {
            any_ip: matches!(ip, "0.0.0.0" | "::"),
            ip: self.symbols.intern(ip),
            protocol: self.symbols.intern(port.protocol.as_deref().unwrap_or("TCP")),
            port: number,
        })
    }
}

fn protection<'a>(annotation: impl Fn(&str) -> Option<&'a str>, started: Option<i64>) -> Protection {
    let disrupt = annotation(DO_NOT_DISRUPT);
    match (annotation(SAFE), disrupt) {
        (Some("false"), _) => Protection::Always(SAFE),
        (_, Some("true")) => Protection::Always(DO_NOT_DISRUPT),
        (Some("on-completion"), _) => Protection::OnCompletion,
        (safe, disrupt) => {
            // An unreadable duration protects nothing, as in Karpenter.
            let until = disrupt
                .and_then(|text| text.parse::<Duration>().ok())
                .filter(|duration| !duration.is_negative())
                .and_then(|duration| i64::try_from(std::time::Duration::from(duration).as_secs()).ok());
            match (until, safe) {
                (Some(seconds), _) => Protection::Until(started.map(|start| start.saturating_add(seconds))),
                (None, Some("true")) => Protection::SafeToEvict,
                (None, _) => Protection::None,
            }
        }
    }
}

/// The first volume whose data would be lost: `hostPath`, or `emptyDir` that is not in memory.
fn local_volume<'a>(spec: &'a PodSpec, safe: Option<&str>) -> Option<&'a str> {
    spec.volumes
        .iter()
        .flatten()
        .filter(|volume| {
            volume.host_path.is_some()
                || volume
                    .empty_dir
                    .as_ref()
                    .is_some_and(|dir| dir.medium.as_deref() != Some("Memory"))
        })
        .map(|volume| volume.name.as_str())
        .find(|name| safe.is_none_or(|safe| !safe.split(',').any(|one| one.trim() == *name)))
}
