//! Who is in a fleet of Kubernetes clusters, and how its members live.

pub mod api;
