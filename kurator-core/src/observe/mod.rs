//! What was seen of a fleet at one instant, as plain data.
//!
//! Planners read a [`Snapshot`] and nothing else; it can be written to a file, sent to another process and read back.
//! Everything is sorted, so the same fleet gives the same bytes.
//!
//! ```
//! use kurator_core::observe::{ClusterView, Health, ResourceSummary, Snapshot};
//!
//! let a = ClusterView::new("cluster-a".parse()?)
//!     .with_label("tier", "gold")
//!     .with_region("eu-west")
//!     .with_health(Health::ready())
//!     .with_api("apps/v1", "Deployment")
//!     .with_resources(
//!         ResourceSummary::default()
//!             .with_allocatable("cpu", "8".parse()?)
//!             .with_allocated("cpu", "2500m".parse()?),
//!     );
//! let snapshot = Snapshot::new("2026-01-02T03:04:05Z".parse()?).with_cluster(a);
//!
//! let copy = Snapshot::from_json(snapshot.to_json()?.as_bytes())?;
//! assert_eq!(copy, snapshot);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cluster;
mod live;
mod node;
mod pod_owner;
mod requests;
mod resources;
mod snapshot;
mod taint;

pub use cluster::{ApiSet, ApiSupport, ClusterView, Health, HealthStatus};
pub use live::{ObserveError, UnknownEffect};
pub use node::NodeView;
pub use pod_owner::PodOwner;
#[cfg(feature = "client")]
pub(crate) use pod_owner::TEMPLATE_HASH;
pub use requests::{RequestsError, pod_requests, running_pod_requests};
pub use resources::{ModelGrade, QuantityRange, ResourceSummary, Resources};
pub use snapshot::{Snapshot, SnapshotError};
pub use taint::{Taint, TaintEffect};
