//! Controllers that span a fleet: members join and leave while they run.
//!
//! [`Members`] looks after the members of a fleet: it probes them, engages those that answer and are who they should
//! be, and disengages those that are lost, leave, or belong to another replica ([`shard`]). On that stand two kinds
//! of controller, both kube's own [`Controller`](kube::runtime::Controller) underneath:
//!
//! - [`UniformController`]: the same reconciler over every member, as if each had a controller of its own.
//! - [`AwareController`]: one reconciler over an object of the hub, woken by the hub and by what happens on members.

mod aware;
mod engaged;
mod fair;
mod link;
mod members;
mod probe;
mod rate;
mod retry;
pub mod shard;
mod tend;
mod uniform;

pub use self::{
    aware::AwareController,
    engaged::EngagedMember,
    link::LinkError,
    members::{Engaged, MemberStatus, Members, MembersOptions},
    retry::Backoff,
    uniform::{ReconcileContext, UniformController},
};
use crate::health::HealthReason;

/// What a probe ran into.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeFailure {
    /// What it means for the health.
    pub reason: HealthReason,
    /// The CamelCase token for conditions, Events and metric labels: the reason, or something more exact.
    pub token: &'static str,
    /// For people. Never holds a credential.
    pub message: String,
}

impl ProbeFailure {
    fn new(reason: HealthReason, message: String) -> Self {
        Self {
            reason,
            token: reason.as_str(),
            message,
        }
    }
}
