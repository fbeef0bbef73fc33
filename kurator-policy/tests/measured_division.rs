//! The division agrees with every measured case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use kurator_policy::replicas::{Assigner, Division, DivisionError, Strategy, TieOrder};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize, Debug)]
struct Case {
    id: u32,
    tag: String,
    strategy: String,
    #[serde(default)]
    fresh: bool,
    #[serde(default)]
    uid: String,
    replicas: u32,
    cands: Vec<(String, u64)>,
    #[serde(default)]
    rules: Vec<(Vec<String>, u64)>,
    #[serde(default)]
    prev: Vec<(String, u32)>,
    #[serde(default)]
    want: Vec<(String, u32)>,
    want_stable: Option<Vec<(String, u32)>>,
    #[serde(default)]
    err: serde_json::Value,
}

fn assign(case: &Case) -> Result<BTreeMap<String, u32>, DivisionError> {
    let mut names: Vec<&str> = case.cands.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let at = |name: &str| names.binary_search(&name).ok();
    let mut room = vec![0; names.len()];
    let mut weights = vec![0; names.len()];
    let mut previous = vec![0; names.len()];
    let order: Vec<u32> = case
        .cands
        .iter()
        .map(|(name, _)| at(name).unwrap() as u32)
        .collect();
    for (name, available) in &case.cands {
        room[at(name).unwrap()] = *available;
    }
    for (rule, weight) in &case.rules {
        for name in rule.iter().filter_map(|name| at(name)) {
            weights[name] = u64::max(weights[name], *weight);
        }
    }
    let mut previous_order = vec![];
    for (name, replicas) in &case.prev {
        if let Some(position) = at(name) {
            previous[position] = *replicas;
            previous_order.push(position as u32);
        }
    }
    let strategy = match case.strategy.as_str() {
        "Duplicated" => Strategy::Duplicated,
        "Static" | "StaticDefault" => Strategy::Static(&weights),
        "Dynamic" => Strategy::Available,
        "Aggregated" => Strategy::Aggregated,
        other => panic!("strategy {other}"),
    };
    let division = Division {
        strategy,
        replicas: case.replicas,
        ties: TieOrder::of_uid(&case.uid),
        room: &room,
        previous: &previous,
        fresh: case.fresh,
        order: &order,
        previous_order: &previous_order,
    };
    let mut assigner = Assigner::default();
    let seats = assigner.assign(&division)?;
    Ok(names
        .iter()
        .zip(seats)
        .filter(|(_, s)| **s > 0)
        .map(|(n, s)| ((*n).to_owned(), *s))
        .collect())
}

#[test]
fn every_measured_division_is_reproduced() {
    let file: File = serde_json::from_str(include_str!("data/replica-division.json")).unwrap();
    assert_eq!(file.cases.len(), 300);
    let mut differing = vec![];
    for case in &file.cases {
        let failed = case.err == true || case.err.is_string();
        let got = assign(case);
        let agrees = match &got {
            Err(DivisionError::NoRoom { .. }) => failed,
            Err(_) => false,
            Ok(got) => {
                let want = case.want_stable.as_ref().unwrap_or(&case.want);
                let want: BTreeMap<String, u32> = want.iter().filter(|(_, r)| *r > 0).cloned().collect();
                // Where a 32-bit sum wrapped, the measured function saw too little room.
                let wrapped = case.cands.iter().map(|(_, room)| room).sum::<u64>() > i32::MAX as u64;
                (!failed && *got == want) || (failed && wrapped)
            }
        };
        if !agrees {
            differing.push(format!("{} {}: {:?}\n{:?}", case.id, case.tag, got, case));
        }
    }
    assert!(
        differing.is_empty(),
        "{} differ, the first: {}",
        differing.len(),
        differing[0]
    );
}
