use std::collections::BTreeSet;
use std::fmt;

use kurator_core::names::ClusterName;

use super::super::{Known, ObjectKey};
use super::plan::{Dependencies, Use};
use super::references::references;

/// Something that must not be in a plan of dependencies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DependencyFlaw {
    /// A cluster has an object and lacks what that object names, though the hub has it.
    Lacking {
        /// The cluster.
        cluster: ClusterName,
        /// The object that is lacking.
        object: ObjectKey,
        /// The object that names it.
        named_by: ObjectKey,
    },
    /// A cluster has an object that nothing there names.
    Unneeded {
        /// The cluster.
        cluster: ClusterName,
        /// The object.
        object: ObjectKey,
    },
    /// Something is in a namespace that the cluster does not get.
    NoNamespace {
        /// The cluster.
        cluster: ClusterName,
        /// The object.
        object: ObjectKey,
    },
}

impl fmt::Display for DependencyFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacking {
                cluster,
                object,
                named_by,
            } => write!(f, "{cluster} has {named_by} and lacks {object}"),
            Self::Unneeded { cluster, object } => {
                write!(f, "{cluster} has {object}, which nothing there names")
            }
            Self::NoNamespace { cluster, object } => write!(f, "{cluster} has no namespace for {object}"),
        }
    }
}

/// Reads a plan one object at a time, without following references through others; a right plan gives nothing.
#[must_use]
pub fn check_dependencies(uses: &[Use<'_>], hub: &Known<'_>, planned: &Dependencies) -> Vec<DependencyFlaw> {
    let mut flaws = Vec::new();
    let clusters: BTreeSet<&ClusterName> = uses.iter().flat_map(|used| &used.clusters).collect();
    for cluster in clusters {
        let distributed = uses.iter().filter(|used| used.clusters.contains(cluster));
        let objects: Vec<(&ObjectKey, &serde_json::Value)> = distributed
            .map(|used| (&used.template.key, &*used.template.manifest))
            .chain(
                planned
                    .members
                    .get(cluster)
                    .into_iter()
                    .flat_map(|objects| objects.keys())
                    .filter_map(|key| Some((key, hub.find(key)?))),
            )
            .collect();
        let there = |key: &ObjectKey| {
            objects.iter().any(|(other, _)| {
                other.name == key.name
                    && other.kind.kind == key.kind.kind
                    && other.kind.group_version().0 == key.kind.group_version().0
            })
        };
        let mut named = BTreeSet::new();
        for (key, object) in &objects {
            named.extend(hub.definition(&key.kind));
            for reference in references(object) {
                let portable = hub.find(&reference.object).is_some_and(|found| {
                    found.get("type").and_then(|kind| kind.as_str())
                        != Some("kubernetes.io/service-account-token")
                });
                if portable && !there(&reference.object) {
                    flaws.push(DependencyFlaw::Lacking {
                        cluster: cluster.clone(),
                        object: reference.object.clone(),
                        named_by: (*key).clone(),
                    });
                }
                named.insert(reference.object);
            }
        }
        for object in planned
            .members
            .get(cluster)
            .into_iter()
            .flat_map(|objects| objects.keys())
        {
            if !named.contains(object) {
                flaws.push(DependencyFlaw::Unneeded {
                    cluster: cluster.clone(),
                    object: object.clone(),
                });
            }
        }
        for (key, _) in &objects {
            let namespace = &key.name.namespace;
            let has = planned
                .namespaces
                .get(cluster)
                .is_some_and(|all| all.contains(namespace));
            if !namespace.is_empty() && !has {
                flaws.push(DependencyFlaw::NoNamespace {
                    cluster: cluster.clone(),
                    object: (*key).clone(),
                });
            }
        }
    }
    flaws
}
