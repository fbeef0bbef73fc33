//! What runs where in a fleet of Kubernetes clusters: placement, replica division, overrides, propagation, rollout.
//!
//! Every part is a pure function over plain data and complete without a cluster: it takes what was seen, what is wanted
//! and what time it is, and returns a plan with its reasons. The feature `client` adds the controllers that carry plans
//! out.
//!
//! | to say | use |
//! |---|---|
//! | what users write | [`api`]: `DistributionPolicy`, `OverridePolicy` |
//! | which clusters, how many replicas, and why | [`placement`] |
//! | divide a number exactly | [`replicas`] |
//! | what differs between clusters | [`overrides`] |
//! | replicas that are of use only together | [`gangs`] |
//! | who leaves a cluster that is lost, and when they return | [`failover`] |
//! | what every member is to hold, and the status of that | [`propagate`] |
//! | how a change reaches the members | [`rollout`] |
//!
//! # From a manifest to a plan in five minutes
//!
//! Begin with what is known of the fleet. Here it is written down; a controller observes it, a pipeline reads it from a
//! file with [`Snapshot::from_json`](kurator_core::observe::Snapshot::from_json). A policy is what users write anyway.
//!
//! ```
//! use kurator_core::observe::{ClusterView, Health, ResourceSummary, Snapshot, Taint, TaintEffect};
//! use kurator_policy::api::Placement;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = |name: &str, cpu: &str| -> Result<ClusterView, Box<dyn std::error::Error>> {
//!     let room = ResourceSummary::default()
//!         .with_allocatable("cpu", cpu.parse()?)
//!         .with_allocatable("pods", "110".parse()?);
//!     Ok(ClusterView::new(name.parse()?).with_health(Health::ready()).with_resources(room))
//! };
//! let fleet = Snapshot::new("2026-01-02T03:04:05Z".parse()?)
//!     .with_cluster(cluster("paris", "6")?)
//!     .with_cluster(cluster("oslo", "2")?)
//!     .with_cluster(cluster("lab", "64")?.with_taint(Taint::new("maintenance", TaintEffect::NoSchedule)));
//!
//! let placement: Placement = serde_json::from_str(
//!     r#"{"replicaScheduling": {"weightPreference": {"dynamicWeight": "AvailableReplicas"}}}"#,
//! )?;
//! # let _ = (fleet, placement);
//! # Ok(()) }
//! ```
//!
//! Prepare both once, then place as many workloads as there are. A decision prints what became of every cluster in
//! every step, and what would change a rejection.
//!
//! ```
//! # use kurator_core::observe::{ClusterView, Health, ResourceSummary, Snapshot, Taint, TaintEffect};
//! # use kurator_policy::api::Placement;
//! use kurator_policy::placement::{Dialect, FleetIndex, PlanOptions, Planner, Prepared, Running, Workload};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = |name: &str, cpu: &str| -> Result<ClusterView, Box<dyn std::error::Error>> {
//! #     let room = ResourceSummary::default()
//! #         .with_allocatable("cpu", cpu.parse()?)
//! #         .with_allocatable("pods", "110".parse()?);
//! #     Ok(ClusterView::new(name.parse()?).with_health(Health::ready()).with_resources(room))
//! # };
//! # let fleet = Snapshot::new("2026-01-02T03:04:05Z".parse()?)
//! #     .with_cluster(cluster("paris", "6")?)
//! #     .with_cluster(cluster("oslo", "2")?)
//! #     .with_cluster(cluster("lab", "64")?.with_taint(Taint::new("maintenance", TaintEffect::NoSchedule)));
//! # let placement: Placement = serde_json::from_str(
//! #     r#"{"replicaScheduling": {"weightPreference": {"dynamicWeight": "AvailableReplicas"}}}"#,
//! # )?;
//! let index = FleetIndex::new(&fleet);
//! let policy = Prepared::new(&placement, &index, Dialect::Kurator)?;
//! let mut planner = Planner::new(PlanOptions::default());
//! let web = |replicas: u32| -> Result<Workload, Box<dyn std::error::Error>> {
//!     Ok(Workload::new("shop/web", "apps/v1", "Deployment").with_replicas(replicas).with_request("cpu", "1".parse()?))
//! };
//! let decision = planner.place(&index, &policy, &web(8)?, &Running::default(), fleet.taken_at());
//! assert_eq!(
//!     decision.to_string(),
//!     "placed: oslo=2 paris=6\n\
//!      lab    Tainted: its taint maintenance:NoSchedule is not tolerated; tolerate it or remove the taint\n\
//!      oslo   Room: room for 2 more replicas; 1 more cpu would take another\n\
//!      oslo   Assigned: 2 replicas, 0 before: what runs stays, new ones go where there is room\n\
//!      paris  Room: room for 6 more replicas; 1 more cpu would take another\n\
//!      paris  Assigned: 6 replicas, 0 before: what runs stays, new ones go where there is room\n"
//! );
//! let too_many = planner.place(&index, &policy, &web(9)?, &Running::default(), fleet.taken_at());
//! let why = too_many.outcome.err().map(|unplaced| unplaced.to_string());
//! assert_eq!(why.as_deref(), Some("1 of 9 replicas find no room: there is room for 8"));
//! # Ok(()) }
//! ```
//!
//! What if the taint were gone? Plan again with that, and look at the difference. [`placement::plan`] takes many
//! workloads and never gives the same room to two of them.
//!
//! ```
//! # use kurator_core::observe::{ClusterView, Health, ResourceSummary, Snapshot, Taint, TaintEffect};
//! # use kurator_policy::api::Placement;
//! # use kurator_policy::placement::{FleetIndex, PlanOptions, Workload};
//! use std::collections::BTreeMap;
//! use kurator_policy::placement::plan;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = |name: &str, cpu: &str| -> Result<ClusterView, Box<dyn std::error::Error>> {
//! #     let room = ResourceSummary::default()
//! #         .with_allocatable("cpu", cpu.parse()?)
//! #         .with_allocatable("pods", "110".parse()?);
//! #     Ok(ClusterView::new(name.parse()?).with_health(Health::ready()).with_resources(room))
//! # };
//! # let lab = cluster("lab", "64")?;
//! # let fleet = Snapshot::new("2026-01-02T03:04:05Z".parse()?)
//! #     .with_cluster(cluster("paris", "6")?)
//! #     .with_cluster(cluster("oslo", "2")?)
//! #     .with_cluster(lab.clone().with_taint(Taint::new("maintenance", TaintEffect::NoSchedule)));
//! # let placement: Placement = serde_json::from_str(
//! #     r#"{"replicaScheduling": {"weightPreference": {"dynamicWeight": "AvailableReplicas"}}}"#,
//! # )?;
//! let policies = BTreeMap::from([("spread".to_owned(), placement)]);
//! let shop = [Workload::new("shop/web", "apps/v1", "Deployment")
//!     .with_policy("spread")
//!     .with_replicas(9)
//!     .with_request("cpu", "1".parse()?)];
//! let on = |fleet: &Snapshot| {
//!     plan(&FleetIndex::new(fleet), &shop, &policies, &BTreeMap::new(), fleet.taken_at(), &PlanOptions::default())
//! };
//! let untainted = fleet.clone().with_cluster(lab);
//! let difference = on(&fleet).diff(&on(&untainted));
//! assert_eq!(
//!     difference["shop/web"].to_string(),
//!     "can be placed now; before: 1 of 9 replicas find no room: there is room for 8\n\
//!      lab: new, 8\n\
//!      paris: new, 1\n"
//! );
//! # Ok(()) }
//! ```
//!
//! A whole policy, with templates, overrides and what the members said, goes through [`propagate::plan`] and
//! [`propagate::status`]; `examples/quickstart` in the repository shows it from manifest to member.

#![allow(clippy::duplicated_attributes, reason = "every printer column has a type")]

pub mod api;
#[cfg(feature = "client")]
pub mod controller;
pub mod failover;
pub mod gangs;
pub mod overrides;
pub mod placement;
pub mod propagate;
pub mod replicas;
pub mod rollout;
