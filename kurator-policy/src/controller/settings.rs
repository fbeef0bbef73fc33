//! How patient and how busy the controller is.

use std::time::Duration;

/// How patient and how busy the controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Several triggers of a policy within this time make one pass. Default 50 ms.
    pub debounce: Duration,
    /// How long a pass over one member for one policy may take, besides [`Settings::object_allowance`]. Default 15 s.
    pub pass_deadline: Duration,
    /// How much longer for each object. Default 50 ms.
    pub object_allowance: Duration,
    /// Policies a member is worked on for at the same time, at least 1. Default 4.
    pub passes_per_member: usize,
    /// The least time between two objects that begin to leave a cluster, over all policies, so that a wrong verdict
    /// about many clusters does not empty them at once. Default 2 s, which is Karmada's rate.
    pub eviction_pace: Duration,
    /// From which share of the clusters on, in percent, that are out of reach or not ready at once nothing leaves any
    /// of them for that: it is more likely us who are cut off. 3 clusters at the least, or all of them. A taint that
    /// somebody sets is obeyed all the same. More than 100 means only when no cluster is ready. Default 55, as of
    /// Kubernetes' node lifecycle controller.
    pub disruption_percent: u8,
    /// Whether the status of each template on the hub is put together from those of its copies, as
    /// [`ResourceInterpreter::aggregated_status`](crate::propagate::ResourceInterpreter::aggregated_status) says. What
    /// somebody else writes there is left alone. It needs the right to patch the status of what policies select:
    /// `deploy/rbac/distribution-status.yaml`. Default false.
    pub aggregate_status: bool,
    /// Whether each object on the hub says which policy has it, in the annotation
    /// [`CLAIMED_BY`](crate::propagate::CLAIMED_BY). Whoever has an object by that word keeps it, also where times of
    /// creation tell nothing. It is written when the members are at rest, or after
    /// a minute, needs the right to patch what policies select,
    /// and is left out, with a warning, for kinds where that is refused. Default true.
    pub mark_claims: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(50),
            pass_deadline: Duration::from_secs(15),
            object_allowance: Duration::from_millis(50),
            passes_per_member: 4,
            eviction_pace: Duration::from_secs(2),
            disruption_percent: 55,
            aggregate_status: false,
            mark_claims: true,
        }
    }
}
