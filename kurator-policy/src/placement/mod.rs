//! The scheduling pass: which clusters a workload runs in, and with how many replicas.

mod amount;
mod bits;
mod capacity;
mod divide;
mod filter;
mod gang;
mod groups;
mod index;
mod levels;
mod nodes;
mod options;
mod planner;
mod plugins;
mod policy;
mod policy_error;
mod reason;
mod select;
mod spread;
mod workload;

pub use amount::Amount;
pub use gang::{Gang, Role};
pub use index::FleetIndex;
pub use options::{Detail, Dialect, PlanOptions};
pub use planner::{Decision, Placed, Planner};
pub use plugins::{Filter, ReplicaEstimator, Score};
pub use policy::Prepared;
pub use policy_error::PolicyError;
pub use reason::{ClusterReason, Limit, ShareOf, Unplaced};
pub use workload::{Running, Workload};
