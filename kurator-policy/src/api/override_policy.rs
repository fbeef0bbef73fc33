use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{ClusterAffinity, ResourceSelector};

/// What to change in the selected objects, cluster by cluster, after their replicas were divided.
///
/// Policies are applied one after the other: lower `priority` first, then the less precise selector (kind only,
/// then labels, then name), then by name; what is applied later wins. Everything about the order, the
/// operators and what happens when a change does not fit is in `docs/overrides.md`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "policy.kurator.dev",
    version = "v1alpha1",
    kind = "OverridePolicy",
    plural = "overridepolicies",
    shortname = "opol",
    category = "kurator",
    namespaced,
    status = "OverridePolicyStatus",
    derive = "PartialEq",
    doc = "OverridePolicy changes the selected objects of its namespace for some of the clusters they are distributed to.",
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(
        name = "Kind",
        type_ = "string",
        json_path = ".spec.resourceSelectors[0].kind",
        description = "Kind of the first selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether every change could be made in every cluster"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct OverridePolicySpec {
    /// Orders policies that select the same object: the higher priority is applied later and wins. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The objects to change; one match is enough.
    #[schemars(length(max = 100))]
    #[x_kube(validation = Rule::new("size(self) > 0")
        .message("name at least one kind of object: a policy without selectors would change nothing"))]
    pub resource_selectors: Vec<ResourceSelector>,
    /// The changes, applied in the order written.
    #[schemars(length(max = 100))]
    #[x_kube(validation = Rule::new("size(self) > 0").message("give at least one rule"))]
    pub override_rules: Vec<OverrideRule>,
}

/// Some changes for some clusters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.overrides) && size(self.overrides) > 0) || has(self.overriders)")
    .message("a rule needs overrides or overriders: this one would change nothing"))]
pub struct OverrideRule {
    /// The clusters the changes are for; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_clusters: Option<ClusterAffinity>,
    /// Changes by path, applied after `overriders.plaintext` and before `overriders.mergePatch`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub overrides: Vec<PathOverride>,
    /// Changes that know what they change, with the field names Karmada uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overriders: Option<Overriders>,
}

/// How a value changes what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OverrideOperator {
    /// Add it, as in RFC 6902: a member is created or overwritten, an array element is inserted.
    Add,
    /// Take it away; it must be there.
    Remove,
    /// Put this in its place; it must be there.
    Replace,
}

/// One change at one place of the object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathOverride {
    /// JSON pointer (RFC 6901) to the place, such as `/spec/replicas`.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')")
        .message("a path is a JSON pointer and begins with \"/\", such as /spec/replicas"))]
    pub path: String,
    /// What to do. Without an operator the value is set: replaced if it is there, created if its parent is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<OverrideOperator>,
    /// The new value, any JSON; not used by `remove`.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "any_json")]
    pub value: Option<Value>,
}

/// Changes that know what they change. Whatever the order here, they are applied in the order image, command,
/// args, env, labels, annotations, field, plaintext, (the rule's `overrides`), merge patch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overriders {
    /// Changes of container images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub image_overrider: Vec<ImageOverrider>,
    /// Changes of the commands of containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub command_overrider: Vec<CommandArgsOverrider>,
    /// Changes of the arguments of containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub args_overrider: Vec<CommandArgsOverrider>,
    /// Changes of the environment of containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub env_overrider: Vec<EnvOverrider>,
    /// Changes of the object's own labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub labels_overrider: Vec<LabelAnnotationOverrider>,
    /// Changes of the object's own annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub annotations_overrider: Vec<LabelAnnotationOverrider>,
    /// Changes inside a text field that holds JSON or YAML.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub field_overrider: Vec<FieldOverrider>,
    /// JSON patch operations (RFC 6902) on the whole object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub plaintext: Vec<PlaintextOverrider>,
    /// A JSON merge patch (RFC 7386) on the whole object: members with null are removed, others are set. A client-side
    /// `kubectl apply` drops nulls from every manifest: use `kubectl apply --server-side`, or the operator `remove`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "json_object")]
    pub merge_patch: Option<Value>,
}

