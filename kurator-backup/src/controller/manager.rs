//! The controllers' parts, wired.

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, future, stream};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::PartialObjectMeta,
    runtime::{
        Controller, Predicate, PredicateConfig, WatchStreamExt,
        controller::{self, Action},
        events::{Event, EventType, Recorder, Reporter},
        predicates, reflector, watcher,
    },
};
use kurator_core::{
    clock::{Clock, SystemClock},
    membership::Membership,
    names::NamespacedName,
};
use tokio::{sync::watch, time::Instant};

use super::{
    error::ControllerError,
    metrics::{BackupMetric, BackupMetrics},
};
use crate::{
    api::{BackupExecution, BackupSchedule, Migration, RestoreExecution, labels},
    driver::{BackupDriver, ConsistencyBarrier, NoScratch, ScratchNamespaces},
    execute::{Executor, ExecutorOptions},
    run::{Preflight, RunEvent},
    velero::VeleroPreflight,
};

/// How long until a pass that failed is made again.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How soon a pass that came too late is made again.
const STALE: Duration = Duration::from_millis(200);

/// Runs the backup executions, schedules, restores and migrations of a hub. See the [module](super).
#[must_use]
pub struct BackupManager {
    hub: Client,
    membership: Arc<dyn Membership>,
    driver: Arc<dyn BackupDriver>,
    barrier: Arc<dyn ConsistencyBarrier>,
    preflight: Arc<dyn Preflight>,
    scratch: Arc<dyn ScratchNamespaces>,
    clock: Arc<dyn Clock>,
    options: ExecutorOptions,
    metrics: Arc<dyn BackupMetrics>,
    namespace: Option<String>,
}

impl fmt::Debug for BackupManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupManager")
            .field("membership", &self.membership)
            .field("driver", &self.driver)
            .field("barrier", &self.barrier)
            .finish_non_exhaustive()
    }
}

impl BackupManager {
    /// Controllers for `hub`: `membership` says who the members are, `driver` backs them up, `barrier` holds them
    /// still.
    pub fn new(
        hub: Client,
        membership: Arc<dyn Membership>,
        driver: Arc<dyn BackupDriver>,
        barrier: Arc<dyn ConsistencyBarrier>,
    ) -> Self {
        Self {
            hub,
            membership,
            driver,
            barrier,
            preflight: Arc::new(VeleroPreflight),
            scratch: Arc::new(NoScratch::new()),
            clock: Arc::new(SystemClock::new()),
            options: ExecutorOptions::default(),
            metrics: Arc::new(()),
            namespace: None,
        }
    }

    /// Sets what servers would refuse. Default [`VeleroPreflight`].
    pub fn with_preflight(mut self, preflight: Arc<dyn Preflight>) -> Self {
        self.preflight = preflight;
        self
    }

    /// Sets what makes the namespaces of test restores on members. Without it, verifications restore nothing and say
    /// so. `VeleroDriver` can do it for every member it reaches.
    pub fn with_scratch(mut self, scratch: Arc<dyn ScratchNamespaces>) -> Self {
        self.scratch = scratch;
        self
    }

    /// Sets what time it is. Default: the clock of the machine.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how busy and how patient a pass is.
    pub fn with_options(mut self, options: ExecutorOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets who counts what happens. Default: nobody; [`BackupCounts`](super::BackupCounts) is ready-made.
    pub fn with_metrics(mut self, metrics: impl BackupMetrics) -> Self {
        self.metrics = Arc::new(metrics);
        self
    }

    /// Looks at one namespace of the hub only.
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Runs until `stop`; passes that have begun are finished. Runs that go on are taken up by the next one.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) {
        let (stopped, halt) = watch::channel(false);
        let reporter = Reporter {
            controller: "kurator-backup".into(),
            instance: None,
        };
        let changes = self.membership.changes();
        let context = Arc::new(Context {
            recorder: Recorder::new(self.hub.clone(), reporter),
            executor: Executor::new(self.driver, self.barrier).with_options(self.options),
            membership: self.membership,
            preflight: self.preflight,
            scratch: self.scratch,
            clock: self.clock,
            metrics: self.metrics,
            hub: self.hub.clone(),
        });
        let api = Apis {
            hub: self.hub,
            namespace: self.namespace,
        };
        let executions = executions(&api, Arc::clone(&context), changes, halt.clone());
        let restores = restores(&api, Arc::clone(&context), halt.clone());
        let migrations = migrations(&api, Arc::clone(&context), halt.clone());
        let verifications = verifications(&api, Arc::clone(&context), halt.clone());
        let schedules = schedules(&api, context, halt);
        let ending = async move {
            stop.await;
            // The controllers hold the other end as long as they run.
            let _ = stopped.send(true);
        };
        let schedules = future::join(schedules, verifications);
        future::join5(executions, restores, schedules, migrations, ending).await;
    }
}

struct Apis {
    hub: Client,
    namespace: Option<String>,
}

