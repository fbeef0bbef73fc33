use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kurator_core::names::ClusterName;

use super::super::ObjectKey;
use super::plan::{Dependencies, NeededBy};

/// What has to change about one object in one cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Change {
    /// Nobody needed it, somebody does.
    Add {
        /// The cluster.
        cluster: ClusterName,
        /// The object.
        object: ObjectKey,
        /// Who needs it.
        by: BTreeSet<NeededBy>,
    },
    /// It stays; others need it than before.
    Share {
        /// The cluster.
        cluster: ClusterName,
        /// The object.
        object: ObjectKey,
        /// Who needs it now.
        by: BTreeSet<NeededBy>,
    },
    /// The last who needed it does not any more.
    Remove {
        /// The cluster.
        cluster: ClusterName,
        /// The object.
        object: ObjectKey,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { cluster, object, by } => write!(f, "{cluster}: add {object} for {} users", by.len()),
            Self::Share { cluster, object, by } => {
                write!(f, "{cluster}: {object} has {} users now", by.len())
            }
            Self::Remove { cluster, object } => write!(f, "{cluster}: remove {object}, nobody needs it"),
        }
    }
}

/// What leads from what the members have to what they need, sorted.
///
/// ```
/// use kurator_policy::propagate::{Dependencies, changes};
/// assert!(changes(&Dependencies::default(), &Dependencies::default()).is_empty());
/// ```
#[must_use]
pub fn changes(before: &Dependencies, after: &Dependencies) -> BTreeSet<Change> {
    let nothing = BTreeMap::new();
    let mut changes = BTreeSet::new();
    let clusters: BTreeSet<&ClusterName> = before.members.keys().chain(after.members.keys()).collect();
    for cluster in clusters {
        let had = before.members.get(cluster).unwrap_or(&nothing);
        let has = after.members.get(cluster).unwrap_or(&nothing);
        for (object, by) in has {
            let (cluster, object_now, by_now) = (cluster.clone(), object.clone(), by.clone());
            match had.get(object) {
                None => changes.insert(Change::Add {
                    cluster,
                    object: object_now,
                    by: by_now,
                }),
                Some(before) if before != by => changes.insert(Change::Share {
                    cluster,
                    object: object_now,
                    by: by_now,
                }),
                Some(_) => false,
            };
        }
        for object in had.keys().filter(|object| !has.contains_key(*object)) {
            changes.insert(Change::Remove {
                cluster: cluster.clone(),
                object: object.clone(),
            });
        }
    }
    changes
}
