//! From a plan and what the members said to the status of the policy.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kurator_core::{condition::ConditionSet, names::ClusterName, reason::Reason};
use serde_json::Value;

use super::{MemberReason, Note, ObjectHealth, ObjectKey, Planned, Rendered, Severity};
use crate::{
    api::{ClusterDistribution, DistributionPolicyStatus, DistributionTotals, ObjectPlacement, ObjectState},
    failover::PickedState,
};

/// Whether overrides leave the number of replicas that was divided as it is.
pub const TOTAL_KEPT: &str = "TotalKept";

/// Whether everything that the objects refer to is on the hub and can go along.
pub const DEPENDENCIES_FOUND: &str = "DependenciesFound";

/// Type of the condition that says that most clusters are ill at once and nothing fails over for that.
pub const FAILOVER_HELD: &str = "FailoverHeld";

/// Whether what copies say of their state can be carried along when they fail over; there only while it cannot.
pub const STATE_CARRIED: &str = "StateCarried";

/// The longest message of a cluster or a condition, in bytes: a status must stay small at a thousand members, and a
/// server that refuses a manifest likes to quote it.
pub const MAX_MESSAGE: usize = 512;

/// The most objects that all [`ClusterDistribution::objects`] of a status hold together.
pub const MAX_OBJECTS: usize = 500;

/// The longest message of one of these, in bytes.
const MAX_OBJECT_MESSAGE: usize = 256;

/// The most numbers (an object in a cluster each) that [`DistributionPolicyStatus::placements`] holds, about 20 bytes
/// each: an object in an API server is small. Objects beyond that are left out, in the order of their names.
pub const MAX_PLACEMENTS: usize = 20_000;

/// What the members said about one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// By cluster; a cluster that is missing has not said anything yet.
    pub members: BTreeMap<ClusterName, MemberObserved>,
}

/// What one member said about one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberObserved {
    /// Why nothing can be done in the cluster as a whole.
    pub blocked: Option<Trouble>,
    /// The policy's objects there.
    pub objects: BTreeMap<ObjectKey, ObjectObserved>,
    /// Objects that are to go and are still there.
    pub leaving: BTreeMap<ObjectKey, Trouble>,
    /// Whether it is certain that nothing else of the policy is there.
    pub complete: bool,
}

impl MemberObserved {
    /// Whether nothing of the policy is left in the member, for certain.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.complete && self.blocked.is_none() && self.objects.is_empty() && self.leaving.is_empty()
    }
}

/// A reason with its explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the pair is the whole idea")]
pub struct Trouble {
    /// The token.
    pub reason: MemberReason,
    /// The same for people.
    pub message: String,
}

impl Trouble {
    /// A reason with a message, cut where it gets too long for a status.
    pub fn new(reason: MemberReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: cut(message.into(), MAX_MESSAGE),
        }
    }
}

/// What is known of one object in one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectObserved {
    /// Replicas it was told to run; `None` if it was never applied, or has none.
    pub applied: Option<u32>,
    /// Replicas that are there, ready or not.
    pub created: Option<u32>,
    /// Replicas that are ready.
    pub ready: Option<u32>,
    /// Replicas on edge nodes that are cut off on purpose, which are presumed to run.
    pub presumed: u32,
    /// How it is doing, by the word of its kind.
    pub health: Option<ObjectHealth>,
    /// What its policy carries along when it fails over; `None` if that is nothing, or it was not seen.
    pub state: Option<PickedState>,
    /// What of its status is worth keeping, if it is to be put together on the hub.
    pub kept: Option<Value>,
    /// Fingerprint of the manifest that was last applied.
    pub revision: Option<String>,
    /// Fingerprint of the manifest that was last tried, with or without success.
    pub tried: Option<String>,
    /// Why the manifest of the plan is not there; `None` if it is.
    pub trouble: Option<Trouble>,
    /// The paths of fields that would change, where that is only reported.
    pub differs: Vec<String>,
}

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
    let said = Said::new(note.token(), note.to_string());
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

const NOT_SENT: &str = "not sent while dispatch is suspended";

/// What is not as planned in one cluster.
#[derive(Default)]
struct Findings {
    blocked: Option<Trouble>,
    objects: Vec<(ObjectKey, Trouble)>,
}

impl Findings {
    fn add(&mut self, key: &ObjectKey, reason: MemberReason, message: &str) {
        self.objects.push((key.clone(), Trouble::new(reason, message)));
    }

