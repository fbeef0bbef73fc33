//! One drain of many nodes, measured: against the lower bound, and against draining one node at a time as kubectl does.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use kurator_core::{connect::StaticConnector, names::ClusterName};
use kurator_envtest::{Controllers, Fleet, Member, MemberSpec, Nodes, Pods};
use kurator_fleet::scaling::{
    DrainPolicy, ScaleDown, ScaleDownPlan,
    execute::{DrainExecutor, DrainOutcome, DrainReport, InMemoryInfrastructure},
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    deploy_at_pace, no_retry,
    observer::{Observer, Record, kubeconfig_in},
    plan, settled, traces,
};

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) nodes: u32,
    pub(crate) remove: i64,
    pub(crate) apps: usize,
    pub(crate) replicas: i32,
    /// Seconds that creation, readiness and end of a pod take, each; without, pods are Ready and gone at once.
    pub(crate) step: Option<u32>,
}

/// A member that is set up anew for each run.
#[derive(Debug)]
pub(crate) struct Contest {
    fleet: Fleet,
    size: Size,
}

/// What one of our runs came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) plan: ScaleDownPlan,
    pub(crate) report: DrainReport,
    pub(crate) took: Duration,
    pub(crate) record: Record,
}

/// How fast the control plane restores budgets, measured before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From the eviction of one pod in a quiet cluster until its budget allows one again.
    pub(crate) round: Duration,
    /// Evictions a second that its controllers keep up with.
    pub(crate) rate: f64,
}

impl Pace {
    /// What no drain of this plan can undercut on this control plane: its rounds one after another, or its pods at the
    /// rate of the controllers.
    pub(crate) fn bound(&self, plan: &ScaleDownPlan) -> Duration {
        let rounds = plan.bound.rounds.max(plan.bound.waves);
        let by_rate = Duration::from_secs_f64(plan.moves().count() as f64 / self.rate);
        (self.round * rounds).max(by_rate)
    }
}

impl Contest {
    pub(crate) async fn start(controllers: Controllers, size: Size) -> Self {
        let member = MemberSpec::new("east")
            .with_controllers(controllers)
            .with_scheduler()
            .with_pods(size.step.map_or(Pods::Fast, |_| Pods::General))
            .with_nodes(
                Nodes::new(size.nodes)
                    .with_capacity("cpu", "64")
                    .with_zones(["a", "b", "c"]),
            );
        let fleet = Fleet::builder()
            .patience(Duration::from_secs(600))
            .member(member)
            .start()
            .await
            .unwrap();
        let contest = Self { fleet, size };
        contest.deploy().await;
        contest.settled().await;
        contest
    }

    pub(crate) fn member(&self) -> &Member {
        self.fleet.member("east").unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        no_retry(self.member())
    }

    async fn deploy(&self) {
        let Size {
            apps, replicas, step, ..
        } = self.size;
        deploy_at_pace(&self.client(), apps, replicas, "300m", step).await;
    }

    pub(crate) async fn settled(&self) {
        settled(self.member(), self.size.apps, self.size.replicas).await;
    }

    fn kubeconfig(&self) -> PathBuf {
        kubeconfig_in(self.fleet.folder(), &self.member().kubeconfig())
    }

