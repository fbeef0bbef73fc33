//! What the conditions of a policy say.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kurator_core::{
    condition::ConditionSet,
    reason::{Reason as _, Said},
};

use super::{MAX_MESSAGE, cut, row::Row};
use crate::{
    api::{DistributionPolicyStatus, DistributionTotals},
    propagate::{MemberReason, Note, Planned, Severity},
};

/// Whether overrides leave the number of replicas that was divided as it is.
pub const TOTAL_KEPT: &str = "TotalKept";

/// Whether everything that the objects refer to is on the hub and can go along.
pub const DEPENDENCIES_FOUND: &str = "DependenciesFound";

/// Type of the condition that says that most clusters are ill at once and nothing fails over for that.
pub const FAILOVER_HELD: &str = "FailoverHeld";

/// Whether what copies say of their state can be carried along when they fail over; there only while it cannot.
pub const STATE_CARRIED: &str = "StateCarried";

/// A condition's reason and message, no longer than a status has room for.
pub(super) fn said(token: &'static str, message: impl Into<String>) -> Said {
    Said::new(token, cut(message.into(), MAX_MESSAGE))
}

pub(super) fn conditions(
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
        Some(said(
            row.reason.as_str(),
            format!("{}: {}", row.entry.cluster, row.entry.message),
        ))
    };
    let failed_note = planned
        .notes
        .iter()
        .find(|note| note.severity() == Severity::Failure);
    let failure = failed_note
        .map(|note| said(note.token(), note.to_string()))
        .or_else(|| worst(MemberReason::is_failure));
    let open = worst(|reason| !reason.is_failure() && reason != MemberReason::Applied);
    let summary = said(
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
        None => conditions.progressing(false, &said("Settled", summary.message)),
    };
    match &failure {
        Some(reason) => conditions.degraded(true, reason),
        None => conditions.degraded(false, &said("AsPlanned", "every cluster does as planned")),
    };
    match planned
        .notes
        .iter()
        .find(|note| matches!(note, Note::TotalChanged { .. }))
    {
        Some(note) => conditions.set(TOTAL_KEPT, false, &said(note.token(), note.to_string())),
        None if totals.desired_replicas > 0 => {
            let kept = said(
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
        Some(note) => conditions.set(FAILOVER_HELD, true, &said(note.token(), note.to_string())),
        None => conditions.remove(FAILOVER_HELD),
    };
    let state = |note: &&Note| {
        matches!(
            note,
            Note::StateUnfit { .. } | Note::TooMuchState { .. } | Note::StateNotCarried { .. }
        )
    };
    match planned.notes.iter().find(state) {
        Some(note) => conditions.set(STATE_CARRIED, false, &said(note.token(), note.to_string())),
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
            conditions.set(DEPENDENCIES_FOUND, false, &said(first.token(), message))
        }
        None if planned.dependencies().is_empty() => conditions.remove(DEPENDENCIES_FOUND),
        None => {
            let found = said("AsPlanned", "everything that is referred to goes along");
            conditions.set(DEPENDENCIES_FOUND, true, &found)
        }
    };
    conditions.into_vec()
}
