//! The controller that makes distribution policies true: it watches the hub, plans, and keeps every member as planned.
//!
//! ```text
//!  hub                                                      members
//!  policies, overrides, templates --watch--> reconcile --assignment--> worker --apply--> cluster
//!                                             |  ^                       |  <--watch---    |
//!                                             |  +--------observed-------+                 |
//!                                           status                                         |
//!                             reconcile <---- what members have: facts <-----watch---------+
//! ```
//!
//! Who is engaged, with which client, within which rate and for how long is decided by
//! [`Members`](kurator_core::multicluster::Members); what a member has by
//! [`Facts`](kurator_core::multicluster::Facts).
//!
//! A reconcile never waits for a member: it plans, leaves each member's worker what that member is to hold, and
//! writes down what the workers have seen so far. Workers share nothing, so a member that hangs holds up nobody else.
//!
//! # Guarantees
//! - The status names every cluster that may hold something of the policy *before* anything is sent there, so a
//!   process that is killed at any point leaves nothing behind that its successor does not know of.
//! - Nothing is removed or moved because something is not known: an unreadable policy, a hub or member that does not
//!   answer, a kind that is gone, an override that fails.
//! - What runs stays where it is while its number does not change, also over a restart; new replicas go by the room
//!   there is, and no room is given away twice.
//! - What goes along with `propagateDeps` is in a member once for all policies, and is removed with the last that needs
//!   it there.
//! - A policy that is deleted stays until every member it was placed on is clean; a member that does not answer is
//!   named in the status, and holds up no other policy.
//! - With `failover`, what leaves a cluster is written down before it is placed elsewhere; with `rollout`, a revision is
//!   kept before the status names it; with `activation: Lazy`, by which placement each object goes is written down before
//!   it goes there. All of them go on after a restart where they were.
//! - A cluster keeps the replicas that it is to lose until others are ready: a move never leaves fewer ready replicas
//!   than are wanted.
//! - In the steady state nothing is written anywhere.
//!
//! # RBAC
//! On the hub: get, list, watch and patch distribution policies and patch their status; list and watch override
//! policies, the kinds that policies select (and to patch them, unless [`Settings::mark_claims`] is off) and, with
//! `propagateDeps`, the kinds these refer to (for a custom kind CustomResourceDefinitions); for policies with a rollout create, get and delete Secrets in their namespaces; create and
//! patch Events; get the namespace `kube-system`; and what
//! the [`Membership`](kurator_core::membership::Membership) and the
//! [`ClusterConnector`](kurator_core::connect::ClusterConnector) need. On members: get, list, watch,
//! create, patch and delete what is distributed, create namespaces, and list and watch nodes, pods and
//! HorizontalPodAutoscalers. With [`Settings::aggregate_status`] on the hub: patch the status of what policies select.

mod activation;
mod aggregated;
mod carried;
mod claimed;
mod content;
mod decide;
mod distribution;
mod error;
mod failover;
mod fleet;
mod gangs;
mod group;
mod kinds;
mod member;
mod memory;
mod metrics;
mod overrides;
mod policy;
mod presumed;
mod promises;
mod reconcile;
mod referred;
mod report;
mod revisions;
mod rollout;
mod running;
mod settings;
mod shared;
mod shown;
mod standing;
mod templates;
mod trigger;
mod watch;

pub use crate::failover::{TAINT_NOT_READY, TAINT_UNREACHABLE};

pub use self::{
    distribution::Distribution,
    error::ControllerError,
    group::PolicyGroup,
    metrics::{DistributionCounts, DistributionMetric, DistributionMetrics},
    policy::{APPROVE, FINALIZER, RELEASE, RETRY},
    settings::Settings,
};
