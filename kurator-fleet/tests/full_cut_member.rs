//! One of ten members is cut off for longer and longer while the others are reconciled: nothing is written or deleted on
//! it or because of it, its health follows, and a lossy network makes nobody flap. The witnesses are the API servers: each
//! counts the writes that reach it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod manager;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use kurator_core::multicluster::{ReconcileContext, UniformController};
use kurator_core::names::ClusterName;
use kurator_core::observe::HealthStatus;
use kurator_envtest::{Cut, Loss};
use kurator_fleet::api::{AttachedCluster, Fleet};
use manager::{GRACE, PATIENCE, Rig, ready};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

const MEMBERS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "cut", "lossy"];
const CUTS: [f64; 5] = [0.1, 1.0, 5.0, 20.0, 120.0];

fn name(name: &str) -> ClusterName {
    name.parse().unwrap()
}

/// Answers a question in `data.ask` with the same text in `data.told`, by one write.
async fn tell(map: Arc<ConfigMap>, context: Arc<ReconcileContext<()>>) -> Result<Action, kube::Error> {
    let field = |field: &str| map.data.as_ref().and_then(|data| data.get(field).cloned());
    if field("ask") != field("told") {
        let maps: Api<ConfigMap> = Api::namespaced(context.client(), "default");
        let told = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"told": field("ask")}});
        let params = PatchParams::apply("teller").force();
        maps.patch(&map.name_any(), &params, &Patch::Apply(told)).await?;
    }
    Ok(Action::await_change())
}

/// Asks every one of these members, all at once, and waits for their answers.
async fn ask(clients: &BTreeMap<&str, Client>, members: &[&str], question: &str) {
    let asked = members.iter().map(|member| async {
        let maps: Api<ConfigMap> = Api::namespaced(clients[member].clone(), "default");
        let ask = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"ask": question},
            "metadata": {"name": "question", "labels": {"ask": "true"}},
        });
        let params = PatchParams::apply("asker").force();
        maps.patch("question", &params, &Patch::Apply(ask)).await.unwrap();
        let told = |map: Option<&ConfigMap>| {
            map.and_then(|map| map.data.as_ref()?.get("told"))
                .map(String::as_str)
                == Some(question)
        };
        kube::runtime::wait::await_condition(maps, "question", told)
            .await
            .unwrap();
    });
    timeout(PATIENCE, futures::future::join_all(asked)).await.unwrap();
}

/// What an API server says it was asked to write: by resource and verb, without what it writes for itself.
async fn writes(client: &Client) -> BTreeMap<(String, String), u64> {
    let request = http_get("/metrics");
    let text = client.request_text(request).await.unwrap();
    let mut writes = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
    {
        let label = |label: &str| {
            let (_, rest) = line.split_once(&format!("{label}=\""))?;
            rest.split('"').next().map(str::to_owned)
        };
        let (Some(resource), Some(verb)) = (label("resource"), label("verb")) else {
            continue;
        };
        let reads = ["GET", "LIST", "WATCH", "CONNECT"];
        let its_own = [
            "leases",
            "endpointslices",
            "endpoints",
            "events",
            "flowschemas",
            "prioritylevelconfigurations",
        ];
        if reads.contains(&&*verb) || its_own.contains(&&*resource) || resource.is_empty() {
            continue;
        }
        let count = line
            .rsplit_once(' ')
            .and_then(|(_, count)| count.parse::<f64>().ok());
        *writes.entry((resource, verb)).or_default() += count.unwrap_or(0.0) as u64;
    }
    writes
}

fn http_get(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).unwrap()
}

fn deletions(writes: &BTreeMap<(String, String), u64>) -> u64 {
    let deletions = writes.iter().filter(|((_, verb), _)| verb.starts_with("DELETE"));
    deletions.map(|(_, count)| count).sum()
}

