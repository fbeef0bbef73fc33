//! What holds for every propagation plan, whatever goes in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use jiff::Timestamp;
use kurator_core::observe::{ClusterView, Snapshot};
use kurator_policy::{
    api::{Activation, OverridePolicy, Placement},
    propagate::{
        Activations, BuiltinKinds, Claimant, Observed, Planned, PolicyKey, Request, Template, check, claims,
        plan, status,
    },
};
use proptest::{prelude::*, sample::subsequence};
use serde_json::{Value, json};

const CLUSTERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const APPS: [&str; 4] = ["api", "cart", "shop", "web"];

fn template(name: &str, replicas: Option<u32>) -> Template {
    let mut object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": "shop", "uid": name, "labels": { "app": name } },
    });
    if let Some(replicas) = replicas {
        object["apiVersion"] = json!("apps/v1");
        object["kind"] = json!("Deployment");
        object["spec"] = json!({ "replicas": replicas });
    }
    Template::of(&object, &BuiltinKinds).unwrap()
}

fn placement() -> impl Strategy<Value = Placement> {
    let names = subsequence(CLUSTERS.to_vec(), 0..=5);
    let weights = prop::option::of(prop::collection::vec(
        (prop::sample::select(CLUSTERS.to_vec()), 0..200_u64),
        1..6,
    ));
    (names, weights).prop_map(|(names, weights)| {
        let mut placement = json!({});
        if !names.is_empty() {
            placement["clusterAffinity"] = json!({ "clusterNames": names });
        }
        if let Some(weights) = weights {
            let entry = |(cluster, weight): (&str, u64)| {
                json!({ "targetCluster": { "clusterNames": [cluster] }, "weight": weight })
            };
            let list: Vec<Value> = weights.into_iter().map(entry).collect();
            placement["replicaScheduling"] = json!({ "weightPreference": { "staticWeightList": list } });
        }
        serde_json::from_value(placement).unwrap()
    })
}

fn override_policy() -> impl Strategy<Value = OverridePolicy> {
    let paths = [
        "/spec/replicas",
        "/metadata/labels/app",
        "/metadata/name",
        "/spec/nothing/there",
        "/data/key",
    ];
    (
        prop::sample::select(vec!["one", "two", "three"]),
        prop::sample::select(CLUSTERS.to_vec()),
        prop::sample::select(paths.to_vec()),
        prop_oneof![
            (0..40_u32).prop_map(|number| json!(number)),
            Just(json!("text")),
            Just(Value::Null)
        ],
    )
        .prop_map(|(name, cluster, path, value)| {
            serde_json::from_value(json!({
                "metadata": { "name": name, "namespace": "shop" },
                "spec": {
                    "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment" }],
                    "overrideRules": [{
                        "targetClusters": { "clusterNames": [cluster] },
                        "overrides": [{ "path": path, "value": value }],
                    }],
                },
            }))
            .unwrap()
        })
}

fn fleet(names: &[&str]) -> Snapshot {
    names
        .iter()
        .fold(Snapshot::new(Timestamp::UNIX_EPOCH), |fleet, name| {
            fleet.with_cluster(ClusterView::new(name.parse().unwrap()))
        })
}

static NO_STANDING: BTreeMap<kurator_policy::propagate::ObjectKey, kurator_policy::propagate::Standing> =
    BTreeMap::new();

static NO_OTHER: kurator_policy::propagate::Otherwise = BTreeMap::new();

fn request<'a>(
    policy: &'a PolicyKey,
    placement: &'a Placement,
    templates: &'a [Template],
    overrides: &'a [OverridePolicy],
    fleet: &'a Snapshot,
    running: &'a BTreeMap<kurator_policy::propagate::ObjectKey, kurator_policy::placement::Running>,
) -> Request<'a> {
    Request {
        policy,
        placement,
        otherwise: &NO_OTHER,
        suspension: None,
        templates,
        overrides,
        fleet,
        running,
        standing: &NO_STANDING,
        now: Timestamp::UNIX_EPOCH,
        interpreter: &BuiltinKinds,
    }
}

