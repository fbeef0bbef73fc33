//! The arithmetic of budgets, held against the disruption controller itself on hundreds of drawn combinations of budget,
//! workload and pod states.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::{Pod, ReplicationController},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use kurator_core::clock::{Clock, SystemClock};
use kurator_envtest::{Controllers, Fleet, Member, MemberSpec, Part};
use kurator_fleet::scaling::{BudgetState, Model, Object};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const CASES: u64 = 600;
const NAMESPACE: &str = "default";

/// Splitmix: the same cases in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()].clone()
    }
}

#[derive(Clone, Debug)]
struct DrawnPod {
    /// Which of the owners of the case, if any.
    owner: Option<usize>,
    phase: &'static str,
    ready: Option<bool>,
    terminating: bool,
    /// Evicted so many seconds ago, as the budget's status says.
    evicted: Option<i64>,
}

#[derive(Clone, Debug)]
struct Case {
    /// Kind and replicas.
    owners: Vec<(&'static str, i64)>,
    pods: Vec<DrawnPod>,
    budgets: Vec<Value>,
}

fn case(number: u64) -> Case {
    let draw = &mut Draw(number);
    let kinds = [
        "Deployment",
        "Deployment",
        "Deployment",
        "ReplicaSet",
        "ReplicaSet",
        "StatefulSet",
        "ReplicationController",
        "Rollout",
        "Job",
        "DaemonSet",
    ];
    let owners: Vec<(&str, i64)> = (0..draw.of(&[0, 1, 1, 1, 1, 1, 2, 3]))
        .map(|_| (draw.of(&kinds), i64::try_from(draw.below(9)).unwrap()))
        .collect();
    let mut pods = Vec::new();
    for _ in 0..draw.below(8) {
        let owner = (!owners.is_empty() && !draw.one_in(10))
            .then(|| usize::try_from(draw.below(owners.len() as u64)).unwrap());
        pods.push(DrawnPod {
            owner,
            phase: draw.of(&[
                "Running",
                "Running",
                "Running",
                "Running",
                "Pending",
                "Succeeded",
                "Failed",
                "Unknown",
            ]),
            ready: draw.of(&[Some(true), Some(true), Some(true), Some(false), None]),
            terminating: draw.one_in(8),
            evicted: draw.one_in(6).then(|| draw.of(&[0, 300])),
        });
    }
    let budgets = (0..draw.of(&[1, 1, 1, 2]))
        .map(|_| {
            let amount = if draw.one_in(2) {
                json!(draw.below(7))
            } else {
                json!(format!("{}%", draw.of(&[0, 1, 25, 30, 33, 50, 66, 75, 99, 100])))
            };
            let mut spec = match draw.below(9) {
                0..4 => json!({"maxUnavailable": amount}),
                4..8 => json!({"minAvailable": amount}),
                _ => json!({}),
            };
            let own = format!("case-{number}");
            spec["selector"] = match draw.below(8) {
                0 => {
                    json!({"matchExpressions": [{"key": "case", "operator": "In", "values": [own, "other"]}]})
                }
                1 => json!({"matchLabels": {"case": own}, "matchExpressions": [
                    {"key": "odd", "operator": "DoesNotExist"}]}),
                2 => Value::Null,
                _ => json!({"matchLabels": {"case": own}}),
            };
            if let Some(policy) = draw.of(&[None, Some("IfHealthyBudget"), Some("AlwaysAllow")]) {
                spec["unhealthyPodEvictionPolicy"] = policy.into();
            }
            spec
        })
        .collect();
    Case {
        owners,
        pods,
        budgets,
    }
}

fn owner_name(case: u64, owner: usize) -> String {
    format!("case-{case}-owner-{owner}")
}

fn pod_name(case: u64, pod: usize) -> String {
    format!("case-{case}-pod-{pod}")
}

/// Creates many, thirty-two at a time.
async fn create<K>(client: &Client, objects: Vec<Value>) -> BTreeMap<String, K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + k8s_openapi::Resource
        + Clone
        + Debug
        + DeserializeOwned
        + serde::Serialize
        + Send
        + Sync,
{
    let api: Api<K> = Api::default_namespaced(client.clone());
    stream::iter(objects)
        .map(|object| {
            let api = api.clone();
            async move {
                let object: K = serde_json::from_value(object).unwrap();
                let created = api.create(&PostParams::default(), &object).await.unwrap();
                (created.name_any(), created)
            }
        })
        .buffer_unordered(32)
        .collect()
        .await
}

async fn list<K>(client: &Client, wrap: fn(Box<K>) -> Object) -> Vec<Object>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let listed = Api::<K>::all(client.clone())
        .list(&ListParams::default())
        .await
        .unwrap();
    listed
        .items
        .into_iter()
        .map(|object| wrap(Box::new(object)))
        .collect()
}

