//! The controller's parts, wired.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt, StreamExt,
    channel::mpsc::UnboundedReceiver,
    future::{self, BoxFuture, Shared},
    stream,
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::DynamicObject,
    runtime::{
        Controller,
        controller::{self, Action},
        events::{Recorder, Reporter},
        reflector::{ObjectRef, Store},
    },
};
use kurator_core::{
    apply::{Applier, ServerSideApplier},
    clock::{Clock, SystemClock},
    multicluster::{
        Facts, Members,
        shard::{Fence, OwnedShards, Shards},
    },
};

use tokio::{sync::watch, time::Instant};

use super::{
    ControllerError, DistributionMetric, DistributionMetrics, PolicyGroup, Settings,
    carried::StateBook,
    claimed::MarkBook,
    fleet::{Fleet, FleetChange},
    member::{Desks, Tools},
    memory::Memory,
    overrides::OverridePolicies,
    policy::Policy,
    promises::Promises,
    report::Written,
    revisions::Revisions,
    shared::SharedObjects,
    shown::ShownReplicas,
    templates::Templates,
    trigger::Triggers,
    watch::{Change, Synced, Watch},
};
use crate::failover::DisruptionGuard;
use crate::propagate::{BuiltinKinds, PolicyKey, ResourceInterpreter, chain};

/// What replicas that share a hub share out: the right to distribute, as a whole.
const LEADERSHIP: &str = "distribution";

