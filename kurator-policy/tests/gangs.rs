//! Gangs, from the objects that state them to the nodes that take them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use kurator_core::names::ClusterName;
use kurator_core::observe::{ClusterView, Health, NodeView, ResourceSummary, Snapshot};
use kurator_core::quantity::Quantity;
use kurator_policy::api::Placement;
use kurator_policy::gangs::{Dispatch, NextStep, Presence, check, dispatch};
use kurator_policy::placement::{
    DeviceInventory, Dialect, FleetIndex, Gang, PlanOptions, Planner, Prepared, Queues, Role, Running,
    Workload, plan,
};
use kurator_policy::propagate::{self, BuiltinKinds, ObjectKey, PolicyKey, Rendered, Request, Template};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: &str = "2026-01-02T03:04:05Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn cluster(name: &str, nodes: &[i64]) -> ClusterView {
    let mut view = ClusterView::new(name.parse().unwrap()).with_health(Health::ready());
    view.nodes = Some(Vec::new());
    let all: i64 = nodes.iter().sum();
    view = view.with_resources(
        ResourceSummary::default()
            .with_allocatable("cpu", Quantity::from_units(all))
            .with_allocatable("pods", Quantity::from_units(1000)),
    );
    nodes.iter().enumerate().fold(view, |view, (at, &cpu)| {
        view.with_node(
            NodeView::new(format!("{name}-{at}"))
                .with_label("rack", format!("r{}", at % 2))
                .with_allocatable("cpu", Quantity::from_units(cpu))
                .with_allocatable("pods", Quantity::from_units(110)),
        )
    })
}

fn fleet(clusters: impl IntoIterator<Item = ClusterView>) -> Snapshot {
    clusters
        .into_iter()
        .fold(Snapshot::new(now()), Snapshot::with_cluster)
}

fn web(name: &str, replicas: u32, cpu: i64) -> Workload {
    Workload::new(name, "batch/v1", "Job")
        .with_policy("p")
        .with_replicas(replicas)
        .with_request("cpu", Quantity::from_units(cpu))
}

fn together(fleet: &Snapshot, placement: Value, workloads: &[Workload]) -> BTreeMap<String, String> {
    let policies = BTreeMap::from([("p".to_owned(), serde_json::from_value(placement).unwrap())]);
    let index = FleetIndex::new(fleet);
    let planned = plan(
        &index,
        workloads,
        &policies,
        &BTreeMap::new(),
        now(),
        &PlanOptions::default(),
    );
    planned
        .placements
        .into_iter()
        .map(|(name, outcome)| {
            (
                name,
                outcome.map_or_else(|why| why.to_string(), |placed| placed.to_string()),
            )
        })
        .collect()
}

#[test]
fn a_policy_makes_gangs_of_what_does_not_say_so_itself() {
    let both = fleet([cluster("pieces", &[3, 3, 3]), cluster("whole", &[4, 4])]);
    let pieces = fleet([cluster("pieces", &[3, 3, 3])]);
    let policy = |gang: Value| json!({ "gang": gang });
    let workload = [web("w", 4, 2)];
    assert_eq!(together(&both, policy(json!({})), &workload)["w"], "whole=4");
    // Four do not fit into the pieces at the same time, three do; the fourth goes with them.
    assert_eq!(
        together(&pieces, policy(json!({})), &workload)["w"],
        "no cluster has nodes for the 4 members that must run together; at best 3 fit, 1 are missing; 2 cpu free on \
         one node would take another"
    );
    assert_eq!(
        together(&pieces, policy(json!({ "minAvailable": 3 })), &workload)["w"],
        "pieces=4"
    );
    let rack = together(
        &pieces,
        policy(json!({ "minAvailable": 3, "topologyKey": "rack" })),
        &workload,
    );
    assert!(rack["w"].contains("at best 2 fit"), "{}", rack["w"]);
}

