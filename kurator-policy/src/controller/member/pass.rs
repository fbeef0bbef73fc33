//! From the report of one pass over a member to what is known of the policy there.

use std::{collections::BTreeMap, time::Duration};

use kurator_core::{
    apply::{ApplyFailure, ApplyReport, MAX_DIFFERENCES, ObjectOutcome, Pruning, Refusal, Removal},
    names::NamespacedName,
};

use super::{desk::Assignment, glance::Glance, worker::Tools};
use crate::propagate::{CRD, MemberObserved, MemberReason, ObjectKey, ObjectObserved, Trouble};

/// The policy's own names of the objects of its set.
pub(super) struct Names<'a>(BTreeMap<(&'a str, &'a str, &'a NamespacedName), &'a ObjectKey>);

impl<'a> Names<'a> {
    pub(super) fn of(assignment: &'a Assignment) -> Self {
        let keys = assignment.revisions.keys();
        let entries = keys.map(|key| {
            (
                (key.kind.group_version().0, key.kind.kind.as_str(), &key.name),
                key,
            )
        });
        Self(entries.collect())
    }

    pub(super) fn find(&self, object: &'a kurator_core::apply::ObjectKey) -> Option<&'a ObjectKey> {
        let name = (object.group.as_str(), object.kind.as_str(), &object.object);
        self.0.get(&name).copied()
    }
}

/// What is known after a pass, given what was known before.
pub(super) fn observed(
    before: &MemberObserved,
    assignment: &Assignment,
    report: &ApplyReport,
    tools: &Tools,
) -> MemberObserved {
    let mut after = MemberObserved::default();
    let names = Names::of(assignment);
    for entry in &report.objects {
        let Some(key) = names.find(&entry.object) else {
            continue;
        };
        let Some(wanted) = assignment.revisions.get(key) else {
            continue;
        };
        let mut object = before.objects.get(key).cloned().unwrap_or_default();
        if let Some(live) = &entry.live {
            Glance::at(tools, assignment.set.owner().uid(), &key.kind, live).tell(&mut object);
        }
        object.differs = differs(&entry.outcome);
        match trouble(&entry.outcome) {
            _ if assignment.shared && is_there_anyway(assignment, key, &entry.outcome) => {
                object.trouble = None
            }
            None => {
                // What an autoscaler there has set instead is what it is to run.
                let told = entry.live.as_ref().filter(|_| wanted.replicas.is_some());
                let told = told.and_then(|live| tools.interpreter.replicas(&key.kind, &live.data));
                object.applied = told.or(wanted.replicas);
                object.revision = Some(wanted.revision.clone());
                object.trouble = None;
            }
            Some(trouble) => {
                if matches!(entry.outcome, ObjectOutcome::Refused { .. }) {
                    // What runs there is not ours.
                    object = ObjectObserved::default();
                }
                object.trouble = Some(trouble);
            }
        }
        object.tried = Some(wanted.revision.clone());
        after.objects.insert(key.clone(), object);
    }
    match &report.pruning {
        Pruning::Done { removals } => {
            after.complete = removals.iter().all(|entry| entry.removal == Removal::Removed);
            for entry in removals {
                let trouble = match &entry.removal {
                    Removal::Removed => continue,
                    Removal::WouldRemove => {
                        Trouble::new(MemberReason::Differs("WouldRemove"), "would be removed")
                    }
                    Removal::Failed { failure } => Trouble::new(
                        MemberReason::Object(failure.reason()),
                        format!("not removed: {failure}"),
                    ),
                    _ => Trouble::new(MemberReason::Removing, "is being deleted"),
                };
                let kind = assignment.kinds.iter().find(|kind| {
                    kind.kind == entry.object.kind && kind.group_version().0 == entry.object.group
                });
                let api_version = kind.map(|kind| kind.api_version.clone()).unwrap_or_default();
                let object = &entry.object.object;
                let key = ObjectKey::new(api_version, &entry.object.kind, &object.namespace, &object.name);
                after.leaving.insert(key, trouble);
            }
        }
        Pruning::ScopeUnknown { failure } => {
            after.blocked = Some(Trouble::new(
                MemberReason::Object(failure.reason()),
                failure.to_string(),
            ));
        }
        _ => {}
    }
    after
}

/// Whether what others refer to is there by the word of another policy, or is a definition, which all may use.
fn is_there_anyway(assignment: &Assignment, key: &ObjectKey, outcome: &ObjectOutcome) -> bool {
    match outcome {
        ObjectOutcome::Refused {
            refusal: Refusal::ClaimedByOther { hub, .. },
        } if hub == assignment.set.owner().hub() => true,
        ObjectOutcome::Refused { .. } => key.kind.kind == CRD.1,
        _ => false,
    }
}

/// How long a busy member asked to be left alone.
pub(super) fn asked_to_wait(report: &ApplyReport) -> Duration {
    let seconds = report.objects.iter().filter_map(|entry| match &entry.outcome {
        ObjectOutcome::Failed {
            failure: ApplyFailure::Throttled { retry_after_seconds },
        } => Some(*retry_after_seconds),
        _ => None,
    });
    Duration::from_secs(seconds.max().unwrap_or(0).into())
}

/// The fields that would change, or that another manager has applied otherwise.
fn differs(outcome: &ObjectOutcome) -> Vec<String> {
    match outcome {
        ObjectOutcome::WouldUpdate { fields, .. } => fields.clone(),
        ObjectOutcome::Conflict { conflicts } => {
            let fields = conflicts.iter().take(MAX_DIFFERENCES);
            fields.map(|conflict| conflict.field.clone()).collect()
        }
        _ => Vec::new(),
    }
}

fn trouble(outcome: &ObjectOutcome) -> Option<Trouble> {
    if outcome.is_in_place() {
        return None;
    }
    let reason = match outcome {
        ObjectOutcome::Failed { failure } if failure.concerns_member() => {
            MemberReason::Cluster(failure.reason())
        }
        ObjectOutcome::WouldCreate | ObjectOutcome::WouldUpdate { .. } => {
            MemberReason::Differs(outcome.reason())
        }
        _ => MemberReason::Object(outcome.reason()),
    };
    Some(Trouble::new(reason, outcome.to_string()))
}
