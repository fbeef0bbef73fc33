//! Finds on the hub what templates refer to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{ResourceExt, api::DynamicObject};

use super::{distribution::Context, templates::Listed};
use crate::propagate::{CRD, Note, ObjectKey, ObjectKind, PolicyKey, Template, crd_of, references};

/// The groups that every API server has.
const BUILT_IN: [&str; 23] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

impl Context {
    /// What the templates refer to, directly and through others, as far as it is on the hub; `None` while that is not
    /// known. The kinds that were looked at are added to `kinds`.
    pub(super) fn referred(
        &self,
        policy: &PolicyKey,
        templates: &[Template],
        kinds: &mut BTreeSet<ObjectKind>,
        notes: &mut Vec<Note>,
    ) -> Option<Vec<Template>> {
        let mut lists: BTreeMap<ObjectKind, Vec<Arc<DynamicObject>>> = BTreeMap::new();
        let mut found: BTreeMap<ObjectKey, Template> = BTreeMap::new();
        let mut open: Vec<Template> = templates.to_vec();
        let mut waiting = false;
        while let Some(template) = open.pop() {
            for reference in references(&template.manifest) {
                let key = reference.object;
                if found.contains_key(&key) {
                    continue;
                }
                let list = lists.entry(key.kind.clone()).or_insert_with(|| {
                    kinds.insert(key.kind.clone());
                    match self.templates.list(policy, &key.kind) {
                        Listed::NotYet => {
                            waiting = true;
                            Vec::new()
                        }
                        Listed::NotServed => {
                            notes.push(Note::KindNotServed {
                                kind: key.kind.clone(),
                            });
                            Vec::new()
                        }
                        Listed::Objects(objects) => objects,
                    }
                });
                let object = list.iter().find(|object| object.name_any() == key.name.name);
                if let Some(template) = object.and_then(|object| self.template(&key.kind, object)) {
                    open.push(template.clone());
                    found.insert(key, template);
                }
            }
        }
        let custom: BTreeSet<&ObjectKind> = templates
            .iter()
            .map(|template| &template.key.kind)
            .filter(|kind| !is_built_in(kind))
            .collect();
        if !custom.is_empty() {
            let definitions = ObjectKind::new(CRD.0, CRD.1);
            kinds.insert(definitions.clone());
            match self.templates.list_global(policy, &definitions) {
                Listed::Objects(objects) => {
                    // The name of a definition ends with the group.
                    let groups: BTreeSet<&str> = custom.iter().map(|kind| kind.group_version().0).collect();
                    let near = objects.iter().filter(|object| {
                        let name = object.name_any();
                        name.split_once('.')
                            .is_some_and(|(_, group)| groups.contains(group))
                    });
                    for definition in near.filter_map(|object| self.template(&definitions, object)) {
                        if custom
                            .iter()
                            .any(|kind| crd_of(kind, &definition.manifest).is_some())
                        {
                            found.insert(definition.key.clone(), definition);
                        }
                    }
                }
                // A kind that the hub serves otherwise, by an aggregated API server: nothing can go along.
                Listed::NotServed => {}
                Listed::NotYet => waiting = true,
            }
        }
        (!waiting).then(|| found.into_values().collect())
    }
}

fn is_built_in(kind: &ObjectKind) -> bool {
    let (group, _) = kind.group_version();
    BUILT_IN.contains(&group)
}
