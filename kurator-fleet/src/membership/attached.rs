//! Attached clusters as members.

use kube::{Api, Client, ResourceExt, runtime::watcher};
use kurator_core::{
    health::ClusterUid,
    kubeconfig::KubeconfigRef,
    membership::{HubMembership, Member},
    names::{ClusterName, NamespacedName},
};

use crate::api::AttachedCluster;

/// Every [`AttachedCluster`] of the hub, in whatever namespace, is a member of the name it bears; of two with one name
/// the one whose namespace comes first counts. One whose name is no cluster name (longer than 63 characters, or with a
/// dot in it) is none.
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

/// The member that an attached cluster describes.
fn member(cluster: &AttachedCluster) -> Option<Member> {
    let name = match cluster.name_any().parse::<ClusterName>() {
        Ok(name) => name,
        Err(error) => {
            tracing::warn!(cluster = %cluster.name_any(), %error, "an attached cluster cannot be a member");
            return None;
        }
    };
    let secret = &cluster.spec.kubeconfig;
    let place = NamespacedName::new(cluster.namespace().unwrap_or_default(), &secret.name);
    let mut member = Member::new(name).with_kubeconfig(KubeconfigRef::new(place).with_key(&secret.key));
    for (key, value) in cluster.cluster_labels() {
        member = member.with_label(key, value);
    }
    let status = cluster.status.as_ref();
    member.uid = status
        .and_then(|status| status.cluster_uid.clone())
        .map(ClusterUid::new);
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
    fn a_name_that_is_no_cluster_name_makes_no_member() {
        assert_eq!(member(&cluster("east.example")), None);
    }
}