/// How long until a pass that failed is tried again.
const TRY_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Makes the distribution policies of a hub true on its members. See the [module](super).
///
/// The members come from [`Members`], which the host may share with controllers of its own:
///
/// ```no_run
/// # async fn run(
/// #     hub: kube::Client,
/// #     membership: std::sync::Arc<dyn kurator_core::membership::Membership>,
/// #     connector: std::sync::Arc<dyn kurator_core::connect::ClusterConnector>,
/// # ) -> Result<(), kurator_policy::controller::ControllerError> {
/// use kurator_core::{clock::SystemClock, multicluster::{Members, MembersOptions}};
/// use kurator_policy::controller::Distribution;
///
/// let options = MembersOptions::default();
/// let members = Members::start(membership, connector, None, None, options, &SystemClock::new());
/// Distribution::new(hub, members).run(std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
///
/// Several replicas of it may run, of which one works at a time: see [`Distribution::with_leadership`].
#[derive(Clone)]
#[must_use]
pub struct Distribution {
    hub: Client,
    members: Members,
    owned: Option<watch::Receiver<OwnedShards>>,
    facts: Option<Arc<Facts>>,
    applier: Arc<dyn Applier>,
    interpreter: Arc<dyn ResourceInterpreter>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    metrics: Arc<dyn DistributionMetrics>,
}

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distribution")
            .field("members", &self.members)
            .field("applier", &self.applier)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Distribution {
    /// A controller for the policies on `hub`, over all of these members.
    pub fn new(hub: Client, members: Members) -> Self {
        Self {
            hub,
            applier: Arc::new(ServerSideApplier::new(members.clone())),
            members,
            owned: None,
            facts: None,
            interpreter: Arc::new(BuiltinKinds),
            clock: Arc::new(SystemClock::new()),
            settings: Settings::default(),
            metrics: Arc::new(()),
        }
    }

    /// Works only while this replica has the right to. `shards` is to be made with one shard, and the members are to be
    /// started with the same: then what leaves this process ends with the right, and a successor begins after that.
    ///
    /// One replica for everything, because a plan needs to know all members and everything that was promised.
    pub fn with_leadership(mut self, shards: &Shards) -> Self {
        self.owned = Some(shards.owned());
        self
    }

    /// Sets who writes to the members. Default: server-side apply with the clients of the engaged members.
    pub fn with_applier(mut self, applier: Arc<dyn Applier>) -> Self {
        self.applier = applier;
        self
    }

    /// Sets who observes the members. Default: its own.
    pub fn with_facts(mut self, facts: Arc<Facts>) -> Self {
        self.facts = Some(facts);
        self
    }

    /// Sets what kinds mean. Default: [`BuiltinKinds`].
    pub fn with_interpreter(mut self, interpreter: Arc<dyn ResourceInterpreter>) -> Self {
        self.interpreter = interpreter;
        self
    }

    /// Sets where the times in conditions come from. Default: the clock of the machine.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how patient and how busy the controller is.
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets who counts. Default: nobody.
    pub fn with_metrics(mut self, metrics: impl DistributionMetrics) -> Self {
        self.metrics = Arc::new(metrics);
        self
    }

    /// Runs until `stop`; a pass that has begun is finished. What is in place stays in place.
    ///
    /// # Errors
    /// [`ControllerError::HubIdentity`] if the hub cannot be asked who it is. Later troubles with the hub are logged
    /// and tried again.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), ControllerError> {
        let stop = stop.boxed().shared();
        let Some(mut owned) = self.owned.clone() else {
            return self.lead(stop).await;
        };
        loop {
            let fence = tokio::select! {
                fence = leadership(&mut owned) => fence,
                () = stop.clone() => return Ok(()),
            };
            let Some(fence) = fence else { return Ok(()) };
            if let Some(done) = fence.while_held(self.clone().lead(stop.clone())).await {
                return done;
            }
            tracing::info!("another replica distributes from now on");
        }
    }

    async fn lead(self, stop: Shared<BoxFuture<'static, ()>>) -> Result<(), ControllerError> {
        let hub_id = identity(&self.hub).await?;
        tracing::info!(hub = %hub_id, "distribution controller starts");
        let (triggers, mut receivers) = Triggers::new(PolicyGroup::ALL);
        let policies = Arc::new(Policies::new(triggers.clone()));
        for group in PolicyGroup::ALL {
            Policies::watch(&policies, &self.hub, group);
        }
        let neighbours = Arc::clone(&policies);
        let overrides =
            OverridePolicies::start(self.hub.clone(), move |namespace| neighbours.fire(namespace));
        let states = Arc::new(StateBook::default());
        let tools = Tools {
            applier: self.applier,
            interpreter: Arc::clone(&self.interpreter),
            triggers: triggers.clone(),
            settings: self.settings.clone(),
            hub: hub_id.clone(),
            states: Arc::clone(&states),
            metrics: Arc::clone(&self.metrics),
        };
        let (everyone, waiting) = (Arc::clone(&policies), Arc::new(Waiting::new(triggers.clone())));
        let waiters = Arc::clone(&waiting);
        let facts = self
            .facts
            .unwrap_or_else(|| Arc::new(Facts::start(self.members.clone())));
        let desks = Arc::new(Desks::follow(self.members.clone(), tools));
        let promises = Arc::new(Mutex::new(Promises::default()));
        let (settling, watched, seen) = (Arc::clone(&promises), Arc::clone(&desks), Arc::clone(&facts));
        let look = move |refresh: &mut dyn FnMut()| {
            // Nobody plans in between.
            let mut promises = settling.lock().unwrap_or_else(PoisonError::into_inner);
            let shown = ShownReplicas::new(&watched, &seen);
            let settled = promises.settle(
                &|policy, cluster, object| shown.of(policy, cluster, object),
                Instant::now(),
            );
            refresh();
            settled
        };
        let fleet = Fleet::follow(
            self.members,
            Arc::clone(&facts),
            look,
            move |change| match change {
                FleetChange::Members => everyone.fire(None),
                FleetChange::Room => waiters.fire(),
            },
        );
        let reporter = Reporter {
            controller: "kurator-distribution".into(),
            instance: None,
        };
        let context = Arc::new(Context {
            recorder: Recorder::new(self.hub.clone(), reporter),
            shared: SharedObjects::new(hub_id.clone(), triggers.clone()),
            hub_id,
            templates: Templates::new(self.hub.clone(), triggers.clone()),
            triggers,
            policies: Arc::clone(&policies),
            overrides,
            fleet,
            facts,
            desks,
            states,
            waiting,
            promises,
            interpreter: self.interpreter,
            clock: self.clock,
            aggregate_status: self.settings.aggregate_status,
            mark_claims: self.settings.mark_claims,
            mark_book: MarkBook::default(),
            written: Mutex::default(),
            memory: Mutex::default(),
            metrics: self.metrics,
            eviction_pace: self
                .settings
                .eviction_pace
                .try_into()
                .unwrap_or(SignedDuration::MAX),
            disruption: DisruptionGuard::from_percent(self.settings.disruption_percent),
            revisions: Revisions::new(self.hub.clone()),
            hub: self.hub,
        });
        let runs = PolicyGroup::ALL.into_iter().filter_map(|group| {
            let store = policies.store(group)?;
            let triggered = receivers.remove(&group)?;
            Some(run_group(
                group,
                store,
                triggered,
                Arc::clone(&context),
                &self.settings,
                stop.clone(),
            ))
        });
        future::join_all(runs).await;
        Ok(())
    }
}

