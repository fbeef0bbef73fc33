//! What a drain did.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kurator_core::connect::ConnectError;
use serde::Serialize;

use super::InfrastructureError;

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
    /// Nodes somebody uncordoned meanwhile; they are left alone.
    pub withdrawn: BTreeSet<String>,
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

impl DrainError {
    pub(super) fn api(action: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api {
            action,
            source: Box::new(source),
        }
    }
}
