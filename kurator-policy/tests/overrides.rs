//! What override policies do, as users meet it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kurator_core::observe::ClusterView;
use kurator_policy::{
    api::OverridePolicy,
    overrides::{BrokenTotals, Fault, OverrideError, OverrideSet, REPLICAS, Rendered, SkipReason},
};
use serde_json::{Value, json};

const DISTRIBUTION: &str = include_str!("../../examples/manifests/distribution.yaml");

fn cluster(name: &str) -> ClusterView {
    ClusterView::new(name.parse().unwrap())
}

fn policy(name: &str, rule: Value) -> OverridePolicy {
    policy_of(
        name,
        json!({ "apiVersion": "apps/v1", "kind": "Deployment" }),
        0,
        rule,
    )
}

fn policy_of(name: &str, selector: Value, priority: i32, rule: Value) -> OverridePolicy {
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "priority": priority, "resourceSelectors": [selector], "overrideRules": [rule] },
    }))
    .unwrap()
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "storefront", "namespace": "default", "labels": { "app": "storefront" } },
        "spec": {
            "replicas": 2,
            "template": { "spec": {
                "containers": [
                    { "name": "main", "image": "registry.example:5000/shop/storefront:1.2", "args": ["-v", "-x", "-v"],
                      "env": [{ "name": "MODE", "value": "a" }, { "name": "ZONE", "value": "b" }] },
                    { "name": "sidecar", "image": "envoy:1.30" },
                ],
                "initContainers": [{ "name": "migrate", "image": "shop/migrate" }],
            } },
        },
    })
}

fn render(policies: &[OverridePolicy], object: &Value) -> Result<Rendered, OverrideError> {
    OverrideSet::compile(policies).render(object, &cluster("cluster-dr"))
}

fn rendered(rule: Value) -> Value {
    render(&[policy("p", rule)], &deployment()).unwrap().object
}

