//! What a policy can ask for beyond the strategies everyone has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use kurator_core::names::ClusterName;
use kurator_core::observe::{ClusterView, Health, NodeView, ResourceSummary, Snapshot, Taint, TaintEffect};
use kurator_core::quantity::Quantity;
use kurator_core::reason::Reason;
use kurator_policy::api::Placement;
use kurator_policy::placement::{
    ClusterReason, Decision, Dialect, FleetIndex, Gang, PlanOptions, Planner, Prepared, Role, Running,
    Unplaced, Workload, plan,
};
use serde_json::{Value, json};

const NOW: &str = "2026-01-02T03:04:05Z";

fn cluster(name: &str, room: i64) -> ClusterView {
    let sums = ResourceSummary::default()
        .with_allocatable("cpu", Quantity::from_units(room))
        .with_allocatable("pods", Quantity::from_units(1000));
    ClusterView::new(name.parse().unwrap())
        .with_health(Health::ready())
        .with_resources(sums)
}

fn fleet(clusters: impl IntoIterator<Item = ClusterView>) -> Snapshot {
    clusters
        .into_iter()
        .fold(Snapshot::new(NOW.parse().unwrap()), Snapshot::with_cluster)
}

fn web(replicas: u32) -> Workload {
    Workload::new("default/web", "apps/v1", "Deployment")
        .with_replicas(replicas)
        .with_request("cpu", Quantity::from_units(1))
}

fn named(name: &str, replicas: u32, policy: &str) -> Workload {
    let mut workload = web(replicas).with_policy(policy);
    workload.name = name.to_owned();
    workload
}

fn decide(fleet: &Snapshot, placement: Value, workload: &Workload, running: &Running) -> Decision {
    let placement: Placement = serde_json::from_value(placement).unwrap();
    let index = FleetIndex::new(fleet);
    let policy = Prepared::new(&placement, &index, Dialect::Kurator).unwrap();
    Planner::new(PlanOptions::default()).place(&index, &policy, workload, running, NOW.parse().unwrap())
}

fn placed(decision: &Decision) -> Vec<(&str, u32)> {
    let placed = decision.outcome.as_ref().unwrap();
    placed
        .clusters
        .iter()
        .map(|(name, replicas)| (name.as_str(), *replicas))
        .collect()
}

fn divided(more: Value) -> Value {
    let mut scheduling = json!({ "weightPreference": { "dynamicWeight": "AvailableReplicas" } });
    scheduling
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({ "replicaScheduling": scheduling })
}

fn weighted(weights: &[(&str, u64)], more: Value) -> Value {
    let list: Vec<Value> = weights
        .iter()
        .map(|(name, weight)| json!({ "targetCluster": { "clusterNames": [name] }, "weight": weight }))
        .collect();
    let mut scheduling = json!({ "weightPreference": { "staticWeightList": list } });
    scheduling
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({ "replicaScheduling": scheduling })
}

#[test]
fn a_minimum_gives_the_lighter_cluster_its_replica() {
    let fleet = fleet([cluster("a", 9), cluster("b", 9)]);
    let limit = json!({ "clusterLimits": [{ "targetCluster": {}, "minReplicas": 1 }] });
    let decision = decide(
        &fleet,
        weighted(&[("a", 2), ("b", 1)], limit),
        &web(2),
        &Running::default(),
    );
    assert_eq!(placed(&decision), [("a", 1), ("b", 1)]);
}

#[test]
fn minima_that_are_too_much_name_the_fewest_clusters_that_are() {
    let fleet = fleet([cluster("a", 9), cluster("b", 9), cluster("c", 9)]);
    let limits = json!({ "clusterLimits": [
        { "targetCluster": { "clusterNames": ["a"] }, "minReplicas": 1 },
        { "targetCluster": { "clusterNames": ["b", "c"] }, "minReplicas": 3 },
    ] });
    let decision = decide(&fleet, divided(limits), &web(5), &Running::default());
    let Err(Unplaced::Limits { conflict }) = &decision.outcome else {
        panic!("{decision}")
    };
    assert_eq!(
        conflict,
        "b at least 3, c at least 3 add up to 6 of 5 replicas; lower one of them"
    );
}

#[test]
fn maxima_that_are_too_little_say_how_much_is_needed() {
    let fleet = fleet([cluster("a", 9), cluster("b", 9)]);
    let limits = json!({ "clusterLimits": [{ "targetCluster": {}, "maxReplicas": 2 }] });
    let decision = decide(&fleet, divided(limits), &web(5), &Running::default());
    assert_eq!(
        decision.outcome.unwrap_err().to_string(),
        "the maxima of the 2 clusters add up to 4 of 5 replicas; 1 more are needed"
    );
}

