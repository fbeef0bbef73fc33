//! Fleets and attached clusters as users write them, on real API servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod manager;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{WatchStreamExt, wait};
use kube::{Api, Client, ResourceExt};
use kurator_core::membership::Membership;
use kurator_core::multicluster::shard::ReplicaId;
use kurator_envtest::Cut;
use kurator_fleet::api::{AttachedCluster, Cluster, Fleet};
use kurator_fleet::controller::FleetOptions;
use manager::{PATIENCE, Rig, fleet_ready, manage, ready, reasons};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_shows_who_is_in_it_how_they_are_and_since_when() {
    let rig = Rig::start(&["a", "b"]).await;
    rig.attach("a", "a", Value::Null).await;
    rig.attach("b", "b", Value::Null).await;
    rig.attach("b-again", "b", Value::Null).await;
    rig.attach("no.member-name", "b", Value::Null).await;
    let spec = json!({
        "clusters": [{"name": "a", "kind": "AttachedCluster"}, {"name": "ghost", "kind": "AttachedCluster"}],
        "clusterSelector": {"matchLabels": {"member-of": "selected"}},
    });
    rig.fleet("shop", spec).await;

    let a = rig.ready("a", "True").await;
    let status = a.status.unwrap();
    assert_eq!(status.kubernetes_version.as_deref(), Some("v1.37.2"));
    assert!(status.cluster_uid.is_some());
    // Of the two entries for one cluster either may come first.
    let seen = |fleet: Option<&Fleet>| {
        let Some(fleet) = fleet else { return false };
        let status = fleet.status.clone().unwrap_or_default();
        let reasons = reasons(fleet);
        let twice = ["b", "b-again"].map(|name| reasons.get(name).map(String::as_str));
        (status.total_clusters, status.ready_clusters) == (Some(5), Some(2))
            && twice.contains(&Some("DuplicateRegistration"))
            && twice.contains(&Some("ApiServerReady"))
            && reasons.get("ghost").map(String::as_str) == Some("ClusterNotFound")
            && reasons.get("no.member-name").map(String::as_str) == Some("NameInvalid")
    };
    rig.until::<Fleet>("shop", "2 of 5 ready, each other with its reason", seen)
        .await;
    let members = rig
        .membership
        .members(Some(&"shop".parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(members.len(), 3, "by name and by selector, each once");

    rig.fleet.member("a").unwrap().link().cut(Cut::Refuse);
    let lost = rig.ready("a", "Unknown").await;
    assert_eq!(ready(&lost).1, "Unreachable");
    let seen = |fleet: Option<&Fleet>| {
        let members = fleet
            .and_then(|fleet| fleet.status.as_ref())
            .map(|status| &status.clusters);
        members.is_some_and(|members| {
            members
                .iter()
                .any(|it| it.name == "a" && !it.ready && it.reason == "Unreachable" && it.last_seen.is_some())
        })
    };
    rig.until::<Fleet>("shop", "a lost", seen).await;
    rig.fleet.member("a").unwrap().link().heal();
    rig.ready("a", "True").await;

    for (about, reason) in [
        ("a", "ApiServerReady"),
        ("a", "Unreachable"),
        ("shop", "MembersNotReady"),
    ] {
        told_about(&rig, reason, |event| {
            event.regarding.as_ref().and_then(|it| it.name.as_deref()) == Some(about)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_leave_drained_orphaned_or_by_force_and_are_cleaned_when_they_return() {
    let rig = Rig::start(&["drained", "orphaned", "forced"]).await;
    rig.attach("drained", "drained", Value::Null).await;
    rig.attach("orphaned", "orphaned", json!({"mode": "Orphan"}))
        .await;
    rig.attach("forced", "forced", json!({"mode": "Force", "timeout": "3s"}))
        .await;
    for member in ["drained", "orphaned", "forced"] {
        rig.ready(member, "True").await;
        rig.place(member, "placed").await;
        let foreign: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "foreign"}})).unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(rig.direct(member), "default");
        maps.create(&PostParams::default(), &foreign).await.unwrap();
    }
    let clusters: Api<AttachedCluster> = rig.api();
    let cut = |member: &str| rig.fleet.member(member).unwrap().link().cut(Cut::Refuse);
    cut("forced");
    rig.ready("forced", "Unknown").await;
    for member in ["drained", "orphaned", "forced"] {
        clusters.delete(member, &DeleteParams::default()).await.unwrap();
    }
    for member in ["drained", "orphaned", "forced"] {
        rig.gone(member).await;
    }
    assert!(!rig.has("drained", "placed").await && rig.has("drained", "foreign").await);
    assert!(rig.has("orphaned", "placed").await, "everything goes on running");
    assert!(rig.has("forced", "placed").await, "nobody could reach it");

    let graves = ListParams::default().labels("fleet.kurator.dev/tombstone=true");
    assert_eq!(rig.api::<ConfigMap>().list(&graves).await.unwrap().items.len(), 1);
    rig.fleet.member("forced").unwrap().link().heal();
    let maps: Api<ConfigMap> = Api::namespaced(rig.direct("forced"), "default");
    let cleaned = wait::await_condition(maps, "placed", |map: Option<&ConfigMap>| map.is_none());
    timeout(PATIENCE, cleaned)
        .await
        .expect("cleaned when it returns")
        .unwrap();
    assert!(rig.has("forced", "foreign").await);
    let grave = rig
        .api::<ConfigMap>()
        .list(&graves)
        .await
        .unwrap()
        .items
        .into_iter()
        .next();
    if let Some(grave) = grave {
        rig.until::<ConfigMap>(&grave.name_any(), "gone", |it| it.is_none())
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_member_is_not_let_go_undrained_until_its_owner_says_force() {
    let rig = Rig::start(&["a"]).await;
    rig.attach("a", "a", Value::Null).await;
    rig.ready("a", "True").await;
    rig.fleet.member("a").unwrap().link().cut(Cut::Refuse);
    rig.ready("a", "Unknown").await;
    let clusters: Api<AttachedCluster> = rig.api();
    clusters.delete("a", &DeleteParams::default()).await.unwrap();
    let blocked = |it: Option<&AttachedCluster>| it.is_some_and(|it| ready(it).1 == "MemberUnreachable");
    rig.until::<AttachedCluster>("a", "blocked", blocked).await;
    let force = json!({"spec": {"detach": {"mode": "Force", "timeout": "1s"}}});
    clusters
        .patch("a", &PatchParams::default(), &Patch::Merge(force))
        .await
        .unwrap();
    rig.gone("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_goes_drains_orphans_or_forces_its_members_as_its_owner_chose() {
    let names = ["drained", "shared", "orphaned", "forced"];
    let rig = Rig::start(&names).await;
    for name in names {
        rig.attach(name, name, Value::Null).await;
    }
    let fleet = |members: &[&str], detach: Value| {
        let clusters: Vec<Value> = members
            .iter()
            .map(|name| json!({"name": name, "kind": "AttachedCluster"}))
            .collect();
        json!({"clusters": clusters, "detach": detach})
    };
    let drain = json!({"mode": "Drain"});
    rig.fleet("draining", fleet(&["drained", "shared"], drain.clone()))
        .await;
    rig.fleet("keeping", fleet(&["shared"], drain)).await;
    rig.fleet("orphaning", fleet(&["orphaned"], json!({"mode": "Orphan"})))
        .await;
    rig.fleet(
        "forcing",
        fleet(&["forced"], json!({"mode": "Force", "timeout": "2s"})),
    )
    .await;
    for name in names {
        rig.ready(name, "True").await;
        rig.place(name, "placed").await;
    }
    for name in ["draining", "keeping", "orphaning", "forcing"] {
        let all = |it: Option<&Fleet>| it.is_some_and(|it| fleet_ready(it).0 == "True");
        rig.until::<Fleet>(name, "ready", all).await;
    }
    for name in ["drained", "forced"] {
        rig.fleet.member(name).unwrap().link().cut(Cut::Refuse);
        rig.ready(name, "Unknown").await;
    }
    let fleets: Api<Fleet> = rig.api();
    for name in ["draining", "orphaning", "forcing"] {
        fleets.delete(name, &DeleteParams::default()).await.unwrap();
    }
    for name in ["orphaning", "forcing"] {
        rig.until::<Fleet>(name, "gone", |it| it.is_none()).await;
    }
    let blocked = |it: Option<&Fleet>| {
        it.is_some_and(|it| fleet_ready(it) == ("False".to_owned(), "MemberUnreachable".to_owned()))
    };
    rig.until::<Fleet>("draining", "waiting for a silent member", blocked)
        .await;
    assert!(rig.has("orphaned", "placed").await, "everything goes on running");
    assert!(rig.has("shared", "placed").await, "another fleet has it");

    // Both answer again: the one is drained and its fleet is let go, the other is cleaned by its tombstone. It is still
    // registered, and no fleet has it.
    for name in ["drained", "forced"] {
        rig.fleet.member(name).unwrap().link().heal();
    }
    rig.until::<Fleet>("draining", "gone", |it| it.is_none()).await;
    assert!(!rig.has("drained", "placed").await);
    assert!(rig.has("shared", "placed").await, "another fleet has it");
    let graves = ListParams::default().labels("fleet.kurator.dev/tombstone=true");
    for grave in rig.api::<ConfigMap>().list(&graves).await.unwrap() {
        rig.until::<ConfigMap>(&grave.name_any(), "gone", |it| it.is_none())
            .await;
    }
    assert!(!rig.has("forced", "placed").await, "cleaned when it returned");
    assert_eq!(ready(&rig.ready("forced", "True").await).1, "ApiServerReady");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_over_managed_clusters_reaches_them_by_the_secrets_of_cluster_api_and_knows_them_again() {
    let rig = Rig::start(&["prod", "dr"]).await;
    let manifest = include_str!("../../examples/manifests/cluster.yaml");
    let cluster: Cluster = serde_saphyr::from_str(manifest).unwrap();
    rig.api().create(&PostParams::default(), &cluster).await.unwrap();
    let fleet: Fleet = serde_saphyr::from_str(include_str!("../../examples/manifests/fleet.yaml")).unwrap();
    rig.api().create(&PostParams::default(), &fleet).await.unwrap();
    let told = |wanted: [(&'static str, &'static str); 2]| {
        move |it: Option<&Fleet>| {
            it.is_some_and(|it| {
                let reasons = reasons(it);
                wanted
                    .iter()
                    .all(|(name, reason)| reasons.get(*name).is_some_and(|it| it == reason))
            })
        }
    };
    let name = &fleet.name_any();
    let missing = told([
        ("cluster-prod", "KubeconfigSecretNotFound"),
        ("cluster-dr", "ClusterNotFound"),
    ]);
    rig.until::<Fleet>(name, "what is missing", missing).await;

    let written = Instant::now();
    let kubeconfig = rig.kubeconfig("prod").await;
    rig.write_secret("cluster-prod-kubeconfig", "value", &kubeconfig)
        .await;
    let ready = told([
        ("cluster-prod", "ApiServerReady"),
        ("cluster-dr", "ClusterNotFound"),
    ]);
    rig.until::<Fleet>(name, "ready by its Secret", ready).await;
    println!("a Secret that appears is used after {:?}", written.elapsed());
    let identified = |it: Option<&Cluster>| {
        it.and_then(|it| it.status.as_ref())
            .is_some_and(|status| status.cluster_uid.is_some())
    };
    rig.until::<Cluster>("cluster-prod", "its identity on record", identified)
        .await;
    let other = rig.kubeconfig("dr").await;
    rig.write_secret("cluster-prod-kubeconfig", "value", &other).await;
    let refused = told([
        ("cluster-prod", "IdentityMismatch"),
        ("cluster-dr", "ClusterNotFound"),
    ]);
    rig.until::<Fleet>(name, "another cluster refused", refused).await;

    // The nodes have their say, by the status of an attached cluster.
    rig.attach("dr", "dr", Value::Null).await;
    rig.ready("dr", "True").await;
    let direct = rig.direct("dr");
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "cloud"}})).unwrap();
    let nodes: Api<Node> = Api::all(direct);
    nodes.create(&PostParams::default(), &node).await.unwrap();
    assert_eq!(ready_reason(&rig, "dr", "False").await, "CloudNodesNotReady");
    let up = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    nodes
        .patch_status("cloud", &PatchParams::default(), &Patch::Merge(up))
        .await
        .unwrap();
    assert_eq!(ready_reason(&rig, "dr", "True").await, "ApiServerReady");

    // One name stands for one member.
    rig.attach("cluster-prod", "prod", Value::Null).await;
    let taken = told([("cluster-prod", "NameTaken"), ("cluster-dr", "ClusterNotFound")]);
    rig.until::<Fleet>(name, "a taken name", taken).await;
}

async fn ready_reason(rig: &Rig, cluster: &str, status: &str) -> String {
    ready(&rig.ready(cluster, status).await).1
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_managers_one_leads_and_the_other_takes_over_without_a_flap() {
    let (fleet, hub) = Rig::servers(&["a"]).await;
    let account = Rig::account(&fleet).await;
    // The first goes through the link to the hub, the second past it.
    let mut through = account.config();
    through.default_retry = false;
    let options = |name: &str| FleetOptions::default().with_replica(ReplicaId::new(name));
    let first = manage(Client::try_from(through).unwrap(), options("first")).await;
    let (members_of_first, membership, stop) =
        (first.members(), first.membership(), CancellationToken::new());
    tokio::spawn(first.run(stop.clone().cancelled_owned()));
    let rig = Rig {
        fleet,
        hub: hub.clone(),
        members: members_of_first.clone(),
        membership,
        stop,
    };
    rig.attach("a", "a", Value::Null).await;
    rig.ready("a", "True").await;
    let second = manage(hub, options("second")).await;
    let (members_of_second, stop_second) = (second.members(), CancellationToken::new());
    let second = tokio::spawn(second.run(stop_second.clone().cancelled_owned()));

    let clusters: Api<AttachedCluster> = rig.api();
    let watching = tokio::spawn(never_unready(clusters.clone()));
    rig.fleet.member("hub").unwrap().link().cut(Cut::Refuse);
    let cut = Instant::now();
    engaged(&members_of_second, 1).await;
    println!("taken over after {:?}, lease 3 s", cut.elapsed());
    assert_eq!(
        members_of_first.engaged().borrow().len(),
        0,
        "the first let go before"
    );
    rig.fleet.member("hub").unwrap().link().heal();
    watching.abort();
    assert!(
        watching.await.unwrap_err().is_cancelled(),
        "the change of leaders was no change of health"
    );

    rig.fleet.member("a").unwrap().link().cut(Cut::Refuse);
    assert_eq!(ready_reason(&rig, "a", "Unknown").await, "Unreachable");
    assert!(
        members_of_first.statuses().is_empty(),
        "one that does not lead probes nobody"
    );
    told(&rig, "Unreachable", "second").await;
    told(&rig, "ApiServerReady", "first").await;

    // An orderly end hands over at once.
    stop_second.cancel();
    second.await.unwrap();
    engaged_statuses(&members_of_first, 1).await;
    rig.fleet.member("a").unwrap().link().heal();
    rig.ready("a", "True").await;
}

/// Waits for an Event with this reason, by the replica of this name.
async fn told(rig: &Rig, reason: &str, by: &str) {
    told_about(rig, reason, |event| {
        event.reporting_instance.as_deref() == Some(by)
    })
    .await;
}

async fn told_about(rig: &Rig, reason: &str, wanted: impl Fn(&Event) -> bool + Send + Sync) {
    let events = watcher(rig.api::<Event>(), watcher::Config::default());
    let events = events.default_backoff().applied_objects();
    futures::pin_mut!(events);
    let heard = async {
        while let Some(event) = events.next().await {
            let Ok(event) = event else { continue };
            if event.reason.as_deref() == Some(reason) && wanted(&event) {
                return;
            }
        }
    };
    timeout(PATIENCE, heard)
        .await
        .unwrap_or_else(|_| panic!("nobody tells of {reason}"));
}

async fn engaged(members: &kurator_core::multicluster::Members, count: usize) {
    timeout(
        PATIENCE,
        members.engaged().wait_for(|engaged| engaged.len() == count),
    )
    .await
    .unwrap()
    .unwrap();
}

async fn engaged_statuses(members: &kurator_core::multicluster::Members, count: usize) {
    let mut changes = members.changes();
    let looked_after = async {
        while members.statuses().len() != count {
            changes.changed().await.unwrap();
        }
    };
    timeout(PATIENCE, looked_after).await.unwrap();
}

/// Panics when the cluster is ever seen not ready.
async fn never_unready(clusters: Api<AttachedCluster>) {
    let seen = wait::await_condition(clusters, "a", |it: Option<&AttachedCluster>| {
        it.is_some_and(|it| ready(it).0 != "True")
    });
    panic!("flapped: {:?}", seen.await);
}
