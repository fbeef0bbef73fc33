//! A kind told by data: field paths and, with the feature `cel`, expressions.

use std::collections::BTreeMap;

use kurator_core::names::ClusterName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::ObjectKind;
use super::{ObjectHealth, ReplicaRequirements, ResourceInterpreter};

#[cfg(feature = "cel")]
mod cel;

/// What a custom kind means, as data that can stand in a file. Paths are JSON pointers.
///
/// ```
/// use kurator_policy::propagate::{DeclaredKind, KindDeclaration, Kinds, ObjectKind, ResourceInterpreter};
/// use serde_json::json;
///
/// let declaration: KindDeclaration = serde_json::from_value(json!({
///     "apiVersion": "ml.example.com/v1",
///     "kind": "Engine",
///     "replicas": "/spec/workers",
///     "readyReplicas": { "path": "/status/ready" },
///     "pod": "/spec/template/spec",
///     "healthy": { "path": "/status/phase", "values": ["Serving"] },
///     "unhealthy": { "path": "/status/phase", "values": ["Failed"] },
///     "sums": ["ready"],
/// }))?;
/// let engine = ObjectKind::new("ml.example.com/v1", "Engine");
/// let kinds = Kinds::default().with(engine.clone(), DeclaredKind::new(declaration)?);
///
/// let object = json!({ "spec": { "workers": 4 }, "status": { "ready": 3, "phase": "Failed" } });
/// assert_eq!(kinds.replicas(&engine, &object), Some(4));
/// assert_eq!(kinds.ready_replicas(&engine, &object), Some(3));
/// assert_eq!(kinds.health(&engine, &object).token(), "Unhealthy");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct KindDeclaration {
    /// Group and version of the kind.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// Where the number of replicas is; left out, the kind has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<String>,
    /// How many replicas are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<Field>,
    /// Where the pod spec of a replica is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// When an object is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<HealthRule>,
    /// When an object will not get well by waiting; wins over `healthy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<HealthRule>,
    /// What is taken out before it is copied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strip: Vec<String>,
    /// What a controller in the member may own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub member_owned: Vec<String>,
    /// Fields of the status, by name, that add up over the members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sums: Vec<String>,
}

/// A value that is read. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Field {
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// An expression over the object, which is called `self`; needs the feature `cel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cel: Option<String>,
}

/// A condition of an object: a path with the values that satisfy it, or an expression.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct HealthRule {
    /// Where the value is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The values that satisfy the rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Value>,
    /// An expression over the object, which is called `self`, that is true; needs the feature `cel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cel: Option<String>,
}

/// A declaration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeclarationError {
    /// A path is no JSON pointer to something inside the object.
    #[error(
        "{kind}: {field}: {path:?} is no JSON pointer; begin each step with a slash, as in /spec/replicas"
    )]
    Path {
        /// The kind.
        kind: String,
        /// The field of the declaration.
        field: &'static str,
        /// The path.
        path: String,
    },
    /// Neither a path nor an expression is given, or both are.
    #[error("{kind}: {field}: exactly one of path and cel must be set")]
    PathOrCel {
        /// The kind.
        kind: String,
        /// The field of the declaration.
        field: &'static str,
    },
    /// An expression does not compile, or there is nothing here to run it.
    #[error("{kind}: {field}: the expression {expression:?} cannot be used: {problem}")]
    Expression {
        /// The kind.
        kind: String,
        /// The field of the declaration.
        field: &'static str,
        /// The expression.
        expression: String,
        /// What is wrong.
        problem: String,
    },
}

/// A [`KindDeclaration`] that can be used; register it with [`Kinds`](super::Kinds).
#[derive(Debug)]
pub struct DeclaredKind {
    declared: KindDeclaration,
    ready: Option<Source>,
    healthy: Option<Rule>,
    unhealthy: Option<Rule>,
}

/// Where a value comes from.
#[derive(Debug)]
enum Source {
    Path(String),
    #[cfg(feature = "cel")]
    Expression(cel::Expression),
}

#[derive(Debug)]
struct Rule {
    of: Source,
    values: Vec<Value>,
}

impl Source {
    fn new(
        kind: &str,
        field: &'static str,
        path: Option<&String>,
        cel: Option<&String>,
    ) -> Result<Self, DeclarationError> {
        match (path, cel) {
            (Some(path), None) => pointer(kind, field, path).map(|()| Self::Path(path.clone())),
            (None, Some(expression)) => {
                Self::expression(expression).map_err(|problem| DeclarationError::Expression {
                    kind: kind.to_owned(),
                    field,
                    expression: expression.clone(),
                    problem,
                })
            }
            _ => Err(DeclarationError::PathOrCel {
                kind: kind.to_owned(),
                field,
            }),
        }
    }