fn fault(rule: Value) -> Fault {
    match render(&[policy("p", rule)], &deployment()).unwrap_err() {
        OverrideError::Apply { fault, .. } | OverrideError::Rule { fault, .. } => *fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_manifest_pins_one_cluster_and_the_report_says_what_breaks() {
    let yaml = DISTRIBUTION.split("\n---\n").nth(1).unwrap();
    let policy: OverridePolicy = serde_saphyr::from_str(yaml).unwrap();
    let overrides = OverrideSet::compile([&policy]);
    let (prod, dr) = (cluster("cluster-prod"), cluster("cluster-dr"));
    let mut template = deployment();
    template["spec"]["replicas"] = json!(18);
    let in_prod = overrides.render(&template, &prod).unwrap();
    assert_eq!(in_prod.object, template);
    template["spec"]["replicas"] = json!(2);
    let in_dr = overrides.render(&template, &dr).unwrap();
    assert_eq!(in_dr.object["spec"]["replicas"], 1);

    let change = in_dr.report.last_change(REPLICAS).unwrap();
    assert_eq!(
        (change.old.as_ref(), change.new.as_ref()),
        (Some(&json!(2)), Some(&json!(1)))
    );
    assert_eq!(change.policy.to_string(), "default/storefront-dr");
    let rendered = [(&prod.name, 18, &in_prod.report), (&dr.name, 2, &in_dr.report)];
    assert_eq!(
        BrokenTotals::find(REPLICAS, rendered).unwrap().to_string(),
        "override default/storefront-dr sets replicas 1 on cluster-dr, the plan says 2: the total becomes 19 of 20"
    );
}

#[test]
fn a_policy_selects_only_what_is_in_its_namespace() {
    let policy = policy(
        "p",
        json!({ "overrides": [{ "path": "/spec/replicas", "value": 9 }] }),
    );
    for namespace in [json!("other"), Value::Null] {
        let mut object = deployment();
        object["metadata"]["namespace"] = namespace;
        let rendered = render(std::slice::from_ref(&policy), &object).unwrap();
        assert_eq!(rendered.object, object);
        assert!(rendered.report.applied.is_empty());
    }
}

#[test]
fn without_an_operator_a_value_is_replaced_or_created_and_its_parent_must_exist() {
    let set = |path: &str, value: Value| json!({ "overrides": [{ "path": path, "value": value }] });
    assert_eq!(rendered(set("/spec/replicas", json!(7)))["spec"]["replicas"], 7);
    assert_eq!(rendered(set("/spec/paused", json!(true)))["spec"]["paused"], true);
    let missing = Fault::MissingParent {
        at: "/spec/strategy".into(),
    };
    assert_eq!(fault(set("/spec/strategy/type", json!("Recreate"))), missing);
    let strict = json!({ "overrides": [{ "path": "/spec/paused", "operator": "replace", "value": true }] });
    assert_eq!(
        fault(strict),
        Fault::Missing {
            at: "/spec/paused".into()
        }
    );
}

#[test]
fn an_error_names_policy_rule_path_and_object() {
    let rule = json!({ "overrides": [{ "path": "/spec/a/b", "value": 1 }] });
    let error = render(&[policy("p", rule)], &deployment()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "override policy default/p, rule 0, overrides[0]: cannot change /spec/a/b of Deployment default/storefront \
         for cluster cluster-dr"
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        source,
        "/spec/a is not there: set it first, or name a path whose parent exists"
    );
    assert_eq!(
        (error.reason(), error.policy().unwrap().name()),
        ("PathNotFound", "p")
    );
}

#[test]
fn an_object_is_never_half_changed_and_never_goes_without_a_policy_that_cannot_be_read() {
    let good = policy(
        "a",
        json!({ "overrides": [{ "path": "/spec/replicas", "value": 9 }] }),
    );
    let bad = policy("b", json!({ "overrides": [{ "path": "spec", "value": 9 }] }));
    let overrides = OverrideSet::compile([&good, &bad]);
    assert_eq!(overrides.errors().len(), 1);
    assert!(matches!(overrides.errors()[0], OverrideError::Rule { .. }));
    assert!(overrides.render(&deployment(), &cluster("a")).is_err());
    // What it does not select is not held up.
    let other = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c", "namespace": "default" } });
    assert_eq!(overrides.render(&other, &cluster("a")).unwrap().object, other);
}

#[test]
fn an_override_does_not_make_it_another_object() {
    for (path, field) in [
        ("/metadata/name", "/metadata/name"),
        ("/metadata/namespace", "/metadata/namespace"),
        ("/kind", "/kind"),
        ("/apiVersion", "/apiVersion"),
    ] {
        assert_eq!(
            fault(json!({ "overrides": [{ "path": path, "value": "other" }] })),
            Fault::Identity { field }
        );
    }
    let merge = json!({ "overriders": { "mergePatch": { "metadata": null } } });
    assert_eq!(
        fault(merge),
        Fault::Identity {
            field: "/metadata/name"
        }
    );
}

#[test]
fn images_change_in_every_container_init_containers_included() {
    let rule = json!({ "overriders": { "imageOverrider": [
        { "component": "Registry", "operator": "replace", "value": "mirror.local" },
        { "component": "Tag", "operator": "add", "value": "-arm64", "predicate":
            { "path": "/spec/template/spec/containers/0/image" } },
    ] } });
    let spec = rendered(rule)["spec"]["template"]["spec"].clone();
    assert_eq!(
        spec["containers"][0]["image"],
        "mirror.local/shop/storefront:1.2-arm64"
    );
    assert_eq!(spec["containers"][1]["image"], "mirror.local/envoy:1.30");
    assert_eq!(spec["initContainers"][0]["image"], "mirror.local/shop/migrate");
    let broken = json!({ "overriders": { "imageOverrider": [
        { "component": "Repository", "operator": "replace", "value": "not a name" }
    ] } });
    let image = "registry.example:5000/not a name:1.2".to_owned();
    assert_eq!(fault(broken), Fault::Image { image });
}

#[test]
fn words_variables_and_labels_change_by_name() {
    let rule = json!({ "overriders": {
        "argsOverrider": [
            { "containerName": "main", "operator": "remove", "value": ["-v"] },
            { "containerName": "main", "operator": "add", "value": ["-q"] },
        ],
        "commandOverrider": [{ "containerName": "migrate", "operator": "add", "value": ["sh", "-c"] }],
        "envOverrider": [
            { "containerName": "main", "operator": "add", "value": [
                { "name": "MODE", "value": "dr" },
                { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            ] },
            { "containerName": "main", "operator": "remove", "value": [{ "name": "ZONE" }] },
        ],
        "labelsOverrider": [{ "operator": "add", "value": { "tier": "dr" } }],
        "annotationsOverrider": [{ "operator": "add", "value": { "example.com/note": "x" } }],
    } });
    let object = rendered(rule);
    let spec = &object["spec"]["template"]["spec"];
    assert_eq!(spec["containers"][0]["args"], json!(["-x", "-q"]));
    assert_eq!(spec["initContainers"][0]["command"], json!(["sh", "-c"]));
    assert_eq!(
        spec["containers"][0]["env"],
        json!([{ "name": "MODE", "value": "dr" },
               { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }])
    );
    assert_eq!(
        object["metadata"]["labels"],
        json!({ "app": "storefront", "tier": "dr" })
    );
    assert_eq!(
        object["metadata"]["annotations"],
        json!({ "example.com/note": "x" })
    );
}

#[test]
fn cron_jobs_are_changed_too() {
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "c", "namespace": "default" },
        "spec": { "jobTemplate": { "spec": { "template": { "spec": { "containers": [{ "name": "main", "image": "a:1" }] } } } } },
    });
    let rule = json!({ "overriders": {
        "imageOverrider": [{ "component": "Tag", "operator": "replace", "value": "2" }],
        "argsOverrider": [{ "containerName": "main", "operator": "add", "value": ["-q"] }],
    } });
    let selector = json!({ "apiVersion": "batch/v1", "kind": "CronJob" });
    let object = render(&[policy_of("p", selector, 0, rule)], &cron)
        .unwrap()
        .object;
    let container = &object["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container,
        &json!({ "name": "main", "image": "a:2", "args": ["-q"] })
    );
}

