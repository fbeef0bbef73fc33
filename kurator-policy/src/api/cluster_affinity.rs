//! Which member clusters a rule speaks of: by name, by label, by where they run, minus exclusions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A set of member clusters, described.
///
/// Every part that is given must hold; a part left out or left empty asks for nothing, so the empty affinity is
/// every cluster of the fleet. `exclude` wins over everything else. The meaning is that of Karmada's
/// `ClusterAffinity`.
///
/// ```
/// # fn main() -> Result<(), serde_json::Error> {
/// use kurator_policy::api::ClusterAffinity;
///
/// let affinity: ClusterAffinity = serde_json::from_str(
///     r#"{"clusterNames": ["prod", "dr"], "exclude": ["dr"]}"#,
/// )?;
/// assert_eq!(affinity.cluster_names, ["prod", "dr"]);
/// assert!(affinity.label_selector.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterAffinity {
    /// Only these members. Names that no member bears are ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(max = 253)))]
    pub cluster_names: Vec<String>,
    /// Never these members, whatever else is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(max = 253)))]
    pub exclude: Vec<String>,
    /// Only members whose labels match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Only members that run where this says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_selector: Option<FieldSelector>,
}

impl ClusterAffinity {
    /// Exactly these members.
    ///
    /// ```
    /// use kurator_policy::api::ClusterAffinity;
    /// assert_eq!(ClusterAffinity::names(["prod", "dr"]).cluster_names.len(), 2);
    /// ```
    pub fn names<I, S>(names: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self {
            cluster_names: names.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

/// Conditions on a member's provider, region and zones; all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldSelector {
    /// The conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub match_expressions: Vec<FieldRequirement>,
}

/// One condition on a member's provider, region or zones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldRequirement {
    /// The field looked at.
    pub key: ClusterField,
    /// How the field is compared with the values.
    pub operator: FieldOperator,
    /// The values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 253)))]
    pub values: Vec<String>,
}

/// What is known of where a member runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::exhaustive_enums,
    reason = "a wire value: a new field is a new API version"
)]
pub enum ClusterField {
    /// Who runs the machines.
    Provider,
    /// The provider's region.
    Region,
    /// The zones; a member may span several.
    Zone,
}

/// How a field is compared with a list of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a wire value: a new operator is a new API version"
)]
pub enum FieldOperator {
    /// The field is one of the values; for zones, at least one of the member's zones is.
    In,
    /// The field is none of the values; for zones, none of the member's zones is.
    NotIn,
}
