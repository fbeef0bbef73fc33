//! Attached clusters as members.

use kube::{Api, Client, ResourceExt, runtime::watcher};
use kurator_core::{
    condition::READY,
    health::ClusterUid,
    kubeconfig::KubeconfigRef,
    membership::{HubMembership, Member},
    names::{ClusterName, NamespacedName},
};

use crate::api::AttachedCluster;

/// Every [`AttachedCluster`] of the hub, in whatever namespace, is a member of the name it bears; of two with one name
/// the one whose namespace comes first counts. One whose name is no cluster name (longer than 63 characters, or with a
/// dot in it) is none, and neither is one that is being removed: what is taken off it must not be put there again.
///
/// Call within a tokio runtime; dropping the value ends the watch.
///
/// # RBAC
/// On the hub: list and watch `attachedclusters`.
#[must_use]
pub fn attached_clusters(hub: &Client) -> HubMembership {
    HubMembership::watch(
        Api::<AttachedCluster>::all(hub.clone()),
        watcher::Config::default(),
        member,
    )
}

fn member(cluster: &AttachedCluster) -> Option<Member> {
    if cluster.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let member = described(cluster);
    if member.is_none() {
        tracing::warn!(cluster = %cluster.name_any(), "an attached cluster of this name cannot be a member");
    }
    member
}

/// The member that an attached cluster describes; none if its name cannot be that of a member.
pub(super) fn described(cluster: &AttachedCluster) -> Option<Member> {
    let name = cluster.name_any().parse::<ClusterName>().ok()?;
    let secret = &cluster.spec.kubeconfig;
    let place = NamespacedName::new(cluster.namespace().unwrap_or_default(), &secret.name);
    let mut member = Member::new(name).with_kubeconfig(KubeconfigRef::new(place).with_key(&secret.key));
    member.labels = cluster.cluster_labels();
    member.provider.clone_from(&cluster.spec.provider);
    member.region.clone_from(&cluster.spec.region);
    member.zones = cluster.spec.zones.iter().cloned().collect();
    // The schema lets no other effect through than those that are known.
    member.taints = cluster
        .spec
        .taints
        .iter()
        .filter_map(|taint| taint.try_into().ok())
        .collect();
    member.taints.sort_unstable();
    if let Some(status) = &cluster.status {
        member.uid = status.cluster_uid.clone().map(ClusterUid::new);
        let ready = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == READY && condition.status == "True");
        member.ready_since = ready.map(|condition| condition.last_transition_time.0);
    }
    Some(member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AttachedClusterSpec, SecretKeyReference};

    fn cluster(name: &str) -> AttachedCluster {
        let kubeconfig = SecretKeyReference {
            name: "secret".into(),
            key: "value".into(),
        };
        let mut cluster = AttachedCluster::new(
            name,
            AttachedClusterSpec {
                kubeconfig,
                ..AttachedClusterSpec::default()
            },
        );
        cluster.metadata.namespace = Some("fleet".into());
        cluster
    }

    #[test]
    fn a_member_has_the_name_the_labels_and_the_secret_of_its_registration() {
        let mut registration = cluster("east");
        registration.spec.labels = [("tier".into(), "gold".into())].into();
        let secret = KubeconfigRef::new(NamespacedName::new("fleet", "secret")).with_key("value");
        let expected = Member::new("east".parse().unwrap())
            .with_kubeconfig(secret)
            .with_label("tier", "gold");
        assert_eq!(member(&registration), Some(expected));
    }

    #[test]
    fn a_cluster_that_is_being_removed_is_no_member_to_place_anything_on() {
        let mut leaving = cluster("east");
        assert!(member(&leaving).is_some());
        leaving.metadata.deletion_timestamp = Some(serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap());
        assert_eq!(member(&leaving), None);
    }

    #[test]
    fn what_is_on_record_goes_with_the_member() {
        let mut registration = cluster("east");
        registration.spec.provider = Some("aws".into());
        registration.spec.zones = vec!["b".into(), "a".into()];
        let status = serde_json::json!({"clusterUid": "6f1c", "conditions": [{
            "type": "Ready", "status": "True", "reason": "ApiServerReady", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]});
        registration.status = Some(serde_json::from_value(status).unwrap());
        let member = member(&registration).unwrap();
        assert_eq!(member.uid, Some(ClusterUid::new("6f1c")));
        assert_eq!(member.ready_since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        let view = member.view();
        assert_eq!(view.provider.as_deref(), Some("aws"));
        assert!(view.zones.iter().eq(["a", "b"]));
    }

    #[test]
    fn a_name_that_is_no_cluster_name_makes_no_member() {
        assert_eq!(member(&cluster("east.example")), None);
    }
}