#[test]
fn a_policy_may_divide_a_workload_into_gangs_which_are_placed_all_or_not_at_all() {
    let both = fleet([cluster("a", &[4, 4, 4]), cluster("b", &[4, 4])]);
    let policy = |gang: Value, scheduling: Value| json!({ "gang": gang, "replicaScheduling": scheduling });
    let dynamic = || json!({ "weightPreference": { "dynamicWeight": "AvailableReplicas" } });
    let weights = json!({ "weightPreference": { "staticWeightList": [
        { "targetCluster": { "clusterNames": ["a"] }, "weight": 1 },
        { "targetCluster": { "clusterNames": ["b"] }, "weight": 3 },
    ] } });
    let at_once = |gang: Value, scheduling: &Value, workloads: &[Workload]| {
        together(&both, policy(gang, scheduling.clone()), workloads)
    };
    let four = json!({ "subGangs": 4 });
    // Each of four gangs of two takes a node: weights count gangs, as far as nodes hold them.
    assert_eq!(at_once(four.clone(), &weights, &[web("w", 8, 2)])["w"], "a=4 b=4");
    assert_eq!(
        at_once(four.clone(), &dynamic(), &[web("w", 8, 2)])["w"],
        "a=4 b=4"
    );
    // The one over stays with its gang.
    assert_eq!(
        at_once(
            json!({ "subGangs": 5, "minAvailable": 2 }),
            &dynamic(),
            &[web("w", 11, 2)]
        )["w"],
        "a=7 b=4"
    );
    assert_eq!(
        at_once(json!({ "subGangs": 6 }), &dynamic(), &[web("w", 12, 2)])["w"],
        "5 of the 6 gangs fit at the same time, and all of them are placed or none; make room for 1 more"
    );
    // What one workload takes the next one has not.
    let two = at_once(four.clone(), &dynamic(), &[web("v", 8, 2), web("w", 8, 2)]);
    assert_eq!(two["v"], "a=4 b=4");
    assert!(two["w"].starts_with("1 of the 4 gangs fit"), "{}", two["w"]);
    assert!(
        together(&both, json!({ "gang": four }), &[web("w", 8, 2)])["w"]
            .contains("gang.subGangs: it does not go with replicaSchedulingType: Duplicated")
    );
}

#[test]
fn gangs_of_a_divided_workload_stay_where_they_run() {
    let fleet = fleet([cluster("a", &[4, 4, 4]), cluster("b", &[4, 4, 4, 4])]);
    let placement = json!({
        "gang": { "subGangs": 4 },
        "replicaScheduling": { "weightPreference": { "dynamicWeight": "AvailableReplicas" } },
    });
    let index = FleetIndex::new(&fleet);
    let placement = serde_json::from_value(placement).unwrap();
    let policy = Prepared::new(&placement, &index, Dialect::Kurator).unwrap();
    let at = |replicas: u32, running: Running| {
        let decision = Planner::default().place(&index, &policy, &web("w", replicas, 1), &running, now());
        decision.outcome.unwrap().to_string()
    };
    assert_eq!(at(8, Running::new([("a", 6), ("b", 2)])), "a=6 b=2");
    // They grow where they are.
    assert_eq!(at(12, Running::new([("a", 6), ("b", 2)])), "a=9 b=3");
    // A cluster that is gone has left its gangs to the others, whole.
    assert_eq!(at(8, Running::new([("a", 6), ("gone", 2)])), "a=6 b=2");
}

#[test]
fn gangs_that_are_planned_together_do_not_share_a_node() {
    let fleet = fleet([cluster("a", &[4, 4]), cluster("b", &[4, 4])]);
    let gang = || {
        Gang::of(3)
            .with_role(Role::new("ps", 1, 1).with_request("cpu", Quantity::from_units(2)))
            .with_role(Role::new("worker", 3, 2).with_request("cpu", Quantity::from_units(2)))
    };
    let job = |name: &str| {
        Workload::new(name, "batch.volcano.sh/v1alpha1", "Job")
            .with_policy("p")
            .with_replicas(4)
            .with_gang(gang())
    };
    let planned = together(&fleet, json!({}), &[job("x"), job("y"), job("z")]);
    assert_eq!((planned["x"].as_str(), planned["y"].as_str()), ("a=4", "b=4"));
    assert!(planned["z"].contains("at best 0 fit"), "{}", planned["z"]);
}

