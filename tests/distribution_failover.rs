//! Applications leave clusters that are tainted or lost, and come home without anybody missing a replica.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, future::join_all};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node};
use kube::{
    Api, ResourceExt,
    api::ListParams,
    runtime::{WatchStreamExt, watcher},
};
use kurator::{
    fleet::api::AttachedCluster,
    policy::api::{CarryPhase, DistributionPolicy, DistributionPolicyStatus, FailoverCause},
};
use kurator_envtest::{Controllers, Cut, Member, MemberSpec, Nodes, Part};
use serde_json::{Value, json};
use storefront::{DR, PROD, Storefront, condition, create, deployment, deployments, edit};
use tokio::{task::JoinHandle, time::Instant};

fn member(name: &str, nodes: Nodes) -> MemberSpec {
    MemberSpec::new(name)
        .with_controllers(Controllers::Tuned)
        .with_scheduler()
        .with_nodes(nodes)
}

/// Adds up what is ready in all members at every moment, from watches of its own.
struct Observer {
    ready: Arc<Mutex<BTreeMap<String, Option<i32>>>>,
    least: Arc<Mutex<i32>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What is ready altogether, once every member has been seen.
fn sum(ready: &BTreeMap<String, Option<i32>>) -> Option<i32> {
    ready.values().copied().sum()
}

impl Observer {
    fn start<'a>(members: impl IntoIterator<Item = &'a Member>, deployment: &'static str) -> Self {
        let mut this = Self {
            ready: Arc::default(),
            least: Arc::new(Mutex::new(i32::MAX)),
            tasks: Vec::new(),
        };
        let watch = |member: &Member| {
            let (name, ready, least) = (
                member.name().to_owned(),
                Arc::clone(&this.ready),
                Arc::clone(&this.least),
            );
            ready.lock().unwrap().insert(name.clone(), None);
            let config = watcher::Config::default().fields(&format!("metadata.name={deployment}"));
            let mut events = watcher(deployments(member), config).default_backoff().boxed();
            tokio::spawn(async move {
                while let Some(event) = events.next().await {
                    let count = match event {
                        Ok(watcher::Event::InitApply(it) | watcher::Event::Apply(it)) => {
                            it.status.and_then(|status| status.ready_replicas).unwrap_or(0)
                        }
                        Ok(watcher::Event::Delete(_)) => 0,
                        _ => continue,
                    };
                    let mut ready = ready.lock().unwrap();
                    ready.insert(name.clone(), Some(count));
                    let mut least = least.lock().unwrap();
                    *least = (*least).min(sum(&ready).unwrap_or(i32::MAX));
                }
            })
        };
        let tasks: Vec<_> = members.into_iter().map(watch).collect();
        this.tasks = tasks;
        this
    }

