//! Room that is given away and not taken yet: replicas on their way, of which the member shows nothing so far.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kurator_core::{
    names::ClusterName,
    observe::{Resources, Snapshot},
    quantity::Quantity,
};

use tokio::time::Instant;

use crate::{
    api::{Placement, ReplicaDivisionPreference},
    placement::Running,
    propagate::{ObjectKey, Planned, PolicyKey, Rendered, ResourceInterpreter, Template},
};

/// How much later than the number that a workload gives of its replicas their pods may be seen, which are watched on a
/// connection of their own. It matters only where the pods themselves cannot be counted.
const LAG: Duration = Duration::from_secs(1);

/// What came of looking at what members show.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    /// Some room is no longer promised to anybody.
    pub(super) freed: bool,
    /// The same will be so in a while.
    pub(super) pending: bool,
}

/// What every policy was promised, so that many that plan at once never share the same room.
#[derive(Debug, Default)]
pub(super) struct Promises {
    open: BTreeMap<PolicyKey, Vec<Promise>>,
}

#[derive(Clone, Debug)]
struct Promise {
    cluster: ClusterName,
    object: ObjectKey,
    replicas: u32,
    /// How many of them are in what the fleet shows for certain.
    seen: u32,
    /// How many the member shows, and since when.
    shown: (u32, Instant),
    request: Resources,
}

/// How many replicas of an object a member shows by now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Created {
    /// So many.
    pub(super) replicas: u32,
    /// Whether they were counted in what the fleet is made of, so that whoever looks there next finds them.
    pub(super) counted: bool,
}

/// Tells that of any object.
pub(super) type Shown<'a> = dyn Fn(&PolicyKey, &ClusterName, &ObjectKey) -> Created + 'a;

impl Promise {
    fn committed(&self, running: &BTreeMap<ObjectKey, Running>) -> u32 {
        let clusters = running
            .get(&self.object)
            .into_iter()
            .flat_map(|today| &today.clusters);
        clusters
            .filter(|(cluster, _)| self.cluster == cluster.as_str())
            .map(|(_, replicas)| *replicas)
            .sum()
    }
}

impl Promises {
    /// To be called right before the fleet is looked at: what was counted, or has been shown for a while, will be in what
    /// is seen there. Tells whether some room is no longer promised to anybody, and whether that is to come.
    pub(super) fn settle(&mut self, shown: &Shown<'_>, now: Instant) -> Settled {
        let mut settled = Settled::default();
        for (policy, promises) in &mut self.open {
            for promise in promises.iter_mut() {
                let Created { replicas, counted } = shown(policy, &promise.cluster, &promise.object);
                if replicas != promise.shown.0 {
                    promise.shown = (replicas, now);
                }
                if replicas <= promise.seen {
                    continue;
                }
                if counted || now.saturating_duration_since(promise.shown.1) >= LAG {
                    promise.seen = replicas;
                    settled.freed = true;
                } else {
                    settled.pending = true;
                }
            }
            promises.retain(|promise| promise.seen < promise.replicas);
        }
        self.open.retain(|_, promises| !promises.is_empty());
        settled
    }

    /// The fleet without the room that is promised: to others than `policy`, and to the policy itself as far as an
    /// earlier decision of it was written down (`running`); one that was not is made again.
    pub(super) fn deduct(
        &self,
        fleet: &Arc<Snapshot>,
        policy: &PolicyKey,
        running: &BTreeMap<ObjectKey, Running>,
    ) -> Arc<Snapshot> {
        let mut promised: BTreeMap<ClusterName, Resources> = BTreeMap::new();
        for (other, promises) in &self.open {
            for promise in promises {
                let replicas = if other == policy {
                    promise.replicas.min(promise.committed(running))
                } else {
                    promise.replicas
                };
                let missing = replicas.saturating_sub(promise.seen);
                if missing > 0 {
                    let sums = promised.entry(promise.cluster.clone()).or_default();
                    let pods = ("pods", Quantity::from_units(1));
                    let each = promise
                        .request
                        .iter()
                        .map(|(name, amount)| (name.as_str(), *amount));
                    each.chain([pods])
                        .for_each(|(name, amount)| add(sums, name, amount, missing));
                }
            }
        }
        if promised.is_empty() {
            return Arc::clone(fleet);
        }
        let mut fleet = Snapshot::clone(fleet);
        for (cluster, sums) in promised {
            let Some(mut view) = fleet.remove(&cluster) else {
                continue;
            };
            // As pods that wait for a node: they take their room all the same.
            if let Some(summary) = &mut view.resources {
                for (name, amount) in sums {
                    add(&mut summary.allocating, &name, amount, 1);
                }
            }
            fleet.insert(view);
        }
        Arc::new(fleet)
    }