#[test]
fn each_role_goes_to_nodes_that_admit_it() {
    let node = |name: &str, pool: &str| {
        NodeView::new(name)
            .with_label("pool", pool)
            .with_allocatable("cpu", Quantity::from_units(4))
    };
    let mut one = ClusterView::new("one".parse().unwrap()).with_health(Health::ready());
    one.nodes = Some(vec![node("n1", "cpu"), node("n2", "cpu")]);
    let mut both = ClusterView::new("two".parse().unwrap()).with_health(Health::ready());
    both.nodes = Some(vec![node("n1", "cpu"), node("n2", "gpu")]);
    let role = |name: &str, pool: &str| {
        Role::new(name, 1, 1)
            .with_request("cpu", Quantity::from_units(1))
            .with_node_label("pool", pool)
    };
    let job = Workload::new("j", "v1", "Job")
        .with_policy("p")
        .with_replicas(2)
        .with_gang(
            Gang::of(2)
                .with_role(role("ps", "cpu"))
                .with_role(role("worker", "gpu")),
        );
    let planned = together(&fleet([one, both]), json!({}), &[job]);
    assert_eq!(planned["j"], "two=2");
}

#[test]
fn required_node_affinity_counts_for_replicas_and_for_members() {
    let fleet = fleet([cluster("a", &[8, 2]), cluster("b", &[4, 4])]);
    let affinity = |racks: &[&str]| {
        serde_json::from_value(json!({ "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": "rack", "operator": "In", "values": racks },
        ] }] }))
        .unwrap()
    };
    let packed = json!({ "replicaScheduling": { "replicaDivisionPreference": "Aggregated" } });
    let only = web("w", 4, 1).with_node_affinity(affinity(&["r1"]));
    assert_eq!(together(&fleet, packed, std::slice::from_ref(&only))["w"], "b=4");
    assert_eq!(together(&fleet, json!({ "gang": {} }), &[only])["w"], "b=4");
}

#[test]
fn a_replica_that_fits_no_node_is_told_the_nearest_one() {
    let fleet = fleet([cluster("a", &[3, 5])]);
    let index = FleetIndex::new(&fleet);
    let dynamic =
        json!({ "replicaScheduling": { "weightPreference": { "dynamicWeight": "AvailableReplicas" } } });
    let policy = Prepared::new(
        &serde_json::from_value(dynamic).unwrap(),
        &index,
        Dialect::Kurator,
    )
    .unwrap();
    let decision = Planner::default().place(&index, &policy, &web("w", 2, 4), &Running::default(), now());
    assert_eq!(
        decision.reasons.of("a")[0].to_string(),
        "room for 1 more replicas; 1 more cpu on node a-0 would take another"
    );
}

#[test]
fn an_indexed_job_goes_whole_where_one_fits_though_the_nodes_are_not_known() {
    let sums = ResourceSummary::default()
        .with_allocatable("cpu", Quantity::from_units(9))
        .with_allocatable("pods", Quantity::from_units(100));
    let known = ClusterView::new("sums".parse().unwrap())
        .with_health(Health::ready())
        .with_resources(sums);
    let job = web("j", 4, 2).with_gang(Gang::of(1));
    assert_eq!(
        together(&fleet([known.clone()]), json!({}), std::slice::from_ref(&job))["j"],
        "sums=4"
    );
    let large = web("j", 4, 20).with_gang(Gang::of(1));
    assert!(together(&fleet([known]), json!({}), &[large])["j"].contains("at best 0 fit"));
}

#[test]
fn a_queue_keeps_a_gang_away_with_a_reason() {
    let fleet = fleet([cluster("a", &[8]), cluster("b", &[8])]);
    let mut queues = Queues::default();
    let queue = |cpu: &str| json!({ "metadata": { "name": "q" }, "spec": { "capability": { "cpu": cpu } } });
    queues.observe(&"a".parse().unwrap(), &[queue("3")]);
    queues.observe(&"b".parse().unwrap(), &[queue("4")]);
    let index = FleetIndex::new(&fleet);
    let policy = Prepared::new(&Placement::default(), &index, Dialect::Kurator).unwrap();
    let job = web("j", 2, 2).with_gang(Gang::of(2).with_queue("q"));
    let decision =
        Planner::default()
            .with_filter(queues)
            .place(&index, &policy, &job, &Running::default(), now());
    assert_eq!(decision.outcome.unwrap().to_string(), "b=2");
    assert_eq!(
        decision.reasons.of("a")[0].to_string(),
        "queue: queue q has 3 cpu left and the gang needs 4; 1 more would do"
    );
}

