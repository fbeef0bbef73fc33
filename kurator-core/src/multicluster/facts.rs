//! What is known of every engaged member: version, APIs, nodes, and what is free on them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::discovery::Discovery;
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::engaged::EngagedMember;
use super::members::Members;
use crate::health::{NodeHealth, cloud_nodes};
use crate::names::ClusterName;
use crate::observe::{ApiSet, ClusterView, Health, ObserveError};

/// How often version and APIs are asked for again.
const REFRESH: Duration = Duration::from_secs(600);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(10);

/// Observes every engaged member into a [`ClusterView`].
///
/// Nodes and pods follow a watch each, trimmed to what views are made of; version and APIs are asked for when a member
/// engages and every ten minutes. What the nodes say goes into the member's health: it is not ready when it has cloud
/// nodes and none of them is.
///
/// # RBAC
/// On the member: `list` and `watch` of `nodes` and `pods`, and discovery.
pub struct Facts {
    members: Members,
    known: Known,
    _observing: DropGuard,
}

type Known = Arc<Mutex<BTreeMap<ClusterName, Fact>>>;

#[derive(Clone)]
struct Fact {
    nodes: Store<Node>,
    pods: Store<Pod>,
    served: Option<(String, ApiSet)>,
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl Facts {
    /// Starts to observe, in background tasks of the current runtime, until the value is dropped.
    #[must_use]
    pub fn start(members: Members) -> Self {
        let (known, stop) = (Known::default(), CancellationToken::new());
        let (writing, stopped, engaged) = (Arc::clone(&known), stop.clone(), members.engaged());
        tokio::spawn(async move { stopped.run_until_cancelled(on_members(engaged, writing)).await });
        Self {
            members,
            known,
            _observing: stop.drop_guard(),
        }
    }

    /// What is known of a member now: everything once its first lists are in, and only name, labels and health before
    /// that and when it is not engaged. `None` when it is not looked after here.
    ///
    /// # Errors
    /// [`ObserveError`] when a node or pod carries an amount that is no quantity.
    pub fn view(&self, name: &ClusterName) -> Result<Option<ClusterView>, ObserveError> {
        let Some(status) = self.members.status(name) else {
            return Ok(None);
        };
        let mut view = ClusterView::new(name.clone());
        view.health = Health {
            status: status.health.health,
            reason: Some(status.health.reason.as_str().to_owned()),
            since: status.health.since,
        };
        if let Some(member) = self.members.get(name) {
            view.labels = member.labels();
        }
        let Some(fact) = lock(&self.known).get(name).cloned() else {
            return Ok(Some(view));
        };
        if let Some((version, apis)) = fact.served {
            view = view.with_version(version).with_apis(apis);
        }
        let (nodes, pods) = (fact.nodes.state(), fact.pods.state());
        let listed = [is_ready(&fact.nodes), is_ready(&fact.pods)];
        if listed == [true, true] {
            view =
                view.with_observed_nodes(nodes.iter().map(AsRef::as_ref), pods.iter().map(AsRef::as_ref))?;
        }
        Ok(Some(view))
    }
}

fn lock(known: &Known) -> MutexGuard<'_, BTreeMap<ClusterName, Fact>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_ready<K>(store: &Store<K>) -> bool
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    futures::FutureExt::now_or_never(store.wait_until_ready()).is_some_and(|ready| ready.is_ok())
}

async fn on_members(mut engaged: tokio::sync::watch::Receiver<super::Engaged>, known: Known) {
    let mut running = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let now = Arc::clone(&engaged.borrow_and_update());
        for (name, member) in now.iter() {
            if running.contains_key(name) {
                continue;
            }
            running.insert(name.clone(), ());
            let (observed, known, name) = (Arc::clone(member), Arc::clone(&known), name.clone());
            tasks.spawn(member.work.track_future(async move {
                tokio::select! {
                    biased;
                    () = observed.left() => {}
                    () = observe(&observed, &known) => {}
                }
                lock(&known).remove(&name);
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

async fn observe(member: &EngagedMember, known: &Known) {
    let (nodes, write_nodes) = store();
    let (pods, write_pods) = store();
    let fact = Fact {
        nodes: nodes.clone(),
        pods,
        served: None,
    };
    lock(known).insert(member.name().clone(), fact);
    let config = watcher::Config::default;
    let watch_nodes = watcher(Api::<Node>::all(member.client()), config())
        .default_backoff()
        .modify(trim_node)
        .reflect(write_nodes)
        .for_each(|_| {
            member.report_nodes(cloud_nodes(
                nodes.state().iter().map(|node| NodeHealth::from(node.as_ref())),
            ));
            std::future::ready(())
        });
    let watch_pods = watcher(Api::<Pod>::all(member.client()), config())
        .default_backoff()
        .modify(trim_pod)
        .reflect(write_pods)
        .for_each(|_| std::future::ready(()));
    let ask = async {
        loop {
            let pause = match served(member.client()).await {
                Ok(served) => {
                    if let Some(fact) = lock(known).get_mut(member.name()) {
                        fact.served = Some(served);
                    }
                    REFRESH
                }
                Err(error) => {
                    tracing::debug!(cluster = %member.name(), %error, "version and APIs are asked for again");
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    tokio::join!(watch_nodes, watch_pods, ask);
}

async fn served(client: Client) -> Result<(String, ApiSet), kube::Error> {
    let version = client.apiserver_version().await?.git_version;
    let discovery = Discovery::new(client).run_aggregated().await?;
    let mut apis = ApiSet::complete();
    for group in discovery.groups() {
        for served in group.versions() {
            for (resource, _) in group.versioned_resources(served) {
                apis.insert(resource.api_version, resource.kind);
            }
        }
    }
    Ok((version, apis))
}

/// Drops what no view is made of; a node's image list alone is tens of kilobytes.
fn trim_node(node: &mut Node) {
    node.managed_fields_mut().clear();
    node.annotations_mut().clear();
    if let Some(status) = &mut node.status {
        status.images = None;
        status.volumes_attached = None;
        status.volumes_in_use = None;
        status.node_info = None;
    }
}

fn trim_pod(pod: &mut Pod) {
    pod.managed_fields_mut().clear();
    pod.annotations_mut().clear();
    pod.labels_mut().clear();
    if let Some(spec) = &mut pod.spec {
        spec.volumes = None;
        spec.affinity = None;
        for container in spec
            .containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten())
        {
            container.env = None;
            container.args = None;
            container.command = None;
            container.volume_mounts = None;
            container.liveness_probe = None;
            container.readiness_probe = None;
            container.startup_probe = None;
        }
    }
}
