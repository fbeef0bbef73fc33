//! Which revision of a policy each member is to hold in this pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString};
use kurator_core::{names::ClusterName, observe::Snapshot, reason::Said, selector::LabelMatcher};

use super::{
    member::{Desk, Desks},
    policy::{APPROVE, Policy, RETRY},
    revisions::Kept,
};
use crate::{
    api::{
        ClusterRollout, DistributionPolicyStatus, RolloutBehavior, RolloutOutcome, RolloutPhase,
        RolloutRevision, RolloutStageStatus, RolloutStatus,
    },
    propagate::PolicyKey,
    rollout::{Health, History, Limit, Member, Outcome, Planned, Rollout, Stage, Strategy, Verdict, plan},
};

/// Whether the last change of a policy has reached every cluster that can be reached, where changes go in steps.
pub(super) const ROLLED_OUT: &str = "RolledOut";

/// How many revisions are kept where the policy does not say.
const KEPT: u32 = 10;

/// The rollout of a policy as it is written down: what was, before this pass.
pub(super) struct Journal<'a> {
    behavior: &'a RolloutBehavior,
    strategy: Strategy,
    history: History,
    told: BTreeMap<ClusterName, ClusterRollout>,
}

/// What the members are to hold.
#[derive(Debug)]
pub(super) struct Steps {
    /// The revision of each member that is to hold one.
    pub(super) assigned: BTreeMap<ClusterName, String>,
    /// The same as it is written down.
    pub(super) clusters: BTreeMap<ClusterName, ClusterRollout>,
    pub(super) status: RolloutStatus,
    /// Revisions that nobody needs any more.
    pub(super) dropped: Vec<String>,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) completed: bool,
    token: &'static str,
}

/// The revisions that some member holds or may be told to hold next.
pub(super) fn in_use(previous: Option<&DistributionPolicyStatus>) -> BTreeSet<&str> {
    let clusters = previous.into_iter().flat_map(|status| &status.clusters);
    let told = clusters.filter_map(|entry| Some(entry.rollout.as_ref()?.revision.as_str()));
    let history = previous.and_then(|status| status.rollout.as_ref());
    let good = history
        .into_iter()
        .flat_map(|rollout| rollout.revisions.iter().rev());
    let mut good = good.filter(|past| past.outcome == RolloutOutcome::Good);
    told.chain(good.next().map(|past| past.revision.as_str()))
        .collect()
}