#[test]
fn a_weighted_division_can_be_capped_by_what_fits() {
    let fleet = fleet([cluster("a", 3), cluster("b", 30)]);
    let capped = weighted(&[("a", 90), ("b", 10)], json!({ "capByCapacity": true }));
    assert_eq!(
        placed(&decide(&fleet, capped, &web(10), &Running::default())),
        [("a", 3), ("b", 7)]
    );
}

#[test]
fn weights_work_level_by_level() {
    let at = |name: &str, region: &str, zone: &str| cluster(name, 500).with_region(region).with_zone(zone);
    let fleet = fleet([
        at("e1", "east", "east-a"),
        at("e2", "east", "east-a"),
        at("e3", "east", "east-b"),
        at("w1", "west", "west-a"),
        at("w2", "west", "west-b"),
    ]);
    let placement = json!({ "replicaScheduling": { "weightPreference": { "hierarchy": [
        { "groupByField": "region", "weights": [{ "group": "east", "weight": 70 }, { "group": "west", "weight": 30 }] },
        { "groupByField": "zone", "weights": [
            { "group": "east-a", "weight": 50 }, { "group": "east-b", "weight": 50 },
            { "group": "west-a", "weight": 50 }, { "group": "west-b", "weight": 50 },
        ] },
    ] } } });
    let decision = decide(&fleet, placement, &web(100), &Running::default());
    // 70 to the east, 35 to each of its zones; the odd one of zone a goes by name.
    assert_eq!(
        placed(&decision),
        [("e1", 18), ("e2", 17), ("e3", 35), ("w1", 15), ("w2", 15)]
    );
}

#[test]
fn the_loss_of_any_cluster_leaves_what_was_asked_for() {
    let fleet = fleet([cluster("a", 90), cluster("b", 10), cluster("c", 10)]);
    let survive = |percent: u32| divided(json!({ "surviveClusterLoss": { "minAvailablePercent": percent } }));
    let decision = decide(&fleet, survive(50), &web(20), &Running::default());
    assert_eq!(placed(&decision), [("a", 10), ("b", 5), ("c", 5)]);
    let decision = decide(&fleet, survive(80), &web(20), &Running::default());
    assert_eq!(
        decision.outcome.unwrap_err().to_string(),
        "to keep 16 of 20 replicas through the loss of any cluster none may have more than 4; 5 clusters are needed, \
         3 can be used"
    );
}

#[test]
fn a_part_is_placed_where_that_is_allowed_and_the_rest_is_named() {
    let fleet = fleet([cluster("a", 3), cluster("b", 4)]);
    let decision = decide(
        &fleet,
        divided(json!({ "partialPlacement": true })),
        &web(10),
        &Running::default(),
    );
    assert_eq!(placed(&decision), [("a", 3), ("b", 4)]);
    assert_eq!(decision.outcome.unwrap().missing, 3);
    let whole = decide(&fleet, divided(json!({})), &web(10), &Running::default())
        .outcome
        .unwrap_err();
    assert_eq!(
        whole,
        Unplaced::NoRoom {
            missing: 3,
            room: 7,
            wanted: 10
        }
    );
}

#[test]
fn many_small_steps_end_where_one_large_step_ends() {
    let rooms = [
        ("a", 10),
        ("b", 35),
        ("c", 8),
        ("d", 70),
        ("e", 22),
        ("f", 5),
        ("g", 41),
    ];
    let policy = || divided(json!({ "scalePath": "PathIndependent" }));
    let total = fleet(rooms.map(|(name, room)| cluster(name, room)));
    let once = decide(&total, policy(), &web(120), &Running::default());
    let mut running: BTreeMap<String, u32> = BTreeMap::new();
    for replicas in 1..=120 {
        let left = rooms
            .map(|(name, room)| cluster(name, room - i64::from(running.get(name).copied().unwrap_or(0))));
        let step = decide(
            &fleet(left),
            policy(),
            &web(replicas),
            &Running::new(running.clone()),
        );
        let now: BTreeMap<String, u32> = placed(&step)
            .into_iter()
            .map(|(n, r)| (n.to_owned(), r))
            .collect();
        // No step takes a replica from anyone.
        assert!(
            running
                .iter()
                .all(|(name, before)| now.get(name).is_some_and(|now| now >= before))
        );
        running = now;
    }
    assert_eq!(
        placed(&once),
        running.iter().map(|(n, r)| (n.as_str(), *r)).collect::<Vec<_>>()
    );
}

