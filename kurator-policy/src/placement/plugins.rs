//! What a host can add to the pass: filters, scores and estimators of its own.

use kurator_core::names::ClusterName;

use super::workload::Workload;

/// Keeps clusters from being considered. Implemented for closures that return an objection.
///
/// Must be pure: the same arguments give the same answer.
pub trait Filter {
    /// The filter's name in reasons.
    fn name(&self) -> &str {
        "host filter"
    }

    /// Why the cluster must not run the workload; `None` if it may.
    fn objection(&self, workload: &Workload, cluster: &ClusterName) -> Option<String>;
}

impl<F: Fn(&Workload, &ClusterName) -> Option<String>> Filter for F {
    fn objection(&self, workload: &Workload, cluster: &ClusterName) -> Option<String> {
        self(workload, cluster)
    }
}

/// Ranks clusters against each other: where a spread has to choose, and where an aggregated division starts, the
/// higher sum of scores comes first. Implemented for closures.
///
/// Must be pure. A cluster that runs the workload already has 100 more.
pub trait Score {
    /// How well the cluster suits the workload.
    fn score(&self, workload: &Workload, cluster: &ClusterName) -> u64;
}

impl<F: Fn(&Workload, &ClusterName) -> u64> Score for F {
    fn score(&self, workload: &Workload, cluster: &ClusterName) -> u64 {
        self(workload, cluster)
    }
}

/// Says how many more replicas of a workload fit into a cluster. Implemented for closures.
///
/// Of several estimates the smallest counts. Must be pure: ask members beforehand and answer from what they said.
pub trait ReplicaEstimator {
    /// The number of replicas; `None` for no opinion.
    fn room(&self, workload: &Workload, cluster: &ClusterName) -> Option<u64>;
}

impl<F: Fn(&Workload, &ClusterName) -> Option<u64>> ReplicaEstimator for F {
    fn room(&self, workload: &Workload, cluster: &ClusterName) -> Option<u64> {
        self(workload, cluster)
    }
}

/// The host's plug-ins.
#[derive(Default)]
pub(super) struct Plugins<'p> {
    pub(super) filters: Vec<Box<dyn Filter + 'p>>,
    pub(super) scores: Vec<Box<dyn Score + 'p>>,
    pub(super) estimators: Vec<Box<dyn ReplicaEstimator + 'p>>,
}

impl std::fmt::Debug for Plugins<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugins")
            .field("filters", &self.filters.len())
            .field("scores", &self.scores.len())
            .field("estimators", &self.estimators.len())
            .finish()
    }
}
