//! The laws of server-side apply that the fleet in memory keeps, for whatever objects.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kurator_core::{
    memory::{InMemoryFleet, InMemoryMember},
    names::ClusterName,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
        Just(json!([1, 2]))
    ]
}

fn map(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", inner, 1..4)
        .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>()))
}

/// A ConfigMap-like object with a tree below `data`.
fn object() -> impl Strategy<Value = Value> {
    map(leaf().prop_recursive(3, 12, 3, map)).prop_map(|data| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "data": data})
    })
}

fn member() -> InMemoryMember {
    let name: ClusterName = "a".parse().unwrap();
    InMemoryFleet::new([name.clone()]).member(&name).unwrap()
}

/// Whether everything below `part` is in `whole`.
fn holds(whole: &Value, part: &Value) -> bool {
    match part {
        Value::Object(part) => part
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|it| holds(it, value))),
        leaf => whole == leaf,
    }
}

proptest! {
    #[test]
    fn what_is_applied_is_there_and_applying_it_again_writes_nothing(
        earlier in prop::collection::vec((object(), "[m-p]"), 0..4),
        last in object(),
    ) {
        let member = member();
        for (object, manager) in &earlier {
            let _ = member.apply(object, manager, true).unwrap();
        }
        let applied = member.apply(&last, "kurator", true).unwrap();
        prop_assert!(holds(&applied.object["data"], &last["data"]), "{} lacks {last}", applied.object);
        let again = member.apply(&last, "kurator", false).unwrap();
        prop_assert!(!again.changed && !again.created);
        prop_assert_eq!(again.object, applied.object);
    }

    #[test]
    fn a_lone_manager_leaves_nothing_of_what_it_applied_before(first in object(), second in object()) {
        let member = member();
        let _ = member.apply(&first, "kurator", false).unwrap();
        let applied = member.apply(&second, "kurator", false).unwrap();
        prop_assert_eq!(&applied.object["data"], &second["data"]);
    }

    #[test]
    fn without_force_no_value_of_another_manager_changes(theirs in object(), ours in object()) {
        let member = member();
        let _ = member.apply(&theirs, "theirs", false).unwrap();
        let _ = member.apply(&ours, "kurator", false);
        let after = member.apply(&theirs, "theirs", false).unwrap();
        prop_assert!(holds(&after.object["data"], &theirs["data"]));
        prop_assert!(!after.changed, "{}", after.object);
    }
}
