//! Who is in a fleet, and how members leave.
//!
//! With feature `client`, `attached_clusters` makes members of the attached clusters of a hub, `cluster_api_clusters` of
//! those of Cluster API, and `ClusterProfiles` of those of an inventory; `FleetMembership` knows the fleets too. [`next_step`] decides, from what is known now, whether a member that is being removed is cleaned,
//! waited for, or let go of. It is pure; the controllers carry it out.

#[cfg(feature = "client")]
mod attached;
#[cfg(feature = "client")]
mod cluster_api;
#[cfg(feature = "client")]
mod cluster_profile;
mod detach;
#[cfg(feature = "client")]
mod registered;

#[cfg(feature = "client")]
pub use self::attached::attached_clusters;
#[cfg(feature = "client")]
pub use self::cluster_api::cluster_api_clusters;
#[cfg(feature = "client")]
pub use self::cluster_profile::{
    ClusterAccess, ClusterProfileOptions, ClusterProfiles, CredentialPlugin, Credentials,
};
pub use self::detach::{
    Contact, DetachBlocked, DetachMode, DetachStep, Detaching, Remains, Tombstone, next_step,
};
#[cfg(feature = "client")]
pub use self::registered::FleetMembership;
#[cfg(feature = "client")]
pub(crate) use self::registered::Registered;
