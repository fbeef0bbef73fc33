use std::fmt;

use serde_json::Value;

use super::super::ObjectKind;

/// How an object in a member is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectHealth {
    /// It does what it is for.
    Healthy,
    /// It is on its way, or finished only in part.
    Progressing {
        /// What it waits for.
        why: String,
    },
    /// It will not get well by waiting.
    Unhealthy {
        /// What is wrong.
        why: String,
    },
    /// Nothing is known of how this kind tells.
    #[default]
    Unknown,
}

impl ObjectHealth {
    fn progressing(why: impl Into<String>) -> Self {
        Self::Progressing { why: why.into() }
    }

    fn unhealthy(why: impl Into<String>) -> Self {
        Self::Unhealthy { why: why.into() }
    }

    /// The CamelCase token for conditions, Events and metrics.
    #[must_use]
    pub const fn token(&self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Progressing { .. } => "Progressing",
            Self::Unhealthy { .. } => "Unhealthy",
            Self::Unknown => "HealthUnknown",
        }
    }
}

impl fmt::Display for ObjectHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Progressing { why } => write!(f, "on its way: {why}"),
            Self::Unhealthy { why } => write!(f, "not healthy: {why}"),
            Self::Unknown => f.write_str("not known"),
        }
    }
}

/// The health of a built-in kind.
pub(super) fn of_builtin(kind: &ObjectKind, object: &Value) -> ObjectHealth {
    match (kind.api_version.as_str(), kind.kind.as_str()) {
        ("apps/v1", "Deployment") => deployment(object),
        ("apps/v1", "StatefulSet") => stateful_set(object),
        ("apps/v1", "DaemonSet") => daemon_set(object),
        ("apps/v1", "ReplicaSet") | ("v1", "ReplicationController") => replica_set(object),
        ("batch/v1", "Job") => job(object),
        ("v1", "Pod") => pod(object),
        ("v1", "Service") => service(object),
        ("networking.k8s.io/v1", "Ingress") => ingress(object),
        ("v1", "PersistentVolumeClaim") => claim(object),
        ("policy/v1", "PodDisruptionBudget") => budget(object),
        ("autoscaling/v2" | "autoscaling/v1", "HorizontalPodAutoscaler") => autoscaler(object),
        // What is only data, or only starts others, is well when it is there.
        ("batch/v1", "CronJob") | ("v1", "ConfigMap" | "Secret" | "ServiceAccount" | "Namespace") => {
            ObjectHealth::Healthy
        }
        _ => ObjectHealth::Unknown,
    }
}

fn number(object: &Value, pointer: &str) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn wanted(object: &Value) -> u64 {
    object
        .pointer("/spec/replicas")
        .map_or(1, |n| n.as_u64().unwrap_or(0))
}

/// A condition that has this status: its reason and message.
pub(super) fn condition(object: &Value, type_: &str, status: &str) -> Option<String> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let text =
        |condition: &Value, field: &str| condition.get(field).and_then(Value::as_str).map(str::to_owned);
    let found = conditions.iter().find(|condition| {
        text(condition, "type").as_deref() == Some(type_)
            && text(condition, "status").as_deref() == Some(status)
    })?;
    let (reason, message) = (text(found, "reason"), text(found, "message"));
    let parts: Vec<String> = [reason, message]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    Some(parts.join(": "))
}

/// Whether the controller has not yet looked at what is wanted now.
fn unseen(object: &Value) -> Option<ObjectHealth> {
    let (generation, observed) = (
        number(object, "/metadata/generation"),
        number(object, "/status/observedGeneration"),
    );
    (observed < generation).then(|| ObjectHealth::progressing("its controller has not seen the last change"))
}

fn short(have: u64, of: u64, what: &str) -> Option<ObjectHealth> {
    (have < of).then(|| ObjectHealth::progressing(format!("{have} of {of} replicas are {what}")))
}

fn deployment(object: &Value) -> ObjectHealth {
    if let Some(unseen) = unseen(object) {
        return unseen;
    }
    if let Some(why) = condition(object, "Progressing", "False") {
        return ObjectHealth::unhealthy(why);
    }
    if let Some(why) = condition(object, "ReplicaFailure", "True") {
        return ObjectHealth::unhealthy(why);
    }
    let wanted = wanted(object);
    short(number(object, "/status/updatedReplicas"), wanted, "up to date")
        .or_else(|| short(number(object, "/status/availableReplicas"), wanted, "available"))
        .unwrap_or(ObjectHealth::Healthy)
}

fn replica_set(object: &Value) -> ObjectHealth {
    if let Some(unseen) = unseen(object) {
        return unseen;
    }
    if let Some(why) = condition(object, "ReplicaFailure", "True") {
        return ObjectHealth::unhealthy(why);
    }
    short(number(object, "/status/readyReplicas"), wanted(object), "ready").unwrap_or(ObjectHealth::Healthy)
}

