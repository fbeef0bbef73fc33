//! Members on real API servers: cut, lossy, swapped, while a controller runs on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod members;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use kurator_core::health::HealthReason;
use kurator_core::multicluster::Facts;
use kurator_core::observe::{ApiSupport, ClusterView, HealthStatus};
use kurator_envtest::{Cut, Loss};
use members::{GRACE, PATIENCE, Rig, answered, create, is_answered, name};
use serde_json::json;
use tokio::time::{Instant, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_serves_members_that_join_leave_blink_and_go_silent() {
    let rig = Rig::start(&["a", "b", "c"]).await;
    for member in ["a", "b"] {
        rig.join(member, &rig.kubeconfig(member)).await;
    }
    let (a, b, c) = (rig.direct("a"), rig.direct("b"), rig.direct("c"));
    create(&a, "first").await;
    create(&c, "early").await;
    assert_eq!(answered(&a, "first").await, "a");

    rig.join("c", &rig.kubeconfig("c")).await;
    assert_eq!(
        answered(&c, "early").await,
        "c",
        "a member that joins is served from its first object on"
    );

    // A cut much shorter than the grace is not even noticed.
    let engaged = rig.members.get(&name("a")).unwrap();
    let link = rig.fleet.member("a").unwrap().link();
    link.cut(Cut::Reset);
    create(&a, "during-the-blink").await;
    create(&b, "elsewhere").await;
    assert_eq!(
        answered(&b, "elsewhere").await,
        "b",
        "the others are served meanwhile"
    );
    link.heal();
    assert_eq!(answered(&a, "during-the-blink").await, "a");
    assert!(Arc::ptr_eq(&engaged, &rig.members.get(&name("a")).unwrap()));

    // Half-open: everything stays connected and nobody answers.
    link.half_open();
    create(&a, "during-the-silence").await;
    let lost = rig.until("a", |health, _| health == HealthStatus::Unknown).await;
    assert!(lost <= GRACE + Duration::from_secs(1), "lost after {lost:?}");
    link.heal();
    rig.ready("a").await;
    assert_eq!(
        answered(&a, "during-the-silence").await,
        "a",
        "it catches up by itself"
    );

    rig.membership.leave(&name("b"));
    timeout(
        PATIENCE,
        rig.members.engaged().wait_for(|now| !now.contains_key("b")),
    )
    .await
    .unwrap()
    .unwrap();
    create(&b, "too-late").await;
    create(&a, "marker").await;
    answered(&a, "marker").await;
    assert!(
        !is_answered(&b, "too-late").await,
        "nothing is written to a member that left"
    );
    rig.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_percent_loss_flaps_nobody() {
    let rig = Rig::start(&["a"]).await;
    rig.join("a", &rig.kubeconfig("a")).await;
    rig.ready("a").await;
    let member = rig.fleet.member("a").unwrap();
    let since = rig.members.status(&name("a")).unwrap().health.since;
    // Two requests and two answers make a probe, so this loses 34% of them, and 30% of new connections.
    member
        .link()
        .lose(Loss::seeded(7).with_connections(300).with_chunks(100));
    let end = Instant::now() + GRACE * 2;
    let mut changes = rig.members.changes();
    while tokio::time::timeout_at(end, changes.changed()).await.is_ok() {
        let status = rig.members.status(&name("a")).unwrap();
        assert_eq!(
            (status.health.health, status.health.since),
            (HealthStatus::Ready, since),
            "{status:?}"
        );
    }
    member.link().heal();
    let seen = rig.members.status(&name("a")).unwrap().health.last_seen;
    assert!(seen > since, "it was probed all the time");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_swapped_behind_their_secrets_are_noticed_refused_and_not_written_to() {
    let rig = Rig::start(&["a", "b"]).await;
    for member in ["a", "b"] {
        rig.join(member, &rig.kubeconfig(member)).await;
        rig.ready(member).await;
    }
    rig.write_secret("a", &rig.kubeconfig("b")).await;
    rig.write_secret("b", &rig.kubeconfig("a")).await;
    for member in ["a", "b"] {
        let noticed = rig
            .until(member, |_, reason| reason == HealthReason::IdentityMismatch)
            .await;
        assert!(noticed < Duration::from_secs(10), "noticed after {noticed:?}");
    }
    let (a, b) = (rig.direct("a"), rig.direct("b"));
    create(&a, "while-swapped").await;
    create(&b, "while-swapped").await;
    for member in ["a", "b"] {
        rig.write_secret(member, &rig.kubeconfig(member)).await;
        rig.ready(member).await;
    }
    assert_eq!(
        answered(&a, "while-swapped").await,
        "a",
        "never took one for the other"
    );
    assert_eq!(answered(&b, "while-swapped").await, "b");
}

async fn node(client: &Client, node: &str, edge: bool, ready: bool) {
    let nodes: Api<Node> = Api::all(client.clone());
    let labels = if edge {
        json!({"openyurt.io/is-edge-worker": "true"})
    } else {
        json!({})
    };
    let object: Node = serde_json::from_value(json!({"metadata": {"name": node, "labels": labels}})).unwrap();
    let _ = nodes.create(&PostParams::default(), &object).await;
    let status = json!({"status": {
        "allocatable": {"cpu": "4", "pods": "110"},
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
    }});
    nodes
        .patch_status(node, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_observed_and_their_cloud_nodes_have_a_say_in_their_health() {
    let rig = Rig::start(&["a"]).await;
    let direct = rig.direct("a");
    node(&direct, "cloud", false, true).await;
    node(&direct, "edge", true, false).await;
    let facts = Facts::start(rig.members.clone());
    rig.join("a", &rig.kubeconfig("a")).await;
    rig.ready("a").await;
    let mut changes = facts.changes();
    let mut observed = async |wanted: &(dyn Fn(&ClusterView) -> bool + Sync)| {
        let observing = async {
            loop {
                let view = facts.view(&name("a")).unwrap().unwrap();
                if wanted(&view) {
                    return view;
                }
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, observing)
            .await
            .unwrap_or_else(|_| panic!("{:?}", facts.view(&name("a"))))
    };
    let view = observed(&|view| view.nodes.is_some() && view.version.is_some()).await;
    assert_eq!(view.version.as_deref(), Some("v1.37.2"));
    assert_eq!(view.apis.support("apps/v1", "Deployment"), ApiSupport::Served);
    assert_eq!(view.apis.support("example.com/v1", "Nothing"), ApiSupport::Absent);
    assert_eq!(view.nodes.unwrap().iter().filter(|node| node.ready).count(), 1);

    let engaged = rig.members.get(&name("a")).unwrap();
    node(&direct, "cloud", false, false).await;
    rig.until("a", |health, reason| {
        (health, reason) == (HealthStatus::NotReady, HealthReason::CloudNodesNotReady)
    })
    .await;
    create(&direct, "meanwhile").await;
    assert_eq!(
        answered(&direct, "meanwhile").await,
        "a",
        "its API is still there to be worked with"
    );
    assert!(Arc::ptr_eq(&engaged, &rig.members.get(&name("a")).unwrap()));

    // The edge node stays away: it never had a say.
    node(&direct, "cloud", false, true).await;
    rig.ready("a").await;
}