/// What a policy says about its rollout that cannot be used.
#[derive(Debug)]
pub(super) struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> Journal<'a> {
    /// Opens it, with `target` as what is wanted from now on.
    pub(super) fn open(
        behavior: &'a RolloutBehavior,
        policy: &Policy,
        previous: Option<&DistributionPolicyStatus>,
        target: &str,
    ) -> Result<Self, Unusable> {
        let strategy = strategy(behavior)?;
        let mut history = History::default();
        let written = previous.and_then(|status| status.rollout.as_ref());
        for past in written.into_iter().flat_map(|rollout| &rollout.revisions) {
            history.restore(&past.revision, past.outcome.into());
        }
        let runs = previous
            .into_iter()
            .flat_map(|status| &status.clusters)
            .any(|entry| entry.applied_objects > 0);
        if written.is_none() && runs {
            // What runs everywhere before there were rollouts is what there is to return to.
            history.vouch(target);
        } else {
            history.want(target);
        }
        if policy.words.retry.as_deref() == Some(target) {
            history.pardon(target);
        }
        let told = previous
            .into_iter()
            .flat_map(|status| &status.clusters)
            .filter_map(|entry| Some((entry.cluster.parse().ok()?, entry.rollout.clone()?)))
            .collect();
        Ok(Self {
            behavior,
            strategy,
            history,
            told,
        })
    }

    /// The revision whose placement counts: the one that is wanted, unless it was taken back.
    pub(super) fn governing(&self) -> Option<&str> {
        let target = self.history.target()?;
        match self.history.outcome(target) {
            Some(Outcome::Condemned) => self.history.last_good().or(Some(target)),
            _ => Some(target),
        }
    }

    /// Says which member gets which revision. Tells `None` if the change has to be taken back, which from then on is so
    /// in this journal: plan again by what [governs](Self::governing) now.
    pub(super) fn step(
        &mut self,
        policy: &Policy,
        placed: BTreeSet<ClusterName>,
        kept: &Kept,
        fleet: &Snapshot,
        desks: &Desks,
        now: Timestamp,
    ) -> Option<Steps> {
        let target = self.history.target().unwrap_or_default().to_owned();
        let mut members = BTreeMap::new();
        let names = placed.into_iter().chain(self.told.keys().cloned());
        let names: BTreeSet<ClusterName> = names.filter(|name| fleet.get(name).is_some()).collect();
        let mut clusters = BTreeMap::new();
        for name in names {
            let Some(view) = fleet.get(&name) else { continue };
            let desk = desks.open(&name);
            let told = self
                .told
                .get(&name)
                .map(|told| looked_at(told, &policy.key, &desk, now));
            let mut member = Member::new(told.as_ref().map(|told| told.revision.as_str()));
            member.labels.clone_from(&view.labels);
            if let Some(told) = &told {
                member.health = told.health();
                clusters.insert(name.clone(), told.clone());
            }
            let blocked = desk.observed(&policy.key).blocked.is_some();
            if blocked || !view.health.is_ready() {
                member.away_since = Some(view.health.since.unwrap_or(now));
            }
            members.insert(name, member);
        }
        let good = self.history.outcome(&target) == Some(Outcome::Good);
        let planned = if good {
            None
        } else {
            let mut rollout = Rollout::resume(&self.strategy, &self.history, &members)?;
            for stage in policy.words.approved(&target) {
                rollout = rollout.approving(stage);
            }
            let returns = self.behavior.rolls_back() || rollout.condemned;
            rollout.last_good = rollout
                .last_good
                .filter(|last| returns && kept.contains_key(*last));
            Some(plan(&rollout, now))
        };
        if let Some(planned) = &planned {
            self.history.learn(planned);
            if matches!(planned.verdict, Verdict::RollingBack { .. }) {
                return None;
            }
        }
        let mut assigned: BTreeMap<ClusterName, String> = BTreeMap::new();
        for name in members.keys() {
            let told = clusters.get(name).map(|told| told.revision.clone());
            let update = planned
                .as_ref()
                .is_none_or(|planned| planned.update.contains(name));
            let revision = match &planned {
                Some(planned) if update => Some(planned.revision.clone()),
                None => Some(target.clone()),
                Some(_) => told.clone(),
            };
            let Some(revision) = revision else { continue };
            if told.as_deref() != Some(revision.as_str()) {
                let told = ClusterRollout {
                    revision: revision.clone(),
                    phase: RolloutPhase::Updating,
                    since: Time(now),
                };
                clusters.insert(name.clone(), told);
            }
            assigned.insert(name.clone(), revision);
        }
        let running: BTreeSet<&str> = assigned.values().map(String::as_str).collect();
        let limit = self.behavior.revision_history_limit.unwrap_or(KEPT);
        let dropped = self
            .history
            .trim(usize::try_from(limit).unwrap_or(usize::MAX), &running);
        Some(Steps {
            completed: planned.as_ref().is_none_or(|it| it.verdict == Verdict::Completed),
            token: planned
                .as_ref()
                .map_or(&Verdict::Completed, |it| &it.verdict)
                .reason(),
            wake_at: planned.as_ref().and_then(|planned| planned.wake_at),
            status: self.status(&target, planned.as_ref()),
            assigned,
            clusters,
            dropped,
        })
    }

    fn status(&self, target: &str, planned: Option<&Planned>) -> RolloutStatus {
        let revisions = self.history.revisions().iter();
        let revisions = revisions.map(|past| RolloutRevision {
            revision: past.revision.clone(),
            outcome: past.outcome.into(),
        });
        let count = |list: usize| i64::try_from(list).unwrap_or(i64::MAX);
        let stages = planned.into_iter().flat_map(|planned| &planned.stages);
        let stages = stages.map(|stage| RolloutStageStatus {
            name: stage.name.clone(),
            done: count(stage.done.len()),
            soaking: count(stage.soaking.len()),
            updating: count(stage.updating.len()),
            failed: count(stage.failed.len()),
            waiting: count(stage.waiting.len()),
            away: count(stage.away.len()),
        });
        let verdict = planned.map_or(&Verdict::Completed, |planned| &planned.verdict);
        let remedy = match verdict {
            Verdict::AwaitingApproval { stage } => {
                format!("; to approve, annotate the policy with {APPROVE}={target}/{stage}")
            }
            Verdict::RolledBack => {
                format!("; change what is wanted, or try again with the annotation {RETRY}={target}")
            }
            _ => String::new(),
        };
        RolloutStatus {
            revision: target.to_owned(),
            reason: verdict.reason().to_owned(),
            message: format!("revision {target}: {verdict}{remedy}"),
            stages: stages.collect(),
            revisions: revisions.collect(),
        }
    }
}

