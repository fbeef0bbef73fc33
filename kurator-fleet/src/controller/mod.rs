//! The controllers of `AttachedCluster` and `Fleet`, ready to run.
//!
//! [`FleetManager::start`] looks after every cluster of a namespace; [`FleetManager::run`] writes what is known into
//! their status and into that of the fleets, and lets members leave. The membership, the connector and the engaged
//! members are there for the host's own controllers. Several processes may do this for one namespace, of which one
//! leads: see [`FleetOptions::with_replica`].
//!
//! # RBAC
//! What it may do on the hub and on members is in `deploy/rbac/fleet.yaml`.

mod attached;
mod clean;
pub mod cluster;
mod context;
mod error;
mod fleet;
mod identity;
mod manager;
mod options;
mod status;
mod tombstone;

pub use self::clean::{MemberCleaner, PlacedObjects};
pub use self::error::FleetError;
pub use self::manager::FleetManager;
pub use self::options::FleetOptions;

/// Keeps an object until what it stands for has left.
const FINALIZER: &str = "fleet.kurator.dev/detach";
const FIELD_MANAGER_FLEET: &str = "kurator-fleet";
