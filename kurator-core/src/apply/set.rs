use std::{collections::BTreeMap, fmt};

use kube::core::{DynamicObject, GroupVersionKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[cfg(feature = "client")]
use super::server_side::DesiredText;
use super::{ANNOTATION_OWNER_NAME, Owner};
use crate::names::NamespacedName;

/// Which object, whatever version of its API it is written in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObjectKey {
    /// API group; empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace and name.
    pub object: NamespacedName,
}

impl ObjectKey {
    /// The object of this kind under this name.
    pub fn new(group: impl Into<String>, kind: impl Into<String>, object: NamespacedName) -> Self {
        Self {
            group: group.into(),
            kind: kind.into(),
            object,
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        write!(f, " {}", self.object)
    }
}

/// Why objects make no set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectSetError {
    /// The same object twice.
    #[error("{object} is in the set twice; keep one")]
    Duplicate {
        /// The object.
        object: ObjectKey,
    },
    /// No `apiVersion`, `kind` or `metadata.name`. A generated name cannot be applied: each pass would make
    /// another object.
    #[error("object {index} of the set has no `{field}`")]
    Incomplete {
        /// Position in the input, from 0.
        index: usize,
        /// The field.
        field: &'static str,
    },
}

/// Everything one owner wants on one member: complete, so that what is not in it can be pruned.
///
/// Objects are made ready to be sent: what only the server may say (`uid`, `resourceVersion`, `managedFields`,
/// `status` and the like) is dropped, as are `ownerReferences` and `finalizers`, which speak of objects and
/// controllers of another cluster: the garbage collector of the member would delete an object whose owner it
/// does not find. Nulls are dropped, a Secret's `stringData` moves to `data`, the owner's labels are added.
///
/// ```
/// use kurator_core::apply::{ObjectSet, Owner};
/// # use kube::core::DynamicObject;
///
/// let object: DynamicObject = serde_json::from_value(serde_json::json!({
///     "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "default"},
/// }))?;
/// let owner = Owner::new("hub", "policy-uid", "DistributionPolicy default/storefront")?;
/// let set = ObjectSet::new(owner, [object])?;
/// assert_eq!(set.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectSet {
    owner: Owner,
    objects: BTreeMap<ObjectKey, Desired>,
}

/// One object of a set, ready to be sent.
#[derive(Clone, Debug)]
pub struct Desired {
    key: ObjectKey,
    kind: GroupVersionKind,
    body: Value,
    /// Made when it is first sent, and the same for every member.
    #[cfg(feature = "client")]
    text: std::sync::OnceLock<DesiredText>,
}

impl PartialEq for Desired {
    fn eq(&self, other: &Self) -> bool {
        // The text follows from the body.
        (&self.key, &self.kind, &self.body) == (&other.key, &other.kind, &other.body)
    }
}

impl ObjectSet {
    /// The set of these objects.
    ///
    /// # Errors
    /// [`ObjectSetError`].
    pub fn new(
        owner: Owner,
        objects: impl IntoIterator<Item = DynamicObject>,
    ) -> Result<Self, ObjectSetError> {
        let mut set = Self::empty(owner);
        for (index, object) in objects.into_iter().enumerate() {
            let desired = Desired::new(&set.owner, index, object)?;
            if let Some(twice) = set.objects.insert(desired.key.clone(), desired) {
                return Err(ObjectSetError::Duplicate { object: twice.key });
            }
        }
        Ok(set)
    }

    /// The set of nothing: applying it withdraws whatever the owner has placed.
    pub fn empty(owner: Owner) -> Self {
        Self {
            owner,
            objects: BTreeMap::new(),
        }
    }

    /// On whose behalf.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The objects, sorted by key.
    pub fn objects(&self) -> impl Iterator<Item = &Desired> {
        self.objects.values()
    }

    /// How many objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether the object is one of the set.
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.objects.contains_key(key)
    }
}

impl Desired {
    fn new(owner: &Owner, index: usize, object: DynamicObject) -> Result<Self, ObjectSetError> {
        let incomplete = |field| ObjectSetError::Incomplete { index, field };
        let types = object.types.ok_or_else(|| incomplete("apiVersion"))?;
        if types.kind.is_empty() {
            return Err(incomplete("kind"));
        }
        let kind = GroupVersionKind::try_from(&types).map_err(|_| incomplete("apiVersion"))?;
        let name = object.metadata.name.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| incomplete("metadata.name"))?;
        let namespace = object.metadata.namespace.unwrap_or_default();