    #[cfg(feature = "cel")]
    fn expression(expression: &str) -> Result<Self, String> {
        cel::Expression::compile(expression).map(Self::Expression)
    }

    #[cfg(not(feature = "cel"))]
    fn expression(_: &str) -> Result<Self, String> {
        Err("kurator-policy was built without its feature `cel`".to_owned())
    }

    fn read(&self, object: &Value) -> Option<Value> {
        match self {
            Self::Path(path) => object.pointer(path).cloned(),
            #[cfg(feature = "cel")]
            Self::Expression(expression) => expression.evaluate(object),
        }
    }
}

impl Rule {
    fn new(kind: &str, field: &'static str, rule: &HealthRule) -> Result<Self, DeclarationError> {
        let of = Source::new(kind, field, rule.path.as_ref(), rule.cel.as_ref())?;
        let values = match &rule.path {
            Some(_) => rule.values.clone(),
            None => vec![Value::Bool(true)],
        };
        Ok(Self { of, values })
    }

    fn holds(&self, object: &Value) -> bool {
        self.of
            .read(object)
            .is_some_and(|value| self.values.contains(&value))
    }
}

fn pointer(kind: &str, field: &'static str, path: &str) -> Result<(), DeclarationError> {
    if path.starts_with('/') && path.len() > 1 {
        return Ok(());
    }
    Err(DeclarationError::Path {
        kind: kind.to_owned(),
        field,
        path: path.to_owned(),
    })
}

impl DeclaredKind {
    /// Checks a declaration and compiles its expressions.
    ///
    /// # Errors
    /// [`DeclarationError`] naming the field.
    pub fn new(declared: KindDeclaration) -> Result<Self, DeclarationError> {
        let kind = declared.kind.as_str();
        let paths = [("replicas", &declared.replicas), ("pod", &declared.pod)];
        for (field, path) in paths {
            if let Some(path) = path {
                pointer(kind, field, path)?;
            }
        }
        for path in &declared.strip {
            pointer(kind, "strip", path)?;
        }
        for path in &declared.member_owned {
            pointer(kind, "memberOwned", path)?;
        }
        let ready = declared
            .ready_replicas
            .as_ref()
            .map(|field| Source::new(kind, "readyReplicas", field.path.as_ref(), field.cel.as_ref()));
        let rule = |field, rule: &Option<HealthRule>| {
            rule.as_ref().map(|rule| Rule::new(kind, field, rule)).transpose()
        };
        Ok(Self {
            ready: ready.transpose()?,
            healthy: rule("healthy", &declared.healthy)?,
            unhealthy: rule("unhealthy", &declared.unhealthy)?,
            declared,
        })
    }

    /// The kind it is about.
    #[must_use]
    pub fn kind(&self) -> ObjectKind {
        ObjectKind::new(&self.declared.api_version, &self.declared.kind)
    }
}

fn count(value: &Value) -> Option<u32> {
    value
        .as_u64()
        .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

/// Sets a field, and makes the objects around it if they are missing.
pub(in crate::propagate) fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    let mut steps = pointer.split('/').skip(1).peekable();
    while let Some(step) = steps.next() {
        let step = step.replace("~1", "/").replace("~0", "~");
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let last = steps.peek().is_none();
        let inner = match at {
            Value::Object(fields) => fields.entry(step).or_insert(Value::Null),
            Value::Array(items) => match step.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                Some(item) => item,
                None => return,
            },
            _ => return,
        };
        if last {
            *inner = value;
            return;
        }
        at = inner;
    }
}

impl ResourceInterpreter for DeclaredKind {
    fn replicas(&self, _: &ObjectKind, object: &Value) -> Option<u32> {
        count(object.pointer(self.declared.replicas.as_ref()?)?)
    }

    fn set_replicas(&self, _: &ObjectKind, object: &mut Value, replicas: u32) {
        if let Some(path) = &self.declared.replicas {
            set(object, path, json!(replicas));
        }
    }

    fn ready_replicas(&self, _: &ObjectKind, object: &Value) -> Option<u32> {
        self.declared.replicas.as_ref()?;
        let read = self.ready.as_ref().and_then(|ready| ready.read(object));
        Some(read.as_ref().and_then(count).unwrap_or(0))
    }

    fn strip(&self, _: &ObjectKind, object: &mut Value) {
        for path in &self.declared.strip {
            if let Some((parent, field)) = path.rsplit_once('/')
                && let Some(Value::Object(parent)) = object.pointer_mut(parent)
            {
                parent.remove(&field.replace("~1", "/").replace("~0", "~"));
            }
        }
    }

