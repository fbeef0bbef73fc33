//! What is known of every engaged member: version, APIs, nodes, and what is free on them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::discovery::Discovery;
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::{Notify, watch};
use tokio_util::sync::DropGuard;

use super::cut_off::{CutOffPod, OFFLINE, cut_off, cut_off_since, is_about_autonomy};
use super::each::on_each;
use super::engaged::EngagedMember;
use super::members::Members;
use crate::health::{NodeHealth, cloud_nodes};
use crate::names::ClusterName;
use crate::observe::{ApiSet, ClusterView, Health, ObserveError, PodOwner, TEMPLATE_HASH};

/// How often version and APIs are asked for again.
const REFRESH: Duration = Duration::from_secs(600);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(10);
/// How soon after a definition changed.
const GATHER: Duration = Duration::from_millis(500);

/// Observes every engaged member into a [`ClusterView`].
///
/// Nodes and pods follow a watch each, trimmed to what views are made of; version and APIs are asked for when a member
/// engages, when a CustomResourceDefinition changes there, and every ten minutes. What the nodes say goes into the member's health: it is not ready when it has cloud
/// nodes and none of them is.
///
/// # RBAC
/// On the member: `list` and `watch` of `nodes` and `pods`, and discovery. What is not allowed stays unknown. Without
/// `list` and `watch` of `customresourcedefinitions`, new kinds are noticed every ten minutes only.
pub struct Facts {
    members: Members,
    known: Arc<Known>,
    _observing: DropGuard,
}

/// What has been observed so far, and who wants to hear of more.
struct Known {
    facts: Mutex<BTreeMap<ClusterName, Fact>>,
    changes: watch::Sender<u64>,
}

#[derive(Clone)]
struct Fact {
    nodes: Store<Node>,
    pods: Store<Pod>,
    served: Option<(String, ApiSet)>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterName, Fact>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|revision| *revision += 1);
    }
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
        let known = Arc::new(Known {
            facts: Mutex::default(),
            changes: watch::Sender::new(0),
        });
        let writing = Arc::clone(&known);
        let observing = on_each(&members, move |member| {
            let known = Arc::clone(&writing);
            Box::pin(async move { observe(&member, &known).await })
        });
        Self {
            members,
            known,
            _observing: observing,
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
        let registration = self.members.registration(name);
        let mut view = registration.map_or_else(|| ClusterView::new(name.clone()), |member| member.view());
        view.health = Health {
            status: status.health.health,
            reason: Some(status.health.reason.as_str().to_owned()),
            since: status.health.since,
        };
        let Some(fact) = self.known.lock().get(name).cloned() else {
            return Ok(Some(view));
        };
        if let Some((version, apis)) = fact.served {
            view = view.with_version(version).with_apis(apis);
        }
        if !(is_ready(&fact.nodes) && is_ready(&fact.pods)) {
            return Ok(Some(view));
        }
        let (nodes, pods) = (fact.nodes.state(), fact.pods.state());
        if view.provider.is_none() {
            view.provider = provider(nodes.iter().map(AsRef::as_ref));
        }
        view = view.with_observed_nodes(nodes.iter().map(AsRef::as_ref), pods.iter().map(AsRef::as_ref))?;
        Ok(Some(view))
    }

    /// The replicas on nodes of a member that cannot be reached, while the member itself can: nobody knows whether they
    /// run. Nothing while nodes and pods are not known.
    #[must_use]
    pub fn cut_off(&self, name: &ClusterName) -> Vec<CutOffPod> {
        let Some(fact) = self.known.lock().get(name).cloned() else {
            return Vec::new();
        };
        let nodes = fact.nodes.state();
        if nodes.iter().all(|node| cut_off_since(node).is_none()) {
            return Vec::new();
        }
        let pods = fact.pods.state();
        cut_off(nodes.iter().map(AsRef::as_ref), pods.iter().map(AsRef::as_ref))
    }

    /// How many replicas of each workload a member shows, counted in the pods that its view is made of; without those
    /// that end or have ended. What is counted here is in every [`Facts::view`] that is taken later, as long as it is
    /// there. `None` while the pods are not known.
    #[must_use]
    pub fn replicas(&self, name: &ClusterName) -> Option<BTreeMap<PodOwner, u32>> {
        let fact = self.known.lock().get(name).cloned()?;
        if !(is_ready(&fact.nodes) && is_ready(&fact.pods)) {
            return None;
        }
        let mut replicas: BTreeMap<PodOwner, u32> = BTreeMap::new();
        for owner in fact.pods.state().iter().filter_map(|pod| PodOwner::of(pod)) {
            let count = replicas.entry(owner).or_default();
            *count = count.saturating_add(1);
        }
        Some(replicas)
    }

    /// The version of a member's API server, once it has said so.
    #[must_use]
    pub fn version(&self, name: &ClusterName) -> Option<String> {
        let known = self.known.lock();
        known
            .get(name)
            .and_then(|fact| fact.served.as_ref())
            .map(|(version, _)| version.clone())
    }

    /// A counter that grows whenever a view may have become another. Several changes in a row may show as one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.known.changes.subscribe()
    }
}