fn total(writes: &BTreeMap<(String, String), u64>) -> u64 {
    writes.values().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_cut_off_costs_nothing_but_its_health_and_thirty_percent_loss_flaps_nobody() {
    let rig = Rig::start(&MEMBERS).await;
    for member in MEMBERS {
        // The reconciler may do more than the fleet manager.
        let admin = rig.fleet.member(member).unwrap().kubeconfig();
        rig.write_secret(member, "value", &admin).await;
        rig.register(member, member, Value::Null).await;
    }
    let clusters: Vec<Value> = MEMBERS
        .iter()
        .map(|name| json!({"name": name, "kind": "AttachedCluster"}))
        .collect();
    rig.fleet("all", json!({"clusters": clusters})).await;
    let controller = UniformController::<ConfigMap>::new(rig.members.clone())
        .watcher(watcher::Config::default().labels("ask=true"));
    tokio::spawn(controller.run(tell, Arc::new(()), rig.stop.clone().cancelled_owned()));
    let all = |it: Option<&Fleet>| {
        it.and_then(|it| it.status.as_ref())
            .is_some_and(|status| status.ready_clusters == Some(10))
    };
    rig.until::<Fleet>("all", "ready", all).await;
    let clients: BTreeMap<&str, Client> = MEMBERS.iter().map(|name| (*name, rig.direct(name))).collect();
    for member in MEMBERS {
        rig.place(member, "placed").await;
    }
    let others: Vec<&str> = MEMBERS[..8].to_vec();
    ask(&clients, &MEMBERS, "warm").await;

    let mut before = BTreeMap::new();
    for (member, client) in &clients {
        before.insert(*member, writes(client).await);
    }
    let hub_before = writes(&rig.hub).await;
    rig.fleet
        .member("lossy")
        .unwrap()
        .link()
        .lose(Loss::seeded(7).with_connections(300).with_chunks(100));
    let flaps = tokio::spawn(never_turns(rig.api(), "lossy"));
    let (mut rounds, mut reconciles) = (0_u64, 0_u64);
    let link = rig.fleet.member("cut").unwrap().link();
    for (step, seconds) in CUTS.into_iter().enumerate() {
        let cut = Instant::now();
        link.cut(Cut::Reset);
        let watched = async {
            if seconds < GRACE.as_secs_f64() {
                return;
            }
            let mut changes = rig.members.changes();
            let lost = async {
                while rig.members.status(&name("cut")).unwrap().health.health != HealthStatus::Unknown {
                    changes.changed().await.unwrap();
                }
                cut.elapsed()
            };
            let lost = timeout(PATIENCE, lost).await.unwrap();
            println!("cut for {seconds} s: lost after {lost:?}, grace {GRACE:?}");
            assert!(lost <= GRACE + Duration::from_secs(1), "{lost:?}");
            rig.ready("cut", "Unknown").await;
            println!(
                "cut for {seconds} s: its status says so after {:?}",
                cut.elapsed()
            );
        };
        let asked = async {
            while cut.elapsed().as_secs_f64() < seconds || reconciles < 40 * (step as u64 + 1) {
                ask(&clients, &others, &format!("cut-{step}-{rounds}")).await;
                rounds += 1;
                reconciles += 8;
            }
        };
        tokio::join!(watched, asked);
        link.heal();
        let healed = Instant::now();
        rig.ready("cut", "True").await;
        println!(
            "cut for {seconds} s: ready again {:?} after it healed",
            healed.elapsed()
        );
    }
    assert!(reconciles >= 200);
    assert!(!flaps.is_finished(), "flapped under 30% loss");
    flaps.abort();

    for (member, client) in &clients {
        let (was, is) = (&before[member], writes(client).await);
        let asked = others.contains(member);
        // The question and its answer, and nothing else, on the members that were asked; nothing on the others.
        let expected = if asked { 2 * rounds } else { 0 };
        let written = total(&is) - total(was);
        assert_eq!(written, expected, "{member}: {was:?} {is:?}");
        assert_eq!(deletions(&is), deletions(was), "{member}: {is:?}");
        assert!(rig.has(member, "placed").await);
    }
    let hub_after = writes(&rig.hub).await;
    assert_eq!(
        deletions(&hub_after),
        deletions(&hub_before),
        "{hub_before:?} {hub_after:?}"
    );
    println!("{reconciles} reconciles in {rounds} rounds; writes and deletes because of the cut: 0");
}

/// Panics when the condition of a cluster is ever another than ready.
async fn never_turns(clusters: Api<AttachedCluster>, cluster: &'static str) {
    let config = watcher::Config::default().fields(&format!("metadata.name={cluster}"));
    let seen = watcher(clusters, config).default_backoff().applied_objects();
    futures::pin_mut!(seen);
    while let Some(seen) = seen.next().await {
        if let Ok(cluster) = seen {
            assert_eq!(ready(&cluster).0, "True");
        }
    }
}