    /// The worst, and how many others there are.
    fn worst(self) -> (Option<Trouble>, usize) {
        let all = self.objects.len() + usize::from(self.blocked.is_some());
        let mut worst = self.blocked;
        for (key, trouble) in self.objects {
            if worst.as_ref().is_none_or(|worst| worst.reason < trouble.reason) {
                let message = format!("{key}: {}", trouble.message);
                worst = Some(Trouble::new(trouble.reason, message));
            }
        }
        (worst, all.saturating_sub(1))
    }

    /// The objects that something is wrong with, and those that would change.
    fn failures(&self, seen: &MemberObserved) -> Vec<ObjectState> {
        let failing = self.objects.iter().filter(|(_, trouble)| {
            trouble.reason.is_failure() || matches!(trouble.reason, MemberReason::Differs(_))
        });
        let mut failing: Vec<_> = failing.collect();
        failing.sort_by_key(|(key, trouble)| (Reverse(trouble.reason), key));
        let failing = failing.into_iter().take(MAX_OBJECTS);
        failing
            .map(|(key, trouble)| ObjectState {
                api_version: key.kind.api_version.clone(),
                kind: key.kind.kind.clone(),
                name: key.name.name.clone(),
                reason: trouble.reason.of_object().to_owned(),
                message: cut(trouble.message.clone(), MAX_OBJECT_MESSAGE),
                fields: differing(seen, key),
            })
            .collect()
    }
}

/// The paths of fields that would change, none longer than a message.
fn differing(seen: &MemberObserved, key: &ObjectKey) -> Vec<String> {
    let known = seen.objects.get(key);
    let fields = known.into_iter().flat_map(|known| &known.differs);
    fields
        .map(|field| cut(field.clone(), MAX_OBJECT_MESSAGE))
        .collect()
}

/// Cuts the lists of objects to what the status has room for: every cluster gets the same number of lines.
fn share_room(rows: &mut [Row]) {
    let with_objects = rows.iter().filter(|row| !row.entry.objects.is_empty()).count();
    let share = MAX_OBJECTS / with_objects.max(1);
    for row in rows {
        row.entry.objects.truncate(share);
    }
}

struct Row {
    entry: ClusterDistribution,
    reason: MemberReason,
}

impl Row {
    fn unknown(cluster: &str, note: &Note) -> Self {
        let entry = ClusterDistribution {
            cluster: cluster.to_owned(),
            reason: MemberReason::UnknownCluster.to_string(),
            message: note.to_string(),
            ..ClusterDistribution::default()
        };
        Self {
            entry,
            reason: MemberReason::UnknownCluster,
        }
    }

    /// A cluster that held something and is no member any more: nobody can look, so the last numbers stand.
    fn former(before: &ClusterDistribution) -> Option<Self> {
        held_something(before).then(|| {
            let message = "no longer a member; what was placed there may still be there";
            let entry = ClusterDistribution {
                reason: MemberReason::UnknownCluster.to_string(),
                message: message.to_owned(),
                ..before.clone()
            };
            Self {
                entry,
                reason: MemberReason::UnknownCluster,
            }
        })
    }
}

/// Whether an entry of a status stands for objects in a cluster, as opposed to a name that no member bears.
fn held_something(entry: &ClusterDistribution) -> bool {
    entry.reason != MemberReason::UnknownCluster.as_str() || entry.applied_objects > 0
}

