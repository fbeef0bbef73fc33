//! Is a member well, and is it the cluster that was registered?
//!
//! Pure decisions over plain data: [`HealthState`] turns probes into Ready, NotReady or Unknown; [`cloud_nodes`] says
//! what nodes have to do with it; [`identify`] and [`duplicates`] tell clusters apart whatever they are called.
//! Nothing here reads a clock or talks to anything.
//!
//! ```
//! use std::time::Duration;
//! use jiff::Timestamp;
//! use kurator_core::health::{HealthPolicy, HealthReason, HealthState, Probe};
//! use kurator_core::observe::HealthStatus;
//!
//! let policy = HealthPolicy::with_grace(Duration::from_secs(40));
//! let start: Timestamp = "2026-01-01T00:00:00Z".parse()?;
//! let mut member = HealthState::default();
//! member.observe(&policy, Probe::Succeeded, start);
//! assert_eq!(member.health, HealthStatus::Ready);
//!
//! let lost = Probe::Failed(HealthReason::Unreachable);
//! assert_eq!(member.observe(&policy, lost, start + Duration::from_secs(39)), None);
//! let turned = member.observe(&policy, lost, start + Duration::from_secs(40)).expect("the grace is over");
//! assert_eq!((turned.to, turned.reason), (HealthStatus::Unknown, HealthReason::Unreachable));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod identity;
mod nodes;
mod state;

pub use self::{
    identity::{Claim, ClusterUid, Identity, duplicates, identify},
    nodes::{NodeHealth, cloud_nodes},
    state::{HealthPolicy, HealthReason, HealthState, Probe, Transition},
};
