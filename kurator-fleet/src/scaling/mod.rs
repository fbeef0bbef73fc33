//! Nodes come and go without an outage.
//!
//! A [`Model`] holds one cluster: nodes, pods, their controllers, PodDisruptionBudgets, volumes. From it
//! [`Model::plan_scale_down`] works out which nodes to remove, in which waves, where every pod will fit, and why each
//! of the other nodes stays; [`Model::plan_scale_up`] how many nodes of which group pending pods need. Both are pure:
//! no clock, no cluster, the same bytes for the same input in any order. [`check::check`] reads a plan against the
//! objects without trusting the planner.
//!
//! ```
//! use kurator_fleet::scaling::{Blocker, DrainPolicy, Model, ScaleDown};
//!
//! # let node = |name: &str| format!(r#"{{"apiVersion": "v1", "kind": "Node", "metadata": {{"name": "{name}"}},
//! #     "status": {{"allocatable": {{"cpu": "2", "memory": "4Gi", "pods": "10"}}}}}}"#);
//! # let pod = |name: &str, node: &str| format!(r#"{{"apiVersion": "v1", "kind": "Pod",
//! #     "metadata": {{"name": "{name}", "namespace": "shop", "labels": {{"app": "web"}}, "ownerReferences": [
//! #         {{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": true}}]}},
//! #     "spec": {{"nodeName": "{node}", "containers": [{{"name": "c"}}]}},
//! #     "status": {{"phase": "Running", "conditions": [{{"type": "Ready", "status": "True"}}]}}}}"#);
//! # let json = format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{}, {}, {}, {}, {},
//! #     {{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {{"name": "web", "namespace": "shop"}},
//! #      "spec": {{"maxUnavailable": 1, "selector": {{"matchLabels": {{"app": "web"}}}}}}}}]}}"#,
//! #     node("a"), node("b"), node("c"), pod("web-1", "a"), pod("web-2", "b"));
//! // kubectl get nodes,pods,pdb,... -A -o json: nodes a, b and c; a replica of `web` on a and on b, of which a
//! // budget lets one go at a time.
//! let model = Model::from_json(json.as_bytes())?;
//! let now = "2026-11-23T12:00:00Z".parse()?;
//! let plan = model.plan_scale_down(&ScaleDown::nodes(["a", "b"]), &DrainPolicy::default(), now)?;
//!
//! assert_eq!(plan.remove, ["a", "b"]);
//! assert_eq!(plan.waves.len(), 2); // one replica of `web` at a time
//! assert_eq!(plan.bound.waves, 2); // and no plan can do it in fewer
//! assert!(plan.moves().all(|step| step.to == "c")); // not from a to b, only to move again
//!
//! // Two of three nodes can go; asked for all three, the plan says what keeps the last.
//! let plan = model.plan_scale_down(&ScaleDown::remove(3), &DrainPolicy::default(), now)?;
//! assert_eq!(plan.remove.len(), 2);
//! assert!(matches!(plan.skipped[0].blockers[..], [Blocker::NoRoom { .. }, ..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is modelled
//! - Budgets with the arithmetic of the disruption controller and the decisions of the eviction API: percentages
//!   rounded up, the scale of owners, `unhealthyPodEvictionPolicy`, several budgets on a pod, stale status, and the
//!   allowance an eviction that failed halfway takes away for 120 seconds.
//! - Landing with the hard rules of the scheduler: requests (sidecars, overhead, pod level), taints, node selectors and
//!   affinity, inter-pod affinity and anti-affinity in both directions, topology spread with the drained nodes still
//!   counting as domains until they are gone, volume affinity and attach limits, host ports.
//! - Pods nobody should evict: static pods, DaemonSets, finished ones, those that tolerate the cordon and would come
//!   back, those without a controller, with local data, or protected by an annotation of the autoscalers.
//! - Edge nodes that are out of reach and run on by themselves: never drained, never counted as lost.
//! - The times of day, week and year in which nodes may be drained ([`Window`]).
//!
//! Preferences (`preferredDuringScheduling...`, `ScheduleAnyway`, `PreferNoSchedule`), preemption, dynamic resource
//! claims and custom schedulers are not modelled.

pub mod check;
#[cfg(feature = "client")]
pub mod execute;
mod model;
mod plan;

pub use model::{Model, ModelError, Object};
pub use plan::{
    Blocker, BoundBy, BudgetState, Candidate, CandidateOrder, CriticalBudget, DrainAction, DrainPod,
    DrainPolicy, DrainRule, GroupIncrease, LowerBound, NodeDrain, NodeGroup, Note, ObjectName, Order,
    PlanDiff, PlanError, PlanSummary, PodMove, PodStay, Refusals, ScaleDown, ScaleDownPlan, ScaleUpError,
    ScaleUpPlan, Skipped, SkippedSummary, StayReason, Surge, Target, Unplaced, Wave, Window, WindowError,
};
#[cfg(feature = "client")]
pub(crate) use plan::{Hours, hours};
