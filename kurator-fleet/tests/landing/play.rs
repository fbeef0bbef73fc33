//! Plans for drawn clusters, played on a real scheduler.

use std::fmt::Debug;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
        policy::v1::PodDisruptionBudget,
        storage::v1::CSINode,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use kurator_envtest::Member;
use kurator_fleet::scaling::{Blocker, DrainPolicy, Model, Note, Object, ScaleDown, ScaleDownPlan, check};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::draw::{Drawn, cluster};

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) clusters: usize,
    pub(crate) removed: usize,
    pub(crate) moved: usize,
    /// Clusters in which a node stays because room is tight.
    pub(crate) tight: usize,
    pub(crate) wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.clusters += other.clusters;
        self.removed += other.removed;
        self.moved += other.moved;
        self.tight += other.tight;
        self.wrong.extend(other.wrong);
    }
}

fn typed<K: DeserializeOwned>(value: &Value) -> K {
    serde_json::from_value(value.clone()).unwrap()
}

async fn create<K>(api: &Api<K>, value: &Value) -> K
where
    K: Clone + Debug + DeserializeOwned + serde::Serialize + Send + Sync,
{
    api.create(&PostParams::default(), &typed(value)).await.unwrap()
}

async fn list<K>(api: Api<K>, labels: &str, wrap: fn(Box<K>) -> Object) -> Vec<Object>
where
    K: Clone + Debug + DeserializeOwned,
{
    let listed = api.list(&ListParams::default().labels(labels)).await.unwrap();
    listed
        .items
        .into_iter()
        .map(|object| wrap(Box::new(object)))
        .collect()
}

/// Makes the nodes and whatever the scheduler reads beside pods.
async fn prepare(client: &Client, drawn: &Drawn) {
    let namespace = json!({"metadata": {"name": drawn.name}});
    create(
        &Api::<k8s_openapi::api::core::v1::Namespace>::all(client.clone()),
        &namespace,
    )
    .await;
    for node in &drawn.nodes {
        create(&Api::<Node>::all(client.clone()), node).await;
    }
    for node in &drawn.csi_nodes {
        create(&Api::<CSINode>::all(client.clone()), node).await;
    }
    for (claim, volume) in &drawn.volumes {
        create(&Api::<PersistentVolume>::all(client.clone()), volume).await;
        let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &drawn.name);
        create(&claims, claim).await;
        let bound = Patch::Merge(json!({"status": {"phase": "Bound"}}));
        claims
            .patch_status(
                claim["metadata"]["name"].as_str().unwrap(),
                &PatchParams::default(),
                &bound,
            )
            .await
            .unwrap();
    }
}

fn node_ready(node: &Node) -> bool {
    let mut conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|one| one.type_ == "Ready" && one.status == "True")
}

fn pod_ready(pod: &Pod) -> bool {
    let mut conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|one| one.type_ == "Ready" && one.status == "True")
}

fn unschedulable(pod: &Pod) -> bool {
    let mut conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|one| one.type_ == "PodScheduled" && one.reason.as_deref() == Some("Unschedulable"))
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// The cluster as the server shows it, with the drawn budgets.
async fn observe(client: &Client, drawn: &Drawn) -> Vec<Object> {
    let labels = format!("cluster={}", drawn.name);
    let mut objects = list(Api::<Node>::all(client.clone()), &labels, Object::Node).await;
    objects.extend(
        list(
            Api::<Pod>::namespaced(client.clone(), &drawn.name),
            "",
            Object::Pod,
        )
        .await,
    );
    objects.extend(
        list(
            Api::<PersistentVolume>::all(client.clone()),
            &labels,
            Object::PersistentVolume,
        )
        .await,
    );
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &drawn.name);
    objects.extend(list(claims, "", Object::PersistentVolumeClaim).await);
    objects.extend(
        drawn
            .csi_nodes
            .iter()
            .map(|node| Object::CsiNode(Box::new(typed(node)))),
    );
    let budgets = drawn
        .budgets
        .iter()
        .map(|budget| Object::PodDisruptionBudget(Box::new(typed::<PodDisruptionBudget>(budget))));
    objects.extend(budgets);
    objects
}

fn plan(objects: &[Object], strict: bool) -> ScaleDownPlan {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let nodes = objects
        .iter()
        .filter(|object| matches!(object, Object::Node(_)))
        .count();
    let model = Model::from_objects(objects).unwrap();
    let mut policy = DrainPolicy::default().with_max_parallel(2);
    policy.strict_landing = strict;
    let request = ScaleDown::remove(i64::try_from(nodes * 2 / 5).unwrap());
    let plan = model.plan_scale_down(&request, &policy, now).unwrap();
    let notes = check::check(&plan, objects, now);
    assert!(notes.permits(), "{notes}\n{plan}");
    plan
}