/// The part of an image reference to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum ImageComponent {
    /// The host before the first slash, such as `registry.example.com:5000`.
    Registry,
    /// The name between host and tag, such as `library/nginx`.
    Repository,
    /// The tag or the digest.
    Tag,
}

/// A change of one part of image references.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.operator == 'remove' || (has(self.value) && size(self.value) > 0)")
    .message("add and replace need a value"))]
pub struct ImageOverrider {
    /// The one image to change; without it, that of every container and init container of the pod template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<ImagePredicate>,
    /// The part to change.
    pub component: ImageComponent,
    /// `add` appends to the part, `replace` sets it, `remove` empties it.
    pub operator: OverrideOperator,
    /// The text to append or set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub value: Option<String>,
}

/// The place of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePredicate {
    /// JSON pointer to the image, such as `/spec/template/spec/containers/0/image`.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("a path begins with \"/\""))]
    pub path: String,
}

/// A change of the command or of the arguments of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.operator != 'replace'")
    .message("operator must be add or remove: words cannot be replaced in place"))]
pub struct CommandArgsOverrider {
    /// Name of the container or init container.
    #[schemars(length(min = 1, max = 63))]
    pub container_name: String,
    /// `add` appends the words, `remove` deletes every word equal to one of them.
    pub operator: OverrideOperator,
    /// The words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub value: Vec<String>,
}

/// A change of the environment of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvOverrider {
    /// Name of the container or init container.
    #[schemars(length(min = 1, max = 63))]
    pub container_name: String,
    /// `add` sets the variables, `replace` sets those that exist, `remove` deletes those that exist.
    pub operator: OverrideOperator,
    /// The variables.
    #[schemars(length(max = 100))]
    pub value: Vec<EnvVariable>,
}

/// One environment variable, as in a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.value) && has(self.valueFrom))")
    .message("give either value or valueFrom"))]
pub struct EnvVariable {
    /// Its name.
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where its value comes from, as in a container's `valueFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "json_object")]
    pub value_from: Option<Value>,
}

/// A change of labels or annotations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelAnnotationOverrider {
    /// `add` sets the keys, `replace` sets those that exist, `remove` deletes those that exist.
    pub operator: OverrideOperator,
    /// Keys and values; for `remove` the values are not looked at.
    pub value: BTreeMap<String, String>,
}

/// Changes inside a text field, such as a file in a ConfigMap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.json) != has(self.yaml)").message("give either json or yaml"))]
pub struct FieldOverrider {
    /// JSON pointer to the text, such as `/data/settings.json`.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("a path begins with \"/\""))]
    pub field_path: String,
    /// Operations on the text read as JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub json: Vec<FieldPatch>,
    /// Operations on the text read as YAML; it is printed anew, so comments and layout are lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub yaml: Vec<FieldPatch>,
}

/// One operation inside a text field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldPatch {
    /// JSON pointer inside the text.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("a path begins with \"/\""))]
    pub sub_path: String,
    /// What to do, as in RFC 6902.
    pub operator: OverrideOperator,
    /// The new value, any JSON; not used by `remove`.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "any_json")]
    pub value: Option<Value>,
}

/// One JSON patch operation (RFC 6902) on the whole object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlaintextOverrider {
    /// JSON pointer to the place.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("a path begins with \"/\""))]
    pub path: String,
    /// What to do, as in RFC 6902.
    pub operator: OverrideOperator,
    /// The new value, any JSON; not used by `remove`.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "any_json")]
    pub value: Option<Value>,
}

/// What became of an override policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverridePolicyStatus {
    /// The generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` and `Degraded`, with a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// An explicit `null` is a value; a missing field is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn any_json(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}

fn json_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