impl Apis {
    fn of<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.hub.clone(), namespace),
            None => Api::all(self.hub.clone()),
        }
    }
}

async fn halted(mut halt: watch::Receiver<bool>) {
    while !*halt.borrow_and_update() {
        if halt.changed().await.is_err() {
            return;
        }
    }
}

/// Until the controller has ended. One that is told to stop before it has seen its objects for the first time has begun
/// no pass, and would wait for them for ever: nobody asks for them any more.
async fn while_needed<K>(
    controller: impl Future<Output = ()> + Send,
    store: &reflector::Store<K>,
    halt: watch::Receiver<bool>,
) where
    K: reflector::Lookup<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let idle = async {
        halted(halt).await;
        if store.wait_until_ready().now_or_never().is_some() {
            future::pending::<()>().await;
        }
    };
    future::select(pin!(controller), pin!(idle)).await;
}

async fn executions(
    api: &Apis,
    context: Arc<Context>,
    changes: watch::Receiver<u64>,
    halt: watch::Receiver<bool>,
) {
    let (store, writer) = reflector::store();
    // What is written into the status comes from here: only the spec, a deletion and a finalizer wake a run.
    let objects = watcher(api.of::<BackupExecution>(), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers),
            PredicateConfig::default(),
        );
    let controller = Controller::for_stream(objects, store.clone())
        .with_config(controller::Config::default().concurrency(64))
        .reconcile_all_on(membership_changes(changes))
        .graceful_shutdown_on(halted(halt.clone()))
        .run(
            |object, context: Arc<Context>| async move {
                context.timed(&*object, context.execution(&object)).await
            },
            |_, error, _| try_again(error),
            context,
        )
        .for_each(|done| log(done.map(drop)));
    while_needed(controller, &store, halt).await;
}

async fn restores(api: &Apis, context: Arc<Context>, halt: watch::Receiver<bool>) {
    let (store, writer) = reflector::store();
    let objects = watcher(api.of::<RestoreExecution>(), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let controller =
        Controller::for_stream(objects, store.clone())
            .with_config(controller::Config::default().concurrency(16))
            .graceful_shutdown_on(halted(halt.clone()))
            .run(
                |object, context: Arc<Context>| async move {
                    context.timed(&*object, context.restore(&object)).await
                },
                |_, error, _| try_again(error),
                context,
            )
            .for_each(|done| log(done.map(drop)));
    while_needed(controller, &store, halt).await;
}

/// A membership that changed may have the fleet that a run waits for.
fn membership_changes(
    changes: watch::Receiver<u64>,
) -> impl futures::Stream<Item = ()> + Send + Sync + 'static {
    stream::unfold(changes, |mut changes| async move {
        changes.changed().await.ok()?;
        Some(((), changes))
    })
}

async fn schedules(api: &Apis, context: Arc<Context>, halt: watch::Receiver<bool>) {
    let owned = |execution: PartialObjectMeta<BackupExecution>| {
        let schedule = execution.labels().get(labels::SCHEDULE)?;
        Some(reflector::ObjectRef::new(schedule).within(&execution.namespace()?))
    };
    let (store, writer) = reflector::store();
    let counting = Arc::clone(&context);
    let objects = watcher(api.of::<BackupSchedule>(), watcher::Config::default())
        .default_backoff()
        .inspect_ok(move |event| {
            // Nobody makes a pass over what is gone.
            if let watcher::Event::Delete(gone) = event {
                let key = NamespacedName::new(gone.namespace().unwrap_or_default(), gone.name_any());
                counting.last_success(&key, &[]);
            }
        })
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let executions = watcher(
        api.of::<PartialObjectMeta<BackupExecution>>(),
        watcher::Config::default().labels(labels::SCHEDULE),
    )
    .default_backoff()
    .touched_objects();
    let controller = Controller::for_stream(objects, store.clone())
        .with_config(
            controller::Config::default()
                .concurrency(16)
                .debounce(Duration::from_millis(500)),
        )
        .watches_stream(executions, owned)
        .graceful_shutdown_on(halted(halt.clone()))
        .run(
            |object, context: Arc<Context>| async move {
                context.timed(&*object, context.schedule(&object)).await
            },
            |_, error, _| try_again(error),
            context,
        )
        .for_each(|done| log(done.map(drop)));
    while_needed(controller, &store, halt).await;
}

