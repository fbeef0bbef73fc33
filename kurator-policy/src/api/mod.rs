//! The custom resources of this layer and the types inside them, with the names they have on the wire.
//!
//! Everything here is plain data with a schema: what can be refused by looking at one object alone is refused by
//! the API server through rules in the schema, and [`crds`] are the definitions to install.
//!
//! ```
//! use kurator_policy::api::OverridePolicy;
//!
//! let policy: OverridePolicy = serde_json::from_value(serde_json::json!({
//!     "apiVersion": "policy.kurator.dev/v1alpha1",
//!     "kind": "OverridePolicy",
//!     "metadata": { "name": "storefront-dr", "namespace": "default" },
//!     "spec": {
//!         "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "storefront" }],
//!         "overrideRules": [{
//!             "targetClusters": { "clusterNames": ["cluster-dr"] },
//!             "overrides": [{ "path": "/spec/replicas", "value": 1 }],
//!         }],
//!     },
//! }))?;
//! assert_eq!(policy.spec.override_rules[0].overrides[0].path, "/spec/replicas");
//! # Ok::<(), serde_json::Error>(())
//! ```

#![allow(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each public struct inside a function"
)]

mod accelerators;
mod activation;
mod affinity_terms;
pub mod apps;
mod cluster_affinity;
mod distribution_policy;
mod failover;
mod override_policy;
mod placement;
mod replica_scheduling;
mod resource_selector;
mod rollout;
mod spread_constraint;
mod suspension;
mod weight;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use accelerators::{
    AcceleratorOperator, AcceleratorPreference, AcceleratorRequirement, ResourceConstraint,
};
pub use activation::{ActivatedObjects, Activation, PlacementInUse};
pub use affinity_terms::{ClusterAffinityTerm, OverflowAffinity};
pub use cluster_affinity::{ClusterAffinity, ClusterField, FieldOperator, FieldRequirement, FieldSelector};
pub use distribution_policy::{
    ApplyStrategy, ClusterDistribution, ConflictResolution, DistributionPolicy, DistributionPolicySpec,
    DistributionPolicyStatus, DistributionTotals, ObjectPlacement, ObjectState, PlacedDependency, PlacedKind,
    Preemption,
};
pub use failover::{
    ApplicationFailover, CarriedState, CarryPhase, ClusterFailover, EdgeFailover, FailedOver,
    FailoverBehavior, FailoverCause, PurgeMode, StatePreservation, StatePreservationRule,
};
pub use override_policy::{
    CommandArgsOverrider, EnvOverrider, EnvVariable, FieldOverrider, FieldPatch, ImageComponent,
    ImageOverrider, ImagePredicate, LabelAnnotationOverrider, OverrideOperator, OverridePolicy,
    OverridePolicySpec, OverridePolicyStatus, OverrideRule, Overriders, PathOverride, PlaintextOverrider,
};
pub use placement::{GangRequirement, Placement};
pub use replica_scheduling::{
    ClusterLimit, DynamicWeight, GroupWeight, Rebalancing, ReplicaDivisionPreference, ReplicaScheduling,
    ReplicaSchedulingType, ScalePath, StaticClusterWeight, SurviveClusterLoss, WeightLevel, WeightPreference,
};
pub use resource_selector::ResourceSelector;
pub use rollout::{
    ClusterRollout, RolloutBehavior, RolloutGroups, RolloutOutcome, RolloutPhase, RolloutRevision,
    RolloutStage, RolloutStageStatus, RolloutStatus,
};
pub use spread_constraint::{SpreadConstraint, SpreadField};
pub use suspension::{SuspendedClusters, Suspension};
pub use weight::Weight;

/// The definitions of every custom resource of this crate, in the order of their names.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        apps::DistributionPolicy::crd(),
        DistributionPolicy::crd(),
        OverridePolicy::crd(),
    ]
}
