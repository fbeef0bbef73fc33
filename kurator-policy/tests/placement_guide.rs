//! The examples of `docs/placement.md`, run as they stand there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kurator_core::observe::{ClusterView, Health, ResourceSummary, Snapshot, Taint, TaintEffect};
use kurator_core::quantity::Quantity;
use kurator_core::reason::Reason;
use kurator_policy::api::Placement;
use kurator_policy::placement::{Dialect, FleetIndex, Planner, Prepared, Running, Workload};

const GUIDE: &str = include_str!("../../docs/placement.md");

/// The fenced blocks, as their language and text.
fn blocks() -> Vec<(&'static str, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in GUIDE.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language, String::new())),
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

/// The fleet of the table in the guide.
fn fleet() -> Snapshot {
    let rows = GUIDE.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let cpu: i64 = cells.get(4)?.parse().ok()?;
        Some((cells[1], cells[2], cells[3], cpu, cells[5]))
    });
    rows.fold(
        Snapshot::new("2026-01-02T03:04:05Z".parse().unwrap()),
        |fleet, (name, region, zone, cpu, more)| {
            let sums = ResourceSummary::default()
                .with_allocatable("cpu", Quantity::from_units(cpu))
                .with_allocatable("pods", Quantity::from_units(110));
            let view = ClusterView::new(name.parse().unwrap())
                .with_region(region)
                .with_zone(zone)
                .with_health(Health::ready())
                .with_resources(sums);
            fleet.with_cluster(if more.is_empty() {
                view
            } else {
                view.with_taint(Taint::new("maintenance", TaintEffect::NoSchedule))
            })
        },
    )
}

#[test]
fn every_policy_of_the_guide_does_what_stands_below_it() {
    let fleet = fleet();
    assert_eq!(fleet.clusters().len(), 4);
    let index = FleetIndex::new(&fleet);
    let web = Workload::new("default/web", "apps/v1", "Deployment")
        .with_replicas(12)
        .with_request("cpu", Quantity::from_units(1));
    let mut seen = 0;
    let mut wrong = Vec::new();
    for pair in blocks().chunks(2) {
        let [("yaml", policy), ("text", shown)] = pair else {
            panic!("a policy is followed by what it does: {pair:?}");
        };
        let placement: Placement = serde_saphyr::from_str(policy).unwrap();
        let prepared = Prepared::new(&placement, &index, Dialect::Kurator).unwrap();
        let decision =
            Planner::default().place(&index, &prepared, &web, &Running::default(), fleet.taken_at());
        let decided = match decision.outcome {
            Ok(placed) => placed.to_string(),
            Err(unplaced) => format!("{}: {unplaced}", unplaced.token()),
        };
        if decided != shown.trim_end() {
            wrong.push(format!("{policy}decided: {decided}\nshown:   {shown}"));
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen, 13);
}
