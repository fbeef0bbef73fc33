//! When a change of a policy begins to hold for an object, and which placement holds for it until then.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a change of a policy begins to hold for an object; see
/// [`active_placement`](crate::propagate::active_placement).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum Activation {
    /// At once.
    #[default]
    Immediate,
    /// With the next change of the object itself.
    Lazy,
}

/// A placement that holds for some of the objects of a policy that activates lazily.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementInUse {
    /// Its name: a fingerprint of what it says.
    pub revision: String,
    /// What it says, as JSON. Missing if the status had no room for it any more: the objects then stay where they are
    /// until their template changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// Whether it is an earlier one than that of the policy, so that the objects wait for their template to change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
    /// The objects it holds for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ActivatedObjects>,
}

/// Objects of one kind as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivatedObjects {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// By name, the fingerprint that the template of each had then, replica count apart.
    pub templates: BTreeMap<String, String>,
}
