//! What a host says about draining single pods.

use crate::scaling::model::{Model, pod::PodRecord};

/// A pod as a drain rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct DrainPod<'a> {
    pub(super) model: &'a Model,
    pub(super) pod: &'a PodRecord,
}

impl DrainPod<'_> {
    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.model.symbols[self.pod.namespace]
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.pod.name
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let key = self.model.symbols.find(key)?;
        let group = self.model.groups.get(self.pod.group as usize)?;
        self.model.labels[group.labels]
            .get(key)
            .map(|value| &self.model.symbols[value])
    }

    /// The kind of its controller.
    pub fn owner_kind(&self) -> Option<&str> {
        let owner = self.model.owners.get(self.pod.owner?)?;
        Some(&self.model.symbols[owner.key.kind])
    }

    /// Its priority.
    pub fn priority(&self) -> i32 {
        self.pod.priority
    }
}

/// What to do with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainAction {
    /// Evict it in this place of the order on its node: lower orders are gone before higher ones start. Without a
    /// rule it is 0, and 1 for pods of a `system-` priority.
    Evict {
        /// The place.
        order: i32,
    },
    /// Leave it; it ends with its node.
    Leave,
    /// Do not remove its node.
    Refuse,
    /// Do not remove its node until it has finished.
    WaitForCompletion,
}

/// A rule about single pods: pure, and implemented for closures.
///
/// ```
/// use kurator_fleet::scaling::{DrainAction, DrainPod, DrainPolicy};
///
/// // Storage goes last.
/// let policy = DrainPolicy::default().with_rule(|pod: &DrainPod<'_>| {
///     (pod.namespace() == "rook-ceph").then_some(DrainAction::Evict { order: 10 })
/// });
/// assert_eq!(policy.rules.len(), 1);
/// ```
pub trait DrainRule: Send + Sync {
    /// What to do with the pod; `None` leaves it to the next rule.
    fn action(&self, pod: &DrainPod<'_>) -> Option<DrainAction>;

    /// A name for the plan's explanation.
    fn name(&self) -> &str {
        "closure"
    }
}

impl<F: Fn(&DrainPod<'_>) -> Option<DrainAction> + Send + Sync> DrainRule for F {
    fn action(&self, pod: &DrainPod<'_>) -> Option<DrainAction> {
        self(pod)
    }
}
