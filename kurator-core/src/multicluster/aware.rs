//! One reconciler over an object of the hub, woken by the hub and by its members.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{FutureExt, SinkExt, StreamExt};
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{Controller, WatchStreamExt};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::engaged::EngagedMember;
use super::members::Members;
use super::retry::{Backoff, Failures};
use crate::names::ClusterName;

/// How long joining members are gathered before every hub object is looked at again.
const GATHER: Duration = Duration::from_millis(200);

type Wake<H> = mpsc::Sender<ObjectRef<H>>;
type Watch<H> =
    Box<dyn Fn(Arc<EngagedMember>, Wake<H>) -> futures::future::BoxFuture<'static, ()> + Send + Sync>;

/// What is known of the `O` on every engaged member: a reflector each, released when the member is disengaged.
pub struct MemberStores<O>
where
    O: Resource + 'static,
    O::DynamicType: Eq + Hash,
{
    stores: Arc<Mutex<BTreeMap<ClusterName, Store<O>>>>,
}

impl<O> Clone for MemberStores<O>
where
    O: Resource + 'static,
    O::DynamicType: Eq + Hash,
{
    fn clone(&self) -> Self {
        Self {
            stores: Arc::clone(&self.stores),
        }
    }
}

impl<O> fmt::Debug for MemberStores<O>
where
    O: Resource + 'static,
    O::DynamicType: Eq + Hash,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberStores").finish_non_exhaustive()
    }
}

impl<O> MemberStores<O>
where
    O: Resource + Clone + 'static,
    O::DynamicType: Eq + Hash + Clone,
{
    /// The store of one member; `None` when it is not engaged, which says nothing about the objects there.
    ///
    /// A store may still be filling: see [`Store::wait_until_ready`].
    #[must_use]
    pub fn of(&self, member: &ClusterName) -> Option<Store<O>> {
        self.stores
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(member)
            .cloned()
    }
}

/// A kube [`Controller`] of an object on the hub that is also woken by what happens on members.
///
/// Every object is looked at again when a member engages or is disengaged.
///
/// # Caveats
/// When members are shared between replicas, every replica reconciles every hub object, for the members that are
/// engaged in it. The reconciler must then write to the hub only what concerns these.
pub struct AwareController<H>
where
    H: Clone + Resource + fmt::Debug + 'static,
    H::DynamicType: Eq + Hash,
{
    members: Members,
    controller: Controller<H>,
    watches: Vec<Watch<H>>,
    concurrency: u16,
    backoff: Backoff,
}

