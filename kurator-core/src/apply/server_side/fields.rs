use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

/// Whether everything in `desired` is still as `manager` applied it, as far as the server's book of field owners
/// (`managedFields`) tells.
///
/// The book is exact where a comparison of values is a guess (defaults, normalised quantities): whoever changes or
/// removes a field takes it from the manager that applied it. So a field that is in `desired` and not under our
/// name has drifted. That the desired values are the ones we applied must be known otherwise.
///
/// Semantics: <https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>; the encoding of
/// the paths is `structured-merge-diff`, `fieldpath/serialize-pe.go`.
pub(super) fn still_owned(metadata: &ObjectMeta, manager: &str, api_version: &str, desired: &Value) -> bool {
    let entry = metadata.managed_fields.iter().flatten().find(|entry| {
        entry.manager.as_deref() == Some(manager)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
            && entry.api_version.as_deref() == Some(api_version)
    });
    let fields = entry
        .and_then(|entry| entry.fields_v1.as_ref())
        .map(|fields| &fields.0);
    let (Some(Value::Object(owned)), Value::Object(desired)) = (fields, desired) else {
        return false;
    };
    desired.iter().all(|(key, value)| match key.as_str() {
        "apiVersion" | "kind" => true,
        "metadata" => metadata_covered(owned, value),
        _ => covered(owned.get(&format!("f:{key}")), value),
    })
}

/// Name and namespace identify the object and are in nobody's book.
fn metadata_covered(owned: &Map<String, Value>, desired: &Value) -> bool {
    let Value::Object(desired) = desired else {
        return true;
    };
    let owned = owned.get("f:metadata").and_then(Value::as_object);
    desired
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "name" | "namespace"))
        .all(|(key, value)| covered(owned.and_then(|owned| owned.get(&format!("f:{key}"))), value))
}

fn covered(owned: Option<&Value>, desired: &Value) -> bool {
    let Some(Value::Object(owned)) = owned else {
        return false;
    };
    // A leaf: a scalar, an empty map, or a list or map that has one owner as a whole.
    if owned.is_empty() {
        return true;
    }
    match desired {
        Value::Object(desired) => desired
            .iter()
            .all(|(key, value)| covered(owned.get(&format!("f:{key}")), value)),
        Value::Array(items) => items.iter().all(|item| {
            owned
                .iter()
                .any(|(path, below)| is_path_of(path, item) && covered(Some(below), item))
        }),
        // A scalar never has anything below it.
        _ => false,
    }
}

/// Whether a path element names this list item: `v:` holds the item itself, `k:` its key fields, of which the
/// server has filled in those with a default.
fn is_path_of(path: &str, item: &Value) -> bool {
    if let Some(value) = path.strip_prefix("v:") {
        return serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item);
    }
    let Some(Ok(Value::Object(keys))) = path.strip_prefix("k:").map(serde_json::from_str::<Value>) else {
        return false;
    };
    keys.iter().all(|(key, value)| match item.get(key) {
        Some(found) => found == value,
        // The one key field of the built-in kinds that has a default.
        None => key != "protocol" || value == "TCP",
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
    use serde_json::json;

    use super::*;

    fn owned(fields: Value, desired: &Value) -> bool {
        let metadata = ObjectMeta {
            managed_fields: Some(vec![ManagedFieldsEntry {
                api_version: Some("apps/v1".to_owned()),
                manager: Some("kurator".to_owned()),
                operation: Some("Apply".to_owned()),
                fields_v1: Some(FieldsV1(fields)),
                ..ManagedFieldsEntry::default()
            }]),
            ..ObjectMeta::default()
        };
        still_owned(&metadata, "kurator", "apps/v1", desired)
    }

    fn desired() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web", "team": "a"}},
            "spec": {
                "replicas": 2,
                "template": {"spec": {"containers": [{
                    "name": "web", "image": "i", "args": ["a", "b"], "resources": {},
                    "ports": [{"containerPort": 80}],
                }]}},
            },
        })
    }

    fn fields() -> Value {
        json!({
            "f:metadata": {"f:labels": {"f:app": {}, "f:team": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                    ".": {}, "f:name": {}, "f:image": {}, "f:args": {}, "f:resources": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                }}}},
            },
        })
    }

    #[test]
    fn what_was_applied_and_not_touched_is_still_owned() {
        assert!(owned(fields(), &desired()));
    }

    #[test]
    fn every_field_that_is_taken_away_shows() {
        let paths = [
            "/f:metadata/f:labels/f:app",
            "/f:spec/f:replicas",
            "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"web\"}",
            "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"web\"}/f:image",
            "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"web\"}/f:args",
            "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"web\"}/f:ports/k:{\"containerPort\":80,\"protocol\":\"TCP\"}",
        ];
        for path in paths {
            let keys: Vec<&str> = path.split('/').skip(1).collect();
            let mut fields = fields();
            take_away(&mut fields, &keys);
            assert!(!owned(fields, &desired()), "{path}");
        }
    }

    /// As the server does it: what has nothing left below it goes too.
    fn take_away(fields: &mut Value, path: &[&str]) {
        let fields = fields.as_object_mut().unwrap();
        let (first, rest) = path.split_first().unwrap();
        if !rest.is_empty() {
            let below = fields.get_mut(*first).unwrap();
            take_away(below, rest);
            if !below.as_object().unwrap().is_empty() {
                return;
            }
        }
        fields.remove(*first).unwrap();
    }

    #[test]
    fn list_items_of_others_do_not_matter() {
        let mut fields = fields();
        let containers = fields
            .pointer_mut("/f:spec/f:template/f:spec/f:containers")
            .unwrap();
        containers["k:{\"name\":\"sidecar\"}"] = json!({"f:image": {}});
        assert!(owned(fields, &desired()));
    }

    #[test]
    fn a_set_is_covered_item_by_item() {
        let desired = json!({"spec": {"finalizers": ["a", "b"]}});
        assert!(owned(
            json!({"f:spec": {"f:finalizers": {"v:\"a\"": {}, "v:\"b\"": {}}}}),
            &desired
        ));
        assert!(!owned(
            json!({"f:spec": {"f:finalizers": {"v:\"a\"": {}}}}),
            &desired
        ));
    }

    #[test]
    fn without_our_entry_nothing_is_owned() {
        assert!(!still_owned(
            &ObjectMeta::default(),
            "kurator",
            "apps/v1",
            &desired()
        ));
    }
}
