//! Secrets followed by a watch of each namespace, of their metadata only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::SecretVersion;
use crate::names::{ClusterName, NamespacedName};

/// The pause after a watch that failed; doubles up to [`LATEST`].
const AGAIN: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(60);

/// The Secrets that members name, and who wants to hear of them. One watch a namespace, however many members.
pub(super) struct Followed {
    hub: Client,
    shared: Arc<Mutex<State>>,
    stop: CancellationToken,
    // The watches share the state, so it is this that ends them.
    _guard: DropGuard,
}

#[derive(Default)]
struct State {
    namespaces: BTreeMap<String, Namespace>,
    members: BTreeMap<ClusterName, Following>,
}

struct Namespace {
    /// What the watch has shown so far.
    secrets: BTreeMap<String, SecretVersion>,
    /// Whether that is complete and being kept up to date.
    live: bool,
    _watching: DropGuard,
}

#[derive(Default)]
struct Following {
    secret: Option<NamespacedName>,
    changes: watch::Sender<u64>,
}

impl Followed {
    pub(super) fn new(hub: Client) -> Self {
        let stop = CancellationToken::new();
        Self {
            hub,
            shared: Arc::default(),
            _guard: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Grows whenever the Secret of `cluster` is seen to change, to go or to come.
    pub(super) fn changes(&self, cluster: &ClusterName) -> watch::Receiver<u64> {
        let mut state = lock(&self.shared);
        state
            .members
            .entry(cluster.clone())
            .or_default()
            .changes
            .subscribe()
    }

    /// From now on `secret` is the one of `cluster`.
    pub(super) fn follow(&self, cluster: &ClusterName, secret: &NamespacedName) {
        let mut state = lock(&self.shared);
        let following = state.members.entry(cluster.clone()).or_default();
        if following.secret.as_ref() != Some(secret) {
            following.secret = Some(secret.clone());
            state.sweep();
        }
        if !state.namespaces.contains_key(&secret.namespace) {
            let stop = self.stop.child_token();
            let api = Api::namespaced(self.hub.clone(), &secret.namespace);
            let namespace = secret.namespace.clone();
            tokio::spawn(watch_namespace(
                api,
                namespace,
                Arc::clone(&self.shared),
                stop.clone(),
            ));
            let watched = Namespace {
                secrets: BTreeMap::new(),
                live: false,
                _watching: stop.drop_guard(),
            };
            state.namespaces.insert(secret.namespace.clone(), watched);
        }
    }

    /// `cluster` is no member any more.
    pub(super) fn forget(&self, cluster: &ClusterName) {
        let mut state = lock(&self.shared);
        state.members.remove(cluster);
        state.sweep();
    }

    /// What the watch says about a Secret: its version, or that there is none. `None` when the watch cannot tell.
    pub(super) fn seen(&self, secret: &NamespacedName) -> Option<Option<SecretVersion>> {
        let state = lock(&self.shared);
        let namespace = state.namespaces.get(&secret.namespace)?;
        namespace
            .live
            .then(|| namespace.secrets.get(&secret.name).cloned())
    }
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Ends the watches of namespaces that no member names any more.
    fn sweep(&mut self) {
        let members = &self.members;
        self.namespaces.retain(|namespace, _| {
            members.values().any(|following| {
                let secret = following.secret.as_ref();
                secret.is_some_and(|secret| secret.namespace == *namespace)
            })
        });
    }

    fn take(
        &mut self,
        namespace: &str,
        event: Event<PartialObjectMeta<Secret>>,
        listed: &mut BTreeMap<String, SecretVersion>,
    ) {
        let Some(watched) = self.namespaces.get_mut(namespace) else {
            return;
        };
        let entry =
            |object: &PartialObjectMeta<Secret>| (object.name_any(), SecretVersion::of(&object.metadata));
        let changed: Vec<String> = match event {
            Event::Init => {
                listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                listed.extend([entry(&object)]);
                Vec::new()
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut watched.secrets, std::mem::take(listed));
                let first = !std::mem::replace(&mut watched.live, true) && before.is_empty();
                let now = &watched.secrets;
                // What was there at the first list is what members have read themselves.
                let names = before.keys().chain(now.keys()).filter(|_| !first);
                names
                    .filter(|name| before.get(*name) != now.get(*name))
                    .cloned()
                    .collect()
            }
            Event::Apply(object) => {
                let (name, version) = entry(&object);
                let before = watched.secrets.insert(name.clone(), version.clone());
                (before != Some(version)).then_some(name).into_iter().collect()
            }
            Event::Delete(object) => {
                let name = object.name_any();
                watched.secrets.remove(&name);
                vec![name]
            }
        };
        for following in self.members.values() {
            let secret = following.secret.as_ref();
            if secret.is_some_and(|secret| secret.namespace == namespace && changed.contains(&secret.name)) {
                following.changes.send_modify(|revision| *revision += 1);
            }
        }
    }
}

async fn watch_namespace(
    api: Api<PartialObjectMeta<Secret>>,
    namespace: String,
    shared: Arc<Mutex<State>>,
    stop: CancellationToken,
) {
    let mut pause = AGAIN;
    loop {
        let events = watcher(api.clone(), watcher::Config::default());
        futures::pin_mut!(events);
        let mut listed = BTreeMap::new();
        let error = loop {
            match stop.run_until_cancelled(events.next()).await {
                None => return,
                Some(Some(Ok(event))) => {
                    if matches!(event, Event::InitDone) {
                        pause = AGAIN;
                    }
                    lock(&shared).take(&namespace, event, &mut listed);
                }
                Some(Some(Err(error))) => break Some(error),
                Some(None) => break None,
            }
        };
        if let Some(watched) = lock(&shared).namespaces.get_mut(&namespace) {
            watched.live = false;
        }
        tracing::debug!(%namespace, error = error.as_ref().map(tracing::field::display), ?pause,
            "kubeconfig Secrets cannot be watched; each is looked at now and then instead");
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
        pause = (pause * 2).min(LATEST);
    }
}
