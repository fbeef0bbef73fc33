//! The same reconciler over every member.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kube::runtime::Controller;
use kube::runtime::controller::{self, Action};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::engaged::EngagedMember;
use super::fair::FairGate;
use super::members::Members;
use super::retry::{Backoff, Failures};
use crate::names::ClusterName;

/// What a reconciler gets besides the object.
#[derive(Debug)]
pub struct ReconcileContext<C> {
    member: Arc<EngagedMember>,
    data: Arc<C>,
    failures: Failures,
}

impl<C> ReconcileContext<C> {
    /// The member that the object is on.
    #[must_use]
    pub fn member(&self) -> &EngagedMember {
        &self.member
    }

    /// A client of that member.
    #[must_use]
    pub fn client(&self) -> Client {
        self.member.client()
    }

    /// What was given to [`UniformController::run`].
    #[must_use]
    pub fn data(&self) -> &C {
        &self.data
    }
}

type MakeApi<K> = Arc<dyn Fn(Client) -> Api<K> + Send + Sync>;
type Extend<K> = Arc<dyn Fn(Controller<K>, &EngagedMember) -> Controller<K> + Send + Sync>;

/// One reconciler that runs on every engaged member, by a kube [`Controller`] each.
///
/// Use `UniformController::<PartialObjectMeta<K>>` to watch metadata only.
///
/// # Guarantees
/// - A member's controller starts when it engages and stops when it is disengaged; what it held in memory goes with it.
/// - At most [`concurrency_per_member`](Self::concurrency_per_member) reconciles run on a member and at most
///   [`concurrency`](Self::concurrency) make progress on all together; members wait for that in turns, so none keeps
///   the others waiting for more than one reconcile each.
/// - A reconcile that takes longer than [`patience`](Self::patience) (its member hangs) no longer counts against the
///   others: it only holds its own member up.
/// - Objects whose reconcile fails or panics are retried with their own exponential back-off.
pub struct UniformController<K>
where
    K: Clone + Resource + fmt::Debug + 'static,
    K::DynamicType: Eq + Hash,
{
    members: Members,
    api: MakeApi<K>,
    watcher: watcher::Config,
    extend: Vec<Extend<K>>,
    per_member: u16,
    overall: usize,
    patience: Duration,
    deadline: Duration,
    backoff: Backoff,
}

