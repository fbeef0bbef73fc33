//! Drains on real control planes in which something goes wrong: each ends in the state that `docs/scaling.md` names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod drain_rig;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams},
    client::Body,
};
use kurator_core::{
    clock::{Clock, SystemClock},
    connect::{ClientPurpose, ClusterConnector, ConnectError, StaticConnector},
    names::ClusterName,
};
use kurator_envtest::{Controllers, Fleet, Member, MemberSpec, Nodes, Part};
use kurator_fleet::scaling::{
    Blocker, DrainPolicy, ScaleDown, ScaleDownPlan, Window,
    execute::{
        DrainExecutor, DrainOptions, DrainOutcome, DrainReport, DrainStanding, InMemoryInfrastructure, Left,
        OnDeadline, SURGE, Waiting,
    },
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::drain_rig::{deploy, no_retry, plan, settled, traces};

const APPS: usize = 4;
const REPLICAS: i32 = 4;
const HOLD: &str = "test.kurator.dev/hold";

struct Rig {
    fleet: Fleet,
    client: Client,
    machines: InMemoryInfrastructure,
    standing: watch::Receiver<Option<DrainStanding>>,
    sender: watch::Sender<Option<DrainStanding>>,
}

impl Rig {
    async fn start() -> Self {
        let member = MemberSpec::new("east")
            .with_controllers(Controllers::Tuned)
            .with_scheduler()
            .with_nodes(Nodes::new(6).with_zones(["a", "b", "c"]));
        let fleet = Fleet::builder().member(member).start().await.unwrap();
        let client = no_retry(fleet.member("east").unwrap());
        deploy(&client, APPS, REPLICAS, "300m").await;
        settled(fleet.member("east").unwrap(), APPS, REPLICAS).await;
        let (sender, standing) = watch::channel(None);
        Self {
            fleet,
            client,
            machines: InMemoryInfrastructure::new(),
            standing,
            sender,
        }
    }

    fn member(&self) -> &Member {
        self.fleet.member("east").unwrap()
    }

    async fn settled(&self) {
        settled(self.member(), APPS, REPLICAS).await;
    }

    async fn plan(&self, nodes: &[&str]) -> ScaleDownPlan {
        let plan = plan(
            &self.client,
            &ScaleDown::nodes(nodes.iter().copied()),
            &DrainPolicy::default(),
        )
        .await;
        assert_eq!(plan.remove, nodes, "{plan}");
        plan
    }

    fn executor(&self) -> DrainExecutor {
        let cluster: ClusterName = "east".parse().unwrap();
        let connector = StaticConnector::default().with_client(cluster.clone(), self.client.clone());
        DrainExecutor::new(connector, cluster, self.machines.clone())
            .with_replanning(DrainPolicy::default())
            .with_standing(self.sender.clone())
    }

    /// Waits until the drain is as it should be.
    async fn until(&self, met: impl FnMut(&Option<DrainStanding>) -> bool) {
        let mut standing = self.standing.clone();
        let waited = tokio::time::timeout(Duration::from_secs(90), standing.wait_for(met)).await;
        waited.expect("the drain does not get there").unwrap();
    }

    async fn patch<K>(&self, api: &Api<K>, name: &str, patch: Value)
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    fn budgets(&self) -> Api<PodDisruptionBudget> {
        Api::default_namespaced(self.client.clone())
    }

    async fn pods_on(&self, node: &str) -> Vec<Pod> {
        let on_it = ListParams::default().fields(&format!("spec.nodeName={node}"));
        self.pods().list(&on_it).await.unwrap().items
    }

    /// What was removed, each as often as once.
    fn removed(&self) -> BTreeSet<String> {
        let removals = self.machines.removals();
        assert!(removals.values().all(|times| *times == 1), "{removals:?}");
        removals.into_keys().collect()
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn why(report: &DrainReport) -> BTreeMap<&str, &Left> {
    report
        .left
        .iter()
        .map(|(node, why)| (node.as_str(), why))
        .collect()
}

/// A paused controller manager: budgets stand still, and one of them is edited. The drain waits without a refused
/// eviction, and goes on when the budgets are looked after again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_controllers_a_drain_waits_and_nothing_is_refused() {
    let rig = Rig::start().await;
    let plan = rig.plan(&["node-0", "node-1"]).await;
    rig.member().pause(Part::ControllerManager).unwrap();
    rig.patch(&rig.budgets(), "app-0", json!({"spec": {"maxUnavailable": 2}}))
        .await;
    let (executor, cancel) = (rig.executor(), CancellationToken::new());
    let drain = executor.run(&plan, cancel);
    let meddle = async {
        // What the budgets allowed has gone, and nothing has come in its place.
        rig.until(|standing| standing.as_ref().is_some_and(|standing| standing.pods_moved >= 2))
            .await;
        rig.member().resume(Part::ControllerManager).unwrap();
    };
    let (report, ()) = tokio::join!(drain, meddle);
    let report = report.unwrap();
    assert_eq!(
        (&report.outcome, report.refused),
        (&DrainOutcome::Completed, 0),
        "{report:?}"
    );
    assert_eq!(rig.removed(), names(&["node-0", "node-1"]));
    assert_eq!(traces(&rig.client).await, (BTreeSet::new(), BTreeSet::new()));
}

/// Paused kubelets: pods stay Terminating. Nothing is removed while they do; then the drain goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_kubelets_nothing_is_removed_and_the_drain_goes_on_with_them() {
    let rig = Rig::start().await;
    let plan = rig.plan(&["node-0", "node-1"]).await;
    rig.member().pause(Part::Kwok).unwrap();
    let executor = rig.executor();
    let drain = executor.run(&plan, CancellationToken::new());
    let meddle = async {
        let terminating = |pods: &[&Pod]| pods.iter().any(|pod| pod.metadata.deletion_timestamp.is_some());
        rig.member()
            .wait_for_all(
                &rig.pods(),
                &ListParams::default(),
                "a pod is Terminating",
                terminating,
            )
            .await
            .unwrap();
        assert_eq!(rig.removed(), BTreeSet::new());
        rig.member().resume(Part::Kwok).unwrap();
    };
    let (report, ()) = tokio::join!(drain, meddle);
    let report = report.unwrap();
    assert_eq!(
        (&report.outcome, report.refused),
        (&DrainOutcome::Completed, 0),
        "{report:?}"
    );
    assert_eq!(rig.removed(), names(&["node-0", "node-1"]));
}

/// Too many nodes not Ready: nothing is evicted until that is better. One node of the plan not Ready for longer than the
/// patience, and one on the edge: they leave the plan, with their cordons, and the others go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_out_of_reach_are_let_go_of_and_a_sick_cluster_is_waited_for() {
    let rig = Rig::start().await;
    let plan = rig.plan(&["node-0", "node-1", "node-2"]).await;
    let edge = json!({"metadata": {"labels": {"node-role.kubernetes.io/edge": ""}}});
    rig.patch(&rig.nodes(), "node-1", edge).await;
    let unready = async |name: &str| {
        rig.member().silence_node(name).await.unwrap();
        let status = json!({"status": {"conditions": [
            {"type": "Ready", "status": "Unknown", "reason": "Test", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]}});
        let patch = Patch::Strategic(status);
        rig.nodes()
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    for name in ["node-0", "node-1", "node-4"] {
        unready(name).await;
    }
    let executor = rig
        .executor()
        .with_options(DrainOptions::default().with_unready_patience(Duration::from_secs(2)));
    let drain = executor.run(&plan, CancellationToken::new());
    let meddle = async {
        // Two of five cloud nodes: 40%.
        rig.until(|standing| {
            let waiting = standing.as_ref().and_then(|standing| standing.waiting.clone());
            matches!(waiting, Some(Waiting::ClusterUnhealthy { unready: 2, total: 5 }))
        })
        .await;
        assert_eq!(
            rig.pods_on("node-2").await.len(),
            plan.waves
                .iter()
                .flat_map(|wave| &wave.nodes)
                .find(|node| node.node == "node-2")
                .unwrap()
                .moves
                .len()
        );
        rig.member().revive_node("node-4").await.unwrap();
    };
    let (report, ()) = tokio::join!(drain, meddle);
    let report = report.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Completed, "{report:?}");
    let left = why(&report);
    assert!(matches!(left["node-0"], Left::NodeNotReady { .. }), "{left:?}");
    assert_eq!(left["node-1"], &Left::EdgeDisconnected);
    assert_eq!(rig.removed(), names(&["node-2"]));
    assert_eq!(traces(&rig.client).await, (BTreeSet::new(), BTreeSet::new()));
    let ending: Vec<String> = rig
        .pods_on("node-1")
        .await
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_some())
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(
        ending,
        Vec::<String>::new(),
        "no pod of the edge node was touched"
    );
}

