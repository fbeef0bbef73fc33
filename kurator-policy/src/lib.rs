//! What runs where in a fleet of Kubernetes clusters: placement, replica division and overrides.

#![allow(clippy::duplicated_attributes, reason = "every printer column has a type")]

pub mod api;
#[cfg(feature = "client")]
pub mod controller;
pub mod overrides;
pub mod placement;
pub mod propagate;
pub mod replicas;
pub mod rollout;
