//! What a kind means to a policy: where its replicas are, and which of its fields belong to one cluster only.

use std::fmt::Debug;

use serde_json::{Map, Value, json};

use super::ObjectKind;

/// Knows the fields of kinds.
///
/// Pure: the same object gives the same answer, and no method fails. A host that distributes kinds of its own
/// implements this for them and falls back to [`BuiltinKinds`].
pub trait ResourceInterpreter: Debug + Send + Sync {
    /// How many replicas the object asks for; `None` if replicas mean nothing to its kind, so that it is copied whole.
    fn replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32>;

    /// Makes the object ask for this many replicas.
    fn set_replicas(&self, kind: &ObjectKind, object: &mut Value, replicas: u32);

    /// How many replicas of an object in a member are ready, by the status its controllers wrote there.
    fn ready_replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32>;

    /// Takes out what another cluster must fill in for itself. Server-set metadata and status are gone already.
    fn strip(&self, kind: &ObjectKind, object: &mut Value);
}

/// The kinds of Kubernetes itself.
///
/// Replicas are divided for Deployment, ReplicaSet, StatefulSet and ReplicationController; ready replicas are
/// their `status.readyReplicas`. Every other kind is copied whole.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no settings")]
pub struct BuiltinKinds;

impl BuiltinKinds {
    fn has_replicas(kind: &ObjectKind) -> bool {
        matches!(
            (kind.api_version.as_str(), kind.kind.as_str()),
            ("apps/v1", "Deployment" | "ReplicaSet" | "StatefulSet") | ("v1", "ReplicationController")
        )
    }
}

impl ResourceInterpreter for BuiltinKinds {
    fn replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32> {
        if !Self::has_replicas(kind) {
            return None;
        }
        // Absent means 1 to the API server; it refuses negative numbers, so anything else is not from there.
        let replicas = object.pointer("/spec/replicas").map_or(Some(1), Value::as_u64);
        Some(
            replicas
                .and_then(|replicas| u32::try_from(replicas).ok())
                .unwrap_or(0),
        )
    }

    fn set_replicas(&self, kind: &ObjectKind, object: &mut Value, replicas: u32) {
        if !Self::has_replicas(kind) {
            return;
        }
        let Some(object) = object.as_object_mut() else {
            return;
        };
        let spec = object.entry("spec").or_insert_with(|| Value::Object(Map::new()));
        if let Some(spec) = spec.as_object_mut() {
            spec.insert("replicas".to_owned(), json!(replicas));
        }
    }

    fn ready_replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32> {
        if !Self::has_replicas(kind) {
            return None;
        }
        let ready = object
            .pointer("/status/readyReplicas")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        Some(u32::try_from(ready).unwrap_or(u32::MAX))
    }

    fn strip(&self, kind: &ObjectKind, object: &mut Value) {
        let fields: &[(&str, &str)] = match (kind.api_version.as_str(), kind.kind.as_str()) {
            ("v1", "Service") => {
                // "None" makes a Service headless and is a wish; an address is an answer.
                if object.pointer("/spec/clusterIP").and_then(Value::as_str) == Some("None") {
                    &[("/spec", "healthCheckNodePort")]
                } else {
                    &[
                        ("/spec", "clusterIP"),
                        ("/spec", "clusterIPs"),
                        ("/spec", "healthCheckNodePort"),
                    ]
                }
            }
            ("v1", "Pod") => &[("/spec", "nodeName")],
            ("v1", "PersistentVolumeClaim") => &[("/spec", "volumeName")],
            ("v1", "ServiceAccount") => &[("", "secrets")],
            ("batch/v1", "Job") => {
                if object.pointer("/spec/manualSelector").and_then(Value::as_bool) == Some(true) {
                    &[]
                } else {
                    strip_job_labels(object);
                    &[("/spec", "selector")]
                }
            }
            _ => &[],
        };
        for (parent, field) in fields {
            if let Some(Value::Object(parent)) = object.pointer_mut(parent) {
                parent.remove(*field);
            }
        }
    }
}

/// The labels by which a Job's controller finds its pods name the Job of one cluster.
fn strip_job_labels(job: &mut Value) {
    if let Some(Value::Object(labels)) = job.pointer_mut("/spec/template/metadata/labels") {
        for label in [
            "batch.kubernetes.io/controller-uid",
            "batch.kubernetes.io/job-name",
            "controller-uid",
            "job-name",
        ] {
            labels.remove(label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(api_version: &str, kind: &str) -> ObjectKind {
        ObjectKind::new(api_version, kind)
    }

    #[test]
    fn a_deployment_without_replicas_asks_for_one() {
        let deployment = kind("apps/v1", "Deployment");
        assert_eq!(
            BuiltinKinds.replicas(&deployment, &json!({ "spec": {} })),
            Some(1)
        );
        assert_eq!(
            BuiltinKinds.replicas(&deployment, &json!({ "spec": { "replicas": 0 } })),
            Some(0)
        );
        assert_eq!(BuiltinKinds.replicas(&kind("v1", "ConfigMap"), &json!({})), None);
    }

    #[test]
    fn a_cluster_ip_is_left_behind_but_headless_is_kept() {
        let service = kind("v1", "Service");
        let mut address =
            json!({ "spec": { "clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "ports": [] } });
        BuiltinKinds.strip(&service, &mut address);
        assert_eq!(address, json!({ "spec": { "ports": [] } }));
        let mut headless = json!({ "spec": { "clusterIP": "None", "clusterIPs": ["None"] } });
        BuiltinKinds.strip(&service, &mut headless);
        assert_eq!(
            headless,
            json!({ "spec": { "clusterIP": "None", "clusterIPs": ["None"] } })
        );
    }

    #[test]
    fn a_job_loses_the_selector_its_server_generated() {
        let mut job = json!({ "spec": {
            "selector": { "matchLabels": { "batch.kubernetes.io/controller-uid": "u" } },
            "template": { "metadata": { "labels": { "controller-uid": "u", "app": "a" } } },
        } });
        BuiltinKinds.strip(&kind("batch/v1", "Job"), &mut job);
        assert_eq!(
            job,
            json!({ "spec": { "template": { "metadata": { "labels": { "app": "a" } } } } })
        );
    }
}