/// A finalizer that nobody removes: at its deadline the node leaves the plan and is schedulable again, and the others
/// go. Force deletes pods past their budget, and gives up on what stays all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_never_ends_keeps_its_node_and_no_other() {
    let rig = Rig::start().await;
    let plan = rig.plan(&["node-0", "node-1"]).await;
    let held = rig.pods_on("node-0").await[0].name_any();
    let hold = json!({"metadata": {"finalizers": [HOLD]}});
    rig.patch(&rig.pods(), &held, hold).await;
    let leave = DrainOptions::default().with_node_deadline(Duration::from_secs(8), OnDeadline::Leave);
    let report = rig
        .executor()
        .with_options(leave)
        .run(&plan, CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(report.outcome, DrainOutcome::Completed, "{report:?}");
    assert!(
        matches!(why(&report)["node-0"], Left::Deadline { pods } if pods.contains(&format!("default/{held}")))
    );
    assert_eq!(rig.removed(), names(&["node-1"]));
    assert_eq!(traces(&rig.client).await, (BTreeSet::new(), BTreeSet::new()));
    rig.settled().await;

    // By force: budgets of nothing do not help, the finalizer does.
    let plan = rig.plan(&["node-2"]).await;
    let names_of: Vec<String> = rig
        .pods_on("node-2")
        .await
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    let held = names_of[0].clone();
    rig.patch(&rig.pods(), &held, json!({"metadata": {"finalizers": [HOLD]}}))
        .await;
    for app in 0..APPS {
        let none = json!({"spec": {"maxUnavailable": 0}});
        rig.patch(&rig.budgets(), &format!("app-{app}"), none).await;
    }
    let force = DrainOptions::default()
        .with_node_deadline(Duration::from_secs(2), OnDeadline::Force { max_grace_seconds: 1 });
    let cluster: ClusterName = "east".parse().unwrap();
    let connector = StaticConnector::default().with_client(cluster.clone(), rig.client.clone());
    // Without planning again: the budgets of nothing are to hold it until the deadline.
    let report = DrainExecutor::new(connector, cluster, rig.machines.clone())
        .with_options(force)
        .run(&plan, CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(
        (report.evicted, report.forced as usize),
        (0, names_of.len()),
        "{report:?}"
    );
    assert!(
        matches!(why(&report)["node-2"], Left::Deadline { pods } if pods.len() == 1),
        "{report:?}"
    );
    let stuck = &report.stuck[&format!("default/{held}")];
    assert!(stuck.contains(HOLD), "{stuck}");
    assert_eq!(traces(&rig.client).await, (BTreeSet::new(), BTreeSet::new()));
}

/// A second budget on a pod, and a budget that allows nothing any more: both come after the drain began. It is planned
/// again, the nodes that can no longer go leave the plan with the blocker, and the others go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_that_change_make_the_rest_planned_again() {
    let rig = Rig::start().await;
    let plan = rig.plan(&["node-0", "node-1", "node-2"]).await;
    // The last wave can be changed while the first is held.
    let waves: Vec<Vec<String>> = plan.summary().waves;
    assert!(waves.len() >= 2, "{plan}");
    let first = waves[0][0].clone();
    let last = waves.last().unwrap().last().unwrap().clone();
    let held = rig.pods_on(&first).await[0].name_any();
    rig.patch(&rig.pods(), &held, json!({"metadata": {"finalizers": [HOLD]}}))
        .await;
    let executor = rig.executor();
    let drain = executor.run(&plan, CancellationToken::new());
    let meddle = async {
        let held_now = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
        rig.member().wait_for(&rig.pods(), &held, held_now).await.unwrap();
        let pod = rig.pods_on(&last).await[0].clone();
        rig.patch(
            &rig.pods(),
            &pod.name_any(),
            json!({"metadata": {"labels": {"twice": "yes"}}}),
        )
        .await;
        let second: PodDisruptionBudget = serde_json::from_value(json!({
            "metadata": {"name": "second"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"twice": "yes"}}},
        }))
        .unwrap();
        rig.budgets()
            .create(&PostParams::default(), &second)
            .await
            .unwrap();
        rig.until(|standing| {
            standing
                .as_ref()
                .is_some_and(|standing| !standing.nodes.contains(&last))
        })
        .await;
        rig.patch(&rig.pods(), &held, json!({"metadata": {"finalizers": null}}))
            .await;
    };
    let (report, ()) = tokio::join!(drain, meddle);
    let report = report.unwrap();
    assert_eq!(
        (&report.outcome, report.refused),
        (&DrainOutcome::Completed, 0),
        "{report:?}"
    );
    assert!(report.replans >= 1);
    let Left::NoLongerPossible { blockers } = why(&report)[last.as_str()] else {
        panic!("{report:?}");
    };
    assert!(
        matches!(blockers[..], [Blocker::SeveralBudgets { .. }, ..]),
        "{blockers:?}"
    );
    let gone: BTreeSet<String> = plan
        .remove
        .iter()
        .filter(|node| **node != last)
        .cloned()
        .collect();
    assert_eq!(rig.removed(), gone);
    assert_eq!(traces(&rig.client).await, (BTreeSet::new(), BTreeSet::new()));
}