    fn least(&self) -> i32 {
        assert!(
            sum(&self.ready.lock().unwrap()).is_some(),
            "every member was seen"
        );
        *self.least.lock().unwrap()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn taint(fleet: &Storefront, cluster: &str, taints: Value) {
    let api: Api<AttachedCluster> = Api::namespaced(fleet.hub.clone(), "default");
    edit(&api, cluster, json!({ "spec": { "taints": taints } })).await;
}

async fn ready(fleet: &Storefront, policy: &str, shares: &[(&str, i64)]) {
    let whole: i64 = shares.iter().map(|(_, replicas)| replicas).sum();
    fleet
        .status(policy, &format!("{shares:?} and nothing else"), |it| {
            let has = |(cluster, replicas): &(&str, i64)| {
                let entry = storefront::entry(it, cluster);
                entry.map_or(0, |entry| entry.ready_replicas) == *replicas
            };
            shares.iter().all(has)
                && it.totals.as_ref().is_some_and(|it| it.applied_replicas == whole)
                && condition(it, "Ready", "True").is_some()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_leaves_and_comes_home_without_a_replica_too_few() {
    let mut fleet = Storefront::of([member(PROD, Nodes::new(2)), member(DR, Nodes::new(2))]).await;
    fleet.run();
    fleet.template(10).await;
    let policy = json!({
        "metadata": { "name": "web" },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "storefront" }],
            "placement": {
                "clusterTolerations": [{
                    "key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2,
                }],
                "replicaScheduling": {
                    "replicaDivisionPreference": "Weighted",
                    "rebalancing": { "maxMovesPercent": 20, "stabilizationSeconds": 1 },
                },
            },
            "failover": { "cluster": { "tolerationSeconds": 1 }, "stabilizationSeconds": 2 },
        },
    });
    let _: DistributionPolicy = create(&fleet.policy_api(), policy).await;
    ready(&fleet, "web", &[(PROD, 5), (DR, 5)]).await;
    let observer = Observer::start([fleet.member(PROD), fleet.member(DR)], "storefront");

    let begun = Instant::now();
    taint(
        &fleet,
        PROD,
        json!([{ "key": "maintenance", "effect": "NoExecute" }]),
    )
    .await;
    fleet.gone(PROD, "storefront").await;
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "the taint is tolerated for 2 s"
    );
    ready(&fleet, "web", &[(DR, 10)]).await;
    let status = fleet.policy_api().get("web").await.unwrap().status.unwrap();
    let left: Vec<_> = status
        .failovers
        .iter()
        .map(|it| (it.name.as_str(), it.cluster.as_str(), it.cause, it.purged))
        .collect();
    assert_eq!(left, [("storefront", PROD, FailoverCause::Tainted, true)]);
    fleet.event("Evicted").await;

    // A successor knows what left, and takes nothing home before its time.
    fleet.crash().await;
    fleet.run();
    taint(&fleet, PROD, json!(null)).await;
    ready(&fleet, "web", &[(PROD, 5), (DR, 5)]).await;
    fleet.event("MayReturn").await;
    assert!(
        observer.least() >= 10,
        "{} of 10 replicas were ready",
        observer.least()
    );
    let status = fleet.policy_api().get("web").await.unwrap().status.unwrap();
    assert_eq!(status.failovers, []);
    assert!(
        status.placements.iter().all(|it| it.holding.is_empty()),
        "{:?}",
        status.placements
    );

    // Lost altogether: replaced elsewhere, and taken out when it is back.
    fleet.member(PROD).link().cut(Cut::Reset);
    ready_in(&fleet, DR, "storefront", 10).await;
    fleet.member(PROD).link().heal();
    ready(&fleet, "web", &[(PROD, 5), (DR, 5)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_most_of_the_fleet_is_out_of_reach_it_is_not_emptied() {
    const LOST: [&str; 3] = ["cluster-a", "cluster-b", "cluster-c"];
    let mut fleet = Storefront::of(LOST.into_iter().chain([DR]).map(MemberSpec::new)).await;
    fleet.run();
    fleet.template(8).await;
    let policy = json!({
        "metadata": { "name": "web" },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "storefront" }],
            "placement": { "replicaScheduling": { "replicaDivisionPreference": "Weighted" } },
            "failover": { "cluster": { "tolerationSeconds": 1, "purgeMode": "Directly" } },
        },
    });
    let _: DistributionPolicy = create(&fleet.policy_api(), policy).await;
    fleet.replicas(DR, "storefront", 2).await;
    for name in LOST {
        fleet.replicas(name, "storefront", 2).await;
    }
    for name in LOST {
        fleet.member(name).link().cut(Cut::Reset);
    }
    let held = |it: &DistributionPolicyStatus| condition(it, "FailoverHeld", "True").is_some();
    let status = fleet.status("web", "the failover held", held).await;
    assert_eq!(status.failovers, []);
    fleet.event("FleetDisrupted").await;

    // The two that are still away when most are back count from then on.
    fleet.member(LOST[0]).link().heal();
    let status = fleet
        .status("web", "two clusters left", |it| it.failovers.len() == 2)
        .await;
    assert!(condition(&status, "FailoverHeld", "True").is_none());
    let left: Vec<_> = status.failovers.iter().map(|it| it.cluster.as_str()).collect();
    assert_eq!(left, &LOST[1..]);
    fleet.replicas(DR, "storefront", 4).await;
}

async fn ready_in(fleet: &Storefront, cluster: &str, name: &str, replicas: i32) {
    let what = format!("{replicas} ready");
    fleet
        .deployment(cluster, name, &what, |it| {
            it.and_then(|it| it.status.as_ref())
                .map_or(0, |it| it.ready_replicas.unwrap_or(0))
                == replicas
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_failovers_fits_the_room_there_is() {
    const HOME: &str = "cluster-home";
    const TEN: &str = "cluster-ten";
    const FIVE: &str = "cluster-five";
    let cpus = |count: u32| Nodes::new(1).with_capacity("cpu", count.to_string());
    let mut fleet = Storefront::of([
        member(HOME, cpus(20)),
        member(TEN, cpus(10)),
        member(FIVE, cpus(5)),
    ])
    .await;
    fleet.run_with(|settings| settings.eviction_pace = Duration::from_millis(20));
    let api: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    for number in 0..15 {
        let mut object = deployment(&format!("app-{number:02}"), 1);
        object["metadata"]["labels"]["burst"] = json!("yes");
        object["spec"]["template"]["spec"]["containers"][0]["resources"] =
            json!({ "requests": { "cpu": "1" } });
        let _: Deployment = create(&api, object).await;
    }
    let policy = json!({
        "metadata": { "name": "burst" },
        "spec": {
            "resourceSelectors": [{
                "apiVersion": "apps/v1", "kind": "Deployment",
                "labelSelector": { "matchLabels": { "burst": "yes" } },
            }],
            "placement": {
                "clusterAffinities": [
                    { "affinityName": "home", "clusterNames": [HOME] },
                    { "affinityName": "away", "clusterNames": [TEN, FIVE] },
                ],
                "replicaScheduling": { "replicaDivisionPreference": "Aggregated" },
            },
            "failover": { "cluster": {} },
        },
    });
    let _: DistributionPolicy = create(&fleet.policy_api(), policy).await;
    ready(&fleet, "burst", &[(HOME, 15)]).await;
    taint(&fleet, HOME, json!([{ "key": "fire", "effect": "NoExecute" }])).await;
    ready(&fleet, "burst", &[(TEN, 10), (FIVE, 5)]).await;
    let names: Vec<String> = (0..15).map(|number| format!("app-{number:02}")).collect();
    join_all(names.iter().map(|name| fleet.gone(HOME, name))).await;
    assert_eq!(fleet.counts.sum("evictions"), 15.0);
    assert_eq!(fleet.counts.sum("objects_drifted"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_on_an_edge_node_that_is_cut_off_on_purpose_are_presumed_to_run() {
    let edge =
        member(PROD, Nodes::new(2)).with_flag(Part::ControllerManager, "--node-monitor-grace-period=4s");
    let mut fleet = Storefront::of([edge, member(DR, Nodes::new(2))]).await;
    fleet.run();
    for name in [PROD, DR] {
        let nodes: Api<Node> = Api::all(fleet.member(name).direct_client().unwrap());
        let [edge, cloud]: [Node; 2] = nodes
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .try_into()
            .unwrap();
        let autonomous = json!({ "node.beta.openyurt.io/autonomy": "true" });
        let edge_node = json!({ "metadata": { "labels": { "place": "edge" }, "annotations": autonomous } });
        edit(&nodes, &edge.name_any(), edge_node).await;
        edit(
            &nodes,
            &cloud.name_any(),
            json!({ "metadata": { "labels": { "place": "cloud" } } }),
        )
        .await;
    }
    let templates: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    for place in ["edge", "cloud"] {
        let mut object = deployment(place, 4);
        object["spec"]["template"]["spec"]["nodeSelector"] = json!({ "place": place });
        let _: Deployment = create(&templates, object).await;
        let policy = json!({
            "metadata": { "name": place },
            "spec": {
                "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": place }],
                "placement": { "replicaScheduling": { "replicaDivisionPreference": "Weighted" } },
            },
        });
        let _: DistributionPolicy = create(&fleet.policy_api(), policy).await;
    }
    // How long the first pods take is nobody's failure.
    for place in ["edge", "cloud"] {
        ready(&fleet, place, &[(PROD, 2), (DR, 2)]).await;
        // A cluster whose nodes are all lost is not ready, and then it is not the application's fault.
        let failover =
            json!({ "application": { "tolerationSeconds": 5 }, "cluster": { "tolerationSeconds": 5 } });
        edit(
            &fleet.policy_api(),
            place,
            json!({ "spec": { "failover": failover } }),
        )
        .await;
    }

    // Nobody hears of its nodes any more, and its pods are no longer ready for its API server.
    fleet.member(PROD).pause(Part::Kwok).unwrap();
    ready_in(&fleet, PROD, "edge", 0).await;
    let status = fleet
        .status("edge", "two presumed to run, and nothing wrong", |it| {
            let prod = storefront::entry(it, PROD).cloned().unwrap_or_default();
            (prod.ready_replicas, prod.presumed_replicas) == (0, 2) && prod.reason == "Applied"
        })
        .await;
    assert_eq!(status.totals.unwrap().presumed_replicas, 2);
    // What is not autonomous is replaced, and by then so would be the other.
    ready_in(&fleet, DR, "cloud", 4).await;
    fleet.gone(PROD, "cloud").await;
    let status = fleet.policy_api().get("edge").await.unwrap().status.unwrap();
    assert_eq!(status.failovers, []);
    assert_eq!(fleet.replicas(DR, "edge", 2).await.name_any(), "edge");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_copy_that_is_lost_goes_to_the_cluster_that_takes_over() {
    const READY: &str = "example.com/ready";
    const REASON: &str = "example.com/first-condition";
    let mut fleet = Storefront::of([member(PROD, Nodes::new(1)), member(DR, Nodes::new(1))]).await;
    fleet.run();
    let templates: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    let _: Deployment = create(&templates, deployment("job", 2)).await;
    let rule = |label: &str, path: &str| json!({ "aliasLabelName": label, "jsonPath": path });
    let policy = json!({
        "metadata": { "name": "job" },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "job" }],
            "placement": {
                "clusterAffinities": [
                    { "affinityName": "home", "clusterNames": [PROD] },
                    { "affinityName": "away", "clusterNames": [DR] },
                ],
                "replicaScheduling": { "replicaDivisionPreference": "Aggregated" },
            },
            "failover": {
                "cluster": { "tolerationSeconds": 1, "purgeMode": "Directly" },
                "statePreservation": { "rules": [
                    rule(READY, "{.readyReplicas}"),
                    rule(REASON, "{ .conditions[0].status }"),
                    rule("example.com/list", "{.conditions}"),
                ]},
            },
        },
    });
    let _: DistributionPolicy = create(&fleet.policy_api(), policy).await;
    ready(&fleet, "job", &[(PROD, 2)]).await;
    let carried = BTreeMap::from([
        (READY.to_owned(), "2".to_owned()),
        (REASON.to_owned(), "True".to_owned()),
    ]);
    // What it says is on the hub before anything happens, and what cannot be a label is told.
    fleet
        .status("job", "the state of the copy", |it| {
            let states = it.placements.iter().flat_map(|it| &it.states);
            let here: Vec<_> = states.collect();
            let unfit = condition(it, "StateCarried", "False");
            here == [(&PROD.to_owned(), &carried)]
                && unfit.is_some_and(|(reason, _)| reason == "StateNotScalar")
        })
        .await;

    // The controller that sees the failover has never seen the copy.
    fleet.crash().await;
    fleet.member(PROD).link().cut(Cut::Reset);
    fleet.run();
    let has = |it: &Deployment| {
        carried
            .iter()
            .all(|(label, value)| it.labels().get(label) == Some(value))
    };
    fleet
        .deployment(DR, "job", "with the state", |it| it.is_some_and(has))
        .await;
    ready_in(&fleet, DR, "job", 2).await;
    let api = deployments(fleet.member(PROD));
    let lost = api.get("job").await.unwrap();
    assert!(!lost.labels().contains_key(READY), "the lost copy gets nothing");
    let status = fleet
        .status("job", "begun with it", |it| {
            let mut states = it.failovers.iter().filter_map(|it| it.state.as_ref());
            states.any(|it| it.revision.is_some())
        })
        .await;
    let [left] = status.failovers.as_slice() else {
        panic!("one failover: {:?}", status.failovers)
    };
    let state = left.state.as_ref().unwrap();
    assert_eq!(
        (state.phase, state.cluster.as_deref()),
        (CarryPhase::Carried, Some(DR))
    );
    assert_eq!(state.labels, carried);

    // Another number of replicas is no other application; another template is.
    edit(&templates, "job", json!({ "spec": { "replicas": 3 } })).await;
    ready_in(&fleet, DR, "job", 3).await;
    assert!(has(&deployments(fleet.member(DR)).get("job").await.unwrap()));
    edit(
        &templates,
        "job",
        json!({ "metadata": { "annotations": { "build": "2" } } }),
    )
    .await;
    fleet
        .deployment(DR, "job", "without the state", |it| {
            it.is_some_and(|it| !it.labels().contains_key(READY) && it.annotations().contains_key("build"))
        })
        .await;

    // A rule that cannot be used holds everything as it is.
    let bad = json!({ "spec": { "failover": { "statePreservation": { "rules": [rule("a b", "{.x}")] } } } });
    edit(&fleet.policy_api(), "job", bad).await;
    fleet
        .status("job", "the rule refused", |it| {
            condition(it, "Degraded", "True").is_some_and(|(reason, _)| reason == "InvalidSpec")
        })
        .await;
    fleet.member(PROD).link().heal();
}
