use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Map, Value, json};

use super::{
    MemoryError,
    fields::{self, Holding, Managers},
};
use crate::{
    apply::{KindRef, ObjectKey},
    names::{ClusterName, NamespacedName},
    selector::LabelMatcher,
};

/// One member of an [`InMemoryFleet`](super::InMemoryFleet). Clones are the same member.
#[derive(Clone, Debug)]
pub struct InMemoryMember {
    name: ClusterName,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    unreachable: bool,
    revision: u64,
    objects: BTreeMap<ObjectKey, Stored>,
}

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) object: Value,
    pub(super) managers: Managers,
}

/// What an apply did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Applied {
    /// The object as stored.
    pub object: Value,
    /// Whether it was not there before.
    pub created: bool,
    /// Whether anything was written.
    pub changed: bool,
}

/// What must hold for an object to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preconditions {
    /// Its `metadata.uid`.
    pub uid: Option<String>,
    /// Its `metadata.resourceVersion`.
    pub resource_version: Option<String>,
}

impl Preconditions {
    /// That it is still this very object, unchanged.
    pub fn of(object: &Value) -> Self {
        let field = |name: &str| {
            object
                .pointer(&format!("/metadata/{name}"))
                .and_then(Value::as_str)
        };
        Self {
            uid: field("uid").map(str::to_owned),
            resource_version: field("resourceVersion").map(str::to_owned),
        }
    }
}

impl InMemoryMember {
    pub(super) fn new(name: ClusterName) -> Self {
        Self {
            name,
            state: Arc::default(),
        }
    }

    /// Name of the member.
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// Makes the member answer nothing but [`MemoryError::Unreachable`], or answer again.
    pub fn set_reachable(&self, reachable: bool) {
        self.lock().unreachable = !reachable;
    }

    /// Stores a new object. `manager` then holds its fields by an update, as with `kubectl create`.
    ///
    /// # Errors
    /// [`MemoryError::AlreadyExists`], [`MemoryError::Invalid`], [`MemoryError::Unreachable`].
    pub fn create(&self, object: &Value, manager: &str) -> Result<Value, MemoryError> {
        let key = key_of(object)?;
        let mut state = self.answer()?;
        if state.objects.contains_key(&key) {
            return Err(MemoryError::AlreadyExists {
                cluster: self.name.clone(),
                object: Box::new(key),
            });
        }
        let paths = fields::leaves(object).into_keys().collect();
        let managers = Managers::from([(
            manager.to_owned(),
            Holding {
                applied: false,
                paths,
            },
        )]);
        Ok(state.store(key, object.clone(), managers))
    }

    /// Server-side apply: sets the fields of `object`, removes those that `manager` applied before and applies no
    /// longer, and leaves the rest.
    ///
    /// # Errors
    /// [`MemoryError::FieldConflict`] without `force`, if other managers hold fields with other values;
    /// [`MemoryError::Conflict`] if `object` names another UID than the stored one has;
    /// [`MemoryError::Invalid`], [`MemoryError::Unreachable`].
    pub fn apply(&self, object: &Value, manager: &str, force: bool) -> Result<Applied, MemoryError> {
        let key = key_of(object)?;
        let wanted = fields::leaves(object);
        let mut state = self.answer()?;
        let Some(stored) = state.objects.get(&key).cloned() else {
            let holding = Holding {
                applied: true,
                paths: wanted.into_keys().collect(),
            };
            let object = state.store(
                key,
                object.clone(),
                Managers::from([(manager.to_owned(), holding)]),
            );
            return Ok(Applied {
                object,
                created: true,
                changed: true,
            });
        };
        let uid = object.pointer("/metadata/uid");
        if uid.is_some_and(|uid| Some(uid) != stored.object.pointer("/metadata/uid")) {
            return Err(MemoryError::Conflict {
                cluster: self.name.clone(),
                object: Box::new(key),
            });
        }
        let conflicts = fields::conflicts(&stored.managers, manager, &stored.object, &wanted);
        if !force && !conflicts.is_empty() {
            return Err(MemoryError::FieldConflict {
                cluster: self.name.clone(),
                object: Box::new(key),
                conflicts,
            });
        }
        let Stored {
            object: mut live,
            mut managers,
        } = stored.clone();
        fields::take(&mut managers, manager, &live, &wanted);
        let before = managers.remove(manager).unwrap_or_default();
        for path in before
            .paths
            .iter()
            .filter(|path| before.applied && !wanted.contains_key(*path))
        {
            if !managers.values().any(|holding| holding.paths.contains(path)) {
                fields::remove(&mut live, path);
            }
        }
        for (path, value) in &wanted {
            fields::set(&mut live, path, value.clone());
        }
        let holding = Holding {
            applied: true,
            paths: wanted.into_keys().collect(),
        };
        managers.insert(manager.to_owned(), holding);
        let changed = live != stored.object || managers != stored.managers;
        let object = if changed {
            state.store(key, live, managers)
        } else {
            live
        };
        Ok(Applied {
            object,
            created: false,
            changed,
        })
    }

