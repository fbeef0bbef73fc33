//! How far a member has come with what it was told to hold.

use super::desk::Assignment;
use crate::{
    api::RolloutPhase,
    propagate::{MemberObserved, ObjectHealth, ObjectObserved},
};

/// Refusals that waiting does not cure.
const FOR_GOOD: [&str; 5] = [
    "AdmissionDenied",
    "FieldImmutable",
    "FieldConflict",
    "Invalid",
    "TooLarge",
];

/// How far a member is; `None` while that cannot be told.
pub(super) fn phase(assignment: &Assignment, seen: &MemberObserved) -> Option<RolloutPhase> {
    if assignment.refused {
        return Some(RolloutPhase::Failed);
    }
    if seen.blocked.is_some() || (seen.objects.is_empty() && !seen.complete) {
        return None;
    }
    let phases = assignment
        .revisions
        .iter()
        .map(|(key, wanted)| match seen.objects.get(key) {
            Some(object) if object.tried.as_deref() == Some(wanted.revision.as_str()) => of(object),
            _ => RolloutPhase::Updating,
        });
    let leaving = (!seen.leaving.is_empty()).then_some(RolloutPhase::Updating);
    let worst = phases.chain(leaving).max_by_key(|phase| match phase {
        RolloutPhase::Healthy => 0,
        RolloutPhase::Updating => 1,
        RolloutPhase::Failed => 2,
    });
    Some(worst.unwrap_or(RolloutPhase::Healthy))
}

fn of(object: &ObjectObserved) -> RolloutPhase {
    let short = object.ready.unwrap_or(u32::MAX) < object.applied.unwrap_or(0);
    match (&object.trouble, &object.health) {
        (Some(trouble), _) if FOR_GOOD.contains(&trouble.reason.as_str()) => RolloutPhase::Failed,
        (None, Some(ObjectHealth::Unhealthy { .. })) => RolloutPhase::Failed,
        (Some(_), _) | (None, Some(ObjectHealth::Progressing { .. })) => RolloutPhase::Updating,
        _ if short => RolloutPhase::Updating,
        _ => RolloutPhase::Healthy,
    }
}
