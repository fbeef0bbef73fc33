//! Members described by objects on the hub.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Member, Membership, MembershipError};
use crate::names::FleetName;

/// The objects of one kind on the hub, each reduced to what matters of it.
///
/// It follows a watch, so reading it costs no request. What cannot be read for a while stays as it was. It changes
/// only when what matters does: a heartbeat in a status wakes nobody.
pub struct HubMirror<V> {
    state: Arc<State<V>>,
    _watching: DropGuard,
}

#[derive(Debug)]
struct State<V> {
    entries: Mutex<Option<Entries<V>>>,
    changes: watch::Sender<u64>,
}

/// By namespace and name of the object.
type Entries<V> = BTreeMap<(String, String), V>;

impl<V> fmt::Debug for HubMirror<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubMirror").finish_non_exhaustive()
    }
}

impl<V: Clone + PartialEq + Send + 'static> HubMirror<V> {
    /// Watches what `api` reaches; `reduce` says what matters of an object, `None` that it does not matter at all.
    ///
    /// Call within a tokio runtime; dropping the value ends the watch.
    pub fn watch<K>(
        api: Api<K>,
        config: watcher::Config,
        reduce: impl Fn(&K) -> Option<V> + Send + Sync + 'static,
    ) -> Self
    where
        K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
    {
        Self::follow(api, config, reduce, false)
    }

    /// Like [`watch`](Self::watch), for a kind that need not be installed: as long as the hub has never served it there
    /// are none of it.
    pub fn watch_if_served<K>(
        api: Api<K>,
        config: watcher::Config,
        reduce: impl Fn(&K) -> Option<V> + Send + Sync + 'static,
    ) -> Self
    where
        K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
    {
        Self::follow(api, config, reduce, true)
    }

    fn follow<K>(
        api: Api<K>,
        config: watcher::Config,
        reduce: impl Fn(&K) -> Option<V> + Send + Sync + 'static,
        optional: bool,
    ) -> Self
    where
        K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
    {
        let state = Arc::new(State {
            entries: Mutex::new(None),
            changes: watch::Sender::new(0),
        });
        let stop = CancellationToken::new();
        let (shared, stopped) = (Arc::clone(&state), stop.clone());
        let events = watcher(api, config).default_backoff();
        tokio::spawn(async move {
            futures::pin_mut!(events);
            let mut listed = Entries::new();
            while let Some(Some(event)) = stopped.run_until_cancelled(events.next()).await {
                match event {
                    Ok(event) => shared.take(event, &mut listed, &reduce),
                    Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                        if optional && status.code == 404 =>
                    {
                        shared.is_not_served();
                    }
                    Err(error) => tracing::warn!(%error, "what was last read from the hub stays in use"),
                }
            }
        });
        Self {
            state,
            _watching: stop.drop_guard(),
        }
    }

    /// Everything, by namespace and name; `None` before the first complete list.
    #[must_use]
    pub fn entries(&self) -> Option<BTreeMap<(String, String), V>> {
        self.state.lock().clone()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<V> {
        self.state
            .lock()
            .as_ref()?
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// A counter that grows with every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.state.changes.subscribe()
    }
}

impl<V: Clone + PartialEq> State<V> {
    fn lock(&self) -> MutexGuard<'_, Option<Entries<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_not_served(&self) {
        let first = {
            let mut entries = self.lock();
            let first = entries.is_none();
            entries.get_or_insert_default();
            first
        };
        if first {
            self.changes.send_modify(|revision| *revision += 1);
        }
    }

    fn take<K: Resource>(&self, event: Event<K>, listed: &mut Entries<V>, reduce: &impl Fn(&K) -> Option<V>) {
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        let changed = match event {
            Event::Init => {
                listed.clear();
                false
            }
            Event::InitApply(object) => {
                listed.extend(reduce(&object).map(|value| (key(&object), value)));
                false
            }
            Event::InitDone => {
                let listed = std::mem::take(listed);
                let mut entries = self.lock();
                let changed = entries.as_ref() != Some(&listed);
                *entries = Some(listed);
                changed
            }
            Event::Apply(object) => {
                let mut entries = self.lock();
                let entries = entries.get_or_insert_default();
                match reduce(&object) {
                    Some(value) => entries.insert(key(&object), value.clone()) != Some(value),
                    None => entries.remove(&key(&object)).is_some(),
                }
            }
            Event::Delete(object) => self
                .lock()
                .get_or_insert_default()
                .remove(&key(&object))
                .is_some(),
        };
        if changed {
            self.changes.send_modify(|revision| *revision += 1);
        }
    }
}

/// Makes members of the objects of one kind: Cluster API's `Cluster`, `ClusterProfile`, or a host's own kind.
///
/// It knows no fleets. Before the first complete list it answers [`MembershipError::Unavailable`].
#[derive(Debug)]
pub struct HubMembership {
    mirror: HubMirror<Member>,
}

impl HubMembership {
    /// Watches what `api` reaches. `member` says which member an object describes, if any; of two objects that
    /// describe a member of the same name the one first in order of namespace and name counts.
    ///
    /// Call within a tokio runtime; dropping the value ends the watch.
    pub fn watch<K>(
        api: Api<K>,
        config: watcher::Config,
        member: impl Fn(&K) -> Option<Member> + Send + Sync + 'static,
    ) -> Self
    where
        K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
    {
        Self {
            mirror: HubMirror::watch(api, config, member),
        }
    }
}

#[async_trait]
impl Membership for HubMembership {
    async fn members(&self, fleet: Option<&FleetName>) -> Result<Vec<Member>, MembershipError> {
        if let Some(fleet) = fleet {
            return Err(MembershipError::FleetNotFound { fleet: fleet.clone() });
        }
        let Some(members) = self.mirror.entries() else {
            return Err(MembershipError::Unavailable {
                source: "the hub has not been read yet".into(),
            });
        };
        let mut by_name = BTreeMap::new();
        for member in members.values() {
            by_name
                .entry(member.name.clone())
                .or_insert_with(|| member.clone());
        }
        Ok(by_name.into_values().collect())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.mirror.changes()
    }
}
