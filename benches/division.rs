//! Dividing replicas alone: no names, no selectors, a warm [`Assigner`].
//!
//! `cargo bench --bench division`. Cluster `i` has room for `100 + (i * 7919) % 100` replicas; static weights are 5, 3
//! and 1 in turn.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use kurator_policy::replicas::{Assigner, Division, Strategy, TieOrder};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Clusters and replicas.
const CASES: [(usize, u32); 7] = [
    (10, 100),
    (100, 1000),
    (1000, 10_000),
    (5000, 50_000),
    (5000, 450_000),
    (100, 10_000),
    (100, 1_000_000),
];

fn room(clusters: usize, replicas: u32) -> Vec<u64> {
    let base: Vec<u64> = (0..clusters as u64).map(|i| 100 + (i * 7919) % 100).collect();
    // Room for everything, in the same proportions.
    let factor = u64::from(replicas).div_ceil(base.iter().sum::<u64>()).max(1);
    base.iter().map(|room| room * factor).collect()
}

fn run(
    bencher: Bencher<'_, '_>,
    strategy: &str,
    clusters: usize,
    replicas: u32,
    previous: &[u32],
    fresh: bool,
) {
    let room = room(clusters, replicas);
    let weights: Vec<u64> = (0..clusters).map(|i| [5, 3, 1][i % 3]).collect();
    let division = Division {
        strategy: match strategy {
            "static" => Strategy::Static(&weights),
            "dynamic" => Strategy::Available,
            _ => Strategy::Aggregated,
        },
        replicas,
        ties: TieOrder::of_uid("2f4b"),
        room: &room,
        previous,
        fresh,
        order: &[],
        previous_order: &[],
    };
    let mut assigner = Assigner::default();
    assert_eq!(
        assigner.assign(&division).map(|seats| seats.iter().sum()),
        Ok(replicas)
    );
    bencher
        .counter(ItemsCount::new(clusters))
        .bench_local(|| black_box(assigner.assign(black_box(&division)).map(<[u32]>::len)));
}

#[divan::bench(args = CASES)]
fn static_weights(bencher: Bencher<'_, '_>, (clusters, replicas): (usize, u32)) {
    run(bencher, "static", clusters, replicas, &vec![0; clusters], false);
}

#[divan::bench(args = CASES)]
fn dynamic(bencher: Bencher<'_, '_>, (clusters, replicas): (usize, u32)) {
    run(bencher, "dynamic", clusters, replicas, &vec![0; clusters], false);
}

#[divan::bench(args = CASES)]
fn aggregated(bencher: Bencher<'_, '_>, (clusters, replicas): (usize, u32)) {
    run(
        bencher,
        "aggregated",
        clusters,
        replicas,
        &vec![0; clusters],
        false,
    );
}

/// The first third of the clusters hold ten replicas each.
fn running(clusters: usize) -> Vec<u32> {
    (0..clusters)
        .map(|i| if i < clusters / 3 { 10 } else { 0 })
        .collect()
}

#[divan::bench(args = [1000, 5000])]
fn dynamic_up(bencher: Bencher<'_, '_>, clusters: usize) {
    run(
        bencher,
        "dynamic",
        clusters,
        clusters as u32 * 10,
        &running(clusters),
        false,
    );
}

#[divan::bench(args = [1000, 5000])]
fn dynamic_down(bencher: Bencher<'_, '_>, clusters: usize) {
    run(
        bencher,
        "dynamic",
        clusters,
        clusters as u32,
        &running(clusters),
        false,
    );
}

#[divan::bench(args = [1000, 5000])]
fn dynamic_fresh(bencher: Bencher<'_, '_>, clusters: usize) {
    run(
        bencher,
        "dynamic",
        clusters,
        clusters as u32 * 10,
        &running(clusters),
        true,
    );
}
