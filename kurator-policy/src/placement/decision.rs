//! What the pass decides about one workload.

use std::fmt;

use kurator_core::names::ClusterName;
use kurator_core::reason::Reason;
use kurator_core::report::Report;
use serde::{Deserialize, Serialize};

use super::reason::{ClusterReason, Unplaced};

/// Where a workload is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Placed {
    /// The clusters by name, each with its replicas; 0 for an object that has none.
    pub clusters: Vec<(ClusterName, u32)>,
    /// The affinity group they were chosen from, if the policy has groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// Replicas that found no place, where the policy allows to place a part.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: u32,
    /// Replicas that are still to move in later passes, where the policy rebalances.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub moving: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Placed {
    /// The replicas in all clusters together.
    pub fn replicas(&self) -> u64 {
        self.clusters
            .iter()
            .map(|(_, replicas)| u64::from(*replicas))
            .sum()
    }

    /// The replicas in one cluster, 0 if it is not among them.
    pub fn replicas_in(&self, cluster: &str) -> u32 {
        let found = self.clusters.iter().find(|(name, _)| name.as_str() == cluster);
        found.map_or(0, |(_, replicas)| *replicas)
    }
}

/// What was decided about one workload, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a decision places nothing until it is carried out"]
#[non_exhaustive]
pub struct Decision {
    /// Where it is to run, or why it stays as it is.
    pub outcome: Result<Placed, Unplaced>,
    /// What became of each cluster, step by step; empty with [`Detail::Decision`](super::Detail::Decision).
    pub reasons: Report<ClusterName, ClusterReason>,
}

/// `cluster=replicas` by name, and what is special about it.
impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (cluster, replicas)) in self.clusters.iter().enumerate() {
            write!(f, "{}{cluster}={replicas}", if index == 0 { "" } else { " " })?;
        }
        if let Some(affinity) = &self.affinity {
            write!(f, " (affinity group {affinity})")?;
        }
        if self.missing > 0 {
            write!(f, ", {} find no room", self.missing)?;
        }
        if self.moving > 0 {
            write!(f, ", {} still to move", self.moving)?;
        }
        Ok(())
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(placed) => writeln!(f, "placed: {placed}")?,
            Err(unplaced) => writeln!(f, "not placed: {}: {unplaced}", unplaced.token())?,
        }
        self.reasons.fmt(f)
    }
}