    fn requirements(&self, _: &ObjectKind, object: &Value) -> Option<ReplicaRequirements> {
        ReplicaRequirements::of_pod(object.pointer(self.declared.pod.as_ref()?)?)
    }

    fn health(&self, _: &ObjectKind, object: &Value) -> ObjectHealth {
        if self.unhealthy.as_ref().is_some_and(|rule| rule.holds(object)) {
            return ObjectHealth::Unhealthy {
                why: "the rule for unhealthy objects holds".to_owned(),
            };
        }
        match &self.healthy {
            Some(rule) if rule.holds(object) => ObjectHealth::Healthy,
            Some(_) => ObjectHealth::Progressing {
                why: "the rule for healthy objects does not hold yet".to_owned(),
            },
            None => ObjectHealth::Unknown,
        }
    }

    fn aggregated_status(
        &self,
        _: &ObjectKind,
        _: &Value,
        kept: &BTreeMap<ClusterName, Value>,
    ) -> Option<Value> {
        if self.declared.sums.is_empty() {
            return None;
        }
        let mut status = Map::new();
        for field in &self.declared.sums {
            let counts = kept.values().filter_map(|status| status.get(field)?.as_u64());
            status.insert(field.clone(), json!(counts.fold(0, u64::saturating_add)));
        }
        Some(Value::Object(status))
    }

    fn member_owned(&self, _: &ObjectKind, _: &Value) -> Vec<String> {
        self.declared.member_owned.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declare(more: Value) -> Result<DeclaredKind, DeclarationError> {
        let mut declaration = json!({ "apiVersion": "e.com/v1", "kind": "Engine" });
        declaration
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        DeclaredKind::new(serde_json::from_value(declaration).unwrap())
    }

    #[test]
    fn a_declaration_that_cannot_be_used_names_its_field() {
        for (more, message) in [
            (
                json!({ "replicas": "spec.replicas" }),
                "Engine: replicas: \"spec.replicas\" is no JSON pointer; begin each step with a slash, as in \
                 /spec/replicas",
            ),
            (
                json!({ "readyReplicas": {} }),
                "Engine: readyReplicas: exactly one of path and cel must be set",
            ),
            (
                json!({ "healthy": { "path": "/a", "cel": "true" } }),
                "Engine: healthy: exactly one of path and cel must be set",
            ),
        ] {
            assert_eq!(declare(more).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn replicas_are_set_where_nothing_was() {
        let engine = declare(json!({ "replicas": "/spec/pool/workers" })).unwrap();
        let mut object = json!({});
        engine.set_replicas(&engine.kind(), &mut object, 3);
        assert_eq!(object, json!({ "spec": { "pool": { "workers": 3 } } }));
        assert_eq!(engine.ready_replicas(&engine.kind(), &object), Some(0));
    }

    #[test]
    fn only_what_is_declared_adds_up() {
        let engine = declare(json!({ "sums": ["ready"] })).unwrap();
        let kept = BTreeMap::from([
            ("a".parse().unwrap(), json!({ "ready": 2, "phase": "x" })),
            ("b".parse().unwrap(), json!({ "ready": 1 })),
        ]);
        assert_eq!(
            engine.aggregated_status(&engine.kind(), &json!({}), &kept),
            Some(json!({ "ready": 3 }))
        );
    }

    #[cfg(feature = "cel")]
    #[test]
    fn expressions_read_the_object() {
        let engine = declare(json!({
            "replicas": "/spec/workers",
            "readyReplicas": { "cel": "self.status.left + self.status.right" },
            "healthy": { "cel": "self.status.left + self.status.right >= self.spec.workers" },
            "unhealthy": { "cel": "has(self.status.error)" },
        }))
        .unwrap();
        let kind = engine.kind();
        let object = |left: u32| json!({ "spec": { "workers": 3 }, "status": { "left": left, "right": 1 } });
        assert_eq!(engine.ready_replicas(&kind, &object(1)), Some(2));
        assert_eq!(engine.health(&kind, &object(1)).token(), "Progressing");
        assert_eq!(engine.health(&kind, &object(2)), ObjectHealth::Healthy);
        // An expression that fails on an object says nothing about it.
        assert_eq!(engine.ready_replicas(&kind, &json!({})), Some(0));
        let bad = declare(json!({ "healthy": { "cel": "self.status. ==" } }));
        assert!(matches!(
            bad,
            Err(DeclarationError::Expression { field: "healthy", .. })
        ));
    }
}
