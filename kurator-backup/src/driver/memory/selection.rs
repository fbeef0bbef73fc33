//! Which objects a filter takes: the simple part of the real rules.

use std::collections::BTreeMap;

use kurator_core::{names::NamespacedName, selector::LabelMatcher};
use serde_json::Value;

use super::Objects;
use crate::driver::{BackupScope, ResourceKind, RestoreScope, names_kind};

/// Kind and name of an object.
pub(super) fn identity(object: &Value) -> Option<(ResourceKind, NamespacedName)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kind = ResourceKind::new(text(&object["apiVersion"])?, text(&object["kind"])?);
    let metadata = &object["metadata"];
    let namespace = text(&metadata["namespace"]).unwrap_or_default();
    Some((kind, NamespacedName::new(namespace, text(&metadata["name"])?)))
}

/// The filters that backups and restores share.
#[derive(Debug)]
struct Filter<'a> {
    namespaces: (&'a [String], &'a [String]),
    resources: (&'a [String], &'a [String]),
    cluster_resources: Option<bool>,
    selectors: Vec<LabelMatcher>,
}

pub(super) fn of_backup(objects: &Objects, scope: &BackupScope) -> Objects {
    let selectors = scope.label_selector.iter().chain(&scope.or_label_selectors);
    let filter = Filter {
        namespaces: (&scope.included_namespaces, &scope.excluded_namespaces),
        resources: (&scope.included_resources, &scope.excluded_resources),
        cluster_resources: scope.include_cluster_resources,
        selectors: selectors
            .filter_map(|it| LabelMatcher::compile(it).ok())
            .collect(),
    };
    let mut taken = filter.select(objects);
    let listed = |kind: &ResourceKind, list: &[String]| list.iter().any(|entry| names_kind(entry, kind));
    taken.retain(|kind, objects| {
        let cluster_scoped = objects.keys().all(|name| name.namespace.is_empty());
        let (included, excluded) = if cluster_scoped {
            (
                &scope.included_cluster_scoped_resources,
                &scope.excluded_cluster_scoped_resources,
            )
        } else {
            (
                &scope.included_namespace_scoped_resources,
                &scope.excluded_namespace_scoped_resources,
            )
        };
        (included.is_empty() || listed(kind, included)) && !listed(kind, excluded)
    });
    taken
}

pub(super) fn of_restore(objects: &Objects, scope: &RestoreScope) -> Objects {
    let selectors = scope.label_selector.iter().chain(&scope.or_label_selectors);
    Filter {
        namespaces: (&scope.included_namespaces, &scope.excluded_namespaces),
        resources: (&scope.included_resources, &scope.excluded_resources),
        cluster_resources: scope.include_cluster_resources,
        selectors: selectors
            .filter_map(|it| LabelMatcher::compile(it).ok())
            .collect(),
    }
    .select(objects)
}

impl Filter<'_> {
    fn select(&self, objects: &Objects) -> Objects {
        let mut selected = Objects::new();
        for (kind, by_name) in objects {
            let included = |list: &[String]| list.iter().any(|entry| names_kind(entry, kind));
            if !(self.resources.0.is_empty() || included(self.resources.0)) || included(self.resources.1) {
                continue;
            }
            for (name, object) in by_name {
                if self.takes(name, object) {
                    selected
                        .entry(kind.clone())
                        .or_default()
                        .insert(name.clone(), object.clone());
                }
            }
        }
        selected
    }

    fn takes(&self, name: &NamespacedName, object: &Value) -> bool {
        let listed = |list: &[String]| list.iter().any(|entry| entry == "*" || *entry == name.namespace);
        let placed = if name.namespace.is_empty() {
            self.cluster_resources != Some(false)
        } else {
            (self.namespaces.0.is_empty() || listed(self.namespaces.0)) && !listed(self.namespaces.1)
        };
        if !placed || self.selectors.is_empty() {
            return placed;
        }
        let labels: BTreeMap<String, String> =
            serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default();
        self.selectors.iter().any(|selector| selector.matches(&labels))
    }
}
