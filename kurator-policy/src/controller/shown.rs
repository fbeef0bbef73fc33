//! How many replicas of what was distributed the members show.

use std::{cell::RefCell, collections::BTreeMap};

use kurator_core::{multicluster::Facts, names::ClusterName, observe::PodOwner};

use super::{member::Desks, promises::Created};
use crate::propagate::{ObjectKey, ObjectKind, PolicyKey};

type Replicas = BTreeMap<PodOwner, u32>;

/// The replicas that members show, counted once for each member. Not to be kept: it goes stale.
pub(super) struct ShownReplicas<'a> {
    desks: &'a Desks,
    facts: &'a Facts,
    counted: RefCell<BTreeMap<ClusterName, Option<Replicas>>>,
}

impl<'a> ShownReplicas<'a> {
    pub(super) fn new(desks: &'a Desks, facts: &'a Facts) -> Self {
        Self {
            desks,
            facts,
            counted: RefCell::default(),
        }
    }

    /// Counts the pods where they can be told to be the object's, and asks the object otherwise.
    pub(super) fn of(&self, policy: &PolicyKey, cluster: &ClusterName, object: &ObjectKey) -> Created {
        if let Some(owner) = pod_owner(object) {
            let mut counted = self.counted.borrow_mut();
            let replicas = counted
                .entry(cluster.clone())
                .or_insert_with(|| self.facts.replicas(cluster));
            if let Some(replicas) = replicas {
                return Created {
                    replicas: replicas.get(&owner).copied().unwrap_or(0),
                    counted: true,
                };
            }
        }
        Created {
            replicas: self.desks.created(policy, cluster, object),
            counted: false,
        }
    }
}

/// What the pods of an object say whose they are; `None` if its kind has no such pods.
pub(super) fn pod_owner(object: &ObjectKey) -> Option<PodOwner> {
    let (namespace, name) = (object.name.namespace.as_str(), object.name.name.as_str());
    owns_pods(&object.kind).then(|| PodOwner::new(&object.kind.kind, namespace, name))
}

/// Whether the pods of such an object name it as their controller, or as the one behind their ReplicaSet.
fn owns_pods(kind: &ObjectKind) -> bool {
    match kind.api_version.as_str() {
        "apps/v1" => matches!(kind.kind.as_str(), "Deployment" | "ReplicaSet" | "StatefulSet"),
        "batch/v1" => kind.kind == "Job",
        _ => false,
    }
}
