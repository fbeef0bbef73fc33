//! From the report of one pass over a member to what is known of the policy there.

use kurator_core::apply::{ApplyReport, ObjectOutcome, Pruning, Refusal, Removal};

use kube::api::DynamicObject;
use serde_json::json;

use super::desk::Assignment;
use crate::propagate::{
    CRD, MemberObserved, MemberReason, ObjectHealth, ObjectKey, ObjectKind, ObjectObserved,
    ResourceInterpreter, Trouble,
};

/// The policy's own name of an object of its set.
fn find<'a>(assignment: &'a Assignment, object: &kurator_core::apply::ObjectKey) -> Option<&'a ObjectKey> {
    assignment.revisions.keys().find(|key| same(key, object))
}

pub(super) fn same(key: &ObjectKey, object: &kurator_core::apply::ObjectKey) -> bool {
    key.kind.kind == object.kind && key.name == object.object && key.kind.group_version().0 == object.group
}

/// What is known after a pass, given what was known before.
pub(super) fn observed(
    before: &MemberObserved,
    assignment: &Assignment,
    report: &ApplyReport,
    interpreter: &dyn ResourceInterpreter,
) -> MemberObserved {
    let mut after = MemberObserved::default();
    for entry in &report.objects {
        let Some(key) = find(assignment, &entry.object) else {
            continue;
        };
        let Some(wanted) = assignment.revisions.get(key) else {
            continue;
        };
        let mut object = before.objects.get(key).cloned().unwrap_or_default();
        if let Some(live) = &entry.live {
            object.ready = interpreter.ready_replicas(&key.kind, &live.data);
            object.created = interpreter.created_replicas(&key.kind, &live.data);
            object.health = Some(health(interpreter, &key.kind, live));
        }
        match trouble(&entry.outcome) {
            _ if assignment.shared && is_there_anyway(assignment, key, &entry.outcome) => {
                object.trouble = None
            }
            None => {
                object.applied = wanted.replicas;
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

/// How an object of a member is doing.
pub(super) fn health(
    interpreter: &dyn ResourceInterpreter,
    kind: &ObjectKind,
    object: &DynamicObject,
) -> ObjectHealth {
    let mut value = object.data.clone();
    if let (Some(fields), Some(generation)) = (value.as_object_mut(), object.metadata.generation) {
        // All that health looks at of the metadata: whether the last change was seen.
        fields.insert("metadata".to_owned(), json!({ "generation": generation }));
    }
    interpreter.health(kind, &value)
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

fn trouble(outcome: &ObjectOutcome) -> Option<Trouble> {
    if outcome.is_in_place() {
        return None;
    }
    let reason = match outcome {
        ObjectOutcome::Failed { failure } if failure.concerns_member() => {
            MemberReason::Cluster(failure.reason())
        }
        _ => MemberReason::Object(outcome.reason()),
    };
    Some(Trouble::new(reason, outcome.to_string()))
}