        let mut labels = object.metadata.labels.unwrap_or_default();
        labels.extend(owner.labels());
        let mut annotations = object.metadata.annotations.unwrap_or_default();
        annotations.insert(ANNOTATION_OWNER_NAME.to_owned(), owner.name().to_owned());
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), name.clone().into());
        if !namespace.is_empty() {
            metadata.insert("namespace".to_owned(), namespace.clone().into());
        }
        metadata.insert("labels".to_owned(), string_map(labels));
        metadata.insert("annotations".to_owned(), string_map(annotations));

        let mut body = match object.data {
            Value::Object(body) => body,
            _ => Map::new(),
        };
        body.remove("status");
        body.insert("apiVersion".to_owned(), types.api_version.into());
        body.insert("kind".to_owned(), types.kind.clone().into());
        body.insert("metadata".to_owned(), metadata.into());
        if kind.group.is_empty() && kind.kind == "Secret" {
            move_string_data(&mut body);
        }
        let mut body = Value::Object(body);
        drop_nulls(&mut body);
        let key = ObjectKey::new(
            kind.group.clone(),
            types.kind,
            NamespacedName::new(namespace, name),
        );
        Ok(Self {
            key,
            kind,
            body,
            #[cfg(feature = "client")]
            text: std::sync::OnceLock::new(),
        })
    }

    /// Which object.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// The kind, in the version it is written in.
    pub fn kind(&self) -> &GroupVersionKind {
        &self.kind
    }

    /// The object as it is sent.
    pub fn body(&self) -> &Value {
        &self.body
    }

    #[cfg(feature = "client")]
    pub(super) fn text(&self) -> &DesiredText {
        self.text.get_or_init(|| DesiredText::of(&self.body))
    }
}

fn string_map(map: BTreeMap<String, String>) -> Value {
    Value::Object(
        map.into_iter()
            .map(|(key, value)| (key, Value::String(value)))
            .collect(),
    )
}

/// `stringData` is write-only: the server stores it under `data`, and field ownership of it is lost on the way.
fn move_string_data(body: &mut Map<String, Value>) {
    let Some(Value::Object(plain)) = body.remove("stringData") else {
        return;
    };
    let data = body.entry("data").or_insert(Value::Null);
    if data.is_null() {
        *data = Value::Object(Map::new());
    }
    if let Value::Object(data) = data {
        for (key, value) in plain {
            if let Value::String(text) = value {
                let encoded = serde_json::to_value(k8s_openapi::ByteString(text.into_bytes()));
                data.insert(key, encoded.unwrap_or(Value::Null));
            }
        }
    }
}

/// In an applied object a null means nothing and would still be owned.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(objects: impl IntoIterator<Item = Value>) -> Result<ObjectSet, ObjectSetError> {
        let owner = Owner::new("hub", "uid", "Policy a/b").unwrap();
        ObjectSet::new(
            owner,
            objects
                .into_iter()
                .map(|object| serde_json::from_value(object).unwrap()),
        )
    }

    #[test]
    fn what_belongs_to_another_cluster_is_not_sent() {
        let set = set([json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "default", "uid": "1", "resourceVersion": "7", "generation": 3,
                "creationTimestamp": null, "finalizers": ["a/b"], "labels": {"app": "web"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "b", "uid": "c"}],
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {"replicas": 2, "strategy": null, "template": {"metadata": {"creationTimestamp": null}}},
            "status": {"replicas": 1},
        })])
        .unwrap();
        let desired = set.objects().next().unwrap();
        assert_eq!(
            desired.body(),
            &json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {
                    "name": "web", "namespace": "default",
                    "labels": {"app": "web", "kurator.dev/hub": "hub", "kurator.dev/owner": "uid"},
                    "annotations": {"kurator.dev/owner-name": "Policy a/b"},
                },
                "spec": {"replicas": 2, "template": {"metadata": {}}},
            })
        );
        assert_eq!(desired.key().to_string(), "Deployment.apps default/web");
    }

    #[test]
    fn the_plain_text_of_a_secret_moves_to_its_data() {
        let set = set([json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            "stringData": {"a": "b"}, "data": {"c": "ZA=="},
        })])
        .unwrap();
        let body = set.objects().next().unwrap().body();
        assert_eq!(body["data"], json!({"a": "Yg==", "c": "ZA=="}));
        assert_eq!(body.get("stringData"), None);
    }

    #[test]
    fn the_same_object_twice_or_without_a_name_makes_no_set() {
        let object = |version: &str| json!({"apiVersion": version, "kind": "A", "metadata": {"name": "a"}});
        assert!(matches!(
            set([object("x/v1"), object("x/v2")]),
            Err(ObjectSetError::Duplicate { .. })
        ));
        let generated = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "a-"}});
        assert_eq!(
            set([object("x/v1"), generated]),
            Err(ObjectSetError::Incomplete {
                index: 1,
                field: "metadata.name"
            })
        );
    }
}
