//! The fleet manager: everything that looks after the clusters and fleets of one namespace.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::controller::{self, Action};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector;
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use kurator_core::clock::Clock;
use kurator_core::connect::SecretConnector;
use kurator_core::membership::Membership;
use kurator_core::multicluster::shard::{ShardOptions, Shards};
use kurator_core::multicluster::{CloudNodes, Members};
use tokio::sync::watch;

use super::context::{Context, Versions};
use super::fleet::FleetContext;
use super::{FleetError, FleetOptions, MemberCleaner, PlacedObjects, attached, fleet, identity, tombstone};
use crate::api::{AttachedCluster, Fleet};
use crate::membership::FleetMembership;

/// Changes of members are gathered for so long.
const GATHER: Duration = Duration::from_millis(200);
/// The name by which replicas find one another, and that Events are reported under.
const NAME: &str = "kurator-fleet";

/// Looks after the clusters and fleets of one namespace.
pub struct FleetManager {
    hub: Client,
    namespace: String,
    fleets: Arc<FleetMembership>,
    connector: Arc<SecretConnector>,
    members: Members,
    cleaner: Arc<dyn MemberCleaner>,
    clock: Arc<dyn Clock>,
    options: FleetOptions,
    shards: Option<Shards>,
    _nodes: CloudNodes,
}

impl fmt::Debug for FleetManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetManager")
            .field("namespace", &self.namespace)
            .field("members", &self.members)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl FleetManager {
    /// Starts to probe and engage every cluster of the namespace; with
    /// [`with_replica`](FleetOptions::with_replica), as soon and as long as this replica leads.
    ///
    /// # Caveats
    /// Without a replica's name one process at a time may do this for a namespace.
    ///
    /// # Errors
    /// [`FleetError`] when the hub does not say who it is, or the replica's name cannot be that of a Lease.
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
        let shards = match &options.replica {
            None => None,
            Some(replica) => {
                // A single shard: whoever has it leads.
                let shared = ShardOptions::default()
                    .with_shards(1)
                    .with_lease_seconds(options.lease_seconds);
                let (hub, replica) = (hub.clone(), replica.clone());
                let joined = Shards::join(hub, namespace, NAME, replica, shared, Arc::clone(&clock));
                Some(joined.map_err(|source| FleetError::Replicas {
                    namespace: namespace.to_owned(),
                    source,
                })?)
            }
        };
        let (membership, connect) = (Arc::clone(&fleets), Arc::clone(&connector));
        let members = Members::start(
            membership,
            connect,
            None,
            shards.as_ref(),
            options.members,
            &clock,
        );
        let cleaner = options
            .cleaner
            .clone()
            .unwrap_or_else(|| Arc::new(PlacedObjects::new(identity)));
        Ok(Self {
            hub,
            namespace: namespace.to_owned(),
            fleets,
            connector,
            _nodes: CloudNodes::watch(&members),
            members,
            cleaner,
            clock,
            options,
            shards,
        })
    }

    /// Who is in which fleet.
    #[must_use]
    pub fn membership(&self) -> Arc<FleetMembership> {
        Arc::clone(&self.fleets)
    }

    /// The way to the members.
    #[must_use]
    pub fn connector(&self) -> Arc<SecretConnector> {
        Arc::clone(&self.connector)
    }

    /// The members, engaged and not; of several replicas only the leader has any.
    #[must_use]
    pub fn members(&self) -> Members {
        self.members.clone()
    }

    /// Runs the controllers until `stop` resolves, of several replicas in the one that leads.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        let Some(shards) = &self.shards else {
            tokio::select! {
                () = self.lead(self.hub.clone()) => {}
                () = stop => {}
            }
            return;
        };
        let mut owned = shards.owned();
        let led = async {
            loop {
                let leads = |owned: &kurator_core::multicluster::shard::OwnedShards| owned.leadership();
                let Ok(fence) = owned
                    .wait_for(|owned| leads(owned).is_some())
                    .await
                    .map(|owned| leads(&owned))
                else {
                    return;
                };
                if let Some(fence) = fence {
                    tracing::info!(namespace = %self.namespace, epoch = fence.epoch(), "leads");
                    fence.run(self.lead(fence.guard(self.hub.clone()))).await;
                    tracing::info!(namespace = %self.namespace, epoch = fence.epoch(), "does not lead any more");
                }
            }
        };
        tokio::select! {
            () = led => {}
            () = stop => {}
        }
        if let Some(shards) = self.shards {
            shards.close().await;
        }
    }

    /// All the controllers, writing to the hub by `hub`.
    async fn lead(&self, hub: Client) {
        let reporter = Reporter {
            controller: NAME.to_owned(),
            instance: self.options.replica.as_ref().map(ToString::to_string),
        };
        let context = Arc::new(Context {
            recorder: Recorder::new(hub.clone(), reporter),
            hub,
            namespace: self.namespace.clone(),
            fleets: Arc::clone(&self.fleets),
            members: self.members.clone(),
            cleaner: Arc::clone(&self.cleaner),
            clock: Arc::clone(&self.clock),
            versions: Versions::default(),
        });
        let clusters: Api<AttachedCluster> = Api::namespaced(context.hub.clone(), &self.namespace);
        let fleets: Api<Fleet> = Api::namespaced(context.hub.clone(), &self.namespace);
        let (store, writer) = reflector::store();
        let (changed, woken) = watch::channel(0_u64);
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
            .reconcile_all_on(gathered(self.members.changes()))
            .run(attached::reconcile, retry, Arc::clone(&context))
            .for_each(|_| std::future::ready(()));
        let fleet_context = Arc::new(FleetContext {
            shared: Arc::clone(&context),
            attached: store,
        });
        let fleet = Controller::new(fleets, watcher::Config::default())
            .with_config(controller::Config::default().concurrency(4))
            .reconcile_all_on(gathered(woken))
            .reconcile_all_on(gathered(self.members.changes()))
            .reconcile_all_on(gathered(self.fleets.changes()))
            .run(fleet::reconcile, retry, fleet_context)
            .for_each(|_| std::future::ready(()));
        let graves = tombstone::run(
            Arc::clone(&context),
            self.options.kubeconfigs.clone(),
            self.options.members,
        );
        tokio::select! {
            () = attached => {}
            () = fleet => {}
            () = reflecting => {}
            () = graves => {}
            () = identity::run(context) => {}
        }
    }
}

/// One item for all changes that come close together.
fn gathered(changes: watch::Receiver<u64>) -> impl futures::Stream<Item = ()> + Send + Sync + 'static {
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
