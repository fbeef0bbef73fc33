//! What holds for every fleet, policy and workload.
//!
//! `PROPTEST_CASES=1000000 cargo test -p kurator-policy --test props_placement` looks longer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use kurator_core::observe::{
    ClusterView, Health, ModelGrade, NodeView, ResourceSummary, Snapshot, Taint, TaintEffect,
};
use kurator_core::quantity::Quantity;
use kurator_policy::api::Placement;
use kurator_policy::placement::{
    Dialect, FleetIndex, PlanOptions, Planner, Prepared, Running, Workload, affected, check, plan,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: &str = "2026-01-02T03:04:05Z";

fn cluster(at: usize) -> impl Strategy<Value = ClusterView> {
    let place = (0..3_u8, 0..3_u8, 0..4_u8, 0..3_u8);
    let state = (0..8_u8, 0..8_u8, 0..6_u8, prop::bool::weighted(0.1));
    let room = (0_i64..40, 0_i64..40, 0_i64..30, 0..6_u8);
    (place, state, room).prop_map(move |(place, state, room)| {
        let (provider, region, zone, tier) = place;
        let (taint, health, api, deleting) = state;
        let (cpu, memory, pods, known) = room;
        let mut view =
            ClusterView::new(format!("m{at}").parse().unwrap()).with_label("tier", format!("t{tier}"));
        if provider > 0 {
            view = view.with_provider(format!("p{provider}"));
        }
        if region > 0 {
            view = view.with_region(format!("r{region}"));
        }
        if zone > 0 {
            view = view.with_zone(format!("z{zone}"));
        }
        if taint < 2 {
            let effect = [TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule][usize::from(taint)];
            view = view.with_taint(Taint::new("k", effect).with_value("v"));
        }
        if api > 0 {
            view = view.with_api("apps/v1", "Deployment");
        }
        view.apis.complete = api < 5;
        let since = "2026-01-02T03:00:00Z".parse().unwrap();
        view = view.with_health(match health {
            0 => Health::not_ready("Down"),
            1 => Health::ready().since(since),
            _ => Health::ready(),
        });
        view.deleting = deleting;
        if known > 0 {
            let sums = ResourceSummary::default()
                .with_allocatable("cpu", Quantity::from_milli(cpu * 500))
                .with_allocatable("memory", Quantity::from_units(memory << 28))
                .with_allocatable("pods", Quantity::from_units(pods + 5))
                .with_allocated("pods", Quantity::from_units(5));
            view = view.with_resources(sums);
        }
        if known == 5 {
            view = view.with_model(ModelGrade::new(0, 3).with_range("cpu", Quantity::from_units(2), None));
        }
        if known == 4 {
            for node in 0..3 {
                let node = NodeView::new(format!("n{node}"))
                    .with_label("rack", format!("r{}", node % 2))
                    .with_label("gpu.product", if node == 0 { "NVIDIA-A100" } else { "NVIDIA-T4" })
                    .with_allocatable("gpu", Quantity::from_units(cpu % 5))
                    .with_allocatable("cpu", Quantity::from_milli(cpu * 200))
                    .with_allocatable("memory", Quantity::from_units(memory << 26))
                    .with_allocatable("pods", Quantity::from_units(pods));
                view = view.with_node(node);
            }
        }
        view
    })
}

fn clusters() -> impl Strategy<Value = Vec<ClusterView>> {
    (1_usize..9).prop_flat_map(|count| (0..count).map(cluster).collect::<Vec<_>>())
}

fn affinity() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => Just(json!({})),
        1 => vec(0..9_u8, 1..6).prop_map(|names| {
            json!({ "clusterNames": names.iter().map(|n| format!("m{n}")).collect::<Vec<_>>() })
        }),
        1 => (0..3_u8).prop_map(|t| json!({ "labelSelector": { "matchLabels": { "tier": format!("t{t}") } } })),
        1 => (0..3_u8).prop_map(|t| json!({ "labelSelector": { "matchExpressions": [
            { "key": "tier", "operator": "NotIn", "values": [format!("t{t}")] },
            { "key": "absent", "operator": "DoesNotExist" },
        ] } })),
        1 => (1..3_u8, any::<bool>()).prop_map(|(r, within)| json!({ "fieldSelector": { "matchExpressions": [
            { "key": "region", "operator": if within { "In" } else { "NotIn" }, "values": [format!("r{r}")] },
        ] } })),
        1 => (0..9_u8).prop_map(|n| json!({ "exclude": [format!("m{n}")] })),
    ]
}

