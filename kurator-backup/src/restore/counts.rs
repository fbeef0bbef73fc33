//! What a restore would change: from what is in the backup and what is on the member.

use std::collections::{BTreeMap, BTreeSet};

use kurator_core::names::NamespacedName;

use crate::{
    api::RestoreCounts,
    driver::{ExistingResources, Inventory, ResourceKind, RestoreScope, names_kind},
};

/// Groups and kinds that are never restored: they describe the cluster that was backed up.
pub const NOT_RESTORED: [(&str, &str); 7] = [
    ("", "Node"),
    ("", "Event"),
    ("events.k8s.io", "Event"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("velero.io", "Backup"),
    ("velero.io", "Restore"),
];

/// Resources of Kubernetes as filters name them, with their groups and kinds: with these alone a filter by kinds says
/// exactly which objects it takes.
pub const WELL_KNOWN: [(&str, &str, &str); 12] = [
    ("configmaps", "", "ConfigMap"),
    ("secrets", "", "Secret"),
    ("serviceaccounts", "", "ServiceAccount"),
    ("deployments.apps", "apps", "Deployment"),
    ("statefulsets.apps", "apps", "StatefulSet"),
    ("daemonsets.apps", "apps", "DaemonSet"),
    ("cronjobs.batch", "batch", "CronJob"),
    (
        "horizontalpodautoscalers.autoscaling",
        "autoscaling",
        "HorizontalPodAutoscaler",
    ),
    (
        "networkpolicies.networking.k8s.io",
        "networking.k8s.io",
        "NetworkPolicy",
    ),
    ("poddisruptionbudgets.policy", "policy", "PodDisruptionBudget"),
    (
        "roles.rbac.authorization.k8s.io",
        "rbac.authorization.k8s.io",
        "Role",
    ),
    (
        "rolebindings.rbac.authorization.k8s.io",
        "rbac.authorization.k8s.io",
        "RoleBinding",
    ),
];

/// What should be on a member after a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expected {
    /// The objects, under the names they get there.
    pub objects: Inventory,
    /// Objects in the backup that are never restored.
    pub refused: u64,
    /// Whether the scope says exactly which objects these are. It does not where it selects by labels, which the list
    /// of a backup does not have, by kinds other than [`WELL_KNOWN`], whose plural is not in it either, or where it
    /// takes the cluster-scoped objects that others need.
    pub exact: bool,
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What a restore of `contents` puts on a member.
#[must_use]
pub fn expected(contents: &Inventory, scope: &RestoreScope, mapping: &BTreeMap<String, String>) -> Expected {
    let mut expected = Expected {
        exact: is_exact(scope),
        ..Expected::default()
    };
    let listed = |list: &[String], item: &str| list.iter().any(|it| it == "*" || it == item);
    for (kind, objects) in contents {
        if NOT_RESTORED.contains(&(kind.group(), kind.kind.as_str())) {
            expected.refused += count(objects.len());
            continue;
        }
        let named = |list: &[String]| list.iter().any(|entry| takes(entry, kind));
        if !(scope.included_resources.is_empty() || named(&scope.included_resources))
            || named(&scope.excluded_resources)
        {
            continue;
        }
        for object in objects {
            let taken = if object.namespace.is_empty() {
                scope.include_cluster_resources != Some(false)
            } else {
                (scope.included_namespaces.is_empty()
                    || listed(&scope.included_namespaces, &object.namespace))
                    && !listed(&scope.excluded_namespaces, &object.namespace)
            };
            if taken {
                let name = mapped(kind, object, mapping);
                expected.objects.entry(kind.clone()).or_default().insert(name);
            }
        }
    }
    expected
}

/// The name an object gets on the member.
pub(super) fn mapped(
    kind: &ResourceKind,
    object: &NamespacedName,
    mapping: &BTreeMap<String, String>,
) -> NamespacedName {
    if kind.group().is_empty() && kind.kind == "Namespace" {
        return NamespacedName::cluster_scoped(mapping.get(&object.name).unwrap_or(&object.name));
    }
    let namespace = mapping.get(&object.namespace).unwrap_or(&object.namespace);
    NamespacedName::new(namespace, &object.name)
}

fn well_known(entry: &str) -> Option<(&'static str, &'static str)> {
    let found = WELL_KNOWN.iter().find(|(resource, _, _)| *resource == entry);
    found.map(|(_, group, kind)| (*group, *kind))
}

/// Whether an entry of a filter by kinds is about this one.
fn takes(entry: &str, kind: &ResourceKind) -> bool {
    match well_known(entry) {
        Some(known) => known == (kind.group(), kind.kind.as_str()),
        None => names_kind(entry, kind),
    }
}

fn is_exact(scope: &RestoreScope) -> bool {
    let all = scope.included_namespaces.is_empty() || scope.included_namespaces == ["*"];
    scope.label_selector.is_none()
        && scope.or_label_selectors.is_empty()
        && scope
            .included_resources
            .iter()
            .chain(&scope.excluded_resources)
            .all(|entry| well_known(entry).is_some())
        && (scope.include_cluster_resources.is_some() || (all && scope.excluded_namespaces.is_empty()))
}

/// What becomes of the expected objects, given what is on the member.
#[must_use]
pub fn counts(expected: &Expected, present: &Inventory, existing: ExistingResources) -> RestoreCounts {
    let none = BTreeSet::new();
    let mut counts = RestoreCounts {
        refused: expected.refused,
        ..RestoreCounts::default()
    };
    for (kind, objects) in &expected.objects {
        let there = count(objects.intersection(present.get(kind).unwrap_or(&none)).count());
        counts.create += count(objects.len()) - there;
        match existing {
            ExistingResources::Skip => counts.skip += there,
            ExistingResources::Update => counts.patch += there,
        }
    }
    counts
}