#[test]
fn device_classes_are_hardware_of_a_type_and_quantity() {
    let slice = |node: &str, product: &str, count: usize| {
        let devices: Vec<Value> = (0..count)
            .map(|n| json!({ "name": format!("gpu-{n}"), "attributes": { "productName": { "string": product } } }))
            .collect();
        json!({ "spec": { "driver": "gpu.nvidia.com", "nodeName": node, "pool": { "name": node }, "devices": devices } })
    };
    let class = json!({
        "metadata": { "name": "gpu.nvidia.com" },
        "spec": { "selectors": [{ "cel": { "expression": "device.driver == 'gpu.nvidia.com'" } }] },
    });
    let with = |name: &str, product: &str, count: usize| {
        let mut view = cluster(name, &[64]);
        let slices = [slice(&format!("{name}-0"), product, count)];
        DeviceInventory::read(&slices, std::slice::from_ref(&class), &[]).add_to(&mut view);
        view
    };
    let fleet = fleet([
        with("few", "NVIDIA-A100-SXM4-80GB", 2),
        with("many", "NVIDIA-A100-SXM4-80GB", 8),
        with("old", "NVIDIA-T4", 8),
    ]);
    let placement = json!({
        "resourceConstraints": [{
            "name": "gpu.nvidia.com", "minQuantity": 4,
            "requirements": [{ "operator": "In", "values": ["a100", "h100"] }],
        }],
        "replicaScheduling": { "weightPreference": { "dynamicWeight": "AvailableReplicas" } },
    });
    let claims = "deviceclass.resource.kubernetes.io/gpu.nvidia.com";
    let serve = |replicas: u32| {
        Workload::new("s", "apps/v1", "Deployment")
            .with_policy("p")
            .with_replicas(replicas)
            .with_request(claims, Quantity::from_units(2))
    };
    assert_eq!(together(&fleet, placement.clone(), &[serve(4)])["s"], "many=4");
    assert_eq!(
        together(&fleet, placement, &[serve(5)])["s"],
        "1 of 5 replicas find no room: there is room for 4"
    );
}

fn template(object: Value) -> Template {
    Template::of(&object, &BuiltinKinds).unwrap()
}

fn propagated(fleet: &Snapshot, placement: Value, templates: &[Template]) -> propagate::Planned {
    let placement: Placement = serde_json::from_value(placement).unwrap();
    let policy = PolicyKey::new("policy.kurator.dev", "ml", "p");
    let request = Request {
        policy: &policy,
        placement: &placement,
        otherwise: &BTreeMap::new(),
        suspension: None,
        templates,
        overrides: &[],
        fleet,
        running: &BTreeMap::new(),
        standing: &BTreeMap::new(),
        now: now(),
        interpreter: &BuiltinKinds,
    };
    let planned = propagate::plan(&request);
    assert_eq!(propagate::check(&request, &planned), [], "{planned}");
    planned
}

fn pod(cpu: &str) -> Value {
    json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] })
}

fn deployment(name: &str, replicas: u32) -> Template {
    template(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": "ml" },
        "spec": { "replicas": replicas, "template": { "spec": pod("1") } },
    }))
}

#[test]
fn templates_are_placed_by_what_their_pods_request_and_share_the_room_there_is() {
    let fleet = fleet([cluster("a", &[10]), cluster("b", &[5])]);
    let packed = json!({ "replicaScheduling": { "replicaDivisionPreference": "Aggregated" } });
    let burst: Vec<Template> = (0..16).map(|n| deployment(&format!("app-{n:02}"), 1)).collect();
    let planned = propagated(&fleet, packed.clone(), &burst);
    let on = |cluster: &str| {
        planned
            .member(&cluster.parse().unwrap())
            .map_or(0, |m| m.objects.len())
    };
    assert_eq!((on("a"), on("b")), (10, 5));
    // The last by name finds nothing left, whatever the order of the templates.
    assert_eq!(
        planned.held().map(ToString::to_string).collect::<Vec<_>>(),
        ["Deployment ml/app-15"]
    );
    let mut turned = burst;
    turned.reverse();
    assert_eq!(propagated(&fleet, packed, &turned), planned);
}

