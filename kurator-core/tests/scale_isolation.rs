//! Ten real members, one controller: members that hang cost the others nothing.
//!
//! `cargo test -p kurator-core --features client --test scale_isolation -- --nocapture` prints the figures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::{WatchStreamExt, watcher, watcher::watcher as watch};
use kube::{Api, Client, ResourceExt};
use kurator_core::clock::SystemClock;
use kurator_core::connect::StaticConnector;
use kurator_core::health::HealthPolicy;
use kurator_core::membership::{Member, StaticMembership};
use kurator_core::multicluster::{Members, MembersOptions, ReconcileContext, UniformController};
use kurator_core::names::ClusterName;
use kurator_envtest::{Fleet, Part};
use serde_json::json;
use tokio::time::Instant;

const MEMBERS: usize = 10;
const ROUNDS: usize = 30;
const GRACE: Duration = Duration::from_secs(10);

fn name(index: usize) -> ClusterName {
    format!("member-{index}").parse().unwrap()
}

/// Answers a question in `data.ask` with the same text in `data.told`.
async fn tell(map: Arc<ConfigMap>, context: Arc<ReconcileContext<()>>) -> Result<Action, kube::Error> {
    let field = |field: &str| map.data.as_ref().and_then(|data| data.get(field).cloned());
    if field("ask") != field("told") {
        let maps: Api<ConfigMap> = Api::namespaced(context.client(), "default");
        let told = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"told": field("ask")}});
        maps.patch(
            &map.name_any(),
            &PatchParams::apply("teller").force(),
            &Patch::Apply(told),
        )
        .await?;
    }
    Ok(Action::await_change())
}

struct Rig {
    fleet: Fleet,
    clients: Vec<Client>,
}

async fn start() -> Rig {
    let names = (0..MEMBERS).map(|index| format!("member-{index}"));
    let fleet = Fleet::builder()
        .members(names)
        .patience(Duration::from_secs(240))
        .start()
        .await
        .unwrap();
    let mut connector = StaticConnector::default();
    for (index, member) in fleet.members().iter().enumerate() {
        let mut config = member.config();
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(5));
        connector = connector.with_client(name(index), Client::try_from(config).unwrap());
    }
    let clients = fleet
        .members()
        .iter()
        .map(|member| member.direct_client().unwrap())
        .collect();
    let membership: StaticMembership = (0..MEMBERS).map(|index| Member::new(name(index))).collect();
    let options = MembersOptions::default().with_health(HealthPolicy::with_grace(GRACE));
    let members = Members::start(
        Arc::new(membership),
        Arc::new(connector),
        None,
        None,
        options,
        &SystemClock::new(),
    );
    let controller = UniformController::<ConfigMap>::new(members.clone())
        .watcher(watcher::Config::default().labels("ask=true"));
    tokio::spawn(controller.run(tell, Arc::new(()), std::future::pending()));
    members
        .engaged()
        .wait_for(|engaged| engaged.len() == MEMBERS)
        .await
        .unwrap();
    Rig { fleet, clients }
}

/// Asks every given member once, all at the same time, and says how long each took to answer.
async fn round(rig: &Rig, members: &[usize], question: &str) -> Vec<Duration> {
    let asked = members.iter().map(|index| async {
        let maps: Api<ConfigMap> = Api::namespaced(rig.clients[*index].clone(), "default");
        let ask = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"ask": question},
            "metadata": {"name": "question", "labels": {"ask": "true"}},
        });
        let start = Instant::now();
        maps.patch(
            "question",
            &PatchParams::apply("asker").force(),
            &Patch::Apply(ask),
        )
        .await
        .unwrap();
        let config = watcher::Config::default().fields("metadata.name=question");
        let answers = watch(maps, config).default_backoff().applied_objects();
        futures::pin_mut!(answers);
        while let Some(answer) = answers.next().await {
            let told = answer.ok().and_then(|map| map.data?.get("told").cloned());
            if told.as_deref() == Some(question) {
                break;
            }
        }
        start.elapsed()
    });
    futures::future::join_all(asked).await
}

async fn p99(rig: &Rig, members: &[usize], phase: &str) -> Duration {
    let mut waits = Vec::new();
    for index in 0..ROUNDS {
        waits.extend(round(rig, members, &format!("{phase}-{index}")).await);
    }
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    println!(
        "{phase}: {} answers, median {:?}, p99 {p99:?}",
        waits.len(),
        waits[waits.len() / 2]
    );
    p99
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_hang_cost_the_others_nothing() {
    let rig = start().await;
    let others: Vec<usize> = (3..MEMBERS).collect();
    p99(&rig, &others, "warm").await;
    let healthy = p99(&rig, &others, "k0").await;
    for index in 0..3 {
        // Work that is under way when the member falls silent.
        let maps: Api<ConfigMap> = Api::namespaced(rig.clients[index].clone(), "default");
        for object in 0..20 {
            let ask = json!({"metadata": {"name": format!("open-{object}"), "labels": {"ask": "true"}}, "data": {"ask": "x"}});
            let ask: ConfigMap = serde_json::from_value(ask).unwrap();
            maps.create(&PostParams::default(), &ask).await.unwrap();
        }
        rig.fleet.members()[index].pause(Part::ApiServer).unwrap();
    }
    let hung = p99(&rig, &others, "k3").await;
    for index in 0..3 {
        rig.fleet.members()[index].resume(Part::ApiServer).unwrap();
    }
    let ratio = hung.as_secs_f64() / healthy.as_secs_f64();
    println!("p99 with 3 of {MEMBERS} hung is {ratio:.2} times that with none");
    assert!(ratio <= 1.2, "k=3 is {ratio:.2} times k=0");
}
