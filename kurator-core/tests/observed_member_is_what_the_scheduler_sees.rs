//! What is counted as free on a real member is what its scheduler fills.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use kurator_core::{
    observe::{ClusterView, pod_requests},
    quantity::Quantity,
};
use kurator_envtest::{Controllers, Fleet, MemberSpec, Nodes};
use serde_json::json;

const REPLICAS: i32 = 11;

async fn observe(client: &Client) -> ClusterView {
    let nodes = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await
        .unwrap();
    let pods = Api::<Pod>::all(client.clone())
        .list(&ListParams::default())
        .await
        .unwrap();
    ClusterView::new("east".parse().unwrap())
        .with_observed_nodes(&nodes.items, &pods.items)
        .unwrap()
}

/// How many more pods with these CPU requests fit, node by node.
fn fits(view: &ClusterView, cpu: Quantity) -> u128 {
    let nodes = view
        .nodes
        .iter()
        .flatten()
        .filter(|node| node.ready && !node.unschedulable);
    nodes
        .map(|node| node.free("cpu").unwrap().times(cpu).unwrap())
        .sum()
}

#[tokio::test]
async fn as_many_pods_run_as_were_counted_free() {
    let nodes = Nodes::new(3).with_capacity("cpu", "4").with_zones(["a", "b"]);
    let member = MemberSpec::new("east")
        .with_controllers(Controllers::Tuned)
        .with_scheduler()
        .with_nodes(nodes);
    let fleet = Fleet::builder().member(member).start().await.unwrap();
    let member = fleet.member("east").unwrap();
    let client = member.client().unwrap();

    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{"name": "web", "image": "web:1", "resources": {"requests": {"cpu": "1"}}}],
                    "initContainers": [
                        {"name": "set-up", "image": "web:1", "resources": {"requests": {"cpu": "700m"}}},
                        {"name": "log", "image": "web:1", "restartPolicy": "Always", "resources": {"limits": {"cpu": "300m"}}},
                    ],
                },
            },
        },
    }))
    .unwrap();
    let template = deployment.spec.template.spec.as_ref().unwrap();
    let cpu = pod_requests(template).unwrap()["cpu"];
    assert_eq!(cpu.to_string(), "1300m");

    let before = observe(&client).await;
    assert!(before.zones.iter().eq(["a", "b"]));
    let predicted = i32::try_from(fits(&before, cpu)).unwrap();
    assert_eq!(predicted, 9);

    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    deployments
        .create(&PostParams::default(), &deployment)
        .await
        .unwrap();
    let full = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|s| s.replicas == Some(REPLICAS) && s.ready_replicas == Some(predicted))
    };
    member.wait_for(&deployments, "web", full).await.unwrap();

    let after = observe(&client).await;
    assert_eq!(fits(&after, cpu), 0);
    let sums = after.resources.unwrap();
    assert_eq!(sums.allocated["cpu"], cpu.checked_mul(predicted.into()).unwrap());
    assert_eq!(
        sums.allocating["cpu"],
        cpu.checked_mul((REPLICAS - predicted).into()).unwrap()
    );
    assert_eq!(
        sums.allocating["pods"],
        Quantity::from_units((REPLICAS - predicted).into())
    );
}