/// A custom resource with a scale, as Argo Rollouts has one; the model never sees it.
const ROLLOUTS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rollouts.example.com}
spec:
  group: example.com
  names: {kind: Rollout, plural: rollouts}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
"#;

/// Everything of the cases but their budgets.
async fn workloads(member: &Member, client: &Client, cases: &[(u64, Case)]) {
    let template = |name: &str| {
        json!({"metadata": {"labels": {"set": name}}, "spec": {
            "containers": [{"name": "c", "image": "c"}], "restartPolicy": "Always"}})
    };
    let owners = |wanted: &str, shape: &dyn Fn(&str, i64) -> Value| -> Vec<Value> {
        let mut found = Vec::new();
        for (number, case) in cases {
            for (at, (kind, replicas)) in case.owners.iter().enumerate() {
                if *kind == wanted {
                    found.push(shape(&owner_name(*number, at), *replicas));
                }
            }
        }
        found
    };
    let scaled = |name: &str, replicas: i64| {
        json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "template": template(name),
            "selector": {"matchLabels": {"set": name}}}})
    };
    let deployments = create::<Deployment>(client, owners("Deployment", &scaled)).await;
    let mut sets = owners("ReplicaSet", &scaled);
    for (name, deployment) in &deployments {
        // Halfway through a rollout: the set wants other than the Deployment does.
        let mut set = scaled(name, 1);
        set["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": name,
            "uid": deployment.uid(), "controller": true}]);
        sets.push(set);
    }
    let sets = create::<ReplicaSet>(client, sets).await;
    let stateful = |name: &str, replicas: i64| {
        let mut set = scaled(name, replicas);
        set["spec"]["serviceName"] = "none".into();
        set
    };
    let stateful = create::<StatefulSet>(client, owners("StatefulSet", &stateful)).await;
    let old = |name: &str, replicas: i64| {
        json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "template": template(name),
            "selector": {"set": name}}})
    };
    let controllers = create::<ReplicationController>(client, owners("ReplicationController", &old)).await;
    let job = |name: &str, _: i64| {
        let mut template = template(name);
        template["spec"]["restartPolicy"] = "Never".into();
        json!({"metadata": {"name": name}, "spec": {"template": template}})
    };
    let jobs = create::<Job>(client, owners("Job", &job)).await;
    let daemon = |name: &str, _: i64| {
        json!({"metadata": {"name": name}, "spec": {"template": template(name),
            "selector": {"matchLabels": {"set": name}}}})
    };
    let daemons = create::<DaemonSet>(client, owners("DaemonSet", &daemon)).await;
    let mut rollouts: BTreeMap<String, Option<String>> = BTreeMap::new();
    for rollout in owners(
        "Rollout",
        &|name, replicas| json!({"name": name, "replicas": replicas}),
    ) {
        let name = rollout["name"].as_str().unwrap();
        let yaml = format!(
            "{{apiVersion: example.com/v1, kind: Rollout, metadata: {{name: {name}, namespace: {NAMESPACE}}}, \
             spec: {{replicas: {}}}}}",
            rollout["replicas"]
        );
        rollouts.insert(name.to_owned(), member.apply(&yaml).await.unwrap()[0].uid());
    }
    let uid = |kind: &str, name: &str| match kind {
        "Deployment" | "ReplicaSet" => sets[name].uid(),
        "StatefulSet" => stateful[name].uid(),
        "ReplicationController" => controllers[name].uid(),
        "Job" => jobs[name].uid(),
        "DaemonSet" => daemons[name].uid(),
        _ => rollouts[name].clone(),
    };
    let mut pods = Vec::new();
    for (number, case) in cases {
        for (at, pod) in case.pods.iter().enumerate() {
            let owner = pod.owner.map(|owner| {
                let (kind, name) = (case.owners[owner].0, owner_name(*number, owner));
                let version = match kind {
                    "ReplicationController" => "v1",
                    "Job" => "batch/v1",
                    "Rollout" => "example.com/v1",
                    _ => "apps/v1",
                };
                let uid = uid(kind, &name);
                let kind = if kind == "Deployment" { "ReplicaSet" } else { kind };
                json!([{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true}])
            });
            pods.push(json!({
                "metadata": {"name": pod_name(*number, at), "labels": {"case": format!("case-{number}")},
                    "ownerReferences": owner, "finalizers": ["example.com/stay"]},
                // A node without a kubelet: nothing happens to the pod by itself.
                "spec": {"nodeName": "nowhere", "containers": [{"name": "c", "image": "c"}]},
            }));
        }
    }
    create::<Pod>(client, pods).await;
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let states = cases.iter().flat_map(|(number, case)| {
        case.pods
            .iter()
            .enumerate()
            .map(|(at, pod)| (pod_name(*number, at), pod.clone()))
    });
    stream::iter(states)
        .for_each_concurrent(32, |(name, pod)| {
            let api = api.clone();
            async move {
                let ready = pod
                    .ready
                    .map(|ready| json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]));
                let status = Patch::Merge(json!({"status": {"phase": pod.phase, "conditions": ready}}));
                let params = PatchParams::default();
                api.patch_status(&name, &params, &status).await.unwrap();
                if pod.terminating {
                    api.delete(&name, &DeleteParams::default()).await.unwrap();
                }
            }
        })
        .await;
}

