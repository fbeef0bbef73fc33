//! Who is in a fleet of Kubernetes clusters, and how its members live.
//!
//! | to | use |
//! |---|---|
//! | write down a fleet, its clusters and how they are attached | [`api`] |
//! | let a member leave without harm | [`membership`] |
//! | take nodes away without an outage, or add what pending pods need | [`scaling`] |
//! | talk to API servers (feature `client`) | `controller`, `scaling::execute`, `membership::FleetMembership` |
//!
//! Without the feature `client` everything here is plain data and pure functions: no cluster, no clock, no async.
//!
//! # In five minutes
//!
//! A fleet is a custom resource that names its members. As data it needs no API server:
//!
//! ```
//! use kurator_fleet::api::{Fleet, MemberKind};
//! use serde_json::json;
//!
//! let fleet: Fleet = serde_json::from_value(json!({
//!     "apiVersion": "fleet.kurator.dev/v1alpha1", "kind": "Fleet",
//!     "metadata": {"name": "shops", "namespace": "default"},
//!     "spec": {"clusters": [{"name": "berlin", "kind": "AttachedCluster"}, {"name": "lyon", "kind": "Cluster"}]},
//! }))?;
//! let attached = fleet.spec.clusters.iter().filter(|member| member.kind == MemberKind::AttachedCluster);
//! assert_eq!(attached.map(|member| &*member.name).collect::<Vec<_>>(), ["berlin"]);
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! A member that leaves is cleaned first, and nothing is deleted on a cluster that cannot be asked. What to do next is
//! one decision, made from what is known now:
//!
//! ```
//! use std::time::Duration;
//! use kurator_core::health::ClusterUid;
//! use kurator_fleet::membership::{Contact, DetachMode, DetachStep, Detaching, Remains, next_step};
//!
//! let mut berlin = Detaching {
//!     mode: DetachMode::Drain,
//!     since: "2026-11-23T12:00:00Z".parse()?,
//!     patience: Duration::from_secs(300),
//!     contact: Contact::Silent,
//!     remains: Remains::NotCounted,
//!     uid: Some(ClusterUid::new("5a1d9b0e")),
//! };
//! let now = "2026-11-23T12:30:00Z".parse()?;
//! assert!(matches!(next_step(&berlin, now), DetachStep::Blocked { .. })); // it waits, as long as that takes
//!
//! (berlin.contact, berlin.remains) = (Contact::Answers, Remains::Counted(3));
//! assert_eq!(next_step(&berlin, now), DetachStep::Clean);
//! berlin.remains = Remains::Counted(0);
//! assert_eq!(next_step(&berlin, now), DetachStep::Release { tombstone: None });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A member has more nodes than it needs. The planner reads what `kubectl get nodes,pods,pdb,... -A -o json` prints, or
//! objects as your reflectors hold them, and says which nodes can go, when, where every pod will fit, and what keeps
//! the others:
//!
//! ```
//! use kurator_fleet::scaling::{DrainPolicy, Model, ScaleDown};
//! use serde_json::json;
//!
//! let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
//!     "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"}}});
//! let pod = |name: &str, node: &str| json!({"apiVersion": "v1", "kind": "Pod",
//!     "metadata": {"name": name, "namespace": "shop", "labels": {"app": "cart"}, "ownerReferences": [
//!         {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart", "uid": "1", "controller": true}]},
//!     "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
//!     "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
//! let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
//!     "metadata": {"name": "cart", "namespace": "shop"},
//!     "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "cart"}}}});
//! let lyon = json!({"apiVersion": "v1", "kind": "List", "items": [
//!     node("a"), node("b"), node("c"), pod("cart-1", "a"), pod("cart-2", "b"), budget]});
//!
//! let mut model = Model::from_json(lyon.to_string().as_bytes())?;
//! let now = "2026-11-23T12:00:00Z".parse()?;
//! let plan = model.plan_scale_down(&ScaleDown::to(1), &DrainPolicy::default(), now)?;
//! assert_eq!(plan.remove.len(), 2);
//! print!("{plan}"); // for people; `plan.summary()` for programs
//!
//! // Events keep the model up to date, and what changed since is planned again in milliseconds.
//! model.remove_node("c");
//! let again = model.plan_scale_down(&ScaleDown::to(1), &DrainPolicy::default(), now)?;
//! assert_eq!(again.remove.len(), 1);
//! println!("{}", again.diff(&plan));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `scaling::execute::DrainExecutor` carries such a plan out and survives its own death; `controller` does all of this
//! for the resources of a hub.

#![allow(clippy::duplicated_attributes, reason = "every printer column has a type")]

pub mod api;
#[cfg(feature = "client")]
pub mod controller;
pub mod membership;
pub mod scaling;