fn row(
    cluster: &ClusterName,
    planned: &Planned,
    observed: Option<&MemberObserved>,
    before: Option<&ClusterDistribution>,
) -> Option<Row> {
    let nothing = MemberObserved::default();
    let seen = observed.unwrap_or(&nothing);
    let plan = planned.member(cluster);
    let suspended = planned.suspension.dispatching_to(cluster.as_str());
    let mut entry = ClusterDistribution {
        cluster: cluster.to_string(),
        ..ClusterDistribution::default()
    };
    let mut findings = Findings {
        blocked: seen.blocked.clone(),
        ..Findings::default()
    };
    for (key, object) in plan.into_iter().flat_map(|plan| &plan.objects) {
        entry.planned_replicas += i64::from(object.planned.unwrap_or(0));
        let known = seen.objects.get(key);
        let applied = known.and_then(|known| known.applied).unwrap_or(0);
        let ready = known.and_then(|known| known.ready).unwrap_or(0);
        entry.applied_replicas += i64::from(applied);
        entry.ready_replicas += i64::from(ready);
        let presumed = known.map_or(0, |known| known.presumed.min(applied.saturating_sub(ready)));
        entry.presumed_replicas += i64::from(presumed);
        if let Rendered::Held { reason, message } = &object.rendered {
            findings.add(key, *reason, message);
            continue;
        }
        let sent = known.and_then(|known| known.revision.as_deref());
        match known {
            _ if suspended && sent != object.rendered.revision() => {
                findings.add(key, MemberReason::Suspended, NOT_SENT);
            }
            Some(ObjectObserved {
                trouble: Some(trouble),
                ..
            }) => findings.add(key, trouble.reason, &trouble.message),
            Some(_) if sent != object.rendered.revision() => {
                findings.add(key, MemberReason::Pending, "the last change is not sent yet");
            }
            // Its health counts only what is seen.
            Some(_) if presumed > 0 && ready.saturating_add(presumed) >= applied => {
                entry.applied_objects += 1;
            }
            Some(known) => {
                entry.applied_objects += 1;
                match &known.health {
                    Some(ObjectHealth::Healthy) => {}
                    Some(ObjectHealth::Progressing { why }) => findings.add(key, MemberReason::NotReady, why),
                    Some(ObjectHealth::Unhealthy { why }) => findings.add(key, MemberReason::Unhealthy, why),
                    Some(ObjectHealth::Unknown) | None if ready < applied => {
                        let message = format!("{ready} of {applied} replicas ready");
                        findings.add(key, MemberReason::NotReady, &message);
                    }
                    Some(ObjectHealth::Unknown) | None => {}
                }
            }
            None if seen.blocked.is_none() => findings.add(key, MemberReason::Pending, "not sent yet"),
            None => {}
        }
    }
    for (key, rendered) in plan.into_iter().flat_map(|plan| &plan.dependencies) {
        if let Rendered::Held { reason, message } = rendered {
            findings.add(key, *reason, message);
            continue;
        }
        match seen.objects.get(key) {
            known
                if suspended && known.and_then(|known| known.revision.as_deref()) != rendered.revision() =>
            {
                findings.add(key, MemberReason::Suspended, NOT_SENT);
            }
            Some(known) => {
                if let Some(trouble) = &known.trouble {
                    findings.add(key, trouble.reason, &trouble.message);
                }
            }
            None if seen.blocked.is_none() => findings.add(key, MemberReason::Pending, "not sent yet"),
            None => {}
        }
    }
    for (key, trouble) in &seen.leaving {
        findings.add(key, trouble.reason, &trouble.message);
    }
    entry.objects = findings.failures(seen);
    let (mut worst, others) = findings.worst();
    if plan.is_none() {
        // A cluster that was given nothing is of interest only while something is, or may be, left there.
        if before.is_none() && seen.leaving.is_empty() || seen.is_clean() {
            return None;
        }
        if suspended {
            let message = "not removed while dispatch is suspended";
            worst = Some(Trouble::new(MemberReason::Suspended, message));
        } else if worst.is_none() {
            worst = Some(Trouble::new(MemberReason::Removing, "being removed"));
        }
    }
    if let (Some(before), true) = (before, seen.objects.is_empty() && seen.blocked.is_some()) {
        // Nothing is known since the start of this process: the last word stands.
        entry.applied_objects = before.applied_objects;
        entry.applied_replicas = before.applied_replicas;
        entry.ready_replicas = before.ready_replicas;
        entry.revision.clone_from(&before.revision);
        entry.objects.clone_from(&before.objects);
    }
    let went_along = |key| plan.is_some_and(|plan| plan.dependencies.contains_key(key));
    let revisions: Vec<&str> = seen
        .objects
        .iter()
        .filter(|(key, _)| !went_along(*key))
        .filter_map(|(_, object)| object.revision.as_deref())
        .collect();
    match revisions.as_slice() {
        [] => {}
        [one] => entry.revision = Some((*one).to_owned()),
        many => {
            let all = Value::from(many.to_vec());
            entry.revision = Some(super::revision(&all));
        }
    }
    let (reason, message) = match worst {
        None => (
            MemberReason::Applied,
            format!("{} objects in place", entry.applied_objects),
        ),
        Some(worst) if others > 0 => (worst.reason, format!("{} (and {others} more)", worst.message)),
        Some(worst) => (worst.reason, worst.message),
    };
    entry.reason = reason.to_string();
    entry.message = cut(message, MAX_MESSAGE);
    Some(Row { entry, reason })
}

fn totals(planned: &Planned, rows: &[Row]) -> DistributionTotals {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let sum = |number: fn(&ClusterDistribution) -> i64| rows.iter().map(|row| number(&row.entry)).sum();
    let desired: u64 = planned.objects.values().map(|totals| totals.desired).sum();
    DistributionTotals {
        clusters: count(planned.members.len()),
        objects: count(planned.objects.len()),
        desired_replicas: i64::try_from(desired).unwrap_or(i64::MAX),
        planned_replicas: sum(|entry| entry.planned_replicas),
        applied_replicas: sum(|entry| entry.applied_replicas),
        ready_replicas: sum(|entry| entry.ready_replicas),
        presumed_replicas: sum(|entry| entry.presumed_replicas),
    }
}

