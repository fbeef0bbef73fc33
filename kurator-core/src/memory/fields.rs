use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::apply::{FieldConflict, unescape};

/// Path to a leaf: a scalar, a list, or an empty map.
pub(super) type Path = Vec<String>;

/// What one manager holds of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holding {
    /// Whether it applied, or merely updated.
    pub(super) applied: bool,
    pub(super) paths: BTreeSet<Path>,
}

/// Who holds which fields of an object.
pub(super) type Managers = BTreeMap<String, Holding>;

/// The leaves of an object, without what identifies it and what the server writes.
pub(super) fn leaves(object: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    walk(object, &mut Vec::new(), &mut found);
    found.retain(|path, _| !is_of_the_server(path));
    found
}

fn walk(value: &Value, path: &mut Path, found: &mut BTreeMap<Path, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                path.push(key.clone());
                walk(value, path, found);
                path.pop();
            }
        }
        Value::Null => {}
        leaf => {
            found.insert(path.clone(), leaf.clone());
        }
    }
}

fn is_of_the_server(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["apiVersion" | "kind"] => true,
        ["status", ..] => true,
        ["metadata", field, ..] => !matches!(*field, "labels" | "annotations"),
        _ => false,
    }
}

/// The fields that `wanted` sets to other values than the managers who hold them, but for `manager`.
pub(super) fn conflicts(
    managers: &Managers,
    manager: &str,
    live: &Value,
    wanted: &BTreeMap<Path, Value>,
) -> Vec<FieldConflict> {
    let mut found = Vec::new();
    for (other, holding) in managers.iter().filter(|(name, _)| *name != manager) {
        for path in &holding.paths {
            let differs = |(at, value): (&Path, &Value)| overlap(at, path) && get(live, at) != Some(value);
            if wanted.iter().any(differs) {
                found.push(FieldConflict::new(other, shown(path)));
            }
        }
    }
    found.sort();
    found
}

/// The managers lose the fields that come to be set otherwise.
pub(super) fn take(managers: &mut Managers, manager: &str, live: &Value, wanted: &BTreeMap<Path, Value>) {
    for (_, holding) in managers.iter_mut().filter(|(name, _)| *name != manager) {
        holding.paths.retain(|path| {
            !wanted
                .iter()
                .any(|(at, value)| overlap(at, path) && get(live, at) != Some(value))
        });
    }
    managers.retain(|name, holding| name == manager || !holding.paths.is_empty());
}

/// Whether somebody else than `manager` holds the field at a JSON pointer.
pub(super) fn holds_beside(managers: &Managers, manager: &str, pointer: &str) -> bool {
    let path: Path = pointer.split('/').skip(1).map(unescape).collect();
    let mut others = managers.iter().filter(|(name, _)| *name != manager);
    others.any(|(_, holding)| holding.paths.contains(&path))
}

/// One path leads through or to where the other ends.
fn overlap(a: &[String], b: &[String]) -> bool {
    a.iter().zip(b).all(|(a, b)| a == b)
}

pub(super) fn get<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

pub(super) fn set(object: &mut Value, path: &[String], leaf: Value) {
    let Some((first, rest)) = path.split_first() else {
        *object = leaf;
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if let Value::Object(map) = object {
        set(map.entry(first.clone()).or_insert(Value::Null), rest, leaf);
    }
}

/// Removes a leaf, and the maps that are empty without it.
pub(super) fn remove(object: &mut Value, path: &[String]) {
    let (Value::Object(map), Some((first, rest))) = (object, path.split_first()) else {
        return;
    };
    if !rest.is_empty()
        && let Some(below) = map.get_mut(first)
    {
        remove(below, rest);
        if below.as_object().is_none_or(|map| !map.is_empty()) {
            return;
        }
    }
    map.remove(first);
}

/// As the server writes it: `.spec.replicas`.
fn shown(path: &[String]) -> String {
    path.iter().map(|key| format!(".{key}")).collect()
}
