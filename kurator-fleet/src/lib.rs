//! Who is in a fleet of Kubernetes clusters, and how its members live.

#![allow(clippy::duplicated_attributes, reason = "every printer column has a type")]

pub mod api;
#[cfg(feature = "client")]
pub mod controller;
pub mod membership;
pub mod scaling;
