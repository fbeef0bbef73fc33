//! The pass over one workload: filter, estimate, select, divide.

mod gangs;
mod measure;
mod reasons;

use std::borrow::Cow;

use jiff::Timestamp;
use kurator_core::names::ClusterName;
use kurator_core::report::Report;

use super::bits::Bits;
use super::bounded::{self, approach};
use super::decision::{Decision, Placed};
use super::divide::{TierDivider, Tiered};
use super::filter::Question;
use super::gang_fit::Fit;
use super::index::FleetIndex;
use super::options::{Detail, Dialect, PlanOptions};
use super::plugins::{Filter, Plugins, ReplicaEstimator, Score};
use super::policy::{Group, How, Prepared};
use super::reason::Unplaced;
use super::rebalance::{budget, rebalance, stable};
use super::select::{self, Field};
use super::sub_gangs::SubGangs;
use super::workload::{Running, Workload};
use crate::api::Rebalancing;
use crate::replicas::TieOrder;

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
/// let decision = Planner::new(PlanOptions::default()).place(&index, &policy, &web, &Running::default(), fleet.taken_at());
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
    missing: u32,
    moving: u32,
    keep_only: Option<Bits>,
    /// Clusters a gang was tried in, and how it fits there.
    gang_fits: Vec<(u32, Fit)>,
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

    /// Places one workload. `now` matters only to policies that rebalance.
    pub fn place(
        &mut self,
        fleet: &FleetIndex,
        policy: &Prepared,
        workload: &Workload,
        running: &Running,
        now: Timestamp,
    ) -> Decision {
        let by_policy;
        let workload = match policy.gang_of(workload) {
            Some(Cow::Owned(gang)) => {
                by_policy = workload.clone().with_gang(gang);
                &by_policy
            }
            _ => workload,
        };
        let in_use = running.affinity.as_deref().filter(|_| !running.fresh);
        let first = in_use
            .and_then(|name| {
                policy
                    .groups
                    .iter()
                    .position(|group| group.name.as_deref() == Some(name))
            })
            .unwrap_or(0);
        let rebalancing = policy
            .limits
            .as_ref()
            .and_then(|limits| limits.rebalancing.as_ref());
        // A gang moves whole or not at all.
        let may_move = |rebalancing: &&Rebalancing| match workload.replicas {
            Some(replicas) => workload.gang.is_none() || budget(rebalancing, replicas) >= replicas,
            None => false,
        };
        if let Some(rebalancing) = rebalancing.filter(may_move) {
            let stable = stable(fleet, rebalancing, now);
            for group in policy.groups.iter().take(first) {
                if let Some(decision) = self.go_back(fleet, policy, group, workload, running, &stable) {
                    return decision;
                }
            }
        }
        let stable = rebalancing.map(|rebalancing| stable(fleet, rebalancing, now));
        let mut failed = None;
        for group in policy.groups.iter().skip(first) {
            self.note_running(fleet, running);
            let targets = self.targets.clone();
            let dialect = self.options.dialect;
            let question = Question {
                fleet,
                policy,
                group,
                workload,
                running,
                targets: &targets,
                dialect,
            };
            let outcome = self.attempt(&question, stable.as_ref());
            let mut reasons = Report::default();
            if self.options.detail == Detail::Full {
                self.give_reasons(&question, outcome.is_ok(), &mut reasons);
            }
            match outcome {
                Ok(()) => {
                    return Decision {
                        outcome: Ok(self.placed(fleet, group, workload)),
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

    /// Moves a part of what runs to an affinity group before the one in use; `None` if it cannot have the workload.
    fn go_back(
        &mut self,
        fleet: &FleetIndex,
        policy: &Prepared,
        group: &Group,
        workload: &Workload,
        running: &Running,
        stable: &Bits,
    ) -> Option<Decision> {
        let replicas = workload.replicas?;
        let fresh = Running {
            fresh: true,
            ..running.clone()
        };
        self.note_running(fleet, running);
        let today = self.previous.clone();
        if today.iter().map(|&replicas| u64::from(replicas)).sum::<u64>() != u64::from(replicas) {
            return None;
        }
        let targets = self.targets.clone();
        let dialect = self.options.dialect;
        let question = Question {
            fleet,
            policy,
            group,
            workload,
            running: &fresh,
            targets: &targets,
            dialect,
        };
        self.keep_only = Some(stable.clone());
        let outcome = self.attempt(&question, Some(stable));
        self.keep_only = None;
        outcome.ok()?;
        let rebalancing = policy.limits.as_ref()?.rebalancing.as_ref()?;
        self.moving = approach(
            &today,
            &mut self.assigned,
            budget(rebalancing, replicas),
            TieOrder::of_uid(&workload.uid),
        );
        let mut reasons = Report::default();
        if self.options.detail == Detail::Full {
            self.give_reasons(&question, true, &mut reasons);
        }
        let mut placed = self.placed(fleet, group, workload);
        placed.clusters = named(fleet, &self.assigned);
        if self.moving > 0 {
            placed.affinity.clone_from(&running.affinity);
        }
        Some(Decision {
            outcome: Ok(placed),
            reasons,
        })
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
    fn attempt(&mut self, question: &Question<'_>, stable: Option<&Bits>) -> Result<(), Unplaced> {
        let workload = question.workload;
        let mut keep = std::mem::take(&mut self.keep);
        question.filter(&mut keep, &mut self.scratch, &self.plugins);
        if let Some(only) = &self.keep_only {
            keep.and(only);
        }
        self.keep = keep;
        (self.missing, self.moving) = (0, 0);
        if self.keep.is_empty() {
            return Err(self.nobody(question));
        }
        let replicas = workload.replicas.unwrap_or(0);
        self.measure(question, replicas);
        if let Some(gang) = &workload.gang {
            return match SubGangs::of(gang, workload) {
                Some(of) => self.place_sub_gangs(question, gang, of),
                None => self.place_gang(question),
            };
        }
        self.choose_and_divide(question, replicas, stable)
    }

    /// Chooses clusters of those that are kept, and divides so many replicas, or gangs, among them.
    fn choose_and_divide(
        &mut self,
        question: &Question<'_>,
        replicas: u32,
        stable: Option<&Bits>,
    ) -> Result<(), Unplaced> {
        let Question {
            fleet,
            policy,
            workload,
            ..
        } = *question;
        self.note_tiers(question);
        if policy.how == How::Duplicated && !policy.hardware.liked.is_empty() {
            self.keep_what_is_liked(question, replicas);
        }
        let field = Field {
            tier: &self.tier,
            score: &self.score,
            available: &self.available,
        };
        // Where nobody has to be chosen or taken first, the order of the names does.
        if policy.levels.is_empty() && policy.how != How::Aggregated {
            self.ranked.clear();
            self.ranked
                .extend(self.keep.iter().filter_map(|at| u32::try_from(at).ok()));
        } else {
            select::rank(&mut self.ranked, &self.keep, &field);
        }
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
            every_strategy: self.options.dialect == Dialect::Karmada && question.group.tiers.len() > 1,
        };
        let Some(limits) = &policy.limits else {
            return self.divider.divide(&tiered, &mut self.assigned);
        };
        let divided = bounded::divide(&tiered, limits, fleet)?;
        self.missing = divided.missing;
        self.assigned = divided.assigned;
        if let (Some(rebalancing), Some(stable)) = (&limits.rebalancing, stable) {
            self.moving = rebalance(&tiered, limits, fleet, rebalancing, stable, &mut self.assigned);
        }
        Ok(())
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
            missing: self.missing,
            moving: self.moving,
        }
    }
}

fn named(fleet: &FleetIndex, assigned: &[u32]) -> Vec<(ClusterName, u32)> {
    let pairs = fleet.names.iter().cloned().zip(assigned.iter().copied());
    pairs.filter(|(_, replicas)| *replicas > 0).collect()
}
