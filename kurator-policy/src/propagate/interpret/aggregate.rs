//! One status out of many.

use std::collections::{BTreeMap, BTreeSet};

use kurator_core::names::ClusterName;
use serde_json::{Map, Value, json};

use super::super::ObjectKind;

/// How the fields of a kind's status are kept, and put together.
struct Fields {
    /// Counts that add up.
    sums: &'static [&'static str],
    /// Times of which the latest counts.
    latest: &'static [&'static str],
    /// Times of which the earliest counts.
    earliest: &'static [&'static str],
    /// Lists that are joined, without what is there twice.
    lists: &'static [&'static str],
}

const NONE: Fields = Fields {
    sums: &[],
    latest: &[],
    earliest: &[],
    lists: &[],
};

fn fields(kind: &ObjectKind) -> Option<Fields> {
    let fields = match (kind.api_version.as_str(), kind.kind.as_str()) {
        ("apps/v1", "Deployment") => Fields {
            sums: &[
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
            ],
            ..NONE
        },
        ("apps/v1", "StatefulSet") => Fields {
            sums: &[
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "currentReplicas",
            ],
            ..NONE
        },
        ("apps/v1", "ReplicaSet") | ("v1", "ReplicationController") => Fields {
            sums: &[
                "replicas",
                "readyReplicas",
                "availableReplicas",
                "fullyLabeledReplicas",
            ],
            ..NONE
        },
        ("apps/v1", "DaemonSet") => Fields {
            sums: &[
                "currentNumberScheduled",
                "desiredNumberScheduled",
                "numberAvailable",
                "numberMisscheduled",
                "numberReady",
                "numberUnavailable",
                "updatedNumberScheduled",
            ],
            ..NONE
        },
        ("batch/v1", "Job") => Fields {
            sums: &["active", "ready", "succeeded", "failed"],
            earliest: &["startTime"],
            ..NONE
        },
        ("batch/v1", "CronJob") => Fields {
            latest: &["lastScheduleTime", "lastSuccessfulTime"],
            lists: &["active"],
            ..NONE
        },
        ("v1", "Service") | ("networking.k8s.io/v1", "Ingress") => Fields {
            lists: &["loadBalancer/ingress"],
            ..NONE
        },
        ("policy/v1", "PodDisruptionBudget") => Fields {
            sums: &[
                "currentHealthy",
                "desiredHealthy",
                "disruptionsAllowed",
                "expectedPods",
            ],
            ..NONE
        },
        ("autoscaling/v2" | "autoscaling/v1", "HorizontalPodAutoscaler") => Fields {
            sums: &["currentReplicas", "desiredReplicas"],
            latest: &["lastScaleTime"],
            ..NONE
        },
        ("v1", "Pod" | "PersistentVolumeClaim") => NONE,
        _ => return None,
    };
    Some(fields)
}

/// Phases from well to ill.
const PHASES: [&str; 8] = [
    "Succeeded",
    "Bound",
    "Running",
    "Active",
    "Pending",
    "Unknown",
    "Lost",
    "Failed",
];

/// What is kept: the fields that are put together, and the conditions of what ends.
pub(super) fn kept(kind: &ObjectKind, object: &Value) -> Option<Value> {
    let status = object.get("status")?;
    let Some(fields) = fields(kind) else {
        return Some(status.clone());
    };
    let mut kept = Map::new();
    let plain = [fields.sums, fields.latest, fields.earliest].concat();
    for field in plain.into_iter().chain(["phase", "completionTime"]) {
        if let Some(value) = status.get(field) {
            kept.insert(field.to_owned(), value.clone());
        }
    }
    for list in fields.lists {
        if let Some(value) = status.pointer(&format!("/{list}")) {
            put(&mut kept, list, value.clone());
        }
    }
    if kind.kind == "Job"
        && let Some(conditions) = status.get("conditions")
    {
        kept.insert("conditions".to_owned(), conditions.clone());
    }
    Some(Value::Object(kept))
}

/// The status of the template.
pub(super) fn aggregated(
    kind: &ObjectKind,
    template: &Value,
    kept: &BTreeMap<ClusterName, Value>,
) -> Option<Value> {
    let fields = fields(kind)?;
    let mut status = Map::new();
    for field in fields.sums {
        let counts: Vec<u64> = kept
            .values()
            .filter_map(|status| status.get(*field)?.as_u64())
            .collect();
        if !counts.is_empty() {
            let sum = counts.into_iter().fold(0, u64::saturating_add);
            status.insert((*field).to_owned(), json!(sum));
        }
    }
    // Kubernetes writes times in one form, which sorts as text.
    let times = |field: &str| -> BTreeSet<String> {
        let all = kept.values().filter_map(|status| status.get(field)?.as_str());
        all.map(str::to_owned).collect()
    };
    for field in fields.latest {
        if let Some(latest) = times(field).pop_last() {
            status.insert((*field).to_owned(), json!(latest));
        }
    }
    for field in fields.earliest {
        if let Some(earliest) = times(field).pop_first() {
            status.insert((*field).to_owned(), json!(earliest));
        }
    }
    for list in fields.lists {
        let mut joined: Vec<Value> = Vec::new();
        for item in kept
            .values()
            .filter_map(|status| status.pointer(&format!("/{list}"))?.as_array())
            .flatten()
        {
            if !joined.contains(item) {
                joined.push(item.clone());
            }
        }
        if !joined.is_empty() {
            put(&mut status, list, Value::Array(joined));
        }
    }
    let worst = kept
        .values()
        .filter_map(|status| status.get("phase")?.as_str())
        .max_by_key(|phase| PHASES.iter().position(|known| known == phase));
    if let Some(worst) = worst {
        status.insert("phase".to_owned(), json!(worst));
    }
    if kind.kind == "Job" {
        finish(&mut status, kept, times("completionTime").pop_last());
    }
    if kind.api_version == "apps/v1"
        && let Some(generation) = template.pointer("/metadata/generation")
    {
        status.insert("observedGeneration".to_owned(), generation.clone());
    }
    Some(Value::Object(status))
}