fn spread() -> impl Strategy<Value = Value> {
    let by = prop_oneof![
        Just(("spreadByField", "cluster")),
        Just(("spreadByField", "region")),
        Just(("spreadByField", "zone")),
        Just(("spreadByField", "provider")),
        Just(("spreadByLabel", "tier")),
    ];
    (by, 0..4_u32, 0..5_u32)
        .prop_map(|((kind, by), min, max)| json!({ kind: by, "minGroups": min, "maxGroups": max }))
}

fn scheduling() -> impl Strategy<Value = Value> {
    let weights = vec((affinity(), 0..6_u64), 0..4).prop_map(|entries| {
        let list: Vec<Value> = entries
            .into_iter()
            .map(|(target, weight)| json!({ "targetCluster": target, "weight": weight }))
            .collect();
        json!({ "weightPreference": { "staticWeightList": list } })
    });
    let how = prop_oneof![
        Just(json!({})),
        Just(json!({ "replicaDivisionPreference": "Aggregated" })),
        Just(json!({ "weightPreference": { "dynamicWeight": "AvailableReplicas" } })),
        weights,
    ];
    let more = prop_oneof![
        6 => Just(json!({})),
        1 => (affinity(), 0..5_u32, 0..9_u32).prop_map(|(target, min, max)| json!({ "clusterLimits": [
            { "targetCluster": target, "minReplicas": min, "maxReplicas": max },
        ] })),
        1 => Just(json!({ "capByCapacity": true })),
        1 => Just(json!({ "partialPlacement": true })),
        1 => Just(json!({ "scalePath": "PathIndependent" })),
        1 => (0..=100_u32).prop_map(|p| json!({ "surviveClusterLoss": { "minAvailablePercent": p } })),
        1 => (1..=100_u32, 0..30_u32).prop_map(|(moves, gain)| json!({ "rebalancing": {
            "maxMovesPercent": moves, "minGainPercent": gain, "stabilizationSeconds": 600,
        } })),
    ];
    (how, more, any::<bool>()).prop_map(|(mut how, more, hierarchy)| {
        if how != json!({}) {
            how.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            if hierarchy
                && how
                    .get("weightPreference")
                    .is_some_and(|w| w.get("staticWeightList").is_some())
            {
                how["weightPreference"]["hierarchy"] = json!([{ "groupByField": "region", "weights": [
                    { "group": "r1", "weight": 7 }, { "group": "r2", "weight": 3 },
                ] }]);
            }
        }
        how
    })
}

fn placement() -> impl Strategy<Value = Value> {
    let affinities = prop_oneof![
        2 => affinity().prop_map(|affinity| json!({ "clusterAffinity": affinity })),
        1 => vec((affinity(), affinity()), 1..3).prop_map(|terms| {
            let terms = terms.into_iter().enumerate().map(|(at, (mut own, mut overflow))| {
                overflow["affinityName"] = json!(format!("o{at}"));
                own["affinityName"] = json!(format!("g{at}"));
                own["overflowAffinities"] = json!([overflow]);
                own
            });
            json!({ "clusterAffinities": terms.collect::<Vec<_>>() })
        }),
    ];
    let more = prop_oneof![
        8 => Just(json!({})),
        1 => (1..5_u32, any::<bool>()).prop_map(|(min, rack)| {
            json!({ "gang": if rack { json!({ "topologyKey": "rack" }) } else { json!({ "minAvailable": min }) } })
        }),
        1 => (prop::option::of(1..5_u32), 1..7_u32).prop_map(|(min, count)| {
            json!({ "gang": { "minAvailable": min, "subGangs": count } })
        }),
        1 => (0..4_u32, any::<bool>()).prop_map(|(least, within)| json!({
            "resourceConstraints": [{ "name": "gpu", "minQuantity": least, "requirements": [
                { "operator": if within { "In" } else { "NotIn" }, "values": ["a100"] },
            ] }],
            "preference": [{ "weight": 3, "preference": { "operator": "Exists" } }],
        })),
    ];
    (affinities, vec(spread(), 0..3), scheduling(), any::<bool>(), more).prop_map(
        |(mut all, spread, scheduling, tolerate, more)| {
            all.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            all["spreadConstraints"] = json!(spread);
            all["replicaScheduling"] = scheduling;
            if tolerate {
                all["clusterTolerations"] = json!([{ "key": "k", "operator": "Exists" }]);
            }
            all
        },
    )
}

