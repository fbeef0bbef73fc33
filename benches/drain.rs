//! Planning the removal of a tenth of a large cluster.
//!
//! `cargo bench --bench drain`. A fifth of the applications are constrained: anti-affinity between nodes, spread over
//! zones, or a node pool. Every application has a budget. Memory is what the allocator hands out beyond the typed
//! objects, which exist before the measurement.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::LazyLock};

use divan::{AllocProfiler, Bencher, black_box};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec},
        core::v1::{
            Affinity, Container, Node, NodeCondition, NodeStatus, Pod, PodAffinityTerm, PodAntiAffinity,
            PodCondition, PodSpec, PodStatus, ResourceRequirements, TopologySpreadConstraint,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use kurator_fleet::scaling::{DrainPolicy, Model, ScaleDown, ScaleDownPlan};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const ZONES: usize = 3;
const POOLS: usize = 4;
const PODS_PER_NODE: usize = 30;

/// A cluster by numbers: `apps` is four for each node.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
}

impl Size {
    fn apps(self) -> usize {
        self.nodes * 4
    }

    fn pods(self) -> usize {
        self.nodes * PODS_PER_NODE
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Quantity((*value).to_owned())))
        .collect()
}

fn namespace(app: usize) -> String {
    format!("team-{:03}", app % 200)
}

fn selector(app: usize) -> LabelSelector {
    LabelSelector {
        match_labels: Some(map(&[("app", &format!("app-{app}"))])),
        ..LabelSelector::default()
    }
}

fn controller(kind: &str, name: String) -> Vec<OwnerReference> {
    vec![OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: kind.to_owned(),
        name,
        uid: "u".to_owned(),
        controller: Some(true),
        ..OwnerReference::default()
    }]
}

fn node(at: usize) -> Node {
    let name = format!("node-{at:05}");
    Node {
        metadata: ObjectMeta {
            labels: Some(map(&[
                ("kubernetes.io/hostname", &name),
                ("topology.kubernetes.io/zone", &format!("zone-{}", at % ZONES)),
                ("pool", &format!("pool-{}", at / ZONES % POOLS)),
                ("node.kubernetes.io/instance-type", "m5.8xlarge"),
            ])),
            name: Some(name),
            ..ObjectMeta::default()
        },
        status: Some(NodeStatus {
            allocatable: Some(quantities(&[("cpu", "32"), ("memory", "128Gi"), ("pods", "110")])),
            conditions: Some(vec![NodeCondition {
                type_: "Ready".to_owned(),
                status: "True".to_owned(),
                ..NodeCondition::default()
            }]),
            ..NodeStatus::default()
        }),
        ..Node::default()
    }
}

/// Pods of an application are on nodes far from each other, with more on low numbers, so that some nodes are emptier.
fn pod(at: usize, size: Size, ready: bool) -> Pod {
    let app = at % size.apps();
    let replica = at / size.apps();
    let pool = app % 20 == 2;
    let spot = (at.wrapping_mul(2_654_435_761) >> 7) % size.nodes;
    let on = if pool { spot - spot % (ZONES * POOLS) } else { spot };
    let mut spec = PodSpec {
        node_name: Some(format!("node-{:05}", on.min(size.nodes - 1))),
        containers: vec![Container {
            name: "app".to_owned(),
            image: Some("registry.example/app:1".to_owned()),
            resources: Some(ResourceRequirements {
                requests: Some(quantities(&[
                    ("cpu", ["200m", "400m", "500m", "700m"][app % 4]),
                    ("memory", ["512Mi", "1Gi", "1536Mi", "2Gi"][app % 4]),
                ])),
                ..ResourceRequirements::default()
            }),
            ..Container::default()
        }],
        ..PodSpec::default()
    };
    match app % 20 {
        0 | 1 => {
            spec.affinity = Some(Affinity {
                pod_anti_affinity: Some(PodAntiAffinity {
                    required_during_scheduling_ignored_during_execution: Some(vec![PodAffinityTerm {
                        label_selector: Some(selector(app)),
                        topology_key: "kubernetes.io/hostname".to_owned(),
                        ..PodAffinityTerm::default()
                    }]),
                    ..PodAntiAffinity::default()
                }),
                ..Affinity::default()
            });
        }
        2 => spec.node_selector = Some(map(&[("pool", "pool-0")])),
        3 => {
            spec.topology_spread_constraints = Some(vec![TopologySpreadConstraint {
                max_skew: 3,
                topology_key: "topology.kubernetes.io/zone".to_owned(),
                when_unsatisfiable: "DoNotSchedule".to_owned(),
                label_selector: Some(selector(app)),
                ..TopologySpreadConstraint::default()
            }]);
        }
        _ => {}
    }
    let owner = format!("app-{app}-rs");
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("{owner}-{replica}")),
            namespace: Some(namespace(app)),
            uid: Some(format!("00000000-0000-0000-0000-{at:012}")),
            labels: Some(map(&[
                ("app", &format!("app-{app}")),
                ("pod-template-hash", "5f6d"),
            ])),
            owner_references: Some(controller("ReplicaSet", owner)),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: Some(PodStatus {
            phase: Some("Running".to_owned()),
            conditions: Some(vec![PodCondition {
                type_: "Ready".to_owned(),
                status: if ready { "True" } else { "False" }.to_owned(),
                ..PodCondition::default()
            }]),
            ..PodStatus::default()
        }),
    }
}

