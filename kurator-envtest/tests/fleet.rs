//! A fleet is usable, steerable and gone afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Node, Pod},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use kurator_envtest::{Controllers, Fleet, MemberSpec, Nodes, Part};
use serde_json::json;

fn full(name: &str, controllers: Controllers) -> MemberSpec {
    MemberSpec::new(name)
        .with_controllers(controllers)
        .with_scheduler()
        .with_nodes(
            Nodes::new(3)
                .with_capacity("example.com/gpu", "2")
                .with_zones(["a", "b"]),
        )
}

#[tokio::test]
async fn deployments_become_ready_in_two_full_members() {
    let fleet = Fleet::builder()
        .member(full("east", Controllers::Stock))
        .member(full("west", Controllers::Tuned))
        .start()
        .await
        .unwrap();
    let deployment = serde_json::from_value::<Deployment>(json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]}
            }
        }
    }))
    .unwrap();
    for member in fleet.members() {
        let api = Api::<Deployment>::default_namespaced(member.client().unwrap());
        api.create(&PostParams::default(), &deployment).await.unwrap();
    }
    for member in fleet.members() {
        let client = member.client().unwrap();
        let api = Api::<Deployment>::default_namespaced(client.clone());
        let ready = |deployment: Option<&Deployment>| {
            let status = deployment.and_then(|deployment| deployment.status.as_ref());
            status.and_then(|status| status.ready_replicas) == Some(4)
        };
        member.wait_for(&api, "web", ready).await.unwrap();
        let pods = Api::<Pod>::default_namespaced(client.clone())
            .list(&ListParams::default())
            .await
            .unwrap();
        assert_eq!(pods.items.len(), 4);
        assert!(
            pods.items
                .iter()
                .all(|pod| pod.spec.as_ref().unwrap().node_name.is_some())
        );
        let node = Api::<Node>::all(client).get("node-1").await.unwrap();
        assert_eq!(node.metadata.labels.unwrap()["topology.kubernetes.io/zone"], "b");
        assert_eq!(
            node.status.unwrap().allocatable.unwrap()["example.com/gpu"].0,
            "2"
        );
        assert_eq!(member.startup().versions.len(), 5);
        assert_eq!(member.startup().versions[&Part::ApiServer], "v1.37.2");
    }
}

#[test]
fn a_fleet_starts_without_a_runtime_and_leaves_nothing() {
    let fleet = Fleet::builder().members(["a", "b"]).start_blocking().unwrap();
    let folder = fleet.folder().to_owned();
    assert!(folder.join("a/kube-apiserver.log").is_file());
    assert!(
        fleet
            .member("a")
            .unwrap()
            .kubeconfig()
            .contains("https://127.0.0.1:")
    );
    drop(fleet);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_port_that_is_taken_is_replaced_by_another() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let fleet = Fleet::builder()
        .member(MemberSpec::new("a").with_port(port))
        .start()
        .await
        .unwrap();
    let member = fleet.member("a").unwrap();
    assert_eq!(member.startup().ports_refused, 1);
    Api::<ConfigMap>::default_namespaced(member.client().unwrap())
        .list(&ListParams::default())
        .await
        .unwrap();
}
