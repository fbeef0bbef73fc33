//! Why a node stays.

use std::fmt;

use jiff::Timestamp;
use kurator_core::reason::Reason;
use serde::{Deserialize, Serialize};

/// A namespaced object by name: a pod, a budget, a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "namespace and name are all there is to a name"
)]
pub struct ObjectName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How many nodes could not take a pod, by the first thing that stood in the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Refusals {
    /// Not Ready, cordoned or being deleted.
    pub closed: u32,
    /// Leave in the same plan.
    pub leaving: u32,
    /// Have a taint the pod does not tolerate.
    pub taint: u32,
    /// Do not match the pod's node selector or affinity.
    pub affinity: u32,
    /// Cannot reach one of the pod's volumes, or can attach no more.
    pub volume: u32,
    /// Have not enough CPU left.
    pub cpu: u32,
    /// Have not enough memory left.
    pub memory: u32,
    /// Have not enough of another resource left.
    pub other_resource: u32,
    /// Have no pod slot left.
    pub slots: u32,
    /// Have the pod's host port in use.
    pub host_port: u32,
    /// Break a required affinity or anti-affinity between pods.
    pub pod_affinity: u32,
    /// Would exceed `maxSkew` of a topology spread constraint.
    pub spread: u32,
}

impl Refusals {
    fn parts(&self) -> [(u32, &'static str); 12] {
        [
            (self.leaving, "leave in this plan"),
            (self.closed, "are not Ready or cordoned"),
            (self.taint, "have a taint it does not tolerate"),
            (self.affinity, "do not match its node selector or affinity"),
            (self.volume, "cannot attach its volumes"),
            (self.cpu, "lack cpu"),
            (self.memory, "lack memory"),
            (self.other_resource, "lack another resource"),
            (self.slots, "have no pod slot left"),
            (self.host_port, "have its host port in use"),
            (self.pod_affinity, "break a pod (anti-)affinity"),
            (self.spread, "break its topology spread"),
        ]
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (count, what) in self.parts() {
            if count > 0 {
                write!(f, "{}{count} {what}", if first { "" } else { ", " })?;
                first = false;
            }
        }
        if first {
            f.write_str("there is no other node")?;
        }
        Ok(())
    }
}

/// One thing that keeps a node. `Display` says it with its numbers, [`Blocker::remedy`] what takes it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Blocker {
    /// A budget allows no eviction, and pods on the node need one.
    BudgetExhausted {
        /// The budget.
        budget: ObjectName,
        /// Pods of it on the node.
        pods: u32,
        /// Healthy pods it counts.
        healthy: i64,
        /// Healthy pods it wants.
        desired: i64,
        /// Pods it expects.
        expected: i64,
        /// When an eviction that never happened stops to count, if that is what is missing.
        until: Option<Timestamp>,
    },
    /// The disruption controller cannot find the scale of an owner, so it allows nothing.
    BudgetSyncFailed {
        /// The budget.
        budget: ObjectName,
        /// Pods of it on the node.
        pods: u32,
    },
    /// The cluster is not well enough to lose a node.
    ClusterUnhealthy {
        /// Nodes that are not Ready.
        unready: u32,
        /// Nodes that count.
        total: u32,
        /// Share of unready nodes up to which plans are made.
        max_percent: u32,
        /// When to look again.
        until: Timestamp,
    },
    /// It carries the control plane.
    ControlPlane,
    /// An autonomous edge node is out of reach: its pods run on, and whatever is done to them through the API would
    /// strike when it comes back.
    EdgeDisconnected {
        /// Since when, if known.
        since: Option<Timestamp>,
        /// When its autonomy ends, unless it is for ever.
        until: Option<Timestamp>,
    },
    /// It is being deleted already.
    Deleting,
    /// The data in a local volume would be lost.
    LocalStorage {
        /// The pod.
        pod: ObjectName,
        /// The volume in its spec.
        volume: String,
    },
    /// A pod has nowhere to go.
    NoRoom {
        /// The pod.
        pod: ObjectName,
        /// What it asks for: millicores.
        cpu: i64,
        /// What it asks for: bytes.
        memory: i64,
        /// Why each of the other nodes cannot take it.
        refused: Refusals,
    },
    /// The pod fits elsewhere, but might find the room taken, and the policy asks for more than that.
    RoomTight {
        /// The pod.
        pod: ObjectName,
    },
    /// It is not Ready, so nobody would see its pods end.
    NodeNotReady {
        /// Since when, if known.
        since: Option<Timestamp>,
        /// Pods that would have to move.
        pods: u32,
    },
    /// Enough other nodes were chosen.
    NotNeeded {
        /// Nodes chosen.
        chosen: u32,
        /// Its place in the order of candidates, from 1.
        place: u32,
    },
    /// An annotation on the node keeps it.
    NodeKept {
        /// The annotation.
        annotation: String,
    },
    /// An annotation on a pod forbids its eviction.
    PodProtected {
        /// The pod.
        pod: ObjectName,
        /// The annotation.
        annotation: String,
        /// Until when, if it has an end.
        until: Option<Timestamp>,
    },
    /// A drain rule of the host refuses a pod.
    Refused {
        /// The pod.
        pod: ObjectName,
        /// The rule.
        rule: String,
    },
    /// Several budgets select a pod; the API server refuses every eviction of it.
    SeveralBudgets {
        /// The pod.
        pod: ObjectName,
        /// The budgets.
        budgets: Vec<ObjectName>,
    },
    /// A pod tolerates the cordon, so the scheduler may bring it straight back.
    ToleratesCordon {
        /// The pod.
        pod: ObjectName,
    },
    /// No controller would make the pod again.
    Unreplicated {
        /// The pod.
        pod: ObjectName,
    },
    /// A pod uses a claim or volume the model does not have.
    VolumeUnknown {
        /// The pod.
        pod: ObjectName,
        /// The claim.
        claim: String,
        /// The volume it is bound to, if the claim itself is known.
        volume: Option<String>,
    },
    /// A pod asks to be left until it has finished.
    WaitForCompletion {
        /// The pod.
        pod: ObjectName,
    },
    /// Nodes may not be drained at this time of day, week or year.
    WindowClosed {
        /// When they may, if ever.
        until: Option<Timestamp>,
    },
    /// The time in which nodes may be drained ends before it would be this node's turn.
    WindowTooShort {
        /// When it ends.
        closes: Timestamp,
        /// Place of its wave, from 1.
        wave: u32,
    },
}

