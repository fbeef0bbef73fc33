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
            BuiltinKinds, MemberObserved, ObjectKey, ObjectObserved, Observed, Otherwise, Planned, PolicyKey,
            Request, Standing, Template, plan, status,
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
    otherwise: Otherwise,
    running: BTreeMap<ObjectKey, Running>,
    standing: BTreeMap<ObjectKey, Standing>,
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
            otherwise: BTreeMap::new(),
            running: BTreeMap::new(),
            standing: BTreeMap::new(),
        }
    }

    /// A policy that copies many small objects to every cluster.
    fn of_copies(objects: usize, clusters: usize) -> Self {
        let object = |index: usize| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": format!("settings-{index}"), "namespace": "default", "uid": format!("u-{index}") },
                "data": { "text": "x".repeat(1024) },
            })
        };
        let template = |index| Template::of(&object(index), &BuiltinKinds).unwrap();
        Self {
            placement: Placement::default(),
            templates: (0..objects).map(template).collect(),
            overrides: Vec::new(),
            ..Self::new(clusters)
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            policy: &self.policy,
            placement: &self.placement,
            otherwise: &self.otherwise,
            suspension: None,
            templates: &self.templates,
            overrides: &self.overrides,
            fleet: &self.fleet,
            running: &self.running,
            standing: &self.standing,
            now: Timestamp::UNIX_EPOCH,
            interpreter: &BuiltinKinds,
        }
    }
}

/// Computes the status once more while nothing has changed.
fn bench_status(bencher: Bencher<'_, '_>, planned: &Planned, observed: &Observed) {
    let before = status(Some(1), planned, observed, None, Timestamp::UNIX_EPOCH);
    bencher.bench_local(|| {
        status(
            Some(1),
            black_box(planned),
            observed,
            Some(&before),
            Timestamp::UNIX_EPOCH,
        )
    });
}

#[divan::bench(args = [10, 100, 1000])]
fn plan_one_deployment(bencher: Bencher<'_, '_>, clusters: usize) {
    let case = Case::new(clusters);
    bencher.bench_local(|| plan(black_box(&case.request())));
}

#[divan::bench(args = [10, 100, 1000])]
fn compute_the_status(bencher: Bencher<'_, '_>, clusters: usize) {
    let case = Case::new(clusters);
    bench_status(bencher, &plan(&case.request()), &Observed::default());
}

/// As a controller plans it on each pass.
#[divan::bench(args = [(100, 10), (1000, 10), (100, 1000)])]
fn plan_many_copies(bencher: Bencher<'_, '_>, (objects, clusters): (usize, usize)) {
    let case = Case::of_copies(objects, clusters);
    bencher.bench_local(|| plan(black_box(&case.request())));
}

/// While everything is in place.
#[divan::bench(args = [(100, 10), (1000, 10), (100, 1000)])]
fn compute_the_status_of_many_copies(bencher: Bencher<'_, '_>, (objects, clusters): (usize, usize)) {
    let case = Case::of_copies(objects, clusters);
    let planned = plan(&case.request());
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
    bench_status(bencher, &planned, &observed);
}
