//! Which clusters get a template, and how many replicas each.

use std::{collections::BTreeSet, error::Error};

use jiff::Timestamp;
use kurator_core::{names::ClusterName, observe::Snapshot, reason::Reason as _};

use super::{Note, PolicyKey, Template};
use crate::{
    api::Placement,
    placement::{Detail, Dialect, FleetIndex, PlanOptions, Planner, Prepared, Running, Workload},
};

/// The scheduling pass, prepared for one policy.
pub(super) struct Placer {
    fleet: FleetIndex,
    policy: Result<Prepared, String>,
    planner: Planner<'static>,
}

impl Placer {
    pub(super) fn new(placement: &Placement, fleet: &Snapshot) -> Self {
        let fleet = FleetIndex::new(fleet);
        let policy = Prepared::new(placement, &fleet, Dialect::Kurator).map_err(|error| chain(&error));
        let options = PlanOptions::default().with_detail(Detail::Decision);
        Self {
            fleet,
            policy,
            planner: Planner::new(options),
        }
    }

    /// The clusters that get `template`, each with its replicas if the kind has any; or why there is none.
    pub(super) fn place(
        &mut self,
        policy: &PolicyKey,
        template: &Template,
        running: &Running,
        now: Timestamp,
    ) -> Result<Vec<(ClusterName, Option<u32>)>, String> {
        let prepared = self.policy.as_ref().map_err(Clone::clone)?;
        let key = &template.key;
        let mut workload = Workload::new(key.to_string(), &key.kind.api_version, &key.kind.kind)
            .with_uid(&template.uid)
            .with_policy(policy.name.to_string());
        if let Some(replicas) = template.replicas {
            workload = workload.with_replicas(replicas);
        }
        let decision = self.planner.place(&self.fleet, prepared, &workload, running, now);
        let placed = decision
            .outcome
            .map_err(|why| format!("{}: {why}", why.token()))?;
        Ok(placed
            .clusters
            .into_iter()
            .map(|(cluster, replicas)| (cluster, template.replicas.map(|_| replicas)))
            .collect())
    }
}

/// The names in the placement that no member bears.
pub(super) fn unknown_clusters(placement: &Placement, fleet: &Snapshot) -> Vec<Note> {
    let weighted = placement
        .replica_scheduling
        .iter()
        .flat_map(|scheduling| &scheduling.weight_preference)
        .flat_map(|preference| &preference.static_weight_list)
        .map(|entry| &entry.target_cluster);
    let groups = placement
        .cluster_affinities
        .iter()
        .flat_map(|term| &term.cluster_names);
    let names: BTreeSet<&String> = placement
        .cluster_affinity
        .iter()
        .chain(weighted)
        .flat_map(|affinity| &affinity.cluster_names)
        .chain(groups)
        .collect();
    names
        .into_iter()
        .filter(|name| fleet.clusters().all(|cluster| cluster.name != name.as_str()))
        .map(|name| Note::UnknownCluster {
            cluster: name.clone(),
        })
        .collect()
}

/// An error and its sources; none of them repeats the next.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