#[test]
fn rebalancing_keeps_to_its_budget_and_to_its_threshold() {
    let fleet = fleet([cluster("a", 10), cluster("b", 50)]);
    let running = || Running::new([("a", 40)]);
    let policy =
        |gain: u32| divided(json!({ "rebalancing": { "maxMovesPercent": 10, "minGainPercent": gain } }));
    // 50 + 50 places in all, so 20 of 40 would move; four may in one pass.
    let decision = decide(&fleet, policy(30), &web(40), &running());
    assert_eq!(placed(&decision), [("a", 36), ("b", 4)]);
    assert_eq!(decision.outcome.unwrap().moving, 16);
    let decision = decide(&fleet, policy(60), &web(40), &running());
    assert_eq!(placed(&decision), [("a", 40)]);
    // Without the field nothing moves.
    assert_eq!(
        placed(&decide(&fleet, divided(json!({})), &web(40), &running())),
        [("a", 40)]
    );
}

#[test]
fn what_failed_over_goes_back_step_by_step_once_the_first_group_is_settled() {
    let placement = || {
        let mut placement = divided(json!({ "rebalancing": { "maxMovesPercent": 25 } }));
        placement["clusterAffinities"] = json!([
            { "affinityName": "home", "clusterNames": ["a"] },
            { "affinityName": "away", "clusterNames": ["b"] },
        ]);
        placement
    };
    let since = |at: &str| Health::ready().since(at.parse().unwrap());
    let away = || Running::new([("b", 8)]).with_affinity("away");
    let young = fleet([
        cluster("a", 20).with_health(since("2026-01-02T03:00:00Z")),
        cluster("b", 20),
    ]);
    assert_eq!(placed(&decide(&young, placement(), &web(8), &away())), [("b", 8)]);

    let old = fleet([
        cluster("a", 20).with_health(since("2026-01-02T02:00:00Z")),
        cluster("b", 20),
    ]);
    let mut running = away();
    let mut steps = vec![];
    for _ in 0..4 {
        let decision = decide(&old, placement(), &web(8), &running);
        let outcome = decision.outcome.unwrap();
        assert_eq!(outcome.replicas(), 8);
        steps.push((outcome.replicas_in("a"), outcome.affinity.clone().unwrap()));
        running = Running::new(outcome.clusters.iter().map(|(name, n)| (name.as_str(), *n)));
        running.affinity = outcome.affinity;
    }
    let expected = [(2, "away"), (4, "away"), (6, "away"), (8, "home")];
    assert_eq!(steps, expected.map(|(n, group)| (n, group.to_owned())));
}

#[test]
fn a_cluster_that_is_not_ready_gets_nothing_new_and_loses_nothing() {
    let fleet = fleet([
        cluster("a", 20),
        cluster("b", 20).with_health(Health::not_ready("KubeletDown")),
    ]);
    let decision = decide(&fleet, divided(json!({})), &web(10), &Running::new([("b", 4)]));
    assert_eq!(placed(&decision), [("a", 6), ("b", 4)]);
    let decision = decide(&fleet, divided(json!({})), &web(10), &Running::default());
    assert_eq!(placed(&decision), [("a", 10)]);
    assert_eq!(
        decision.reasons.of("b").first().map(Reason::token),
        Some("NotReady")
    );
}

#[test]
fn every_rejection_says_what_would_change_it() {
    let fleet = fleet([
        cluster("a", 2),
        cluster("b", 9).with_taint(Taint::new("maintenance", TaintEffect::NoSchedule)),
        cluster("c", 9),
    ]);
    let mut placement = divided(json!({}));
    placement["clusterAffinity"] = json!({ "exclude": ["c"] });
    let mut workload = web(3);
    workload.request.insert("cpu".into(), Quantity::from_units(3));
    let decision = decide(&fleet, placement, &workload, &Running::default());
    assert_eq!(
        decision.outcome,
        Err(Unplaced::NoRoom {
            missing: 3,
            room: 0,
            wanted: 3
        })
    );
    assert_eq!(
        decision.to_string(),
        "not placed: Unschedulable: 3 of 3 replicas find no room: there is room for 0\n\
         a  Room: room for 0 more replicas; 1 more cpu would take another\n\
         b  Tainted: its taint maintenance:NoSchedule is not tolerated; tolerate it or remove the taint\n\
         c  NotInAffinity: the affinity does not include it; add its name or labels to the policy\n"
    );
}