impl ClusterRollout {
    fn health(&self) -> Health {
        let since = self.since.0;
        match self.phase {
            RolloutPhase::Updating => Health::Updating { since },
            RolloutPhase::Healthy => Health::Healthy { since },
            RolloutPhase::Failed => Health::Failed { since },
        }
    }
}

/// What a member was told, and how it does there by now.
fn looked_at(told: &ClusterRollout, policy: &PolicyKey, desk: &Desk, now: Timestamp) -> ClusterRollout {
    let phase = desk.phase(policy).unwrap_or(told.phase);
    let since = if phase == told.phase {
        told.since.clone()
    } else {
        Time(now)
    };
    ClusterRollout {
        revision: told.revision.clone(),
        phase,
        since,
    }
}

fn strategy(behavior: &RolloutBehavior) -> Result<Strategy, Unusable> {
    let soak = SignedDuration::from_secs(i64::from(behavior.soak_seconds.unwrap_or(0)));
    let default = behavior
        .max_concurrency
        .as_ref()
        .map(|limit| self::limit("maxConcurrency", limit));
    let default = default.transpose()?;
    let mut stages = Vec::new();
    for stage in &behavior.stages {
        let field = format!("maxConcurrency of stage {}", stage.name);
        let own = stage
            .max_concurrency
            .as_ref()
            .map(|limit| self::limit(&field, limit))
            .transpose()?;
        let mut planned =
            Stage::new(&stage.name).with_concurrency(own.or(default).unwrap_or(Limit::Count(1)));
        planned.soak = stage
            .soak_seconds
            .map_or(soak, |seconds| SignedDuration::from_secs(i64::from(seconds)));
        planned.approval = stage.approval;
        if let Some(selector) = &stage.label_selector {
            planned.selector = LabelMatcher::compile(selector).map_err(|error| {
                Unusable(format!("rollout: labelSelector of stage {}: {error}", stage.name))
            })?;
        }
        stages.push(planned);
    }
    if let Some(groups) = &behavior.groups {
        let by_group = Strategy::by_group(&groups.label, groups.values.iter().map(String::as_str));
        stages.extend(by_group.stages.into_iter().map(|mut stage| {
            stage.soak = soak;
            if let Some(limit) = default {
                stage.max_concurrency = limit;
            }
            stage
        }));
    }
    if stages.is_empty() {
        let mut all = Stage::new("all").with_concurrency(default.unwrap_or(Limit::Count(1)));
        all.soak = soak;
        stages.push(all);
    }
    let mut strategy = Strategy::stages(stages);
    if let Some(seconds) = behavior.progress_deadline_seconds {
        strategy = strategy.with_progress_deadline(SignedDuration::from_secs(i64::from(seconds)));
    }
    if let Some(failures) = &behavior.max_failures {
        strategy = strategy.tolerating(limit("maxFailures", failures)?);
    }
    Ok(strategy)
}

fn limit(field: &str, value: &IntOrString) -> Result<Limit, Unusable> {
    let read = match value {
        IntOrString::Int(count) => u32::try_from(*count).ok().map(Limit::Count),
        IntOrString::String(text) => text
            .strip_suffix('%')
            .and_then(|percent| percent.parse().ok())
            .map(Limit::Percent),
    };
    read.ok_or_else(|| {
        Unusable(format!(
            "rollout: {field} must be a number from 0, or a percentage such as \"25%\""
        ))
    })
}

impl From<RolloutOutcome> for Outcome {
    fn from(outcome: RolloutOutcome) -> Self {
        match outcome {
            RolloutOutcome::Open => Self::Open,
            RolloutOutcome::Good => Self::Good,
            RolloutOutcome::Condemned => Self::Condemned,
        }
    }
}

impl From<Outcome> for RolloutOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Open => Self::Open,
            Outcome::Good => Self::Good,
            Outcome::Condemned => Self::Condemned,
        }
    }
}

impl Steps {
    /// How the rollout stands, as a condition says it.
    pub(super) fn stand(&self) -> Said {
        Said::new(self.token, &*self.status.message)
    }
}