/// A namespace that ends: its pods go with it, whatever the eviction says, and then the node goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_namespace_that_ends_are_waited_for() {
    let rig = Rig::start().await;
    let doomed: Namespace = serde_json::from_value(json!({"metadata": {"name": "doomed"}})).unwrap();
    let namespaces: Api<Namespace> = Api::all(rig.client.clone());
    namespaces.create(&PostParams::default(), &doomed).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(rig.client.clone(), "doomed");
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "doomed"},
        "spec": {"replicas": 6, "selector": {"matchLabels": {"app": "doomed"}}, "template": {
            "metadata": {"labels": {"app": "doomed"}, "finalizers": [HOLD]},
            "spec": {"containers": [{"name": "c", "image": "c"}]},
        }},
    }))
    .unwrap();
    Api::<Deployment>::namespaced(rig.client.clone(), "doomed")
        .create(&PostParams::default(), &deployment)
        .await
        .unwrap();
    let running = |pods: &[&Pod]| {
        pods.len() == 6
            && pods
                .iter()
                .all(|pod| pod.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Running"))
    };
    rig.member()
        .wait_for_all(&pods, &ListParams::default(), "six pods run", running)
        .await
        .unwrap();
    let plan = rig.plan(&["node-0", "node-1"]).await;
    namespaces
        .delete("doomed", &DeleteParams::default())
        .await
        .unwrap();
    let executor = rig.executor();
    let drain = executor.run(&plan, CancellationToken::new());
    let meddle = async {
        let ending = |pods: &[&Pod]| pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_some());
        rig.member()
            .wait_for_all(&pods, &ListParams::default(), "all of them end", ending)
            .await
            .unwrap();
        // Everything else has gone, and they are still there.
        rig.until(|standing| standing.as_ref().is_some_and(|standing| standing.pods_moved > 0))
            .await;
        assert!(!rig.removed().contains("node-0") || !rig.removed().contains("node-1"));
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            let name = pod.name_any();
            let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let _ = pods.patch(&name, &PatchParams::default(), &free).await;
        }
    };
    let (report, ()) = tokio::join!(drain, meddle);
    let report = report.unwrap();
    assert_eq!(
        (&report.outcome, report.refused),
        (&DrainOutcome::Completed, 0),
        "{report:?}"
    );
    assert_eq!(rig.removed(), names(&["node-0", "node-1"]));
}

