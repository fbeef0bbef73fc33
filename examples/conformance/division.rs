//! Cases of the division alone.

use kurator_policy::replicas::{Assigner, Division, DivisionError, Strategy, TieOrder};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
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
}

/// What we answer: the key and the value that stand for it.
pub(crate) fn answer(case: &Value) -> Result<(&'static str, Value), Box<dyn std::error::Error>> {
    let case = Case::deserialize(case)?;
    if case.cands.is_empty() {
        return Ok(("err", json!("unschedulable")));
    }
    let mut names: Vec<&str> = case.cands.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let at = |name: &str| names.binary_search(&name).ok();
    let (mut room, mut weights, mut previous) =
        (vec![0; names.len()], vec![0; names.len()], vec![0; names.len()]);
    let mut order = Vec::new();
    for (name, available) in &case.cands {
        if let Some(position) = at(name) {
            room[position] = *available;
            order.push(u32::try_from(position)?);
        }
    }
    for (rule, weight) in &case.rules {
        for position in rule.iter().filter_map(|name| at(name)) {
            weights[position] = u64::max(weights[position], *weight);
        }
    }
    let mut previous_order = Vec::new();
    for (name, replicas) in &case.prev {
        if let Some(position) = at(name) {
            previous[position] = *replicas;
            previous_order.push(u32::try_from(position)?);
        }
    }
    let strategy = match case.strategy.as_str() {
        "Duplicated" => Strategy::Duplicated,
        "Static" | "StaticDefault" => Strategy::Static(&weights),
        "Dynamic" => Strategy::Available,
        "Aggregated" => Strategy::Aggregated,
        other => return Err(format!("strategy {other:?} is not known").into()),
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
    match assigner.assign(&division) {
        Ok(seats) => {
            let placed = names.iter().zip(seats).filter(|(_, seats)| **seats > 0);
            Ok(("want", placed.map(|(name, seats)| json!([name, seats])).collect()))
        }
        Err(DivisionError::NoRoom { .. }) => Ok(("err", json!("unschedulable"))),
        Err(error) => Err(error.into()),
    }
}
