//! Which fields of an object are otherwise than in another.

use serde_json::{Map, Value};

/// The most fields that one [`WouldUpdate`](super::ObjectOutcome::WouldUpdate) names.
pub const MAX_DIFFERENCES: usize = 10;

/// What every write changes, or what is not part of what is wanted.
const OF_THE_SERVER: [&str; 7] = [
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
    "deletionGracePeriodSeconds",
];

/// The paths at which two objects differ, sorted, and how many were left out. `but` is an annotation that does not count.
pub(crate) fn differences(before: &Value, after: &Value, but: &str) -> (Vec<String>, usize) {
    let mut found = Vec::new();
    walk(&plain(before, but), &plain(after, but), "", &mut found);
    found.sort();
    let more = found.len().saturating_sub(MAX_DIFFERENCES);
    found.truncate(MAX_DIFFERENCES);
    (found, more)
}

fn plain(object: &Value, but: &str) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        // Items of a list come without their kind.
        for field in ["apiVersion", "kind", "status"] {
            fields.remove(field);
        }
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !OF_THE_SERVER.contains(&field.as_str()));
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(but);
        }
    }
    object
}

fn walk(before: &Value, after: &Value, path: &str, found: &mut Vec<String>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Value::Object(before), Value::Object(after)) => {
            let names = before
                .keys()
                .chain(after.keys().filter(|name| !before.contains_key(*name)));
            for name in names {
                let (old, new) = (before.get(name), after.get(name));
                walk(absent(old), absent(new), &below(path, name), found);
            }
        }
        // A map that comes or goes is told by what is in it.
        (Value::Object(map), Value::Null) | (Value::Null, Value::Object(map)) if !map.is_empty() => {
            walk(
                &Value::Object(Map::new()),
                &Value::Object(map.clone()),
                path,
                found,
            );
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (old, new)) in before.iter().zip(after).enumerate() {
                walk(old, new, &format!("{path}[{index}]"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

fn absent(value: Option<&Value>) -> &Value {
    value.unwrap_or(&Value::Null)
}

/// As the server writes paths; names that are no identifiers in brackets.
fn below(path: &str, name: &str) -> String {
    if name.contains(['.', '/', '[']) {
        format!("{path}[{name}]")
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_told_by_their_paths_and_what_the_server_writes_is_none() {
        let before = json!({
            "kind": "Thing", "metadata": { "name": "a", "resourceVersion": "1", "annotations": { "x/hash": "1" } },
            "spec": { "replicas": 2, "containers": [{ "image": "i:1" }], "list": [1] },
            "status": { "ready": 1 },
        });
        let after = json!({
            "metadata": { "name": "a", "resourceVersion": "2", "annotations": { "x/hash": "2" },
                "labels": { "example.com/team": "b" } },
            "spec": { "replicas": 3, "containers": [{ "image": "i:2" }], "list": [1, 2] },
        });
        let (fields, more) = differences(&before, &after, "x/hash");
        let expected = [
            ".metadata.labels[example.com/team]",
            ".spec.containers[0].image",
            ".spec.list",
            ".spec.replicas",
        ];
        assert_eq!((fields, more), (expected.map(str::to_owned).to_vec(), 0));
        assert_eq!(differences(&before, &before, ""), (Vec::new(), 0));
    }

    #[test]
    fn they_are_bounded_and_counted() {
        let many: Map<String, Value> = (0..25).map(|it| (format!("f{it:02}"), json!(it))).collect();
        let (fields, more) = differences(&json!({ "data": many }), &json!({ "data": {} }), "");
        assert_eq!((fields.len(), more), (MAX_DIFFERENCES, 15));
        assert_eq!(fields[0], ".data.f00");
    }
}
