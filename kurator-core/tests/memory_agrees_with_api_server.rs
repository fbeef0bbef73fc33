//! The fleet in memory says what a real API server would have said, for random histories of one namespace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod ground;

use ground::Ground;
use kube::api::{Patch, PatchParams};
use kurator_core::{
    apply::{
        Applier, ApplyOptions, ApplyReport, ConflictResolution, KindRef, ObjectKey, ObjectSet, Owner,
        PruneScope, Pruning,
    },
    memory::{InMemoryFleet, InMemoryMember, Preconditions},
    names::NamespacedName,
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};

const HISTORIES: usize = 25;

/// Something that happens in the namespace.
#[derive(Clone, Debug)]
enum Event {
    /// One of two owners wants these values of these objects.
    Wanted {
        owner: usize,
        objects: Vec<(usize, u8)>,
        overwrite: bool,
    },
    /// Somebody edits an object that is there, or creates it.
    Edited {
        object: usize,
        value: u8,
    },
    /// Another manager applies one field, by force.
    Applied {
        object: usize,
        value: u8,
    },
    Deleted {
        object: usize,
    },
}

const NAMES: [&str; 2] = ["x", "y"];

fn event() -> impl Strategy<Value = Event> {
    let objects = prop::collection::btree_map(0..NAMES.len(), 0..2_u8, 0..=2);
    prop_oneof![
        4 => (0..2_usize, objects, prop::bool::weighted(0.3)).prop_map(|(owner, objects, overwrite)| {
            Event::Wanted { owner, objects: objects.into_iter().collect(), overwrite }
        }),
        1 => (0..NAMES.len(), 0..3_u8).prop_map(|(object, value)| Event::Edited { object, value }),
        2 => (0..NAMES.len(), 0..3_u8).prop_map(|(object, value)| Event::Applied { object, value }),
        1 => (0..NAMES.len()).prop_map(|object| Event::Deleted { object }),
    ]
}

fn config_map(namespace: &str, object: usize, value: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAMES[object], "namespace": namespace},
        "data": {"value": value.to_string()},
    })
}

/// The tokens of a report: what status, Events and metrics are made of.
fn tokens(report: &ApplyReport) -> Vec<String> {
    let objects = report
        .objects
        .iter()
        .map(|it| format!("{} {}", it.object, it.outcome.reason()));
    let pruning = match &report.pruning {
        Pruning::Done { removals } => {
            let removals = removals
                .iter()
                .map(|it| format!("{} {:?}", it.object, it.removal));
            format!("pruned {:?}", removals.collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    };
    objects.chain([pruning]).collect()
}

/// The data of the objects, where they exist.
async fn real_data(ground: &Ground) -> Vec<Option<Value>> {
    let mut data = Vec::new();
    for name in NAMES {
        let live = ground.get("v1", "ConfigMap", name).await;
        data.push(live.map(|live| live.data["data"].clone()));
    }
    data
}

fn data(member: &InMemoryMember, key: impl Fn(usize) -> ObjectKey) -> Vec<Option<Value>> {
    (0..NAMES.len())
        .map(|object| member.get(&key(object)).ok().map(|it| it["data"].clone()))
        .collect()
}

#[tokio::test]
async fn the_fleet_in_memory_answers_as_a_real_one() {
    let mut runner = TestRunner::deterministic();
    let histories = prop::collection::vec(event(), 5..15);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..HISTORIES {
        let ground = Ground::new();
        ground.create_namespace().await;
        let fleet = InMemoryFleet::new([ground.cluster.clone()]);
        let member = fleet.member(&ground.cluster).unwrap();
        let space = ground.namespace.clone();
        let key =
            |object: usize| ObjectKey::new("", "ConfigMap", NamespacedName::new(&*space, NAMES[object]));
        let history = histories.new_tree(&mut runner).unwrap().current();
        for event in &history {
            match event {
                Event::Wanted {
                    owner,
                    objects,
                    overwrite,
                } => {
                    let owner =
                        Owner::new("hub", format!("{space}-{owner}"), format!("Policy {owner}")).unwrap();
                    let objects = objects
                        .iter()
                        .map(|(object, value)| config_map(&space, *object, *value));
                    let objects = objects.map(|object| serde_json::from_value(object).unwrap());
                    let set = ObjectSet::new(owner, objects).unwrap();
                    let scope = PruneScope::Kinds([KindRef::new("v1", "ConfigMap")].into());
                    let mut options = ApplyOptions::default().with_prune(scope);
                    if *overwrite {
                        options = options.with_conflict_resolution(ConflictResolution::Overwrite);
                    }
                    let real = ground
                        .applier
                        .apply(&ground.cluster, &set, &options)
                        .await
                        .unwrap();
                    let memory = fleet.place(&ground.cluster, &set, &options).unwrap();
                    assert_eq!(tokens(&memory), tokens(&real), "{event:?} of {history:#?}");
                    seen.extend(real.objects.iter().map(|it| it.outcome.reason()));
                }
                Event::Edited { object, value } => {
                    let edit = config_map(&space, *object, *value);
                    if ground.get("v1", "ConfigMap", NAMES[*object]).await.is_some() {
                        ground.write("somebody", false, edit.clone()).await;
                        member.merge(&key(*object), &edit, "somebody").unwrap();
                    } else {
                        let new = serde_json::from_value(edit.clone()).unwrap();
                        ground
                            .api("v1", "ConfigMap")
                            .create(&Default::default(), &new)
                            .await
                            .unwrap();
                        member.create(&edit, "unknown").unwrap();
                    }
                }
                Event::Applied { object, value } => {
                    let applied = config_map(&space, *object, *value);
                    let params = PatchParams::apply("argo").force();
                    let api = ground.api("v1", "ConfigMap");
                    api.patch(NAMES[*object], &params, &Patch::Apply(&applied))
                        .await
                        .unwrap();
                    let _ = member.apply(&applied, "argo", true).unwrap();
                }
                Event::Deleted { object } => {
                    if ground.get("v1", "ConfigMap", NAMES[*object]).await.is_some() {
                        let api = ground.api("v1", "ConfigMap");
                        api.delete(NAMES[*object], &Default::default()).await.unwrap();
                        member.delete(&key(*object), &Preconditions::default()).unwrap();
                    }
                }
            }
            assert_eq!(
                data(&member, key),
                real_data(&ground).await,
                "{event:?} of {history:#?}"
            );
        }
    }
    for reason in [
        "ClaimedByOther",
        "Created",
        "FieldConflict",
        "OwnedByOther",
        "Unchanged",
        "Updated",
    ] {
        assert!(seen.contains(reason), "{reason} never came up in {seen:?}");
    }
}