    /// All nodes again, and all pods spread over them anew.
    pub(crate) async fn again(&self) {
        let client = self.client();
        let (nodes, pods): (Api<Node>, Api<Pod>) =
            (Api::all(client.clone()), Api::default_namespaced(client.clone()));
        let present = nodes.list(&ListParams::default()).await.unwrap();
        let fresh = Nodes::new(self.size.nodes)
            .with_capacity("cpu", "64")
            .with_zones(["a", "b", "c"]);
        for node in fresh.objects() {
            if !present.iter().any(|known| known.name_any() == node.name_any()) {
                nodes.create(&PostParams::default(), &node).await.unwrap();
            }
        }
        let all = |nodes: &[&Node]| {
            let ready = nodes.iter().filter(|node| {
                let conditions = node
                    .status
                    .iter()
                    .flat_map(|status| status.conditions.iter().flatten());
                conditions
                    .into_iter()
                    .any(|one| one.type_ == "Ready" && one.status == "True")
            });
            ready.count() == self.size.nodes as usize
        };
        let params = ListParams::default();
        self.member()
            .wait_for_all(&nodes, &params, "all nodes are Ready", all)
            .await
            .unwrap();
        for app in 0..self.size.apps {
            let name = format!("app-{app}");
            let params = DeleteParams::default();
            Api::<Deployment>::default_namespaced(client.clone())
                .delete(&name, &params)
                .await
                .unwrap();
            Api::<PodDisruptionBudget>::default_namespaced(client.clone())
                .delete(&name, &params)
                .await
                .unwrap();
        }
        let none = |pods: &[&Pod]| pods.is_empty();
        self.member()
            .wait_for_all(&pods, &params, "all pods are gone", none)
            .await
            .unwrap();
        self.deploy().await;
        self.settled().await;
    }

    /// Evicts pods outside of any drain: one at a time, and one of each budget at once.
    pub(crate) async fn pace(&self) -> Pace {
        let mut rounds = Vec::new();
        for app in 0..5.min(self.size.apps) {
            rounds.push(self.evict_one_of([app]).await);
        }
        rounds.sort();
        let took = self.evict_one_of(0..self.size.apps).await;
        Pace {
            round: rounds[rounds.len() / 2],
            rate: self.size.apps as f64 / took.as_secs_f64(),
        }
    }

    /// From the first eviction until every budget allows one again.
    async fn evict_one_of(&self, apps: impl IntoIterator<Item = usize>) -> Duration {
        let pods: Api<Pod> = Api::default_namespaced(self.client());
        let mut names = Vec::new();
        for app in apps {
            let of_app = ListParams::default().labels(&format!("app=app-{app}"));
            names.push(pods.list(&of_app).await.unwrap().items[0].name_any());
        }
        let budgets: Api<PodDisruptionBudget> = Api::default_namespaced(self.client());
        let mut events = watcher(budgets, watcher::Config::default()).boxed();
        let mut allowed = BTreeMap::new();
        let began = Instant::now();
        let mut evictions = stream::iter(names)
            .map(|name| {
                let pods = pods.clone();
                async move { pods.evict(&name, &EvictParams::default()).await.unwrap() }
            })
            .buffer_unordered(16)
            .boxed();
        let mut asked = false;
        loop {
            tokio::select! {
                evicted = evictions.next(), if !asked => asked = evicted.is_none(),
                Some(Ok(event)) = events.next() => {
                    if let watcher::Event::Apply(budget) | watcher::Event::InitApply(budget) = event {
                        let status = budget.status.clone().unwrap_or_default();
                        let whole = status.current_healthy == Some(self.size.replicas)
                            && status.disruptions_allowed == Some(1)
                            && status.disrupted_pods.is_none_or(|pods| pods.is_empty());
                        allowed.insert(budget.name_any(), whole);
                    }
                }
            }
            if asked && allowed.len() == self.size.apps && allowed.values().all(|whole| *whole) {
                return began.elapsed();
            }
        }
    }

