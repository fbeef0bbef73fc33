//! The example planner as a user runs it: on a file, without a cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod example;

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::{Value, json};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/drain-cluster.json");

fn example() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| example::binary("drain_plan"))
}

fn run(args: &[&str]) -> Output {
    let now = ["--now", "2026-11-23T12:00:00Z"];
    Command::new(example()).args(now).args(args).output().unwrap()
}

fn plan(args: &[&str]) -> Value {
    let output = run(&[args, &["--json", SAMPLE]].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn reason(plan: &Value, node: &str) -> String {
    let skipped = plan["skipped"].as_array().unwrap();
    let found = skipped.iter().find(|skipped| skipped["node"] == node).unwrap();
    assert!(!found["detail"].as_str().unwrap().is_empty());
    found["reason"].as_str().unwrap().to_owned()
}

#[test]
fn programs_get_nodes_waves_the_bound_and_a_reason_for_every_other_node() {
    let plan = plan(&["--remove", "3"]);
    assert_eq!(plan["remove"], json!(["worker-2", "worker-4"]));
    assert_eq!(plan["waves"], json!([["worker-2"], ["worker-4"]]));
    assert_eq!(plan["lowerBound"], 2);
    assert_eq!(reason(&plan, "control-1"), "ControlPlane");
    assert_eq!(reason(&plan, "edge-1"), "EdgeDisconnected");
    assert_eq!(reason(&plan, "worker-3"), "Unreplicated");
    assert_eq!(reason(&plan, "worker-5"), "BudgetExhausted");
    let fields: Vec<&String> = plan.as_object().unwrap().keys().collect();
    assert_eq!(fields.len(), 4);
}

#[test]
fn nodes_can_be_named_or_narrowed_down() {
    let named = plan(&["--nodes", "worker-1,worker-5"]);
    assert_eq!(named["remove"], json!(["worker-1"]));
    assert_eq!(reason(&named, "worker-5"), "BudgetExhausted");
    let among = plan(&["--remove", "1", "--candidates", "worker-5,worker-6"]);
    assert_eq!(among["remove"], json!(["worker-6"]));
    let surged = plan(&["--nodes", "worker-5", "--surge"]);
    assert_eq!(surged["remove"], json!(["worker-5"]));
}

#[test]
fn people_get_the_same_in_words() {
    let output = run(&["--remove", "3", SAMPLE]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "Remove 2 of 3 nodes",
        "Critical budget: shop/api",
        "Wave 2",
        "remedy: reconnect it",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn bad_input_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.json");
    let item = |value: Value| {
        json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}, value]})
    };
    let pod = |node: &str, cpu: &str| {
        item(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d"}, "spec": {
            "nodeName": node, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}),
        )
    };
    let budget = |selector: Value| {
        item(
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b", "namespace": "d"},
            "spec": {"maxUnavailable": 1, "selector": selector}}),
        )
    };
    for (input, said) in [
        (json!([1, 2]), "not a Kubernetes object"),
        (
            json!({"kind": "List", "apiVersion": "v1", "items": [{"hello": 1}]}),
            "item 0 is not a Kubernetes object",
        ),
        (
            json!({"kind": "List", "apiVersion": "v1", "items": []}),
            "no Node",
        ),
        (pod("ghost", "1"), "Pod d/p runs on node \"ghost\""),
        (pod("a", "-1"), "Pod d/p: cpu in requests of container c is -1"),
        (
            pod("a", "much"),
            "Pod d/p: cpu in requests of container c is not a quantity",
        ),
        (
            budget(json!({"matchExpressions": [{"key": "app", "operator": "Like"}]})),
            "PodDisruptionBudget d/b",
        ),
        (
            item(
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d"}, "spec": 7}),
            ),
            "Pod d/p",
        ),
    ] {
        std::fs::write(&file, input.to_string()).unwrap();
        let output = run(&["--remove", "1", file.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && text.contains(said),
            "{said:?} is not in {text:?}"
        );
    }
    for (count, said) in [
        ("-1", "must be 0 or more"),
        ("99", "has 7 worker nodes"),
        ("x", "whole number"),
    ] {
        let output = run(&["--remove", count, SAMPLE]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && text.contains(said),
            "{said:?} is not in {text:?}"
        );
    }
}