    /// JSON merge patch (RFC 7386) by an update: `manager` takes the fields it changes from whoever holds them.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Unreachable`].
    pub fn merge(&self, key: &ObjectKey, patch: &Value, manager: &str) -> Result<Value, MemoryError> {
        let mut state = self.answer()?;
        let Some(Stored { object, mut managers }) = state.objects.get(key).cloned() else {
            return Err(self.not_found(key));
        };
        let mut merged = object.clone();
        merge(&mut merged, patch);
        let (before, after) = (fields::leaves(&object), fields::leaves(&merged));
        for holding in managers.values_mut() {
            holding.paths.retain(|path| before.get(path) == after.get(path));
        }
        let changed = after
            .into_iter()
            .filter(|(path, value)| before.get(path) != Some(value));
        let changed: Vec<_> = changed.map(|(path, _)| path).collect();
        managers
            .entry(manager.to_owned())
            .or_default()
            .paths
            .extend(changed);
        managers.retain(|_, holding| !holding.paths.is_empty());
        Ok(if merged == object {
            object
        } else {
            state.store(key.clone(), merged, managers)
        })
    }

    /// The object.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Unreachable`].
    pub fn get(&self, key: &ObjectKey) -> Result<Value, MemoryError> {
        let state = self.answer()?;
        state
            .objects
            .get(key)
            .map(|stored| stored.object.clone())
            .ok_or_else(|| self.not_found(key))
    }

    /// The objects of a kind, in one namespace or all, whose labels match; sorted by namespace and name. Versions
    /// of the kind are not told apart.
    ///
    /// # Errors
    /// [`MemoryError::Unreachable`].
    pub fn list(
        &self,
        kind: &KindRef,
        namespace: Option<&str>,
        labels: &LabelMatcher,
    ) -> Result<Vec<Value>, MemoryError> {
        let group = kind.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let state = self.answer()?;
        let found = state.objects.iter().filter(|(key, stored)| {
            key.group == group
                && key.kind == kind.kind
                && namespace.is_none_or(|namespace| key.object.namespace == namespace)
                && labels.matches(&labels_of(&stored.object))
        });
        Ok(found.map(|(_, stored)| stored.object.clone()).collect())
    }

    /// Deletes the object.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Conflict`] if a precondition does not hold,
    /// [`MemoryError::Unreachable`].
    pub fn delete(&self, key: &ObjectKey, preconditions: &Preconditions) -> Result<(), MemoryError> {
        let mut state = self.answer()?;
        let Some(stored) = state.objects.get(key) else {
            return Err(self.not_found(key));
        };
        let now = Preconditions::of(&stored.object);
        let differs = |wanted: &Option<String>, found: &Option<String>| wanted.is_some() && wanted != found;
        if differs(&preconditions.uid, &now.uid)
            || differs(&preconditions.resource_version, &now.resource_version)
        {
            return Err(MemoryError::Conflict {
                cluster: self.name.clone(),
                object: Box::new(key.clone()),
            });
        }
        state.objects.remove(key);
        state.revision += 1;
        Ok(())
    }