/// What the controller said, in the planner's terms.
fn said(status: &PodDisruptionBudgetStatus) -> (i64, i64, i64, i64) {
    let number = |field: Option<i32>| i64::from(field.unwrap_or_default());
    (
        number(status.current_healthy),
        number(status.desired_healthy),
        number(status.expected_pods),
        number(status.disruptions_allowed),
    )
}

fn failed(status: &PodDisruptionBudgetStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|one| one.type_ == "DisruptionAllowed" && one.reason == "SyncFailed")
}

/// Whether the controller has come to the model's result.
fn agrees(state: &BudgetState, budget: &PodDisruptionBudget) -> bool {
    let status = budget.status.clone().unwrap_or_default();
    if state.sync_failed {
        // It writes nothing else then.
        return failed(&status) && status.disruptions_allowed.unwrap_or_default() == 0;
    }
    !failed(&status)
        && status.observed_generation == budget.metadata.generation
        && said(&status) == (state.healthy, state.desired, state.expected, state.allowed)
}

/// A budget whose status says nothing but which pods were evicted.
fn stripped(mut budget: PodDisruptionBudget) -> PodDisruptionBudget {
    budget.metadata.generation = Some(2);
    budget.status = Some(PodDisruptionBudgetStatus {
        observed_generation: Some(1),
        disrupted_pods: budget.status.and_then(|status| status.disrupted_pods),
        ..PodDisruptionBudgetStatus::default()
    });
    budget
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_computes_what_the_disruption_controller_does() {
    let fleet = Fleet::builder()
        .member(
            MemberSpec::new("east")
                .with_controllers(Controllers::Tuned)
                // Owners and pods stay as they are drawn.
                .with_flag(Part::ControllerManager, "--controllers=disruption"),
        )
        .start()
        .await
        .unwrap();
    let member = fleet.member("east").unwrap();
    let client = member.client().unwrap();
    let rollouts: CustomResourceDefinition = serde_saphyr::from_str(ROLLOUTS).unwrap();
    member.install([&rollouts]).await.unwrap();
    let cases: Vec<(u64, Case)> = (0..CASES).map(|number| (number, case(number))).collect();
    workloads(member, &client, &cases).await;

    let mut budgets = Vec::new();
    for (number, case) in &cases {
        for (at, spec) in case.budgets.iter().enumerate() {
            budgets.push(json!({"metadata": {"name": format!("case-{number}-{at}")}, "spec": spec}));
        }
    }
    let count = budgets.len();
    create::<PodDisruptionBudget>(&client, budgets).await;
    let api: Api<PodDisruptionBudget> = Api::default_namespaced(client.clone());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    for (number, case) in &cases {
        let evicted: BTreeMap<String, Timestamp> = (case.pods.iter().enumerate())
            .filter_map(|(at, pod)| {
                let at_time = clock.now() - SignedDuration::from_secs(pod.evicted?);
                Some((pod_name(*number, at), at_time))
            })
            .collect();
        if !evicted.is_empty() {
            let status = Patch::Merge(json!({"status": {"disruptedPods": evicted}}));
            let name = format!("case-{number}-0");
            api.patch_status(&name, &PatchParams::default(), &status)
                .await
                .unwrap();
        }
    }

    let mut objects = list::<Pod>(&client, Object::Pod).await;
    objects.extend(list::<Deployment>(&client, Object::Deployment).await);
    objects.extend(list::<ReplicaSet>(&client, Object::ReplicaSet).await);
    objects.extend(list::<StatefulSet>(&client, Object::StatefulSet).await);
    objects.extend(list::<ReplicationController>(&client, Object::ReplicationController).await);
    let mut model = Model::new();
    for object in &objects {
        model.upsert(object).unwrap();
    }
    for budget in api.list(&ListParams::default()).await.unwrap() {
        model.upsert_budget(&stripped(budget)).unwrap();
    }
    let now = clock.now();
    let computed = |model: &Model, name: &str| model.budget_state(NAMESPACE, name, now).unwrap();
    // The scale of a custom resource is not among the objects: there the planner goes by the status.
    let by_status = |name: &str| {
        let number: u64 = name.split('-').nth(1).unwrap().parse().unwrap();
        let case = &cases[usize::try_from(number).unwrap()].1;
        case.owners.iter().any(|(kind, _)| *kind == "Rollout")
    };
    let expected: BTreeMap<String, BudgetState> = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .filter(|name| !by_status(name))
        .map(|name| (name.clone(), computed(&model, &name)))
        .collect();
    assert!(
        expected.len() >= 500,
        "{} budgets without a custom resource",
        expected.len()
    );

    let settled = member
        .wait_for_all(
            &api,
            &ListParams::default(),
            "the disruption controller agrees",
            |budgets| {
                budgets.len() == count
                    && budgets
                        .iter()
                        .all(|budget| match expected.get(&budget.name_any()) {
                            Some(state) => agrees(state, budget),
                            None => budget
                                .status
                                .as_ref()
                                .is_some_and(|status| status.conditions.is_some()),
                        })
            },
        )
        .await;
    let settled = match settled {
        Ok(settled) => settled,
        Err(error) => {
            let now = api.list(&ListParams::default()).await.unwrap();
            let wrong: Vec<String> = now
                .iter()
                .filter_map(|budget| {
                    let name = budget.name_any();
                    let state = expected.get(&name).filter(|state| !agrees(state, budget))?;
                    let number: usize = name.split('-').nth(1).unwrap().parse().unwrap();
                    Some(format!(
                        "{name}: computed {state:?}\n  the controller says {:?}\n  {:?}",
                        budget.status, cases[number].1
                    ))
                })
                .collect();
            panic!(
                "{error}: {} of {} differ\n{}",
                wrong.len(),
                expected.len(),
                wrong.join("\n")
            );
        }
    };
    // With its status a budget allows what the server will.
    for budget in settled {
        let status = budget.status.clone().unwrap_or_default();
        model.upsert_budget(&budget).unwrap();
        let state = computed(&model, &budget.name_any());
        assert_eq!(
            (state.allowed, state.sync_failed),
            (
                i64::from(status.disruptions_allowed.unwrap_or_default()),
                failed(&status)
            ),
            "{}: {state:?}\n{status:?}",
            budget.name_any(),
        );
    }
    // The draw covers what it should.
    let states: Vec<&BudgetState> = expected.values().collect();
    let some = |what: &dyn Fn(&BudgetState) -> bool| states.iter().filter(|state| what(state)).count();
    println!(
        "{} budgets compared: {} allow some, {} cannot be computed, {} wait for an eviction",
        states.len(),
        some(&|state| state.allowed > 0),
        some(&|state| state.sync_failed),
        some(&|state| state.leak_until().is_some()),
    );
    for (least, count) in [
        (100, some(&|state| state.allowed > 0)),
        (20, some(&|state| state.sync_failed)),
        (20, some(&|state| state.leak_until().is_some())),
        (50, some(&|state| state.expected == 0)),
    ] {
        assert!(count >= least, "{count} of at least {least}");
    }
}