/// The same objects as `schedules`, apart from it: members that hang in a verification must not hold up a backup.
async fn verifications(api: &Apis, context: Arc<Context>, halt: watch::Receiver<bool>) {
    let (store, writer) = reflector::store();
    let objects = watcher(api.of::<BackupSchedule>(), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let restores = watcher(
        api.of::<PartialObjectMeta<RestoreExecution>>(),
        watcher::Config::default().labels(labels::VERIFICATION),
    )
    .default_backoff()
    .touched_objects();
    let of_schedule = |restore: PartialObjectMeta<RestoreExecution>| {
        let name = restore.annotations().get(labels::VERIFICATION)?;
        Some(reflector::ObjectRef::new(name).within(&restore.namespace()?))
    };
    let controller = Controller::for_stream(objects, store.clone())
        .with_config(controller::Config::default().concurrency(16))
        .watches_stream(restores, of_schedule)
        .graceful_shutdown_on(halted(halt.clone()))
        .run(
            |object, context: Arc<Context>| async move { context.verification(&object).await },
            |_, error, _| try_again(error),
            context,
        )
        .for_each(|done| log(done.map(drop)));
    while_needed(controller, &store, halt).await;
}

async fn migrations(api: &Apis, context: Arc<Context>, halt: watch::Receiver<bool>) {
    let (store, writer) = reflector::store();
    let objects = watcher(api.of::<Migration>(), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let of_migrations = || watcher::Config::default().labels(labels::MIGRATION);
    let backups = watcher(api.of::<PartialObjectMeta<BackupExecution>>(), of_migrations())
        .default_backoff()
        .touched_objects();
    let restores = watcher(api.of::<PartialObjectMeta<RestoreExecution>>(), of_migrations())
        .default_backoff()
        .touched_objects();
    let controller = Controller::for_stream(objects, store.clone())
        .with_config(controller::Config::default().concurrency(16))
        .watches_stream(backups, |object| migration_of(&object))
        .watches_stream(restores, |object| migration_of(&object))
        .graceful_shutdown_on(halted(halt.clone()))
        .run(
            |object, context: Arc<Context>| async move {
                context.timed(&*object, context.migration(&object)).await
            },
            |_, error, _| try_again(error),
            context,
        )
        .for_each(|done| log(done.map(drop)));
    while_needed(controller, &store, halt).await;
}

/// The label has the UID, which no watch can be asked by.
fn migration_of(object: &impl ResourceExt) -> Option<reflector::ObjectRef<Migration>> {
    let name = object.annotations().get(labels::MIGRATION)?;
    Some(reflector::ObjectRef::new(name).within(&object.namespace()?))
}

fn try_again(error: &ControllerError) -> Action {
    Action::requeue(if error.is_stale() { STALE } else { TRY_AGAIN })
}

fn log<Q: std::error::Error + 'static>(
    done: Result<(), controller::Error<ControllerError, Q>>,
) -> future::Ready<()> {
    match done {
        Ok(()) | Err(controller::Error::ObjectNotFound(_)) => {}
        Err(controller::Error::ReconcilerFailed(error, _)) if error.is_stale() => {
            tracing::debug!(reason = error.reason(), "{error}");
        }
        Err(controller::Error::ReconcilerFailed(error, object)) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%object, reason = error.reason(), source, "{error}");
        }
        Err(error) => tracing::warn!(%error, "backup controller"),
    }
    future::ready(())
}

/// What every pass needs.
pub(super) struct Context {
    pub(super) hub: Client,
    pub(super) membership: Arc<dyn Membership>,
    pub(super) executor: Executor,
    pub(super) preflight: Arc<dyn Preflight>,
    pub(super) scratch: Arc<dyn ScratchNamespaces>,
    pub(super) clock: Arc<dyn Clock>,
    metrics: Arc<dyn BackupMetrics>,
    recorder: Recorder,
}

impl Context {
    pub(super) fn count<'a>(
        &self,
        object: &NamespacedName,
        metrics: impl IntoIterator<Item = BackupMetric<'a>>,
    ) {
        for metric in metrics {
            self.metrics.record(object, &metric);
        }
    }

    /// A pass over an object, counted and timed.
    async fn timed<K>(
        &self,
        object: &K,
        pass: impl Future<Output = Result<Action, ControllerError>> + Send,
    ) -> Result<Action, ControllerError>
    where
        K: Resource<DynamicType = ()> + Sync,
    {
        let begun = Instant::now();
        let result = pass.await;
        let metric = BackupMetric::Reconciled {
            kind: &K::kind(&()),
            reason: result.as_ref().map_or_else(ControllerError::reason, |_| "Done"),
            took: begun.elapsed(),
        };
        let key = NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any());
        self.metrics.record(&key, &metric);
        result
    }

    /// An Event that is lost is a pity; the status says the same.
    pub(super) async fn publish<K>(&self, object: &K, event: RunEvent)
    where
        K: Resource<DynamicType = ()> + Sync,
    {
        let event = Event {
            type_: if event.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: event.reason,
            note: Some(event.note),
            action: event.action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(%error, "an Event could not be published");
        }
    }

    /// When to come back for something that is due then.
    pub(super) fn until(&self, due: Option<jiff::Timestamp>) -> Action {
        match due {
            None => Action::await_change(),
            Some(due) => {
                let pause = due.duration_since(self.clock.now());
                Action::requeue(Duration::try_from(pause).unwrap_or_default())
            }
        }
    }
}
