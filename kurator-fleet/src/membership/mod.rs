//! Who is in a fleet, and how members leave.
//!
//! `attached_clusters` (feature `client`) makes members of the attached clusters of a hub, `FleetMembership` knows
//! the fleets too. [`next_step`] decides, from what is known now, whether a member that is being removed is cleaned,
//! waited for, or let go of. It is pure; the controllers carry it out.

#[cfg(feature = "client")]
mod attached;
#[cfg(feature = "client")]
mod cluster_api;
mod detach;
#[cfg(feature = "client")]
mod registered;

#[cfg(feature = "client")]
pub use self::attached::attached_clusters;
#[cfg(feature = "client")]
pub use self::cluster_api::cluster_api_clusters;
pub use self::detach::{
    Contact, DetachBlocked, DetachMode, DetachStep, Detaching, Remains, Tombstone, next_step,
};
#[cfg(feature = "client")]
pub use self::registered::FleetMembership;
