//! Laws of override rendering, on policies and objects drawn at random.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kurator_core::observe::ClusterView;
use kurator_policy::{
    api::OverridePolicy,
    overrides::{OverrideSet, OverrideSource, check, karmada},
};
use proptest::{prelude::*, sample::select};
use serde_json::{Map, Value, json};

/// Few names, so that paths meet what is there.
const KEYS: &[&str] = &["a", "b", "spec", "replicas", "m~n", "x/y", "labels", "0"];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..5i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec![
            "",
            "nginx",
            "r.io/a/b:1",
            "{\"a\":[1,{\"b\":2}],\"spec\":1}",
            "a:\n- 1\nb: {x: y}\n",
            "\u{e9}\n"
        ])
        .prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(select(KEYS), inner, 0..3).prop_map(|members| {
                Value::Object(
                    members
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    let kinds = select(&KINDS);
    (kinds, value(), value(), value(), any::<bool>()).prop_map(|((api, kind), spec, data, labels, usual)| {
        let containers = json!([{ "name": "a", "image": "nginx:1", "args": ["x", "y"], "env": [{ "name": "a" }] }, { "name": "b" }]);
        let usual_spec = json!({ "replicas": 2, "template": { "spec": { "containers": containers } }, "containers": containers });
        json!({
            "apiVersion": api, "kind": kind,
            "metadata": { "name": "o", "namespace": "ns", "labels": if usual { json!({ "a": "b" }) } else { labels } },
            "spec": if usual { usual_spec } else { spec },
            "data": data,
        })
    })
}

fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(KEYS).prop_map(|key| key.replace('~', "~0").replace('/', "~1")),
        1 => select(vec!["-", "1", "2", "-1", "01", "", "metadata", "name", "data", "template", "containers", "args"])
            .prop_map(str::to_owned),
    ]
}

/// Paths that are often there, and some that seldom are or never can be.
fn path() -> impl Strategy<Value = String> {
    let usual = select(vec![
        "/spec/replicas",
        "/spec/paused",
        "/spec",
        "/data",
        "/data/a",
        "/spec/containers/0/image",
        "/spec/containers/0/args/-",
        "/spec/containers/0/args/0",
        "/spec/containers/0/args",
        "/metadata/labels/a",
        "/metadata/labels",
        "/spec/template/spec/containers/1/image",
    ]);
    prop_oneof![
        20 => usual.prop_map(str::to_owned),
        4 => prop::collection::vec(token(), 1..4).prop_map(|tokens| format!("/{}", tokens.join("/"))),
        1 => ".{0,6}",
    ]
}

fn merge_patch() -> impl Strategy<Value = Value> {
    let members = prop::collection::btree_map(select(KEYS), value(), 0..3);
    members.prop_map(|members| {
        Value::Object(
            members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    })
}

/// Words cannot be replaced; one in many tries to.
fn words_operator() -> impl Strategy<Value = &'static str> {
    prop_oneof![10 => Just("add"), 10 => Just("remove"), 1 => Just("replace")]
}

fn operator() -> impl Strategy<Value = &'static str> {
    select(vec!["add", "add", "add", "remove", "replace"])
}

