//! The scheduling pass from a prepared index, without its reasons unless the name says so.
//!
//! `cargo bench --bench placement`. Cluster `i` is `member-{i:04}` with the labels `tier`, `env` and `idx`, one of 3
//! providers, 16 regions and 48 zones, 80 API kinds, and room for `100 + (i * 7919) % 100` replicas of 500m CPU and
//! 1Gi; the policy selects `env=prod`.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to say"
)]

use std::collections::BTreeMap;

use divan::{AllocProfiler, Bencher, black_box};
use jiff::Timestamp;
use kurator_core::observe::{ApiSet, ClusterView, Health, ResourceSummary, Snapshot};
use kurator_core::quantity::Quantity;
use kurator_policy::api::Placement;
use kurator_policy::placement::{
    Detail, Dialect, FleetIndex, PlanOptions, Planner, Prepared, Running, Workload, affected,
};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn cluster(i: i64, regions: i64) -> ClusterView {
    let room = 100 + (i * 7919) % 100;
    let gibi = |count: i64| Quantity::from_units(count << 30);
    let sums = ResourceSummary::default()
        .with_allocatable("cpu", Quantity::from_milli(room * 500 + 2000))
        .with_allocatable("memory", gibi(room + 8))
        .with_allocatable("pods", Quantity::from_units(3 * room))
        .with_allocated("cpu", Quantity::from_units(2))
        .with_allocated("memory", gibi(8))
        .with_allocated("pods", Quantity::from_units(20));
    let mut apis = ApiSet::complete();
    for group in 0..8 {
        for kind in 0..10 {
            let (version, name) = match (group, kind) {
                (3, 5) => ("apps/v1".to_owned(), "Deployment".to_owned()),
                (3, _) => ("apps/v1".to_owned(), format!("Kind{kind}")),
                _ => (format!("group{group}.example.com/v1"), format!("Kind{kind}")),
            };
            apis.insert(version, name);
        }
    }
    let name = format!("member-{i:04}").parse().expect("a valid name");
    ClusterView::new(name)
        .with_label("tier", ["gold", "silver", "bronze"][(i % 3) as usize])
        .with_label("env", "prod")
        .with_label("idx", (i % 10).to_string())
        .with_provider(format!("p{}", i % 3))
        .with_region(format!("r{:02}", i % regions))
        .with_zone(format!("z{:02}", i % 48))
        .with_apis(apis)
        .with_health(Health::ready())
        .with_resources(sums)
}

