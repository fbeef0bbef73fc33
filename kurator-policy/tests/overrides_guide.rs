//! The examples of `docs/overrides.md`, run as they stand there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kurator_core::observe::ClusterView;
use kurator_policy::{
    api::OverridePolicy,
    overrides::{BrokenTotals, OverrideReport, OverrideSet, REPLICAS},
};
use serde_json::Value;

const GUIDE: &str = include_str!("../../docs/overrides.md");

/// The fenced blocks, as their language and text.
fn blocks() -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in GUIDE.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn policies(yaml: &str) -> OverrideSet {
    let policies: Vec<OverridePolicy> = yaml
        .split("\n---\n")
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect();
    let overrides = OverrideSet::compile(&policies);
    assert!(overrides.errors().is_empty(), "{:?}", overrides.errors());
    overrides
}

#[test]
fn every_policy_of_the_guide_does_what_stands_below_it() {
    let blocks = blocks();
    let ((_, template), rest) = blocks.split_first().unwrap();
    let template: Value = serde_saphyr::from_str(template).unwrap();
    let cluster = ClusterView::new("cluster-dr".parse().unwrap()).with_label("tier", "gold");

    let mut seen = 0;
    for pair in rest.windows(2) {
        let [(yaml, policy), (text, shown)] = pair else {
            continue;
        };
        if yaml == "yaml" {
            assert_eq!(text, "text", "a policy is followed by what it does");
            let rendered = policies(policy).render(&template, &cluster).unwrap();
            assert_eq!(rendered.report.to_string(), *shown);
            seen += 1;
        }
    }
    assert_eq!(seen, 3);

    let (_, warning) = rest.last().unwrap();
    let (_, first) = &rest[0];
    let dr = policies(first).render(&template, &cluster).unwrap().report;
    let (prod, none) = ("cluster-prod".parse().unwrap(), OverrideReport::default());
    let broken = BrokenTotals::find(REPLICAS, [(&prod, 18, &none), (&cluster.name, 2, &dr)]).unwrap();
    assert_eq!(broken.to_string(), warning.trim_end());
}
