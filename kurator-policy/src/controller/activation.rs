//! What a policy that activates lazily says of the objects that wait for their template to change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use kurator_core::{condition::ConditionSet, reason::Reason};

use super::{decide::Decision, policy::Policy};
use crate::{
    api::{ActivatedObjects, Activation, DistributionPolicyStatus, PlacementInUse, Preemption},
    propagate::{ObjectKey, ResourceInterpreter, Template, activation_revision, listed},
};

/// Whether the placement of the policy holds for every object, where it activates lazily.
pub(super) const ACTIVATED: &str = "Activated";

/// How many objects a message names.
const NAMED: usize = 5;

/// Writes into the status by what the objects are placed, and which of them wait.
pub(super) fn show(
    policy: &Policy,
    decision: &Decision,
    status: &mut DistributionPolicyStatus,
    now: Timestamp,
) {
    status.activations.clone_from(&decision.activations);
    status.to_take_over.clone_from(&decision.to_take_over);
    let before = std::mem::take(&mut status.conditions);
    let mut conditions = ConditionSet::new(before, policy.generation, now);
    let spec = policy.spec.as_ref().ok();
    let lazy = spec.and_then(|spec| spec.activation) == Some(Activation::Lazy);
    if lazy && !policy.deleting {
        let waiting = Waiting::of(status);
        conditions.set(ACTIVATED, waiting.is_over(), &waiting);
    } else {
        conditions.remove(ACTIVATED);
    }
    status.conditions = conditions.into_vec();
}

/// How many objects were placed by another placement before, and are placed by the newest now.
pub(super) fn activated(before: &[PlacementInUse], after: &[PlacementInUse]) -> u32 {
    let Some(newest) = after.iter().find(|it| !it.waiting) else {
        return 0;
    };
    let older = before.iter().filter(|it| it.revision != newest.revision);
    let older = ids(older.flat_map(|it| &it.objects));
    let now = ids(&newest.objects);
    let moved = now.keys().filter(|id| older.contains_key(*id)).count();
    u32::try_from(moved).unwrap_or(u32::MAX)
}

/// The objects that a policy which [takes lazily](takes_lazily) does not take away from others before they change, by what
/// its status says of them.
pub(super) fn not_taken_yet(
    status: Option<&DistributionPolicyStatus>,
    templates: &[Template],
    interpreter: &dyn ResourceInterpreter,
) -> BTreeSet<ObjectKey> {
    let placed = status.into_iter().flat_map(|status| &status.activations);
    let placed: BTreeSet<Id<'_>> = ids(placed.flat_map(|it| &it.objects)).into_keys().collect();
    let seen = ids(status.into_iter().flat_map(|status| &status.to_take_over));
    let waits = templates.iter().filter(|template| {
        let id = id(&template.key);
        let seen = seen.get(&id);
        // Before the policy itself has looked, nobody knows whether the object has changed.
        !placed.contains(&id) && seen.is_none_or(|seen| **seen == activation_revision(template, interpreter))
    });
    waits.map(|template| template.key.clone()).collect()
}

/// How the objects were that a policy takes over once they change. Of those that it has by now, that is known until they
/// are placed.
pub(super) fn to_take_over(
    policy: &Policy,
    status: Option<&DistributionPolicyStatus>,
    awaited: &[Template],
    had: &[Template],
    activations: &[PlacementInUse],
    interpreter: &dyn ResourceInterpreter,
) -> Vec<ActivatedObjects> {
    if !takes_lazily(policy) {
        return Vec::new();
    }
    let seen = ids(status.into_iter().flat_map(|status| &status.to_take_over));
    let placed = ids(activations.iter().flat_map(|it| &it.objects));
    let mut objects: BTreeMap<&ObjectKey, String> = BTreeMap::new();
    for template in awaited {
        let revision = match seen.get(&id(&template.key)) {
            Some(seen) => (*seen).to_owned(),
            None => activation_revision(template, interpreter),
        };
        objects.insert(&template.key, revision);
    }
    for template in had {
        let id = id(&template.key);
        if let (Some(seen), None) = (seen.get(&id), placed.get(&id)) {
            objects.insert(&template.key, (*seen).to_owned());
        }
    }
    let objects: Vec<(&ObjectKey, &str)> = objects.iter().map(|(key, of)| (*key, of.as_str())).collect();
    listed(&objects)
}

