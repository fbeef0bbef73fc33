//! The pass over many workloads: nothing is promised twice.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use kurator_core::names::ClusterName;
use kurator_core::reason::{Reason, with_causes};
use kurator_core::report::Report;
use serde::{Deserialize, Serialize};

use super::decision::{Decision, Placed};
use super::index::FleetIndex;
use super::options::{Detail, PlanOptions};
use super::planner::Planner;
use super::policy::Prepared;
use super::reason::{ClusterReason, Unplaced};
use super::sub_gangs::SubGangs;
use super::workload::{Running, Workload};
use crate::api::Placement;

/// Where every workload is to run, what moves for that, and why. All by the name of the workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a plan does nothing until it is carried out"]
#[non_exhaustive]
pub struct Planned {
    /// Where each workload is to run, or why it stays as it is.
    pub placements: BTreeMap<String, Result<Placed, Unplaced>>,
    /// What changes against what runs today; a workload that does not change is not listed.
    pub moves: BTreeMap<String, Vec<Move>>,
    /// What became of each cluster, step by step; empty with [`Detail::Decision`].
    pub reasons: BTreeMap<String, Report<ClusterName, ClusterReason>>,
}

/// The change of one workload in one cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a place, and the number before and after"
)]
pub struct Move {
    /// The cluster.
    pub cluster: String,
    /// Its replicas today; `None` if the workload is not placed there.
    pub from: Option<u32>,
    /// Its replicas in the plan; `None` if the workload is to leave.
    pub to: Option<u32>,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (None, Some(to)) => write!(f, "{}: new, {to}", self.cluster),
            (Some(from), None) => write!(f, "{}: {from}, leaves", self.cluster),
            (from, to) => write!(
                f,
                "{}: {} -> {}",
                self.cluster,
                from.unwrap_or(0),
                to.unwrap_or(0)
            ),
        }
    }
}

/// Plans all workloads together.
///
/// The workloads of higher priority choose first, those of equal priority by name; what one is given is gone for the
/// next, so that many workloads that move at once never share the same room. Room that a workload leaves is not given
/// away before it is observed to be free.
///
/// `policies` and `running` are by name, of the policy and of the workload. A workload without a policy of that name,
/// or with one that cannot be used, gets an [`Unplaced`] that says so; the others are planned all the same.
///
/// The result depends on nothing but the arguments, and not on their order.
///
/// ```
/// use std::collections::BTreeMap;
/// use kurator_core::observe::{ClusterView, ResourceSummary, Snapshot};
/// use kurator_policy::api::Placement;
/// use kurator_policy::placement::{FleetIndex, PlanOptions, Workload, plan};
///
/// let sums = |pods: &str| -> Result<_, Box<dyn std::error::Error>> {
///     Ok(ResourceSummary::default().with_allocatable("pods", pods.parse()?))
/// };
/// let fleet = Snapshot::new("2026-01-02T03:04:05Z".parse()?)
///     .with_cluster(ClusterView::new("a".parse()?).with_resources(sums("10")?))
///     .with_cluster(ClusterView::new("b".parse()?).with_resources(sums("5")?));
/// let packed: Placement =
///     serde_json::from_str(r#"{"replicaScheduling": {"replicaDivisionPreference": "Aggregated"}}"#)?;
/// let policies = BTreeMap::from([("packed".to_owned(), packed)]);
/// // Fifteen workloads fail over at once, onto room for ten and for five.
/// let burst: Vec<Workload> = (0..15)
///     .map(|n| Workload::new(format!("app-{n:02}"), "apps/v1", "Deployment").with_policy("packed").with_replicas(1))
///     .collect();
///
/// let planned = plan(
///     &FleetIndex::new(&fleet), &burst, &policies, &BTreeMap::new(), fleet.taken_at(), &PlanOptions::default(),
/// );
/// let on = |cluster| -> u32 { planned.placements.values().flatten().map(|placed| placed.replicas_in(cluster)).sum() };
/// assert_eq!((on("a"), on("b")), (10, 5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn plan(
    fleet: &FleetIndex,
    workloads: &[Workload],
    policies: &BTreeMap<String, Placement>,
    running: &BTreeMap<String, Running>,
    now: Timestamp,
    options: &PlanOptions,
) -> Planned {
    Planner::new(options.clone()).plan(fleet, workloads, policies, running, now)
}

impl Planner<'_> {
    /// Plans all workloads together; see [`plan`].
    pub fn plan(
        &mut self,
        fleet: &FleetIndex,
        workloads: &[Workload],
        policies: &BTreeMap<String, Placement>,
        running: &BTreeMap<String, Running>,
        now: Timestamp,
    ) -> Planned {
        let dialect = self.options.dialect;
        let mut prepared: BTreeMap<&str, Result<Prepared, Unplaced>> = BTreeMap::new();
        let mut order: Vec<&Workload> = workloads.iter().collect();
        order.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
        let mut left = fleet.clone();
        let mut planned = Planned::default();
        let nothing = Running::default();
        for workload in order {
            let policy = prepared.entry(&workload.policy).or_insert_with(|| {
                let name = &workload.policy;
                let found = policies
                    .get(name)
                    .ok_or_else(|| Unplaced::NoPolicy { policy: name.clone() })?;
                Prepared::new(found, fleet, dialect).map_err(|error| Unplaced::InvalidPolicy {
                    policy: name.clone(),
                    problem: with_causes(&error),
                })
            });
            let today = running.get(&workload.name).unwrap_or(&nothing);
            let decision = match policy {
                Ok(policy) => {
                    let decision = self.place(&left, policy, workload, today, now);
                    if let Ok(placed) = &decision.outcome {
                        take(&mut left, policy, workload, today, placed);
                    }
                    decision
                }
                Err(unplaced) => Decision {
                    outcome: Err(unplaced.clone()),
                    reasons: Report::default(),
                },
            };
            planned.add(workload, today, decision, self.options.detail);
        }
        planned
    }
}

