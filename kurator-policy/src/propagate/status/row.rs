//! How one cluster is doing, and all of them together.

use std::cmp::Reverse;

use kurator_core::names::ClusterName;
use serde_json::Value;

use super::{MAX_MESSAGE, MemberObserved, ObjectObserved, Trouble, cut};
use crate::{
    api::{ClusterDistribution, DistributionTotals, ObjectState},
    propagate::{MemberReason, Note, ObjectHealth, ObjectKey, Planned, Rendered, revision},
};

/// The most objects that all [`ClusterDistribution::objects`] of a status hold together.
pub const MAX_OBJECTS: usize = 500;

/// The longest message of one of these, in bytes.
const MAX_OBJECT_MESSAGE: usize = 256;

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
pub(super) fn share_room(rows: &mut [Row]) {
    let with_objects = rows.iter().filter(|row| !row.entry.objects.is_empty()).count();
    let share = MAX_OBJECTS / with_objects.max(1);
    for row in rows {
        row.entry.objects.truncate(share);
    }
}

pub(super) struct Row {
    pub(super) entry: ClusterDistribution,
    pub(super) reason: MemberReason,
}

impl Row {
    pub(super) fn unknown(cluster: &str, note: &Note) -> Self {
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
    pub(super) fn former(before: &ClusterDistribution) -> Option<Self> {
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
pub(super) fn held_something(entry: &ClusterDistribution) -> bool {
    entry.reason != MemberReason::UnknownCluster.as_str() || entry.applied_objects > 0
}

pub(super) fn row(
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
            entry.revision = Some(revision(&all));
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

pub(super) fn totals(planned: &Planned, rows: &[Row]) -> DistributionTotals {
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
