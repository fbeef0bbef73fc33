//! Who has an object, written on it: for whoever looks at it on the hub, and for passes to come.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use kurator_core::apply::FIELD_MANAGER;
use serde_json::json;
use tokio::time::Instant;

use super::{decide::Decision, distribution::Context, kinds::Served, policy::Policy, templates::Listed};
use crate::propagate::{CLAIMED_BY, ObjectKey, ObjectKind, PolicyKey, Template, chain};

/// Marks written in one pass: the next one, which these bring about, writes the next.
const AT_ONCE: usize = 32;
/// Of these so many at a time.
const CONCURRENCY: usize = 4;
/// How long until it is looked again whether members are at work.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a policy waits for that: one that never gets anywhere must not keep it from all others.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the objects on the hub say of who has them.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<ObjectKey, Marked>);

#[derive(Debug)]
struct Marked {
    uid: String,
    by: Option<String>,
}

/// What is to be written on an object: who has it, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    object: ObjectKey,
    uid: String,
    by: Option<String>,
}

/// What is known of writing marks in the life of a process.
#[derive(Debug, Default)]
pub(super) struct MarkBook(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    /// Kinds that we have no right to write on.
    refused: BTreeSet<ObjectKind>,
    /// Since when policies have waited for members to be at rest.
    waiting: BTreeMap<PolicyKey, Instant>,
}

impl Marks {
    /// Takes down what an object says.
    pub(super) fn read(&mut self, template: &Template, object: &DynamicObject) {
        let marked = Marked {
            uid: template.uid.clone(),
            by: object.annotations().get(CLAIMED_BY).cloned(),
        };
        self.0.insert(template.key.clone(), marked);
    }

    /// Who has what by their word, as far as these are policies that are there.
    pub(super) fn held<'a>(
        &self,
        policies: impl IntoIterator<Item = &'a PolicyKey>,
    ) -> BTreeMap<ObjectKey, PolicyKey> {
        let owners: BTreeMap<String, &PolicyKey> = policies
            .into_iter()
            .map(|policy| (policy.owner(), policy))
            .collect();
        let held = self.0.iter().filter_map(|(object, marked)| {
            let policy = *owners.get(marked.by.as_ref()?)?;
            Some((object.clone(), policy.clone()))
        });
        held.collect()
    }

    /// What has to be written so that exactly these say that they belong to `policy`.
    pub(super) fn missing(&self, policy: &PolicyKey, templates: &[Template]) -> Vec<Mark> {
        let owner = policy.owner();
        let own: BTreeSet<&ObjectKey> = templates.iter().map(|template| &template.key).collect();
        let missing = self.0.iter().filter_map(|(object, marked)| {
            let is_marked = marked.by.as_ref() == Some(&owner);
            (own.contains(object) != is_marked).then(|| Mark {
                object: object.clone(),
                uid: marked.uid.clone(),
                by: (!is_marked).then(|| owner.clone()),
            })
        });
        missing.collect()
    }
}

impl Context {
    /// Writes what the objects do not say yet; while members are at work it waits, for the hub takes time from them. Tells
    /// how long.
    pub(super) async fn mark(&self, policy: &Policy, decision: &Decision) -> Option<Duration> {
        let mut marks = decision.marks.iter();
        let idle = policy.deleting || decision.planned.report_only;
        if idle || !self.mark_claims || marks.all(|mark| self.mark_book.is_refused(&mark.object.kind)) {
            self.mark_book.rest(&policy.key);
            return None;
        }
        let at_work = self.desks.all().iter().any(|desk| desk.is_at_work());
        if at_work && self.mark_book.waits(&policy.key, Instant::now()) {
            return Some(PAUSE);
        }
        self.write_marks(policy, &decision.marks).await;
        None
    }

    /// Writes some of the marks; those bring about the next pass, which writes the next.
    async fn write_marks(&self, policy: &Policy, marks: &[Mark]) {
        let kinds: BTreeSet<&ObjectKind> = marks.iter().map(|mark| &mark.object.kind).collect();
        let mut served = BTreeMap::new();
        for kind in kinds {
            if !self.mark_book.is_refused(kind)
                && let Ok(found) = Served::find(&self.hub, kind).await
            {
                served.insert(kind, found);
            }
        }
        let writes = marks.iter().filter_map(|mark| {
            let served = served.get(&mark.object.kind)?;
            Some(self.write_mark(served, mark))
        });
        let writes: Vec<_> = writes.take(AT_ONCE).collect();
        let refused = stream::iter(writes)
            .buffer_unordered(CONCURRENCY)
            .filter_map(std::future::ready)
            .collect::<BTreeSet<_>>();
        for kind in refused.await {
            tracing::warn!(
                policy = %policy.key, %kind,
                "no right to patch objects of this kind: {CLAIMED_BY} is not written on them"
            );
            self.mark_book.lock().refused.insert(kind);
        }
    }