    /// Writes down what a plan promises. Tells whether something else that was promised is free again.
    pub(super) fn keep(
        &mut self,
        policy: &PolicyKey,
        planned: &Planned,
        templates: &[Template],
        interpreter: &dyn ResourceInterpreter,
        shown: &Shown<'_>,
        now: Instant,
    ) -> bool {
        let before: BTreeMap<(&ClusterName, &ObjectKey), &Promise> = self
            .open
            .get(policy)
            .into_iter()
            .flatten()
            .map(|promise| ((&promise.cluster, &promise.object), promise))
            .collect();
        let mut promises = Vec::new();
        for template in templates.iter().filter(|template| template.replicas.is_some()) {
            let needs = interpreter.requirements(&template.key.kind, &template.manifest);
            let request = needs.map(|needs| needs.request).unwrap_or_default();
            for (cluster, member) in &planned.members {
                let before = before.get(&(cluster, &template.key)).copied();
                let replicas = match member.objects.get(&template.key).map(|object| &object.rendered) {
                    Some(Rendered::Manifest {
                        applied: Some(replicas),
                        ..
                    }) => replicas,
                    // What was sent stays sent.
                    Some(Rendered::Held { .. }) => {
                        promises.extend(before.cloned());
                        continue;
                    }
                    _ => continue,
                };
                let (seen, shown) = match before {
                    Some(promise) => (promise.seen, promise.shown),
                    None => {
                        let seen = shown(policy, cluster, &template.key).replicas;
                        (seen, (seen, now))
                    }
                };
                if seen < *replicas {
                    promises.push(Promise {
                        cluster: cluster.clone(),
                        object: template.key.clone(),
                        replicas: *replicas,
                        seen,
                        shown,
                        request: request.clone(),
                    });
                }
            }
        }
        let sum = |promises: &[Promise]| -> u64 {
            promises
                .iter()
                .map(|promise| u64::from(promise.replicas.saturating_sub(promise.seen)))
                .sum()
        };
        let before = self.open.get(policy).map_or(0, |promises| sum(promises));
        let fewer = sum(&promises) < before;
        if promises.is_empty() {
            self.open.remove(policy);
        } else {
            self.open.insert(policy.clone(), promises);
        }
        fewer
    }

    /// Whether a member shows more of what the policy was promised than when the fleet was last looked at.
    pub(super) fn is_overtaken(&self, policy: &PolicyKey, shown: &Shown<'_>) -> bool {
        let mut promises = self.open.get(policy).into_iter().flatten();
        promises.any(|promise| shown(policy, &promise.cluster, &promise.object).replicas > promise.shown.0)
    }

    /// A policy that is gone was promised nothing. Tells whether it was.
    pub(super) fn forget(&mut self, policy: &PolicyKey) -> bool {
        self.open.remove(policy).is_some()
    }
}

fn add(sums: &mut Resources, name: &str, amount: Quantity, times: u32) {
    let more = amount.checked_mul(i64::from(times)).unwrap_or(Quantity::MAX);
    let sum = sums.entry(name.to_owned()).or_default();
    *sum = sum.checked_add(more).unwrap_or(Quantity::MAX);
}

/// Whether a placement looks at how much room there is.
pub(super) fn goes_by_room(placement: &Placement) -> bool {
    !placement.resource_constraints.is_empty()
        || !placement.preference.is_empty()
        || placement.replica_scheduling.as_ref().is_some_and(|scheduling| {
            let dynamic = scheduling.weight_preference.as_ref();
            scheduling.replica_division_preference == Some(ReplicaDivisionPreference::Aggregated)
                || dynamic.is_some_and(|weights| weights.dynamic_weight.is_some())
                || scheduling.cap_by_capacity
                || scheduling.partial_placement
                || scheduling.rebalancing.is_some()
                || scheduling.survive_cluster_loss.is_some()
        })
}
