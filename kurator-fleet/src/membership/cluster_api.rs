//! The clusters of Cluster API as members.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use kurator_core::kubeconfig::KubeconfigRef;
use kurator_core::membership::{HubMembership, Member};
use kurator_core::names::{ClusterName, NamespacedName};

/// Every Cluster API `Cluster` that `version` of `cluster.x-k8s.io` serves (`v1beta2`, say), in whatever namespace, is
/// a member of the name it bears.
///
/// Cluster API keeps the kubeconfig in the Secret `<cluster>-kubeconfig` under `value`; until it has written that, the
/// member is registered and its credentials are missing. Of two clusters with one name the one whose namespace comes
/// first counts; one whose name is no RFC 1123 label is none.
///
/// Call within a tokio runtime; dropping the value ends the watch.
///
/// # RBAC
/// On the hub: list and watch `clusters.cluster.x-k8s.io`.
#[must_use]
pub fn cluster_api_clusters(hub: &Client, version: &str) -> HubMembership {
    let kind = GroupVersionKind::gvk("cluster.x-k8s.io", version, "Cluster");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clusters");
    let api: Api<DynamicObject> = Api::all_with(hub.clone(), &resource);
    HubMembership::watch(api, watcher::Config::default(), member)
}

fn member(cluster: &DynamicObject) -> Option<Member> {
    let name = cluster.name_any();
    let member = Member::new(name.parse::<ClusterName>().ok()?);
    let secret = NamespacedName::new(cluster.namespace()?, format!("{name}-kubeconfig"));
    let mut member = member.with_kubeconfig(KubeconfigRef::new(secret).with_key("value"));
    member.labels = cluster.labels().clone();
    Some(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> DynamicObject {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
            "metadata": {"name": name, "namespace": "capi", "labels": {"tier": "gold"}},
            "spec": {"paused": true},
        }))
        .unwrap()
    }

    #[test]
    fn a_cluster_is_reached_by_the_secret_that_cluster_api_writes() {
        let member = member(&cluster("east")).unwrap();
        let kubeconfig = member.kubeconfig.unwrap();
        assert_eq!(
            (member.name.as_str(), member.labels["tier"].as_str()),
            ("east", "gold")
        );
        assert_eq!(kubeconfig.secret, NamespacedName::new("capi", "east-kubeconfig"));
    }

    #[test]
    fn a_cluster_whose_name_is_no_member_name_is_none() {
        assert_eq!(member(&cluster("east.example")), None);
        assert_eq!(member(&cluster(&"x".repeat(64))), None);
    }
}
