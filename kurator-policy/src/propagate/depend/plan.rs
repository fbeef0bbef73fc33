use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kurator_core::names::{ClusterName, NamespacedName};
use serde_json::Value;

use super::super::{Known, ObjectKey, ObjectKind, PolicyKey, Template, object::CRD};
use super::references::references;

/// A template of a policy and the clusters it goes to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Use<'a> {
    /// The policy.
    pub policy: &'a PolicyKey,
    /// The template.
    pub template: &'a Template,
    /// Where it goes.
    pub clusters: BTreeSet<ClusterName>,
}

impl<'a> Use<'a> {
    /// A template of a policy that goes to these clusters.
    pub fn new(
        policy: &'a PolicyKey,
        template: &'a Template,
        clusters: impl IntoIterator<Item = ClusterName>,
    ) -> Self {
        Self {
            policy,
            template,
            clusters: clusters.into_iter().collect(),
        }
    }
}

/// Who needs an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct NeededBy {
    /// The policy.
    pub policy: PolicyKey,
    /// Its template that needs the object, itself or through others.
    pub template: ObjectKey,
}

/// An object that something refers to and that cannot be copied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Missing {
    /// It is not on the hub.
    NotOnHub {
        /// The object.
        object: ObjectKey,
        /// Who needs it.
        by: NeededBy,
    },
    /// It belongs to the hub alone, such as the token of a service account.
    BoundToHub {
        /// The object.
        object: ObjectKey,
        /// Who needs it.
        by: NeededBy,
    },
}

impl Missing {
    /// The CamelCase token for conditions, Events and metrics.
    #[must_use]
    pub const fn token(&self) -> &'static str {
        match self {
            Self::NotOnHub { .. } => "DependencyMissing",
            Self::BoundToHub { .. } => "DependencyBoundToHub",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOnHub { object, by } => {
                write!(
                    f,
                    "{} refers to {object}, which is not on the hub; create it there",
                    by.template
                )
            }
            Self::BoundToHub { object, by } => write!(
                f,
                "{} refers to {object}, which is a token of the hub; refer to its service account instead",
                by.template
            ),
        }
    }
}

/// What the members need beside what policies distribute to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Dependencies {
    /// The objects of every cluster, with all who need each: a cluster has it once, and as long as anybody does.
    pub members: BTreeMap<ClusterName, BTreeMap<ObjectKey, BTreeSet<NeededBy>>>,
    /// The namespaces in which something is in a cluster. No others are needed there.
    pub namespaces: BTreeMap<ClusterName, BTreeSet<String>>,
    /// What cannot be copied, sorted. References that are optional are not listed.
    pub missing: Vec<Missing>,
}

impl fmt::Display for Dependencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (cluster, objects) in &self.members {
            for (object, needed) in objects {
                write!(f, "{cluster}: {object}, needed by")?;
                for (index, by) in needed.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma} {} of policy {}", by.template, by.policy.name)?;
                }
                writeln!(f)?;
            }
        }
        self.missing
            .iter()
            .try_for_each(|missing| writeln!(f, "{}: {missing}", missing.token()))
    }
}