    /// Our drain, with an observer process beside it, and rivals that evict other pods if there are to be.
    pub(crate) async fn drain(&self, churn: bool) -> Run {
        let client = self.client();
        let policy = DrainPolicy::default();
        let plan = plan(&client, &ScaleDown::remove(self.size.remove), &policy).await;
        assert_eq!(plan.remove.len() as i64, self.size.remove, "{plan}");
        let observer = Observer::start(&self.kubeconfig());
        let cluster: ClusterName = "east".parse().unwrap();
        let connector = StaticConnector::default().with_client(cluster.clone(), client.clone());
        let machines = InMemoryInfrastructure::new();
        let executor = DrainExecutor::new(connector, cluster, machines.clone()).with_replanning(policy);
        let stop = Arc::new(AtomicBool::new(!churn));
        let rival = tokio::spawn(rival(client.clone(), plan.remove.clone(), Arc::clone(&stop)));
        let began = Instant::now();
        let report = executor.run(&plan, CancellationToken::new()).await.unwrap();
        let took = began.elapsed();
        stop.store(true, Ordering::SeqCst);
        let others = rival.await.unwrap();
        self.settled().await;
        let record = observer.finish();
        assert_eq!(report.outcome, DrainOutcome::Completed, "{report:?}");
        assert_eq!(record.below, Vec::<String>::new(), "a budget was exceeded");
        assert_eq!(machines.removals().len() as i64, self.size.remove);
        assert!(machines.removals().values().all(|times| *times == 1));
        assert_eq!(traces(&client).await, Default::default());
        if churn {
            println!("  a rival evicted {others} other pods meanwhile");
            assert!(others > 0);
        }
        Run {
            plan,
            report,
            took,
            record,
        }
    }

    /// The same nodes as kubectl would drain them, one after the other: all pods of a node at once, again after five
    /// seconds where a budget says no, and a look every second at whether they are gone. Evictions asked and refused.
    pub(crate) async fn one_by_one(&self, nodes: &[String]) -> (Duration, usize, usize) {
        let client = self.client();
        let api: Api<Node> = Api::all(client.clone());
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let began = Instant::now();
        let (mut asked, mut refused) = (0, 0);
        for node in nodes {
            let cordon = Patch::Merge(json!({"spec": {"unschedulable": true}}));
            api.patch(node, &PatchParams::default(), &cordon).await.unwrap();
            let on_it = ListParams::default().fields(&format!("spec.nodeName={node}"));
            let names = pods.list(&on_it).await.unwrap();
            let evictions = names.iter().map(|pod| evict_like_kubectl(&pods, pod));
            for (of_pod, no) in join_all(evictions).await {
                asked += of_pod;
                refused += no;
            }
            api.delete(node, &DeleteParams::default()).await.unwrap();
        }
        let took = began.elapsed();
        self.settled().await;
        (took, asked, refused)
    }
}

async fn evict_like_kubectl(pods: &Api<Pod>, pod: &Pod) -> (usize, usize) {
    let (name, uid) = (pod.name_any(), pod.uid());
    let (mut asked, mut refused) = (0, 0);
    loop {
        asked += 1;
        match pods.evict(&name, &EvictParams::default()).await {
            Ok(_) => break,
            Err(kube::Error::Api(status)) if status.code == 404 => return (asked, refused),
            Err(kube::Error::Api(status)) if status.code == 429 => refused += 1,
            Err(error) => panic!("{error}"),
        }
        // As kubectl does.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    while pods
        .get_opt(&name)
        .await
        .unwrap()
        .is_some_and(|known| known.uid() == uid)
    {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    (asked, refused)
}

/// Evicts pods of other nodes, a few every second, until it is told to stop. How many.
async fn rival(client: Client, leaving: Vec<String>, stop: Arc<AtomicBool>) -> usize {
    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut evicted = 0;
    let mut pause = tokio::time::interval(Duration::from_millis(500));
    for turn in 0_usize.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        pause.tick().await;
        let listed = pods.list(&ListParams::default().match_any()).await.unwrap();
        let others: Vec<&Pod> = listed
            .iter()
            .filter(|pod| {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
                pod.metadata.deletion_timestamp.is_none() && node.is_some_and(|node| !leaving.contains(node))
            })
            .collect();
        for at in [turn * 7, turn * 7 + 3] {
            if let Some(pod) = others.get(at % others.len().max(1)) {
                let asked = pods.evict(&pod.name_any(), &EvictParams::default()).await;
                evicted += usize::from(asked.is_ok());
            }
        }
    }
    evicted
}
