//! What the tests of scaling on real control planes share.
#![allow(dead_code, reason = "every test takes what it needs")]

pub(crate) mod contest;
pub(crate) mod killed;
pub(crate) mod observer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node, policy::v1::PodDisruptionBudget};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use kurator_core::clock::{Clock, SystemClock};
use kurator_envtest::{Member, Nodes};
use kurator_fleet::scaling::{
    DrainPolicy, Model, ScaleDown, ScaleDownPlan, check,
    execute::{InfrastructureError, InfrastructureProvider, MARK, Machine, PLAN, WorkerPool, observe},
};
use serde_json::json;

/// A client that does not repeat what was refused.
pub(crate) fn no_retry(member: &Member) -> Client {
    let mut config = member.config();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// Applications of some replicas, each with a budget that lets one go at a time.
pub(crate) async fn deploy(client: &Client, apps: usize, replicas: i32, cpu: &str) {
    deploy_at_pace(client, apps, replicas, cpu, None).await;
}

/// With pods whose creation, readiness and end each take so many seconds, where the member plays the whole life of pods.
pub(crate) async fn deploy_at_pace(
    client: &Client,
    apps: usize,
    replicas: i32,
    cpu: &str,
    step: Option<u32>,
) {
    let mut annotations = serde_json::Map::new();
    for stage in ["pod-create", "pod-ready", "pod-delete"] {
        for field in ["delay", "jitter-delay"] {
            let name = format!("{stage}.stage.kwok.x-k8s.io/{field}");
            annotations.extend(step.map(|step| (name, json!(format!("{step}s")))));
        }
    }
    let grace = step.unwrap_or(30);
    for app in 0..apps {
        let name = format!("app-{app}");
        let labels = json!({"app": name});
        let budget: PodDisruptionBudget = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
        }))
        .unwrap();
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {"terminationGracePeriodSeconds": grace, "containers": [{"name": "c", "image": "c", "resources": {"requests": {"cpu": cpu}}}]},
            }},
        }))
        .unwrap();
        let params = PostParams::default();
        Api::default_namespaced(client.clone())
            .create(&params, &budget)
            .await
            .unwrap();
        Api::default_namespaced(client.clone())
            .create(&params, &deployment)
            .await
            .unwrap();
    }
}

/// Waits until every budget allows one again.
pub(crate) async fn settled(member: &Member, apps: usize, replicas: i32) {
    let budgets: Api<PodDisruptionBudget> = Api::default_namespaced(member.client().unwrap());
    let settled = |budgets: &[&PodDisruptionBudget]| {
        let ours = budgets
            .iter()
            .filter(|budget| budget.name_any().starts_with("app-"));
        ours.clone().count() == apps
            && ours.clone().all(|budget| {
                let status = budget.status.clone().unwrap_or_default();
                status.disruptions_allowed == Some(1) && status.current_healthy == Some(replicas)
            })
    };
    let params = ListParams::default();
    member
        .wait_for_all(&budgets, &params, "every budget allows one", settled)
        .await
        .unwrap();
}

/// A plan the independent checker has nothing against.
pub(crate) async fn plan(client: &Client, request: &ScaleDown, policy: &DrainPolicy) -> ScaleDownPlan {
    let objects = observe(client).await.unwrap();
    let model = Model::from_objects(&objects).unwrap();
    let now = SystemClock::new().now();
    let plan = model.plan_scale_down(request, policy, now).unwrap();
    let notes = check::check(&plan, &objects, now);
    assert!(notes.permits(), "{notes}\n{plan}");
    plan
}

/// Names of nodes that are cordoned, and of those that carry a mark.
pub(crate) async fn traces(client: &Client) -> (BTreeSet<String>, BTreeSet<String>) {
    let nodes = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await
        .unwrap();
    let cordoned = nodes
        .iter()
        .filter(|node| node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true));
    let marked = nodes.iter().filter(|node| {
        [MARK, PLAN]
            .iter()
            .any(|key| node.annotations().contains_key(*key))
    });
    (
        cordoned.map(ResourceExt::name_any).collect(),
        marked.map(ResourceExt::name_any).collect(),
    )
}

/// Machines that are KWOK nodes: a machine is made by registering its node, and removed with it.
#[derive(Clone, Debug)]
pub(crate) struct KwokMachines {
    client: Client2,
    /// How often each machine was removed.
    pub(crate) removals: Arc<Mutex<BTreeMap<String, u32>>>,
    /// Each total that was asked for.
    pub(crate) asked: Arc<Mutex<Vec<WorkerPool>>>,
    /// Removals that are to fail.
    pub(crate) failing: Arc<Mutex<u32>>,
}

/// kube's client has no `Debug`.
#[derive(Clone)]
struct Client2(Client);

impl std::fmt::Debug for Client2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl KwokMachines {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client: Client2(client),
            removals: Arc::default(),
            asked: Arc::default(),
            failing: Arc::default(),
        }
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.0.clone())
    }
}

#[async_trait]
impl InfrastructureProvider for KwokMachines {
    async fn exists(&self, machine: &Machine) -> Result<bool, InfrastructureError> {
        let found = self.nodes().get_opt(&machine.node).await;
        Ok(found
            .map_err(|error| InfrastructureError::machine("find", machine, error))?
            .is_some())
    }

    async fn remove(&self, machine: &Machine) -> Result<(), InfrastructureError> {
        {
            let mut failing = self.failing.lock().unwrap();
            if *failing > 0 {
                *failing -= 1;
                return Err(InfrastructureError::machine(
                    "remove",
                    machine,
                    "the cloud is throttled",
                ));
            }
        }
        *self
            .removals
            .lock()
            .unwrap()
            .entry(machine.node.clone())
            .or_default() += 1;
        let deleted = self.nodes().delete(&machine.node, &DeleteParams::default()).await;
        deleted
            .map(|_| ())
            .map_err(|error| InfrastructureError::machine("remove", machine, error))
    }

    async fn provide(&self, pool: &WorkerPool) -> Result<(), InfrastructureError> {
        self.asked.lock().unwrap().push(pool.clone());
        let failed = |error| InfrastructureError::pool(pool, error);
        let present = self
            .nodes()
            .list(&ListParams::default())
            .await
            .map_err(|error| failed(error.to_string()))?;
        let names: BTreeSet<String> = present.iter().map(ResourceExt::name_any).collect();
        let missing = (pool.count as usize).saturating_sub(names.len());
        let template = Nodes::new(1000).with_prefix("made").with_zones(["a", "b", "c"]);
        let fresh = template
            .objects()
            .filter(|node| !names.contains(&node.name_any()));
        for mut node in fresh.take(missing) {
            if let Some(kind) = &pool.instance_type {
                node.labels_mut()
                    .insert("node.kubernetes.io/instance-type".into(), kind.clone());
            }
            match self.nodes().create(&PostParams::default(), &node).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        Ok(())
    }
}
