//! A fleet in memory: members that hold objects, with enough of a Kubernetes API to try things on.
//!
//! For documentation, examples, dry runs and tests of what is built on this crate. The same [`ObjectSet`]s that go to
//! API servers can be placed here, with the same rules of ownership, conflicts and pruning, and reported in the
//! same words. With the feature `client` an [`InMemoryFleet`] is an `Applier` and a `Membership`.
//!
//! ```
//! use kurator_core::{
//!     apply::{ApplyOptions, ObjectKey, ObjectSet, Owner},
//!     memory::InMemoryFleet,
//!     names::{ClusterName, NamespacedName},
//! };
//! use serde_json::json;
//!
//! let (east, west): (ClusterName, ClusterName) = ("east".parse()?, "west".parse()?);
//! let fleet = InMemoryFleet::new([east.clone(), west.clone()]);
//! let owner = Owner::new("hub", "policy-uid", "DistributionPolicy default/web")?;
//! for (cluster, replicas) in [(&east, 3), (&west, 1)] {
//!     let web = serde_json::from_value(json!({
//!         "apiVersion": "apps/v1", "kind": "Deployment",
//!         "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": replicas},
//!     }))?;
//!     let set = ObjectSet::new(owner.clone(), [web])?;
//!     let report = fleet.place(cluster, &set, &ApplyOptions::default())?;
//!     assert_eq!(report.to_string(), format!("{cluster}: Deployment.apps default/web created\n"));
//! }
//! fleet.settle();
//! let web = ObjectKey::new("apps", "Deployment", NamespacedName::new("default", "web"));
//! assert_eq!(fleet.member(&east)?.get(&web)?["status"]["readyReplicas"], 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it is not
//! There is no schema: every kind is served, nothing is defaulted or validated, lists have one owner as a whole,
//! and namespaces need not exist. There are no finalizers, no admission and no watch. Nothing in it reads a clock,
//! so objects have no creation time. For histories of edits, applies, deletions and placements, a test compares what
//! it answers with what a real API server answers.

mod error;
mod fields;
mod fleet;
mod member;
mod place;
mod settle;

pub use self::{
    error::MemoryError,
    fleet::InMemoryFleet,
    member::{Applied, InMemoryMember, Preconditions},
};
#[cfg(doc)]
use crate::apply::ObjectSet;

#[cfg(feature = "client")]
mod client;