proptest! {
    #[test]
    fn every_plan_passes_the_check_and_does_not_depend_on_the_order(
        placement in placement(),
        replicas in prop::collection::vec(prop::option::of(0..50_u32), 4),
        overrides in prop::collection::vec(override_policy(), 0..3),
        members in subsequence(CLUSTERS.to_vec(), 0..=5),
    ) {
        let policy = PolicyKey::new("policy.kurator.dev", "shop", "web");
        let running = BTreeMap::new();
        let mut templates: Vec<_> = APPS.iter().zip(replicas).map(|(name, replicas)| template(name, replicas)).collect();
        let mut overrides = overrides;
        overrides.dedup_by_key(|policy| policy.metadata.name.clone());
        let fleet = fleet(&members);
        let first = request(&policy, &placement, &templates, &overrides, &fleet, &running);
        let planned = plan(&first);
        prop_assert_eq!(check(&first, &planned), vec![]);
        templates.reverse();
        let unique = {
            let mut names: Vec<_> = overrides.iter().map(|policy| policy.metadata.name.clone()).collect();
            names.sort();
            names.dedup();
            names.len() == overrides.len()
        };
        if unique {
            overrides.reverse();
        }
        let second = plan(&request(&policy, &placement, &templates, &overrides, &fleet, &running));
        prop_assert_eq!(second.to_string(), planned.to_string());
        prop_assert_eq!(&second, &planned);
    }

    #[test]
    fn a_status_that_was_written_is_not_written_again(
        placement in placement(),
        replicas in 0..50_u32,
        members in subsequence(CLUSTERS.to_vec(), 0..=5),
    ) {
        let policy = PolicyKey::new("policy.kurator.dev", "shop", "web");
        let (running, templates, fleet) = (BTreeMap::new(), [template("web", Some(replicas))], fleet(&members));
        let planned: Planned = plan(&request(&policy, &placement, &templates, &[], &fleet, &running));
        let mut observed = Observed::default();
        for cluster in planned.members.keys() {
            observed.members.insert(cluster.clone(), Default::default());
        }
        let later = "2026-01-02T03:04:05Z".parse().unwrap();
        let first = status(Some(1), &planned, &observed, None, Timestamp::UNIX_EPOCH);
        let second = status(Some(1), &planned, &observed, Some(&first), later);
        prop_assert_eq!(second, first);
    }

    #[test]
    fn claims_do_not_depend_on_the_order_of_policies(
        selected in prop::collection::vec((prop::option::of(prop::sample::select(APPS.to_vec())), 0..3_i64), 1..6),
    ) {
        let templates: Vec<_> = APPS.iter().map(|name| template(name, Some(1))).collect();
        let mut claimants: Vec<_> = selected
            .iter()
            .enumerate()
            .map(|(index, (name, created))| {
                let mut selector = json!({ "apiVersion": "apps/v1", "kind": "Deployment" });
                if let Some(name) = name {
                    selector["name"] = json!(name);
                }
                let policy = PolicyKey::new("policy.kurator.dev", "shop", format!("p{index}"));
                let created = Timestamp::from_second(*created).unwrap();
                Claimant::new(policy, created, &[serde_json::from_value(selector).unwrap()]).unwrap()
            })
            .collect();
        let first = claims(&claimants, &templates);
        claimants.reverse();
        prop_assert_eq!(claims(&claimants, templates.iter().rev()), first);
    }

    #[test]
    fn a_lazy_policy_places_each_object_as_it_said_when_the_object_changed(
        passes in prop::collection::vec(
            (0..CLUSTERS.len(), prop::collection::vec((0..APPS.len(), any::<bool>()), 0..3)),
            1..12,
        ),
    ) {
        let policy = PolicyKey::new("policy.kurator.dev", "shop", "web");
        let fleet = fleet(&CLUSTERS);
        let to = |at: usize| -> Placement {
            serde_json::from_value(json!({ "clusterAffinity": { "clusterNames": [CLUSTERS[at]] } })).unwrap()
        };
        // Of each object: its version, its replicas, and the cluster that was named when the version came.
        let mut apps = [(0_u32, 1_u32, None); APPS.len()];
        let mut recorded = Vec::new();
        for (at, changes) in passes {
            for (app, scaled) in changes {
                let (version, replicas, placed) = &mut apps[app];
                if scaled {
                    *replicas += 1;
                } else {
                    (*version, *placed) = (*version + 1, None);
                }
            }
            let templates: Vec<Template> = apps.iter().zip(APPS).map(|((version, replicas, _), name)| {
                let mut manifest = Value::clone(&template(name, Some(*replicas)).manifest);
                manifest["spec"]["minReadySeconds"] = json!(version);
                Template::of(&manifest, &BuiltinKinds).unwrap()
            }).collect();
            for (_, _, placed) in &mut apps {
                placed.get_or_insert(at);
            }
            let current = to(at);
            let pass = Activations::of(Activation::Lazy, &current, &recorded, &templates, &BuiltinKinds);
            let running = BTreeMap::new();
            let request = Request {
                otherwise: &pass.otherwise,
                ..request(&policy, &current, &templates, &[], &fleet, &running)
            };
            let planned = plan(&request);
            prop_assert_eq!(check(&request, &planned), vec![]);
            for (template, (_, _, placed)) in templates.iter().zip(&apps) {
                let there: Vec<&str> = planned.members.iter()
                    .filter(|(_, member)| member.objects.contains_key(&template.key))
                    .map(|(cluster, _)| cluster.as_str())
                    .collect();
                prop_assert_eq!(there, [CLUSTERS[placed.unwrap()]]);
            }
            // What is read back is what was written, and nothing is written twice.
            let written = pass.record(&current, &recorded, |_| true);
            recorded = serde_json::from_value(serde_json::to_value(&written).unwrap()).unwrap();
            let again = Activations::of(Activation::Lazy, &current, &recorded, &templates, &BuiltinKinds);
            prop_assert_eq!(again.record(&current, &recorded, |_| true), written);
        }
    }
}