/// Finds what the templates need, through as many steps as it takes, and where.
///
/// `hub` holds the objects of the hub that may be needed, and its CustomResourceDefinitions: a custom kind needs its own.
///
/// # Guarantees
/// Pure: the order of the uses does not reach the result. An object that a use itself distributes to a cluster is no
/// dependency there.
///
/// ```
/// use kurator_policy::propagate::{BuiltinKinds, Known, PolicyKey, Template, Use, dependencies};
/// use serde_json::json;
///
/// let web = Template::of(&json!({
///     "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" },
///     "spec": { "template": { "spec": { "serviceAccountName": "web", "containers": [] } } },
/// }), &BuiltinKinds)?;
/// let account = json!({
///     "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "web", "namespace": "shop" },
///     "imagePullSecrets": [{ "name": "registry" }],
/// });
/// let mut hub = Known::default();
/// hub.add(&account);
/// let policy = PolicyKey::new("policy.kurator.dev", "shop", "everywhere");
/// let needed = dependencies(&[Use::new(&policy, &web, ["a".parse()?])], &hub);
/// assert_eq!(
///     needed.to_string(),
///     "a: ServiceAccount shop/web, needed by Deployment shop/web of policy shop/everywhere\n\
///      DependencyMissing: Deployment shop/web refers to Secret shop/registry, which is not on the hub; create it there\n",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn dependencies(uses: &[Use<'_>], hub: &Known<'_>) -> Dependencies {
    let mut found = Dependencies::default();
    let mut missing = BTreeSet::new();
    let mut own: BTreeMap<&ClusterName, BTreeSet<&ObjectKey>> = BTreeMap::new();
    for used in uses {
        for cluster in &used.clusters {
            own.entry(cluster).or_default().insert(&used.template.key);
        }
    }
    for used in uses {
        let by = NeededBy {
            policy: used.policy.clone(),
            template: used.template.key.clone(),
        };
        let (needed, absent) = closure(&used.template.manifest, hub);
        missing.extend(absent.into_iter().map(|absent| match absent {
            (object, true) => Missing::BoundToHub {
                object,
                by: by.clone(),
            },
            (object, false) => Missing::NotOnHub {
                object,
                by: by.clone(),
            },
        }));
        for cluster in &used.clusters {
            let namespaces = found.namespaces.entry(cluster.clone()).or_default();
            let namespace = &used.template.key.name.namespace;
            namespaces.extend((!namespace.is_empty()).then(|| namespace.clone()));
            for object in &needed {
                let distributed = own.get(cluster).is_some_and(|own| {
                    own.iter().any(|own| {
                        own.name == object.name
                            && own.kind.kind == object.kind.kind
                            && own.kind.group_version().0 == object.kind.group_version().0
                    })
                });
                if distributed {
                    continue;
                }
                let namespace = &object.name.namespace;
                namespaces.extend((!namespace.is_empty()).then(|| namespace.clone()));
                let members = found.members.entry(cluster.clone()).or_default();
                members.entry(object.clone()).or_default().insert(by.clone());
            }
        }
    }
    found.missing = missing.into_iter().collect();
    found
}

/// Everything an object needs, with what of it is not to be had: `true` if it is there and bound to the hub.
fn closure(object: &Value, hub: &Known<'_>) -> (BTreeSet<ObjectKey>, Vec<(ObjectKey, bool)>) {
    let mut needed = BTreeSet::new();
    let mut absent = Vec::new();
    let mut open: Vec<&Value> = vec![object];
    while let Some(object) = open.pop() {
        if let Some(definition) = ObjectKey::of(object).and_then(|key| hub.definition(&key.kind)) {
            needed.insert(definition);
        }
        for reference in references(object) {
            if needed.contains(&reference.object) {
                continue;
            }
            match hub.find(&reference.object) {
                Some(found) if is_token(found) => absent.push((reference.object, true)),
                Some(found) => {
                    needed.insert(reference.object);
                    open.push(found);
                }
                None if reference.optional => {}
                None => absent.push((reference.object, false)),
            }
        }
    }
    (needed, absent)
}

/// A token that only the API server that wrote it accepts.
fn is_token(object: &Value) -> bool {
    object.get("kind").and_then(Value::as_str) == Some("Secret")
        && object.get("type").and_then(Value::as_str) == Some("kubernetes.io/service-account-token")
}

/// The CustomResourceDefinition that defines a kind, if this one does.
#[must_use]
pub fn crd_of(kind: &ObjectKind, definition: &Value) -> Option<ObjectKey> {
    let text = |pointer| definition.pointer(pointer).and_then(Value::as_str);
    let (group, version) = kind.group_version();
    let defines = text("/kind") == Some("CustomResourceDefinition")
        && text("/spec/group") == Some(group)
        && text("/spec/names/kind") == Some(&kind.kind);
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let serves = versions
        .into_iter()
        .flatten()
        .any(|served| served.get("name").and_then(Value::as_str) == Some(version));
    let key = ObjectKey {
        kind: ObjectKind::new(CRD.0, CRD.1),
        name: NamespacedName::cluster_scoped(text("/metadata/name")?),
    };
    (defines && serves).then_some(key)
}
