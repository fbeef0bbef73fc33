//! Who is in which fleet, from the `Fleet` and `AttachedCluster` objects of a namespace.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use kurator_core::health::ClusterUid;
use kurator_core::kubeconfig::KubeconfigRef;
use kurator_core::membership::{HubMirror, Member, Membership, MembershipError};
use kurator_core::names::{ClusterName, FleetName, NamespacedName};
use kurator_core::selector::LabelMatcher;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::{AttachedCluster, Fleet, MemberKind};

/// The attached clusters of a namespace, and the fleets they are in.
///
/// Without a fleet, everything that is registered is a member, also what is about to leave: it must still be reached.
/// With one, only those that stay: a fleet that is being deleted has none.
#[derive(Debug)]
pub struct FleetMembership {
    namespace: String,
    clusters: HubMirror<Registered>,
    fleets: HubMirror<Selected>,
    changes: watch::Sender<u64>,
    _forwarding: Vec<DropGuard>,
}

#[derive(Clone, Debug, PartialEq)]
struct Registered {
    member: Member,
    leaving: bool,
}

/// Which clusters a fleet asks for.
#[derive(Clone, Debug, PartialEq)]
struct Selected {
    names: BTreeSet<String>,
    selector: Option<LabelSelector>,
    leaving: bool,
}

impl Selected {
    fn has(&self, registered: &Registered) -> bool {
        let by_label = || {
            let selector = self.selector.as_ref();
            let matcher = selector.and_then(|selector| LabelMatcher::compile(selector).ok());
            matcher.is_some_and(|matcher| matcher.matches(&registered.member.labels))
        };
        !self.leaving
            && !registered.leaving
            && (self.names.contains(registered.member.name.as_str()) || by_label())
    }
}

impl FleetMembership {
    /// Watches the fleets and attached clusters of a namespace of the hub. Call within a tokio runtime.
    ///
    /// # RBAC
    /// `fleets.fleet.kurator.dev` and `attachedclusters.cluster.kurator.dev` in the namespace: `list`, `watch`.
    #[must_use]
    pub fn watch(hub: &Client, namespace: &str) -> Self {
        let clusters: Api<AttachedCluster> = Api::namespaced(hub.clone(), namespace);
        let fleets: Api<Fleet> = Api::namespaced(hub.clone(), namespace);
        let clusters = HubMirror::watch(clusters, watcher::Config::default(), registered);
        let fleets = HubMirror::watch(fleets, watcher::Config::default(), |fleet: &Fleet| {
            Some(selected(fleet))
        });
        let changes = watch::Sender::new(0);
        let forwarding = [clusters.changes(), fleets.changes()].map(|mut source| {
            let (changes, stop) = (changes.clone(), CancellationToken::new());
            let stopped = stop.clone();
            tokio::spawn(async move {
                while let Some(Ok(())) = stopped.run_until_cancelled(source.changed()).await {
                    changes.send_modify(|revision: &mut u64| *revision += 1);
                }
            });
            stop.drop_guard()
        });
        Self {
            namespace: namespace.to_owned(),
            clusters,
            fleets,
            changes,
            _forwarding: forwarding.into(),
        }
    }

    /// Whether any fleet, other than `besides`, has the cluster with this identity.
    pub(crate) fn in_a_fleet(&self, uid: &ClusterUid, besides: Option<&str>) -> Option<bool> {
        let (clusters, fleets) = (self.clusters.entries()?, self.fleets.entries()?);
        let mut registered = clusters
            .values()
            .filter(|cluster| cluster.member.uid.as_ref() == Some(uid));
        Some(registered.any(|cluster| {
            fleets
                .iter()
                .any(|((_, name), fleet)| besides != Some(name.as_str()) && fleet.has(cluster))
        }))
    }

    fn read(&self) -> Result<BTreeMap<(String, String), Registered>, MembershipError> {
        let unread = || MembershipError::Unavailable {
            source: "the hub has not been read yet".into(),
        };
        self.clusters.entries().ok_or_else(unread)
    }
}

fn registered(cluster: &AttachedCluster) -> Option<Registered> {
    let name: ClusterName = cluster.name_any().parse().ok()?;
    let secret = NamespacedName::new(
        cluster.namespace().unwrap_or_default(),
        cluster.spec.kubeconfig.name.clone(),
    );
    let kubeconfig = KubeconfigRef::new(secret).with_key(cluster.spec.kubeconfig.key.clone());
    let mut member = Member::new(name).with_kubeconfig(kubeconfig);
    member.labels = cluster.cluster_labels();
    member.uid = cluster
        .status
        .as_ref()
        .and_then(|status| status.cluster_uid.clone())
        .map(ClusterUid::new);
    Some(Registered {
        member,
        leaving: cluster.metadata.deletion_timestamp.is_some(),
    })
}

fn selected(fleet: &Fleet) -> Selected {
    let attached = fleet
        .spec
        .clusters
        .iter()
        .filter(|member| member.kind == MemberKind::AttachedCluster);
    Selected {
        names: attached.map(|member| member.name.clone()).collect(),
        selector: fleet.spec.cluster_selector.clone(),
        leaving: fleet.metadata.deletion_timestamp.is_some(),
    }
}

#[async_trait]
impl Membership for FleetMembership {
    async fn members(&self, fleet: Option<&FleetName>) -> Result<Vec<Member>, MembershipError> {
        let clusters = self.read()?;
        let Some(fleet) = fleet else {
            return Ok(clusters.into_values().map(|cluster| cluster.member).collect());
        };
        if self.fleets.entries().is_none() {
            return Err(MembershipError::Unavailable {
                source: "the fleets have not been read yet".into(),
            });
        }
        let Some(selected) = self.fleets.get(&self.namespace, fleet.as_str()) else {
            return Err(MembershipError::FleetNotFound { fleet: fleet.clone() });
        };
        let members = clusters.into_values().filter(|cluster| selected.has(cluster));
        Ok(members.map(|cluster| cluster.member).collect())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
