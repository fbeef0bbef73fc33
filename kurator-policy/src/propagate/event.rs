//! What is worth an Event: the difference between two statuses.

use std::collections::BTreeMap;

use super::{FAILOVER_HELD, MemberReason, TOTAL_KEPT};
use crate::api::{ClusterDistribution, DistributionPolicyStatus};

/// The most Events one change of a status makes; a fleet that goes down as a whole is one story, not a thousand.
pub const MAX_EVENTS: usize = 10;

/// An Event about a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyEvent {
    /// Whether something is wrong.
    pub warning: bool,
    /// The CamelCase token.
    pub reason: String,
    /// What was done or tried.
    pub action: &'static str,
    /// The same for people.
    pub note: String,
}

impl PolicyEvent {
    /// An Event about a policy.
    pub fn new(
        warning: bool,
        reason: impl Into<String>,
        action: &'static str,
        note: impl Into<String>,
    ) -> Self {
        Self {
            warning,
            reason: reason.into(),
            action,
            note: note.into(),
        }
    }
}

/// The Events that tell how the status got from `before` to `after`.
///
/// A cluster that turns ill, or well again, and a total that overrides break, or leave alone again, are worth one;
/// counts going up are not.
#[must_use]
pub fn events(
    before: Option<&DistributionPolicyStatus>,
    after: &DistributionPolicyStatus,
) -> Vec<PolicyEvent> {
    let mut events = Vec::new();
    let condition = |status: &DistributionPolicyStatus, type_: &str| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_)
            .cloned()
    };
    for (type_, bad) in [
        ("Degraded", "True"),
        (TOTAL_KEPT, "False"),
        (FAILOVER_HELD, "True"),
    ] {
        let old = before.and_then(|status| condition(status, type_));
        let Some(new) = condition(after, type_) else {
            continue;
        };
        let was_bad = old.as_ref().is_some_and(|old| old.status == bad);
        let same = old.as_ref().is_some_and(|old| {
            (&old.status, &old.reason) == (&new.status, &new.reason)
                && (type_ != TOTAL_KEPT || old.message == new.message)
        });
        let is_bad = new.status == bad;
        // Ill clusters speak for themselves below.
        let of_a_cluster = after.clusters.iter().any(|entry| entry.reason == new.reason);
        if same || (!is_bad && !was_bad) || (type_ == "Degraded" && of_a_cluster) {
            continue;
        }
        events.push(PolicyEvent {
            warning: is_bad,
            reason: new.reason,
            action: "Plan",
            note: new.message,
        });
    }
    events.extend(activation(before, after));
    events.extend(rollout(before, after));
    events.extend(failovers(before, after));
    let old: BTreeMap<&str, &ClusterDistribution> = before
        .into_iter()
        .flat_map(|status| &status.clusters)
        .map(|entry| (entry.cluster.as_str(), entry))
        .collect();
    let mut changed: Vec<PolicyEvent> = after
        .clusters
        .iter()
        .filter_map(|entry| {
            let was = old.get(entry.cluster.as_str());
            let was_failing = was.is_some_and(|was| is_failure(&was.reason));
            let failing = is_failure(&entry.reason);
            let new_reason = was.is_none_or(|was| was.reason != entry.reason);
            let recovered = was_failing && !failing;
            let applied = entry.reason == MemberReason::Applied.as_str()
                && was.is_none_or(|was| was.applied_replicas != entry.applied_replicas || was_failing);
            ((failing && new_reason) || recovered || (applied && new_reason)).then(|| PolicyEvent {
                warning: failing,
                reason: entry.reason.clone(),
                action: "Propagate",
                note: format!("{}: {}", entry.cluster, entry.message),
            })
        })
        .collect();
    changed.sort_by_key(|event| !event.warning);
    let room = MAX_EVENTS.saturating_sub(events.len());
    if changed.len() > room {
        let more = changed.len() - room.saturating_sub(1);
        changed.truncate(room.saturating_sub(1));
        changed.push(PolicyEvent {
            warning: changed.iter().any(|event| event.warning),
            reason: "MoreClusters".to_owned(),
            action: "Propagate",
            note: format!("{more} more clusters changed; see the status"),
        });
    }
    events.extend(changed);
    events
}

/// That a changed placement waits for templates to change, and that none does any more.
fn activation(
    before: Option<&DistributionPolicyStatus>,
    after: &DistributionPolicyStatus,
) -> Option<PolicyEvent> {
    let of = |status: &DistributionPolicyStatus| -> usize {
        let waiting = status.activations.iter().filter(|it| it.waiting);
        let kinds = waiting.flat_map(|it| &it.objects);
        kinds.map(|of_kind| of_kind.templates.len()).sum()
    };
    match (before.map_or(0, of), of(after)) {
        (0, objects) if objects > 0 => Some(PolicyEvent::new(
            false,
            "WaitingForTemplate",
            "Plan",
            format!("the changed placement holds for {objects} objects from the next change of each"),
        )),
        (waited, 0) if waited > 0 => Some(PolicyEvent::new(
            false,
            "Activated",
            "Plan",
            "the placement holds for every object",
        )),
        _ => None,
    }
}

/// How a rollout came to stand otherwise.
fn rollout(
    before: Option<&DistributionPolicyStatus>,
    after: &DistributionPolicyStatus,
) -> Option<PolicyEvent> {
    let now = after.rollout.as_ref()?;
    let was = before.and_then(|status| status.rollout.as_ref());
    let same = was.is_some_and(|was| (&was.revision, &was.reason) == (&now.revision, &now.reason));
    let warning = matches!(
        now.reason.as_str(),
        "RolloutHalted" | "RolloutRollingBack" | "RolloutRolledBack"
    );
    (!same).then(|| PolicyEvent::new(warning, &now.reason, "Rollout", &now.message))
}

/// What left a cluster, and what may return; by cluster, because a cluster that is lost is one story.
fn failovers(
    before: Option<&DistributionPolicyStatus>,
    after: &DistributionPolicyStatus,
) -> Vec<PolicyEvent> {
    let of = |status: &DistributionPolicyStatus| -> BTreeMap<String, BTreeMap<String, String>> {
        let mut clusters: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for it in status.failovers.iter().filter(|it| it.kind != "*") {
            let objects = clusters.entry(it.cluster.clone()).or_default();
            objects.insert(
                format!("{} {}", it.kind, it.name),
                format!("{:?} {}", it.cause, it.detail),
            );
        }
        clusters
    };
    let (old, new) = (before.map(of).unwrap_or_default(), of(after));
    let nothing = BTreeMap::new();
    let mut events = Vec::new();
    for (cluster, objects) in &new {
        let known = old.get(cluster).unwrap_or(&nothing);
        let mut fresh = objects.iter().filter(|(object, _)| !known.contains_key(*object));
        if let Some((object, cause)) = fresh.next() {
            let note = match fresh.count() {
                0 => format!("{object} leaves {cluster}: {cause}"),
                more => format!("{object} and {more} more leave {cluster}: {cause}"),
            };
            events.push(PolicyEvent::new(true, "Evicted", "Failover", note));
        }
    }
    for (cluster, objects) in &old {
        let left = new.get(cluster).unwrap_or(&nothing);
        let returning = objects
            .keys()
            .filter(|object| !left.contains_key(*object))
            .count();
        if returning > 0 {
            let note = format!("{returning} objects may be placed in {cluster} again");
            events.push(PolicyEvent::new(false, "MayReturn", "Failover", note));
        }
    }
    events.truncate(MAX_EVENTS / 2);
    events
}

fn is_failure(reason: &str) -> bool {
    MemberReason::is_failure_token(reason)
}