impl Blocker {
    /// What would take it away.
    pub fn remedy(&self) -> String {
        match self {
            Self::BudgetExhausted { until: Some(until), .. } => format!("wait until {until}"),
            Self::BudgetExhausted { healthy, desired, expected, .. } if healthy < expected && desired < expected => {
                let missing = desired - healthy + 1;
                format!("wait until {missing} more of its pods are Ready")
            }
            Self::BudgetExhausted { expected: 0, .. } => {
                "give the pods a controller with a scale, or use a whole number in minAvailable".into()
            }
            Self::BudgetExhausted { budget, desired, .. } => {
                format!("run {} replicas with minAvailable {desired}, or let budget {budget} allow 1", desired + 1)
            }
            Self::BudgetSyncFailed { budget, .. } => {
                format!("use a whole number in minAvailable of {budget}, or an owner with a scale subresource")
            }
            Self::ClusterUnhealthy { until, .. } => format!("repair the nodes; look again at {until}"),
            Self::ControlPlane => "none: control plane nodes are not scaled here".into(),
            Self::Deleting => "none needed: it is on its way".into(),
            Self::EdgeDisconnected { until: Some(until), .. } => format!("reconnect it, or wait until {until}"),
            Self::EdgeDisconnected { .. } => "reconnect it".into(),
            Self::LocalStorage { volume, .. } => format!(
                "annotate the pod cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes={volume}, \
                 or allow the loss of local data"
            ),
            Self::NoRoom { .. } => "add a node it fits on, or make room on those that stay".into(),
            Self::RoomTight { .. } => "add a node it fits on, or plan without strict landing".into(),
            Self::NodeKept { annotation } => format!("remove the annotation {annotation}"),
            Self::NodeNotReady { .. } => "repair the node, or delete its pods once it is known to be off".into(),
            Self::NotNeeded { place, .. } => format!("ask for {place} nodes, or name it"),
            Self::PodProtected { until: Some(until), .. } => format!("wait until {until}"),
            Self::PodProtected { annotation, .. } => format!("remove the annotation {annotation} from the pod"),
            Self::Refused { rule, .. } => format!("change drain rule {rule}"),
            Self::SeveralBudgets { .. } => "let one budget select the pod".into(),
            Self::ToleratesCordon { .. } => {
                "drop its toleration of node.kubernetes.io/unschedulable, or run it as a DaemonSet".into()
            }
            Self::Unreplicated { .. } => {
                "run it under a controller, or annotate it cluster-autoscaler.kubernetes.io/safe-to-evict=true".into()
            }
            Self::VolumeUnknown { .. } => {
                "add persistentvolumeclaims and persistentvolumes to what the planner is given".into()
            }
            Self::WaitForCompletion { .. } => "wait until the pod has finished".into(),
            Self::WindowClosed { until: Some(until) } => format!("wait until {until}, or open a window"),
            Self::WindowClosed { until: None } => "open a window: those there are never open".into(),
            Self::WindowTooShort { .. } => {
                "plan again when the window opens next, lengthen it, or drain more nodes at once".into()
            }
        }
    }
}