/// Cordons as `kubectl cordon` and the node controller after it do.
async fn cordon(client: &Client, nodes: &[String]) {
    let api: Api<Node> = Api::all(client.clone());
    for name in nodes {
        let mut node = api.get(name).await.unwrap();
        let spec = node.spec.get_or_insert_default();
        spec.unschedulable = Some(true);
        spec.taints.get_or_insert_default().push(typed(
            &json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}),
        ));
        let patch = Patch::Merge(json!({"spec": spec}));
        api.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// Waits until the scheduler has seen what happened to nodes so far: its nodes come in one stream, so when it binds a
/// pod to a node that has just been made, it knows all that came before.
async fn barrier(member: &Member, client: &Client, cluster: &str, step: usize) {
    let name = format!("{cluster}-barrier-{step}");
    let amounts = json!({"cpu": "1", "memory": "1Gi", "pods": "1"});
    let node = json!({"metadata": {"name": name, "labels": {"barrier": name}},
        "status": {"capacity": amounts, "allocatable": amounts}});
    let nodes: Api<Node> = Api::all(client.clone());
    create(&nodes, &node).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod = json!({"metadata": {"name": name}, "spec": {"nodeSelector": {"barrier": name},
        "tolerations": [{"operator": "Exists"}], "containers": [{"name": "c", "image": "c"}]}});
    create(&pods, &pod).await;
    member
        .wait_for(&pods, &name, |pod: Option<&Pod>| {
            pod.is_some_and(|pod| node_of(pod).is_some())
        })
        .await
        .unwrap();
    gone(member, &pods, &name).await;
    nodes.delete(&name, &DeleteParams::default()).await.unwrap();
}

async fn gone<K>(member: &Member, api: &Api<K>, name: &str)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    api.delete(name, &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    member
        .wait_for(api, name, |object: Option<&K>| object.is_none())
        .await
        .unwrap();
}

/// The pod anew, on no node.
fn replacement(old: &Pod, name: &str) -> Value {
    let mut spec = old.spec.clone().unwrap();
    spec.node_name = None;
    json!({"metadata": {"name": name, "labels": old.labels(),
        "ownerReferences": old.owner_references()}, "spec": spec})
}

/// Lets the scheduler look at the planned node first, as it does for a nominated one, and says where the pod went.
async fn offer(member: &Member, pods: &Api<Pod>, mut pod: Value, to: &str) -> Option<String> {
    let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    pod["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    create(pods, &pod).await;
    let params = PatchParams::default();
    let nominate = Patch::Merge(json!({"status": {"nominatedNodeName": to}}));
    pods.patch_status(&name, &params, &nominate).await.unwrap();
    let go = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
    pods.patch(&name, &params, &go).await.unwrap();
    let decided = |pod: Option<&Pod>| pod.is_some_and(|pod| node_of(pod).is_some() || unschedulable(pod));
    let pod = member.wait_for(pods, &name, decided).await.unwrap().unwrap();
    node_of(&pod).map(str::to_owned)
}

/// Plans for `count` clusters; every pod is offered its destination, and must get it.
pub(crate) async fn sent(member: &Member, count: u64) -> Tally {
    let client = member.client().unwrap();
    let clusters = (0..count).map(|number| {
        let client = client.clone();
        async move {
            let drawn = cluster(number, true);
            prepare(&client, &drawn).await;
            let pods: Api<Pod> = Api::namespaced(client.clone(), &drawn.name);
            for pod in &drawn.pods {
                create(&pods, pod).await;
            }
            ready(member, &client, &drawn, drawn.pods.len()).await;
            let objects = observe(&client, &drawn).await;
            let plan = plan(&objects, false);
            cordon(&client, &plan.remove).await;
            let mut tally = Tally {
                clusters: 1,
                removed: plan.remove.len(),
                ..Tally::default()
            };
            for (number, wave) in plan.waves.iter().enumerate() {
                barrier(member, &client, &drawn.name, number).await;
                let mut moving = Vec::new();
                for step in wave.nodes.iter().flat_map(|node| &node.moves) {
                    moving.push((step, pods.get(&step.pod.name).await.unwrap()));
                    gone(member, &pods, &step.pod.name).await;
                }
                // All of the wave are where the plan sends them; then each in turn has to be let in by the scheduler.
                for (step, old) in &moving {
                    // Under a name of its own: KWOK deletes by name, and may still be at it when the next is made.
                    let mut pod = replacement(old, &format!("{}-held", step.pod.name));
                    pod["spec"]["nodeName"] = (*step.to).into();
                    create(&pods, &pod).await;
                }
                for (step, old) in &moving {
                    tally.moved += 1;
                    gone(member, &pods, &format!("{}-held", step.pod.name)).await;
                    let found = offer(
                        member,
                        &pods,
                        replacement(old, &format!("{}-moved", step.pod.name)),
                        &step.to,
                    )
                    .await;
                    if found.as_deref() != Some(&*step.to) {
                        let why = format!("{}: planned for {}, went to {found:?}\n{plan}", step.pod, step.to);
                        tally.wrong.push(why);
                    }
                }
                for node in &wave.nodes {
                    let nodes: Api<Node> = Api::all(client.clone());
                    nodes.delete(&node.node, &DeleteParams::default()).await.unwrap();
                }
            }
            tally
        }
    });
    let mut all = Tally::default();
    let mut results = stream::iter(clusters).buffer_unordered(8);
    while let Some(tally) = results.next().await {
        all.add(tally);
    }
    all
}

async fn ready(member: &Member, client: &Client, drawn: &Drawn, pods: usize) {
    let labels = ListParams::default().labels(&format!("cluster={}", drawn.name));
    let nodes: Api<Node> = Api::all(client.clone());
    let all = drawn.nodes.len();
    member
        .wait_for_all(&nodes, &labels, "the nodes are Ready", |nodes| {
            nodes.len() == all && nodes.iter().all(|node| node_ready(node))
        })
        .await
        .unwrap();
    let api: Api<Pod> = Api::namespaced(client.clone(), &drawn.name);
    member
        .wait_for_all(&api, &ListParams::default(), "the pods run", |found| {
            found.len() == pods && found.iter().all(|pod| pod_ready(pod))
        })
        .await
        .unwrap();
}

async fn create_all<K>(client: &Client, namespace: &str, values: &[Value])
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + serde::Serialize
        + Send
        + Sync,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    for value in values {
        create(&api, value).await;
    }
}

