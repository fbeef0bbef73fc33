use std::fmt;

use jiff::Timestamp;
use kurator_core::reason::Reason;
use serde::{Deserialize, Serialize};

use super::disruption::Disruption;

/// Why a workload leaves a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Cause {
    /// The cluster has a taint that the workload does not tolerate, or not any longer.
    Tainted {
        /// The taint, as `kubectl` writes it.
        taint: String,
    },
    /// It has been unhealthy there for too long.
    Unhealthy {
        /// Since when.
        since: Timestamp,
    },
    /// Its edge nodes have been cut off for longer than it can wait.
    EdgeLost {
        /// Since when.
        since: Timestamp,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tainted { taint } => write!(f, "the cluster has the taint {taint}"),
            Self::Unhealthy { since } => write!(f, "it has been unhealthy there since {since}"),
            Self::EdgeLost { since } => write!(f, "its edge nodes have been cut off since {since}"),
        }
    }
}

/// What becomes of a workload in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailoverReason {
    /// It stays.
    Stays,
    /// It would leave, and is tolerated until then.
    Tolerated {
        /// Why it would leave.
        cause: Cause,
        /// Until when.
        until: Timestamp,
    },
    /// A taint is tolerated for some seconds, and nobody knows since when it is there.
    TaintWithoutTime {
        /// The taint.
        taint: String,
    },
    /// It is due, and others are due before it.
    Paced {
        /// Why it leaves.
        cause: Cause,
        /// When its turn comes at the earliest.
        until: Timestamp,
    },
    /// It would leave, and so many clusters are ill at once that it is more likely us who are cut off.
    HeldInDisruption {
        /// Why it would leave.
        cause: Cause,
        /// How many are ill.
        disruption: Disruption,
    },
    /// It leaves.
    Leaves {
        /// Why.
        cause: Cause,
    },
    /// It is kept there until what replaces it is ready.
    KeptUntilReplaced {
        /// Replicas that are ready elsewhere.
        ready: u32,
        /// Replicas that are wanted.
        wanted: u32,
        /// When it is taken out in any case.
        until: Timestamp,
    },
    /// It is kept there until the user releases it.
    KeptUntilReleased,
    /// It runs on edge nodes that cannot be reached; what would be deleted there is deferred until they can.
    Deferred {
        /// Replicas that are presumed to run.
        presumed: u32,
    },
    /// It has left, and may return when the cluster has been well for long enough.
    MayNotReturn {
        /// When, if the cluster is well and stays so.
        until: Option<Timestamp>,
    },
    /// It may return.
    MayReturn,
}

impl Reason for FailoverReason {
    fn token(&self) -> &'static str {
        match self {
            Self::Stays => "Stays",
            Self::Tolerated { .. } => "Tolerated",
            Self::TaintWithoutTime { .. } => "TaintWithoutTime",
            Self::Paced { .. } => "EvictionPaced",
            Self::HeldInDisruption { .. } => "FleetDisrupted",
            Self::Leaves { .. } => "Evicted",
            Self::KeptUntilReplaced { .. } => "KeptUntilReplaced",
            Self::KeptUntilReleased => "KeptUntilReleased",
            Self::Deferred { .. } => "DeferredAtEdge",
            Self::MayNotReturn { .. } => "MayNotReturn",
            Self::MayReturn => "MayReturn",
        }
    }
}

impl fmt::Display for FailoverReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stays => f.write_str("it stays"),
            Self::Tolerated { cause, until } => write!(f, "{cause}; tolerated until {until}"),
            Self::TaintWithoutTime { taint } => write!(
                f,
                "taint {taint} is tolerated for a time and has no timeAdded; set it, or nothing will ever leave"
            ),
            Self::Paced { cause, until } => write!(f, "{cause}; others leave first, its turn is at {until}"),
            Self::HeldInDisruption { cause, disruption } => write!(
                f,
                "{cause}, and {disruption}; it stays, as it may be us who are cut off: taint the cluster if it is lost"
            ),
            Self::Leaves { cause } => write!(f, "it leaves: {cause}"),
            Self::KeptUntilReplaced { ready, wanted, until } => write!(
                f,
                "{ready} of {wanted} replicas are ready elsewhere; it is kept until they all are, or until {until}"
            ),
            Self::KeptUntilReleased => f.write_str("it is kept until it is released"),
            Self::Deferred { presumed } => write!(
                f,
                "{presumed} replicas are presumed to run on nodes that cannot be reached; they are taken out when those are back"
            ),
            Self::MayNotReturn { until: Some(until) } => {
                write!(f, "it may return at {until} if the cluster stays well")
            }
            Self::MayNotReturn { until: None } => {
                f.write_str("it may return when the cluster has been well for a while")
            }
            Self::MayReturn => f.write_str("it may return"),
        }
    }
}
