use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Toleration;
use kurator_core::names::ClusterName;
use kurator_core::observe::{Health, Taint};

use super::reason::Cause;
use super::rules::{FailoverRules, Purge};

/// What is known of a cluster as far as failover goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterFacts {
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Its health: of its API server and its cloud nodes; edge nodes have no say in it.
    pub health: Health,
}

impl ClusterFacts {
    /// A cluster with this health and no taints.
    #[must_use]
    pub fn new(health: Health) -> Self {
        Self {
            taints: Vec::new(),
            health,
        }
    }

    /// Adds a taint.
    #[must_use]
    pub fn with_taint(mut self, taint: Taint) -> Self {
        self.taints.push(taint);
        self
    }
}

/// What is known of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AppFacts {
    /// How it fails over.
    pub rules: FailoverRules,
    /// The cluster taints it tolerates, and for how long.
    pub tolerations: Vec<Toleration>,
    /// Its replicas in all clusters together, as they are wanted.
    pub wanted: u32,
    /// The clusters it is in.
    pub clusters: BTreeMap<ClusterName, AppInCluster>,
    /// The clusters it is leaving or has left; to be kept by the caller from [`Planned`](super::Planned) to the next.
    pub evictions: BTreeMap<ClusterName, Eviction>,
}

impl AppFacts {
    /// A workload with so many replicas, nowhere yet.
    #[must_use]
    pub fn new(wanted: u32, rules: FailoverRules) -> Self {
        Self {
            wanted,
            rules,
            ..Self::default()
        }
    }

    /// Adds a cluster it is in.
    #[must_use]
    pub fn with_cluster(mut self, cluster: ClusterName, there: AppInCluster) -> Self {
        self.clusters.insert(cluster, there);
        self
    }

    /// Adds a toleration of cluster taints.
    #[must_use]
    pub fn with_toleration(mut self, toleration: Toleration) -> Self {
        self.tolerations.push(toleration);
        self
    }
}

/// A workload in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppInCluster {
    /// The replicas it was given there.
    pub replicas: u32,
    /// Those that are ready.
    pub ready: u32,
    /// Those on edge nodes that are cut off and run their pods on: not seen, and presumed to run.
    pub presumed: u32,
    /// Since when such nodes have been cut off.
    pub cut_off_since: Option<Timestamp>,
    /// Since when it has been unhealthy there, if it is.
    pub unhealthy_since: Option<Timestamp>,
}

impl AppInCluster {
    /// So many replicas, all ready.
    #[must_use]
    pub fn ready(replicas: u32) -> Self {
        Self {
            replicas,
            ready: replicas,
            ..Self::default()
        }
    }

    /// So many replicas of which none is ready.
    #[must_use]
    pub fn unhealthy(replicas: u32, since: Timestamp) -> Self {
        Self {
            replicas,
            unhealthy_since: Some(since),
            ..Self::default()
        }
    }

    /// Moves replicas from those that are ready to those that are presumed to run.
    #[must_use]
    pub fn presuming(mut self, presumed: u32, cut_off_since: Timestamp) -> Self {
        self.presumed = presumed;
        self.ready = self.ready.saturating_sub(presumed);
        self.cut_off_since = Some(cut_off_since);
        self
    }
}

/// A workload on its way out of a cluster, or gone from it and not yet allowed back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Eviction {
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub since: Timestamp,
    /// How.
    pub purge: Purge,
    /// Whether the user has said that it may be taken out, where it is not without.
    pub released: bool,
    /// Whether it was told to go from there.
    pub purged: bool,
}
