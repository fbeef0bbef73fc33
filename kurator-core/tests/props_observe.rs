//! Laws of what was observed, and pods whose requests are easy to get wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kurator_core::{
    names::{ClusterName, bounded_name},
    observe::{
        ApiSet, ClusterView, Health, ModelGrade, NodeView, ResourceSummary, Resources, Snapshot, Taint,
        TaintEffect, pod_requests, running_pod_requests,
    },
    quantity::Quantity,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

#[derive(serde::Deserialize)]
struct Measured {
    pod: Pod,
    spec: Resources,
    running: Resources,
}

#[test]
fn pod_requests_agree_with_those_of_the_scheduler() {
    let measured: Vec<Measured> = serde_json::from_str(include_str!("data/pod-requests.json")).unwrap();
    assert!(measured.len() >= 200);
    for Measured { pod, spec, running } in measured {
        assert_eq!(pod_requests(pod.spec.as_ref().unwrap()).unwrap(), spec, "{pod:?}");
        assert_eq!(running_pod_requests(&pod).unwrap(), running, "{pod:?}");
    }
}

fn words() -> impl Strategy<Value = String> {
    "[a-z\"\\\\\u{e9}]{0,6}"
}

fn amounts() -> impl Strategy<Value = Quantity> {
    (any::<i64>(), any::<bool>()).prop_map(|(milli, whole)| {
        if whole {
            Quantity::from_units(milli)
        } else {
            Quantity::from_milli(milli)
        }
    })
}

fn resources() -> impl Strategy<Value = Resources> {
    proptest::collection::btree_map(words(), amounts(), 0..3)
}

fn taints() -> impl Strategy<Value = Taint> {
    let effects = [
        TaintEffect::NoExecute,
        TaintEffect::NoSchedule,
        TaintEffect::PreferNoSchedule,
    ];
    (words(), words(), select(effects.to_vec()))
        .prop_map(|(key, value, effect)| Taint::new(key, effect).with_value(value))
}

fn nodes() -> impl Strategy<Value = NodeView> {
    (
        words(),
        resources(),
        resources(),
        any::<u32>(),
        any::<[bool; 2]>(),
        vec(taints(), 0..2),
    )
        .prop_map(
            |(name, allocatable, allocated, pods, [ready, cordoned], taints)| {
                let mut node = NodeView::new(name).with_pods(pods);
                (node.allocatable, node.allocated, node.taints) = (allocatable, allocated, taints);
                (node.ready, node.unschedulable) = (ready, cordoned);
                node
            },
        )
}

fn clusters() -> impl Strategy<Value = ClusterView> {
    let name = "[a-z]{1,3}".prop_map(|name| name.parse::<ClusterName>().unwrap());
    let place = (option::of(words()), option::of(words()), vec(words(), 0..3));
    let state = (
        any::<[bool; 2]>(),
        words(),
        option::of((resources(), resources(), resources())),
    );
    let inside = (
        option::of(vec(nodes(), 0..3)),
        vec((any::<u32>(), any::<u64>(), amounts()), 0..3),
    );
    (name, place, state, inside, vec(taints(), 0..2)).prop_map(|(name, place, state, inside, taints)| {
        let ([deleting, complete], reason, sums) = state;
        let mut cluster = ClusterView::new(name).with_health(Health::not_ready(reason.clone()));
        (cluster.provider, cluster.region) = (place.0, place.1);
        cluster.zones.extend(place.2);
        (cluster.deleting, cluster.taints, cluster.nodes) = (deleting, taints, inside.0);
        cluster.apis = if complete {
            ApiSet::complete()
        } else {
            ApiSet::default()
        };
        cluster.apis.insert("apps/v1", reason);
        cluster.resources = sums.map(|(allocatable, allocated, allocating)| {
            let mut summary = ResourceSummary::default();
            (summary.allocatable, summary.allocated, summary.allocating) =
                (allocatable, allocated, allocating);
            summary
        });
        for (grade, nodes, min) in inside.1 {
            cluster = cluster.with_model(ModelGrade::new(grade, nodes).with_range("cpu", min, None));
        }
        cluster
    })
}

proptest! {
    #[test]
    fn a_snapshot_survives_json(views in vec(clusters(), 0..5), second in 0_i64..4_000_000_000) {
        let mut snapshot = Snapshot::new(jiff::Timestamp::from_second(second).unwrap());
        for view in views {
            snapshot.insert(view);
        }
        let json = snapshot.to_json().unwrap();
        let back = Snapshot::from_json(json.as_bytes()).unwrap();
        prop_assert_eq!(&back, &snapshot);
        prop_assert_eq!(back.to_json().unwrap(), json.clone());
        prop_assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    }

    #[test]
    fn clusters_in_any_order_give_the_same_bytes(views in vec(clusters(), 0..6)) {
        let by_name: BTreeMap<_, _> = views.into_iter().map(|view| (view.name.clone(), view)).collect();
        let snapshot = |views: &mut dyn Iterator<Item = &ClusterView>| {
            views.cloned().fold(Snapshot::new(jiff::Timestamp::UNIX_EPOCH), Snapshot::with_cluster)
        };
        let forth = snapshot(&mut by_name.values()).to_json().unwrap();
        let back = snapshot(&mut by_name.values().rev()).to_json().unwrap();
        prop_assert_eq!(forth, back);
    }

    #[test]
    fn no_bytes_make_reading_a_snapshot_panic(bytes in vec(any::<u8>(), 0..64)) {
        prop_assert!(Snapshot::from_json(&bytes).is_err());
    }

    #[test]
    fn a_broken_field_is_blamed_on_its_cluster(views in vec(clusters(), 1..4), broken in any::<prop::sample::Index>()) {
        let mut snapshot = Snapshot::new(jiff::Timestamp::UNIX_EPOCH);
        for view in views {
            snapshot.insert(view);
        }
        let mut json: serde_json::Value = serde_json::from_str(&snapshot.to_json().unwrap()).unwrap();
        let list = json["clusters"].as_array_mut().unwrap();
        let index = broken.index(list.len());
        list[index]["models"] = serde_json::json!([{"grade": 1}, {"grade": 2, "nodes": -1}]);
        let name = list[index]["name"].as_str().unwrap().to_owned();
        match Snapshot::from_json(json.to_string().as_bytes()) {
            Err(kurator_core::observe::SnapshotError::Cluster { cluster, field, .. }) => {
                prop_assert_eq!((cluster, field.as_str()), (name, "models[1].nodes"));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn bounded_names_are_labels_and_follow_the_parts(
        a in vec("(?s).{0,40}", 0..4),
        b in vec("(?s).{0,40}", 0..4),
    ) {
        let (name_a, name_b) = (bounded_name(&a), bounded_name(&b));
        prop_assert!(name_a.parse::<ClusterName>().is_ok(), "{}", name_a);
        prop_assert_eq!(a == b, name_a == name_b);
    }
}
