//! Which clusters get a template, and how many replicas each.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kurator_core::{
    observe::Snapshot,
    reason::{Reason as _, with_causes},
};

use super::{Note, ObjectKey, Request};
use crate::{
    api::Placement,
    placement::{
        Detail, Dialect, FleetIndex, Placed, PlanOptions, Planner, Prepared, Running, Workload, take,
    },
};

/// The scheduling pass, prepared for one policy. What it gives to one object is gone for the next.
pub(super) struct Placer<'a> {
    request: &'a Request<'a>,
    left: FleetIndex,
    /// By address: there are as many as the request has, and each lives as long.
    rules: BTreeMap<*const Placement, Rules>,
    planner: Planner<'static>,
}

/// A placement, ready for use.
struct Rules {
    policy: Result<Prepared, String>,
    /// The same without rebalancing, if there is any.
    still: Option<Result<Prepared, String>>,
}

impl Rules {
    fn new(placement: &Placement, left: &FleetIndex) -> Self {
        let prepared = |placement: &Placement| {
            Prepared::new(placement, left, Dialect::Kurator).map_err(|error| with_causes(&error))
        };
        let policy = prepared(placement);
        let mut still = placement.clone();
        let scheduling = still.replica_scheduling.as_mut();
        let rebalancing = scheduling.and_then(|scheduling| scheduling.rebalancing.take());
        let still = rebalancing.map(|_| prepared(&still));
        Self { policy, still }
    }
}

impl<'a> Placer<'a> {
    pub(super) fn new(request: &'a Request<'a>) -> Self {
        let left = FleetIndex::new(request.fleet);
        let rules = request.placements();
        let rules = rules.map(|placement| (std::ptr::from_ref(placement), Rules::new(placement, &left)));
        let options = PlanOptions::default().with_detail(Detail::Decision);
        Self {
            request,
            rules: rules.collect(),
            left,
            planner: Planner::new(options),
        }
    }

    /// Where `workload` goes; or why nowhere. Without `moves` nothing that runs is moved for the better.
    pub(super) fn place(
        &mut self,
        object: &ObjectKey,
        workload: &Workload,
        running: &Running,
        moves: bool,
        now: Timestamp,
    ) -> Result<Placed, String> {
        let placement = self.request.placement_of(object).map(std::ptr::from_ref);
        let Some(rules) = placement.and_then(|placement| self.rules.get(&placement)) else {
            return Ok(today(running));
        };
        let still = rules.still.as_ref().filter(|_| !moves);
        let prepared = still.unwrap_or(&rules.policy).as_ref().map_err(Clone::clone)?;
        let decision = self.planner.place(&self.left, prepared, workload, running, now);
        let placed = decision
            .outcome
            .map_err(|why| format!("{}: {why}", why.token()))?;
        take(&mut self.left, prepared, workload, running, &placed);
        Ok(placed)
    }
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
