//! Replicas follow the room that members really have: allocatable amounts of their nodes less what their pods request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use kurator::policy::api::{DistributionPolicy, apps};
use kurator_envtest::{Controllers, Cut, MemberSpec, Nodes};
use serde_json::{Value, json};
use storefront::{Storefront, condition, create, deployment, deployments, edit};
use tokio::time::Instant;

const LARGE: &str = "cluster-large";
const SMALL: &str = "cluster-small";
const A100: &str = "cluster-gpu-a100";
const H100: &str = "cluster-gpu-h100";

fn member(name: &str, nodes: Nodes) -> MemberSpec {
    MemberSpec::new(name)
        .with_controllers(Controllers::Tuned)
        .with_scheduler()
        .with_nodes(nodes)
}

/// A Deployment of which every replica requests so much.
async fn template(fleet: &Storefront, name: &str, replicas: i32, requests: Value) {
    let mut object = deployment(name, replicas);
    // What is no CPU has to be a limit too.
    object["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({ "requests": requests, "limits": requests });
    let api: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    let _: Deployment = create(&api, object).await;
}

async fn scale(fleet: &Storefront, name: &str, replicas: i32) {
    let api: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    edit(&api, name, json!({ "spec": { "replicas": replicas } })).await;
}

fn policy(name: &str, scheduling: Value) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": name }],
            "placement": { "replicaScheduling": scheduling },
        },
    })
}

fn by_room() -> Value {
    json!({ "weightPreference": { "dynamicWeight": "AvailableReplicas" } })
}

fn packed() -> Value {
    json!({ "replicaDivisionPreference": "Aggregated" })
}

async fn ready(fleet: &Storefront, name: &str, replicas: i64) {
    fleet
        .status(name, &format!("{replicas} ready"), |it| {
            it.totals.as_ref().is_some_and(|it| it.ready_replicas == replicas)
                && condition(it, "Ready", "True").is_some()
        })
        .await;
}