/// A rival cordons, uncordons and evicts: what it uncordoned leaves the plan, what it cordoned stays cordoned, and its
/// evictions make ours wait, not fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rival_keeps_its_cordons_and_gets_back_what_it_wants() {
    let rig = Rig::start().await;
    let plan = rig.plan(&["node-0", "node-1", "node-2"]).await;
    let last = plan.summary().waves.last().unwrap().last().unwrap().clone();
    let cordon = |on: bool| json!({"spec": {"unschedulable": on}});
    rig.patch(&rig.nodes(), "node-5", cordon(true)).await;
    let executor = rig.executor();
    let drain = executor.run(&plan, CancellationToken::new());
    let rival = async {
        let marked = |node: Option<&Node>| {
            node.is_some_and(|node| node.annotations().contains_key("scaling.kurator.dev/drain"))
        };
        rig.member().wait_for(&rig.nodes(), &last, marked).await.unwrap();
        rig.patch(&rig.nodes(), &last, cordon(false)).await;
        let mut evicted = 0;
        for node in ["node-3", "node-4", last.as_str()] {
            for pod in rig.pods_on(node).await {
                let asked = rig.pods().evict(&pod.name_any(), &EvictParams::default()).await;
                evicted += u32::from(asked.is_ok());
            }
        }
        evicted
    };
    let (report, evicted) = tokio::join!(drain, rival);
    let report = report.unwrap();
    assert!(evicted >= 1);
    assert_eq!(report.outcome, DrainOutcome::Completed, "{report:?}");
    assert_eq!(why(&report), BTreeMap::from([(last.as_str(), &Left::TakenBack)]));
    let gone: BTreeSet<String> = plan
        .remove
        .iter()
        .filter(|node| **node != last)
        .cloned()
        .collect();
    assert_eq!(rig.removed(), gone);
    assert_eq!(traces(&rig.client).await, (names(&["node-5"]), BTreeSet::new()));
    println!(
        "a rival evicted {evicted}; {} of our {} evictions were refused",
        report.refused,
        report.evicted + report.refused
    );
}

