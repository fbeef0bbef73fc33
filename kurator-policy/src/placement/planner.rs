//! The pass over one workload: filter, estimate, select, divide.

use kurator_core::names::ClusterName;
use kurator_core::reason::Reason;
use kurator_core::report::Report;
use serde::{Deserialize, Serialize};

use super::bits::Bits;
use super::capacity;
use super::divide::{TierDivider, Tiered};
use super::filter::Question;
use super::index::FleetIndex;
use super::options::{Detail, Dialect, PlanOptions};
use super::plugins::{Filter, Plugins, ReplicaEstimator, Score};
use super::policy::{Group, How, Prepared};
use super::reason::{ClusterReason, Limit, ShareOf, Unplaced};
use super::select::{self, Field};
use super::workload::{Running, Workload};
use crate::replicas::TieOrder;

/// Where a workload is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Placed {
    /// The clusters by name, each with its replicas; 0 for an object that has none.
    pub clusters: Vec<(ClusterName, u32)>,
    /// The affinity group they were chosen from, if the policy has groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
}

impl Placed {
    /// The replicas in all clusters together.
    pub fn replicas(&self) -> u64 {
        self.clusters
            .iter()
            .map(|(_, replicas)| u64::from(*replicas))
            .sum()
    }

    /// The replicas in one cluster, 0 if it is not among them.
    pub fn replicas_in(&self, cluster: &str) -> u32 {
        let found = self.clusters.iter().find(|(name, _)| name.as_str() == cluster);
        found.map_or(0, |(_, replicas)| *replicas)
    }
}

/// What was decided about one workload, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a decision places nothing until it is carried out"]
#[non_exhaustive]
pub struct Decision {
    /// Where it is to run, or why it stays as it is.
    pub outcome: Result<Placed, Unplaced>,
    /// What became of each cluster, step by step; empty with [`Detail::Decision`].
    pub reasons: Report<ClusterName, ClusterReason>,
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.outcome {
            Ok(placed) => {
                f.write_str("placed:")?;
                for (cluster, replicas) in &placed.clusters {
                    write!(f, " {cluster}={replicas}")?;
                }
                if let Some(affinity) = &placed.affinity {
                    write!(f, " (affinity group {affinity})")?;
                }
                writeln!(f)?;
            }
            Err(unplaced) => writeln!(f, "not placed: {}: {unplaced}", unplaced.token())?,
        }
        self.reasons.fmt(f)
    }
}

/// Places workloads one by one; keeps its working memory between them.
///
/// The pass is a pure function of its arguments: the same fleet, policy and workload give the same decision, whatever
/// was placed before and in whatever order clusters are listed.
///
/// ```
/// use kurator_core::observe::{ClusterView, ResourceSummary, Snapshot};
/// use kurator_policy::api::Placement;
/// use kurator_policy::placement::{Dialect, FleetIndex, PlanOptions, Planner, Prepared, Running, Workload};
///
/// let sums = |cpu: &str| -> Result<_, Box<dyn std::error::Error>> {
///     Ok(ResourceSummary::default().with_allocatable("cpu", cpu.parse()?).with_allocatable("pods", "110".parse()?))
/// };
/// let fleet = Snapshot::new("2026-01-02T03:04:05Z".parse()?)
///     .with_cluster(ClusterView::new("dr".parse()?).with_resources(sums("2")?))
///     .with_cluster(ClusterView::new("prod".parse()?).with_resources(sums("6")?));
/// let placement: Placement = serde_json::from_str(
///     r#"{"replicaScheduling": {"weightPreference": {"dynamicWeight": "AvailableReplicas"}}}"#,
/// )?;
///
/// let index = FleetIndex::new(&fleet);
/// let policy = Prepared::new(&placement, &index, Dialect::Kurator)?;
/// let web = Workload::new("default/web", "apps/v1", "Deployment").with_replicas(8).with_request("cpu", "1".parse()?);
/// let decision = Planner::new(PlanOptions::default()).place(&index, &policy, &web, &Running::default());
/// let placed = decision.outcome.map_err(|unplaced| unplaced.to_string())?;
/// assert_eq!((placed.replicas_in("prod"), placed.replicas_in("dr")), (6, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Planner<'p> {
    pub(super) options: PlanOptions,
    plugins: Plugins<'p>,
    keep: Bits,
    scratch: Bits,
    targets: Bits,
    ranked: Vec<u32>,
    tier: Vec<u8>,
    score: Vec<u64>,
    room: Vec<u64>,
    available: Vec<u64>,
    previous: Vec<u32>,
    listed: Vec<u32>,
    assigned: Vec<u32>,
    divider: TierDivider,
}