/// One entry of a rule, with the list it belongs into.
fn overrider() -> impl Strategy<Value = (&'static str, Value)> {
    let name = || select(vec!["a", "b", "c"]);
    let words = || prop::collection::vec(select(vec!["x", "y", "z"]), 0..3);
    let patch = || (path(), operator(), value());
    prop_oneof![
        3 => patch().prop_map(|(path, operator, value)| {
            ("plaintext", json!({ "path": path, "operator": operator, "value": value }))
        }),
        1 => (prop::option::of(path()), select(vec!["Registry", "Repository", "Tag"]), operator(),
              select(vec!["x", "y", "2", "r.io:5000", "2-eu", "", " "])).prop_map(|(at, component, operator, value)| {
            let mut image = json!({ "component": component, "operator": operator, "value": value });
            if let Some(path) = at { image["predicate"] = json!({ "path": path }); }
            ("imageOverrider", image)
        }),
        1 => (select(vec!["commandOverrider", "argsOverrider"]), name(), words_operator(), words())
            .prop_map(|(list, name, operator, words)| {
                (list, json!({ "containerName": name, "operator": operator, "value": words }))
            }),
        1 => (name(), operator(), words()).prop_map(|(name, operator, words)| {
            let value: Vec<_> = words.iter().map(|word| json!({ "name": word, "value": "v" })).collect();
            ("envOverrider", json!({ "containerName": name, "operator": operator, "value": value }))
        }),
        1 => (select(vec!["labelsOverrider", "annotationsOverrider"]), operator(), words())
            .prop_map(|(list, operator, words)| {
                let value: Map<_, _> = words.iter().map(|word| ((*word).to_owned(), json!("v"))).collect();
                (list, json!({ "operator": operator, "value": value }))
            }),
        1 => (path(), select(vec!["json", "yaml"]), patch()).prop_map(|(field, format, (path, operator, value))| {
            let patch = json!({ "subPath": path, "operator": operator, "value": value });
            ("fieldOverrider", json!({ "fieldPath": field, format: [patch] }))
        }),
    ]
}