fn workload() -> impl Strategy<Value = Workload> {
    (
        prop::option::weighted(0.9, 0..40_u32),
        0..4_i64,
        0..4_i64,
        "[a-f0-9]{0,4}",
    )
        .prop_map(|(replicas, cpu, memory, uid)| {
            let mut workload = Workload::new("ns/w", "apps/v1", "Deployment")
                .with_uid(uid)
                .with_policy("p");
            workload.replicas = replicas;
            if replicas.is_some() {
                workload = workload
                    .with_request("cpu", Quantity::from_milli(cpu * 250))
                    .with_request("memory", Quantity::from_units(memory << 26));
            }
            workload
        })
}

fn running() -> impl Strategy<Value = Running> {
    let clusters = prop::collection::btree_map(0..9_u8, 0..20_u32, 0..4);
    (
        clusters,
        prop::option::weighted(0.2, 0..9_u8),
        prop::option::of(0..3_u8),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(clusters, evicting, affinity, fresh)| {
            let mut running = Running::new(
                clusters
                    .into_iter()
                    .map(|(n, replicas)| (format!("m{n}"), replicas)),
            );
            running.evicting = evicting.iter().map(|n| format!("m{n}")).collect();
            running.affinity = affinity.map(|n| format!("g{n}"));
            running.fresh = fresh;
            running
        })
}

fn snapshot(clusters: &[ClusterView]) -> Snapshot {
    clusters
        .iter()
        .cloned()
        .fold(Snapshot::new(NOW.parse().unwrap()), Snapshot::with_cluster)
}

/// So many, or as many as are asked for.
fn cases(least: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(asked.unwrap_or(least))
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn a_burst_never_shares_the_same_room(
        clusters in clusters(), replicas in vec((1..12_u32, 0..4_i64, -1..2_i32), 1..25), aggregated in any::<bool>(),
    ) {
        let scheduling = if aggregated {
            json!({ "replicaDivisionPreference": "Aggregated" })
        } else {
            json!({ "weightPreference": { "dynamicWeight": "AvailableReplicas" } })
        };
        let policy: Placement = serde_json::from_value(json!({ "replicaScheduling": scheduling })).unwrap();
        let policies = BTreeMap::from([("p".to_owned(), policy)]);
        let burst: Vec<Workload> = replicas
            .iter()
            .enumerate()
            .map(|(n, &(replicas, cpu, priority))| {
                Workload::new(format!("w{n}"), "apps/v1", "Deployment")
                    .with_policy("p")
                    .with_replicas(replicas)
                    .with_priority(priority)
                    .with_request("cpu", Quantity::from_milli(cpu * 250))
            })
            .collect();
        let fleet = snapshot(&clusters);
        let planned = plan(
            &FleetIndex::new(&fleet), &burst, &policies, &BTreeMap::new(), NOW.parse().unwrap(), &PlanOptions::default(),
        );
        for cluster in fleet.clusters() {
            let Some(sums) = &cluster.resources else { continue };
            let (mut pods, mut cpu) = (0_i64, 0_i64);
            for workload in &burst {
                if let Ok(placed) = &planned.placements[&workload.name] {
                    let here = i64::from(placed.replicas_in(cluster.name.as_str()));
                    pods += here;
                    cpu += here * i64::try_from(workload.request["cpu"].milli_value()).unwrap();
                }
            }
            prop_assert!(Quantity::from_units(pods) <= sums.free("pods").unwrap());
            prop_assert!(Quantity::from_milli(cpu) <= sums.free("cpu").unwrap());
        }
    }
}