impl<'p> Planner<'p> {
    /// A planner without plug-ins.
    pub fn new(options: PlanOptions) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// Adds a filter of the host's.
    #[must_use]
    pub fn with_filter(mut self, filter: impl Filter + 'p) -> Self {
        self.plugins.filters.push(Box::new(filter));
        self
    }

    /// Adds a score of the host's.
    #[must_use]
    pub fn with_score(mut self, score: impl Score + 'p) -> Self {
        self.plugins.scores.push(Box::new(score));
        self
    }

    /// Adds an estimator of the host's.
    #[must_use]
    pub fn with_estimator(mut self, estimator: impl ReplicaEstimator + 'p) -> Self {
        self.plugins.estimators.push(Box::new(estimator));
        self
    }

    /// Places one workload.
    pub fn place(
        &mut self,
        fleet: &FleetIndex,
        policy: &Prepared,
        workload: &Workload,
        running: &Running,
    ) -> Decision {
        self.note_running(fleet, running);
        let in_use = running.affinity.as_deref().filter(|_| !running.fresh);
        let first = in_use
            .and_then(|name| {
                policy
                    .groups
                    .iter()
                    .position(|group| group.name.as_deref() == Some(name))
            })
            .unwrap_or(0);
        let mut failed = None;
        for group in policy.groups.iter().skip(first) {
            let question = Question {
                fleet,
                policy,
                group,
                workload,
                running,
                targets: &std::mem::take(&mut self.targets),
                dialect: self.options.dialect,
            };
            let outcome = self.attempt(&question);
            let mut reasons = Report::default();
            if self.options.detail == Detail::Full {
                self.give_reasons(&question, outcome.is_ok(), &mut reasons);
            }
            self.targets = question.targets.clone();
            match outcome {
                Ok(()) => {
                    let placed = self.placed(fleet, group, workload);
                    return Decision {
                        outcome: Ok(placed),
                        reasons,
                    };
                }
                // Of several groups that all fail, the first says why.
                Err(unplaced) => failed = failed.or(Some((unplaced, reasons))),
            }
        }
        let (unplaced, reasons) = failed.unwrap_or_else(|| {
            let unplaced = Unplaced::NoCluster {
                clusters: fleet.len(),
                dropped: Vec::new(),
            };
            (unplaced, Report::default())
        });
        Decision {
            outcome: Err(unplaced),
            reasons,
        }
    }

    fn note_running(&mut self, fleet: &FleetIndex, running: &Running) {
        self.previous.clear();
        self.previous.resize(fleet.len(), 0);
        self.targets = Bits::none(fleet.len());
        self.listed.clear();
        for (name, replicas) in &running.clusters {
            let Ok(at) = fleet.position(name) else { continue };
            self.targets.set(at, true);
            if let (Some(previous), Ok(position)) = (self.previous.get_mut(at), u32::try_from(at)) {
                *previous = *replicas;
                self.listed.push(position);
            }
        }
        if self.options.dialect == Dialect::Kurator {
            self.listed.sort_unstable();
        }
    }

