//! The words and the machinery that the crates of kurator share: names, exact quantities, selectors, what was
//! observed of a fleet, and the shapes of plans, reports and conditions.
//!
//! It has no opinion about placement, scaling, backup or mesh. Use it alone to write a planner or a controller of
//! your own for many clusters.
//!
//! | to say | use |
//! |---|---|
//! | which cluster, which fleet | [`names`] |
//! | how much CPU, memory, of a device | [`quantity`] |
//! | which labels, which region | [`selector`] |
//! | what was there at one instant | [`observe`] |
//! | what to do, and why | [`plan`], [`report`], [`reason`] |
//! | what became of it | [`condition`], [`progress`] |
//! | what is on a member, and whose it is | [`apply`] |
//! | a fleet to try things on | [`memory`] |
//! | what time it is | [`clock`] |
//!
//! # A planner in five minutes
//!
//! A planner is a pure function from what was seen, what is wanted and what time it is to a plan with its
//! explanation. This one looks for clusters with room for a pod.
//!
//! Begin with reasons: an enum with the numbers in it, a sentence for people and a token for machines.
//!
//! ```
//! use std::fmt;
//! use kurator_core::{quantity::Quantity, reason::Reason};
//!
//! #[derive(Clone, Debug)]
//! enum Room {
//!     NotSelected,
//!     TooLittle { free: Quantity, wanted: Quantity },
//!     Fits { times: u128 },
//! }
//!
//! impl fmt::Display for Room {
//!     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         match self {
//!             Self::NotSelected => f.write_str("its labels are not selected"),
//!             Self::TooLittle { free, wanted } => write!(f, "{free} CPU free, {wanted} wanted"),
//!             Self::Fits { times } => write!(f, "room for {times}"),
//!         }
//!     }
//! }
//!
//! impl Reason for Room {
//!     fn token(&self) -> &'static str {
//!         match self {
//!             Self::NotSelected => "NotSelected",
//!             Self::TooLittle { .. } => "TooLittle",
//!             Self::Fits { .. } => "Fits",
//!         }
//!     }
//! }
//! ```
//!
//! The planner reads a [`Snapshot`](observe::Snapshot) and returns a [`Planned`](plan::Planned). It compiles its
//! selector once, computes exactly, and says about every cluster what became of it.
//!
//! ```
//! # use std::fmt;
//! # use kurator_core::reason::Reason;
//! # #[derive(Clone, Debug)]
//! # enum Room {
//! #     NotSelected,
//! #     TooLittle { free: Quantity, wanted: Quantity },
//! #     Fits { times: u128 },
//! # }
//! # impl fmt::Display for Room {
//! #     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//! #         match self {
//! #             Self::NotSelected => f.write_str("its labels are not selected"),
//! #             Self::TooLittle { free, wanted } => write!(f, "{free} CPU free, {wanted} wanted"),
//! #             Self::Fits { times } => write!(f, "room for {times}"),
//! #         }
//! #     }
//! # }
//! # impl Reason for Room {
//! #     fn token(&self) -> &'static str {
//! #         match self {
//! #             Self::NotSelected => "NotSelected",
//! #             Self::TooLittle { .. } => "TooLittle",
//! #             Self::Fits { .. } => "Fits",
//! #         }
//! #     }
//! # }
//! use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
//! use kurator_core::{
//!     names::ClusterName,
//!     observe::{ClusterView, ResourceSummary, Snapshot},
//!     plan::Planned,
//!     quantity::Quantity,
//!     report::Report,
//!     selector::{LabelMatcher, SelectorError},
//! };
//!
//! fn plan(
//!     fleet: &Snapshot,
//!     selector: &LabelSelector,
//!     cpu: Quantity,
//! ) -> Result<Planned<Vec<ClusterName>, Report<ClusterName, Room>>, SelectorError> {
//!     let selected = LabelMatcher::compile(selector)?;
//!     let (mut plan, mut report) = (Vec::new(), Report::default());
//!     for cluster in fleet.clusters() {
//!         let free = cluster.resources.as_ref().and_then(|sums| sums.free("cpu")).unwrap_or_default();
//!         let room = match free.times(cpu) {
//!             _ if !selected.matches(&cluster.labels) => Room::NotSelected,
//!             Some(times) if times > 0 => {
//!                 plan.push(cluster.name.clone());
//!                 Room::Fits { times }
//!             }
//!             _ => Room::TooLittle { free, wanted: cpu },
//!         };
//!         report.add(cluster.name.clone(), room);
//!     }
//!     Ok(Planned::new(plan, report))
//! }
//!
//! let cluster = |name: &str, tier: &str, cpu: &str| -> Result<_, Box<dyn std::error::Error>> {
//!     let sums = ResourceSummary::default()
//!         .with_allocatable("cpu", cpu.parse()?)
//!         .with_allocated("cpu", "1500m".parse()?);
//!     Ok(ClusterView::new(name.parse()?).with_label("tier", tier).with_resources(sums))
//! };
//! let fleet = Snapshot::new("2026-01-02T03:04:05Z".parse()?)
//!     .with_cluster(cluster("cluster-b", "gold", "2")?)
//!     .with_cluster(cluster("cluster-a", "gold", "16")?)
//!     .with_cluster(cluster("cluster-c", "bronze", "16")?);
//! let gold: LabelSelector = serde_json::from_str(r#"{"matchLabels": {"tier": "gold"}}"#)?;
//!
//! let planned = plan(&fleet, &gold, "2".parse()?)?;
//! assert_eq!(planned.plan, ["cluster-a"]);
//! assert_eq!(
//!     planned.report.to_string(),
//!     "cluster-a  Fits: room for 7\n\
//!      cluster-b  TooLittle: 500m CPU free, 2 wanted\n\
//!      cluster-c  NotSelected: its labels are not selected\n",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A snapshot of a real member is made by [`with_observed_nodes`](observe::ClusterView::with_observed_nodes) from
//! its nodes and pods, and written to a file with [`to_json`](observe::Snapshot::to_json), so that the same plan
//! can be made again elsewhere.
//!
//! # Features
//! None is on by default, and without one there is no client, no TLS and no async runtime in the tree.
//! - `client`: talk to API servers.
//! - `mock`: `mockall` mocks of the traits a host can replace.
//!
//! Like every library on `k8s-openapi`, this crate leaves the choice of the Kubernetes version to the
//! application: `cargo add k8s-openapi --features latest`.

pub mod apply;
pub mod clock;
pub mod condition;
pub mod counters;
pub mod health;
pub mod memory;
pub mod names;
pub mod observe;
pub mod plan;
pub mod progress;
pub mod quantity;
pub mod reason;
pub mod report;
pub mod selector;

#[cfg(feature = "client")]
pub mod connect;
#[cfg(feature = "client")]
pub mod execute;
#[cfg(feature = "client")]
pub mod gate;
#[cfg(feature = "client")]
pub mod kubeconfig;
#[cfg(feature = "client")]
pub mod membership;
#[cfg(feature = "client")]
pub mod multicluster;

#[cfg(feature = "client")]
#[cfg(test)]
mod wire;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
