//! What a policy copies: an object of the hub without what belongs to the hub.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{CLAIMED_BY, ObjectKey, ResourceInterpreter, interpret::strip_allocated};

/// Annotations that describe the life of an object in one cluster.
const LOCAL_ANNOTATIONS: [&str; 11] = [
    CLAIMED_BY,
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "deprecated.daemonset.template.generation",
    "batch.kubernetes.io/job-tracking",
    // That of a service account on the hub.
    "kubernetes.io/service-account.uid",
    // A claim with these would be taken for bound to a volume of another cluster.
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
];

/// An object of the hub, ready to be copied.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Template {
    /// Which object.
    pub key: ObjectKey,
    /// Its UID on the hub; breaks ties of a division.
    pub uid: String,
    /// When it was created on the hub, if its API server has said so.
    pub created: Option<Timestamp>,
    /// What is copied. Shared with the plans that copy it as it is.
    pub manifest: Arc<Value>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How many replicas it asks for; `None` if its kind has none.
    pub replicas: Option<u32>,
    /// Changes when the manifest does, and only then. 16 hexadecimal digits.
    pub revision: String,
}

/// An object that cannot be a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an object without apiVersion, kind or name cannot be distributed: is it a list?")]
#[non_exhaustive]
pub struct TemplateError {}

impl Template {
    /// Makes a template of `object` as the hub's API server returned it.
    ///
    /// Kept are its kind, name, namespace, labels and annotations and everything beside `metadata` and `status`,
    /// minus what the interpreter strips, and of a Service the node ports and IP families that its API server chose by
    /// itself: those that no manager owns, where the object has `managedFields`.
    ///
    /// # Errors
    /// [`TemplateError`] if it is not one object.
    pub fn of(object: &Value, interpreter: &dyn ResourceInterpreter) -> Result<Self, TemplateError> {
        let key = ObjectKey::of(object).ok_or(TemplateError {})?;
        let Value::Object(fields) = object else {
            return Err(TemplateError {});
        };
        let mut kept: Map<String, Value> = fields
            .iter()
            .filter(|(field, _)| !matches!(field.as_str(), "metadata" | "status"))
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect();
        kept.insert("metadata".to_owned(), metadata(object));
        let mut manifest = Value::Object(kept);
        if (key.kind.api_version.as_str(), key.kind.kind.as_str()) == ("v1", "Service")
            && let Some(spec) = manifest.get_mut("spec")
        {
            strip_allocated(owned_fields(object), spec);
        }
        interpreter.strip(&key.kind, &mut manifest);
        let replicas = interpreter.replicas(&key.kind, &manifest);
        let created = object
            .pointer("/metadata/creationTimestamp")
            .and_then(|created| created.as_str()?.parse().ok());
        let uid = object
            .pointer("/metadata/uid")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let revision = revision(&manifest);
        let labels = labels(&manifest);
        Ok(Self {
            key,
            uid,
            created,
            manifest: Arc::new(manifest),
            labels,
            replicas,
            revision,
        })
    }
}

/// What the managers of an object have set in it, its status left out.
fn owned_fields(object: &Value) -> impl Iterator<Item = &Value> {
    let entries = object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    let own = entries
        .into_iter()
        .flatten()
        .filter(|entry| entry.get("subresource").is_none());
    own.filter_map(|entry| entry.get("fieldsV1"))
}

/// The labels of a manifest.
pub(super) fn labels(manifest: &Value) -> BTreeMap<String, String> {
    let labels = manifest.pointer("/metadata/labels").and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn metadata(object: &Value) -> Value {
    let mut kept = Map::new();
    let Some(Value::Object(metadata)) = object.get("metadata") else {
        return Value::Object(kept);
    };
    for field in ["name", "namespace", "labels", "annotations"] {
        let Some(mut value) = metadata.get(field).cloned() else {
            continue;
        };
        if let (true, Value::Object(annotations)) = (field == "annotations", &mut value) {
            annotations.retain(|key, _| !LOCAL_ANNOTATIONS.contains(&key.as_str()));
        }
        if value.as_object().is_none_or(|map| !map.is_empty()) {
            kept.insert(field.to_owned(), value);
        }
    }
    Value::Object(kept)
}

/// A fingerprint of a JSON value: FNV-1a over its members in the order of their names, as 16 hexadecimal digits.
///
/// It tells revisions of one object apart; it is no protection against someone who searches for a collision.
#[must_use]
pub fn revision(value: &Value) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    write(value, &mut hash);
    format!("{hash:016x}")
}

fn write(value: &Value, hash: &mut u64) {
    match value {
        Value::Object(map) => {
            bytes(b"{", hash);
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(name, _)| name.as_str());
            for (name, member) in members {
                text(name, hash);
                write(member, hash);
            }
            bytes(b"}", hash);
        }
        Value::Array(items) => {
            bytes(b"[", hash);
            for item in items {
                write(item, hash);
            }
            bytes(b"]", hash);
        }
        Value::String(string) => text(string, hash),
        Value::Number(number) => {
            bytes(b"#", hash);
            bytes(number.to_string().as_bytes(), hash);
            bytes(b";", hash);
        }
        Value::Bool(true) => bytes(b"t", hash),
        Value::Bool(false) => bytes(b"f", hash),
        Value::Null => bytes(b"0", hash),
    }
}

/// A string cannot imitate what follows it: 0xff is not a byte of UTF-8.
fn text(string: &str, hash: &mut u64) {
    bytes(b"\"", hash);
    bytes(string.as_bytes(), hash);
    bytes(&[0xff], hash);
}

fn bytes(bytes: &[u8], hash: &mut u64) {
    for byte in bytes {
        *hash = (*hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::propagate::BuiltinKinds;

    fn deployment() -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "7", "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{}], "finalizers": ["x/y"],
                "ownerReferences": [{}], "labels": { "app": "web" },
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}" },
            },
            "spec": { "replicas": 20, "paused": false },
            "status": { "readyReplicas": 3 },
        })
    }

    #[test]
    fn what_belongs_to_the_hub_stays_there() {
        let template = Template::of(&deployment(), &BuiltinKinds).unwrap();
        assert_eq!(
            *template.manifest,
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": { "name": "web", "namespace": "shop", "labels": { "app": "web" } },
                "spec": { "replicas": 20, "paused": false },
            })
        );
        assert_eq!(template.replicas, Some(20));
        assert_eq!(template.uid, "u-1");
        assert_eq!(
            template.labels,
            BTreeMap::from([("app".to_owned(), "web".to_owned())])
        );
    }

    #[test]
    fn the_revision_follows_the_manifest_and_nothing_else() {
        let before = Template::of(&deployment(), &BuiltinKinds).unwrap().revision;
        let mut other = deployment();
        other["metadata"]["resourceVersion"] = json!("8");
        other["status"]["readyReplicas"] = json!(4);
        assert_eq!(Template::of(&other, &BuiltinKinds).unwrap().revision, before);
        other["spec"]["paused"] = json!(true);
        assert_ne!(Template::of(&other, &BuiltinKinds).unwrap().revision, before);
        assert_ne!(revision(&json!(["a", "b"])), revision(&json!(["ab"])));
        assert_ne!(revision(&json!([[], 1])), revision(&json!([[1]])));
    }

    #[test]
    fn a_list_is_no_template() {
        assert_eq!(
            Template::of(&json!({ "apiVersion": "v1", "kind": "List" }), &BuiltinKinds),
            Err(TemplateError {})
        );
    }
}