    /// One full pass with one affinity group. What was found stays in the working memory.
    fn attempt(&mut self, question: &Question<'_>) -> Result<(), Unplaced> {
        let Question {
            fleet,
            policy,
            workload,
            ..
        } = *question;
        let mut keep = std::mem::take(&mut self.keep);
        question.filter(&mut keep, &mut self.scratch, &self.plugins);
        self.keep = keep;
        if self.keep.is_empty() {
            return Err(self.nobody(question));
        }
        let replicas = workload.replicas.unwrap_or(0);
        self.measure(question, replicas);
        self.note_tiers(question);
        let field = Field {
            tier: &self.tier,
            score: &self.score,
            available: &self.available,
        };
        select::rank(&mut self.ranked, &self.keep, &field);
        select::select(
            &mut self.ranked,
            &field,
            &policy.levels,
            &policy.how,
            replicas,
            self.options.dialect,
        )?;
        if workload.replicas.is_none() {
            self.assigned.clear();
            self.assigned.resize(fleet.len(), 0);
            return Ok(());
        }
        // What runs in clusters that are not chosen any more is to be placed again.
        let mut kept = Bits::none(fleet.len());
        for &at in &self.ranked {
            kept.set(at as usize, true);
        }
        for (at, previous) in self.previous.iter_mut().enumerate() {
            if *previous > 0 && !kept.has(at) {
                *previous = 0;
            }
        }
        let tiered = Tiered {
            how: &policy.how,
            replicas,
            ties: TieOrder::of_uid(&workload.uid),
            chosen: &self.ranked,
            tier: &self.tier,
            room: &self.room,
            previous: &self.previous,
            listed: &self.listed,
            fresh: question.running.fresh,
        };
        self.divider.divide(&tiered, &mut self.assigned)
    }

    /// Room, what is available for the selection, and scores.
    fn measure(&mut self, question: &Question<'_>, replicas: u32) {
        let Question {
            fleet,
            workload,
            targets,
            running,
            ..
        } = *question;
        if workload.replicas.is_some() {
            capacity::fill(&mut self.room, &self.keep, fleet, workload, self.options.dialect);
        } else {
            // What has no replicas fits everywhere.
            self.room.clear();
            self.room.resize(fleet.len(), u64::MAX);
        }
        self.available.clear();
        self.available.resize(fleet.len(), 0);
        self.score.clear();
        self.score.resize(fleet.len(), 0);
        let runs = running.clusters.iter().any(|(_, replicas)| *replicas > 0);
        for at in self.keep.iter() {
            let (Some(room), Some(name)) = (self.room.get_mut(at), fleet.names.get(at)) else {
                continue;
            };
            for estimate in self
                .plugins
                .estimators
                .iter()
                .filter_map(|own| own.room(workload, name))
            {
                *room = (*room).min(estimate);
            }
            if *room == u64::MAX {
                // No opinion at all: room for everything.
                *room = u64::from(replicas);
            }
            if self.options.dialect == Dialect::Kurator && fleet.unready.has(at) {
                *room = 0;
            }
            if let (Some(available), Some(&previous)) = (self.available.get_mut(at), self.previous.get(at)) {
                *available = room.saturating_add(u64::from(previous));
            }
            if let Some(score) = self.score.get_mut(at) {
                let host: u64 = self
                    .plugins
                    .scores
                    .iter()
                    .fold(0, |sum, own| sum.saturating_add(own.score(workload, name)));
                *score = host.saturating_add(if runs && targets.has(at) { 100 } else { 0 });
            }
        }
    }

    fn note_tiers(&mut self, question: &Question<'_>) {
        self.tier.clear();
        self.tier.resize(question.fleet.len(), 0);
        for (number, tier) in question.group.tiers.iter().enumerate().skip(1) {
            for at in tier.iter() {
                if let (Some(slot), Ok(number)) = (self.tier.get_mut(at), u8::try_from(number)) {
                    *slot = number;
                }
            }
        }
    }

