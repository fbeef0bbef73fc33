//! Workloads whose replicas are of use only together.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, Toleration};
use kurator_core::observe::Resources;
use serde::{Deserialize, Serialize};

/// A gang: members that must all run, in one cluster, at the same time.
///
/// It is what Volcano calls `minAvailable` with task minimums, and the native `PodGroup` `minCount`. The gang is the
/// unit of placement: it goes whole to one cluster where its minimum fits node by node, or nowhere; what it has above
/// its minimum stays with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Gang {
    /// The members by role; empty means one role with the workload's own replicas and request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// How many members must run together; at least the sum of the roles' own minimums is asked for in any case.
    pub min: u32,
    /// Members must share the value of this node label; `None` lets them spread over the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<String>,
    /// The queue of a batch scheduler that admits the gang; see [`Queues`](super::Queues).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Only members of one kind: they are divided into so many gangs, whose sizes differ by one at most. Each of them is
    /// a unit of placement with this minimum, and they are placed all or not at all; `None` keeps all members together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_gangs: Option<u32>,
}

/// Members of a gang that are alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Role {
    /// The role's name.
    pub name: String,
    /// How many members it has.
    pub replicas: u32,
    /// How many of them must run for the gang to be of use.
    pub min: u32,
    /// What one member asks for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub request: Resources,
    /// The labels a node must have to run a member.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// The node affinity a member requires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeSelector>,
    /// The node taints a member tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

impl Gang {
    /// Members of one kind, of which `min` must run together.
    pub fn of(min: u32) -> Self {
        Self {
            min,
            ..Self::default()
        }
    }

    /// Adds a role.
    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.roles.push(role);
        self
    }

    /// Names the queue that admits the gang.
    #[must_use]
    pub fn with_queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Divides the members into so many gangs.
    #[must_use]
    pub fn divided_into(mut self, sub_gangs: u32) -> Self {
        self.sub_gangs = Some(sub_gangs);
        self
    }

    /// All members, the surplus above the minimum included; `workload` if the gang has no roles.
    pub fn members(&self, workload: u32) -> u32 {
        if self.roles.is_empty() {
            return workload;
        }
        self.roles
            .iter()
            .fold(0, |sum: u32, role| sum.saturating_add(role.replicas))
    }

    /// Keeps the members together under one value of a node label.
    #[must_use]
    pub fn with_topology(mut self, label: impl Into<String>) -> Self {
        self.topology = Some(label.into());
        self
    }
}

impl Role {
    /// A role of `replicas` members of which `min` must run.
    pub fn new(name: impl Into<String>, replicas: u32, min: u32) -> Self {
        Self {
            name: name.into(),
            replicas,
            min,
            ..Self::default()
        }
    }

    /// Sets what one member asks for of one resource.
    #[must_use]
    pub fn with_request(
        mut self,
        resource: impl Into<String>,
        amount: kurator_core::quantity::Quantity,
    ) -> Self {
        self.request.insert(resource.into(), amount);
        self
    }

    /// Sets a label a node must have.
    #[must_use]
    pub fn with_node_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.node_selector.insert(key.into(), value.into());
        self
    }

    /// Adds a toleration of node taints.
    #[must_use]
    pub fn with_toleration(mut self, toleration: Toleration) -> Self {
        self.tolerations.push(toleration);
        self
    }
}
