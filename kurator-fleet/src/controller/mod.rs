//! The controllers of `AttachedCluster` and `Fleet`, ready to run.
//!
//! [`FleetManager::start`] looks after every attached cluster of a namespace; [`FleetManager::run`] writes what is
//! known into their status and into that of the fleets, and lets members leave. The membership, the connector and the
//! engaged members are there for the host's own controllers.
//!
//! # RBAC
//! On the hub, in the namespace: `fleets` and `attachedclusters` with `/status`: `get`, `list`, `watch`, `patch`;
//! `secrets`: `get`; `configmaps`: `list`, `watch`, `create`, `patch`, `delete` (tombstones);
//! `events.events.k8s.io`: `create`, `patch`; and `get` of the namespace `kube-system`.

mod attached;
mod clean;
mod fleet;
mod status;
mod tombstone;

use std::fmt;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{self, Action};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector;
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use kurator_core::clock::Clock;
use kurator_core::connect::SecretConnector;
use kurator_core::kubeconfig::KubeconfigPolicy;
use kurator_core::multicluster::{Members, MembersOptions};
use serde::de::DeserializeOwned;
use serde_json::json;

pub use self::clean::{MemberCleaner, PlacedObjects};
use self::fleet::FleetContext;
use crate::api::{AttachedCluster, Fleet};
use crate::membership::FleetMembership;

/// Keeps an object until what it stands for has left.
const FINALIZER: &str = "fleet.kurator.dev/detach";
const FIELD_MANAGER_FLEET: &str = "kurator-fleet";
/// Changes of members are gathered for so long.
const GATHER: Duration = Duration::from_millis(200);

/// What stops a pass of these controllers. It is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The hub did not do what it was asked.
    #[error("failed to {action} {name}")]
    Hub {
        /// What was to be done.
        action: &'static str,
        /// To which object.
        name: String,
        /// The hub's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The hub has no `kube-system` namespace to be known by.
    #[error("the hub has no identity: its namespace kube-system has no UID")]
    HubIdentity,
    /// A leaving member could not be cleaned.
    #[error("failed to clean cluster {cluster}")]
    Member {
        /// The member.
        cluster: String,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
}

impl FleetError {
    fn hub(action: &'static str, name: &str, source: kube::Error) -> Self {
        Self::Hub {
            action,
            name: name.to_owned(),
            source: Box::new(source),
        }
    }
}

/// How a fleet is managed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FleetOptions {
    /// How members are probed and bounded.
    pub members: MembersOptions,
    /// What kubeconfigs may ask for.
    pub kubeconfigs: KubeconfigPolicy,
    /// How members are cleaned when they leave; [`PlacedObjects`] unless it is set.
    pub cleaner: Option<Arc<dyn MemberCleaner>>,
}

impl FleetOptions {
    /// Sets how members are probed and bounded.
    #[must_use]
    pub fn with_members(mut self, members: MembersOptions) -> Self {
        self.members = members;
        self
    }

    /// Sets what kubeconfigs may ask for.
    #[must_use]
    pub fn with_kubeconfigs(mut self, policy: KubeconfigPolicy) -> Self {
        self.kubeconfigs = policy;
        self
    }

    /// Sets how members are cleaned when they leave.
    #[must_use]
    pub fn with_cleaner(mut self, cleaner: Arc<dyn MemberCleaner>) -> Self {
        self.cleaner = Some(cleaner);
        self
    }
}

/// What the reconcilers share.
pub(crate) struct Context {
    hub: Client,
    namespace: String,
    fleets: Arc<FleetMembership>,
    members: Members,
    cleaner: Arc<dyn MemberCleaner>,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Adds our finalizer unless it is there.
    async fn hold<K>(&self, object: &K, finalizer: &str) -> Result<(), FleetError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + fmt::Debug
            + Sync,
        K::DynamicType: Default,
    {
        if object.finalizers().iter().any(|it| it == finalizer) {
            return Ok(());
        }
        let finalizers: Vec<&str> = object
            .finalizers()
            .iter()
            .map(String::as_str)
            .chain([finalizer])
            .collect();
        self.set_finalizers(object, &finalizers).await
    }

    /// Removes our finalizer.
    async fn release<K>(&self, object: &K, finalizer: &str) -> Result<(), FleetError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + fmt::Debug
            + Sync,
        K::DynamicType: Default,
    {
        let finalizers: Vec<&str> = object
            .finalizers()
            .iter()
            .map(String::as_str)
            .filter(|it| *it != finalizer)
            .collect();
        self.set_finalizers(object, &finalizers).await
    }

    async fn set_finalizers<K>(&self, object: &K, finalizers: &[&str]) -> Result<(), FleetError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + fmt::Debug
            + Sync,
        K::DynamicType: Default,
    {
        let name = object.name_any();
        // With the version: the list replaces one that others may have added to.
        let patch = json!({
            "metadata": { "finalizers": finalizers, "resourceVersion": object.resource_version(), "uid": object.uid() },
        });
        let api: Api<K> = Api::namespaced(self.hub.clone(), &self.namespace);
        match api
            .patch_metadata(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(FleetError::hub("set the finalizers of", &name, source)),
        }
    }