fn stateful_set(object: &Value) -> ObjectHealth {
    if let Some(unseen) = unseen(object) {
        return unseen;
    }
    let wanted = wanted(object);
    if let Some(short) = short(number(object, "/status/readyReplicas"), wanted, "ready") {
        return short;
    }
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    // On delete, or below the partition, old replicas stay because they are meant to.
    let rolls = text("/spec/updateStrategy/type") != Some("OnDelete");
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition");
    let updated = number(object, "/status/updatedReplicas");
    let due = wanted.saturating_sub(partition);
    if rolls && text("/status/currentRevision") != text("/status/updateRevision") && updated < due {
        return ObjectHealth::progressing(format!("{updated} of {due} replicas are up to date"));
    }
    ObjectHealth::Healthy
}

fn daemon_set(object: &Value) -> ObjectHealth {
    if let Some(unseen) = unseen(object) {
        return unseen;
    }
    let wanted = number(object, "/status/desiredNumberScheduled");
    let rolls = object
        .pointer("/spec/updateStrategy/type")
        .and_then(Value::as_str)
        != Some("OnDelete");
    let updated = number(object, "/status/updatedNumberScheduled");
    if rolls && updated < wanted {
        return ObjectHealth::progressing(format!("{updated} of {wanted} nodes are up to date"));
    }
    short(number(object, "/status/numberAvailable"), wanted, "available").unwrap_or(ObjectHealth::Healthy)
}

fn job(object: &Value) -> ObjectHealth {
    if let Some(why) = condition(object, "Failed", "True") {
        return ObjectHealth::unhealthy(why);
    }
    if condition(object, "Complete", "True").is_some() {
        return ObjectHealth::Healthy;
    }
    if object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        return ObjectHealth::progressing("it is suspended");
    }
    let (succeeded, active) = (
        number(object, "/status/succeeded"),
        number(object, "/status/active"),
    );
    ObjectHealth::progressing(format!("{active} pods are active, {succeeded} have succeeded"))
}

/// Reasons for which a container waits in vain.
const STUCK: [&str; 7] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];

fn pod(object: &Value) -> ObjectHealth {
    let stuck = ["/status/initContainerStatuses", "/status/containerStatuses"]
        .into_iter()
        .filter_map(|pointer| object.pointer(pointer)?.as_array())
        .flatten()
        .filter_map(|status| {
            Some((
                status.get("name")?.as_str()?,
                status.pointer("/state/waiting/reason")?.as_str()?,
            ))
        })
        .find(|(_, reason)| STUCK.contains(reason));
    if let Some((container, reason)) = stuck {
        return ObjectHealth::unhealthy(format!("container {container}: {reason}"));
    }
    match object.pointer("/status/phase").and_then(Value::as_str) {
        Some("Succeeded") => ObjectHealth::Healthy,
        Some("Failed") => {
            let reason = object.pointer("/status/reason").and_then(Value::as_str);
            ObjectHealth::unhealthy(reason.unwrap_or("it failed"))
        }
        _ if condition(object, "Ready", "True").is_some() => ObjectHealth::Healthy,
        _ => ObjectHealth::progressing("it is not ready"),
    }
}

fn has_address(object: &Value) -> bool {
    let addresses = object
        .pointer("/status/loadBalancer/ingress")
        .and_then(Value::as_array);
    addresses.is_some_and(|addresses| !addresses.is_empty())
}

fn service(object: &Value) -> ObjectHealth {
    let balanced = object.pointer("/spec/type").and_then(Value::as_str) == Some("LoadBalancer");
    if balanced && !has_address(object) {
        return ObjectHealth::progressing("it has no address of a load balancer");
    }
    ObjectHealth::Healthy
}

fn ingress(object: &Value) -> ObjectHealth {
    if has_address(object) {
        ObjectHealth::Healthy
    } else {
        ObjectHealth::progressing("it has no address")
    }
}

fn claim(object: &Value) -> ObjectHealth {
    match object.pointer("/status/phase").and_then(Value::as_str) {
        Some("Bound") => ObjectHealth::Healthy,
        Some("Lost") => ObjectHealth::unhealthy("its volume is lost"),
        _ => ObjectHealth::progressing("it is not bound"),
    }
}

fn budget(object: &Value) -> ObjectHealth {
    if let Some(unseen) = unseen(object) {
        return unseen;
    }
    let (healthy, needed) = (
        number(object, "/status/currentHealthy"),
        number(object, "/status/desiredHealthy"),
    );
    if healthy < needed {
        return ObjectHealth::progressing(format!("{healthy} of {needed} pods are healthy"));
    }
    ObjectHealth::Healthy
}

