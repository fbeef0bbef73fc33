//! Which clusters get a template, and how many replicas each.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kurator_core::{
    observe::Snapshot,
    reason::{Reason as _, with_causes},
};

use super::Note;
use crate::{
    api::Placement,
    placement::{
        Detail, Dialect, FleetIndex, Placed, PlanOptions, Planner, Prepared, Running, Workload, take,
    },
};

/// The scheduling pass, prepared for one policy. What it gives to one object is gone for the next.
pub(super) struct Placer {
    left: FleetIndex,
    policy: Result<Prepared, String>,
    /// The same without rebalancing.
    still: Result<Prepared, String>,
    planner: Planner<'static>,
}

impl Placer {
    pub(super) fn new(placement: &Placement, fleet: &Snapshot) -> Self {
        let left = FleetIndex::new(fleet);
        let prepared = |placement: &Placement| {
            Prepared::new(placement, &left, Dialect::Kurator).map_err(|error| with_causes(&error))
        };
        let policy = prepared(placement);
        let still = match &placement.replica_scheduling {
            Some(scheduling) if scheduling.rebalancing.is_some() => {
                let mut still = placement.clone();
                if let Some(scheduling) = &mut still.replica_scheduling {
                    scheduling.rebalancing = None;
                }
                prepared(&still)
            }
            _ => policy.clone(),
        };
        let options = PlanOptions::default().with_detail(Detail::Decision);
        Self {
            left,
            policy,
            still,
            planner: Planner::new(options),
        }
    }

    /// Where `workload` goes; or why nowhere.
    pub(super) fn place(
        &mut self,
        workload: &Workload,
        running: &Running,
        now: Timestamp,
    ) -> Result<Placed, String> {
        let prepared = self.policy.as_ref().map_err(Clone::clone)?;
        decide(
            &mut self.left,
            &mut self.planner,
            prepared,
            workload,
            running,
            now,
        )
    }

    /// The same, but nothing that runs is moved for the better.
    pub(super) fn place_without_moves(
        &mut self,
        workload: &Workload,
        running: &Running,
        now: Timestamp,
    ) -> Result<Placed, String> {
        let prepared = self.still.as_ref().map_err(Clone::clone)?;
        decide(
            &mut self.left,
            &mut self.planner,
            prepared,
            workload,
            running,
            now,
        )
    }
}

fn decide(
    left: &mut FleetIndex,
    planner: &mut Planner<'_>,
    prepared: &Prepared,
    workload: &Workload,
    running: &Running,
    now: Timestamp,
) -> Result<Placed, String> {
    let decision = planner.place(left, prepared, workload, running, now);
    let placed = decision
        .outcome
        .map_err(|why| format!("{}: {why}", why.token()))?;
    take(left, prepared, workload, running, &placed);
    Ok(placed)
}

/// A placement that changes nothing.
pub(super) fn today(running: &Running) -> Placed {
    let mut placed = Placed::default();
    for (cluster, replicas) in &running.clusters {
        if let Ok(cluster) = cluster.parse() {
            placed.clusters.push((cluster, *replicas));
        }
    }
    placed.affinity.clone_from(&running.affinity);
    placed
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
