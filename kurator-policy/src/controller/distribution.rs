//! The controller's parts, wired.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt, StreamExt, channel::mpsc::UnboundedReceiver, future, stream};
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
    apply::Applier,
    clock::{Clock, SystemClock},
    connect::ClusterConnector,
    membership::Membership,
};

use super::{
    ControllerError, PolicyGroup, Settings,
    member::{Members, Tools},
    overrides::OverridePolicies,
    policy::Policy,
    report::Written,
    templates::Templates,
    trigger::Triggers,
    watch::{Change, Synced, Watch},
};
use crate::propagate::{BuiltinKinds, PolicyKey, ResourceInterpreter, chain};

/// How long until a pass that failed is tried again.
const TRY_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Makes the distribution policies of a hub true on its members. See the [module](super).
///
/// Everything it needs from its host comes in through traits:
///
/// ```no_run
/// # async fn run(
/// #     hub: kube::Client,
/// #     membership: std::sync::Arc<dyn kurator_core::membership::Membership>,
/// #     connector: std::sync::Arc<dyn kurator_core::connect::ClusterConnector>,
/// # ) -> Result<(), kurator_policy::controller::ControllerError> {
/// use std::sync::Arc;
/// use kurator_core::apply::ServerSideApplier;
/// use kurator_policy::controller::Distribution;
///
/// let applier = Arc::new(ServerSideApplier::new(Arc::clone(&connector)));
/// Distribution::new(hub, membership, connector, applier).run(std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Distribution {
    hub: Client,
    membership: Arc<dyn Membership>,
    connector: Arc<dyn ClusterConnector>,
    applier: Arc<dyn Applier>,
    interpreter: Arc<dyn ResourceInterpreter>,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distribution")
            .field("membership", &self.membership)
            .field("connector", &self.connector)
            .field("applier", &self.applier)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Distribution {
    /// A controller for the policies on `hub`; `membership` says who the members are, `connector` reaches them and
    /// `applier` writes to them.
    pub fn new(
        hub: Client,
        membership: Arc<dyn Membership>,
        connector: Arc<dyn ClusterConnector>,
        applier: Arc<dyn Applier>,
    ) -> Self {
        Self {
            hub,
            membership,
            connector,
            applier,
            interpreter: Arc::new(BuiltinKinds),
            clock: Arc::new(SystemClock::new()),
            settings: Settings::default(),
        }
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

    /// Runs until `stop`; a pass that has begun is finished. What is in place stays in place.
    ///
    /// # Errors
    /// [`ControllerError::HubIdentity`] if the hub cannot be asked who it is. Later troubles with the hub are logged
    /// and tried again.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), ControllerError> {
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
        let tools = Tools {
            applier: self.applier,
            connector: self.connector,
            interpreter: Arc::clone(&self.interpreter),
            triggers: triggers.clone(),
            settings: self.settings.clone(),
            hub: hub_id.clone(),
        };
        let everyone = Arc::clone(&policies);
        let members = Members::start(self.membership, tools, move || everyone.fire(None));
        let reporter = Reporter {
            controller: "kurator-distribution".into(),
            instance: None,
        };
        let context = Arc::new(Context {
            hub_id,
            recorder: Recorder::new(self.hub.clone(), reporter),
            templates: Templates::new(self.hub.clone(), triggers),
            hub: self.hub,
            policies: Arc::clone(&policies),
            overrides,
            members,
            interpreter: self.interpreter,
            clock: self.clock,
            written: Mutex::default(),
        });
        let stop = stop.shared();
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
    stop: impl Future<Output = ()> + Send + Sync + 'static,
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
                context.reconcile(Policy::of(group, &object)).await
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
    pub(super) members: Members,
    pub(super) interpreter: Arc<dyn ResourceInterpreter>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) recorder: Recorder,
    pub(super) written: Mutex<BTreeMap<PolicyKey, Written>>,
}

impl Context {
    pub(super) fn written(&self) -> MutexGuard<'_, BTreeMap<PolicyKey, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
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
                    this.triggers.fire(&key);
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

    /// Those of a namespace; `None` while some are not known.
    pub(super) fn within(&self, namespace: &str) -> Option<Vec<Policy>> {
        let mut policies = Vec::new();
        for (group, watch) in self.lock().iter() {
            match watch.sync() {
                Synced::Starting => return None,
                Synced::NotServed => {}
                Synced::Complete => policies.extend(
                    watch
                        .all()
                        .iter()
                        .filter(|object| object.namespace().as_deref() == Some(namespace))
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
