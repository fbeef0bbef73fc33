//! When workloads leave a cluster that is lost or does not do them good, in which order, and when they may return.
//!
//! A pure planner over what is known of clusters and workloads, and a time. It decides who leaves; where they go is
//! decided by [`placement::plan`](crate::placement::plan), for all of them together, from what [`Planned::running`]
//! says: a burst of evictions never shares the same room, and replicas come home by the policy's own `rebalancing`.
//!
//! - A `NoExecute` taint of a cluster evicts what does not tolerate it, at once or after the seconds it is tolerated.
//! - A workload that has been unhealthy in a cluster for too long leaves it.
//! - Evictions are paced, the ones that are due longest first.
//! - What left does not come back before the cluster has been well for the fail-back window.
//! - When most clusters are ill at once nothing leaves for that: it is more likely us who are cut off.
//! - Edge nodes that are cut off on purpose count as running: nothing on them is lost, and nothing is deleted there; see
//!   [`edge`].
//! - What a copy says of its state goes along, as labels, to the one cluster that takes over: [`carry`].

mod carry;
mod check;
mod disruption;
pub mod edge;
mod facts;
mod plan;
mod reason;
mod rules;
mod state;

pub use self::{
    carry::{CarryRequest, LeftCluster, carry},
    check::{FailoverFlaw, check},
    disruption::{Disruption, DisruptionGuard, TAINT_NOT_READY, TAINT_UNREACHABLE},
    facts::{AppFacts, AppInCluster, ClusterFacts, Eviction},
    plan::{Action, Planned, Request, plan},
    reason::{Cause, FailoverReason},
    rules::{FailoverRules, Purge},
    state::{MAX_STATE_RULES, PickedState, StateProblem, StateRuleError, StateRules},
};
