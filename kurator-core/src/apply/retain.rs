//! Fields that a controller on the member may own, such as the replicas that an autoscaler there sets.

use serde_json::Value;

/// Leaves fields of a manifest to the member that has the object already.
///
/// Of an object that is not there yet (`live` is `None`), the manifest gives every field its first value. Later, a
/// field in `pointers` that somebody in the member has written is taken out of the manifest; one that only `manager`
/// (our field manager) has written keeps the value it has there, for to let go of it would remove it.
///
/// ```
/// use kurator_core::apply::retain;
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
    leave(manifest, live, pointers, |pointer| {
        written_by_others(live, pointer, manager)
    });
}

/// The same, where something else than `managedFields` knows who has written a field.
pub(crate) fn leave(
    manifest: &mut Value,
    live: &Value,
    pointers: &[String],
    written_by_others: impl Fn(&str) -> bool,
) {
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
        let field = unescape(field);
        if written_by_others(pointer) {
            parent.remove(&field);
        } else if parent.contains_key(&field) {
            parent.insert(field, value.clone());
        }
    }
}

/// Takes the fields out: what is left is ours alone.
#[cfg(feature = "client")]
pub(crate) fn without(manifest: &mut Value, pointers: &[String]) {
    for pointer in pointers {
        let Some((parent, field)) = pointer.rsplit_once('/') else {
            continue;
        };
        if let Some(Value::Object(parent)) = manifest.pointer_mut(parent) {
            parent.remove(&unescape(field));
        }
    }
}

/// A step of a JSON pointer as the name of a field.
pub(crate) fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
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
    use serde_json::json;

    use super::*;

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

    #[test]
    fn what_we_never_wanted_does_not_become_ours() {
        let live = json!({ "spec": { "volumeName": "pv" } });
        let mut manifest = json!({ "spec": { "accessModes": [] } });
        retain(
            &mut manifest,
            Some(&live),
            &["/spec/volumeName".to_owned()],
            "kurator",
        );
        assert_eq!(manifest, json!({ "spec": { "accessModes": [] } }));
    }
}
