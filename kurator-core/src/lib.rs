//! The shared words of kurator: names, exact quantities, and what was observed of a fleet.
//!
//! Nothing in here talks to a server unless the feature `client` is on.

pub mod clock;
pub mod condition;
pub mod health;
pub mod names;
pub mod observe;
pub mod plan;
pub mod progress;
pub mod quantity;
pub mod reason;
pub mod report;
pub mod selector;

#[cfg(feature = "client")]
pub mod connect;
#[cfg(feature = "client")]
pub mod kubeconfig;
#[cfg(feature = "client")]
pub mod membership;

#[cfg(feature = "client")]
#[cfg(test)]
mod wire;
