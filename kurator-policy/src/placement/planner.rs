//! The pass over one workload: filter, estimate, select, divide.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use kurator_core::names::ClusterName;
use kurator_core::reason::Reason;
use kurator_core::report::Report;
use serde::{Deserialize, Serialize};

use super::bits::Bits;
use super::bounded::{self, approach};
use super::capacity;
use super::divide::{TierDivider, Tiered};
use super::filter::Question;
use super::gang::Gang;
use super::gang_fit::{self, Fit};
use super::index::FleetIndex;
use super::options::{Detail, Dialect, PlanOptions};
use super::plugins::{Filter, Plugins, ReplicaEstimator, Score};
use super::policy::{Group, How, Prepared};
use super::reason::{ClusterReason, Unplaced};
use super::rebalance::{budget, rebalance, stable};
use super::select::{self, Field};
use super::sub_gangs::{self, SubGangs};
use super::workload::{Running, Workload};
use crate::api::Rebalancing;
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
    /// Replicas that found no place, where the policy allows to place a part.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: u32,
    /// Replicas that are still to move in later passes, where the policy rebalances.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub moving: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u32) -> bool {
    *count == 0
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

/// `cluster=replicas` by name, and what is special about it.
impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (cluster, replicas)) in self.clusters.iter().enumerate() {
            write!(f, "{}{cluster}={replicas}", if index == 0 { "" } else { " " })?;
        }
        if let Some(affinity) = &self.affinity {
            write!(f, " (affinity group {affinity})")?;
        }
        if self.missing > 0 {
            write!(f, ", {} find no room", self.missing)?;
        }
        if self.moving > 0 {
            write!(f, ", {} still to move", self.moving)?;
        }
        Ok(())
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(placed) => writeln!(f, "placed: {placed}")?,
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
/// let decision = Planner::new(PlanOptions::default()).place(&index, &policy, &web, &Running::default(), fleet.taken_at());
/// let placed = decision.outcome.map_err(|unplaced| unplaced.to_string())?;
/// assert_eq!((placed.replicas_in("prod"), placed.replicas_in("dr")), (6, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Planner<'p> {
    pub(super) options: PlanOptions,
    pub(super) plugins: Plugins<'p>,
    pub(super) keep: Bits,
    scratch: Bits,
    targets: Bits,
    pub(super) ranked: Vec<u32>,
    tier: Vec<u8>,
    score: Vec<u64>,
    pub(super) room: Vec<u64>,
    available: Vec<u64>,
    pub(super) previous: Vec<u32>,
    listed: Vec<u32>,
    pub(super) assigned: Vec<u32>,
    missing: u32,
    moving: u32,
    keep_only: Option<Bits>,
    /// Clusters a gang was tried in, and how it fits there.
    pub(super) gang_fits: Vec<(u32, Fit)>,
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

    /// A copy goes to the hardware that is liked most only: what is liked less is for when nothing better has the room.
    /// Where it runs it stays, and what is liked as much joins in.
    fn keep_what_is_liked(&mut self, question: &Question<'_>, replicas: u32) {
        let tier = |at: usize| self.tier.get(at).copied().unwrap_or(u8::MAX);
        let fits = |at: usize| self.room.get(at).is_some_and(|&room| room >= u64::from(replicas));
        let stays = |at: usize| question.targets.has(at) && !question.running.fresh;
        let mine = self.keep.iter().filter(|&at| stays(at)).map(tier).min();
        let best = mine
            .or_else(|| self.keep.iter().filter(|&at| fits(at)).map(tier).min())
            .or_else(|| self.keep.iter().map(tier).min());
        let Some(best) = best else { return };
        let enough = self
            .keep
            .iter()
            .any(|at| tier(at) == best && (stays(at) || fits(at)));
        let mut liked = Bits::none(question.fleet.len());
        for at in self.keep.iter() {
            liked.set(at, tier(at) == best && (!enough || stays(at) || fits(at)));
        }
        self.keep = liked;
    }

    /// Keeps a gang where it runs, or finds the first cluster that its minimum fits into.
    fn place_gang(&mut self, question: &Question<'_>) -> Result<(), Unplaced> {
        let Question {
            fleet,
            policy,
            workload,
            targets,
            ..
        } = *question;
        let Some(gang) = &workload.gang else { return Ok(()) };
        self.note_tiers(question);
        let field = Field {
            tier: &self.tier,
            score: &self.score,
            available: &self.available,
        };
        select::rank(&mut self.ranked, &self.keep, &field);
        let previous = &self.previous;
        let runs = |at: &u32| {
            targets.has(*at as usize) && previous.get(*at as usize).is_some_and(|&replicas| replicas > 0)
        };
        let mut best = Fit::default();
        self.gang_fits.clear();
        let mut home = self.ranked.iter().copied().find(runs);
        for &at in &self.ranked {
            if home.is_some() {
                break;
            }
            let ready = question.dialect == Dialect::Karmada || !fleet.unready.has(at as usize);
            let known = fleet.nodes.get(at as usize).and_then(Option::as_ref);
            let found = match known.filter(|_| ready) {
                Some(nodes) => gang_fit::fit(gang, workload, nodes, &policy.hardware),
                None => {
                    let mut found = gang_fit::fit(gang, workload, &[], &policy.hardware);
                    // One member fits where a replica does; what the nodes are matters only to several.
                    if ready && found.wanted <= 1 && self.room.get(at as usize).is_some_and(|&room| room > 0)
                    {
                        found.fit = found.wanted;
                    }
                    found
                }
            };
            if found.fit == found.wanted {
                home = Some(at);
            }
            if found.fit >= best.fit {
                best = found.clone();
            }
            self.gang_fits.push((at, found));
        }
        let Some(home) = home else {
            self.ranked.clear();
            return Err(Unplaced::Gang {
                fit: best.fit,
                wanted: best.wanted,
                lacking: best.lacking,
            });
        };
        self.ranked.clear();
        self.ranked.push(home);
        self.assigned.clear();
        self.assigned.resize(fleet.len(), 0);
        if let Some(slot) = self.assigned.get_mut(home as usize) {
            *slot = workload.replicas.unwrap_or(0);
        }
        Ok(())
    }

    /// Divides the gangs as replicas are divided, by how many of them fit, and then counts replicas again.
    fn place_sub_gangs(
        &mut self,
        question: &Question<'_>,
        gang: &Gang,
        of: SubGangs,
    ) -> Result<(), Unplaced> {
        let Question { fleet, policy, .. } = *question;
        let one = question.workload.clone().with_replicas(of.least());
        let previous = self.previous.clone();
        let room = self.room.clone();
        let clusters = &question.running.clusters;
        let total = clusters.iter().map(|(_, here)| u64::from(*here)).sum();
        self.previous = of.held(&previous, total);
        self.gang_fits.clear();
        for at in self.keep.iter() {
            let ready = question.dialect == Dialect::Karmada || !fleet.unready.has(at);
            let nodes = fleet.nodes.get(at).and_then(Option::as_deref).filter(|_| ready);
            let all = nodes.unwrap_or_default();
            let (mut fits, found) = sub_gangs::fits(gang, &one, all, &policy.hardware, of.count);
            // As for a single gang: what the nodes are matters only to several members.
            if ready && nodes.is_none() && found.wanted <= 1 {
                let replicas = room.get(at).copied().unwrap_or(0) / u64::from(of.least().max(1));
                fits = u32::try_from(replicas).unwrap_or(u32::MAX).min(of.count);
            }
            let held = self.previous.get(at).copied().unwrap_or(0);
            if fits == 0 && held == 0 {
                let at = u32::try_from(at).unwrap_or(u32::MAX);
                self.gang_fits.push((at, found));
            }
            if let Some(slot) = self.room.get_mut(at) {
                *slot = u64::from(fits);
            }
            if let Some(slot) = self.available.get_mut(at) {
                *slot = u64::from(fits) + u64::from(held);
            }
        }
        let outcome = self.choose_and_divide(question, of.count, None);
        if outcome.is_ok() {
            self.assigned = of.replicas(&self.assigned, &previous);
        }
        self.room = room;
        self.previous = previous;
        outcome.map_err(|unplaced| match unplaced {
            Unplaced::NoRoom { missing, .. } => Unplaced::SubGangs {
                fit: of
                    .count
                    .saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX)),
                wanted: of.count,
            },
            other => other,
        })
    }

    /// Room, what is available for the selection, and scores.
    fn measure(&mut self, question: &Question<'_>, replicas: u32) {
        let Question {
            fleet,
            workload,
            targets,
            ..
        } = *question;
        if workload.replicas.is_some() {
            let hardware = &question.policy.hardware;
            capacity::fill(
                &mut self.room,
                &self.keep,
                fleet,
                workload,
                hardware,
                self.options.dialect,
            );
        } else {
            // What has no replicas fits everywhere.
            self.room.clear();
            self.room.resize(fleet.len(), u64::MAX);
        }
        self.available.clear();
        self.available.resize(fleet.len(), 0);
        self.score.clear();
        self.score.resize(fleet.len(), 0);
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
                *score = host.saturating_add(if targets.has(at) { 100 } else { 0 });
            }
        }
    }

    /// Tiers in the order in which room is used up: the affinity group before what takes its overflow, and in each of
    /// them the hardware that is liked most first.
    fn note_tiers(&mut self, question: &Question<'_>) {
        self.tier.clear();
        self.tier.resize(question.fleet.len(), 0);
        let liked = &question.policy.hardware.liked;
        let tiers = &question.group.tiers;
        if liked.is_empty() {
            for (number, tier) in tiers.iter().enumerate().skip(1) {
                for at in tier.iter() {
                    if let (Some(slot), Ok(number)) = (self.tier.get_mut(at), u8::try_from(number)) {
                        *slot = number;
                    }
                }
            }
            return;
        }
        let place = |at: usize| {
            let tier = tiers.iter().position(|tier| tier.has(at)).unwrap_or(usize::MAX);
            (tier, std::cmp::Reverse(liked.get(at).copied().unwrap_or(0)))
        };
        let mut places: Vec<_> = self.keep.iter().map(place).collect();
        places.sort_unstable();
        places.dedup();
        for at in self.keep.iter() {
            let rank = places.binary_search(&place(at)).unwrap_or(0);
            if let Some(slot) = self.tier.get_mut(at) {
                *slot = u8::try_from(rank).unwrap_or(u8::MAX);
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
            missing: self.missing,
            moving: self.moving,
        }
    }
}

fn named(fleet: &FleetIndex, assigned: &[u32]) -> Vec<(ClusterName, u32)> {
    let pairs = fleet.names.iter().cloned().zip(assigned.iter().copied());
    pairs.filter(|(_, replicas)| *replicas > 0).collect()
}
