//! Fields that a controller in the member may own, such as the replicas that an autoscaler there sets.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{ObjectKey, ObjectKind, Template};
use super::ResourceInterpreter;

/// The objects whose replicas an autoscaler among the templates sets in the members.
///
/// ```
/// use kurator_policy::propagate::{BuiltinKinds, ObjectKey, Template, hpa_targets};
/// use serde_json::json;
///
/// let autoscaler = json!({
///     "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
///     "metadata": { "name": "web", "namespace": "shop" },
///     "spec": { "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" } },
/// });
/// let templates = [Template::of(&autoscaler, &BuiltinKinds)?];
/// let scaled = hpa_targets(&templates);
/// assert!(scaled.contains(&ObjectKey::new("apps/v1", "Deployment", "shop", "web")));
/// # Ok::<(), kurator_policy::propagate::TemplateError>(())
/// ```
#[must_use]
pub fn hpa_targets<'t>(templates: impl IntoIterator<Item = &'t Template>) -> BTreeSet<ObjectKey> {
    let manifests = templates.into_iter().map(|template| &*template.manifest);
    manifests.filter_map(scale_target).collect()
}

/// What an object scales, if it is an autoscaler.
#[must_use]
pub fn scale_target(object: &Value) -> Option<ObjectKey> {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    if text("/kind") != Some("HorizontalPodAutoscaler") || !text("/apiVersion")?.starts_with("autoscaling/") {
        return None;
    }
    Some(ObjectKey::new(
        text("/spec/scaleTargetRef/apiVersion")?,
        text("/spec/scaleTargetRef/kind")?,
        text("/metadata/namespace")?,
        text("/spec/scaleTargetRef/name")?,
    ))
}

/// The fields by which an object of a kind says how many replicas it wants, as JSON pointers: those that
/// [`set_replicas`](ResourceInterpreter::set_replicas) writes.
///
/// ```
/// use kurator_policy::propagate::{BuiltinKinds, ObjectKind, replica_fields};
/// use serde_json::json;
///
/// let deployment = ObjectKind::new("apps/v1", "Deployment");
/// let fields = replica_fields(&BuiltinKinds, &deployment, &json!({ "spec": { "replicas": 2 } }));
/// assert_eq!(fields, ["/spec/replicas"]);
/// ```
#[must_use]
pub fn replica_fields(
    interpreter: &dyn ResourceInterpreter,
    kind: &ObjectKind,
    object: &Value,
) -> Vec<String> {
    let (mut one, mut two) = (object.clone(), object.clone());
    interpreter.set_replicas(kind, &mut one, 1);
    interpreter.set_replicas(kind, &mut two, 2);
    let mut fields = Vec::new();
    differences(&one, &two, &mut String::new(), &mut fields);
    fields
}

fn differences(one: &Value, two: &Value, path: &mut String, found: &mut Vec<String>) {
    if one == two {
        return;
    }
    let (Value::Object(one), Value::Object(two)) = (one, two) else {
        found.push(path.clone());
        return;
    };
    for (field, value) in one {
        let length = path.len();
        path.push('/');
        path.push_str(&field.replace('~', "~0").replace('/', "~1"));
        differences(value, two.get(field).unwrap_or(&Value::Null), path, found);
        path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::propagate::BuiltinKinds;
    use serde_json::json;

    #[test]
    fn the_fields_of_replicas_are_found_even_where_they_are_not_set() {
        let of = |api_version: &str, kind: &str, object: Value| {
            replica_fields(&BuiltinKinds, &ObjectKind::new(api_version, kind), &object)
        };
        assert_eq!(of("apps/v1", "StatefulSet", json!({})), ["/spec/replicas"]);
        let job = json!({ "spec": { "parallelism": 1, "completions": 3 } });
        assert_eq!(of("batch/v1", "Job", job), ["/spec/parallelism"]);
        assert!(of("v1", "ConfigMap", json!({ "data": { "a": "b" } })).is_empty());
    }

    #[test]
    fn what_an_autoscaler_scales_is_read_from_either_version() {
        let scaler = |api_version: &str| {
            json!({ "apiVersion": api_version, "kind": "HorizontalPodAutoscaler",
                "metadata": { "name": "a", "namespace": "shop" },
                "spec": { "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" } } })
        };
        let web = ObjectKey::new("apps/v1", "Deployment", "shop", "web");
        for version in ["autoscaling/v1", "autoscaling/v2"] {
            assert_eq!(scale_target(&scaler(version)), Some(web.clone()));
        }
        assert_eq!(scale_target(&scaler("example.com/v1")), None);
    }
}
