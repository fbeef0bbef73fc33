//! Watches on the hub of the kinds that policies select, one for each kind and namespace, while someone needs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{Api, Client, api::DynamicObject};
use tokio::task::AbortHandle;

use super::{
    kinds::{Served, Unknown},
    trigger::Triggers,
    watch::{Change, Synced, Watch},
};
use crate::propagate::{ObjectKind, PolicyKey};

/// How long until the hub is asked again for a kind that it did not serve.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The templates on the hub.
pub(super) struct Templates {
    hub: Client,
    triggers: Triggers,
    watched: Mutex<BTreeMap<(ObjectKind, String), Entry>>,
}

#[derive(Debug)]
struct Entry {
    users: Arc<Mutex<BTreeSet<PolicyKey>>>,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

#[derive(Debug)]
enum State {
    Resolving,
    NotServed,
    Watching(Watch),
}

/// The objects of one kind in one namespace.
#[derive(Debug)]
pub(super) enum Listed {
    /// Not known yet; the policies that asked are triggered when it is.
    NotYet,
    /// The hub has no such kind.
    NotServed,
    /// All there are.
    Objects(Vec<Arc<DynamicObject>>),
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Templates {
    pub(super) fn new(hub: Client, triggers: Triggers) -> Self {
        Self {
            hub,
            triggers,
            watched: Mutex::default(),
        }
    }

    /// The objects of `kind` in the namespace of `policy`, which is triggered whenever they change.
    pub(super) fn list(&self, policy: &PolicyKey, kind: &ObjectKind) -> Listed {
        self.list_in(policy.name.namespace.clone(), policy, kind)
    }

    /// The same of a kind that has no namespaces.
    pub(super) fn list_global(&self, policy: &PolicyKey, kind: &ObjectKind) -> Listed {
        self.list_in(String::new(), policy, kind)
    }

    fn list_in(&self, namespace: String, policy: &PolicyKey, kind: &ObjectKind) -> Listed {
        let mut watched = lock(&self.watched);
        let entry = watched
            .entry((kind.clone(), namespace.clone()))
            .or_insert_with(|| self.start(kind.clone(), namespace));
        lock(&entry.users).insert(policy.clone());
        match &*lock(&entry.state) {
            State::Resolving => Listed::NotYet,
            State::NotServed => Listed::NotServed,
            State::Watching(watch) => match watch.sync() {
                Synced::Starting => Listed::NotYet,
                Synced::NotServed => Listed::NotServed,
                Synced::Complete => Listed::Objects(watch.all()),
            },
        }
    }

    /// `policy` needs these kinds only; watches that nobody needs end.
    pub(super) fn keep(&self, policy: &PolicyKey, kinds: &BTreeSet<ObjectKind>) {
        lock(&self.watched).retain(|(kind, _), entry| {
            let mut users = lock(&entry.users);
            if !kinds.contains(kind) || !users.contains(policy) {
                users.remove(policy);
            }
            !users.is_empty()
        });
    }

    fn start(&self, kind: ObjectKind, namespace: String) -> Entry {
        let users = Arc::new(Mutex::new(BTreeSet::new()));
        let state = Arc::new(Mutex::new(State::Resolving));
        let triggers = self.triggers.clone();
        let hub = self.hub.clone();
        let tell = {
            let users = Arc::clone(&users);
            move || {
                for user in lock(&users).iter() {
                    triggers.fire(user);
                }
            }
        };
        let task = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                let served = loop {
                    match Served::find(&hub, &kind).await {
                        Ok(served) if served.namespaced != namespace.is_empty() => break served,
                        // A policy never looks outside its namespace.
                        Ok(_) | Err(Unknown::NotServed) => {
                            *lock(&state) = State::NotServed;
                            tell();
                        }
                        Err(Unknown::Unanswered(error)) => {
                            tracing::warn!(%kind, %error, "the hub cannot be asked for a kind");
                        }
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                };
                let api = if namespace.is_empty() {
                    Api::all_with(hub, &served.resource)
                } else {
                    Api::namespaced_with(hub, &namespace, &served.resource)
                };
                let on_change = {
                    let tell = tell.clone();
                    let kind = kind.clone();
                    move |change: Change<'_>| match change {
                        Change::Failed(error) => tracing::warn!(%kind, %error, "watching templates failed"),
                        _ => tell(),
                    }
                };
                let watch = Watch::start(api, served.resource, on_change);
                *lock(&state) = State::Watching(watch);
                tell();
            }
        });
        Entry {
            users,
            state,
            task: task.abort_handle(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