fn rule(overriders: Vec<(&'static str, Value)>, overrides: Vec<Value>, merge: Option<Value>) -> Value {
    let mut lists = Map::new();
    for (list, overrider) in overriders {
        let list = lists.entry(list).or_insert_with(|| json!([]));
        list.as_array_mut().unwrap().push(overrider);
    }
    if let Some(patch) = merge {
        lists.insert("mergePatch".to_owned(), patch);
    }
    json!({ "overriders": lists, "overrides": overrides })
}

fn arbitrary_rule() -> impl Strategy<Value = Value> {
    let set = (
        path(),
        prop::option::weighted(0.3, operator()),
        prop::option::weighted(0.98, value()),
    )
        .prop_map(|(path, operator, value)| {
            let mut set = json!({ "path": path });
            if let Some(operator) = operator {
                set["operator"] = json!(operator);
            }
            if let Some(value) = value {
                set["value"] = value;
            }
            set
        });
    let overriders = prop::collection::vec(overrider(), 0..4);
    (
        overriders,
        prop::collection::vec(set, 0..3),
        prop::option::of(value()),
    )
        .prop_map(|(overriders, overrides, merge)| rule(overriders, overrides, merge))
}

const KINDS: [(&str, &str); 4] = [
    ("apps/v1", "Deployment"),
    ("v1", "Pod"),
    ("v1", "ConfigMap"),
    ("batch/v1", "CronJob"),
];

fn selectors() -> impl Strategy<Value = Vec<Value>> {
    let one = (select(&KINDS), 0..40).prop_map(|((api, kind), form)| {
        let mut selector = json!({ "apiVersion": api, "kind": kind });
        match form {
            0 => {
                selector["labelSelector"] = json!({ "matchExpressions": [{ "key": "?", "operator": "In" }] })
            }
            1..10 => selector["name"] = json!("o"),
            10..20 => selector["labelSelector"] = json!({ "matchLabels": { "a": "b" } }),
            _ => {}
        }
        selector
    });
    let some = prop::collection::vec(one, 0..3);
    (some, any::<bool>()).prop_map(|(some, all)| if all { [some, every_kind()].concat() } else { some })
}

fn spec() -> impl Strategy<Value = (i32, Vec<Value>, Vec<Value>)> {
    (
        -1..2i32,
        selectors(),
        prop::collection::vec(arbitrary_rule(), 0..3),
    )
}

fn native(name: usize, priority: i32, selectors: &[Value], rules: &[Value]) -> OverridePolicy {
    serde_json::from_value(json!({
        "metadata": { "name": format!("p{name}"), "namespace": "ns" },
        "spec": { "priority": priority, "resourceSelectors": selectors, "overrideRules": rules },
    }))
    .unwrap()
}

fn every_kind() -> Vec<Value> {
    KINDS
        .map(|(api, kind)| json!({ "apiVersion": api, "kind": kind }))
        .to_vec()
}

fn policies() -> impl Strategy<Value = Vec<OverrideSource>> {
    prop::collection::vec((spec(), 0..3), 0..5).prop_map(|specs| {
        specs
            .into_iter()
            .enumerate()
            .map(|(number, ((priority, selectors, rules), dialect))| {
                let name = format!("p{number}");
                let spec = json!({ "resourceSelectors": selectors, "overrideRules": rules });
                match dialect {
                    0 => OverrideSource::from(&native(number, priority, &selectors, &rules)),
                    1 => karmada::override_policy("ns", &name, &spec).unwrap(),
                    _ => karmada::cluster_override_policy(&name, &spec).unwrap(),
                }
            })
            .collect()
    })
}

fn member() -> ClusterView {
    ClusterView::new("member".parse().unwrap()).with_label("tier", "gold")
}

proptest! {
    #[test]
    fn arbitrary_policies_never_panic_and_keep_what_an_object_is(policies in policies(), object in object()) {
        let before = object.clone();
        let native_only = policies.iter().all(|policy| !format!("{policy:?}").contains("Karmada"));
        let overrides = OverrideSet::compile(policies);
        let rendered = overrides.render(&object, &member());
        prop_assert_eq!(&object, &before);
        match rendered {
            Ok(rendered) => {
                let _ = rendered.report.to_string();
                if native_only {
                    for path in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"] {
                        prop_assert_eq!(rendered.object.pointer(path), object.pointer(path));
                    }
                }
            }
            Err(error) => {
                let _ = (error.to_string(), error.reason(), std::error::Error::source(&error).map(ToString::to_string));
                prop_assert!(error.policy().is_some());
            }
        }
    }

    #[test]
    fn the_order_in_which_policies_are_given_does_not_matter(
        (policies, shuffled) in policies().prop_flat_map(|policies| (Just(policies.clone()), Just(policies).prop_shuffle())),
        object in object(),
    ) {
        let first = OverrideSet::compile(policies).render(&object, &member());
        let second = OverrideSet::compile(shuffled).render(&object, &member());
        prop_assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }

    #[test]
    fn the_report_tells_every_change(
        overriders in prop::collection::vec(overrider(), 0..6),
        merge in prop::option::of(merge_patch()),
        object in object(),
    ) {
        let policy = native(0, 0, &every_kind(), &[rule(overriders, Vec::new(), merge)]);
        if let Ok(rendered) = OverrideSet::compile([&policy]).render(&object, &member()) {
            let notes = check(&object, &rendered);
            prop_assert!(notes.is_empty(), "{notes}");
        }
    }

    #[test]
    fn the_checker_has_nothing_against_several_policies_but_that_they_disagree(
        policies in policies(),
        object in object(),
    ) {
        if let Ok(rendered) = OverrideSet::compile(policies).render(&object, &member()) {
            for note in check(&object, &rendered) {
                // Only Karmada's may rename an object.
                prop_assert!(["Overruled", "IdentityChanged"].contains(&note.reason.as_str()), "{note}");
            }
        }
    }

    #[test]
    fn a_change_that_nobody_reported_is_found(
        (path, _, value) in (path(), operator(), value()),
        object in object(),
    ) {
        let policy = native(0, 0, &every_kind(), &[rule(Vec::new(), Vec::new(), None)]);
        let mut rendered = OverrideSet::compile([&policy]).render(&object, &member()).unwrap();
        if let Some(place) = rendered.object.pointer_mut(&path) {
            let changed = *place != value;
            *place = value;
            prop_assert_eq!(check(&object, &rendered).permits(), !changed);
        }
    }

    #[test]
    fn a_list_of_patches_does_what_another_implementation_does(
        patches in prop::collection::vec((path(), operator(), value()), 1..4),
        object in object(),
    ) {
        let plaintext = patches.iter().map(|(path, operator, value)| {
            ("plaintext", json!({ "path": path, "operator": operator, "value": value }))
        });
        let policy = native(0, 0, &every_kind(), &[rule(plaintext.collect(), Vec::new(), None)]);
        let ours = OverrideSet::compile([&policy]).render(&object, &member());

        let operations = patches.iter().map(|(path, operator, value)| json!({ "op": operator, "path": path, "value": value }));
        let Ok(patch) = serde_json::from_value::<json_patch::Patch>(operations.collect()) else {
            prop_assert!(ours.is_err());
            return Ok(());
        };
        let mut theirs = object.clone();
        let done = json_patch::patch(&mut theirs, &patch);
        let same_object = ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"]
            .iter()
            .all(|path| theirs.pointer(path) == object.pointer(path));
        match ours {
            Ok(ours) => {
                prop_assert!(done.is_ok(), "{done:?}");
                prop_assert_eq!(ours.object, theirs);
            }
            Err(error) => prop_assert!(done.is_err() || !same_object || error.reason() == "IdentityChanged"
                || patches.iter().any(|(path, ..)| path.is_empty()), "{error:?}"),
        }
    }

    #[test]
    fn a_merge_patch_does_what_another_implementation_does(
        patch in merge_patch(),
        object in object(),
    ) {
        let policy = native(0, 0, &every_kind(), &[rule(Vec::new(), Vec::new(), Some(patch.clone()))]);
        let ours = OverrideSet::compile([&policy]).render(&object, &member()).unwrap().object;
        let mut theirs = object;
        json_patch::merge(&mut theirs, &patch);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn what_sets_instead_of_adding_can_be_rendered_twice(
        sets in prop::collection::vec((path(), value()), 0..4),
        labels in prop::collection::btree_map(select(vec!["a", "x", "y"]), select(vec!["1", "2"]), 0..3),
        tag in select(vec!["1", "2"]),
        merge in merge_patch(),
        object in object(),
    ) {
        let sets = sets.iter().map(|(path, value)| json!({ "path": path, "value": value })).collect();
        let overriders = vec![
            ("labelsOverrider", json!({ "operator": "add", "value": labels })),
            ("imageOverrider", json!({ "component": "Tag", "operator": "replace", "value": tag })),
        ];
        let policy = native(0, 0, &every_kind(), &[rule(overriders, sets, Some(merge))]);
        let overrides = OverrideSet::compile([&policy]);
        if let Ok(once) = overrides.render(&object, &member())
            && let Ok(twice) = overrides.render(&once.object, &member())
        {
            prop_assert_eq!(twice.object, once.object);
        }
    }

    #[test]
    fn every_disagreement_is_reported_and_nothing_else(
        policies in prop::collection::vec(prop::collection::vec((select(vec!["a", "b", "c"]), 1..4i64), 0..5), 0..6),
    ) {
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "o", "namespace": "ns" }, "data": {} });
        let compiled: Vec<_> = policies
            .iter()
            .enumerate()
            .map(|(number, sets)| {
                let sets = sets.iter().map(|(key, value)| json!({ "path": format!("/data/{key}"), "value": value })).collect();
                native(number, 0, &every_kind(), &[rule(Vec::new(), sets, None)])
            })
            .collect();
        let rendered = OverrideSet::compile(&compiled).render(&object, &member()).unwrap();

        let mut claims = std::collections::BTreeMap::new();
        let mut expected = Vec::new();
        for (number, sets) in policies.iter().enumerate() {
            for (key, value) in sets {
                if let Some((other, theirs)) = claims.insert(key, (number, value))
                    && other != number && theirs != value
                {
                        expected.push((format!("/data/{key}"), format!("ns/p{other}"), format!("ns/p{number}")));
                }
            }
        }
        let reported: Vec<_> = rendered.report.conflicts.iter()
            .map(|conflict| (conflict.path.clone(), conflict.overruled.to_string(), conflict.winner.to_string()))
            .collect();
        prop_assert_eq!(reported, expected);
        for (key, (_, value)) in claims {
            prop_assert_eq!(&rendered.object["data"][key], &json!(value));
        }
    }
}