/// How many replicas a member is told to run.
async fn told(fleet: &Storefront, member: &str, name: &str) -> Option<i32> {
    let found = deployments(fleet.member(member)).get_opt(name).await.unwrap();
    found.and_then(|it| it.spec.replicas)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_go_where_there_is_room_stay_there_and_freed_room_wakes_what_waits() {
    let cpus = |nodes| Nodes::new(nodes).with_capacity("cpu", "4");
    let mut fleet = Storefront::of([member(LARGE, cpus(3)), member(SMALL, cpus(1))]).await;
    fleet.run();
    let one = || json!({ "cpu": "1" });

    // Room for 12 and for 4.
    template(&fleet, "web", 8, one()).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), policy("web", by_room())).await;
    fleet.replicas(LARGE, "web", 6).await;
    fleet.replicas(SMALL, "web", 2).await;
    ready(&fleet, "web", 8).await;
    // Room for 6 and for 2: one cluster is enough.
    template(&fleet, "packed", 4, one()).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), policy("packed", packed())).await;
    fleet.replicas(LARGE, "packed", 4).await;
    ready(&fleet, "packed", 4).await;
    assert_eq!(told(&fleet, SMALL, "packed").await, None);
    // Room for 2 and for 2 is not enough for 5.
    template(&fleet, "late", 5, one()).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), policy("late", by_room())).await;
    fleet
        .status("late", "not placed, for one replica", |it| {
            condition(it, "Ready", "False").is_some_and(|(token, message)| {
                token == "NotPlaced" && message.contains("1 of 5 replicas find no room")
            })
        })
        .await;
    assert_eq!(told(&fleet, LARGE, "late").await, None);

    // Two replicas of the first go, and five of the last come.
    scale(&fleet, "web", 6).await;
    let large = fleet.member(LARGE);
    let pods: Api<Pod> = Api::namespaced(large.direct_client().unwrap(), "default");
    let of_web = ListParams::default().labels("app=web");
    let freed = async {
        large
            .wait_for_all(&pods, &of_web, "four are left", |pods| pods.len() == 4)
            .await
            .unwrap();
        Instant::now()
    };
    let placed = async {
        fleet.replicas(LARGE, "late", 3).await;
        Instant::now()
    };
    let (freed, placed) = tokio::join!(freed, placed);
    fleet.replicas(SMALL, "late", 2).await;
    let waited = placed.saturating_duration_since(freed);
    println!("placed {} ms after the room was free", waited.as_millis());
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    ready(&fleet, "late", 5).await;

    // Whoever takes over cannot ask one of the members, and moves nothing; one more goes where it can go.
    fleet.crash().await;
    fleet.member(SMALL).link().cut(Cut::Reset);
    scale(&fleet, "web", 7).await;
    fleet.run();
    fleet.replicas(LARGE, "web", 5).await;
    fleet
        .status("web", "the other keeps its share", |it| {
            it.placements[0].clusters.get(SMALL) == Some(&2)
                && it.placements[0].clusters.get(LARGE) == Some(&5)
        })
        .await;
    fleet.member(SMALL).link().heal();
    ready(&fleet, "web", 7).await;
    assert_eq!(told(&fleet, SMALL, "web").await, Some(2));
    assert_eq!(told(&fleet, LARGE, "late").await, Some(3));
    assert_eq!(told(&fleet, LARGE, "packed").await, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_accelerator_manifest_lands_on_what_is_preferred_and_a_burst_fits_the_room_there_is() {
    let gpus = |nodes, count: &str, product: &str| {
        Nodes::new(nodes)
            .with_capacity("nvidia.com/gpu", count)
            .with_capacity("example.com/slot", "5")
            .with_label("nvidia.com/gpu.product", product)
    };
    let members = [
        member(A100, gpus(2, "2", "NVIDIA-A100-SXM4-80GB")),
        member(H100, gpus(1, "8", "NVIDIA-H100-80GB-HBM3")),
    ];
    let mut fleet = Storefront::of(members).await;
    fleet.run();
    let manifest = include_str!("../examples/manifests/accelerators.yaml");
    let policies: Api<apps::DistributionPolicy> = Api::namespaced(fleet.hub.clone(), "default");

    template(&fleet, "llm-inference", 2, json!({ "nvidia.com/gpu": "1" })).await;
    fleet.member("hub").apply(manifest).await.unwrap();
    fleet.replicas(A100, "llm-inference", 2).await;
    let running = |replicas: i64| {
        move |policy: Option<&apps::DistributionPolicy>| {
            let status = policy.and_then(|it| it.status.as_ref());
            status.is_some_and(|it| {
                it.totals.as_ref().is_some_and(|it| it.ready_replicas == replicas)
                    && condition(it, "Ready", "True").is_some()
            })
        }
    };
    let hub = fleet.member("hub");
    hub.wait_for(&policies, "inference", running(2)).await.unwrap();
    // Two of the four are free by now: that is its own doing, and no reason to leave.
    scale(&fleet, "llm-inference", 3).await;
    fleet.replicas(A100, "llm-inference", 3).await;
    hub.wait_for(&policies, "inference", running(3)).await.unwrap();
    assert_eq!(told(&fleet, H100, "llm-inference").await, None);

    // With a node less there are not enough of the preferred kind, so the other kind has to do.
    policies
        .delete("inference", &DeleteParams::default())
        .await
        .unwrap();
    fleet.gone(A100, "llm-inference").await;
    let nodes: Api<Node> = Api::all(fleet.member(A100).direct_client().unwrap());
    nodes.delete("node-0", &DeleteParams::default()).await.unwrap();
    hub.wait_for(&policies, "inference", |it: Option<&apps::DistributionPolicy>| {
        it.is_none()
    })
    .await
    .unwrap();
    // The node is gone for the controller too once the cluster is no longer good enough.
    fleet.member("hub").apply(manifest).await.unwrap();
    fleet.replicas(H100, "llm-inference", 3).await;
    hub.wait_for(&policies, "inference", running(3)).await.unwrap();
    fleet
        .deployment(A100, "llm-inference", "not here", |it| it.is_none())
        .await;
    policies
        .delete("inference", &DeleteParams::default())
        .await
        .unwrap();
    fleet.gone(H100, "llm-inference").await;

    // Fifteen at once, and room for ten and for five.
    fleet
        .member(A100)
        .create_nodes(&gpus(1, "2", "NVIDIA-A100-SXM4-80GB").with_prefix("again"))
        .await
        .unwrap();
    let names: Vec<_> = (0..15).map(|number| format!("app-{number:02}")).collect();
    join_all(
        names
            .iter()
            .map(|name| template(&fleet, name, 1, json!({ "example.com/slot": "1" }))),
    )
    .await;
    let api = fleet.policy_api();
    let made = names
        .iter()
        .map(|name| create::<DistributionPolicy>(&api, policy(name, packed())));
    join_all(made).await;
    for name in &names {
        ready(&fleet, name, 1).await;
    }
    let mut counts = Vec::new();
    for member in [A100, H100] {
        let all = deployments(fleet.member(member))
            .list(&ListParams::default())
            .await
            .unwrap();
        counts.push(
            all.items
                .iter()
                .filter(|it| it.name_any().starts_with("app-"))
                .count(),
        );
    }
    assert_eq!(counts, [10, 5]);
}
