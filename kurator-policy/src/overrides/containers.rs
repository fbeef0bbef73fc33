//! Where the containers of an object are.

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::Pod,
};
use serde_json::Value;

use super::{
    Dialect,
    fault::Fault,
    patch::get,
    pointer::{Token, text},
};

/// A path of member names.
fn path(keys: &[&str]) -> Vec<Token> {
    keys.iter().map(|key| Token::Key((*key).into())).collect()
}

fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// Where the pod specs of an object are, as far as its dialect knows.
///
/// Karmada knows seven kinds by name. We know a `Pod`, a `CronJob`, every kind with its pod template where a
/// Deployment has it, and those with one for each of their tasks, as a Volcano Job.
pub(super) fn pod_specs(object: &Value, dialect: Dialect) -> Vec<Vec<Token>> {
    const TEMPLATE: &[&str] = &["spec", "template", "spec"];
    const CRON: &[&str] = &["spec", "jobTemplate", "spec", "template", "spec"];
    match (dialect, kind(object)) {
        (_, "Pod") => vec![path(&["spec"])],
        (Dialect::Karmada, "DaemonSet" | "Deployment" | "Job" | "ReplicaSet" | "StatefulSet") => {
            vec![path(TEMPLATE)]
        }
        (Dialect::Karmada, _) => Vec::new(),
        (Dialect::Kurator, "CronJob") => present(object, path(CRON)),
        (Dialect::Kurator, "PodTemplate") => present(object, path(&["template", "spec"])),
        (Dialect::Kurator, _) => {
            let mut found = present(object, path(TEMPLATE));
            let tasks = path(&["spec", "tasks"]);
            for place in 0..get(object, &tasks).and_then(Value::as_array).map_or(0, Vec::len) {
                let mut spec = tasks.clone();
                spec.push(Token::Index(place));
                spec.extend(path(&["template", "spec"]));
                found.extend(present(object, spec));
            }
            found
        }
    }
}

fn present(object: &Value, path: Vec<Token>) -> Vec<Vec<Token>> {
    if get(object, &path).is_some_and(Value::is_object) {
        vec![path]
    } else {
        Vec::new()
    }
}

/// The paths of the containers in the pod specs: with init containers, but not for Karmada.
pub(super) fn containers(
    object: &Value,
    specs: &[Vec<Token>],
    dialect: Dialect,
) -> Result<Vec<Vec<Token>>, Fault> {
    let lists: &[&str] = match dialect {
        Dialect::Kurator => &["containers", "initContainers"],
        Dialect::Karmada => &["containers"],
    };
    let mut found = Vec::new();
    for spec in specs {
        // A missing or null step has no containers; one that is something else is an error, as for Karmada.
        for end in 0..=spec.len() {
            match get(object, &spec[..end]) {
                None | Some(Value::Null | Value::Object(_)) => {}
                Some(Value::Array(_)) if matches!(spec.get(end), Some(Token::Index(_))) => {}
                Some(_) => {
                    return Err(Fault::Shape {
                        at: text(&spec[..end]),
                        expected: "an object",
                    });
                }
            }
        }
        for list in lists {
            let mut at = spec.clone();
            at.push(Token::Key((*list).into()));
            match get(object, &at) {
                None => {}
                Some(Value::Array(items)) => {
                    for place in 0..items.len() {
                        let mut container = at.clone();
                        container.push(Token::Index(place));
                        found.push(container);
                    }
                }
                Some(Value::Null) if dialect == Dialect::Kurator => {}
                Some(_) => {
                    return Err(Fault::Shape {
                        at: text(&at),
                        expected: "a list",
                    });
                }
            }
        }
    }
    Ok(found)
}