/// Makes room for the next ones.
async fn clear(client: &Client, drawn: &Drawn) {
    let (now, all) = (DeleteParams::default().grace_period(0), ListParams::default());
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &drawn.name);
    deployments.delete_collection(&now, &all).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &drawn.name);
    pods.delete_collection(&now, &all).await.unwrap();
    let of_cluster = ListParams::default().labels(&format!("cluster={}", drawn.name));
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.delete_collection(&now, &of_cluster).await.unwrap();
}

/// Plans for `count` clusters whose Deployments make the pods again; the scheduler decides where.
pub(crate) async fn left_to_scheduler(member: &Member, count: u64) -> Tally {
    let client = member.client().unwrap();
    let clusters = (0..count).map(|number| {
        let client = client.clone();
        async move {
            let drawn = cluster(number, false);
            prepare(&client, &drawn).await;
            create_all::<Deployment>(&client, &drawn.name, &drawn.deployments).await;
            let api: Api<Pod> = Api::namespaced(client.clone(), &drawn.name);
            let wanted: i64 = drawn
                .deployments
                .iter()
                .map(|one| one["spec"]["replicas"].as_i64().unwrap())
                .sum();
            let wanted = usize::try_from(wanted).unwrap();
            // Some never fit.
            let settled = |pods: &[&Pod]| {
                pods.len() == wanted && pods.iter().all(|pod| pod_ready(pod) || unschedulable(pod))
            };
            let pods = member
                .wait_for_all(
                    &api,
                    &ListParams::default(),
                    "the scheduler has looked at all pods",
                    settled,
                )
                .await
                .unwrap();
            let running = pods.iter().filter(|pod| pod_ready(pod)).count();
            let objects = observe(&client, &drawn).await;
            let plan = plan(&objects, true);
            let mut blockers = plan.skipped.iter().flat_map(|skipped| &skipped.blockers);
            let mut tally = Tally {
                clusters: 1,
                removed: plan.remove.len(),
                tight: usize::from(blockers.any(|blocker| matches!(blocker, Blocker::RoomTight { .. }))),
                ..Tally::default()
            };
            assert!(!plan.notes.iter().any(|note| matches!(note, Note::Tight { .. })));
            cordon(&client, &plan.remove).await;
            for (number, wave) in plan.waves.iter().enumerate() {
                barrier(member, &client, &drawn.name, number).await;
                for step in wave.nodes.iter().flat_map(|node| &node.moves) {
                    tally.moved += 1;
                    gone(member, &api, &step.pod.name).await;
                }
                let again = member
                    .wait_for_all(&api, &ListParams::default(), "the pods run again", |pods| {
                        pods.len() == wanted && pods.iter().filter(|pod| pod_ready(pod)).count() >= running
                    })
                    .await;
                if let Err(error) = again {
                    let why = format!("{}: wave {number}: {error}\n{plan}", drawn.name);
                    tally.wrong.push(why);
                    break;
                }
                for node in &wave.nodes {
                    let nodes: Api<Node> = Api::all(client.clone());
                    nodes.delete(&node.node, &DeleteParams::default()).await.unwrap();
                }
            }
            clear(&client, &drawn).await;
            tally
        }
    });
    let mut all = Tally::default();
    let mut results = stream::iter(clusters).buffer_unordered(8);
    while let Some(tally) = results.next().await {
        all.add(tally);
    }
    all
}
