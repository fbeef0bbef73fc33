//! The custom resources of this layer and the types inside them, with the names they have on the wire.

mod accelerators;
mod affinity_terms;
mod cluster_affinity;
mod placement;
mod replica_scheduling;
mod spread_constraint;
mod weight;

pub use accelerators::{
    AcceleratorOperator, AcceleratorPreference, AcceleratorRequirement, ResourceConstraint,
};
pub use affinity_terms::{ClusterAffinityTerm, OverflowAffinity};
pub use cluster_affinity::{ClusterAffinity, ClusterField, FieldOperator, FieldRequirement, FieldSelector};
pub use placement::Placement;
pub use replica_scheduling::{
    DynamicWeight, ReplicaDivisionPreference, ReplicaScheduling, ReplicaSchedulingType, StaticClusterWeight,
    WeightPreference,
};
pub use spread_constraint::{SpreadConstraint, SpreadField};
pub use weight::Weight;