/// Karmada reads the object into the Go type of its kind before it changes images, and fails if it does not fit.
pub(super) fn fits_its_type(object: &Value) -> Result<(), Fault> {
    fn fits<T: serde::de::DeserializeOwned>(object: Value) -> bool {
        serde_json::from_value::<T>(object).is_ok()
    }
    let fits = match kind(object) {
        "DaemonSet" => fits::<DaemonSet>(with_api_version(object, "apps/v1")),
        "Deployment" => fits::<Deployment>(with_api_version(object, "apps/v1")),
        "Job" => fits::<Job>(with_api_version(object, "batch/v1")),
        "Pod" => fits::<Pod>(with_api_version(object, "v1")),
        "ReplicaSet" => fits::<ReplicaSet>(with_api_version(object, "apps/v1")),
        "StatefulSet" => fits::<StatefulSet>(with_api_version(object, "apps/v1")),
        _ => true,
    };
    if fits {
        Ok(())
    } else {
        Err(Fault::Shape {
            at: "the object".to_owned(),
            expected: "of the type its kind says",
        })
    }
}

/// The Go type is chosen by kind alone, and to it a member that is null is one that is not there.
fn with_api_version(object: &Value, api_version: &str) -> Value {
    let mut object = object.clone();
    drop_nulls(&mut object);
    if let Value::Object(members) = &mut object {
        members.insert("apiVersion".to_owned(), api_version.into());
    }
    object
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(object: &Value, dialect: Dialect) -> Vec<String> {
        let specs = pod_specs(object, dialect);
        containers(object, &specs, dialect)
            .unwrap()
            .iter()
            .map(|path| text(path))
            .collect()
    }

    #[test]
    fn containers_are_found_where_each_kind_has_them() {
        let spec = json!({ "containers": [{}, {}], "initContainers": [{}] });
        let deployment = json!({ "kind": "Deployment", "spec": { "template": { "spec": spec } } });
        let at = "/spec/template/spec";
        assert_eq!(
            paths(&deployment, Dialect::Kurator),
            [
                format!("{at}/containers/0"),
                format!("{at}/containers/1"),
                format!("{at}/initContainers/0")
            ]
        );
        assert_eq!(
            paths(&deployment, Dialect::Karmada),
            [format!("{at}/containers/0"), format!("{at}/containers/1")]
        );

        let cron = json!({ "kind": "CronJob", "spec": { "jobTemplate": { "spec": { "template": { "spec": spec } } } } });
        assert_eq!(paths(&cron, Dialect::Kurator).len(), 3);
        assert_eq!(paths(&cron, Dialect::Karmada).len(), 0);

        let rollout = json!({ "kind": "Rollout", "spec": { "template": { "spec": spec } } });
        assert_eq!(paths(&rollout, Dialect::Kurator).len(), 3);
        let volcano = json!({ "kind": "Job", "spec": { "tasks": [{ "template": { "spec": spec } }, {}] } });
        assert_eq!(paths(&volcano, Dialect::Kurator).len(), 3);
        assert_eq!(paths(&json!({ "kind": "ConfigMap" }), Dialect::Kurator).len(), 0);
    }

    #[test]
    fn a_list_of_containers_that_is_none_is_named() {
        let object = json!({ "kind": "Pod", "spec": { "containers": "x" } });
        let specs = pod_specs(&object, Dialect::Kurator);
        let fault = Fault::Shape {
            at: "/spec/containers".to_owned(),
            expected: "a list",
        };
        assert_eq!(containers(&object, &specs, Dialect::Kurator), Err(fault));
    }

    #[test]
    fn an_object_fits_its_type_as_go_reads_it() {
        let deployment = |labels: Value, replicas: Value| {
            json!({ "apiVersion": "x", "kind": "Deployment", "metadata": { "labels": labels },
                "spec": { "replicas": replicas, "selector": {}, "template": {} } })
        };
        assert_eq!(fits_its_type(&deployment(json!({ "a": null }), json!(3))), Ok(()));
        assert_eq!(fits_its_type(&deployment(Value::Null, Value::Null)), Ok(()));
        for (labels, replicas) in [
            (json!({ "a": 1 }), json!(3)),
            (json!({}), json!("3")),
            (json!([]), json!(3)),
        ] {
            assert!(fits_its_type(&deployment(labels, replicas)).is_err());
        }
        assert_eq!(fits_its_type(&json!({ "kind": "ConfigMap", "data": 1 })), Ok(()));
    }
}