    /// Sets the status of an object, which does not count as a change of it.
    pub(super) fn set_status(&self, key: &ObjectKey, status: Value) {
        let mut state = self.lock();
        if let Some(Stored { mut object, managers }) = state.objects.get(key).cloned()
            && object.get("status") != Some(&status)
        {
            fields::set(&mut object, &["status".to_owned()], status);
            state.store(key.clone(), object, managers);
        }
    }

    /// Every object, reachable or not.
    /// Another member with the same objects.
    pub(super) fn detached(&self) -> Self {
        let state = self.lock().clone();
        Self {
            name: self.name.clone(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(super) fn stored(&self) -> BTreeMap<ObjectKey, Stored> {
        self.lock().objects.clone()
    }

    pub(super) fn answer(&self) -> Result<MutexGuard<'_, State>, MemoryError> {
        let state = self.lock();
        if state.unreachable {
            return Err(MemoryError::Unreachable {
                cluster: self.name.clone(),
            });
        }
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_found(&self, key: &ObjectKey) -> MemoryError {
        MemoryError::NotFound {
            cluster: self.name.clone(),
            object: Box::new(key.clone()),
        }
    }
}

impl State {
    /// Writes an object with what the server says about it: UID, resource version, and a generation that grows
    /// with every change outside of metadata and status.
    fn store(&mut self, key: ObjectKey, mut object: Value, managers: Managers) -> Value {
        self.revision += 1;
        let before = self.objects.get(&key).map(|stored| &stored.object);
        let field = |name: &str| {
            before
                .and_then(|it| it.pointer(&format!("/metadata/{name}")))
                .cloned()
        };
        let uid =
            field("uid").unwrap_or_else(|| format!("00000000-0000-4000-8000-{:012x}", self.revision).into());
        let generation = field("generation").and_then(|it| it.as_u64()).unwrap_or(0);
        let respecified = before.is_none_or(|before| specification(before) != specification(&object));
        let generation = generation + u64::from(respecified);
        let server =
            json!({"uid": uid, "resourceVersion": self.revision.to_string(), "generation": generation});
        if let (Some(Value::Object(metadata)), Value::Object(server)) = (object.get_mut("metadata"), server) {
            metadata.extend(server);
        }
        self.objects.insert(
            key,
            Stored {
                object: object.clone(),
                managers,
            },
        );
        object
    }
}

fn specification(object: &Value) -> Map<String, Value> {
    let fields = object.as_object().into_iter().flatten();
    fields
        .filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

pub(super) fn labels_of(object: &Value) -> BTreeMap<String, String> {
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    labels
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn key_of(object: &Value) -> Result<ObjectKey, MemoryError> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let missing = |field| MemoryError::Invalid { field };
    let api_version = text("/apiVersion").ok_or_else(|| missing("apiVersion"))?;
    let kind = text("/kind").ok_or_else(|| missing("kind"))?;
    let name = text("/metadata/name").ok_or_else(|| missing("metadata.name"))?;
    let namespace = text("/metadata/namespace").unwrap_or_default();
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    Ok(ObjectKey::new(group, kind, NamespacedName::new(namespace, name)))
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> InMemoryMember {
        InMemoryMember::new("a".parse().unwrap())
    }

    fn web(replicas: u32) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": replicas, "paused": false},
        })
    }

    fn key() -> ObjectKey {
        ObjectKey::new("apps", "Deployment", NamespacedName::new("default", "web"))
    }

    #[test]
    fn applying_the_same_again_writes_nothing() {
        let member = member();
        let first = member.apply(&web(2), "kurator", false).unwrap();
        assert!(first.created && first.changed);
        let second = member.apply(&web(2), "kurator", false).unwrap();
        assert!(!second.created && !second.changed);
        assert_eq!(second.object, first.object);
    }

    #[test]
    fn a_field_no_longer_applied_goes_and_those_of_others_stay() {
        let member = member();
        member.apply(&web(2), "kurator", false).unwrap();
        member
            .merge(&key(), &json!({"spec": {"minReadySeconds": 5}}), "kubectl")
            .unwrap();
        let mut less = web(2);
        less["spec"].as_object_mut().unwrap().remove("paused");
        let applied = member.apply(&less, "kurator", false).unwrap();
        assert_eq!(
            applied.object["spec"],
            json!({"replicas": 2, "minReadySeconds": 5})
        );
    }

    #[test]
    fn another_managers_value_is_a_conflict_until_forced() {
        let member = member();
        member.apply(&web(2), "kurator", false).unwrap();
        member
            .merge(&key(), &json!({"spec": {"replicas": 7}}), "kubectl")
            .unwrap();
        let error = member.apply(&web(2), "kurator", false).unwrap_err();
        let MemoryError::FieldConflict { conflicts, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(
            conflicts,
            [crate::apply::FieldConflict::new("kubectl", ".spec.replicas")]
        );
        let applied = member.apply(&web(2), "kurator", true).unwrap();
        assert_eq!(applied.object["spec"]["replicas"], 2);
        assert!(!member.apply(&web(2), "kurator", false).unwrap().changed);
    }

    #[test]
    fn the_generation_counts_changes_of_the_specification_only() {
        let member = member();
        member.create(&web(2), "kubectl").unwrap();
        let at = |it: &Value| {
            (
                it["metadata"]["generation"].as_u64(),
                it["metadata"]["resourceVersion"].to_string(),
            )
        };
        let first = at(&member.get(&key()).unwrap());
        let labelled = member
            .merge(&key(), &json!({"metadata": {"labels": {"a": "b"}}}), "kubectl")
            .unwrap();
        assert_eq!(at(&labelled).0, first.0);
        assert_ne!(at(&labelled).1, first.1);
        let scaled = member
            .merge(&key(), &json!({"spec": {"replicas": 3}}), "kubectl")
            .unwrap();
        assert_eq!(at(&scaled).0, Some(2));
    }

    #[test]
    fn a_deletion_needs_its_preconditions() {
        let member = member();
        let created = member.create(&web(2), "kubectl").unwrap();
        let preconditions = Preconditions::of(&created);
        member
            .merge(&key(), &json!({"spec": {"replicas": 3}}), "kubectl")
            .unwrap();
        assert!(matches!(
            member.delete(&key(), &preconditions),
            Err(MemoryError::Conflict { .. })
        ));
        let uid = Preconditions {
            uid: preconditions.uid,
            ..Preconditions::default()
        };
        member.delete(&key(), &uid).unwrap();
        assert!(matches!(member.get(&key()), Err(MemoryError::NotFound { .. })));
        let anew = member.create(&web(2), "kubectl").unwrap();
        assert_ne!(anew["metadata"]["uid"], created["metadata"]["uid"]);
    }

    #[test]
    fn a_list_is_by_kind_namespace_and_label() {
        let member = member();
        for (name, namespace, app) in [("a", "x", "web"), ("b", "y", "web"), ("c", "x", "db")] {
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
            });
            member.create(&object, "kubectl").unwrap();
        }
        let selector = serde_json::from_value(json!({"matchLabels": {"app": "web"}})).unwrap();
        let matcher = LabelMatcher::compile(&selector).unwrap();
        let kind = KindRef::new("v1", "ConfigMap");
        let names = |namespace, matcher: &LabelMatcher| -> Vec<String> {
            let found = member.list(&kind, namespace, matcher).unwrap();
            found
                .iter()
                .map(|it| it["metadata"]["name"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(None, &matcher), ["a", "b"]);
        assert_eq!(names(Some("x"), &matcher), ["a"]);
        assert_eq!(names(Some("x"), &LabelMatcher::everything()), ["a", "c"]);
        assert!(
            member
                .list(&KindRef::new("apps/v1", "ConfigMap"), None, &matcher)
                .unwrap()
                .is_empty()
        );
    }
}