    /// Takes the marks of a policy that goes off whatever it is known to have selected.
    pub(super) async fn unmark(&self, policy: &Policy) {
        if !self.mark_claims {
            return;
        }
        let Ok(claimant) = policy.claimant() else { return };
        let mut marks = Marks::default();
        for kind in claimant.kinds() {
            if let Listed::Objects(objects) = self.templates.list(&policy.key, kind) {
                for object in objects {
                    if let Some(template) = self.template(kind, &object) {
                        marks.read(&template, &object);
                    }
                }
            }
        }
        for marks in marks.missing(&policy.key, &[]).chunks(AT_ONCE) {
            self.write_marks(policy, marks).await;
        }
    }

    /// Gives the kind if we have no right to write on it.
    async fn write_mark(&self, served: &Served, mark: &Mark) -> Option<ObjectKind> {
        let (kind, name) = (&mark.object.kind, &mark.object.name);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.hub.clone(), &name.namespace, &served.resource);
        // Of this object, not of one that came after it under its name.
        let patch = json!({ "metadata": { "uid": mark.uid, "annotations": { CLAIMED_BY: mark.by } } });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match api.patch(&name.name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => None,
            Err(kube::Error::Api(status)) if status.code == 403 => Some(kind.clone()),
            Err(error) => {
                tracing::debug!(object = %mark.object, "its claim is not written on it: {}", chain(&error));
                None
            }
        }
    }
}

impl MarkBook {
    fn is_refused(&self, kind: &ObjectKind) -> bool {
        self.lock().refused.contains(kind)
    }

    /// Whether a policy is to wait on.
    fn waits(&self, policy: &PolicyKey, now: Instant) -> bool {
        let mut book = self.lock();
        let since = *book.waiting.entry(policy.clone()).or_insert(now);
        now.saturating_duration_since(since) < PATIENCE
    }

    /// A policy has nothing to write, or is gone.
    pub(super) fn rest(&self, policy: &PolicyKey) {
        self.lock().waiting.remove(policy);
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value};

    use super::*;
    use crate::propagate::BuiltinKinds;

    fn object(name: &str, by: Option<&PolicyKey>) -> (Template, DynamicObject) {
        let annotations = by.map_or_else(|| json!({}), |by| json!({ CLAIMED_BY: by.owner() }));
        let object: Value = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": "shop", "uid": name, "annotations": annotations },
        });
        (
            Template::of(&object, &BuiltinKinds).unwrap(),
            from_value(object).unwrap(),
        )
    }

    #[test]
    fn exactly_what_a_policy_has_says_so_and_what_others_say_is_left_to_them() {
        let [ours, theirs, gone] =
            ["ours", "theirs", "gone"].map(|name| PolicyKey::new("policy.kurator.dev", "shop", name));
        let mut marks = Marks::default();
        let objects = [
            object("marked", Some(&ours)),
            object("new", None),
            object("lost", Some(&ours)),
            object("taken", Some(&theirs)),
            object("foreign", Some(&theirs)),
            object("orphan", Some(&gone)),
        ];
        for (template, object) in &objects {
            marks.read(template, object);
        }
        let own: Vec<Template> = [0, 1, 3].map(|index| objects[index].0.clone()).into();
        let missing = marks.missing(&ours, &own);
        let told: Vec<_> = missing
            .iter()
            .map(|mark| (mark.object.name.name.as_str(), mark.by.is_some()))
            .collect();
        assert_eq!(told, [("lost", false), ("new", true), ("taken", true)]);
        let held = marks.held([&ours, &theirs]);
        let named = |name: &str| held.iter().find(|(object, _)| object.name.name == name);
        assert_eq!(named("taken").map(|(_, policy)| policy), Some(&theirs));
        assert_eq!(named("orphan"), None, "a policy that is not there has nothing");
    }

    #[test]
    fn a_policy_waits_for_members_at_work_and_not_for_ever() {
        let (book, begun) = (MarkBook::default(), Instant::now());
        let policy = PolicyKey::new("policy.kurator.dev", "shop", "web");
        assert!(book.waits(&policy, begun));
        assert!(book.waits(&policy, begun + PATIENCE - PAUSE));
        assert!(!book.waits(&policy, begun + PATIENCE));
        book.rest(&policy);
        assert!(book.waits(&policy, begun + PATIENCE));
    }

    #[test]
    fn a_mark_is_no_change_of_what_is_copied() {
        let policy = PolicyKey::new("policy.kurator.dev", "shop", "web");
        assert_eq!(object("web", Some(&policy)).0, object("web", None).0);
    }
}