async fn run_group(
    group: PolicyGroup,
    store: Store<DynamicObject>,
    triggered: UnboundedReceiver<ObjectRef<DynamicObject>>,
    context: Arc<Context>,
    settings: &Settings,
    stop: Shared<BoxFuture<'static, ()>>,
) {
    // Every trigger comes through one channel: the watches of policies, templates, overrides and members feed it.
    Controller::for_stream_with(stream::pending(), store, group.resource())
        .with_config(
            controller::Config::default()
                .debounce(settings.debounce)
                .concurrency(16),
        )
        .reconcile_on(triggered)
        .graceful_shutdown_on(stop)
        .run(
            move |object, context: Arc<Context>| async move {
                let (policy, begun) = (Policy::of(group, &object), Instant::now());
                let key = policy.key.clone();
                let result = context.reconcile(policy).await;
                let metric = DistributionMetric::Reconciled {
                    reason: result
                        .as_ref()
                        .map_or_else(ControllerError::reason, |(reason, _)| reason),
                    took: begun.elapsed(),
                };
                context.metrics.record(&key, &metric);
                result.map(|(_, action)| action)
            },
            |_, _, _| Action::requeue(TRY_AGAIN),
            Arc::clone(&context),
        )
        .for_each(|done| {
            match done {
                Ok(_) => {}
                Err(controller::Error::ObjectNotFound(gone)) => {
                    context.forget(&PolicyKey::new(
                        group.as_str(),
                        gone.namespace.unwrap_or_default(),
                        gone.name,
                    ));
                }
                Err(controller::Error::ReconcilerFailed(error, object)) => {
                    tracing::warn!(policy = %object, reason = error.reason(), "{}", chain(&error));
                }
                Err(error) => tracing::warn!(%error, "distribution controller"),
            }
            future::ready(())
        })
        .await;
}

/// Waits for the right to distribute; `None` if nobody is left to give it.
async fn leadership(owned: &mut watch::Receiver<OwnedShards>) -> Option<Arc<Fence>> {
    loop {
        let fence = owned.borrow_and_update().fence(LEADERSHIP);
        match fence.filter(|fence| fence.holds()) {
            Some(fence) => return Some(fence),
            None => owned.changed().await.ok()?,
        }
    }
}

async fn identity(hub: &Client) -> Result<String, ControllerError> {
    let namespaces: Api<Namespace> = Api::all(hub.clone());
    match namespaces.get("kube-system").await {
        Ok(namespace) => Ok(namespace.uid().unwrap_or_default()),
        Err(source) => Err(ControllerError::HubIdentity {
            source: Box::new(source),
        }),
    }
}

/// What every pass needs.
pub(super) struct Context {
    pub(super) hub: Client,
    pub(super) hub_id: String,
    pub(super) policies: Arc<Policies>,
    pub(super) overrides: OverridePolicies,
    pub(super) templates: Templates,
    pub(super) triggers: Triggers,
    pub(super) shared: SharedObjects,
    pub(super) fleet: Fleet,
    pub(super) facts: Arc<Facts>,
    pub(super) desks: Arc<Desks>,
    pub(super) states: Arc<StateBook>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) promises: Arc<Mutex<Promises>>,
    pub(super) interpreter: Arc<dyn ResourceInterpreter>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) recorder: Recorder,
    pub(super) aggregate_status: bool,
    pub(super) mark_claims: bool,
    pub(super) mark_book: MarkBook,
    pub(super) written: Mutex<BTreeMap<PolicyKey, Written>>,
    pub(super) memory: Mutex<Memory>,
    pub(super) eviction_pace: SignedDuration,
    pub(super) disruption: DisruptionGuard,
    pub(super) revisions: Revisions,
    pub(super) metrics: Arc<dyn DistributionMetrics>,
}