/// A divided Job has failed when a part of it has, and is complete when every part is.
fn finish(status: &mut Map<String, Value>, kept: &BTreeMap<ClusterName, Value>, completed: Option<String>) {
    let ended = |type_: &str| -> Vec<&ClusterName> {
        let with = kept.iter().filter(|(_, status)| {
            super::health::condition(&json!({ "status": status }), type_, "True").is_some()
        });
        with.map(|(cluster, _)| cluster).collect()
    };
    let (failed, complete) = (ended("Failed"), ended("Complete"));
    let condition = |type_: &str, reason: &str, message: String| json!([{ "type": type_, "status": "True", "reason": reason, "message": message }]);
    if !failed.is_empty() {
        let names: Vec<&str> = failed.iter().map(|cluster| cluster.as_str()).collect();
        let message = format!("it failed in {}", names.join(", "));
        status.insert(
            "conditions".to_owned(),
            condition("Failed", "FailedInCluster", message),
        );
    } else if !kept.is_empty() && complete.len() == kept.len() {
        let message = "it is complete in every cluster".to_owned();
        status.insert(
            "conditions".to_owned(),
            condition("Complete", "CompleteInClusters", message),
        );
        if let Some(completed) = completed {
            status.insert("completionTime".to_owned(), json!(completed));
        }
    }
}

/// Sets `a` or `a/b`.
fn put(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('/') {
        None => {
            object.insert(path.to_owned(), value);
        }
        Some((outer, inner)) => {
            object.insert(outer.to_owned(), json!({ inner: value }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aggregate(api_version: &str, kind: &str, statuses: &[(&str, Value)]) -> Value {
        let kind = ObjectKind::new(api_version, kind);
        let kept = statuses
            .iter()
            .map(|(cluster, status)| {
                let object = json!({ "status": status });
                (cluster.parse().unwrap(), kept(&kind, &object).unwrap())
            })
            .collect();
        aggregated(&kind, &json!({ "metadata": { "generation": 7 } }), &kept).unwrap()
    }

    #[test]
    fn replicas_add_up_and_the_generation_is_that_of_the_template() {
        let status =
            |ready: u32| json!({ "replicas": 5, "readyReplicas": ready, "observedGeneration": 1, "x": "y" });
        assert_eq!(
            aggregate("apps/v1", "Deployment", &[("a", status(5)), ("b", status(2))]),
            json!({ "replicas": 10, "readyReplicas": 7, "observedGeneration": 7 })
        );
    }

    #[test]
    fn a_job_is_complete_when_every_part_is_and_failed_when_one_is() {
        let part = |type_: &str, start: &str, end: &str| {
            json!({
                "succeeded": 2, "startTime": start, "completionTime": end,
                "conditions": [{ "type": type_, "status": "True" }],
            })
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z");
        let done = aggregate(
            "batch/v1",
            "Job",
            &[
                ("a", part("Complete", early, late)),
                ("b", part("Complete", late, early)),
            ],
        );
        assert_eq!(
            (&done["succeeded"], &done["startTime"]),
            (&json!(4), &json!(early))
        );
        assert_eq!(done["conditions"][0]["type"], "Complete");
        assert_eq!(done["completionTime"], late);
        let failed = aggregate(
            "batch/v1",
            "Job",
            &[
                ("a", part("Complete", early, late)),
                ("b", part("Failed", early, late)),
            ],
        );
        assert_eq!(failed["conditions"][0]["message"], "it failed in b");
        let open = aggregate(
            "batch/v1",
            "Job",
            &[("a", part("Complete", early, late)), ("b", json!({}))],
        );
        assert_eq!(open.get("conditions"), None);
    }

    #[test]
    fn addresses_are_joined_and_the_worst_phase_counts() {
        let at = |ip: &str| json!({ "loadBalancer": { "ingress": [{ "ip": ip }] } });
        assert_eq!(
            aggregate(
                "v1",
                "Service",
                &[("a", at("1.1.1.1")), ("b", at("2.2.2.2")), ("c", at("1.1.1.1"))]
            ),
            json!({ "loadBalancer": { "ingress": [{ "ip": "1.1.1.1" }, { "ip": "2.2.2.2" }] } })
        );
        let phase = |phase: &str| json!({ "phase": phase });
        assert_eq!(
            aggregate(
                "v1",
                "PersistentVolumeClaim",
                &[("a", phase("Pending")), ("b", phase("Bound"))]
            ),
            phase("Pending")
        );
    }
}