#[test]
fn zones_and_labels_are_spread_over_like_regions() {
    let at = |name: &str, region: &str, zone: &str, row: &str| {
        cluster(name, 10)
            .with_region(region)
            .with_zone(zone)
            .with_label("row", row)
    };
    let fleet = fleet([
        at("a", "r1", "z1", "x"),
        at("b", "r1", "z1", "x"),
        at("c", "r1", "z2", "y"),
        at("d", "r2", "z3", "y"),
        cluster("e", 10),
    ]);
    let spread = |constraints: Value| {
        let mut placement = divided(json!({}));
        placement["spreadConstraints"] = constraints;
        placement
    };
    let chosen = |constraints: Value| {
        let decision = decide(&fleet, spread(constraints), &web(8), &Running::default());
        placed(&decision)
            .into_iter()
            .map(|(name, _)| name.to_owned())
            .collect::<Vec<_>>()
    };
    let cluster = |count: u32| json!({ "spreadByField": "cluster", "minGroups": count, "maxGroups": count });
    assert_eq!(
        chosen(json!([{ "spreadByField": "zone", "minGroups": 3 }, cluster(3)])),
        ["a", "c", "d"]
    );
    assert_eq!(
        chosen(json!([{ "spreadByLabel": "row", "minGroups": 2, "maxGroups": 2 }, cluster(2)])),
        ["a", "c"]
    );
    let both = json!([
        { "spreadByField": "region", "minGroups": 2 },
        { "spreadByField": "zone", "minGroups": 2, "maxGroups": 2 },
    ]);
    assert_eq!(chosen(both), ["a", "b", "d"]);
    let too_many = spread(json!([{ "spreadByField": "zone", "minGroups": 4 }]));
    let decision = decide(&fleet, too_many, &web(8), &Running::default());
    assert_eq!(
        decision.outcome,
        Err(Unplaced::Spread {
            by: "zone".into(),
            found: 3,
            wanted: 4
        })
    );
}

#[test]
fn a_cluster_that_was_passed_over_is_told_the_group_or_the_rank() {
    let at = |name: &str, room: i64, region: &str| cluster(name, room).with_region(region);
    let fleet = fleet([at("a", 9, "r1"), at("b", 5, "r1"), at("c", 3, "r2")]);
    let mut placement = divided(json!({}));
    placement["spreadConstraints"] = json!([
        { "spreadByField": "region", "minGroups": 1, "maxGroups": 1 },
        { "spreadByField": "cluster", "minGroups": 1, "maxGroups": 1 },
    ]);
    let decision = decide(&fleet, placement, &web(4), &Running::default());
    assert_eq!(placed(&decision), [("a", 4)]);
    let last = |cluster: &str| decision.reasons.of(cluster).last().map(ToString::to_string);
    assert_eq!(
        last("b").as_deref(),
        Some(
            "the spread chose clusters that come before it; raise maxGroups, or give it more room than they have"
        )
    );
    assert_eq!(
        last("c").as_deref(),
        Some("the spread chose other groups than region r2; raise its maxGroups to have it too")
    );
}

fn gpus(name: &str, product: &str, nodes: &[i64]) -> ClusterView {
    let views = nodes.iter().enumerate().map(|(at, &free)| {
        NodeView::new(format!("{name}-{at}"))
            .with_label("nvidia.com/gpu.product", product)
            .with_allocatable("nvidia.com/gpu", Quantity::from_units(free))
            .with_allocatable("pods", Quantity::from_units(110))
    });
    views.fold(
        ClusterView::new(name.parse().unwrap()).with_health(Health::ready()),
        ClusterView::with_node,
    )
}

fn accelerators() -> Value {
    let manifest = include_str!("../../examples/manifests/accelerators.yaml");
    let document: Value = serde_saphyr::from_str(manifest).unwrap();
    document["spec"]["placement"].clone()
}

#[test]
fn the_accelerator_manifest_asks_for_type_and_quantity() {
    let fleet = fleet([
        gpus("cluster-gpu-a100", "NVIDIA-A100-SXM4-80GB", &[2, 2]),
        gpus("cluster-gpu-h100", "NVIDIA-H100-80GB-HBM3", &[3]),
        gpus("elsewhere", "NVIDIA-A100-SXM4-80GB", &[8]),
    ]);
    let inference = Workload::new("default/llm", "apps/v1", "Deployment")
        .with_replicas(2)
        .with_request("nvidia.com/gpu", Quantity::from_units(1));
    let decision = decide(&fleet, accelerators(), &inference, &Running::default());
    assert_eq!(placed(&decision), [("cluster-gpu-a100", 2)]);
    assert_eq!(
        decision.reasons.of("cluster-gpu-h100"),
        [ClusterReason::HardwareMissing {
            resource: "nvidia.com/gpu".into(),
            found: 3,
            wanted: 4
        }]
    );
}