fn budget(app: usize) -> PodDisruptionBudget {
    let amount = if app.is_multiple_of(4) {
        IntOrString::String("25%".to_owned())
    } else {
        IntOrString::Int(1)
    };
    PodDisruptionBudget {
        metadata: ObjectMeta {
            name: Some(format!("app-{app}")),
            namespace: Some(namespace(app)),
            ..ObjectMeta::default()
        },
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(amount),
            selector: Some(selector(app)),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

fn owners(app: usize, size: Size) -> (Deployment, ReplicaSet) {
    let replicas =
        i32::try_from(size.pods() / size.apps() + usize::from(app < size.pods() % size.apps())).ok();
    let metadata = |name: String, owner: Option<Vec<OwnerReference>>| ObjectMeta {
        name: Some(name),
        namespace: Some(namespace(app)),
        owner_references: owner,
        ..ObjectMeta::default()
    };
    let deployment = Deployment {
        metadata: metadata(format!("app-{app}"), None),
        spec: DeploymentSpec {
            replicas,
            selector: selector(app),
            ..DeploymentSpec::default()
        },
        ..Deployment::default()
    };
    let replica_set = ReplicaSet {
        metadata: metadata(
            format!("app-{app}-rs"),
            Some(controller("Deployment", format!("app-{app}"))),
        ),
        spec: ReplicaSetSpec {
            replicas,
            selector: selector(app),
            ..ReplicaSetSpec::default()
        },
        ..ReplicaSet::default()
    };
    (deployment, replica_set)
}

/// Everything of a cluster, as a reflector would hold it.
struct Objects {
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    budgets: Vec<PodDisruptionBudget>,
    owners: Vec<(Deployment, ReplicaSet)>,
}

fn objects(size: Size) -> Objects {
    Objects {
        nodes: (0..size.nodes).map(node).collect(),
        pods: (0..size.pods()).map(|at| pod(at, size, true)).collect(),
        budgets: (0..size.apps()).map(budget).collect(),
        owners: (0..size.apps()).map(|app| owners(app, size)).collect(),
    }
}

fn model(objects: &Objects) -> Model {
    let mut model = Model::new();
    objects
        .nodes
        .iter()
        .for_each(|node| model.upsert_node(node).unwrap());
    objects.pods.iter().for_each(|pod| model.upsert_pod(pod).unwrap());
    objects
        .budgets
        .iter()
        .for_each(|budget| model.upsert_budget(budget).unwrap());
    for (deployment, replica_set) in &objects.owners {
        model.upsert_deployment(deployment).unwrap();
        model.upsert_replica_set(replica_set).unwrap();
    }
    model
}

fn plan(model: &Model, remove: i64) -> ScaleDownPlan {
    let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let plan = model
        .plan_scale_down(&ScaleDown::remove(remove), &DrainPolicy::default(), now)
        .unwrap();
    assert_eq!(plan.remove.len() as i64, remove);
    plan
}

const LARGE: Size = Size { nodes: 5000 };
const HUGE: Size = Size { nodes: 15_000 };

static OBJECTS: LazyLock<Objects> = LazyLock::new(|| objects(LARGE));
static MODEL: LazyLock<Model> = LazyLock::new(|| model(&OBJECTS));
static HUGE_MODEL: LazyLock<Model> = LazyLock::new(|| model(&objects(HUGE)));

#[divan::bench(sample_count = 5, sample_size = 1)]
fn plan_500_of_5000_from_typed_objects(bencher: Bencher<'_, '_>) {
    let objects = &*OBJECTS;
    bencher.bench_local(|| plan(&model(black_box(objects)), 500));
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn plan_500_of_5000_from_the_model(bencher: Bencher<'_, '_>) {
    let model = &*MODEL;
    let made = plan(model, 500);
    println!(
        "{} waves, bound {}, {} pods move",
        made.waves.len(),
        made.bound.waves,
        made.moves().count()
    );
    bencher.bench_local(|| plan(black_box(model), 500));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn plan_1500_of_15000_from_the_model(bencher: Bencher<'_, '_>) {
    let model = &*HUGE_MODEL;
    bencher.bench_local(|| plan(black_box(model), 1500));
}

/// A thousand events: pods that turn unready and ready again, nodes and budgets that change.
fn thousand_events(model: &mut Model, round: usize) {
    for at in 0..1000 {
        let number = (at * 7919 + round) % LARGE.pods();
        match at % 10 {
            0 => model.upsert_node(&node(number % LARGE.nodes)).unwrap(),
            1 => model.upsert_budget(&budget(number % LARGE.apps())).unwrap(),
            _ => model.upsert_pod(&pod(number, LARGE, at % 2 == 0)).unwrap(),
        }
    }
}

/// A thousand events, with the making of their objects; divide by a thousand.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn thousand_events_into_the_model(bencher: Bencher<'_, '_>) {
    let mut model = MODEL.clone();
    let mut round = 0;
    bencher.bench_local(|| {
        round += 1;
        thousand_events(&mut model, round);
    });
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn replan_after_a_thousand_events(bencher: Bencher<'_, '_>) {
    let mut model = MODEL.clone();
    thousand_events(&mut model, 1);
    bencher.bench_local(|| plan(black_box(&model), 500));
}