fn sent(planned: &propagate::Planned, cluster: &str, key: &ObjectKey) -> Value {
    match &planned.member(&cluster.parse().unwrap()).unwrap().objects[key].rendered {
        Rendered::Manifest { manifest, .. } => Value::clone(manifest),
        held => panic!("{held:?}"),
    }
}

#[test]
fn completions_of_a_job_are_divided_like_its_replicas_and_an_indexed_job_stays_whole() {
    let fleet = fleet([cluster("a", &[30]), cluster("b", &[10])]);
    let dynamic =
        json!({ "replicaScheduling": { "weightPreference": { "dynamicWeight": "AvailableReplicas" } } });
    let job = |name: &str, mode: &str| {
        template(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name, "namespace": "ml" },
            "spec": { "parallelism": 8, "completions": 20, "completionMode": mode, "template": { "spec": pod("1") } },
        }))
    };
    let key = |name: &str| ObjectKey::new("batch/v1", "Job", "ml", name);
    let planned = propagated(&fleet, dynamic.clone(), &[job("split", "NonIndexed")]);
    let numbers = |cluster: &str| {
        let spec = &sent(&planned, cluster, &key("split"))["spec"];
        (spec["parallelism"].as_u64(), spec["completions"].as_u64())
    };
    assert_eq!(numbers("a"), (Some(6), Some(15)));
    assert_eq!(numbers("b"), (Some(2), Some(5)));
    let planned = propagated(&fleet, dynamic, &[job("whole", "Indexed")]);
    assert_eq!(planned.placements[&key("whole")].to_string(), "a=8");
    assert_eq!(sent(&planned, "a", &key("whole"))["spec"]["completions"], 20);
}

#[test]
fn a_volcano_job_and_a_workload_with_its_pod_group_are_placed_whole() {
    let fleet = fleet([cluster("a", &[3, 3, 3]), cluster("b", &[8])]);
    let job = template(json!({
        "apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "metadata": { "name": "train", "namespace": "ml" },
        "spec": { "tasks": [{ "name": "w", "replicas": 2, "template": { "spec": pod("4") } }] },
    }));
    let planned = propagated(&fleet, json!({}), std::slice::from_ref(&job));
    assert_eq!(planned.placements[&job.key].to_string(), "b=2");

    let mut grouped = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "g", "namespace": "ml" },
        "spec": { "parallelism": 3, "template": { "spec": pod("2") } },
    });
    grouped["spec"]["template"]["spec"]["schedulingGroup"] = json!({ "podGroupName": "g" });
    let alone = propagated(&fleet, json!({}), &[template(grouped.clone())]);
    assert!(
        alone.notes[0]
            .to_string()
            .contains("PodGroup ml/g, which is not on the hub"),
        "{alone}"
    );
    let group = template(json!({
        "apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup", "metadata": { "name": "g", "namespace": "ml" },
        "spec": { "schedulingPolicy": { "gang": { "minCount": 3 } } },
    }));
    let planned = propagated(&fleet, json!({}), &[template(grouped), group]);
    assert_eq!(
        planned.placements[&ObjectKey::new("batch/v1", "Job", "ml", "g")].to_string(),
        "b=3"
    );
}

/// Clusters that admit the gang or not, and may be out of reach for a while.
fn outcomes() -> impl Strategy<Value = (Vec<bool>, Vec<Vec<bool>>)> {
    (1_usize..4).prop_flat_map(|clusters| {
        (
            vec(any::<bool>(), clusters),
            vec(vec(prop::bool::weighted(0.8), clusters), 40),
        )
    })
}

