//! Rendering a Deployment for one cluster: `cargo bench --bench overrides`.
//!
//! Every policy has an image, a label and a plaintext override; one of them selects the Deployment, by name, the others
//! select other names. The time is that of a whole object: it is copied, changed, and the report of every changed
//! field is made. `copy_alone` is the copy.

#![allow(clippy::expect_used)]

use divan::{AllocProfiler, Bencher, black_box};
use kurator_core::observe::ClusterView;
use kurator_policy::{api::OverridePolicy, overrides::OverrideSet};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web-0", "namespace": "default", "labels": { "app": "web" } },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [
                    { "name": "main", "image": "docker.io/library/nginx:1.25.3", "args": ["--v=2", "--x"],
                      "resources": { "requests": { "cpu": "500m", "memory": "1Gi" } } },
                    { "name": "side", "image": "docker.io/library/busybox:1.36" },
                ] },
            },
        },
    })
}

fn policies(count: usize) -> OverrideSet {
    let policies: Vec<OverridePolicy> = (0..count)
        .map(|number| {
            let policy = json!({
                "metadata": { "name": format!("policy-{number}"), "namespace": "default" },
                "spec": {
                    "resourceSelectors": [
                        { "apiVersion": "apps/v1", "kind": "Deployment", "name": format!("web-{number}") },
                    ],
                    "overrideRules": [{
                        "targetClusters": { "labelSelector": { "matchLabels": { "tier": "gold" } } },
                        "overriders": {
                            "imageOverrider": [
                                { "component": "Registry", "operator": "replace", "value": "mirror.local:5000" },
                            ],
                            "labelsOverrider": [{ "operator": "add", "value": { "tier": "gold" } }],
                            "plaintext": [{ "path": "/spec/replicas", "operator": "replace", "value": 5 }],
                        },
                    }],
                },
            });
            serde_json::from_value(policy).expect("a policy")
        })
        .collect();
    OverrideSet::compile(&policies)
}

#[divan::bench(args = [1, 10, 100, 1000])]
fn one_matches(bencher: Bencher<'_, '_>, count: usize) {
    let (overrides, object) = (policies(count), deployment());
    let cluster = ClusterView::new("member-0001".parse().expect("a name")).with_label("tier", "gold");
    let rendered = overrides.render(&object, &cluster).expect("it fits");
    assert_eq!(rendered.object["spec"]["replicas"], 5);
    assert_eq!(rendered.report.changes.len(), 4);
    bencher.bench_local(|| black_box(overrides.render(black_box(&object), &cluster)));
}

#[divan::bench(args = [1, 10, 100, 1000])]
fn compile(bencher: Bencher<'_, '_>, count: usize) {
    bencher.bench_local(|| policies(black_box(count)).len());
}

#[divan::bench]
fn copy_alone(bencher: Bencher<'_, '_>) {
    let object = deployment();
    bencher.bench_local(|| black_box(&object).clone());
}
