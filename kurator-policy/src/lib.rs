//! What runs where in a fleet of Kubernetes clusters: placement and replica division.

#![allow(clippy::duplicated_attributes, reason = "every printer column has a type")]

pub mod api;
pub mod placement;
pub mod replicas;
pub mod rollout;