proptest! {
    #[test]
    fn a_gang_is_never_in_two_clusters_and_lands_where_one_takes_it((admits, reachable) in outcomes(), two in any::<bool>()) {
        let order: Vec<ClusterName> = (0..admits.len()).map(|n| format!("c{n}").parse().unwrap()).collect();
        let mut there: BTreeMap<ClusterName, Presence> = BTreeMap::new();
        let mut tried = BTreeMap::new();
        let mut at = now();
        for answers in reachable.iter().chain(std::iter::repeat_n(&vec![true; admits.len()], 60)) {
            // What is not reached is not known, whatever is there.
            let seen: BTreeMap<ClusterName, Presence> = there
                .iter()
                .map(|(cluster, presence)| {
                    let index = order.iter().position(|other| other == cluster).unwrap();
                    (cluster.clone(), if answers[index] { *presence } else { Presence::Unknown })
                })
                .collect();
            let mut gang = Dispatch::new(&order, &seen, &tried).with_patience(SignedDuration::from_secs(60));
            if two {
                gang = gang.with_two_copies();
            }
            let step = dispatch(&gang, at);
            prop_assert_eq!(check(&gang, &step), None, "{}", step);
            match step {
                NextStep::Create { cluster } => {
                    prop_assert!(there.is_empty(), "{cluster} and {there:?}");
                    there.insert(cluster, Presence::Pending { since: at });
                }
                NextStep::Remove { cluster, given_up } => {
                    there.insert(cluster.clone(), Presence::Leaving);
                    if given_up {
                        tried.insert(cluster, at);
                    }
                }
                _ => {}
            }
            prop_assert!(there.len() <= 1);
            at += SignedDuration::from_secs(30);
            let mut gone = BTreeSet::new();
            for (cluster, presence) in &mut there {
                let index = order.iter().position(|other| other == cluster).unwrap();
                match presence {
                    Presence::Pending { .. } if admits[index] => *presence = Presence::Running,
                    Presence::Leaving => {
                        gone.insert(cluster.clone());
                    }
                    _ => {}
                }
            }
            there.retain(|cluster, _| !gone.contains(cluster));
        }
        let lands = there.values().any(|presence| *presence == Presence::Running);
        prop_assert_eq!(lands, admits.contains(&true));
    }

    #[test]
    fn a_gang_is_never_split_and_a_cluster_is_found_exactly_if_there_is_one(
        fleet_nodes in vec(vec(0_i64..5, 1..6), 1..5), roles in vec((1_u32..4, 1_i64..4), 1..4),
    ) {
        let gang = roles.iter().enumerate().fold(Gang::default(), |gang, (n, &(count, cpu))| {
            gang.with_role(Role::new(n.to_string(), count, count).with_request("cpu", Quantity::from_units(cpu)))
        });
        let members: u32 = roles.iter().map(|role| role.0).sum();
        let views = fleet_nodes.iter().enumerate().map(|(n, nodes)| cluster(&format!("c{n}"), nodes));
        let job = Workload::new("j", "v1", "Job").with_policy("p").with_replicas(members).with_gang(gang);
        let index = FleetIndex::new(&fleet(views));
        let policy = Prepared::new(&Placement::default(), &index, Dialect::Kurator).unwrap();
        let decision = Planner::default().place(&index, &policy, &job, &Running::default(), now());
        let sizes: Vec<i64> = roles.iter().flat_map(|&(count, cpu)| std::iter::repeat_n(cpu, count as usize)).collect();
        let possible = fleet_nodes.iter().any(|nodes| fits(&sizes, &mut nodes.clone()));
        match decision.outcome {
            Ok(placed) => {
                prop_assert!(possible);
                prop_assert_eq!(placed.clusters.len(), 1);
                prop_assert_eq!(placed.replicas(), u64::from(members));
            }
            Err(_) => prop_assert!(!possible),
        }
    }
}

/// Every member on every node.
fn fits(members: &[i64], free: &mut Vec<i64>) -> bool {
    let Some((&cpu, rest)) = members.split_first() else {
        return true;
    };
    (0..free.len()).any(|at| {
        if free[at] < cpu {
            return false;
        }
        free[at] -= cpu;
        let found = fits(rest, free);
        free[at] += cpu;
        found
    })
}
