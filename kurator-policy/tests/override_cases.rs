//! The measured cases: one object rendered for one cluster by Karmada's own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kurator_core::observe::ClusterView;
use kurator_policy::overrides::{OverrideSet, OverrideSource, karmada};
use serde_json::Value;

const CASES: &str = include_str!("data/override-render.json");

fn text(value: &Value, path: &str) -> String {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn cluster(case: &Value) -> ClusterView {
    let cluster = &case["cluster"];
    let mut view = ClusterView::new(text(cluster, "/metadata/name").parse().unwrap())
        .with_provider(text(cluster, "/spec/provider"))
        .with_region(text(cluster, "/spec/region"));
    for (key, value) in cluster["metadata"]["labels"].as_object().into_iter().flatten() {
        view = view.with_label(key, value.as_str().unwrap());
    }
    for zone in cluster["spec"]["zones"].as_array().into_iter().flatten() {
        view = view.with_zone(zone.as_str().unwrap());
    }
    view
}

fn policies(case: &Value) -> Vec<OverrideSource> {
    let each = |list: &str| case[list].as_array().cloned().unwrap_or_default().into_iter();
    let cluster_wide = each("clusterOverridePolicies")
        .map(|policy| karmada::cluster_override_policy(&text(&policy, "/name"), &policy["spec"]).unwrap());
    let namespaced = each("overridePolicies")
        .map(|policy| karmada::override_policy("ns", &text(&policy, "/name"), &policy["spec"]).unwrap());
    cluster_wide.chain(namespaced).collect()
}

#[test]
fn every_measured_case_agrees() {
    let file: Value = serde_json::from_str(CASES).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 100);
    let mut wrong = Vec::new();
    for case in cases {
        let rendered = OverrideSet::compile(policies(case)).render(&case["object"], &cluster(case));
        let expected_error = case.get("err").is_some();
        match rendered {
            Err(error) if !expected_error => wrong.push(format!("{}: {error:?}", case["id"])),
            Ok(rendered) if expected_error => {
                wrong.push(format!(
                    "{}: an error was expected\n{}",
                    case["id"], rendered.report
                ));
            }
            Ok(rendered) if rendered.object != case["want"] => wrong.push(format!(
                "{}:\n  got {}\n want {}\n{}",
                case["id"], rendered.object, case["want"], rendered.report
            )),
            _ => {}
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}
