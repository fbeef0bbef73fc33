//! The kinds of Kubernetes itself.

use std::collections::BTreeMap;

use kurator_core::names::ClusterName;
use serde_json::{Map, Value, json};

use super::super::ObjectKind;
use super::{ObjectHealth, ReplicaRequirements, ResourceInterpreter, aggregate, health};

/// The kinds of Kubernetes itself.
///
/// Replicas are divided for Deployment, ReplicaSet, StatefulSet and ReplicationController, and for a Job, whose replicas
/// are its `parallelism`; its `completions` are divided in the same proportion. A Job that is indexed, or limits the
/// failures of each index, goes whole to one cluster: its indices would be run twice. Every other kind is copied whole.
///
/// Requirements of a replica are read from the pod of everything that has one. Health, kept and aggregated status are
/// those of Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job, CronJob, Pod, Service, Ingress,
/// PersistentVolumeClaim, PodDisruptionBudget and HorizontalPodAutoscaler.
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

    fn is_job(kind: &ObjectKind) -> bool {
        (kind.api_version.as_str(), kind.kind.as_str()) == ("batch/v1", "Job")
    }

    /// Where the pod spec of a kind is.
    fn pod(kind: &ObjectKind) -> Option<&'static str> {
        match (kind.api_version.as_str(), kind.kind.as_str()) {
            ("apps/v1", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
            | ("v1", "ReplicationController")
            | ("batch/v1", "Job") => Some("/spec/template/spec"),
            ("batch/v1", "CronJob") => Some("/spec/jobTemplate/spec/template/spec"),
            ("v1", "Pod") => Some("/spec"),
            _ => None,
        }
    }
}

fn count(value: Option<&Value>, absent: u32) -> u32 {
    // The API server refuses negative numbers, so anything else is not from there.
    value.map_or(absent, |value| {
        value
            .as_u64()
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(0)
    })
}

impl ResourceInterpreter for BuiltinKinds {
    fn replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32> {
        // Absent means 1 to the API server.
        if Self::has_replicas(kind) {
            return Some(count(object.pointer("/spec/replicas"), 1));
        }
        Self::is_job(kind).then(|| count(object.pointer("/spec/parallelism"), 1))
    }

    fn set_replicas(&self, kind: &ObjectKind, object: &mut Value, replicas: u32) {
        let field = if Self::has_replicas(kind) {
            "replicas"
        } else if Self::is_job(kind) {
            "parallelism"
        } else {
            return;
        };
        let Some(object) = object.as_object_mut() else {
            return;
        };
        let spec = object.entry("spec").or_insert_with(|| Value::Object(Map::new()));
        if let Some(spec) = spec.as_object_mut() {
            spec.insert(field.to_owned(), json!(replicas));
        }
    }

    fn ready_replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32> {
        let field = if Self::has_replicas(kind) {
            "/status/readyReplicas"
        } else if Self::is_job(kind) {
            "/status/ready"
        } else {
            return None;
        };
        let ready = object.pointer(field).and_then(Value::as_u64).unwrap_or(0);
        Some(u32::try_from(ready).unwrap_or(u32::MAX))
    }

    fn requirements(&self, kind: &ObjectKind, object: &Value) -> Option<ReplicaRequirements> {
        ReplicaRequirements::of_pod(object.pointer(Self::pod(kind)?)?)
    }

    fn divided_totals(&self, kind: &ObjectKind, object: &Value) -> Vec<String> {
        let completions = "/spec/completions";
        if Self::is_job(kind) && object.pointer(completions).is_some() {
            vec![completions.to_owned()]
        } else {
            Vec::new()
        }
    }

    fn indivisible(&self, kind: &ObjectKind, object: &Value) -> bool {
        Self::is_job(kind)
            && (object.pointer("/spec/completionMode").and_then(Value::as_str) == Some("Indexed")
                || object.pointer("/spec/backoffLimitPerIndex").is_some())
    }

    fn health(&self, kind: &ObjectKind, object: &Value) -> ObjectHealth {
        health::of_builtin(kind, object)
    }

    fn kept_status(&self, kind: &ObjectKind, object: &Value) -> Option<Value> {
        aggregate::kept(kind, object)
    }

    fn aggregated_status(
        &self,
        kind: &ObjectKind,
        template: &Value,
        kept: &BTreeMap<ClusterName, Value>,
    ) -> Option<Value> {
        aggregate::aggregated(kind, template, kept)
    }

    fn member_owned(&self, kind: &ObjectKind, _: &Value) -> Vec<String> {
        // Controllers in the member fill these in; their values there must not be fought.
        match (kind.api_version.as_str(), kind.kind.as_str()) {
            ("v1", "ServiceAccount") => vec!["/secrets".to_owned()],
            ("v1", "Service") => vec!["/spec/healthCheckNodePort".to_owned()],
            ("v1", "PersistentVolumeClaim") => vec!["/spec/volumeName".to_owned()],
            _ => Vec::new(),
        }
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
            // The priority follows from the class, by the classes of each cluster; a pod never begins with the last.
            ("v1", "Pod") => &[
                ("/spec", "nodeName"),
                ("/spec", "priority"),
                ("/spec", "ephemeralContainers"),
            ],
            // The token of a service account is one of the hub: it must not leave it, and is worth nothing elsewhere.
            ("v1", "Secret") => {
                if object.get("type").and_then(Value::as_str) != Some(ACCOUNT_TOKEN) {
                    return;
                }
                &[("/data", "token"), ("/data", "ca.crt"), ("/data", "namespace")]
            }
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

/// The type of a Secret that the token controller fills in.
const ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";

/// The labels by which a Job's controller finds its pods name the Job of one cluster.
fn strip_job_labels(job: &mut Value) {
    // Those of the Job itself come from its pods where it has none.
    for place in ["/metadata/labels", "/spec/template/metadata/labels"] {
        let Some(Value::Object(labels)) = job.pointer_mut(place) else {
            continue;
        };
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
    fn a_token_of_the_hub_stays_there_and_other_secrets_go_whole() {
        let secret = |of: &str| json!({ "type": of, "data": { "token": "t", "ca.crt": "c", "mine": "m" } });
        let mut token = secret("kubernetes.io/service-account-token");
        BuiltinKinds.strip(&kind("v1", "Secret"), &mut token);
        assert_eq!(token["data"], json!({ "mine": "m" }));
        let mut opaque = secret("Opaque");
        BuiltinKinds.strip(&kind("v1", "Secret"), &mut opaque);
        assert_eq!(opaque, secret("Opaque"));
    }

    #[test]
    fn a_pod_is_copied_without_what_its_server_and_its_node_added() {
        let mut pod = json!({ "spec": {
            "nodeName": "n", "priority": 7, "priorityClassName": "high", "ephemeralContainers": [{}], "containers": [],
        } });
        BuiltinKinds.strip(&kind("v1", "Pod"), &mut pod);
        assert_eq!(
            pod,
            json!({ "spec": { "priorityClassName": "high", "containers": [] } })
        );
    }

    #[test]
    fn a_job_loses_the_selector_its_server_generated() {
        let mut job = json!({ "metadata": { "labels": { "job-name": "j" } }, "spec": {
            "selector": { "matchLabels": { "batch.kubernetes.io/controller-uid": "u" } },
            "template": { "metadata": { "labels": { "controller-uid": "u", "app": "a" } } },
        } });
        BuiltinKinds.strip(&kind("batch/v1", "Job"), &mut job);
        assert_eq!(
            job,
            json!({
                "metadata": { "labels": {} },
                "spec": { "template": { "metadata": { "labels": { "app": "a" } } } },
            })
        );
    }
}
