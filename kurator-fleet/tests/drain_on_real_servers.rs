//! Plans carried out on a real control plane with KWOK nodes, while an observer records every budget.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod drain_rig;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::watcher,
};
use kurator_core::{connect::StaticConnector, names::ClusterName};
use kurator_envtest::{Controllers, Fleet, Member, MemberSpec, Nodes};
use kurator_fleet::scaling::{
    DrainPolicy, ScaleDown, ScaleDownPlan,
    execute::{DrainExecutor, DrainOutcome, InMemoryInfrastructure, Left, MARK},
};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::drain_rig::{deploy, no_retry, traces};

const APPS: usize = 8;
const REPLICAS: i32 = 5;

/// Ten nodes, eight applications of five replicas, and a budget of one for each.
async fn start(controllers: Controllers) -> Fleet {
    let fleet = Fleet::builder()
        .member(
            MemberSpec::new("east")
                .with_controllers(controllers)
                .with_scheduler()
                .with_nodes(Nodes::new(10).with_zones(["a", "b", "c"])),
        )
        .start()
        .await
        .unwrap();
    let member = fleet.member("east").unwrap();
    deploy(&member.client().unwrap(), APPS, REPLICAS, "300m").await;
    settled(member).await;
    fleet
}

async fn settled(member: &Member) {
    drain_rig::settled(member, APPS, REPLICAS).await;
}

async fn plan(client: &Client, request: &ScaleDown) -> ScaleDownPlan {
    drain_rig::plan(client, request, &DrainPolicy::default()).await
}

/// Watches budgets and pods with a client of its own.
struct Observer {
    below: Arc<Mutex<Vec<String>>>,
    /// UIDs of pods seen Terminating, by namespace and name.
    ended: Arc<Mutex<BTreeSet<String>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Observer {
    fn start(client: &Client) -> Self {
        let below = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(Mutex::new(BTreeSet::new()));
        let budgets = watcher(
            Api::<PodDisruptionBudget>::all(client.clone()),
            watcher::Config::default(),
        );
        let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default());
        let found = Arc::clone(&below);
        let watch_budgets = tokio::spawn(budgets.for_each(move |event| {
            if let Ok(watcher::Event::Apply(budget) | watcher::Event::InitApply(budget)) = event {
                let status = budget.status.clone().unwrap_or_default();
                if status.current_healthy < status.desired_healthy {
                    found.lock().unwrap().push(budget.name_any());
                }
            }
            std::future::ready(())
        }));
        let found = Arc::clone(&ended);
        let watch_pods = tokio::spawn(pods.for_each(move |event| {
            if let Ok(watcher::Event::Apply(pod) | watcher::Event::Delete(pod)) = event
                && pod.metadata.deletion_timestamp.is_some()
            {
                found.lock().unwrap().insert(pod.uid().unwrap());
            }
            std::future::ready(())
        }));
        Self {
            below,
            ended,
            tasks: vec![watch_budgets, watch_pods],
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn executor(client: &Client, machines: &InMemoryInfrastructure) -> DrainExecutor {
    let cluster: ClusterName = "east".parse().unwrap();
    let connector = StaticConnector::default().with_client(cluster.clone(), client.clone());
    DrainExecutor::new(connector, cluster, machines.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_carried_out_without_a_refused_eviction() {
    let fleet = start(Controllers::Tuned).await;
    let member = fleet.member("east").unwrap();
    let client = no_retry(member);
    let plan = plan(&client, &ScaleDown::remove(3)).await;
    assert_eq!(plan.remove.len(), 3);
    let victims: BTreeSet<String> = plan.remove.iter().cloned().collect();
    let observer = Observer::start(&client);
    let machines = InMemoryInfrastructure::new();
    let report = executor(&client, &machines)
        .run(&plan, CancellationToken::new())
        .await
        .unwrap();

    assert_eq!(report.outcome, DrainOutcome::Completed, "{report:?}");
    assert_eq!(report.refused, 0, "{report:?}");
    assert_eq!(report.evicted as usize, plan.moves().count());
    assert_eq!(report.removed, victims);
    settled(member).await;
    assert_eq!(
        *observer.below.lock().unwrap(),
        Vec::<String>::new(),
        "a budget was exceeded"
    );
    let moved: BTreeSet<String> = plan.moves().map(|step| step.uid.clone()).collect();
    assert_eq!(
        *observer.ended.lock().unwrap(),
        moved,
        "exactly the planned pods were evicted"
    );
    let left: BTreeSet<String> = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert!(left.is_disjoint(&victims));
    assert_eq!(
        machines.removals(),
        victims
            .into_iter()
            .map(|node| (node, 1))
            .collect::<BTreeMap<_, _>>()
    );
    assert_eq!(traces(&client).await, (BTreeSet::new(), BTreeSet::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_back_is_only_what_is_ours() {
    let fleet = start(Controllers::Tuned).await;
    let member = fleet.member("east").unwrap();
    let client = no_retry(member);
    let nodes: Api<Node> = Api::all(client.clone());
    let cordon = |on: bool| Patch::Merge(json!({"spec": {"unschedulable": on}}));
    nodes
        .patch("node-1", &PatchParams::default(), &cordon(true))
        .await
        .unwrap();
    // A budget of nothing holds every eviction of one application.
    let budgets: Api<PodDisruptionBudget> = Api::default_namespaced(client.clone());
    let plan = plan(&client, &ScaleDown::nodes(["node-0", "node-1", "node-2"])).await;
    for app in 0..APPS {
        let none = Patch::Merge(json!({"spec": {"maxUnavailable": 0}}));
        budgets
            .patch(&format!("app-{app}"), &PatchParams::default(), &none)
            .await
            .unwrap();
    }
    let machines = InMemoryInfrastructure::new();
    let cancel = CancellationToken::new();
    let one = executor(&client, &machines);
    let drain = one.run(&plan, cancel.clone());
    let meddle = async {
        // All are cordoned; somebody wants one of them back, and then the whole drain is called off.
        let marked = |node: &Node| node.annotations().contains_key(MARK);
        for name in ["node-0", "node-1", "node-2"] {
            member
                .wait_for(&nodes, name, |node: Option<&Node>| node.is_some_and(marked))
                .await
                .unwrap();
        }
        nodes
            .patch("node-2", &PatchParams::default(), &cordon(false))
            .await
            .unwrap();
        member
            .wait_for(&nodes, "node-2", |node: Option<&Node>| !node.is_some_and(marked))
            .await
            .unwrap();
        cancel.cancel();
    };
    let (report, ()) = tokio::join!(drain, meddle);
    let report = report.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Cancelled, "{report:?}");
    assert_eq!((report.evicted, report.refused), (0, 0), "{report:?}");
    assert_eq!(
        report.left,
        BTreeMap::from([("node-2".to_owned(), Left::TakenBack)])
    );
    assert!(machines.removals().is_empty());
    assert_eq!(
        traces(&client).await,
        (BTreeSet::from(["node-1".to_owned()]), BTreeSet::new())
    );
}