impl<H> fmt::Debug for AwareController<H>
where
    H: Clone + Resource + fmt::Debug + 'static,
    H::DynamicType: Eq + Hash,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwareController")
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl<H> AwareController<H>
where
    H: Clone + Resource + DeserializeOwned + fmt::Debug + Send + Sync + 'static,
    H::DynamicType: Clone + Default + Eq + Hash + fmt::Debug + Unpin + Send + Sync,
{
    /// A controller of the `H` that `hub` reaches.
    #[must_use]
    pub fn new(members: Members, hub: Api<H>, config: watcher::Config) -> Self {
        Self {
            members,
            controller: Controller::new(hub, config),
            watches: Vec::new(),
            concurrency: 16,
            backoff: Backoff::default(),
        }
    }

    /// Adds to the [`Controller`] what kube offers: `owns`, `watches`, `reconcile_all_on`.
    #[must_use]
    pub fn extend(mut self, extend: impl FnOnce(Controller<H>) -> Controller<H>) -> Self {
        self.controller = extend(self.controller);
        self
    }

    /// Watches the `O` on every engaged member and wakes the hub objects that `concerns` names, keeping no objects.
    ///
    /// With `PartialObjectMeta<K>` for `O` only metadata is transferred.
    #[must_use]
    pub fn watch_members<O, I>(
        mut self,
        api: impl Fn(Client) -> Api<O> + Send + Sync + 'static,
        config: watcher::Config,
        concerns: impl Fn(&ClusterName, O) -> I + Send + Sync + 'static,
    ) -> Self
    where
        O: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
        I: IntoIterator<Item = ObjectRef<H>> + 'static,
        I::IntoIter: Send,
    {
        let concerns = Arc::new(concerns);
        self.watches.push(Box::new(move |member, mut wake| {
            let events = watcher(api(member.client()), config.clone())
                .default_backoff()
                .touched_objects();
            let concerns = Arc::clone(&concerns);
            Box::pin(async move {
                futures::pin_mut!(events);
                while let Some(event) = events.next().await {
                    let Ok(object) = event else { continue };
                    for concerned in concerns(member.name(), object) {
                        if wake.send(concerned).await.is_err() {
                            return;
                        }
                    }
                }
            })
        }));
        self
    }

    /// Like [`watch_members`](Self::watch_members), and keeps the objects in a store for each member.
    pub fn reflect_members<O, I>(
        mut self,
        api: impl Fn(Client) -> Api<O> + Send + Sync + 'static,
        config: watcher::Config,
        concerns: impl Fn(&ClusterName, &O) -> I + Send + Sync + 'static,
    ) -> (Self, MemberStores<O>)
    where
        O: Resource + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static,
        O::DynamicType: Clone + Default + Eq + Hash + Unpin + Send + Sync,
        I: IntoIterator<Item = ObjectRef<H>> + 'static,
        I::IntoIter: Send,
    {
        let stores = MemberStores {
            stores: Arc::default(),
        };
        let (all, concerns) = (stores.clone(), Arc::new(concerns));
        self.watches.push(Box::new(move |member, mut wake| {
            let (reader, writer) = store();
            let name = member.name().clone();
            all.stores
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(name.clone(), reader);
            let registered = Registered {
                stores: all.clone(),
                name,
            };
            let events = watcher(api(member.client()), config.clone())
                .default_backoff()
                .reflect(writer)
                .touched_objects();
            let concerns = Arc::clone(&concerns);
            Box::pin(async move {
                let _registered = registered;
                futures::pin_mut!(events);
                while let Some(event) = events.next().await {
                    let Ok(object) = event else { continue };
                    for concerned in concerns(member.name(), &object) {
                        if wake.send(concerned).await.is_err() {
                            return;
                        }
                    }
                }
            })
        }));
        (self, stores)
    }

    /// How many hub objects may be reconciled at once. Default 16.
    #[must_use]
    pub fn concurrency(mut self, reconciles: u16) -> Self {
        self.concurrency = reconciles.max(1);
        self
    }

    /// How retries of a failing object are spaced.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Runs until `stop` resolves. The reconciler finds members by [`Members::get`] in its own context.
    pub async fn run<F, Fut, E, C>(
        self,
        reconcile: F,
        context: Arc<C>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) where
        F: Fn(Arc<H>, Arc<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Action, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
        C: Send + Sync + 'static,
    {
        let (wake, woken) = mpsc::channel(1024);
        let joined = futures::stream::unfold(self.members.engaged(), |mut engaged| async move {
            engaged.changed().await.ok()?;
            tokio::time::sleep(GATHER).await;
            engaged.mark_unchanged();
            Some(((), engaged))
        });
        let failures = Arc::new(Failures::default());
        let backoff = self.backoff;
        let forget = Arc::clone(&failures);
        let reconcile = Arc::new(reconcile);
        let controller = self
            .controller
            .with_config(controller::Config::default().concurrency(self.concurrency))
            .reconcile_on(woken)
            .reconcile_all_on(joined)
            .run(
                move |object: Arc<H>, context| {
                    let (forget, reconcile) = (Arc::clone(&forget), Arc::clone(&reconcile));
                    async move {
                        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                        let work = AssertUnwindSafe(async { reconcile(object, context).await }).catch_unwind();
                        let Ok(done) = work.await else {
                            tracing::error!(%namespace, %name, "reconcile panicked");
                            return Ok(Action::requeue(backoff.after(forget.failed(&namespace, &name))));
                        };
                        let action = done?;
                        forget.succeeded(&namespace, &name);
                        Ok::<_, E>(action)
                    }
                },
                move |object: Arc<H>, error: &E, _| {
                    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                    let after = backoff.after(failures.failed(&namespace, &name));
                    tracing::warn!(%namespace, %name, error = error as &dyn std::error::Error, ?after, "reconcile failed");
                    Action::requeue(after)
                },
                context,
            )
            .for_each(|_| std::future::ready(()));
        tokio::select! {
            () = controller => {}
            () = on_members(self.members, self.watches, wake) => {}
            () = stop => {}
        }
    }
}

/// A store's place among those of the members, given up on drop.
struct Registered<O>
where
    O: Resource + 'static,
    O::DynamicType: Eq + Hash,
{
    stores: MemberStores<O>,
    name: ClusterName,
}

impl<O> Drop for Registered<O>
where
    O: Resource + 'static,
    O::DynamicType: Eq + Hash,
{
    fn drop(&mut self) {
        self.stores
            .stores
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.name);
    }
}

async fn on_members<H>(members: Members, watches: Vec<Watch<H>>, wake: Wake<H>)
where
    H: Resource + 'static,
    H::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    let mut engaged = members.engaged();
    let mut running: BTreeMap<ClusterName, Arc<EngagedMember>> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let now = Arc::clone(&engaged.borrow_and_update());
        for (name, member) in now
            .iter()
            .filter(|(name, _)| !running.contains_key(*name))
            .collect::<Vec<_>>()
        {
            running.insert(name.clone(), Arc::clone(member));
            let watching: Vec<_> = watches
                .iter()
                .map(|watch| watch(Arc::clone(member), wake.clone()))
                .collect();
            let (left, name) = (Arc::clone(member), name.clone());
            tasks.spawn(member.work.track_future(async move {
                tokio::select! {
                    biased;
                    () = left.left() => {}
                    _ = async { futures::future::join_all(watching).await; left.left().await } => {}
                }
                name
            }));
        }
        tokio::select! {
            changed = engaged.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next() => {
                if let Ok(name) = ended {
                    running.remove(&name);
                }
            }
        }
    }
}
