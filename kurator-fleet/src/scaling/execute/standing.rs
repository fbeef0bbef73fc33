//! How far a drain is, while it runs.

use std::{collections::BTreeSet, fmt};

use jiff::{SignedDuration, Timestamp};
use kurator_core::reason::Reason;
use serde::Serialize;

/// How far a drain is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DrainStanding {
    /// The plan, as the nodes name it.
    pub plan: String,
    /// Nodes that are still to go.
    pub nodes: BTreeSet<String>,
    /// The wave that is being drained, from 1.
    pub wave: u32,
    /// Waves, with those that are done.
    pub waves: u32,
    /// Pods that have moved.
    pub pods_moved: u32,
    /// Pods that move in all.
    pub pods_to_move: u32,
    /// When it is expected to end: by the plan's estimate at first, then by the pace so far.
    pub expected_end: Option<Timestamp>,
    /// What it waits for, if not for pods to end.
    pub waiting: Option<Waiting>,
}

/// What a drain waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Waiting {
    /// Too many nodes are not Ready; nothing is evicted until that is better.
    ClusterUnhealthy {
        /// Nodes that are not Ready.
        unready: u32,
        /// Nodes that count.
        total: u32,
    },
    /// No disruption is wanted at this time.
    WindowClosed {
        /// When evictions go on, if ever.
        until: Option<Timestamp>,
    },
    /// Pods that were evicted have no Ready replacement yet.
    Replacements {
        /// Controllers with fewer Ready pods than before.
        controllers: usize,
    },
    /// Volumes are still attached to empty nodes.
    VolumesAttached,
}

impl Reason for Waiting {
    fn token(&self) -> &'static str {
        match self {
            Self::ClusterUnhealthy { .. } => "ClusterUnhealthy",
            Self::WindowClosed { .. } => "WindowClosed",
            Self::Replacements { .. } => "ReplacementsNotReady",
            Self::VolumesAttached => "VolumesAttached",
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterUnhealthy { unready, total } => {
                write!(
                    f,
                    "{unready} of {total} nodes are not Ready; nothing is evicted until that is better"
                )
            }
            Self::WindowClosed { until: Some(until) } => {
                write!(f, "no disruption is wanted now; evictions go on at {until}")
            }
            Self::WindowClosed { until: None } => f.write_str("no disruption is wanted, at no time"),
            Self::Replacements { controllers } => {
                write!(
                    f,
                    "replacements of evicted pods of {controllers} controllers are not Ready"
                )
            }
            Self::VolumesAttached => f.write_str("volumes are still attached to empty nodes"),
        }
    }
}

/// The end, by the pace so far; before the first pod has moved, by the estimate.
pub(super) fn expected_end(
    began: Option<Timestamp>,
    now: Timestamp,
    estimate: u64,
    moved: u32,
    left: u32,
) -> Option<Timestamp> {
    let began = began?;
    if left == 0 {
        return Some(now);
    }
    if moved == 0 {
        let estimate = i64::try_from(estimate).unwrap_or(i64::MAX);
        let end = began.saturating_add(SignedDuration::from_secs(estimate)).ok()?;
        return Some(end.max(now));
    }
    let elapsed = now.duration_since(began).as_secs().max(0);
    let rest = i128::from(elapsed) * i128::from(left) / i128::from(moved);
    let rest = i64::try_from(rest).unwrap_or(i64::MAX);
    now.saturating_add(SignedDuration::from_secs(rest)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn the_end_is_the_estimate_first_and_then_follows_the_pace() {
        assert_eq!(expected_end(Some(at(0)), at(5), 60, 0, 30), Some(at(60)));
        // Ten pods in 20 seconds, 30 to go.
        assert_eq!(expected_end(Some(at(0)), at(20), 60, 10, 30), Some(at(80)));
        assert_eq!(expected_end(Some(at(0)), at(90), 60, 40, 0), Some(at(90)));
        // Late with nothing done: not in the past.
        assert_eq!(expected_end(Some(at(0)), at(100), 60, 0, 30), Some(at(100)));
        assert_eq!(expected_end(None, at(5), 60, 0, 30), None);
    }
}