/// The provider that all nodes name in `spec.providerID`, such as `aws` in `aws:///eu-west-1a/i-0abc`; none if they
/// name several.
fn provider<'a>(nodes: impl Iterator<Item = &'a Node>) -> Option<String> {
    let mut named = nodes
        .filter_map(|node| node.spec.as_ref()?.provider_id.as_deref())
        .map(|id| id.split_once("://").map(|(provider, _)| provider));
    let first = named.next()??;
    named.all(|other| other == Some(first)).then(|| first.to_owned())
}

fn is_ready<K>(store: &Store<K>) -> bool
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    futures::FutureExt::now_or_never(store.wait_until_ready()).is_some_and(|ready| ready.is_ok())
}

/// A member's place among what is known, given up when it is observed no more.
struct Registered<'a> {
    known: &'a Known,
    member: &'a EngagedMember,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.known.lock().remove(self.member.name());
        self.known.changed();
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
    known.lock().insert(member.name().clone(), fact);
    let _registered = Registered { known, member };
    let config = watcher::Config::default;
    let watch_nodes = watcher(Api::<Node>::all(member.client()), config())
        .default_backoff()
        .modify(trim_node)
        .reflect(write_nodes)
        .for_each(|event| {
            if is_news(&event) {
                member.report_nodes(cloud_nodes(
                    nodes.state().iter().map(|node| NodeHealth::from(node.as_ref())),
                ));
                known.changed();
            }
            std::future::ready(())
        });
    let watch_pods = watcher(Api::<Pod>::all(member.client()), config())
        .default_backoff()
        .modify(trim_pod)
        .reflect(write_pods)
        .for_each(|event| {
            if is_news(&event) {
                known.changed();
            }
            std::future::ready(())
        });
    let defined = Notify::new();
    let watch_definitions = watcher(
        Api::<PartialObjectMeta<CustomResourceDefinition>>::all(member.client()),
        config(),
    )
    .default_backoff()
    .for_each(|event| {
        if is_news(&event) {
            defined.notify_one();
        }
        std::future::ready(())
    });
    let ask = async {
        loop {
            let pause = match served(member.client()).await {
                Ok(served) => {
                    if let Some(fact) = known.lock().get_mut(member.name()) {
                        fact.served = Some(served);
                    }
                    known.changed();
                    REFRESH
                }
                Err(error) => {
                    tracing::debug!(cluster = %member.name(), %error, "version and APIs are asked for again");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Several in a row are one change, and a definition is served a moment after it was accepted.
                () = defined.notified() => tokio::time::sleep(GATHER).await,
            }
        }
    };
    tokio::join!(watch_nodes, watch_pods, watch_definitions, ask);
}

/// Whether the store is another after this event: a list that is under way changes nothing before it is complete.
fn is_news<K>(event: &watcher::Result<watcher::Event<K>>) -> bool {
    matches!(
        event,
        Ok(watcher::Event::InitDone | watcher::Event::Apply(_) | watcher::Event::Delete(_))
    )
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
    node.annotations_mut().retain(|key, _| is_about_autonomy(key));
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
    pod.labels_mut()
        .retain(|key, _| key == TEMPLATE_HASH || key == OFFLINE);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn node(provider_id: Option<&str>) -> Node {
        serde_json::from_value(serde_json::json!({"metadata": {}, "spec": {"providerID": provider_id}}))
            .unwrap()
    }

    #[test]
    fn a_provider_is_what_all_nodes_that_name_one_agree_on() {
        let of = |ids: &[Option<&str>]| {
            let nodes: Vec<Node> = ids.iter().map(|id| node(*id)).collect();
            provider(nodes.iter())
        };
        assert_eq!(
            of(&[Some("aws:///a/i-1"), None, Some("aws:///b/i-2")]).as_deref(),
            Some("aws")
        );
        assert_eq!(of(&[Some("aws:///a/i-1"), Some("gce://p/z/n")]), None);
        assert_eq!(of(&[None]), None);
    }
}
