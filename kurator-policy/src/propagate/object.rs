//! Which object, and which policy: the names that tie a template on the hub to its copies in the members.

use std::fmt;

use kurator_core::names::{NamespacedName, bounded_name};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{ObjectPlacement, PlacedDependency, PlacedKind};

/// A kind of objects, with its group and version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_structs, reason = "the pair is the whole idea")]
pub struct ObjectKind {
    /// Group and version, such as `apps/v1`, or `v1` for the core group.
    pub api_version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
}

impl ObjectKind {
    /// The kind `kind` of `api_version`.
    pub fn new(api_version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            api_version: api_version.into(),
            kind: kind.into(),
        }
    }

    /// Group and version apart; the core group is empty.
    #[must_use]
    pub fn group_version(&self) -> (&str, &str) {
        self.api_version
            .split_once('/')
            .unwrap_or(("", &self.api_version))
    }
}

impl From<&PlacedKind> for ObjectKind {
    fn from(kind: &PlacedKind) -> Self {
        Self::new(&kind.api_version, &kind.kind)
    }
}

impl From<&ObjectKind> for PlacedKind {
    fn from(kind: &ObjectKind) -> Self {
        Self {
            api_version: kind.api_version.clone(),
            kind: kind.kind.clone(),
        }
    }
}

impl ObjectPlacement {
    /// Which object of the policy's namespace it is about.
    pub(crate) fn named(&self) -> (&str, &str, &str) {
        (&self.api_version, &self.kind, &self.name)
    }

    /// Whether it is about this object.
    #[must_use]
    pub fn is_of(&self, object: &ObjectKey) -> bool {
        self.named() == object.named()
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api_version, self.kind)
    }
}

/// One object: the same on the hub and on every member it is copied to.
///
/// ```
/// use kurator_policy::propagate::ObjectKey;
///
/// let key = ObjectKey::new("apps/v1", "Deployment", "default", "storefront");
/// assert_eq!(key.to_string(), "Deployment default/storefront");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_structs, reason = "the pair is the whole idea")]
pub struct ObjectKey {
    /// What it is.
    pub kind: ObjectKind,
    /// Where it is.
    pub name: NamespacedName,
}

impl ObjectKey {
    /// The object `namespace/name` of a kind.
    pub fn new(
        api_version: impl Into<String>,
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            kind: ObjectKind::new(api_version, kind),
            name: NamespacedName::new(namespace, name),
        }
    }

    /// What a placement in a status says of it: all but the namespace, which is the policy's.
    pub(crate) fn named(&self) -> (&str, &str, &str) {
        (&self.kind.api_version, &self.kind.kind, &self.name.name)
    }

    /// The key that a manifest states, if it has a kind and a name.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        let metadata = object.get("metadata")?;
        let named = |field| metadata.get(field).and_then(Value::as_str);
        Some(Self::new(
            object.get("apiVersion")?.as_str()?,
            object.get("kind")?.as_str()?,
            named("namespace").unwrap_or_default(),
            named("name")?,
        ))
    }
}

impl PlacedDependency {
    /// The object, of a policy in this namespace.
    #[must_use]
    pub fn key(&self, namespace: &str) -> ObjectKey {
        let definition = self.kind == CRD.1;
        let namespace = if definition { "" } else { namespace };
        ObjectKey::new(&self.api_version, &self.kind, namespace, &self.name)
    }
}

impl From<&ObjectKey> for PlacedDependency {
    fn from(key: &ObjectKey) -> Self {
        Self {
            api_version: key.kind.api_version.clone(),
            kind: key.kind.kind.clone(),
            name: key.name.name.clone(),
        }
    }
}

/// What defines custom kinds; the only dependency outside of namespaces.
pub(crate) const CRD: (&str, &str) = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.kind, self.name)
    }
}

/// A distribution policy, by its group, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::exhaustive_structs,
    reason = "a name in one of the two groups is the whole idea"
)]
pub struct PolicyKey {
    /// API group: `policy.kurator.dev` or `apps.kurator.dev`.
    pub group: String,
    /// Namespace and name.
    pub name: NamespacedName,
}

impl PolicyKey {
    /// The policy `namespace/name` of `group`.
    pub fn new(group: impl Into<String>, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            name: NamespacedName::new(namespace, name),
        }
    }

    /// The label value that marks what this policy placed in a member: at most 63 characters, the same at every
    /// start, and different for policies that differ in group, namespace or name.
    #[must_use]
    pub fn owner(&self) -> String {
        bounded_name([&self.name.namespace, &self.name.name, &self.group])
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.group)
    }
}