proptest! {
    #[test]
    fn many_small_steps_end_where_one_large_step_ends(
        rooms in vec(0_i64..30, 1..8), from in 0_u32..60, to in 0_u32..60, uid in "[a-f0-9]{0,4}",
    ) {
        let policy: Placement = serde_json::from_value(json!({ "replicaScheduling": {
            "weightPreference": { "dynamicWeight": "AvailableReplicas" }, "scalePath": "PathIndependent",
        } }))
        .unwrap();
        let total = u32::try_from(rooms.iter().sum::<i64>()).unwrap();
        let (from, to) = (from.min(total), to.min(total));
        // What runs takes its part of the room.
        let step = |running: &BTreeMap<String, u32>, replicas: u32| -> BTreeMap<String, u32> {
            let fleet = rooms.iter().enumerate().fold(Snapshot::new(NOW.parse().unwrap()), |fleet, (n, &room)| {
                let name = format!("m{n}");
                let left = room - i64::from(running.get(&name).copied().unwrap_or(0));
                let sums = ResourceSummary::default().with_allocatable("pods", Quantity::from_units(left));
                fleet.with_cluster(ClusterView::new(name.parse().unwrap()).with_health(Health::ready()).with_resources(sums))
            });
            let index = FleetIndex::new(&fleet);
            let prepared = Prepared::new(&policy, &index, Dialect::Kurator).unwrap();
            let workload = Workload::new("w", "apps/v1", "Deployment").with_uid(uid.clone()).with_replicas(replicas);
            let today = Running::new(running.iter().map(|(name, n)| (name.as_str(), *n)));
            let decision = Planner::default().place(&index, &prepared, &workload, &today, NOW.parse().unwrap());
            decision.outcome.unwrap().clusters.into_iter().map(|(name, n)| (name.to_string(), n)).collect()
        };
        let start = step(&BTreeMap::new(), from);
        let at_once = step(&start, to);
        let mut single = start;
        let mut at = from;
        while at != to {
            at = if at < to { at + 1 } else { at - 1 };
            single = step(&single, at);
        }
        prop_assert_eq!(single, at_once);
    }

    #[test]
    fn every_placement_keeps_the_rules_an_independent_reader_knows(
        clusters in clusters(), policy in placement(), workload in workload(), running in running(),
    ) {
        let fleet = snapshot(&clusters);
        let index = FleetIndex::new(&fleet);
        let placement: Placement = serde_json::from_value(policy).unwrap();
        let Ok(prepared) = Prepared::new(&placement, &index, Dialect::Kurator) else { return Ok(()) };
        let decision =
            Planner::default().place(&index, &prepared, &workload, &running, NOW.parse().unwrap());
        match &decision.outcome {
            Ok(placed) => {
                let notes = check(&fleet, &placement, &workload, &running, placed);
                prop_assert!(notes.permits(), "{decision}\n{notes}");
            }
            Err(unplaced) => prop_assert!(!unplaced.to_string().is_empty()),
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_reach_the_result(
        clusters in clusters(), policy in placement(), works in vec(workload(), 1..4), running in running(), seed in any::<u64>(),
    ) {
        let named: Vec<Workload> = works
            .into_iter()
            .enumerate()
            .map(|(n, mut workload)| {
                workload.name = format!("ns/w{n}");
                workload
            })
            .collect();
        let policies = BTreeMap::from([("p".to_owned(), serde_json::from_value(policy).unwrap())]);
        let print = |clusters: &[ClusterView], workloads: &[Workload], running: &Running| {
            let today = BTreeMap::from([("ns/w0".to_owned(), running.clone())]);
            let index = FleetIndex::new(&snapshot(clusters));
            plan(&index, workloads, &policies, &today, NOW.parse().unwrap(), &PlanOptions::default()).to_string()
        };
        let turn = |len: usize| usize::try_from(seed % len.max(1) as u64).unwrap();
        let (mut others, mut workloads, mut listed) = (clusters.clone(), named.clone(), running.clone());
        others.rotate_left(turn(clusters.len()));
        others.reverse();
        workloads.rotate_left(turn(named.len()));
        listed.clusters.reverse();
        prop_assert_eq!(print(&clusters, &named, &running), print(&others, &workloads, &listed));
    }

    #[test]
    fn an_index_kept_up_to_date_decides_like_a_new_one(
        before in clusters(), after in clusters(), policy in placement(), workload in workload(), running in running(),
    ) {
        let mut index = FleetIndex::new(&snapshot(&before));
        for cluster in &after {
            index.update(cluster);
        }
        for gone in before.iter().skip(after.len()) {
            index.remove(&gone.name);
        }
        let placement: Placement = serde_json::from_value(policy).unwrap();
        let decide = |index: &FleetIndex| {
            let prepared = Prepared::new(&placement, index, Dialect::Kurator).ok()?;
            Some(Planner::default().place(index, &prepared, &workload, &running, NOW.parse().unwrap()))
        };
        prop_assert_eq!(decide(&index), decide(&FleetIndex::new(&snapshot(&after))));
    }

    #[test]
    fn a_change_that_affects_nobody_changes_nothing(
        clusters in clusters(), changed in cluster(0), policy in placement(), workload in workload(), running in running(),
    ) {
        let placement: Placement = serde_json::from_value(policy).unwrap();
        let works = [workload];
        let today = BTreeMap::from([("ns/w".to_owned(), running.clone())]);
        let look = |clusters: &[ClusterView]| {
            let index = FleetIndex::new(&snapshot(clusters));
            let prepared = Prepared::new(&placement, &index, Dialect::Kurator).ok()?;
            let policies = BTreeMap::from([("p".to_owned(), prepared.clone())]);
            let concerned = !affected(&index, "m0", &works, &policies, &today).is_empty();
            let outcome = Planner::default()
                .place(&index, &prepared, &works[0], &running, NOW.parse().unwrap())
                .outcome;
            Some((concerned, outcome))
        };
        let mut after = clusters.clone();
        after[0] = changed;
        if let (Some((false, before)), Some((false, after))) = (look(&clusters), look(&after)) {
            prop_assert_eq!(before.ok(), after.ok());
        }
    }


    #[test]
    fn no_policy_and_no_fleet_makes_the_planner_panic(
        policy in any_json(4), clusters in clusters(), replicas in any::<u32>(), previous in vec(("m[0-9]", any::<u32>()), 0..6),
        cpu in any::<i64>(), karmada in any::<bool>(),
    ) {
        let Ok(placement) = serde_json::from_value::<Placement>(policy) else { return Ok(()) };
        let dialect = if karmada { Dialect::Karmada } else { Dialect::Kurator };
        let index = FleetIndex::new(&snapshot(&clusters));
        let Ok(prepared) = Prepared::new(&placement, &index, dialect) else { return Ok(()) };
        let workload = Workload::new("w", "apps/v1", "Deployment")
            .with_replicas(replicas)
            .with_request("cpu", Quantity::from_milli(cpu));
        let mut planner = Planner::new(PlanOptions::default().with_dialect(dialect));
        let decision = planner.place(&index, &prepared, &workload, &Running::new(previous), NOW.parse().unwrap());
        prop_assert!(!decision.to_string().is_empty());
    }
}

/// Policies that are often valid, with numbers from the ends of their range.
fn any_json(depth: u32) -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        Just(0_u64),
        Just(1),
        Just(u64::from(u32::MAX)),
        Just(u64::MAX),
        any::<u64>(),
        0..9_u64
    ];
    let small = prop_oneof![Just(0_u32), Just(1), Just(u32::MAX), any::<u32>(), 0..9_u32];
    let extremes = (number, small.clone(), small.clone(), small.clone(), 0..depth);
    (placement(), extremes).prop_map(|(mut policy, (weight, min, max, keep, kind))| {
        policy["replicaScheduling"] = match kind {
            0 => json!({ "weightPreference": { "staticWeightList": [
                { "targetCluster": {}, "weight": weight }, { "targetCluster": { "clusterNames": ["m1"] }, "weight": u64::MAX },
            ] }, "surviveClusterLoss": { "minAvailable": keep } }),
            1 => json!({ "replicaDivisionPreference": "Aggregated", "clusterLimits": [
                { "targetCluster": {}, "minReplicas": min, "maxReplicas": max },
            ], "partialPlacement": true }),
            2 => json!({ "weightPreference": { "dynamicWeight": "AvailableReplicas" }, "rebalancing": {
                "maxMovesPercent": min, "minGainPercent": max, "stabilizationSeconds": keep,
            } }),
            _ => return policy,
        };
        policy["spreadConstraints"] = json!([{ "spreadByField": "region", "minGroups": min % 5, "maxGroups": max }]);
        policy
    })
}
