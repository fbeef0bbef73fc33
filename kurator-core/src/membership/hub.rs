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

/// Watches the objects of one kind and makes members of them: `AttachedCluster`, Cluster API's `Cluster`,
/// `ClusterProfile`, or a host's own kind.
///
/// It knows no fleets. What it cannot read for a while stays as it was; before the first complete list it answers
/// [`MembershipError::Unavailable`].
pub struct HubMembership {
    state: Arc<State>,
    _watching: DropGuard,
}

#[derive(Debug, Default)]
struct State {
    members: Mutex<Option<Objects>>,
    changes: watch::Sender<u64>,
}

/// By namespace and name of the object.
type Objects = BTreeMap<(String, String), Member>;

impl fmt::Debug for HubMembership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubMembership").finish_non_exhaustive()
    }
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
        let state = Arc::new(State::default());
        let stop = CancellationToken::new();
        let (shared, stopped) = (Arc::clone(&state), stop.clone());
        let events = watcher(api, config).default_backoff();
        tokio::spawn(async move {
            futures::pin_mut!(events);
            let mut listed = Objects::new();
            while let Some(Some(event)) = stopped.run_until_cancelled(events.next()).await {
                match event {
                    Ok(event) => shared.take(event, &mut listed, &member),
                    Err(error) => tracing::warn!(%error, "members on the hub stay as they were last read"),
                }
            }
        });
        Self {
            state,
            _watching: stop.drop_guard(),
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Option<Objects>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take<K: Resource>(
        &self,
        event: Event<K>,
        listed: &mut Objects,
        member: &impl Fn(&K) -> Option<Member>,
    ) {
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        let changed = match event {
            Event::Init => {
                listed.clear();
                false
            }
            Event::InitApply(object) => {
                listed.extend(member(&object).map(|member| (key(&object), member)));
                false
            }
            Event::InitDone => {
                let listed = std::mem::take(listed);
                let mut members = self.lock();
                let changed = members.as_ref() != Some(&listed);
                *members = Some(listed);
                changed
            }
            Event::Apply(object) => {
                let mut members = self.lock();
                let members = members.get_or_insert_default();
                match member(&object) {
                    Some(member) => members.insert(key(&object), member.clone()) != Some(member),
                    None => members.remove(&key(&object)).is_some(),
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

#[async_trait]
impl Membership for HubMembership {
    async fn members(&self, fleet: Option<&FleetName>) -> Result<Vec<Member>, MembershipError> {
        if let Some(fleet) = fleet {
            return Err(MembershipError::FleetNotFound { fleet: fleet.clone() });
        }
        let members = self.state.lock();
        let Some(members) = members.as_ref() else {
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
        self.state.changes.subscribe()
    }
}