#[test]
fn what_does_not_concern_an_object_is_listed_not_refused() {
    let rule = json!({ "overriders": {
        "argsOverrider": [{ "containerName": "absent", "operator": "add", "value": ["-q"] }],
        "labelsOverrider": [{ "operator": "replace", "value": { "absent": "x" } }],
    } });
    let rendered = render(&[policy("p", rule)], &deployment()).unwrap();
    assert_eq!(rendered.object, deployment());
    let reasons: Vec<_> = rendered
        .report
        .skipped
        .iter()
        .map(|skipped| &skipped.reason)
        .collect();
    assert_eq!(
        reasons,
        [
            &SkipReason::NoContainer("absent".into()),
            &SkipReason::NoKey("/metadata/labels/absent".into())
        ]
    );
}

#[test]
fn texts_are_changed_inside_and_whole_objects_merged() {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c", "namespace": "default" },
        "data": { "a.json": "{\"z\": 1.0, \"b\": [1]}", "a.yaml": "z: 1\nb:\n  c: yes\n" },
    });
    let rule = json!({ "overriders": {
        "fieldOverrider": [
            { "fieldPath": "/data/a.json", "json": [
                { "subPath": "/b/-", "operator": "add", "value": 2 },
                { "subPath": "/n", "operator": "add", "value": null },
            ] },
            { "fieldPath": "/data/a.yaml", "yaml": [{ "subPath": "/z", "operator": "replace", "value": "1" }] },
        ],
        "mergePatch": { "data": { "new": "x" }, "immutable": true },
    } });
    let selector = json!({ "apiVersion": "v1", "kind": "ConfigMap" });
    let rendered = render(&[policy_of("p", selector, 0, rule)], &map).unwrap();
    assert_eq!(
        rendered.object["data"]["a.json"],
        "{\"z\":1.0,\"b\":[1,2],\"n\":null}"
    );
    assert_eq!(rendered.object["data"]["new"], "x");
    assert_eq!(rendered.object["immutable"], true);
    assert!(
        rendered.object["data"]["a.yaml"]
            .as_str()
            .unwrap()
            .ends_with("z: \"1\"\n")
    );
    let change = rendered.report.last_change("/data/a.json > /b/1").unwrap();
    assert_eq!((&change.old, &change.new), (&None, &Some(json!(2))));
}

#[test]
fn the_higher_priority_then_the_closer_selector_then_the_later_name_has_its_way() {
    let set = |value: i32| json!({ "overrides": [{ "path": "/spec/replicas", "value": value }] });
    let kind = json!({ "apiVersion": "apps/v1", "kind": "Deployment" });
    let mut labels = kind.clone();
    labels["labelSelector"] = json!({ "matchLabels": { "app": "storefront" } });
    let mut name = kind.clone();
    name["name"] = json!("storefront");

    let last = |policies: &[OverridePolicy]| {
        render(policies, &deployment()).unwrap().object["spec"]["replicas"].clone()
    };
    let by_kind = policy_of("z", kind.clone(), 0, set(1));
    let by_labels = policy_of("b", labels, 0, set(2));
    let by_name = policy_of("a", name, 0, set(3));
    assert_eq!(last(&[by_kind.clone(), by_labels.clone()]), 2);
    assert_eq!(last(&[by_name.clone(), by_labels.clone(), by_kind.clone()]), 3);
    let first = policy_of("y", kind.clone(), 0, set(4));
    assert_eq!(last(&[first, by_kind.clone()]), 1);
    let urgent = policy_of("a-urgent", kind, 1, set(5));
    assert_eq!(last(&[urgent, by_name]), 5);
}

