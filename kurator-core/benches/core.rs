//! What planners do most often with the shared words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use divan::{Bencher, black_box};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kurator_core::{
    names::bounded_name,
    observe::{ClusterView, ResourceSummary, Snapshot},
    quantity::Quantity,
    selector::LabelMatcher,
};

fn main() {
    divan::main();
}

#[divan::bench(args = ["4", "250m", "16384Mi", "1.5Gi", "1.1Ki", "1e3", "12345678901234567890"])]
fn parse_quantity(text: &str) -> Quantity {
    black_box(text).parse().unwrap()
}

#[divan::bench(args = ["4", "250m", "16384Mi", "1e3"])]
fn print_quantity(bencher: Bencher<'_, '_>, text: &str) {
    let quantity: Quantity = text.parse().unwrap();
    bencher.bench(|| black_box(quantity).to_string());
}

#[divan::bench]
fn sum_1000_quantities(bencher: Bencher<'_, '_>) {
    let quantities: Vec<Quantity> = (0..1000).map(Quantity::from_milli).collect();
    bencher.bench(|| Quantity::checked_sum(black_box(&quantities).iter().copied()));
}

#[divan::bench]
fn name_bounded() -> String {
    bounded_name(black_box(["default", "storefront", "cluster-a"]))
}

#[divan::bench]
fn match_labels(bencher: Bencher<'_, '_>) {
    let selector: LabelSelector = serde_json::from_str(
        r#"{"matchLabels": {"tier": "gold"}, "matchExpressions": [{"key": "region", "operator": "NotIn", "values": ["x", "y"]}]}"#,
    )
    .unwrap();
    let matcher = LabelMatcher::compile(&selector).unwrap();
    let labels = [("tier", "gold"), ("region", "z"), ("app", "web")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    bencher.bench(|| matcher.matches(black_box(&labels)));
}

#[divan::bench(args = [100, 1000, 5000])]
fn read_snapshot(bencher: Bencher<'_, '_>, clusters: usize) {
    let mut snapshot = Snapshot::new("2026-01-02T03:04:05Z".parse().unwrap());
    for index in 0..clusters {
        let sums = ResourceSummary::default()
            .with_allocatable("cpu", Quantity::from_units(64))
            .with_allocatable("memory", "256Gi".parse().unwrap())
            .with_allocated("cpu", "17250m".parse().unwrap());
        let cluster = ClusterView::new(format!("cluster-{index}").parse().unwrap());
        snapshot.insert(
            cluster
                .with_label("tier", "gold")
                .with_region("eu-west")
                .with_resources(sums),
        );
    }
    let json = snapshot.to_json().unwrap();
    bencher.bench(|| Snapshot::from_json(black_box(json.as_bytes())).unwrap());
}