impl Reason for Blocker {
    fn token(&self) -> &'static str {
        match self {
            Self::BudgetExhausted { .. } => "BudgetExhausted",
            Self::BudgetSyncFailed { .. } => "BudgetSyncFailed",
            Self::ClusterUnhealthy { .. } => "ClusterUnhealthy",
            Self::ControlPlane => "ControlPlane",
            Self::Deleting => "Deleting",
            Self::EdgeDisconnected { .. } => "EdgeDisconnected",
            Self::LocalStorage { .. } => "LocalStorage",
            Self::NoRoom { .. } => "NoRoom",
            Self::RoomTight { .. } => "RoomTight",
            Self::NodeKept { .. } => "NodeKept",
            Self::NodeNotReady { .. } => "NodeNotReady",
            Self::NotNeeded { .. } => "NotNeeded",
            Self::PodProtected { .. } => "PodProtected",
            Self::Refused { .. } => "Refused",
            Self::SeveralBudgets { .. } => "SeveralBudgets",
            Self::ToleratesCordon { .. } => "ToleratesCordon",
            Self::Unreplicated { .. } => "Unreplicated",
            Self::VolumeUnknown { .. } => "VolumeUnknown",
            Self::WaitForCompletion { .. } => "WaitForCompletion",
            Self::WindowClosed { .. } => "WindowClosed",
            Self::WindowTooShort { .. } => "WindowTooShort",
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BudgetExhausted {
                budget,
                pods,
                healthy,
                desired,
                expected,
                ..
            } => write!(
                f,
                "budget {budget} allows no disruption ({healthy} of {expected} healthy, {desired} wanted) and selects {pods} pods here"
            ),
            Self::BudgetSyncFailed { budget, pods } => {
                write!(
                    f,
                    "budget {budget} cannot be computed by the disruption controller and selects {pods} pods here"
                )
            }
            Self::ClusterUnhealthy {
                unready,
                total,
                max_percent,
                ..
            } => write!(
                f,
                "{unready} of {total} nodes are not Ready, more than {max_percent}%"
            ),
            Self::ControlPlane => f.write_str("it carries the control plane"),
            Self::Deleting => f.write_str("it is being deleted already"),
            Self::EdgeDisconnected { since, .. } => {
                f.write_str("it is an edge node out of reach")?;
                if let Some(since) = since {
                    write!(f, " since {since}")?;
                }
                f.write_str("; its pods are presumed running")
            }
            Self::LocalStorage { pod, volume } => write!(f, "pod {pod} keeps data in local volume {volume}"),
            Self::NoRoom {
                pod,
                cpu,
                memory,
                refused,
            } => write!(
                f,
                "pod {pod} ({cpu}m cpu, {memory} bytes) fits nowhere else: {refused}"
            ),
            Self::RoomTight { pod } => write!(
                f,
                "room is tight: pod {pod} may have to wait if the scheduler puts others where it fits"
            ),
            Self::NodeKept { annotation } => write!(f, "annotation {annotation} keeps it"),
            Self::NodeNotReady { pods, since } => {
                f.write_str("it is not Ready")?;
                if let Some(since) = since {
                    write!(f, " since {since}")?;
                }
                write!(f, " and has {pods} pods to move")
            }
            Self::NotNeeded { chosen, place } => {
                write!(f, "it is candidate {place}, and {chosen} others were chosen")
            }
            Self::PodProtected { pod, annotation, .. } => {
                write!(f, "annotation {annotation} protects pod {pod}")
            }
            Self::Refused { pod, rule } => write!(f, "drain rule {rule} refuses pod {pod}"),
            Self::SeveralBudgets { pod, budgets } => {
                write!(f, "pod {pod} is selected by {} budgets:", budgets.len())?;
                budgets.iter().try_for_each(|budget| write!(f, " {budget}"))
            }
            Self::ToleratesCordon { pod } => {
                write!(f, "pod {pod} tolerates a cordoned node and would come back")
            }
            Self::Unreplicated { pod } => write!(f, "pod {pod} has no controller that would make it again"),
            Self::VolumeUnknown { pod, claim, volume } => match volume {
                Some(volume) => write!(f, "volume {volume} of pod {pod} (claim {claim}) is not known"),
                None => write!(f, "claim {claim} of pod {pod} is not known"),
            },
            Self::WaitForCompletion { pod } => write!(f, "pod {pod} asks to be left until it has finished"),
            Self::WindowClosed { .. } => f.write_str("no window in which nodes may be drained is open"),
            Self::WindowTooShort { closes, wave } => {
                write!(f, "it would go in wave {wave}, and the window closes at {closes}")
            }
        }
    }
}