fn conflicts(first: Value, second: Value) -> Vec<String> {
    let policies = [policy("a", first), policy("b", second)];
    let rendered = render(&policies, &deployment()).unwrap();
    rendered
        .report
        .conflicts
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn two_policies_that_disagree_are_reported() {
    let set = |path: &str, value: Value| json!({ "overrides": [{ "path": path, "value": value }] });
    assert_eq!(
        conflicts(set("/spec/replicas", json!(1)), set("/spec/replicas", json!(3))),
        ["! /spec/replicas: default/a wants 1, default/b has its way with 3"]
    );
    // Inside what the other set, and around it.
    assert_eq!(
        conflicts(
            set("/spec/strategy", json!({ "type": "Recreate" })),
            set("/spec/strategy/type", json!("RollingUpdate"))
        ),
        ["! /spec/strategy/type: default/a wants \"Recreate\", default/b has its way with \"RollingUpdate\""]
    );
    let label =
        json!({ "overriders": { "labelsOverrider": [{ "operator": "add", "value": { "tier": "dr" } }] } });
    assert_eq!(
        conflicts(label, set("/metadata/labels", json!({}))),
        ["! /metadata/labels/tier: default/a wants \"dr\", default/b has its way with removed"]
    );
    let image = |component: &str, value: &str| {
        json!({ "overriders": { "imageOverrider": [{ "component": component, "operator": "replace", "value": value,
            "predicate": { "path": "/spec/template/spec/containers/1/image" } }] } })
    };
    assert_eq!(
        conflicts(image("Tag", "1"), image("Tag", "2")),
        [
            "! /spec/template/spec/containers/1/image > /tag: default/a wants \"1\", default/b has its way with \"2\""
        ]
    );
    let whole = set("/spec/template/spec/containers/1/image", json!("envoy:9"));
    assert_eq!(conflicts(whole, image("Tag", "2")).len(), 1);
}

#[test]
fn policies_that_agree_or_change_different_things_are_not_reported() {
    let set = |path: &str, value: Value| json!({ "overrides": [{ "path": path, "value": value }] });
    assert_eq!(
        conflicts(set("/spec/replicas", json!(1)), set("/spec/replicas", json!(1))),
        [""; 0]
    );
    assert_eq!(
        conflicts(set("/spec/replicas", json!(1)), set("/spec/paused", json!(true))),
        [""; 0]
    );
    let image = |component: &str, operator: &str| json!({ "overriders": { "imageOverrider": [{ "component": component, "operator": operator, "value": "x" }] } });
    assert_eq!(
        conflicts(image("Registry", "replace"), image("Tag", "replace")),
        [""; 0]
    );
    assert_eq!(
        conflicts(image("Tag", "replace"), image("Tag", "add")),
        [""; 0],
        "adding builds on what is there"
    );
    let args = |word: &str| json!({ "overriders": { "argsOverrider": [{ "containerName": "main", "operator": "add", "value": [word] }] } });
    assert_eq!(conflicts(args("-a"), args("-b")), [""; 0]);
}

#[test]
fn elements_that_move_keep_who_set_them() {
    let add = |path: &str, value: &str| json!({ "overriders": { "plaintext": [{ "path": path, "operator": "add", "value": value }] } });
    let args = "/spec/template/spec/containers/0/args";
    // The first appends an element, the second puts one before it, the third replaces what the first appended.
    let third = json!({ "overriders": { "plaintext": [{ "path": format!("{args}/4"), "operator": "replace", "value": "z" }] } });
    let policies = [
        policy("a", add(&format!("{args}/-"), "x")),
        policy("b", add(&format!("{args}/0"), "y")),
        policy("c", third),
    ];
    let report = render(&policies, &deployment()).unwrap().report;
    assert_eq!(report.conflicts.len(), 1);
    assert_eq!(
        report.conflicts[0].to_string(),
        format!("! {args}/4: default/a wants \"x\", default/c has its way with \"z\"")
    );
}

#[test]
fn a_dry_run_reads_like_a_diff_and_can_be_written_as_json() {
    let rule = json!({ "overrides": [
        { "path": "/spec/replicas", "value": 1 },
        { "path": "/spec/paused", "value": true },
        { "path": "/metadata/labels/app", "operator": "remove" },
    ] });
    let report = render(&[policy("p", rule)], &deployment()).unwrap().report;
    assert_eq!(
        report.to_string(),
        "~ /spec/replicas: 2 -> 1  (default/p, rule 0)\n\
         + /spec/paused: true  (default/p, rule 0)\n\
         - /metadata/labels/app: \"storefront\"  (default/p, rule 0)\n"
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        json["changes"][0],
        json!({ "path": "/spec/replicas", "policy": "default/p", "rule": 0, "old": 2, "new": 1 })
    );
}
