//! Who is in which fleet, from the `Fleet`, `AttachedCluster` and `Cluster` objects of a namespace.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use kurator_core::health::ClusterUid;
use kurator_core::kubeconfig::KubeconfigRef;
use kurator_core::membership::{HubMirror, Member, Membership, MembershipError, MergedChanges};
use kurator_core::names::{ClusterName, FleetName, NamespacedName};
use kurator_core::selector::LabelMatcher;
use tokio::sync::watch;

use super::attached::described;
use crate::api::{AttachedCluster, Cluster, Fleet, MemberKind};

/// The clusters of a namespace, attached or managed, and the fleets they are in.
///
/// A `Cluster` is reached by the kubeconfig that Cluster API writes for it: the Secret `<name>-kubeconfig`, key `value`.
/// An `AttachedCluster` names its Secret; it counts before a `Cluster` of the same name.
///
/// Without a fleet, everything that is registered is a member, also what is about to leave: it must still be reached.
/// With one, only those that stay: a fleet that is being deleted has none.
#[derive(Debug)]
pub struct FleetMembership {
    namespace: String,
    attached: HubMirror<Registered>,
    managed: HubMirror<Registered>,
    fleets: HubMirror<Selected>,
    changes: MergedChanges,
}

/// A cluster as it is registered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Registered {
    pub(crate) member: Member,
    pub(crate) kind: MemberKind,
    leaving: bool,
}

/// Which clusters a fleet asks for.
#[derive(Clone, Debug, PartialEq)]
struct Selected {
    names: BTreeSet<(MemberKind, String)>,
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
        let named = (registered.kind, registered.member.name.to_string());
        !self.leaving && !registered.leaving && (self.names.contains(&named) || by_label())
    }
}

impl FleetMembership {
    /// Watches the fleets and clusters of a namespace of the hub. Call within a tokio runtime.
    ///
    /// # RBAC
    /// `fleets.fleet.kurator.dev`, `attachedclusters.cluster.kurator.dev` and `clusters.cluster.kurator.dev` in the
    /// namespace: `list`, `watch`.
    #[must_use]
    pub fn watch(hub: &Client, namespace: &str) -> Self {
        let attached: Api<AttachedCluster> = Api::namespaced(hub.clone(), namespace);
        let managed: Api<Cluster> = Api::namespaced(hub.clone(), namespace);
        let fleets: Api<Fleet> = Api::namespaced(hub.clone(), namespace);
        let attached = HubMirror::watch(attached, watcher::Config::default(), |cluster| {
            registered_as(MemberKind::AttachedCluster, described(cluster)?, cluster)
        });
        let managed = HubMirror::watch_if_served(managed, watcher::Config::default(), |cluster| {
            registered_as(MemberKind::Cluster, managed_member(cluster)?, cluster)
        });
        let fleets = HubMirror::watch(fleets, watcher::Config::default(), |fleet: &Fleet| {
            Some(selected(fleet))
        });
        let changes = MergedChanges::of([attached.changes(), managed.changes(), fleets.changes()]);
        Self {
            namespace: namespace.to_owned(),
            attached,
            managed,
            fleets,
            changes,
        }
    }

    /// Whether any fleet, other than `besides`, has the cluster with this identity.
    pub(crate) fn in_a_fleet(&self, uid: &ClusterUid, besides: Option<&str>) -> Option<bool> {
        let (clusters, fleets) = (self.registered()?, self.fleets.entries()?);
        let mut those = clusters
            .values()
            .filter(|cluster| cluster.member.uid.as_ref() == Some(uid));
        Some(those.any(|cluster| {
            fleets
                .iter()
                .any(|((_, name), fleet)| besides != Some(name.as_str()) && fleet.has(cluster))
        }))
    }

    /// Whether the cluster with this identity is registered, and is not about to leave.
    pub(crate) fn is_registered(&self, uid: &ClusterUid) -> Option<bool> {
        let clusters = self.registered()?;
        Some(
            clusters
                .values()
                .any(|cluster| cluster.member.uid.as_ref() == Some(uid) && !cluster.leaving),
        )
    }

    /// Everything that is registered, by the name of the member; `None` before all of it has been read.
    fn registered(&self) -> Option<BTreeMap<ClusterName, Registered>> {
        let (attached, managed) = (self.attached.entries()?, self.managed.entries()?);
        let mut all = BTreeMap::new();
        for cluster in attached.into_values().chain(managed.into_values()) {
            all.entry(cluster.member.name.clone()).or_insert(cluster);
        }
        Some(all)
    }

    /// The clusters of kind `Cluster`, those too whose name an attached cluster has.
    pub(crate) fn managed(&self) -> Option<Vec<Registered>> {
        Some(self.managed.entries()?.into_values().collect())
    }

    fn read(&self) -> Result<BTreeMap<ClusterName, Registered>, MembershipError> {
        self.registered().ok_or_else(|| MembershipError::Unavailable {
            source: "the hub has not been read yet".into(),
        })
    }
}

fn registered_as(kind: MemberKind, member: Member, object: &impl ResourceExt) -> Option<Registered> {
    Some(Registered {
        member,
        kind,
        leaving: object.meta().deletion_timestamp.is_some(),
    })
}

fn managed_member(cluster: &Cluster) -> Option<Member> {
    let name = cluster.name_any();
    let mut member = Member::new(name.parse::<ClusterName>().ok()?);
    let secret = NamespacedName::new(
        cluster.namespace().unwrap_or_default(),
        format!("{name}-kubeconfig"),
    );
    member.kubeconfig = Some(KubeconfigRef::new(secret).with_key("value"));
    member.labels = cluster.labels().clone();
    member.provider = Some(cluster.spec.infrastructure.cloud_provider.clone());
    member.region.clone_from(&cluster.spec.infrastructure.region);
    let status = cluster.status.as_ref();
    member.uid = status
        .and_then(|status| status.cluster_uid.clone())
        .map(ClusterUid::new);
    Some(member)
}

fn selected(fleet: &Fleet) -> Selected {
    let members = fleet.spec.clusters.iter();
    Selected {
        names: members.map(|member| (member.kind, member.name.clone())).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "east", "namespace": "fleet", "labels": {"tier": "gold"}},
            "spec": {
                "infrastructure": {"cloudProvider": "aws", "region": "us-west-2"},
                "workerNodes": {"count": 3},
            },
            "status": {"clusterUid": "6f1c"},
        }))
        .unwrap()
    }

    #[test]
    fn a_managed_cluster_is_reached_by_the_secret_that_cluster_api_writes() {
        let member = managed_member(&cluster()).unwrap();
        let kubeconfig = member.kubeconfig.unwrap();
        assert_eq!(kubeconfig.secret, NamespacedName::new("fleet", "east-kubeconfig"));
        assert_eq!(kubeconfig.key.as_deref(), Some("value"));
        assert_eq!(
            (member.provider.as_deref(), member.region.as_deref()),
            (Some("aws"), Some("us-west-2"))
        );
        assert_eq!(member.uid, Some(ClusterUid::new("6f1c")));
    }

    #[test]
    fn a_fleet_tells_clusters_of_one_name_apart_by_their_kind() {
        let fleet: Fleet = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "shop"}, "spec": {"clusters": [{"name": "east", "kind": "Cluster"}]},
        }))
        .unwrap();
        let of_kind = |kind| registered_as(kind, managed_member(&cluster()).unwrap(), &cluster()).unwrap();
        assert!(selected(&fleet).has(&of_kind(MemberKind::Cluster)));
        assert!(!selected(&fleet).has(&of_kind(MemberKind::AttachedCluster)));
    }
}