    /// An Event, as well as it goes.
    async fn tell(&self, about: ObjectReference, type_: EventType, reason: &str, note: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            tracing::debug!(%error, reason, "an Event was not recorded");
        }
    }
}

/// Looks after the attached clusters and fleets of one namespace.
#[derive(Debug)]
pub struct FleetManager {
    context: Arc<Context>,
    connector: Arc<SecretConnector>,
    options: FleetOptions,
}

impl FleetManager {
    /// Starts to probe and engage every attached cluster of the namespace.
    ///
    /// # Caveats
    /// One process at a time may do this for a namespace: give it to the leader. Controllers that share members between
    /// replicas take their own [`Members`] over [`membership`](Self::membership).
    ///
    /// # Errors
    /// [`FleetError`] when the hub does not say who it is.
    pub async fn start(
        hub: Client,
        namespace: &str,
        options: FleetOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FleetError> {
        let namespaces: Api<Namespace> = Api::all(hub.clone());
        let identity = namespaces
            .get_metadata("kube-system")
            .await
            .map_err(|source| FleetError::hub("read namespace", "kube-system", source))?;
        let identity = identity.uid().ok_or(FleetError::HubIdentity)?;
        let fleets = Arc::new(FleetMembership::watch(&hub, namespace));
        let connector =
            SecretConnector::new(hub.clone(), Arc::clone(&fleets)).with_policy(options.kubeconfigs.clone());
        let connector = Arc::new(connector);
        let (membership, connect) = (Arc::clone(&fleets), Arc::clone(&connector));
        let members = Members::start(membership, connect, None, None, options.members, &clock);
        let cleaner = options
            .cleaner
            .clone()
            .unwrap_or_else(|| Arc::new(PlacedObjects::new(identity)));
        let reporter = Reporter {
            controller: "kurator-fleet".to_owned(),
            instance: None,
        };
        let recorder = Recorder::new(hub.clone(), reporter);
        let namespace = namespace.to_owned();
        let context = Arc::new(Context {
            hub,
            namespace,
            fleets,
            members,
            cleaner,
            recorder,
            clock,
        });
        Ok(Self {
            context,
            connector,
            options,
        })
    }

    /// Who is in which fleet.
    #[must_use]
    pub fn membership(&self) -> Arc<FleetMembership> {
        Arc::clone(&self.context.fleets)
    }

    /// The way to the members.
    #[must_use]
    pub fn connector(&self) -> Arc<SecretConnector> {
        Arc::clone(&self.connector)
    }

    /// The members, engaged and not.
    #[must_use]
    pub fn members(&self) -> Members {
        self.context.members.clone()
    }

    /// Runs the controllers until `stop` resolves.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        let Context { hub, namespace, .. } = &*self.context;
        let clusters: Api<AttachedCluster> = Api::namespaced(hub.clone(), namespace);
        let fleets: Api<Fleet> = Api::namespaced(hub.clone(), namespace);
        let (store, writer) = reflector::store();
        let (changed, woken) = tokio::sync::watch::channel(0_u64);
        let reflecting = watcher(clusters.clone(), watcher::Config::default())
            .default_backoff()
            .reflect(writer)
            .touched_objects()
            .for_each(|_| {
                changed.send_modify(|revision| *revision += 1);
                std::future::ready(())
            });
        let attached = Controller::new(clusters, watcher::Config::default())
            .with_config(controller::Config::default().concurrency(16))
            .reconcile_all_on(gathered(self.context.members.changes()))
            .run(attached::reconcile, retry, Arc::clone(&self.context))
            .for_each(|_| std::future::ready(()));
        let fleet_context = Arc::new(FleetContext {
            shared: Arc::clone(&self.context),
            clusters: store,
        });
        let fleet = Controller::new(fleets, watcher::Config::default())
            .with_config(controller::Config::default().concurrency(4))
            .reconcile_all_on(gathered(woken))
            .run(fleet::reconcile, retry, fleet_context)
            .for_each(|_| std::future::ready(()));
        let graves = tombstone::run(
            hub.clone(),
            namespace.clone(),
            Arc::clone(&self.context.fleets),
            Arc::clone(&self.context.cleaner),
            self.options.kubeconfigs.clone(),
            self.options.members,
            Arc::clone(&self.context.clock),
        );
        tokio::select! {
            () = attached => {}
            () = fleet => {}
            () = reflecting => {}
            () = graves => {}
            () = stop => {}
        }
    }
}

/// One item for all changes that come close together.
fn gathered(
    changes: tokio::sync::watch::Receiver<u64>,
) -> impl futures::Stream<Item = ()> + Send + Sync + 'static {
    futures::stream::unfold(changes, |mut changes| async move {
        changes.changed().await.ok()?;
        tokio::time::sleep(GATHER).await;
        changes.mark_unchanged();
        Some(((), changes))
    })
}

fn retry<K, C>(object: Arc<K>, error: &FleetError, _: Arc<C>) -> Action
where
    K: Resource,
    K::DynamicType: Default,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    tracing::warn!(
        kind,
        name = object.name_any(),
        error = error as &dyn std::error::Error,
        "will be tried again"
    );
    Action::requeue(Duration::from_secs(5))
}
