//! What a kind means to a policy: where its replicas are and what one of them needs, how it is doing, and which of its
//! fields belong to one cluster.

mod aggregate;
mod allocated;
mod builtin;
mod closures;
mod declared;
mod health;
mod member_owned;
mod requirements;

use std::{collections::BTreeMap, fmt::Debug};

use kurator_core::names::ClusterName;
use serde_json::Value;

use super::ObjectKind;

pub(crate) use self::allocated::strip_allocated;
pub(super) use self::declared::set;
pub use self::{
    builtin::BuiltinKinds,
    closures::CustomKind,
    declared::{DeclarationError, DeclaredKind, Field, HealthRule, KindDeclaration},
    health::ObjectHealth,
    member_owned::{hpa_targets, replica_fields, scale_target},
    requirements::ReplicaRequirements,
};

/// Knows the fields of kinds.
///
/// Pure: the same object gives the same answer, and no method fails. What a method answers by default is what is
/// right for a kind of which nothing is known.
///
/// Built in are the kinds of Kubernetes itself, [`BuiltinKinds`]; for others there are [`DeclaredKind`] (field paths
/// that may come from a file) and [`CustomKind`] (closures). Put them together with [`Kinds`].
pub trait ResourceInterpreter: Debug + Send + Sync {
    /// How many replicas the object asks for; `None` if replicas mean nothing to its kind, so that it is copied whole.
    fn replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32>;

    /// Makes the object ask for this many replicas.
    fn set_replicas(&self, kind: &ObjectKind, object: &mut Value, replicas: u32);

    /// How many replicas of an object in a member are ready, by the status its controllers wrote there.
    fn ready_replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32>;

    /// How many replicas of an object in a member there are, ready or not, by the status its controllers wrote there:
    /// what of the room it was promised it takes by now. By default `status.replicas`.
    fn created_replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32> {
        self.replicas(kind, object)?;
        let created = object.pointer("/status/replicas").and_then(Value::as_u64);
        Some(u32::try_from(created.unwrap_or(0)).unwrap_or(u32::MAX))
    }

    /// Takes out what another cluster must fill in for itself. Server-set metadata and status are gone already.
    fn strip(&self, kind: &ObjectKind, object: &mut Value);

    /// What one replica needs of a node; `None` if that is not known.
    fn requirements(&self, _kind: &ObjectKind, _object: &Value) -> Option<ReplicaRequirements> {
        None
    }

    /// JSON pointers to totals that are divided in the proportion of the replicas, such as the completions of a Job.
    fn divided_totals(&self, _kind: &ObjectKind, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Whether the object must not be taken apart: it goes whole to one cluster when the policy divides.
    fn indivisible(&self, _kind: &ObjectKind, _object: &Value) -> bool {
        false
    }

    /// How an object in a member is doing.
    fn health(&self, _kind: &ObjectKind, _object: &Value) -> ObjectHealth {
        ObjectHealth::Unknown
    }

    /// What of a member's status is worth keeping on the hub.
    fn kept_status(&self, _kind: &ObjectKind, object: &Value) -> Option<Value> {
        object.get("status").cloned()
    }

    /// The status of the template on the hub, put together from what was [kept](Self::kept_status) of its copies;
    /// `None` if the template's status is to be left alone.
    fn aggregated_status(
        &self,
        _kind: &ObjectKind,
        _template: &Value,
        _kept: &BTreeMap<ClusterName, Value>,
    ) -> Option<Value> {
        None
    }

    /// JSON pointers to fields that a controller in the member may own; see [`retain`](kurator_core::apply::retain).
    fn member_owned(&self, _kind: &ObjectKind, _object: &Value) -> Vec<String> {
        Vec::new()
    }
}

/// Several interpreters behind one: each kind is asked of the first that is registered for it, and of a last resort
/// otherwise.
///
/// ```
/// use kurator_policy::propagate::{CustomKind, Kinds, ObjectKind, ResourceInterpreter};
/// use serde_json::json;
///
/// let engine = ObjectKind::new("ml.example.com/v1", "Engine");
/// let kinds = Kinds::default().with(
///     engine.clone(),
///     CustomKind::default().with_replicas(
///         |engine| engine.pointer("/spec/workers").and_then(|count| count.as_u64()?.try_into().ok()),
///         |engine, replicas| engine["spec"]["workers"] = replicas.into(),
///     ),
/// );
/// let mut object = json!({ "spec": { "workers": 4 } });
/// assert_eq!(kinds.replicas(&engine, &object), Some(4));
/// kinds.set_replicas(&engine, &mut object, 1);
/// assert_eq!(object, json!({ "spec": { "workers": 1 } }));
/// ```
#[derive(Debug)]
pub struct Kinds {
    of: BTreeMap<ObjectKind, Box<dyn ResourceInterpreter>>,
    otherwise: Box<dyn ResourceInterpreter>,
}

/// The built-in kinds alone.
impl Default for Kinds {
    fn default() -> Self {
        Self {
            of: BTreeMap::new(),
            otherwise: Box::new(BuiltinKinds),
        }
    }
}

impl Kinds {
    /// Registers an interpreter for a kind, which may be a built-in one; the last registration counts.
    #[must_use]
    pub fn with(mut self, kind: ObjectKind, interpreter: impl ResourceInterpreter + 'static) -> Self {
        self.of.insert(kind, Box::new(interpreter));
        self
    }

    fn of(&self, kind: &ObjectKind) -> &dyn ResourceInterpreter {
        &**self.of.get(kind).unwrap_or(&self.otherwise)
    }
}

impl ResourceInterpreter for Kinds {
    fn replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32> {
        self.of(kind).replicas(kind, object)
    }

    fn set_replicas(&self, kind: &ObjectKind, object: &mut Value, replicas: u32) {
        self.of(kind).set_replicas(kind, object, replicas);
    }

    fn ready_replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32> {
        self.of(kind).ready_replicas(kind, object)
    }

    fn created_replicas(&self, kind: &ObjectKind, object: &Value) -> Option<u32> {
        self.of(kind).created_replicas(kind, object)
    }

    fn strip(&self, kind: &ObjectKind, object: &mut Value) {
        self.of(kind).strip(kind, object);
    }

    fn requirements(&self, kind: &ObjectKind, object: &Value) -> Option<ReplicaRequirements> {
        self.of(kind).requirements(kind, object)
    }

    fn divided_totals(&self, kind: &ObjectKind, object: &Value) -> Vec<String> {
        self.of(kind).divided_totals(kind, object)
    }

    fn indivisible(&self, kind: &ObjectKind, object: &Value) -> bool {
        self.of(kind).indivisible(kind, object)
    }

    fn health(&self, kind: &ObjectKind, object: &Value) -> ObjectHealth {
        self.of(kind).health(kind, object)
    }

    fn kept_status(&self, kind: &ObjectKind, object: &Value) -> Option<Value> {
        self.of(kind).kept_status(kind, object)
    }

    fn aggregated_status(
        &self,
        kind: &ObjectKind,
        template: &Value,
        kept: &BTreeMap<ClusterName, Value>,
    ) -> Option<Value> {
        self.of(kind).aggregated_status(kind, template, kept)
    }

    fn member_owned(&self, kind: &ObjectKind, object: &Value) -> Vec<String> {
        self.of(kind).member_owned(kind, object)
    }
}