impl<K> fmt::Debug for UniformController<K>
where
    K: Clone + Resource + fmt::Debug + 'static,
    K::DynamicType: Eq + Hash,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UniformController")
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl<K> UniformController<K>
where
    K: Clone + Resource + DeserializeOwned + fmt::Debug + Send + Sync + 'static,
    K::DynamicType: Clone + Default + Eq + Hash + fmt::Debug + Unpin + Send + Sync,
{
    /// A controller of every `K` in every namespace of every member.
    #[must_use]
    pub fn new(members: Members) -> Self {
        Self {
            members,
            api: Arc::new(Api::all),
            watcher: watcher::Config::default(),
            extend: Vec::new(),
            per_member: 4,
            overall: 64,
            patience: Duration::from_secs(1),
            deadline: Duration::from_secs(120),
            backoff: Backoff::default(),
        }
    }

    /// What to watch on a member instead of everything, such as `|client| Api::namespaced(client, "shop")`.
    #[must_use]
    pub fn api(mut self, api: impl Fn(Client) -> Api<K> + Send + Sync + 'static) -> Self {
        self.api = Arc::new(api);
        self
    }

    /// Selectors and paging of the watch.
    #[must_use]
    pub fn watcher(mut self, config: watcher::Config) -> Self {
        self.watcher = config;
        self
    }

    /// Adds to each member's [`Controller`] what kube offers: `owns`, `watches`, `reconcile_all_on`.
    #[must_use]
    pub fn extend(
        mut self,
        extend: impl Fn(Controller<K>, &EngagedMember) -> Controller<K> + Send + Sync + 'static,
    ) -> Self {
        self.extend.push(Arc::new(extend));
        self
    }

    /// How many reconciles may run on one member at once, at least 1. Default 4.
    #[must_use]
    pub fn concurrency_per_member(mut self, reconciles: u16) -> Self {
        self.per_member = reconciles.max(1);
        self
    }

    /// How many reconciles may make progress on all members together, at least 1. Default 64.
    #[must_use]
    pub fn concurrency(mut self, reconciles: usize) -> Self {
        self.overall = reconciles;
        self
    }

    /// After what time a running reconcile counts as waiting for its member. Default 1 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// After what time a reconcile is given up and tried again later. Default 2 min.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How retries of a failing object are spaced.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Runs until `stop` resolves.
    ///
    /// Errors of the reconciler are logged by `tracing` with the member's name and retried.
    pub async fn run<F, Fut, E, C>(self, reconcile: F, data: Arc<C>, stop: impl Future<Output = ()> + Send)
    where
        F: Fn(Arc<K>, Arc<ReconcileContext<C>>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Action, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
        C: Send + Sync + 'static,
    {
        let gate = FairGate::new(self.overall);
        let mut engaged = self.members.engaged();
        let mut running: BTreeMap<ClusterName, Arc<EngagedMember>> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let members = Arc::clone(&engaged.borrow_and_update());
            for (name, member) in members.iter() {
                if running.contains_key(name) {
                    continue;
                }
                running.insert(name.clone(), Arc::clone(member));
                let work = self.on_member(
                    Arc::clone(member),
                    reconcile.clone(),
                    Arc::clone(&data),
                    gate.clone(),
                );
                let (left, name) = (Arc::clone(member), name.clone());
                tasks.spawn(member.work.track_future(async move {
                    tokio::select! {
                        biased;
                        () = left.left() => {}
                        () = work => {}
                    }
                    name
                }));
            }
            tokio::select! {
                changed = engaged.changed() => if changed.is_err() { break },
                Some(ended) = tasks.join_next() => {
                    if let Ok(name) = ended {
                        running.remove(&name);
                    }
                }
                () = &mut stop => break,
            }
        }
        tasks.shutdown().await;
    }

    fn on_member<F, Fut, E, C>(
        &self,
        member: Arc<EngagedMember>,
        reconcile: F,
        data: Arc<C>,
        gate: FairGate<ClusterName>,
    ) -> impl Future<Output = ()> + Send + use<F, Fut, E, C, K>
    where
        F: Fn(Arc<K>, Arc<ReconcileContext<C>>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Action, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
        C: Send + Sync + 'static,
    {
        let controller = Controller::new((self.api)(member.client()), self.watcher.clone())
            .with_config(controller::Config::default().concurrency(self.per_member));
        let controller = self
            .extend
            .iter()
            .fold(controller, |controller, extend| extend(controller, &member));
        let (patience, deadline, backoff) = (self.patience, self.deadline, self.backoff);
        let context = Arc::new(ReconcileContext {
            member,
            data,
            failures: Failures::default(),
        });
        let reconcile = move |object: Arc<K>, context: Arc<ReconcileContext<C>>| {
            let (gate, reconcile) = (gate.clone(), reconcile.clone());
            async move {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                let inside = gate.enter(context.member.name()).await;
                let running = Arc::clone(&context);
                // Also what panics before its first await: one bad object must not stop its member.
                let work = AssertUnwindSafe(async move { reconcile(object, running).await }).catch_unwind();
                let work = tokio::time::timeout(deadline, work);
                tokio::pin!(work);
                let result = tokio::select! {
                    result = &mut work => result,
                    () = tokio::time::sleep(patience) => {
                        drop(inside);
                        work.await
                    }
                };
                match result {
                    Ok(Ok(Ok(action))) => {
                        context.failures.succeeded(&namespace, &name);
                        Ok(action)
                    }
                    Ok(Ok(Err(error))) => Err(error),
                    Ok(Err(_)) => {
                        tracing::error!(cluster = %context.member.name(), %namespace, %name, "reconcile panicked");
                        Ok(Action::requeue(
                            backoff.after(context.failures.failed(&namespace, &name)),
                        ))
                    }
                    Err(_) => {
                        tracing::warn!(cluster = %context.member.name(), %namespace, %name, "reconcile took too long");
                        Ok(Action::requeue(
                            backoff.after(context.failures.failed(&namespace, &name)),
                        ))
                    }
                }
            }
        };
        let retry = move |object: Arc<K>, error: &E, context: Arc<ReconcileContext<C>>| {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            let after = backoff.after(context.failures.failed(&namespace, &name));
            tracing::warn!(
                cluster = %context.member.name(), %namespace, %name, error = error as &dyn std::error::Error, ?after,
                "reconcile failed"
            );
            Action::requeue(after)
        };
        async move {
            let outcomes = controller.run(reconcile, retry, context);
            outcomes
                .for_each(|outcome| async move {
                    if let Err(controller::Error::QueueError(error)) = outcome {
                        tracing::debug!(%error, "watch interrupted");
                    }
                })
                .await;
        }
    }
}
