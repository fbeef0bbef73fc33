//! Since when things have been as they are, where nobody wrote it down. A restart begins to count anew: what is due is
//! late then, never early.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kurator_core::{
    names::ClusterName,
    observe::{Snapshot, Taint, TaintEffect},
};

use crate::failover::DisruptionGuard;
use crate::propagate::{ObjectKey, PolicyKey, Template};

#[derive(Debug, Default)]
pub(super) struct Memory {
    clusters: BTreeMap<ClusterName, Seen>,
    unwell: Since,
    pending: Since,
    pub(super) last_eviction: Option<Timestamp>,
    disrupted: bool,
    /// When most clusters were ill last: it was more likely us, so those that still are ill count from then on.
    calm_since: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Seen {
    well_since: Option<Timestamp>,
    taints: BTreeMap<Taint, Timestamp>,
    ill_since: Option<Timestamp>,
}

impl Memory {
    /// Takes down how the members are.
    pub(super) fn look(&mut self, fleet: &Snapshot, guard: DisruptionGuard, now: Timestamp) {
        self.clusters.retain(|name, _| fleet.get(name).is_some());
        for view in fleet.clusters() {
            let seen = self.clusters.entry(view.name.clone()).or_default();
            seen.taints.retain(|taint, _| view.taints.contains(taint));
            for taint in &view.taints {
                seen.taints.entry(taint.clone()).or_insert(now);
            }
            let ready = view.health.is_ready();
            let repels = |taint: &Taint| taint.effect != TaintEffect::PreferNoSchedule;
            if ready && !view.taints.iter().any(repels) {
                seen.well_since.get_or_insert(now);
            } else {
                seen.well_since = None;
            }
            if ready {
                seen.ill_since = None;
            } else {
                seen.ill_since.get_or_insert(now);
            }
        }
        let ill = self.clusters.values().filter(|seen| seen.ill_since.is_some());
        let disrupted = guard.judge(ill.count(), self.clusters.len()).is_some();
        if self.disrupted && !disrupted {
            self.calm_since = Some(now);
        }
        self.disrupted = disrupted;
    }

    /// Since when a cluster has been ready and without taints; now if it is not.
    pub(super) fn well_since(&self, cluster: &ClusterName, now: Timestamp) -> Timestamp {
        let seen = self.clusters.get(cluster);
        seen.and_then(|seen| seen.well_since).unwrap_or(now)
    }

    /// Since when it has not been ready, as far as that is to be believed.
    pub(super) fn ill_since(&self, cluster: &ClusterName, now: Timestamp) -> Timestamp {
        let seen = self.clusters.get(cluster);
        let since = seen.and_then(|seen| seen.ill_since).unwrap_or(now);
        self.calm_since.map_or(since, |calm| since.max(calm))
    }

    /// When a taint was set, as it says itself or as it was seen.
    pub(super) fn tainted_since(&self, cluster: &ClusterName, taint: &Taint, now: Timestamp) -> Timestamp {
        let seen = self.clusters.get(cluster).and_then(|seen| seen.taints.get(taint));
        taint.time_added.or(seen.copied()).unwrap_or(now)
    }

    /// Since when an object has not been well in a cluster; `None` if it is.
    pub(super) fn unwell(
        &mut self,
        policy: &PolicyKey,
        cluster: &ClusterName,
        object: &ObjectKey,
        is: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.unwell.note(policy, cluster, object, is, now)
    }

    /// Since when a gang has been pending in a cluster; `None` if it is not.
    pub(super) fn pending(
        &mut self,
        policy: &PolicyKey,
        cluster: &ClusterName,
        object: &ObjectKey,
        is: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.pending.note(policy, cluster, object, is, now)
    }

    /// Forgets the gangs of a policy that it does not have any more.
    pub(super) fn keep_gangs(&mut self, policy: &PolicyKey, templates: &[Template]) {
        let objects = templates.iter().map(|template| &template.key).collect();
        self.pending.keep(policy, &objects);
    }

    /// Forgets what a policy does not have any more.
    pub(super) fn keep(&mut self, policy: &PolicyKey, objects: &BTreeSet<&ObjectKey>) {
        self.unwell.keep(policy, objects);
    }
}

/// Since when something has been so of the objects of policies in clusters.
#[derive(Debug, Default)]
struct Since(BTreeMap<(PolicyKey, ClusterName, ObjectKey), Timestamp>);

impl Since {
    fn note(
        &mut self,
        policy: &PolicyKey,
        cluster: &ClusterName,
        object: &ObjectKey,
        is: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let key = (policy.clone(), cluster.clone(), object.clone());
        if is {
            Some(*self.0.entry(key).or_insert(now))
        } else {
            self.0.remove(&key);
            None
        }
    }

    fn keep(&mut self, policy: &PolicyKey, objects: &BTreeSet<&ObjectKey>) {
        self.0
            .retain(|(of, _, object), _| of != policy || objects.contains(object));
    }
}