#[test]
fn a_copy_goes_to_what_is_preferred_stays_there_and_elsewhere_only_if_it_must() {
    let inference = Workload::new("default/llm", "apps/v1", "Deployment")
        .with_replicas(4)
        .with_request("nvidia.com/gpu", Quantity::from_units(1));
    let with = |a100: &[i64]| {
        let h100 = gpus("cluster-gpu-h100", "NVIDIA-H100-80GB-HBM3", &[8]);
        fleet([gpus("cluster-gpu-a100", "NVIDIA-A100-SXM4-80GB", a100), h100])
    };
    let here = |fleet: &Snapshot, running: &Running| {
        let decision = decide(fleet, accelerators(), &inference, running);
        placed(&decision)
            .iter()
            .map(|(cluster, _)| cluster.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(here(&with(&[2, 2]), &Running::default()), ["cluster-gpu-a100"]);
    assert_eq!(here(&with(&[2]), &Running::default()), ["cluster-gpu-h100"]);
    // What runs on the other kind does not move by itself.
    let running = Running::new([("cluster-gpu-h100", 4)]);
    assert_eq!(here(&with(&[2, 2]), &running), ["cluster-gpu-h100"]);
    assert_eq!(here(&with(&[2, 2]), &running.with_fresh()), ["cluster-gpu-a100"]);
    // Its own replicas are what takes the hardware.
    let mut fleet = with(&[2, 2]);
    let mut used = fleet.remove(&"cluster-gpu-a100".parse().unwrap()).unwrap();
    for node in used.nodes.iter_mut().flatten() {
        node.allocated
            .insert("nvidia.com/gpu".into(), Quantity::from_units(2));
    }
    fleet.insert(used);
    let running = Running::new([("cluster-gpu-a100", 4)]);
    assert_eq!(here(&fleet, &running), ["cluster-gpu-a100"]);
    assert_eq!(here(&fleet, &Running::default()), ["cluster-gpu-h100"]);
}

#[test]
fn hardware_that_is_preferred_is_used_up_first() {
    let fleet = fleet([
        gpus("cluster-gpu-a100", "NVIDIA-A100-SXM4-80GB", &[2, 2]),
        gpus("cluster-gpu-h100", "NVIDIA-H100-80GB-HBM3", &[8]),
    ]);
    let mut placement = accelerators();
    placement["replicaScheduling"] = json!({ "weightPreference": { "dynamicWeight": "AvailableReplicas" } });
    let inference = Workload::new("default/llm", "apps/v1", "Deployment")
        .with_replicas(6)
        .with_request("nvidia.com/gpu", Quantity::from_units(1));
    let decision = decide(&fleet, placement, &inference, &Running::default());
    assert_eq!(
        placed(&decision),
        [("cluster-gpu-a100", 4), ("cluster-gpu-h100", 2)]
    );
}

#[test]
fn a_gang_goes_whole_to_a_cluster_whose_nodes_hold_it() {
    // Ten GPUs in pieces of one, and four on one node: only the latter holds two members of two.
    let fleet = fleet([gpus("pieces", "T4", &[1; 10]), gpus("whole", "T4", &[4])]);
    let gang = Gang::of(2)
        .with_role(Role::new("worker", 3, 2).with_request("nvidia.com/gpu", Quantity::from_units(2)));
    let job = Workload::new("default/train", "batch.volcano.sh/v1alpha1", "Job")
        .with_replicas(3)
        .with_gang(gang);
    let decision = decide(&fleet, divided(json!({})), &job, &Running::default());
    assert_eq!(placed(&decision), [("whole", 3)]);
    assert_eq!(
        decision
            .reasons
            .of("pieces")
            .last()
            .map(ToString::to_string)
            .as_deref(),
        Some(
            "0 of the 2 members that must run together fit on its nodes; 2 nvidia.com/gpu free on one node would take \
             another"
        )
    );
    let mut larger = job;
    larger.gang = Some(
        Gang::of(3)
            .with_role(Role::new("worker", 3, 3).with_request("nvidia.com/gpu", Quantity::from_units(2))),
    );
    let decision = decide(&fleet, divided(json!({})), &larger, &Running::default());
    let lacking = "2 nvidia.com/gpu".to_owned();
    assert_eq!(
        decision.outcome,
        Err(Unplaced::Gang {
            fit: 2,
            wanted: 3,
            lacking
        })
    );
    // What runs already stays where it is.
    let decision = decide(
        &fleet,
        divided(json!({})),
        &larger,
        &Running::new([("pieces", 3)]),
    );
    assert_eq!(placed(&decision), [("pieces", 3)]);
}

#[test]
fn host_plugins_filter_score_and_estimate() {
    let fleet = fleet([cluster("a", 50), cluster("b", 50), cluster("c", 50)]);
    let index = FleetIndex::new(&fleet);
    let placement: Placement = serde_json::from_value(json!({
        "spreadConstraints": [{ "spreadByField": "cluster", "minGroups": 1, "maxGroups": 1 }],
        "replicaScheduling": { "weightPreference": { "dynamicWeight": "AvailableReplicas" } },
    }))
    .unwrap();
    let policy = Prepared::new(&placement, &index, Dialect::Kurator).unwrap();
    let mut planner = Planner::new(PlanOptions::default())
        .with_filter(|_: &Workload, cluster: &ClusterName| (cluster == "a").then(|| "not today".to_owned()))
        .with_score(|_: &Workload, cluster: &ClusterName| u64::from(cluster == "c"))
        .with_estimator(|_: &Workload, cluster: &ClusterName| (cluster == "c").then_some(3));
    let mut place = |replicas: u32| {
        let decision = planner.place(
            &index,
            &policy,
            &web(replicas),
            &Running::default(),
            NOW.parse().unwrap(),
        );
        (
            decision.outcome.unwrap().to_string(),
            decision.reasons.of("a")[0].to_string(),
        )
    };
    assert_eq!(place(3), ("c=3".to_owned(), "host filter: not today".to_owned()));
    assert_eq!(place(4), ("b=4".to_owned(), "host filter: not today".to_owned()));
}

#[test]
fn a_what_if_is_the_difference_of_two_plans() {
    let before = fleet([cluster("a", 4), cluster("b", 2)]);
    let after = fleet([cluster("a", 4), cluster("b", 2), cluster("c", 6)]);
    let policies = BTreeMap::from([(
        "p".to_owned(),
        serde_json::from_value(divided(json!({}))).unwrap(),
    )]);
    let workloads = [web(6).with_policy("p"), named("z", 9, "p")];
    let plan_of = |fleet: &Snapshot| {
        let index = FleetIndex::new(fleet);
        plan(
            &index,
            &workloads,
            &policies,
            &BTreeMap::new(),
            NOW.parse().unwrap(),
            &PlanOptions::default(),
        )
    };
    let difference = plan_of(&before).diff(&plan_of(&after));
    let text: Vec<String> = difference
        .iter()
        .map(|(name, change)| format!("{name}\n{change}"))
        .collect();
    assert_eq!(
        text,
        [
            "default/web\na: 4 -> 2\nb: 2 -> 1\nc: new, 3\n",
            "z\nstill cannot be placed: 3 of 9 replicas find no room: there is room for 6\n"
        ]
    );
}

#[test]
fn policies_that_cannot_be_used_are_named_and_the_others_are_planned() {
    let fleet = fleet([cluster("a", 9)]);
    let bad: Placement = serde_json::from_value(json!({
        "clusterAffinity": { "labelSelector": { "matchExpressions": [{ "key": "k", "operator": "Like" }] } },
    }))
    .unwrap();
    let policies = BTreeMap::from([("bad".to_owned(), bad), ("good".to_owned(), Placement::default())]);
    let workloads = [named("x", 2, "bad"), named("y", 2, "good"), named("z", 2, "gone")];
    let index = FleetIndex::new(&fleet);
    let planned = plan(
        &index,
        &workloads,
        &policies,
        &BTreeMap::new(),
        NOW.parse().unwrap(),
        &PlanOptions::default(),
    );
    let tokens: Vec<_> = planned
        .placements
        .values()
        .map(|outcome| outcome.as_ref().map_or_else(Reason::token, |_| "placed"))
        .collect();
    assert_eq!(tokens, ["InvalidPolicy", "placed", "NoPolicy"]);
    let unplaced = planned.placements["x"].as_ref().unwrap_err().to_string();
    assert!(
        unplaced.contains("clusterAffinity") && unplaced.contains("Like"),
        "{unplaced}"
    );
}