fn autoscaler(object: &Value) -> ObjectHealth {
    for type_ in ["AbleToScale", "ScalingActive"] {
        let why = condition(object, type_, "False");
        // Scaled to zero by hand, it waits by intention.
        if let Some(why) = why.filter(|why| !why.starts_with("ScalingDisabled")) {
            return ObjectHealth::unhealthy(why);
        }
    }
    ObjectHealth::Healthy
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn health(api_version: &str, kind: &str, object: Value) -> String {
        of_builtin(&ObjectKind::new(api_version, kind), &object).to_string()
    }

    #[test]
    fn a_deployment_is_well_when_the_last_change_is_available() {
        let of = |status: Value| {
            let object =
                json!({ "metadata": { "generation": 2 }, "spec": { "replicas": 3 }, "status": status });
            health("apps/v1", "Deployment", object)
        };
        assert_eq!(
            of(json!({})),
            "on its way: its controller has not seen the last change"
        );
        let status = |updated: u32, available: u32| json!({ "observedGeneration": 2, "updatedReplicas": updated, "availableReplicas": available });
        assert_eq!(of(status(2, 3)), "on its way: 2 of 3 replicas are up to date");
        assert_eq!(of(status(3, 2)), "on its way: 2 of 3 replicas are available");
        assert_eq!(of(status(3, 3)), "healthy");
        let mut late = status(3, 3);
        late["conditions"] = json!([
            { "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m" },
        ]);
        assert_eq!(of(late), "not healthy: ProgressDeadlineExceeded: m");
    }

    #[test]
    fn old_replicas_below_the_partition_are_meant_to_stay() {
        let of = |partition: u32| {
            health(
                "apps/v1",
                "StatefulSet",
                json!({
                    "spec": { "replicas": 3, "updateStrategy": { "rollingUpdate": { "partition": partition } } },
                    "status": { "readyReplicas": 3, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b" },
                }),
            )
        };
        assert_eq!(of(2), "healthy");
        assert_eq!(of(0), "on its way: 1 of 3 replicas are up to date");
    }

    #[test]
    fn a_job_is_well_when_it_is_complete() {
        let of = |status: Value| health("batch/v1", "Job", json!({ "status": status }));
        let condition =
            |type_: &str| json!({ "conditions": [{ "type": type_, "status": "True", "reason": "R" }] });
        assert_eq!(of(condition("Complete")), "healthy");
        assert_eq!(of(condition("Failed")), "not healthy: R");
        assert_eq!(
            of(json!({ "active": 2 })),
            "on its way: 2 pods are active, 0 have succeeded"
        );
    }

    #[test]
    fn a_pod_that_cannot_get_its_image_does_not_get_well_by_waiting() {
        let waiting = json!({ "status": { "phase": "Pending", "containerStatuses": [
            { "name": "app", "state": { "waiting": { "reason": "ImagePullBackOff" } } },
        ] } });
        assert_eq!(
            health("v1", "Pod", waiting),
            "not healthy: container app: ImagePullBackOff"
        );
        let ready = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
        assert_eq!(health("v1", "Pod", ready), "healthy");
    }

    #[test]
    fn the_others_tell_in_their_own_way() {
        for (api_version, kind, object, expected) in [
            (
                "v1",
                "Service",
                json!({ "spec": { "type": "ClusterIP" } }),
                "healthy",
            ),
            (
                "v1",
                "Service",
                json!({ "spec": { "type": "LoadBalancer" } }),
                "on its way: it has no address of a load balancer",
            ),
            (
                "networking.k8s.io/v1",
                "Ingress",
                json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "10.0.0.1" }] } } }),
                "healthy",
            ),
            (
                "v1",
                "PersistentVolumeClaim",
                json!({ "status": { "phase": "Lost" } }),
                "not healthy: its volume is lost",
            ),
            (
                "policy/v1",
                "PodDisruptionBudget",
                json!({ "status": { "currentHealthy": 1, "desiredHealthy": 2 } }),
                "on its way: 1 of 2 pods are healthy",
            ),
            (
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                json!({ "status": { "conditions": [
                    { "type": "ScalingActive", "status": "False", "reason": "ScalingDisabled" },
                ] } }),
                "healthy",
            ),
            (
                "apps/v1",
                "DaemonSet",
                json!({ "status": { "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 2 } }),
                "on its way: 2 of 3 replicas are available",
            ),
            ("batch/v1", "CronJob", json!({}), "healthy"),
            ("example.com/v1", "Engine", json!({}), "not known"),
        ] {
            assert_eq!(health(api_version, kind, object), expected, "{kind}");
        }
    }
}
