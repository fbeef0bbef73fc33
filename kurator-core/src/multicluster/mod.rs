//! Controllers that span a fleet: members join and leave while they run.
//!
//! [`Members`] looks after the members of a fleet: it probes them, engages those that answer and are who they should
//! be, and disengages those that are lost, leave, or belong to another replica ([`shard`]). On that stand two kinds
//! of controller, both kube's own [`Controller`](kube::runtime::Controller) underneath:
//!
//! - [`UniformController`]: the same reconciler over every member, as if each had a controller of its own.
//! - [`AwareController`]: one reconciler over an object of the hub, woken by the hub and by what happens on members.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{convert::Infallible, sync::Arc};
//!
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use kube::{ResourceExt, runtime::controller::Action};
//! use kurator_core::clock::SystemClock;
//! use kurator_core::membership::KubeconfigContexts;
//! use kurator_core::multicluster::{Members, MembersOptions, ReconcileContext, UniformController};
//!
//! async fn reconcile(map: Arc<ConfigMap>, on: Arc<ReconcileContext<()>>) -> Result<Action, Infallible> {
//!     println!("{} on {}", map.name_any(), on.member().name());
//!     Ok(Action::await_change())
//! }
//!
//! let contexts = Arc::new(KubeconfigContexts::read("kubeconfig")?);
//! let (membership, connector) = (Arc::clone(&contexts), contexts);
//! let options = MembersOptions::default();
//! let members = Members::start(membership, connector, None, None, options, &SystemClock::new());
//! UniformController::<ConfigMap>::new(members).run(reconcile, Arc::new(()), std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod aware;
mod cut_off;
mod each;
mod engaged;
mod facts;
mod fair;
mod link;
mod members;
mod nodes;
mod probe;
mod rate;
mod retry;
pub mod shard;
mod tend;
mod uniform;

pub use self::{
    aware::{AwareController, MemberStores},
    cut_off::CutOffPod,
    engaged::EngagedMember,
    facts::Facts,
    link::LinkError,
    members::{Engaged, MemberStatus, Members, MembersOptions, Roster},
    nodes::CloudNodes,
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