/// A client whose answers are lost after the server has acted, every second one.
#[derive(Clone)]
struct Lossy {
    client: Client,
    answers: Arc<AtomicU32>,
}

impl tower_service::Service<http::Request<Body>> for Lossy {
    type Response = http::Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (client, answers) = (self.client.clone(), Arc::clone(&self.answers));
        Box::pin(async move {
            let answer = client.send(request).await?;
            if answers.fetch_add(1, Ordering::SeqCst) % 2 == 0 {
                return Err("the connection was reset".into());
            }
            Ok(answer)
        })
    }
}

/// Evictions go over a bad line.
#[derive(Debug)]
struct BadLine {
    good: StaticConnector,
    evicting: Mutex<Option<StaticConnector>>,
}

#[async_trait]
impl ClusterConnector for BadLine {
    async fn client(&self, cluster: &ClusterName, purpose: ClientPurpose) -> Result<Client, ConnectError> {
        let bad = self.evicting.lock().unwrap().clone();
        match bad {
            Some(bad) if purpose == ClientPurpose::Evict => bad.client(cluster, purpose).await,
            _ => self.good.client(cluster, purpose).await,
        }
    }

    async fn invalidate(&self, _: &ClusterName) {}
}

/// Every second answer to an eviction is lost after the server has acted: no pod is evicted twice, no budget exceeded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost_evict_nobody_twice() {
    let rig = Rig::start().await;
    let plan = rig.plan(&["node-0", "node-1"]).await;
    let cluster: ClusterName = "east".parse().unwrap();
    let lossy = Lossy {
        client: rig.client.clone(),
        answers: Arc::default(),
    };
    let answers = Arc::clone(&lossy.answers);
    let bad = StaticConnector::default().with_client(cluster.clone(), Client::new(lossy, "default"));
    let line = BadLine {
        good: StaticConnector::default().with_client(cluster.clone(), rig.client.clone()),
        evicting: Mutex::new(Some(bad)),
    };
    let ended = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&ended);
    let events = kube::runtime::watcher(rig.pods(), kube::runtime::watcher::Config::default());
    let watching = tokio::spawn(events.for_each(move |event| {
        if let Ok(kube::runtime::watcher::Event::Apply(pod)) = event
            && pod.metadata.deletion_timestamp.is_some()
        {
            seen.lock().unwrap().insert(pod.uid().unwrap());
        }
        std::future::ready(())
    }));
    let report = DrainExecutor::new(line, cluster, rig.machines.clone())
        .run(&plan, CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(
        (&report.outcome, report.refused),
        (&DrainOutcome::Completed, 0),
        "{report:?}"
    );
    let moved: BTreeSet<String> = plan.moves().map(|step| step.uid.clone()).collect();
    assert_eq!(*ended.lock().unwrap(), moved, "exactly the planned pods");
    assert_eq!(
        answers.load(Ordering::SeqCst) as usize,
        moved.len(),
        "one request a pod"
    );
    assert_eq!(rig.removed(), names(&["node-0", "node-1"]));
    watching.abort();
}

