//! From a plan and what the members said to the status of the policy.

mod conditions;
mod observed;
mod row;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::{condition::ConditionSet, reason::Reason as _};

use self::{
    conditions::{conditions, said},
    row::{Row, held_something, row, share_room, totals},
};
use super::{Note, Planned};
use crate::api::{ClusterDistribution, DistributionPolicyStatus, ObjectPlacement};

pub use self::{
    conditions::{DEPENDENCIES_FOUND, FAILOVER_HELD, STATE_CARRIED, TOTAL_KEPT},
    observed::{MemberObserved, ObjectObserved, Observed, Trouble},
    row::MAX_OBJECTS,
};

/// The longest message of a cluster or a condition, in bytes: a status must stay small at a thousand members, and a
/// server that refuses a manifest likes to quote it.
pub const MAX_MESSAGE: usize = 512;

/// The most numbers (an object in a cluster each) that [`DistributionPolicyStatus::placements`] holds, about 20 bytes
/// each: an object in an API server is small. Objects beyond that are left out, in the order of their names.
pub const MAX_PLACEMENTS: usize = 20_000;

/// Computes the status of a policy.
///
/// `previous` gives transition times to conditions that stay, and the last known numbers of clusters that cannot
/// be asked.
///
/// # Guarantees
/// Pure: the same input gives the same status, so a status that is equal to the one in place need not be written.
/// Messages are at most [`MAX_MESSAGE`] bytes; clusters come sorted by name.
#[must_use]
pub fn status(
    generation: Option<i64>,
    planned: &Planned,
    observed: &Observed,
    previous: Option<&DistributionPolicyStatus>,
    now: Timestamp,
) -> DistributionPolicyStatus {
    let mut rows: Vec<Row> = Vec::new();
    let before: BTreeMap<&str, &ClusterDistribution> = previous
        .into_iter()
        .flat_map(|status| &status.clusters)
        .map(|entry| (entry.cluster.as_str(), entry))
        .collect();
    let names: BTreeSet<_> = planned.members.keys().chain(observed.members.keys()).collect();
    for name in &names {
        let before = before.get(name.as_str()).copied();
        rows.extend(row(name, planned, observed.members.get(*name), before));
    }
    let member = |cluster: &str| names.iter().any(|name| name.as_str() == cluster);
    for note in &planned.notes {
        if let Note::UnknownCluster { cluster } = note
            && before
                .get(cluster.as_str())
                .is_none_or(|entry| !held_something(entry))
        {
            rows.push(Row::unknown(cluster, note));
        }
    }
    rows.extend(
        before
            .values()
            .filter(|entry| !member(&entry.cluster))
            .filter_map(|entry| Row::former(entry)),
    );
    rows.sort_by(|a, b| a.entry.cluster.cmp(&b.entry.cluster));
    share_room(&mut rows);
    for row in &mut rows {
        let before = before.get(row.entry.cluster.as_str());
        let same = before.filter(|before| before.reason == row.entry.reason);
        row.entry.since = same.and_then(|before| before.since.clone()).or(Some(Time(now)));
    }
    let totals = totals(planned, &rows);
    let conditions = conditions(generation, planned, &rows, &totals, previous, now);
    DistributionPolicyStatus {
        observed_generation: generation,
        conditions,
        clusters: rows.into_iter().map(|row| row.entry).collect(),
        totals: Some(totals),
        placed_kinds: previous
            .map(|status| status.placed_kinds.clone())
            .unwrap_or_default(),
        placements: placements(planned, previous),
        dependencies: planned.dependencies().into_iter().map(Into::into).collect(),
        failovers: Vec::new(),
        activations: Vec::new(),
        to_take_over: Vec::new(),
        rollout: None,
    }
}

/// Where the plan puts the replicas; of an object that stays where it is, what was written before.
fn placements(planned: &Planned, previous: Option<&DistributionPolicyStatus>) -> Vec<ObjectPlacement> {
    let mut room = MAX_PLACEMENTS;
    let mut placements = Vec::new();
    for (key, totals) in &planned.objects {
        let placement = if totals.held {
            let before = previous.into_iter().flat_map(|status| &status.placements);
            before.into_iter().find(|it| it.is_of(key)).cloned()
        } else {
            let objects = || {
                let members = planned.members.iter();
                members.filter_map(|(cluster, member)| Some((cluster, member.objects.get(key)?)))
            };
            let numbers = objects().filter(|(_, object)| !object.leaving);
            let numbers = numbers
                .filter_map(|(cluster, object)| Some((cluster.to_string(), i64::from(object.planned?))));
            let holding = objects().filter(|(_, object)| object.told != object.planned);
            let holding =
                holding.filter_map(|(cluster, object)| Some((cluster.to_string(), i64::from(object.told?))));
            Some(ObjectPlacement {
                api_version: key.kind.api_version.clone(),
                kind: key.kind.kind.clone(),
                name: key.name.name.clone(),
                affinity: planned
                    .placements
                    .get(key)
                    .and_then(|placed| placed.affinity.clone()),
                clusters: numbers.collect(),
                holding: holding.collect(),
                states: BTreeMap::new(),
            })
        };
        let Some(placement) = placement.filter(|it| !(it.clusters.is_empty() && it.holding.is_empty()))
        else {
            continue;
        };
        match room.checked_sub(placement.clusters.len() + placement.holding.len()) {
            Some(left) => room = left,
            None => break,
        }
        placements.push(placement);
    }
    placements
}

/// The status of a policy that cannot be planned: everything stays as it is, and the conditions say why.
#[must_use]
pub fn held_status(
    generation: Option<i64>,
    note: &Note,
    previous: Option<&DistributionPolicyStatus>,
    now: Timestamp,
) -> DistributionPolicyStatus {
    let previous = previous.cloned().unwrap_or_default();
    let said = said(note.token(), note.to_string());
    let mut conditions = ConditionSet::new(previous.conditions, generation, now);
    conditions.ready(false, &said);
    conditions.progressing(false, &said);
    conditions.degraded(true, &said);
    DistributionPolicyStatus {
        observed_generation: generation,
        conditions: conditions.into_vec(),
        ..DistributionPolicyStatus {
            conditions: Vec::new(),
            ..previous
        }
    }
}

/// Cuts a text to that many bytes, between characters.
fn cut(mut message: String, longest: usize) -> String {
    if message.len() > longest {
        let mut end = longest - "...".len();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str("...");
    }
    message
}
