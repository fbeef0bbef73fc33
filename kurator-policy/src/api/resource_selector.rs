use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Which objects of the policy's own namespace a policy is about.
///
/// An object is selected when its `apiVersion` and `kind` are equal to these and, if given, its name or its
/// labels agree. A policy never looks outside its own namespace, so there is no namespace field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.name) && has(self.labelSelector))")
    .message("give either name or labelSelector, not both"))]
pub struct ResourceSelector {
    /// Group and version of the objects, such as `apps/v1`, or `v1` for the core group.
    #[schemars(length(min = 1, max = 253))]
    pub api_version: String,
    /// Kind of the objects, such as `Deployment`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the one object that is meant. Without a name and without labels every object of the kind is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// Labels of the objects that are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
}
