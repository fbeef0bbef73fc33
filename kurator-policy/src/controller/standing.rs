//! How the objects of a policy stand: what the status says the members were told, and what they show of it.

use std::collections::BTreeMap;

use kurator_core::{names::ClusterName, observe::Snapshot};

use super::{
    member::{Desk, Desks},
    running::written,
};
use crate::{
    api::DistributionPolicyStatus,
    propagate::{ObjectKey, PolicyKey, Standing, Template},
};

/// How the templates stand in the members of the fleet.
pub(super) fn standings(
    policy: &PolicyKey,
    previous: Option<&DistributionPolicyStatus>,
    templates: &[Template],
    fleet: &Snapshot,
    desks: &Desks,
) -> BTreeMap<ObjectKey, Standing> {
    let member = |name: &str| {
        let name = name.parse::<ClusterName>().ok()?;
        fleet.get(&name).map(|_| name)
    };
    let everywhere: Vec<ClusterName> = previous
        .iter()
        .flat_map(|status| &status.clusters)
        .filter_map(|entry| member(&entry.cluster))
        .collect();
    let written = written(previous);
    let mut standings = BTreeMap::new();
    for template in templates {
        let key = &template.key;
        let mut standing = Standing::default();
        if template.replicas.is_none() {
            for cluster in &everywhere {
                standing = standing.with(cluster.clone(), 0, Some(0));
            }
        } else {
            let mut told = BTreeMap::new();
            if let Some(placement) = written.get(&key.named()) {
                // What was held back counts more than what was decided.
                told.extend(placement.clusters.iter().chain(&placement.holding));
            }
            for (cluster, replicas) in told {
                let Some(cluster) = member(cluster) else { continue };
                let replicas = u32::try_from(*replicas).unwrap_or(0);
                if replicas > 0 {
                    let ready = ready(&desks.open(&cluster), policy, key, replicas);
                    standing = standing.with(cluster, replicas, ready);
                }
            }
        }
        standings.insert(key.clone(), standing);
    }
    standings
}

/// How many of the replicas that a member was told to run are ready there; `None` while nobody has looked.
fn ready(desk: &Desk, policy: &PolicyKey, object: &ObjectKey, told: u32) -> Option<u32> {
    let seen = desk.observed(policy);
    if seen.blocked.is_some() {
        // What is not seen is not counted upon.
        return Some(0);
    }
    let Some(there) = seen.objects.get(object) else {
        return seen.complete.then_some(0);
    };
    let current = there
        .revision
        .as_deref()
        .is_some_and(|revision| desk.is_current(policy, object, revision));
    Some(match (there.applied, there.ready) {
        // Everything that an override left of it is ready.
        (Some(applied), Some(ready)) if current && ready >= applied => told,
        (_, Some(ready)) => ready.min(told),
        // A kind that does not tell.
        (Some(_), None) if current => told,
        _ => 0,
    })
}
