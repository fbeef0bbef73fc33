//! What runs where in a fleet of Kubernetes clusters: placement and replica division.

pub mod api;
