//! What a drain did.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use kurator_core::{connect::ConnectError, reason::Reason};
use serde::Serialize;

use super::InfrastructureError;
use crate::scaling::Blocker;

/// How a drain ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum DrainOutcome {
    /// Every node of the plan that nobody took back is gone.
    Completed,
    /// It was told to stop; what had not been drained is as it was before.
    Cancelled,
    /// A node was not empty by its deadline; what had not been drained is as it was before.
    DeadlineExceeded {
        /// The nodes.
        nodes: BTreeSet<String>,
    },
    /// Replacements of evicted pods did not become Ready in time; what had not been drained is as it was before.
    ReplacementsNotReady {
        /// UIDs of their controllers.
        controllers: BTreeSet<String>,
    },
}

impl Reason for DrainOutcome {
    fn token(&self) -> &'static str {
        match self {
            Self::Completed => "DrainCompleted",
            Self::Cancelled => "DrainCancelled",
            Self::DeadlineExceeded { .. } => "DrainDeadlineExceeded",
            Self::ReplacementsNotReady { .. } => "ReplacementsNotReady",
        }
    }
}

impl fmt::Display for DrainOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("the plan is carried out"),
            Self::Cancelled => {
                f.write_str("the drain was called off, and what had not been drained is as it was")
            }
            Self::DeadlineExceeded { nodes } => {
                f.write_str("nodes were not empty by their deadline:")?;
                nodes.iter().try_for_each(|node| write!(f, " {node}"))
            }
            Self::ReplacementsNotReady { controllers } => write!(
                f,
                "replacements of evicted pods of {} controllers did not become Ready; look at their pods",
                controllers.len()
            ),
        }
    }
}

/// Why a node left the plan and stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Left {
    /// It was not empty by its deadline.
    Deadline {
        /// Pods that were left, by namespace and name.
        pods: BTreeSet<String>,
    },
    /// It is an edge node out of reach: its pods are presumed running.
    EdgeDisconnected,
    /// Planned again, it can no longer go.
    NoLongerPossible {
        /// What keeps it now.
        blockers: Vec<Blocker>,
    },
    /// Its kubelet does not answer, so nobody would see its pods end.
    NodeNotReady {
        /// Since when.
        since: Timestamp,
    },
    /// Somebody uncordoned it, or took its mark.
    TakenBack,
}

impl Reason for Left {
    fn token(&self) -> &'static str {
        match self {
            Self::Deadline { .. } => "DrainDeadlineExceeded",
            Self::EdgeDisconnected => "EdgeDisconnected",
            Self::NoLongerPossible { blockers } => blockers.first().map_or("NoLongerPossible", Reason::token),
            Self::NodeNotReady { .. } => "NodeNotReady",
            Self::TakenBack => "TakenBack",
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline { pods } => {
                f.write_str("it was not empty by its deadline; left are")?;
                pods.iter().try_for_each(|pod| write!(f, " {pod}"))
            }
            Self::EdgeDisconnected => {
                f.write_str("it is an edge node out of reach; its pods are presumed running")
            }
            Self::NoLongerPossible { blockers } => {
                let parts: Vec<String> = blockers
                    .iter()
                    .map(|blocker| format!("{blocker} (remedy: {})", blocker.remedy()))
                    .collect();
                f.write_str(&parts.join("; "))
            }
            Self::NodeNotReady { since } => write!(f, "it is not Ready since {since}; repair it"),
            Self::TakenBack => f.write_str("somebody uncordoned it or took its mark"),
        }
    }
}

/// What a drain did, in numbers and names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[must_use]
#[non_exhaustive]
pub struct DrainReport {
    /// The plan.
    pub plan: String,
    /// How it ended.
    pub outcome: DrainOutcome,
    /// Nodes that are gone.
    pub removed: BTreeSet<String>,
    /// Nodes from which the executor took its mark, and its cordon if that was its own.
    pub rolled_back: BTreeSet<String>,
    /// Nodes that left the plan while the others went on, and why.
    pub left: BTreeMap<String, Left>,
    /// How often the rest was planned again because the cluster had changed.
    pub replans: u32,
    /// Evictions the server granted.
    pub evicted: u32,
    /// Evictions the server refused because of a budget.
    pub refused: u32,
    /// Pods deleted past their budget because a deadline was over.
    pub forced: u32,
    /// Why pods could not be evicted, by namespace and name, as last heard.
    pub stuck: BTreeMap<String, String>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

impl DrainReport {
    pub(super) fn new(plan: &str, now: Timestamp) -> Self {
        Self {
            plan: plan.to_owned(),
            outcome: DrainOutcome::Completed,
            removed: BTreeSet::new(),
            rolled_back: BTreeSet::new(),
            left: BTreeMap::new(),
            replans: 0,
            evicted: 0,
            refused: 0,
            forced: 0,
            stuck: BTreeMap::new(),
            started: now,
            finished: now,
        }
    }
}

/// Why a drain could not go on. What has been marked stays marked: run or resume again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// The API server refused or could not be reached.
    #[error("could not {action}")]
    Api {
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// No client of the cluster.
    #[error("no client of the cluster")]
    Connect(#[source] Box<ConnectError>),
    /// A machine could not be removed.
    #[error("an empty node could not be removed")]
    Infrastructure(#[source] Box<InfrastructureError>),
    /// Another plan is under way on the nodes.
    #[error("plan {found} is under way on this cluster; resume it or roll it back before running {wanted}")]
    OtherPlan {
        /// The plan the nodes are marked with.
        found: String,
        /// The plan to be run.
        wanted: String,
    },
}

impl Reason for DrainError {
    fn token(&self) -> &'static str {
        match self {
            Self::Api { .. } => "ApiFailed",
            Self::Connect(_) => "Unreachable",
            Self::Infrastructure(_) => "InfrastructureFailed",
            Self::OtherPlan { .. } => "OtherPlan",
        }
    }
}

impl DrainError {
    pub(super) fn api(action: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api {
            action,
            source: Box::new(source),
        }
    }
}
