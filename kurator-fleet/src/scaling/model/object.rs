//! Objects of any kind the model knows, and the JSON they come in.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController},
    policy::v1::PodDisruptionBudget,
    storage::v1::CSINode,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Model, ModelError};

/// An object of a kind that matters to scaling.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Object {
    /// Attach limits of a node.
    CsiNode(Box<CSINode>),
    /// Scale of its pods.
    Deployment(Box<Deployment>),
    /// Labels, for namespace selectors.
    Namespace(Box<Namespace>),
    /// A machine.
    Node(Box<Node>),
    /// Where data is.
    PersistentVolume(Box<PersistentVolume>),
    /// Which volume a pod uses.
    PersistentVolumeClaim(Box<PersistentVolumeClaim>),
    /// What has to move.
    Pod(Box<Pod>),
    /// How much may move at once.
    PodDisruptionBudget(Box<PodDisruptionBudget>),
    /// Scale of its pods, and the way to their Deployment.
    ReplicaSet(Box<ReplicaSet>),
    /// Scale of its pods.
    ReplicationController(Box<ReplicationController>),
    /// Scale of its pods.
    StatefulSet(Box<StatefulSet>),
}

impl Object {
    /// Reads the objects of a `kubectl get ... -o json`: a `List`, a list of one kind, lists in a list, or one object.
    /// Kinds that do not matter to scaling, and unknown fields, are left out; a list that is `null` or missing is
    /// empty, as Go writes and reads it.
    ///
    /// # Errors
    /// [`ModelError`] if the bytes are not JSON or not Kubernetes objects, or if one does not decode; the error names
    /// it.
    pub fn from_json(json: &[u8]) -> Result<Vec<Self>, ModelError> {
        let value: Value =
            serde_json::from_slice(json).map_err(|source| ModelError::NotJson(Box::new(source)))?;
        let kind = kind(&value, "the input")?.to_owned();
        let mut objects = Vec::new();
        Self::read(&kind, value, "the input", 0, &mut objects)?;
        Ok(objects)
    }

    /// Reads an object, or what is in it if it is a list. `what` says where it is.
    fn read(
        kind: &str,
        mut value: Value,
        what: &str,
        depth: usize,
        objects: &mut Vec<Self>,
    ) -> Result<(), ModelError> {
        // The items of a PodList need not repeat their kind.
        let Some(item_kind) = kind.strip_suffix("List") else {
            objects.extend(Self::decode(kind, value, what)?);
            return Ok(());
        };
        let items = match value.get_mut("items").map(Value::take) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(items)) if depth < NESTED => items,
            Some(_) => {
                return Err(ModelError::NotAnObject {
                    what: format!("{what}, a {kind},"),
                    needs: "an array `items`, in at most eight lists",
                });
            }
        };
        objects.reserve(items.len());
        for (at, item) in items.into_iter().enumerate() {
            let what = if depth == 0 {
                format!("item {at}")
            } else {
                format!("{what}.{at}")
            };
            let kind = match item.get("kind") {
                None | Some(Value::Null) if !item_kind.is_empty() && item.is_object() => item_kind.to_owned(),
                _ => self::kind(&item, &what)?.to_owned(),
            };
            Self::read(&kind, item, &what, depth + 1, objects)?;
        }
        Ok(())
    }

    fn decode(kind: &str, value: Value, at: &str) -> Result<Option<Self>, ModelError> {
        // Other groups have a kind `Node` too.
        let version = value.get("apiVersion").and_then(Value::as_str);
        let group = match kind {
            "Deployment" | "ReplicaSet" | "StatefulSet" => "apps/",
            "PodDisruptionBudget" => "policy/",
            "CSINode" => "storage.k8s.io/",
            _ => "v1",
        };
        if version.is_some_and(|version| !version.starts_with(group)) {
            return Ok(None);
        }
        Ok(Some(match kind {
            "CSINode" => Self::CsiNode(typed(kind, value, at)?),
            "Deployment" => Self::Deployment(typed(kind, value, at)?),
            "Namespace" => Self::Namespace(typed(kind, value, at)?),
            "Node" => Self::Node(typed(kind, value, at)?),
            "PersistentVolume" => Self::PersistentVolume(typed(kind, value, at)?),
            "PersistentVolumeClaim" => Self::PersistentVolumeClaim(typed(kind, value, at)?),
            "Pod" => Self::Pod(typed(kind, value, at)?),
            "PodDisruptionBudget" => Self::PodDisruptionBudget(typed(kind, value, at)?),
            "ReplicaSet" => Self::ReplicaSet(typed(kind, value, at)?),
            "ReplicationController" => Self::ReplicationController(typed(kind, value, at)?),
            "StatefulSet" => Self::StatefulSet(typed(kind, value, at)?),
            _ => return Ok(None),
        }))
    }

    /// Kind, namespace and name.
    pub(in crate::scaling) fn key(&self) -> (&'static str, Option<&str>, Option<&str>) {
        let (kind, metadata) = match self {
            Self::CsiNode(object) => ("CSINode", &object.metadata),
            Self::Deployment(object) => ("Deployment", &object.metadata),
            Self::Namespace(object) => ("Namespace", &object.metadata),
            Self::Node(object) => ("Node", &object.metadata),
            Self::PersistentVolume(object) => ("PersistentVolume", &object.metadata),
            Self::PersistentVolumeClaim(object) => ("PersistentVolumeClaim", &object.metadata),
            Self::Pod(object) => ("Pod", &object.metadata),
            Self::PodDisruptionBudget(object) => ("PodDisruptionBudget", &object.metadata),
            Self::ReplicaSet(object) => ("ReplicaSet", &object.metadata),
            Self::ReplicationController(object) => ("ReplicationController", &object.metadata),
            Self::StatefulSet(object) => ("StatefulSet", &object.metadata),
        };
        (kind, metadata.namespace.as_deref(), metadata.name.as_deref())
    }
}

