//! Replicas on edge nodes that are cut off on purpose: nobody sees them, and they are presumed to run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kurator_core::{multicluster::Facts, names::ClusterName, observe::PodOwner};

use super::shown::pod_owner;
use crate::{
    failover::edge::{Autonomy, PodSeen, count, pod_is_autonomous},
    propagate::ObjectKey,
};

/// How many replicas are presumed to run where, and since when the first of them has been cut off.
#[derive(Debug, Default)]
pub(super) struct Presumed {
    replicas: BTreeMap<(ClusterName, PodOwner), (u32, Timestamp)>,
}

impl Presumed {
    /// Looks at these clusters.
    pub(super) fn look(facts: &Facts, clusters: &BTreeSet<ClusterName>, now: Timestamp) -> Self {
        let mut replicas = BTreeMap::new();
        for cluster in clusters {
            let mut pods: BTreeMap<PodOwner, Vec<PodSeen>> = BTreeMap::new();
            for pod in facts.cut_off(cluster) {
                let autonomy = if pod_is_autonomous(&pod.pod_labels) {
                    Autonomy::Unbounded
                } else {
                    Autonomy::of_node(&pod.node_annotations)
                };
                let seen = PodSeen {
                    ready: false,
                    cut_off_since: Some(pod.since),
                    autonomy,
                };
                pods.entry(pod.owner).or_default().push(seen);
            }
            for (owner, pods) in pods {
                let counts = count(pods, now);
                if let Some(since) = counts.cut_off_since {
                    replicas.insert((cluster.clone(), owner), (counts.presumed, since));
                }
            }
        }
        Self { replicas }
    }

    /// The replicas of an object in a cluster; none with none.
    pub(super) fn of(&self, cluster: &ClusterName, object: &ObjectKey) -> Option<(u32, Timestamp)> {
        if self.replicas.is_empty() {
            return None;
        }
        let owner = pod_owner(object)?;
        self.replicas.get(&(cluster.clone(), owner)).copied()
    }
}