/// The machine's clock, and some time.
#[derive(Clone, Copy, Debug)]
struct Shifted(SignedDuration);

impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        SystemClock::new().now() + self.0
    }
}

/// A single replica under a budget that allows nothing: with surge there are two while its node goes, and one after.
/// Outside of a window nothing is evicted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_replica_is_surged_and_windows_are_kept() {
    let rig = Rig::start().await;
    let labels = json!({"app": "single"});
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "single"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
    }))
    .unwrap();
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "single"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": "c"}]},
        }},
    }))
    .unwrap();
    rig.budgets()
        .create(&PostParams::default(), &budget)
        .await
        .unwrap();
    let deployments: Api<Deployment> = Api::default_namespaced(rig.client.clone());
    deployments
        .create(&PostParams::default(), &deployment)
        .await
        .unwrap();
    let ready = |count: i32| {
        move |deployment: Option<&Deployment>| {
            let status = deployment.and_then(|deployment| deployment.status.as_ref());
            status
                .is_some_and(|status| status.ready_replicas == Some(count) && status.replicas == Some(count))
        }
    };
    rig.member()
        .wait_for(&deployments, "single", ready(1))
        .await
        .unwrap();
    let healthy = |budget: Option<&PodDisruptionBudget>| {
        let status = budget.and_then(|budget| budget.status.as_ref());
        status.is_some_and(|status| status.current_healthy == Some(1))
    };
    rig.member()
        .wait_for(&rig.budgets(), "single", healthy)
        .await
        .unwrap();
    let on_it = ListParams::default().labels("app=single");
    let node = rig.pods().list(&on_it).await.unwrap().items[0]
        .spec
        .clone()
        .unwrap()
        .node_name
        .unwrap();
    let request = ScaleDown::nodes([node.clone()]);
    let without = plan(&rig.client, &request, &DrainPolicy::default()).await;
    assert!(without.remove.is_empty(), "{without}");
    let plan = plan(&rig.client, &request, &DrainPolicy::default().with_surge()).await;
    assert_eq!(plan.surges.len(), 1, "{plan}");

    // By a clock that is four seconds before a window.
    let window = Window::open("30 22 * * *", Duration::from_secs(3600)).unwrap();
    let before: Timestamp = "2026-11-26T22:29:56Z".parse().unwrap();
    let clock = Shifted(before.duration_since(SystemClock::new().now()));
    let opens = before + SignedDuration::from_secs(4);
    let policy = DrainPolicy::default().with_surge().with_window(window);
    let executor = rig.executor().with_replanning(policy).with_clock(Arc::new(clock));
    let drain = executor.run(&plan, CancellationToken::new());
    let look = async {
        rig.until(|standing| {
            let waiting = standing.as_ref().and_then(|standing| standing.waiting.clone());
            matches!(waiting, Some(Waiting::WindowClosed { until: Some(_) }))
        })
        .await;
        let surged = |deployment: Option<&Deployment>| {
            deployment.is_some_and(|it| it.spec.replicas == Some(2) && it.annotations().contains_key(SURGE))
        };
        rig.member()
            .wait_for(&deployments, "single", surged)
            .await
            .unwrap();
        assert!(clock.now() >= opens, "not before the window");
    };
    let (report, ()) = tokio::join!(drain, look);
    let report = report.unwrap();
    assert_eq!(
        (&report.outcome, report.refused),
        (&DrainOutcome::Completed, 0),
        "{report:?}"
    );
    assert_eq!(rig.removed(), names(&[&node]));
    rig.member()
        .wait_for(&deployments, "single", ready(1))
        .await
        .unwrap();
    let single = deployments.get("single").await.unwrap();
    assert_eq!(single.spec.replicas, Some(1));
    assert!(!single.annotations().contains_key(SURGE));
}