fn fleet(clusters: i64, regions: i64) -> Snapshot {
    (0..clusters).fold(Snapshot::new(now()), |fleet, i| {
        fleet.with_cluster(cluster(i, regions))
    })
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn placement(strategy: &str, spread: Value) -> Placement {
    let weights: Vec<Value> = [("gold", 5), ("silver", 3), ("bronze", 1)]
        .iter()
        .map(|(tier, weight)| {
            json!({ "targetCluster": { "labelSelector": { "matchLabels": { "tier": tier } } }, "weight": weight })
        })
        .collect();
    let scheduling = match strategy {
        "duplicated" => json!({ "replicaSchedulingType": "Duplicated" }),
        "static" => json!({ "weightPreference": { "staticWeightList": weights } }),
        "dynamic" => json!({ "weightPreference": { "dynamicWeight": "AvailableReplicas" } }),
        _ => json!({ "replicaDivisionPreference": "Aggregated" }),
    };
    let placement = json!({
        "clusterAffinity": { "labelSelector": { "matchLabels": { "env": "prod" } } },
        "spreadConstraints": spread,
        "replicaScheduling": scheduling,
    });
    serde_json::from_value(placement).expect("a valid placement")
}

fn web(replicas: u32) -> Workload {
    Workload::new("default/web", "apps/v1", "Deployment")
        .with_uid("2f4b")
        .with_replicas(replicas)
        .with_request("cpu", Quantity::from_milli(500))
        .with_request("memory", Quantity::from_units(1 << 30))
}

fn pass(
    bencher: Bencher<'_, '_>,
    clusters: i64,
    regions: i64,
    replicas: u32,
    placement: &Placement,
    detail: Detail,
) {
    let index = FleetIndex::new(&fleet(clusters, regions));
    let policy = Prepared::new(placement, &index, Dialect::Kurator).expect("a valid policy");
    let workload = web(replicas);
    let running = Running::default();
    let mut planner = Planner::new(PlanOptions::default().with_detail(detail));
    assert!(
        planner
            .place(&index, &policy, &workload, &running, now())
            .outcome
            .is_ok()
    );
    bencher.bench_local(|| black_box(planner.place(&index, &policy, black_box(&workload), &running, now())));
}

#[divan::bench(args = [("duplicated", 1000), ("static", 1000), ("dynamic", 1000), ("aggregated", 1000), ("duplicated", 5000), ("static", 5000), ("dynamic", 5000), ("aggregated", 5000)])]
fn whole_pass_20_replicas(bencher: Bencher<'_, '_>, (strategy, clusters): (&str, i64)) {
    pass(
        bencher,
        clusters,
        16,
        20,
        &placement(strategy, json!([])),
        Detail::Decision,
    );
}

#[divan::bench(args = [("static", 1000), ("dynamic", 1000), ("aggregated", 1000), ("static", 5000), ("dynamic", 5000), ("aggregated", 5000)])]
fn whole_pass_10n_replicas(bencher: Bencher<'_, '_>, (strategy, clusters): (&str, i64)) {
    pass(
        bencher,
        clusters,
        16,
        clusters as u32 * 10,
        &placement(strategy, json!([])),
        Detail::Decision,
    );
}

#[divan::bench(args = [1000])]
fn whole_pass_with_every_reason(bencher: Bencher<'_, '_>, clusters: i64) {
    pass(
        bencher,
        clusters,
        16,
        20,
        &placement("dynamic", json!([])),
        Detail::Full,
    );
}

#[divan::bench(args = [100, 1000])]
fn decision_for_a_small_workload(bencher: Bencher<'_, '_>, clusters: i64) {
    pass(
        bencher,
        clusters,
        16,
        3,
        &placement("dynamic", json!([])),
        Detail::Decision,
    );
}

/// Clusters, regions, the fewest and the most regions.
#[divan::bench(args = [(100, 8, 2, 4), (1000, 16, 3, 5), (1000, 24, 8, 10), (1000, 64, 8, 16), (1000, 64, 32, 64)])]
fn spread(bencher: Bencher<'_, '_>, (clusters, regions, min, max): (i64, i64, u32, u32)) {
    let constraints = json!([
        { "spreadByField": "region", "minGroups": min, "maxGroups": max },
        { "spreadByField": "cluster", "minGroups": min, "maxGroups": 2 * max },
    ]);
    pass(
        bencher,
        clusters,
        regions,
        50,
        &placement("aggregated", constraints),
        Detail::Decision,
    );
}

fn many(count: usize) -> Vec<Workload> {
    let named = |n: usize| {
        let mut workload = web(1 + n as u32 % 20).with_policy("p").with_uid(format!("{n:x}"));
        workload.name = format!("default/app-{n:05}");
        workload
    };
    (0..count).map(named).collect()
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn ten_thousand_workloads_on_1000_clusters(bencher: Bencher<'_, '_>) {
    let index = FleetIndex::new(&fleet(1000, 16));
    let workloads = many(10_000);
    let policies = BTreeMap::from([("p".to_owned(), placement("dynamic", json!([])))]);
    let running = BTreeMap::new();
    let mut planner = Planner::new(PlanOptions::default().with_detail(Detail::Decision));
    bencher.bench_local(|| black_box(planner.plan(&index, &workloads, &policies, &running, now())));
}

#[divan::bench]
fn one_cluster_changes_and_none_of_10_000_workloads_is_affected(bencher: Bencher<'_, '_>) {
    let mut all = fleet(1000, 16);
    all.insert(ClusterView::new("other".parse().expect("a valid name")));
    let mut index = FleetIndex::new(&all);
    let workloads = many(10_000);
    let policy =
        Prepared::new(&placement("dynamic", json!([])), &index, Dialect::Kurator).expect("a valid policy");
    let policies = BTreeMap::from([("p".to_owned(), policy)]);
    let running: BTreeMap<String, Running> = workloads
        .iter()
        .map(|workload| {
            (
                workload.name.clone(),
                Running::new([("member-0001", 3), ("member-0002", 4)]),
            )
        })
        .collect();
    let changed = ClusterView::new("other".parse().expect("a valid name")).with_label("tier", "gold");
    bencher.bench_local(|| {
        index.update(black_box(&changed));
        let concerned = affected(&index, "other", &workloads, &policies, &running);
        assert!(concerned.is_empty());
    });
}

#[divan::bench(args = [1000, 5000])]
fn prepare_the_index(bencher: Bencher<'_, '_>, clusters: i64) {
    let fleet = fleet(clusters, 16);
    bencher.bench_local(|| black_box(FleetIndex::new(black_box(&fleet))));
}