/// What the replicas that are new in a cluster take there.
pub(crate) fn take(
    left: &mut FleetIndex,
    policy: &Prepared,
    workload: &Workload,
    today: &Running,
    placed: &Placed,
) {
    for (cluster, replicas) in &placed.clusters {
        let here = today
            .clusters
            .iter()
            .find(|(name, _)| cluster == name.as_str())
            .map_or(0, |(_, n)| *n);
        let more = replicas.saturating_sub(here);
        let Ok(at) = left.position(cluster.as_str()) else {
            continue;
        };
        if more == 0 {
            continue;
        }
        let gang = policy.gang_of(workload);
        if let Some(gang) = &gang
            && let Some(of) = SubGangs::of(gang, workload)
        {
            let mut open = more;
            for gangs in (1..=of.whole(more)).rev() {
                let one = open.div_ceil(gangs);
                open -= one;
                left.reserve_gang(at, gang, &workload.clone().with_replicas(one), &policy.hardware);
            }
            continue;
        }
        match gang {
            Some(gang) if here == 0 => left.reserve_gang(at, &gang, workload, &policy.hardware),
            _ => left.reserve(at, workload, &policy.hardware, u64::from(more)),
        }
    }
}

impl Planned {
    fn add(&mut self, workload: &Workload, today: &Running, decision: Decision, detail: Detail) {
        if let Ok(placed) = &decision.outcome {
            let moves = moves(today, placed);
            if !moves.is_empty() {
                self.moves.insert(workload.name.clone(), moves);
            }
        }
        if detail == Detail::Full {
            self.reasons.insert(workload.name.clone(), decision.reasons);
        }
        self.placements.insert(workload.name.clone(), decision.outcome);
    }

    /// What another plan does differently, by workload: this plan is `from`, the other one is `to`.
    ///
    /// A what-if is two plans and this: plan once with the fleet as it is, once with what is to be tried.
    pub fn diff(&self, other: &Self) -> BTreeMap<String, Difference> {
        let names = self.placements.keys().chain(other.placements.keys());
        let mut differences = BTreeMap::new();
        for name in names {
            let (before, after) = (self.placements.get(name), other.placements.get(name));
            if before == after {
                continue;
            }
            let fact = |outcome: Option<&Result<Placed, Unplaced>>| match outcome {
                Some(Ok(placed)) => (placed.clusters.clone(), None),
                Some(Err(unplaced)) => (Vec::new(), Some(unplaced.clone())),
                None => (Vec::new(), None),
            };
            let ((from, failed_before), (to, failed_after)) = (fact(before), fact(after));
            let from = Running::new(from.into_iter().map(|(name, n)| (String::from(name), n)));
            let to = Placed {
                clusters: to,
                ..Placed::default()
            };
            differences.insert(
                name.clone(),
                Difference {
                    moves: moves(&from, &to),
                    failed_before,
                    failed_after,
                },
            );
        }
        differences
    }
}

/// How two plans differ about one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The change in each cluster.
    pub moves: Vec<Move>,
    /// Why the first plan does not place it.
    pub failed_before: Option<Unplaced>,
    /// Why the second plan does not place it.
    pub failed_after: Option<Unplaced>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.failed_before, &self.failed_after) {
            (Some(before), None) => writeln!(f, "can be placed now; before: {before}")?,
            (None, Some(after)) => writeln!(f, "cannot be placed any more: {after}")?,
            (Some(_), Some(after)) => writeln!(f, "still cannot be placed: {after}")?,
            (None, None) => {}
        }
        self.moves.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}

fn moves(today: &Running, placed: &Placed) -> Vec<Move> {
    let mut all: BTreeMap<&str, (Option<u32>, Option<u32>)> = BTreeMap::new();
    for (cluster, replicas) in &today.clusters {
        all.entry(cluster).or_default().0 = Some(*replicas);
    }
    for (cluster, replicas) in &placed.clusters {
        all.entry(cluster.as_str()).or_default().1 = Some(*replicas);
    }
    let changed = all.into_iter().filter(|(_, (from, to))| from != to);
    changed
        .map(|(cluster, (from, to))| Move {
            cluster: cluster.to_owned(),
            from,
            to,
        })
        .collect()
}

/// Workload by workload: where it goes, what moves, and the reason of every cluster and step.
impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, outcome) in &self.placements {
            match outcome {
                Ok(placed) => writeln!(f, "{name}: {placed}")?,
                Err(unplaced) => writeln!(f, "{name}: not placed: {}: {unplaced}", unplaced.token())?,
            }
            for change in self.moves.get(name).into_iter().flatten() {
                writeln!(f, "  move  {change}")?;
            }
            if let Some(reasons) = self.reasons.get(name) {
                for line in reasons.to_string().lines() {
                    writeln!(f, "  {line}")?;
                }
            }
        }
        Ok(())
    }
}
