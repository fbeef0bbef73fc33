//! Clusters as users write them, on real control planes: a number changes, and nodes come and go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod drain_rig;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    events::v1::Event,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use kurator_core::{
    clock::SystemClock,
    connect::StaticConnector,
    gate::{Gate, Passage},
    names::ClusterName,
};
use kurator_envtest::{Account, Controllers, Fleet, Member, MemberSpec, Nodes};
use kurator_fleet::{
    api::{Cluster, crds},
    controller::cluster::{APPROVE, ClusterManager, ClusterOptions, ScalingCounts},
    scaling::execute::{IdentityError, IdentityProvider, RoleState, WaitPolicy},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use self::drain_rig::{KwokMachines, deploy, no_retry, settled, traces};

const MANIFEST: &str = include_str!("../../examples/manifests/cluster.yaml");
const APPS: usize = 4;
const REPLICAS: i32 = 4;

/// A cloud whose roles can be used after a few questions.
#[derive(Clone, Debug, Default)]
struct Roles {
    asked: Arc<Mutex<u32>>,
    /// After how many questions it was configured with what.
    configured: Arc<Mutex<Vec<(u32, String)>>>,
}

#[async_trait]
impl IdentityProvider for Roles {
    async fn role(&self, role: &str) -> Result<RoleState, IdentityError> {
        let mut asked = self.asked.lock().unwrap();
        *asked += 1;
        if *asked < 4 {
            return Err(IdentityError::transient(role, "NoSuchEntity"));
        }
        let id = format!("arn:aws:iam::123456789012:role/{role}");
        Ok(RoleState::Ready { id })
    }

    async fn configure(&self, _: &ClusterName, id: &str) -> Result<(), IdentityError> {
        let asked = *self.asked.lock().unwrap();
        self.configured.lock().unwrap().push((asked, id.to_owned()));
        Ok(())
    }
}

/// Closed until it is opened.
#[derive(Clone, Debug, Default)]
struct Freeze(Arc<Mutex<bool>>);

#[async_trait]
impl Gate for Freeze {
    async fn ask(&self, _: &ClusterName, _: &str) -> Passage {
        if *self.0.lock().unwrap() {
            return Passage::closed("no change today");
        }
        Passage::Open
    }
}

struct Rig {
    fleet: Fleet,
    /// Of the test.
    hub: Client,
    /// Of the controller, which has the shipped rules on both sides.
    accounts: [Account; 2],
    machines: KwokMachines,
    roles: Roles,
    freeze: Freeze,
    counts: ScalingCounts,
    running: Option<JoinHandle<()>>,
}

async fn account(member: &Member, name: &str, rules: &str) -> Account {
    let account = member.account("kurator-system", name).await.unwrap();
    member.apply(rules).await.unwrap();
    account
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

impl Rig {
    async fn start(nodes: u32) -> Self {
        let member = MemberSpec::new("cluster-prod")
            .with_controllers(Controllers::Tuned)
            .with_scheduler()
            .with_nodes(Nodes::new(nodes).with_zones(["a", "b", "c"]));
        let fleet = Fleet::builder()
            .members(["hub"])
            .member(member)
            .start()
            .await
            .unwrap();
        let hub = fleet.member("hub").unwrap().client().unwrap();
        fleet.member("hub").unwrap().install(&crds()).await.unwrap();
        let machines = KwokMachines::new(no_retry(fleet.member("cluster-prod").unwrap()));
        let member = fleet.member("cluster-prod").unwrap();
        let accounts = [
            account(
                fleet.member("hub").unwrap(),
                "kurator-scaling",
                include_str!("../../deploy/rbac/scaling.yaml"),
            )
            .await,
            account(
                member,
                "kurator-scaling-member",
                include_str!("../../deploy/rbac/scaling-member.yaml"),
            )
            .await,
        ];
        let mut rig = Self {
            fleet,
            hub,
            accounts,
            machines,
            roles: Roles::default(),
            freeze: Freeze::default(),
            counts: ScalingCounts::default(),
            running: None,
        };
        rig.manage();
        rig
    }

    /// Starts the controller as a new process would; one before it is dropped where it is.
    fn manage(&mut self) {
        if let Some(before) = self.running.take() {
            before.abort();
        }
        let name: ClusterName = "cluster-prod".parse().unwrap();
        let [hub, member] = &self.accounts;
        let mut config = member.config();
        config.default_retry = false;
        let connector = StaticConnector::default().with_client(name, Client::try_from(config).unwrap());
        let wait = WaitPolicy::default();
        let options = ClusterOptions::default()
            .with_infrastructure("aws", self.machines.clone())
            .with_identity("aws", self.roles.clone())
            .with_identity_wait(wait)
            .with_gate(self.freeze.clone())
            .with_metrics(self.counts.clone());
        let manager = ClusterManager::new(
            hub.client().unwrap(),
            "default",
            Arc::new(connector),
            options,
            Arc::new(SystemClock::new()),
        );
        self.running = Some(tokio::spawn(manager.run(std::future::pending())));
    }

    fn member(&self) -> &Member {
        self.fleet.member("cluster-prod").unwrap()
    }

    fn clusters(&self) -> Api<Cluster> {
        Api::namespaced(self.hub.clone(), "default")
    }

    async fn edit(&self, patch: Value) {
        self.clusters()
            .patch("cluster-prod", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    async fn count(&self, count: u32) {
        self.edit(json!({"spec": {"workerNodes": {"count": count}}}))
            .await;
    }

    async fn until(&self, met: impl Fn(&Cluster) -> bool + Send + Sync) -> Cluster {
        let hub = self.fleet.member("hub").unwrap();
        let waited = hub
            .wait_for(&self.clusters(), "cluster-prod", |cluster: Option<&Cluster>| {
                cluster.is_some_and(|cluster| {
                    let status = cluster.status.as_ref();
                    let seen = status.and_then(|status| status.observed_generation);
                    seen == cluster.metadata.generation && met(cluster)
                })
            })
            .await;
        match waited {
            Ok(cluster) => cluster.unwrap(),
            Err(error) => {
                let now = self.clusters().get("cluster-prod").await.unwrap();
                panic!("{error}\n{}", serde_json::to_string_pretty(&now).unwrap());
            }
        }
    }

    /// What the node's kubelet says of it: unless it says "True", it then says no more.
    async fn ready_condition(&self, node: &str, status: &str) {
        let member = self.member();
        match status {
            "True" => member.revive_node(node).await.unwrap(),
            _ => member.silence_node(node).await.unwrap(),
        }
        let nodes: Api<Node> = Api::all(no_retry(member));
        let status = json!({"status": {"conditions": [
            {"type": "Ready", "status": status, "reason": "Test", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]}});
        nodes
            .patch_status(node, &PatchParams::default(), &Patch::Strategic(status))
            .await
            .unwrap();
    }

    async fn ready(&self, count: u32) -> Cluster {
        self.until(|cluster| {
            let nodes = cluster
                .status
                .as_ref()
                .and_then(|status| status.worker_nodes.clone());
            told(cluster, "Ready").0 == "True" && nodes.is_some_and(|nodes| nodes.current == count)
        })
        .await
    }

    async fn nodes(&self) -> BTreeSet<String> {
        let nodes = Api::<Node>::all(self.member().direct_client().unwrap());
        let listed = nodes.list(&ListParams::default()).await.unwrap();
        listed.iter().map(ResourceExt::name_any).collect()
    }

    /// Reasons of the Events about the cluster.
    async fn events(&self) -> BTreeSet<String> {
        let events: Api<Event> = Api::namespaced(self.hub.clone(), "default");
        let listed = events.list(&ListParams::default()).await.unwrap();
        listed.iter().filter_map(|event| event.reason.clone()).collect()
    }
}

/// Status, reason and message of a condition.
fn told(cluster: &Cluster, type_: &str) -> (String, String, String) {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .find(|condition| condition.type_ == type_)
        .map(|it| (it.status.clone(), it.reason.clone(), it.message.clone()))
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_brings_five_nodes_and_another_number_takes_two_away() {
    let rig = Rig::start(3).await;
    rig.fleet.member("hub").unwrap().apply(MANIFEST).await.unwrap();

    let cluster = rig.ready(5).await;
    let pool = rig.machines.asked.lock().unwrap().first().cloned().unwrap();
    assert_eq!((pool.count, pool.instance_type.as_deref()), (5, Some("m5.large")));
    assert_eq!(
        (pool.region.as_deref(), pool.version.as_deref()),
        (Some("us-west-2"), Some("1.36"))
    );
    assert_eq!(told(&cluster, "Progressing").1, "AsWanted");
    assert_eq!(told(&cluster, "Degraded").0, "False");
    // The role could be used at the fourth question, and was given to pods then and once.
    assert_eq!(told(&cluster, "PodIdentityReady").1, "IdentityConfigured");
    let configured = rig.roles.configured.lock().unwrap().clone();
    let arn = "arn:aws:iam::123456789012:role/cluster-prod-pods".to_owned();
    assert_eq!(configured, [(4, arn)]);

    let client = no_retry(rig.member());
    deploy(&client, APPS, REPLICAS, "300m").await;
    settled(rig.member(), APPS, REPLICAS).await;
    rig.count(3).await;
    let cluster = rig.ready(3).await;
    assert_eq!(told(&cluster, "Progressing").1, "AsWanted");
    assert_eq!(
        cluster.status.as_ref().unwrap().drain,
        None,
        "nothing is under way"
    );
    settled(rig.member(), APPS, REPLICAS).await;
    assert_eq!(rig.nodes().await.len(), 3);
    assert_eq!(traces(&client).await, (BTreeSet::new(), BTreeSet::new()));
    let removals = rig.machines.removals.lock().unwrap().clone();
    assert_eq!(removals.len(), 2);
    assert!(removals.values().all(|times| *times == 1), "{removals:?}");
    assert_eq!(rig.counts.sum("nodes_removed"), 2.0, "{}", rig.counts);
    let refused = rig.counts.to_string();
    assert!(refused.contains("answer=\"Refused\"} 0\n"), "{refused}");
    let events = rig.events().await;
    for reason in [
        "ScalingUp",
        "ScalingDown",
        "DrainCompleted",
        "WorkersReady",
        "IdentityConfigured",
    ] {
        assert!(events.contains(reason), "{reason} is not in {events:?}");
    }

    // Deleted, it leaves machines and nodes alone.
    rig.clusters()
        .delete("cluster-prod", &DeleteParams::default())
        .await
        .unwrap();
    rig.fleet
        .member("hub")
        .unwrap()
        .wait_for(&rig.clusters(), "cluster-prod", |cluster: Option<&Cluster>| {
            cluster.is_none()
        })
        .await
        .unwrap();
    assert_eq!(rig.nodes().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_has_to_agree_and_a_process_that_dies_is_continued_and_a_larger_number_calls_it_off() {
    let mut rig = Rig::start(6).await;
    let client = no_retry(rig.member());
    deploy(&client, APPS, REPLICAS, "300m").await;
    settled(rig.member(), APPS, REPLICAS).await;
    let cluster: Cluster = serde_json::from_value(json!({
        "apiVersion": "cluster.kurator.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "cluster-prod", "namespace": "default"},
        "spec": {
            "infrastructure": {"cloudProvider": "aws"},
            "workerNodes": {"count": 5, "drain": {"approval": "DryRun"}},
        },
    }))
    .unwrap();
    rig.clusters()
        .create(&Default::default(), &cluster)
        .await
        .unwrap();

    let cluster = rig
        .until(|cluster| told(cluster, "Progressing").1 == "DryRun")
        .await;
    let proposed = cluster.status.unwrap().drain.unwrap();
    assert_eq!((proposed.nodes.len(), proposed.wave), (1, 0));
    assert_eq!(
        traces(&client).await,
        (BTreeSet::new(), BTreeSet::new()),
        "a dry run writes nothing"
    );

    rig.edit(json!({"spec": {"workerNodes": {"drain": {"approval": "Manual"}}}}))
        .await;
    let cluster = rig
        .until(|cluster| told(cluster, "Progressing").1 == "ApprovalPending")
        .await;
    let plan = cluster.status.as_ref().unwrap().drain.clone().unwrap();
    assert!(told(&cluster, "Progressing").2.contains(&plan.plan));
    // Neither does a node that is away for a while change what somebody is asked to agree to.
    rig.ready_condition(&plan.nodes[0], "False").await;
    let cluster = rig
        .until(|cluster| told(cluster, "Progressing").1 == "NodeNotReady")
        .await;
    assert_eq!(cluster.status.unwrap().drain.as_ref(), Some(&plan));
    rig.ready_condition(&plan.nodes[0], "True").await;
    let cluster = rig
        .until(|cluster| told(cluster, "Progressing").1 == "ApprovalPending")
        .await;
    assert_eq!(cluster.status.unwrap().drain.unwrap().plan, plan.plan);
    // Pods come and go meanwhile; what is agreed to is the nodes.
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let on_it = ListParams::default().fields(&format!("spec.nodeName={}", plan.nodes[0]));
    if let Some(pod) = pods.list(&on_it).await.unwrap().items.first() {
        pods.delete(&pod.name_any(), &DeleteParams::default())
            .await
            .unwrap();
        settled(rig.member(), APPS, REPLICAS).await;
    }
    rig.edit(json!({"metadata": {"annotations": {APPROVE: plan.plan}}}))
        .await;
    rig.ready(5).await;
    assert!(
        !rig.nodes().await.contains(&plan.nodes[0]),
        "the node that was agreed to"
    );

    // A gate of the host is asked too; and a failing cloud is tried again with the same node.
    *rig.freeze.0.lock().unwrap() = true;
    rig.edit(json!({"spec": {"workerNodes": {"count": 4, "drain": {"approval": "Automatic"}}}}))
        .await;
    rig.until(|cluster| told(cluster, "Progressing").1 == "GateClosed")
        .await;
    *rig.freeze.0.lock().unwrap() = false;
    *rig.machines.failing.lock().unwrap() = 1;
    rig.edit(json!({"metadata": {"annotations": {"touched": "1"}}}))
        .await;
    let cluster = rig
        .until(|cluster| told(cluster, "Degraded").1 == "InfrastructureFailed")
        .await;
    assert!(told(&cluster, "Degraded").2.contains("the cloud is throttled"));
    rig.ready(4).await;

    // A pod that does not end holds the drain; the process dies; the next one goes on with the same node.
    let held = hold_one_pod_of_each_node(&client).await;
    rig.count(3).await;
    let cluster = rig
        .until(|cluster| {
            let drain = cluster.status.as_ref().and_then(|status| status.drain.clone());
            // Only the held one is left, so no eviction is under way that the death would cut off.
            drain.is_some_and(|drain| drain.wave == 1 && drain.pods_moved + 1 == drain.pods_to_move)
        })
        .await;
    let victim = cluster.status.unwrap().drain.unwrap().nodes[0].clone();
    rig.manage();
    let patched = |cluster: &Cluster| told(cluster, "Progressing").1 == "ScalingDown";
    rig.until(patched).await;
    assert_eq!(traces(&client).await.1, BTreeSet::from([victim.clone()]));

    // More are wanted: it is called off, and nothing of it stays.
    rig.count(4).await;
    rig.ready(4).await;
    assert_eq!(traces(&client).await, (BTreeSet::new(), BTreeSet::new()));
    assert!(rig.nodes().await.contains(&victim));

    // And when the object goes in the midst of a drain, so do its cordons.
    rig.count(3).await;
    rig.until(|cluster| told(cluster, "Progressing").1 == "ScalingDown")
        .await;
    let marked = |nodes: &[&Node]| {
        nodes
            .iter()
            .any(|node| node.annotations().contains_key("scaling.kurator.dev/drain"))
    };
    let nodes: Api<Node> = Api::all(client.clone());
    rig.member()
        .wait_for_all(&nodes, &ListParams::default(), "a node is marked", marked)
        .await
        .unwrap();
    rig.clusters()
        .delete("cluster-prod", &DeleteParams::default())
        .await
        .unwrap();
    rig.fleet
        .member("hub")
        .unwrap()
        .wait_for(&rig.clusters(), "cluster-prod", |cluster: Option<&Cluster>| {
            cluster.is_none()
        })
        .await
        .unwrap();
    assert_eq!(traces(&client).await, (BTreeSet::new(), BTreeSet::new()));
    assert_eq!(rig.nodes().await.len(), 4);
    release(&client, held).await;
    let removals: BTreeMap<String, u32> = rig.machines.removals.lock().unwrap().clone();
    assert!(removals.values().all(|times| *times == 1), "{removals:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_not_well_is_left_alone_for_five_minutes_and_says_so() {
    let rig = Rig::start(4).await;
    let client = no_retry(rig.member());
    for name in ["node-0", "node-1"] {
        rig.ready_condition(name, "False").await;
    }
    let cluster = MANIFEST
        .replace("count: 5", "count: 2")
        .replace("enabled: true", "enabled: false");
    rig.fleet.member("hub").unwrap().apply(&cluster).await.unwrap();
    let cluster = rig
        .until(|cluster| told(cluster, "Degraded").1 == "ClusterUnhealthy")
        .await;
    assert!(
        told(&cluster, "Degraded")
            .2
            .contains("2 of 4 nodes are not Ready"),
        "{:?}",
        told(&cluster, "Degraded")
    );
    assert_eq!(told(&cluster, "Progressing").0, "False");
    let plans = rig.counts.sum("plans");
    // Whatever else happens, it is not looked at again before the time.
    rig.edit(json!({"metadata": {"annotations": {"touched": "1"}}}))
        .await;
    rig.member().revive_node("node-0").await.unwrap();
    rig.until(|cluster| {
        cluster
            .status
            .as_ref()
            .unwrap()
            .worker_nodes
            .as_ref()
            .unwrap()
            .ready
            >= 3
    })
    .await;
    assert_eq!(rig.counts.sum("plans"), plans);
    assert_eq!(traces(&client).await, (BTreeSet::new(), BTreeSet::new()));

    // A spec nobody can serve says what would help.
    rig.edit(
        json!({"spec": {"infrastructure": {"cloudProvider": "moon"}, "podIdentity": {"enabled": true}}}),
    )
    .await;
    let cluster = rig
        .until(|cluster| told(cluster, "Degraded").1 == "InfrastructureUnknown")
        .await;
    assert!(told(&cluster, "Degraded").2.contains("[\"aws\"]"));
    assert_eq!(told(&cluster, "PodIdentityReady").1, "IdentityUnsupported");
}

const HOLD: &str = "test.kurator.dev/hold";

/// A finalizer on one pod of each node, so that no node becomes empty.
async fn hold_one_pod_of_each_node(client: &Client) -> Vec<String> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut held = BTreeMap::new();
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap();
        held.entry(node).or_insert(pod.name_any());
    }
    for pod in held.values() {
        let patch = json!({"metadata": {"finalizers": [HOLD]}});
        pods.patch(pod, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }
    held.into_values().collect()
}

async fn release(client: &Client, held: Vec<String>) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    for pod in held {
        let patch = json!({"metadata": {"finalizers": null}});
        let _ = pods
            .patch(&pod, &PatchParams::default(), &Patch::Merge(patch))
            .await;
    }
}
