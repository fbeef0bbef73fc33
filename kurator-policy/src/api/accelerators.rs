//! Hardware a workload asks of a cluster: an extended resource, of some types, in some quantity.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::weight::Weight;

/// Hardware a cluster must offer to be chosen, for example at least four GPUs of the types `a100` or `h100`.
///
/// Counted are the nodes whose type satisfies every requirement: their free units of the resource together must reach
/// `min_quantity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceConstraint {
    /// The extended resource, for example `nvidia.com/gpu`.
    #[schemars(length(min = 1, max = 317))]
    pub name: String,
    /// What the type of the hardware must be; none means any type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub requirements: Vec<AcceleratorRequirement>,
    /// At least so many free units in the cluster; left out means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000_000))]
    pub min_quantity: Option<u32>,
}

/// A condition on the type of the hardware on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorRequirement {
    /// The node label that names the type. Left out, the labels by which the resource's own operator publishes the
    /// product are read (for `nvidia.com/gpu`: `nvidia.com/gpu.product` and the like).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub key: Option<String>,
    /// How the type is compared with the values.
    pub operator: AcceleratorOperator,
    /// The types, for example `a100`. A value matches a type of the same name, and a product name that has it as one
    /// of its words (`NVIDIA-A100-SXM4-80GB`); letter case does not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub values: Vec<String>,
}

/// How a hardware type is compared with a list of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a wire value: a new operator is a new API version"
)]
pub enum AcceleratorOperator {
    /// The type is one of the values.
    In,
    /// The type is none of the values.
    NotIn,
    /// A type is published, whichever it is.
    Exists,
}

/// Hardware that is liked, not asked for: a cluster that offers it comes before one that does not. In a division what is
/// liked most is used up first; a workload that is copied goes to the clusters liked most only, and to others when
/// these have no room for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorPreference {
    /// How much it is liked; the weights of all the preferences a cluster satisfies are added up.
    pub weight: Weight,
    /// The hardware.
    pub preference: AcceleratorRequirement,
}