/// Lists in lists.
const NESTED: usize = 8;

/// Writes quantities that are JSON numbers as strings: the API server takes both, the decoder of the API types does
/// not.
fn amounts_as_text(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(amounts_as_text),
        Value::Object(fields) => {
            for (name, field) in fields {
                let amounts = matches!(
                    name.as_str(),
                    "allocatable" | "capacity" | "limits" | "overhead" | "requests"
                );
                match field {
                    Value::Object(list) if amounts => {
                        for amount in list.values_mut() {
                            if let Value::Number(number) = amount {
                                *amount = Value::String(number.to_string());
                            }
                        }
                    }
                    _ => amounts_as_text(field),
                }
            }
        }
        _ => {}
    }
}

fn not_an_object(what: &str) -> ModelError {
    ModelError::NotAnObject {
        what: what.to_owned(),
        needs: "`kind` and `apiVersion`",
    }
}

fn kind<'a>(value: &'a Value, what: &str) -> Result<&'a str, ModelError> {
    match (value.get("kind"), value.get("apiVersion")) {
        (Some(Value::String(kind)), Some(Value::String(_))) if !kind.is_empty() => Ok(kind),
        _ => Err(not_an_object(what)),
    }
}

fn typed<T: DeserializeOwned>(kind: &str, mut value: Value, at: &str) -> Result<Box<T>, ModelError> {
    let text = |field: &str| {
        value
            .get("metadata")
            .and_then(|metadata| metadata.get(field))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let object = match (text("namespace"), text("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (_, None) => format!("{kind} at {at}"),
    };
    // What a driver can attach is a count.
    if kind != "CSINode" {
        amounts_as_text(&mut value);
    }
    if let Value::Object(fields) = &mut value {
        // The items of a typed list have neither, and the decoder of the API types does not miss them.
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    serde_json::from_value(value)
        .map(Box::new)
        .map_err(|source| ModelError::Decode {
            object,
            source: Box::new(source),
        })
}

impl Model {
    /// The cluster in the output of `kubectl get nodes,pods,pdb,... -A -o json`.
    ///
    /// For exact answers give it everything that matters: `nodes,pods,pdb,deployments,replicasets,statefulsets,
    /// replicationcontrollers,pvc,pv,csinodes,namespaces`. Where owners are missing, an owner's scale is taken from the
    /// budget's status, else it is the number of its pods.
    ///
    /// # Errors
    /// [`ModelError`] naming the object: not JSON, not Kubernetes objects, two with one name, a pod on a node that is
    /// not there, a number or selector that is not valid.
    pub fn from_json(json: &[u8]) -> Result<Self, ModelError> {
        Self::from_objects(&Object::from_json(json)?)
    }

    /// The cluster of these objects, in any order.
    ///
    /// # Errors
    /// As [`Model::from_json`].
    pub fn from_objects<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Result<Self, ModelError> {
        let mut model = Self::new();
        let mut seen = BTreeSet::new();
        for object in objects {
            let (kind, namespace, name) = object.key();
            if name.is_some() && !seen.insert((kind, namespace, name)) {
                return Err(ModelError::Duplicate {
                    object: match (namespace, name.unwrap_or_default()) {
                        (Some(namespace), name) => format!("{kind} {namespace}/{name}"),
                        (None, name) => format!("{kind} {name}"),
                    },
                });
            }
            model.upsert(object)?;
        }
        model.check_references()?;
        Ok(model)
    }

    /// Takes in an object, new or changed.
    ///
    /// # Errors
    /// [`ModelError`] naming the object, which is not taken in then.
    pub fn upsert(&mut self, object: &Object) -> Result<(), ModelError> {
        match object {
            Object::CsiNode(object) => self.upsert_csi_node(object),
            Object::Deployment(object) => self.upsert_deployment(object),
            Object::Namespace(object) => self.upsert_namespace(object),
            Object::Node(object) => self.upsert_node(object),
            Object::PersistentVolume(object) => self.upsert_volume(object),
            Object::PersistentVolumeClaim(object) => self.upsert_claim(object),
            Object::Pod(object) => self.upsert_pod(object),
            Object::PodDisruptionBudget(object) => self.upsert_budget(object),
            Object::ReplicaSet(object) => self.upsert_replica_set(object),
            Object::ReplicationController(object) => self.upsert_replication_controller(object),
            Object::StatefulSet(object) => self.upsert_stateful_set(object),
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, object: &Object) {
        let (kind, namespace, name) = object.key();
        let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
        match object {
            Object::CsiNode(_) => self.remove_csi_node(name),
            Object::Namespace(_) => self.remove_namespace(name),
            Object::Node(_) => self.remove_node(name),
            Object::PersistentVolume(_) => self.remove_volume(name),
            Object::PersistentVolumeClaim(_) => self.remove_claim(namespace, name),
            Object::Pod(_) => self.remove_pod(namespace, name),
            Object::PodDisruptionBudget(_) => self.remove_budget(namespace, name),
            Object::Deployment(_)
            | Object::ReplicaSet(_)
            | Object::ReplicationController(_)
            | Object::StatefulSet(_) => self.remove_owner(kind, namespace, name),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Vec<Object>, ModelError> {
        Object::from_json(value.to_string().as_bytes())
    }

    fn node(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    }

    fn list(items: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "List", "items": items})
    }

    #[test]
    fn lists_may_be_in_lists_null_or_missing() {
        let typed = json!({"apiVersion": "v1", "kind": "NodeList", "items": [{"metadata": {"name": "c"}}]});
        let empty = json!({"apiVersion": "v1", "kind": "PodList", "items": null});
        let missing = json!({"apiVersion": "v1", "kind": "PodList"});
        let items = json!([
            node("a"),
            list(json!([node("b"), list(json!([]))])),
            typed,
            empty,
            missing
        ]);
        let names: Vec<String> = read(list(items))
            .unwrap()
            .iter()
            .filter_map(|object| object.key().2.map(str::to_owned))
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
        let deep = (0..20).fold(node("a"), |inner, _| list(json!([inner])));
        assert!(
            read(deep)
                .unwrap_err()
                .to_string()
                .contains("in at most eight lists")
        );
        let error = read(list(json!([node("a"), list(json!([{"hello": 1}]))]))).unwrap_err();
        assert!(
            error.to_string().contains("item 1.0 is not a Kubernetes object"),
            "{error}"
        );
    }

    #[test]
    fn quantities_may_be_numbers_and_a_node_without_pods_takes_what_a_kubelet_does() {
        let mut numbers = node("a");
        numbers["status"] = json!({"allocatable": {"cpu": 2, "memory": 1e9}});
        let model = Model::from_json(list(json!([numbers])).to_string().as_bytes()).unwrap();
        let (_, record) = model.nodes.iter().next().unwrap();
        let all = &record.allocatable;
        assert_eq!((all.cpu, all.memory, all.pods), (2000, 1_000_000_000, 110));
        for (amount, said) in [
            ("-1", "is -1, which is outside"),
            ("1e20", "is 1e20, which is outside"),
            ("lots", "is not a quantity"),
        ] {
            let mut odd = node("a");
            odd["status"] = json!({"capacity": {"memory": amount}});
            let error = Model::from_json(list(json!([odd])).to_string().as_bytes()).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("Node a: memory in status.allocatable") && text.contains(said),
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_driver_can_attach_is_a_number() {
        let drivers = json!([{"name": "ebs", "nodeID": "i-1", "allocatable": {"count": 2}}]);
        let csi = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "a"},
            "spec": {"drivers": drivers}});
        let model = Model::from_json(list(json!([node("a"), csi])).to_string().as_bytes()).unwrap();
        let limits: Vec<i64> = model
            .attach_limits
            .values()
            .flatten()
            .map(|(_, count)| *count)
            .collect();
        assert_eq!(limits, [2]);
    }

    #[test]
    fn other_kinds_and_other_groups_are_left_out() {
        let items = json!([
            node("a"),
            {"apiVersion": "management.example.com/v3", "kind": "Node", "metadata": {"name": "b"}, "spec": 7},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}},
        ]);
        assert_eq!(read(list(items)).unwrap().len(), 1);
    }
}