/// Whether a policy takes objects away from others once they change.
pub(super) fn takes_lazily(policy: &Policy) -> bool {
    policy.spec.as_ref().is_ok_and(|spec| {
        spec.activation == Some(Activation::Lazy) && spec.preemption == Some(Preemption::Always)
    })
}

/// Version, kind and name; the namespace is that of the policy.
type Id<'a> = (&'a str, &'a str, &'a str);

fn id(key: &ObjectKey) -> Id<'_> {
    (&key.kind.api_version, &key.kind.kind, &key.name.name)
}

/// The objects of lists, each with its revision.
fn ids<'a>(lists: impl IntoIterator<Item = &'a ActivatedObjects>) -> BTreeMap<Id<'a>, &'a str> {
    let objects = lists.into_iter().flat_map(|of_kind| {
        let (api_version, kind) = (of_kind.api_version.as_str(), of_kind.kind.as_str());
        let names = of_kind.templates.iter();
        names.map(move |(name, revision)| ((api_version, kind, name.as_str()), revision.as_str()))
    });
    objects.collect()
}

/// The objects that wait.
struct Waiting {
    objects: Vec<String>,
    of_others: Vec<String>,
}

impl Waiting {
    fn of(status: &DistributionPolicyStatus) -> Self {
        let waiting = status.activations.iter().filter(|it| it.waiting);
        Self {
            objects: names(waiting.flat_map(|it| &it.objects)),
            of_others: names(&status.to_take_over),
        }
    }

    fn is_over(&self) -> bool {
        self.objects.is_empty() && self.of_others.is_empty()
    }
}

fn names<'a>(lists: impl IntoIterator<Item = &'a ActivatedObjects>) -> Vec<String> {
    let ids = ids(lists).into_keys();
    let mut names: Vec<String> = ids.map(|(_, kind, name)| format!("{kind} {name}")).collect();
    names.sort();
    names
}

impl Reason for Waiting {
    fn token(&self) -> &'static str {
        if self.is_over() {
            "AsPlanned"
        } else {
            "WaitingForTemplate"
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_over() {
            return f.write_str("the placement holds for every object");
        }
        let mut before = "";
        for (what, names) in [
            ("placed by an earlier placement", &self.objects),
            ("left to their policies", &self.of_others),
        ] {
            if names.is_empty() {
                continue;
            }
            let some: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
            let more = if names.len() > NAMED { ", ..." } else { "" };
            write!(
                f,
                "{before}{what} until they change: {} ({}{more})",
                names.len(),
                some.join(", ")
            )?;
            before = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ActivatedObjects;

    fn of(revision: &str, waiting: bool, names: &[&str]) -> PlacementInUse {
        PlacementInUse {
            revision: revision.to_owned(),
            placement: None,
            waiting,
            objects: vec![ActivatedObjects {
                api_version: "apps/v1".to_owned(),
                kind: "Deployment".to_owned(),
                templates: names
                    .iter()
                    .map(|name| ((*name).to_owned(), "r".to_owned()))
                    .collect(),
            }],
        }
    }

    #[test]
    fn what_takes_over_a_changed_placement_is_counted_once() {
        let first = [of("p1", false, &["api", "web"])];
        let second = [of("p2", false, &["web"]), of("p1", true, &["api"])];
        assert_eq!(activated(&[], &first), 0);
        assert_eq!(activated(&first, &second), 1);
        assert_eq!(activated(&second, &second), 0);
        assert_eq!(activated(&second, &[of("p2", false, &["api", "web"])]), 1);
        let status = DistributionPolicyStatus {
            activations: second.to_vec(),
            to_take_over: first[0].objects.clone(),
            ..DistributionPolicyStatus::default()
        };
        assert_eq!(
            Waiting::of(&status).to_string(),
            "placed by an earlier placement until they change: 1 (Deployment api); left to their policies until they \
             change: 2 (Deployment api, Deployment web)"
        );
    }
}
