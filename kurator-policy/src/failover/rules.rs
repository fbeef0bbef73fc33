use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::edge::LostEdge;

/// How one workload fails over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailoverRules {
    /// How it is taken out of a cluster that is tainted. Gracefully by default.
    pub cluster_purge: Purge,
    /// Whether it leaves a cluster in which it is not healthy. It does not by default.
    pub application: bool,
    /// How long it may be unhealthy before it leaves. 5 minutes by default.
    pub tolerate_unhealthy: SignedDuration,
    /// How it is taken out of a cluster in which it is not healthy. Gracefully by default.
    pub application_purge: Purge,
    /// How long replacements may take before it is taken out although they are not ready. 10 minutes by default.
    pub grace: SignedDuration,
    /// How long a cluster must have been well before the workload returns. 10 minutes by default.
    pub fail_back_window: SignedDuration,
    /// What becomes of replicas on edge nodes that are cut off. They are waited for by default.
    pub lost_edge: LostEdge,
}

impl Default for FailoverRules {
    fn default() -> Self {
        Self {
            cluster_purge: Purge::Gracefully,
            application: false,
            tolerate_unhealthy: SignedDuration::from_mins(5),
            application_purge: Purge::Gracefully,
            grace: SignedDuration::from_mins(10),
            fail_back_window: SignedDuration::from_mins(10),
            lost_edge: LostEdge::Wait,
        }
    }
}

/// How a workload is taken out of the cluster it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "first out, last out, or left to the user")]
pub enum Purge {
    /// At once, before it runs anywhere else: for what must not run twice.
    Directly,
    /// When what replaces it is ready, or the grace is over.
    #[default]
    Gracefully,
    /// Only when the user says so.
    Never,
}