/// A condition's reason and message.
struct Said {
    token: &'static str,
    message: String,
}

impl Said {
    fn new(token: &'static str, message: impl Into<String>) -> Self {
        Self {
            token,
            message: cut(message.into(), MAX_MESSAGE),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Reason for Said {
    fn token(&self) -> &'static str {
        self.token
    }
}

fn conditions(
    generation: Option<i64>,
    planned: &Planned,
    rows: &[Row],
    totals: &DistributionTotals,
    previous: Option<&DistributionPolicyStatus>,
    now: Timestamp,
) -> Vec<Condition> {
    let worst = |wanted: fn(MemberReason) -> bool| {
        let row = rows
            .iter()
            .filter(|row| wanted(row.reason))
            .max_by_key(|row| row.reason)?;
        Some(Said::new(
            row.reason.as_str(),
            format!("{}: {}", row.entry.cluster, row.entry.message),
        ))
    };
    let failed_note = planned
        .notes
        .iter()
        .find(|note| note.severity() == Severity::Failure);
    let failure = failed_note
        .map(|note| Said::new(note.token(), note.to_string()))
        .or_else(|| worst(MemberReason::is_failure));
    let open = worst(|reason| !reason.is_failure() && reason != MemberReason::Applied);
    let summary = Said::new(
        MemberReason::Applied.as_str(),
        format!(
            "{} of {} replicas ready in {} clusters",
            totals.ready_replicas, totals.applied_replicas, totals.clusters
        ),
    );
    let before = previous
        .map(|status| status.conditions.clone())
        .unwrap_or_default();
    let mut conditions = ConditionSet::new(before, generation, now);
    match failure.as_ref().or(open.as_ref()) {
        Some(reason) => conditions.ready(false, reason),
        None => conditions.ready(true, &summary),
    };
    match &open {
        // Nothing is being done about it.
        Some(reason)
            if [MemberReason::Suspended, MemberReason::Differs("")]
                .iter()
                .any(|idle| idle.as_str() == reason.token) =>
        {
            conditions.progressing(false, reason)
        }
        Some(reason) => conditions.progressing(true, reason),
        None => conditions.progressing(false, &Said::new("Settled", summary.message)),
    };
    match &failure {
        Some(reason) => conditions.degraded(true, reason),
        None => conditions.degraded(false, &Said::new("AsPlanned", "every cluster does as planned")),
    };
    match planned
        .notes
        .iter()
        .find(|note| matches!(note, Note::TotalChanged { .. }))
    {
        Some(note) => conditions.set(TOTAL_KEPT, false, &Said::new(note.token(), note.to_string())),
        None if totals.desired_replicas > 0 => {
            let kept = Said::new(
                "AsPlanned",
                "overrides leave the planned number of replicas as it is",
            );
            conditions.set(TOTAL_KEPT, true, &kept)
        }
        None => conditions.remove(TOTAL_KEPT),
    };
    match planned
        .notes
        .iter()
        .find(|note| matches!(note, Note::FailoverHeld { .. }))
    {
        Some(note) => conditions.set(FAILOVER_HELD, true, &Said::new(note.token(), note.to_string())),
        None => conditions.remove(FAILOVER_HELD),
    };
    let state = |note: &&Note| {
        matches!(
            note,
            Note::StateUnfit { .. } | Note::TooMuchState { .. } | Note::StateNotCarried { .. }
        )
    };
    match planned.notes.iter().find(state) {
        Some(note) => conditions.set(STATE_CARRIED, false, &Said::new(note.token(), note.to_string())),
        None => conditions.remove(STATE_CARRIED),
    };
    let missing = |note: &&Note| matches!(note, Note::DependencyMissing { .. });
    let mut absent = planned.notes.iter().filter(missing);
    match absent.next() {
        Some(first) => {
            let message = match absent.count() {
                0 => first.to_string(),
                more => format!("{first} (and {more} more)"),
            };
            conditions.set(DEPENDENCIES_FOUND, false, &Said::new(first.token(), message))
        }
        None if planned.dependencies().is_empty() => conditions.remove(DEPENDENCIES_FOUND),
        None => {
            let found = Said::new("AsPlanned", "everything that is referred to goes along");
            conditions.set(DEPENDENCIES_FOUND, true, &found)
        }
    };
    conditions.into_vec()
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
