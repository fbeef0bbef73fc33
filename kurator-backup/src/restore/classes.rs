//! Storage classes: what the claims in a backup ask for, and what the target has.

use std::collections::{BTreeMap, BTreeSet};

use kurator_core::names::NamespacedName;

use super::counts::{Expected, mapped};
use crate::{
    api::{RestoreExecutionSpec, StorageClassPlan},
    driver::{Capabilities, ClaimedClass, Claims, Inventory, ResourceKind},
};

/// The most classes of one member that are told.
pub(super) const MAX_CLASSES: usize = 10;

/// What becomes of the storage classes of claims that a restore creates: those that are replaced, that the target does
/// not have, or that the target chooses. The same input in any order gives the same plan.
#[must_use]
pub fn storage_classes(
    spec: &RestoreExecutionSpec,
    claims: &Claims,
    expected: &Expected,
    present: &Inventory,
    capabilities: &Capabilities,
) -> Vec<StorageClassPlan> {
    let kind = ResourceKind::new("v1", "PersistentVolumeClaim");
    let none = BTreeSet::new();
    let created = expected.objects.get(&kind).unwrap_or(&none);
    let there = present.get(&kind).unwrap_or(&none);
    let mut counted = BTreeMap::<&str, u64>::new();
    for (name, class) in claims {
        let name = mapped(&kind, name, &spec.namespace_mapping);
        if !created.contains(&name) || there.contains(&name) {
            continue;
        }
        match class {
            ClaimedClass::Named(class) => *counted.entry(class).or_default() += 1,
            ClaimedClass::Default => *counted.entry("").or_default() += 1,
            ClaimedClass::Fixed => {}
        }
    }
    let classes = ResourceKind::new("storage.k8s.io/v1", "StorageClass");
    let comes_along = |class: &str| {
        let brought = expected.objects.get(&classes);
        brought.is_some_and(|brought| brought.contains(&NamespacedName::cluster_scoped(class)))
    };
    let plan = |(class, claims): (&str, u64)| {
        let becomes = if class.is_empty() {
            capabilities.default_storage_class.as_deref().unwrap_or_default()
        } else {
            spec.storage_classes.get(class).map_or(class, String::as_str)
        };
        let on_target = capabilities.storage_classes.contains(becomes) || comes_along(becomes);
        StorageClassPlan {
            class: class.to_owned(),
            becomes: becomes.to_owned(),
            claims,
            on_target,
        }
    };
    counted
        .into_iter()
        .map(plan)
        .filter(|plan| plan.class != plan.becomes || !plan.on_target)
        .collect()
}

/// Those the restore cannot do without, and nobody said that they are to be kept. Only where it is certain that the
/// claims are restored; a claim without a class waits until the target has a default one, so it is no obstacle.
pub(super) fn missing<'a>(
    spec: &'a RestoreExecutionSpec,
    plans: &'a [StorageClassPlan],
) -> impl Iterator<Item = &'a StorageClassPlan> {
    let scope = &spec.scope;
    let certain = scope.label_selector.is_none()
        && scope.or_label_selectors.is_empty()
        && scope.included_resources.is_empty()
        && scope.excluded_resources.is_empty();
    let kept = |plan: &StorageClassPlan| spec.storage_classes.get(&plan.class) == Some(&plan.class);
    plans
        .iter()
        .filter(move |plan| certain && !plan.on_target && !plan.class.is_empty() && !kept(plan))
}
