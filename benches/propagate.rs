//! What one pass over a distribution policy costs: `cargo bench --bench propagate`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use divan::{Bencher, black_box};
use jiff::Timestamp;
use kurator::{
    core::observe::{ClusterView, Snapshot},
    policy::{
        api::{OverridePolicy, Placement},
        placement::Running,
        propagate::{
            BuiltinKinds, MemberObserved, ObjectKey, ObjectObserved, Observed, Otherwise, PolicyKey, Request,
            Standing, Template, plan, status,
        },
    },
};
use serde_json::json;

fn main() {
    divan::main();
}

struct Case {
    policy: PolicyKey,
    placement: Placement,
    templates: Vec<Template>,
    overrides: Vec<OverridePolicy>,
    fleet: Snapshot,
}

impl Case {
    fn new(clusters: usize) -> Self {
        let names: Vec<String> = (0..clusters).map(|index| format!("c{index:04}")).collect();
        let weight =
            |name: &String| json!({ "targetCluster": { "clusterNames": [name] }, "weight": name.len() });
        let placement = json!({ "replicaScheduling": { "weightPreference": {
            "staticWeightList": names.iter().map(weight).collect::<Vec<_>>(),
        } } });
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "storefront", "namespace": "default", "uid": "u", "labels": { "app": "storefront" } },
            "spec": { "replicas": 10 * clusters, "template": { "spec": { "containers": [{ "name": "web", "image": "web:1" }] } } },
        });
        let pin = json!({
            "metadata": { "name": "pin", "namespace": "default" },
            "spec": {
                "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment" }],
                "overrideRules": [{
                    "targetClusters": { "clusterNames": [names[0]] },
                    "overrides": [{ "path": "/spec/replicas", "value": 1 }],
                }],
            },
        });
        let view =
            |fleet: Snapshot, name: &String| fleet.with_cluster(ClusterView::new(name.parse().unwrap()));
        Self {
            policy: PolicyKey::new("policy.kurator.dev", "default", "storefront"),
            placement: serde_json::from_value(placement).unwrap(),
            templates: vec![Template::of(&object, &BuiltinKinds).unwrap()],
            overrides: vec![serde_json::from_value(pin).unwrap()],
            fleet: names.iter().fold(Snapshot::new(Timestamp::UNIX_EPOCH), view),
        }
    }
}

#[divan::bench(args = [10, 100, 1000])]
fn plan_one_deployment(bencher: Bencher<'_, '_>, clusters: usize) {
    let case = Case::new(clusters);
    let running = BTreeMap::new();
    bencher.bench_local(|| {
        plan(black_box(&Request {
            policy: &case.policy,
            placement: &case.placement,
            otherwise: &BTreeMap::new(),
            suspension: None,
            templates: &case.templates,
            overrides: &case.overrides,
            fleet: &case.fleet,
            running: &running,
            standing: &BTreeMap::new(),
            now: Timestamp::UNIX_EPOCH,
            interpreter: &BuiltinKinds,
        }))
    });
}

#[divan::bench(args = [10, 100, 1000])]
fn compute_the_status(bencher: Bencher<'_, '_>, clusters: usize) {
    let case = Case::new(clusters);
    let planned = plan(&Request {
        policy: &case.policy,
        placement: &case.placement,
        otherwise: &BTreeMap::new(),
        suspension: None,
        templates: &case.templates,
        overrides: &case.overrides,
        fleet: &case.fleet,
        running: &BTreeMap::new(),
        standing: &BTreeMap::new(),
        now: Timestamp::UNIX_EPOCH,
        interpreter: &BuiltinKinds,
    });
    let observed = Observed::default();
    let before = status(Some(1), &planned, &observed, None, Timestamp::UNIX_EPOCH);
    bencher.bench_local(|| {
        status(
            Some(1),
            black_box(&planned),
            &observed,
            Some(&before),
            Timestamp::UNIX_EPOCH,
        )
    });
}

fn config_maps(count: usize) -> Vec<Template> {
    let object = |index: usize| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": format!("settings-{index}"), "namespace": "default", "uid": format!("u-{index}") },
            "data": { "text": "x".repeat(1024) },
        })
    };
    let template = |index| Template::of(&object(index), &BuiltinKinds).unwrap();
    (0..count).map(template).collect()
}

fn copies<'a>(
    case: &'a Case,
    placement: &'a Placement,
    templates: &'a [Template],
    empty: &'a Empty,
) -> Request<'a> {
    Request {
        policy: &case.policy,
        placement,
        otherwise: &empty.0,
        suspension: None,
        templates,
        overrides: &[],
        fleet: &case.fleet,
        running: &empty.1,
        standing: &empty.2,
        now: Timestamp::UNIX_EPOCH,
        interpreter: &BuiltinKinds,
    }
}

type Empty = (
    Otherwise,
    BTreeMap<ObjectKey, Running>,
    BTreeMap<ObjectKey, Standing>,
);

/// A policy that copies many small objects, as a controller plans it on each pass.
#[divan::bench(args = [(100, 10), (1000, 10), (100, 1000)])]
fn plan_many_copies(bencher: Bencher<'_, '_>, (objects, clusters): (usize, usize)) {
    let (case, placement, templates) = (Case::new(clusters), Placement::default(), config_maps(objects));
    let empty = Empty::default();
    bencher.bench_local(|| plan(black_box(&copies(&case, &placement, &templates, &empty))));
}

/// Its status while everything is in place, and one member has changed.
#[divan::bench(args = [(100, 10), (1000, 10), (100, 1000)])]
fn compute_the_status_of_many_copies(bencher: Bencher<'_, '_>, (objects, clusters): (usize, usize)) {
    let (case, placement, templates) = (Case::new(clusters), Placement::default(), config_maps(objects));
    let empty = Empty::default();
    let planned = plan(&copies(&case, &placement, &templates, &empty));
    let mut observed = Observed::default();
    for (cluster, member) in &planned.members {
        let mut seen = MemberObserved::default();
        seen.complete = true;
        for (key, object) in &member.objects {
            let mut known = ObjectObserved::default();
            known.revision = object.rendered.revision().map(str::to_owned);
            seen.objects.insert(key.clone(), known);
        }
        observed.members.insert(cluster.clone(), seen);
    }
    let before = status(Some(1), &planned, &observed, None, Timestamp::UNIX_EPOCH);
    bencher.bench_local(|| {
        status(
            Some(1),
            black_box(&planned),
            &observed,
            Some(&before),
            Timestamp::UNIX_EPOCH,
        )
    });
}