    fn placed(&self, fleet: &FleetIndex, group: &Group, workload: &Workload) -> Placed {
        let mut clusters: Vec<(ClusterName, u32)> = self
            .ranked
            .iter()
            .filter_map(|&at| {
                let replicas = self.assigned.get(at as usize).copied().unwrap_or(0);
                (replicas > 0 || workload.replicas.is_none())
                    .then(|| fleet.names.get(at as usize).map(|name| (name.clone(), replicas)))
                    .flatten()
            })
            .collect();
        clusters.sort_unstable();
        Placed {
            clusters,
            affinity: group.name.clone(),
        }
    }

    fn nobody(&self, question: &Question<'_>) -> Unplaced {
        let mut dropped = std::collections::BTreeMap::<String, usize>::new();
        if self.options.detail == Detail::Full {
            for at in 0..question.fleet.len() {
                if let Some(reason) = question.objection(at, &self.plugins) {
                    *dropped.entry(reason.token().to_owned()).or_default() += 1;
                }
            }
        }
        Unplaced::NoCluster {
            clusters: question.fleet.len(),
            dropped: dropped.into_iter().collect(),
        }
    }

    fn give_reasons(
        &self,
        question: &Question<'_>,
        divided: bool,
        reasons: &mut Report<ClusterName, ClusterReason>,
    ) {
        let Question {
            fleet,
            workload,
            policy,
            running,
            ..
        } = *question;
        let kept = |at: usize| self.keep.has(at);
        let runs: u64 = self.previous.iter().map(|&replicas| u64::from(replicas)).sum();
        let wanted = u64::from(workload.replicas.unwrap_or(0));
        let chosen = {
            let mut chosen = Bits::none(fleet.len());
            for &at in &self.ranked {
                chosen.set(at as usize, true);
            }
            chosen
        };
        let total: u64 = match &policy.how {
            How::Static(weights) => chosen
                .iter()
                .filter_map(|at| weights.get(at))
                .fold(0, |sum, w| sum.saturating_add(*w)),
            _ => 0,
        };
        for (at, name) in fleet.names.iter().enumerate() {
            if !kept(at) {
                if let Some(objection) = question.objection(at, &self.plugins) {
                    reasons.add(name.clone(), objection);
                }
                continue;
            }
            if workload.replicas.is_some() && !matches!(policy.how, How::Static(_) | How::Duplicated) {
                let room = self.room.get(at).copied().unwrap_or(0);
                let limit = if self.options.dialect == Dialect::Kurator && fleet.unready.has(at) {
                    Limit::NotReady
                } else {
                    capacity::limit(at, room, fleet, workload)
                };
                reasons.add(
                    name.clone(),
                    ClusterReason::Room {
                        replicas: room,
                        limit,
                    },
                );
            }
            if !divided {
                continue;
            }
            if !chosen.has(at) {
                reasons.add(name.clone(), ClusterReason::Outranked { group: None });
                continue;
            }
            let share = match &policy.how {
                _ if workload.replicas.is_none() => ShareOf::NotDivided,
                How::Duplicated => ShareOf::Copy,
                How::Static(weights) => match weights.get(at) {
                    Some(&weight) if total > 0 => ShareOf::Weight { weight, total },
                    _ => ShareOf::Weight {
                        weight: 1,
                        total: chosen.count() as u64,
                    },
                },
                _ if running.fresh => ShareOf::Fresh,
                _ if runs == wanted => ShareOf::Kept,
                _ if runs < wanted => ShareOf::Grown,
                _ => ShareOf::Shrunk,
            };
            let replicas = self.assigned.get(at).copied().unwrap_or(0);
            let previous = running
                .clusters
                .iter()
                .find(|(cluster, _)| name == cluster.as_str())
                .map_or(0, |(_, replicas)| *replicas);
            reasons.add(
                name.clone(),
                ClusterReason::Assigned {
                    replicas,
                    previous,
                    share,
                },
            );
        }
    }
}