impl Context {
    pub(super) fn written(&self) -> MutexGuard<'_, BTreeMap<PolicyKey, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The policies to which more room in the fleet makes a difference.
#[derive(Debug)]
pub(super) struct Waiting {
    triggers: Triggers,
    policies: Mutex<BTreeSet<PolicyKey>>,
}

impl Waiting {
    const fn new(triggers: Triggers) -> Self {
        Self {
            triggers,
            policies: Mutex::new(BTreeSet::new()),
        }
    }

    /// Whether this policy waits from now on.
    pub(super) fn set(&self, policy: &PolicyKey, waits: bool) {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if waits {
            policies.insert(policy.clone());
        } else {
            policies.remove(policy);
        }
    }

    /// There may be more room now.
    pub(super) fn fire(&self) {
        let policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        policies.iter().for_each(|policy| self.triggers.fire(policy));
    }
}

/// All policies of the hub.
#[derive(Debug)]
pub(super) struct Policies {
    triggers: Triggers,
    watches: Mutex<BTreeMap<PolicyGroup, Watch>>,
}

impl Policies {
    fn new(triggers: Triggers) -> Self {
        Self {
            triggers,
            watches: Mutex::default(),
        }
    }

    /// Watches the policies of a group. One that changes is triggered, and with it, when what it claims may have
    /// changed, every other one of its namespace.
    fn watch(policies: &Arc<Self>, hub: &Client, group: PolicyGroup) {
        let mut claims: BTreeMap<PolicyKey, (Option<i64>, bool)> = BTreeMap::new();
        let this = Arc::clone(policies);
        let on_change = move |change: Change<'_>| match change {
            Change::Applied(object) => {
                let key = key(group, object);
                let claim = (
                    object.metadata.generation,
                    object.metadata.deletion_timestamp.is_some(),
                );
                if claims.insert(key.clone(), claim) == Some(claim) {
                    // Most often the status that we have written.
                    this.triggers.tell(&key);
                } else {
                    this.triggers.fire(&key);
                    this.fire(object.namespace().as_deref());
                }
            }
            Change::Deleted(object) => {
                let key = key(group, object);
                claims.remove(&key);
                this.triggers.fire(&key);
                this.fire(object.namespace().as_deref());
            }
            Change::Failed(error) => {
                tracing::warn!(%error, group = group.as_str(), "watching policies failed");
            }
            Change::Listed(_) | Change::Synced | Change::NotServed => this.fire(None),
        };
        // Held until the watch is in the map: what it sees first must find it there.
        let mut watches = policies.lock();
        let api = Api::all_with(hub.clone(), &group.resource());
        watches.insert(group, Watch::start(api, group.resource(), on_change));
    }

    fn store(&self, group: PolicyGroup) -> Option<Store<DynamicObject>> {
        self.lock().get(&group).map(Watch::store)
    }

    /// Those of a namespace, or all; `None` while some are not known.
    pub(super) fn within(&self, namespace: Option<&str>) -> Option<Vec<Policy>> {
        let mut policies = Vec::new();
        for (group, watch) in self.lock().iter() {
            match watch.sync() {
                Synced::Starting => return None,
                Synced::NotServed => {}
                Synced::Complete => policies.extend(
                    watch
                        .all()
                        .iter()
                        .filter(|object| namespace.is_none() || object.namespace().as_deref() == namespace)
                        .map(|object| Policy::of(*group, object)),
                ),
            }
        }
        Some(policies)
    }

    /// Triggers every policy of a namespace, or of all.
    pub(super) fn fire(&self, namespace: Option<&str>) {
        for (group, watch) in self.lock().iter() {
            for object in watch.all() {
                if namespace.is_none() || object.namespace().as_deref() == namespace {
                    self.triggers.fire(&key(*group, &object));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PolicyGroup, Watch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(group: PolicyGroup, object: &DynamicObject) -> PolicyKey {
    PolicyKey::new(
        group.as_str(),
        object.namespace().unwrap_or_default(),
        object.name_any(),
    )
}
