//! Our answers agree with every measured case. The `conformance` example gives the same answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeMap;

use serde_json::Value;

#[path = "../../examples/conformance/division.rs"]
mod division;
#[path = "../../examples/conformance/schedule.rs"]
mod schedule;

type Answer = Result<(&'static str, Value), Box<dyn std::error::Error>>;

/// Replicas by cluster.
fn placed(list: &Value, zeros: bool) -> BTreeMap<String, u64> {
    let pairs: Vec<(String, u64)> = serde_json::from_value(list.clone()).unwrap();
    pairs
        .into_iter()
        .filter(|(_, replicas)| zeros || *replicas > 0)
        .collect()
}

fn compare(file: &str, answer: fn(&Value) -> Answer, cases: usize, wrapped: fn(&Value) -> bool) {
    let file: Value = serde_json::from_str(file).unwrap();
    let list = file["cases"].as_array().unwrap();
    assert_eq!(list.len(), cases);
    let none = Value::Array(vec![]);
    let mut differing = vec![];
    for case in list {
        let got = answer(case).unwrap();
        let agrees = match case.get("err") {
            Some(err) if *err != Value::Bool(false) => got == ("err", err.clone()) || wrapped(case),
            _ => {
                let want = case.get("want_stable").or(case.get("want")).unwrap_or(&none);
                let zeros = case.get("workload") == Some(&Value::Bool(false));
                got.0 == "want" && placed(&got.1, zeros) == placed(want, zeros)
            }
        };
        if !agrees {
            differing.push(format!("got {got:?} for {case}"));
        }
    }
    assert!(
        differing.is_empty(),
        "{} differ: {}",
        differing.len(),
        differing.join("\n\n")
    );
}

#[test]
fn every_measured_division_is_reproduced() {
    // Where a 32-bit sum wrapped, the measured function saw too little room.
    let wrapped = |case: &Value| {
        let room: Vec<(String, u64)> = serde_json::from_value(case["cands"].clone()).unwrap();
        room.iter().map(|(_, room)| room).sum::<u64>() > i32::MAX as u64
    };
    compare(
        include_str!("data/replica-division.json"),
        division::answer,
        300,
        wrapped,
    );
}

#[test]
fn every_measured_pass_is_reproduced() {
    compare(
        include_str!("data/schedule-pass.json"),
        schedule::answer,
        150,
        |_| false,
    );
}

#[test]
fn the_rules_that_few_cases_touch_are_reproduced_too() {
    compare(
        include_str!("data/schedule-rules.json"),
        schedule::answer,
        62,
        |_| false,
    );
}
