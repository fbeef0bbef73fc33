//! Fields that a controller in the member may own, such as the replicas that an autoscaler there sets.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{ObjectKey, Template};

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
    let autoscalers = templates.into_iter().filter(|template| {
        template.key.kind.kind == "HorizontalPodAutoscaler"
            && template.key.kind.api_version.starts_with("autoscaling/")
    });
    autoscalers
        .filter_map(|template| {
            let target = template.manifest.pointer("/spec/scaleTargetRef")?;
            let text = |field| target.get(field).and_then(Value::as_str);
            let namespace = template.key.name.namespace.as_str();
            Some(ObjectKey::new(
                text("apiVersion")?,
                text("kind")?,
                namespace,
                text("name")?,
            ))
        })
        .collect()
}

/// Leaves fields of a manifest to the member that has the object already.
///
/// Of an object that is not there yet (`live` is `None`), the manifest gives every field its first value. Later, a
/// field in `pointers` that somebody in the member has written is taken out of the manifest; one that only `manager`
/// (our field manager) has written keeps the value it has there, for to let go of it would remove it.
///
/// ```
/// use kurator_policy::propagate::retain;
/// use serde_json::json;
///
/// let pointers = ["/spec/replicas".to_owned()];
/// let mut first = json!({ "spec": { "replicas": 2 } });
/// retain(&mut first, None, &pointers, "kurator");
/// assert_eq!(first, json!({ "spec": { "replicas": 2 } }));
///
/// let live = json!({
///     "metadata": { "managedFields": [
///         { "manager": "kube-controller-manager", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
///     ] },
///     "spec": { "replicas": 9 },
/// });
/// let mut later = json!({ "spec": { "replicas": 2 } });
/// retain(&mut later, Some(&live), &pointers, "kurator");
/// assert_eq!(later, json!({ "spec": {} }));
/// ```
pub fn retain(manifest: &mut Value, live: Option<&Value>, pointers: &[String], manager: &str) {
    let Some(live) = live else { return };
    for pointer in pointers {
        let Some(value) = live.pointer(pointer) else {
            continue;
        };
        let Some((parent, field)) = pointer.rsplit_once('/') else {
            continue;
        };
        let Some(parent) = manifest.pointer_mut(parent).and_then(Value::as_object_mut) else {
            continue;
        };
        let field = field.replace("~1", "/").replace("~0", "~");
        if written_by_others(live, pointer, manager) {
            parent.remove(&field);
        } else {
            parent.insert(field, value.clone());
        }
    }
}

/// Whether a manager other than ours has written a field.
fn written_by_others(live: &Value, pointer: &str, manager: &str) -> bool {
    let path: String = pointer
        .split('/')
        .skip(1)
        .map(|step| format!("/f:{step}"))
        .collect();
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| {
        entry.get("manager").and_then(Value::as_str) != Some(manager)
            && entry
                .get("fieldsV1")
                .is_some_and(|fields| fields.pointer(&path).is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_only_we_have_written_keeps_the_value_it_has_there() {
        let live = json!({
            "metadata": { "managedFields": [
                { "manager": "kurator", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
                { "manager": "other", "fieldsV1": { "f:spec": { "f:paused": {} } } },
            ] },
            "spec": { "replicas": 5, "paused": true },
        });
        let mut manifest = json!({ "spec": { "replicas": 2, "paused": false } });
        let pointers = ["/spec/replicas", "/spec/paused", "/spec/absent", "nonsense"].map(str::to_owned);
        retain(&mut manifest, Some(&live), &pointers, "kurator");
        assert_eq!(manifest, json!({ "spec": { "replicas": 5 } }));
    }
}
