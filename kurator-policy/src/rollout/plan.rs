use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use kurator_core::names::ClusterName;

use super::{
    history::{History, Outcome},
    member::{Health, Member},
    strategy::{Stage, Strategy},
};

/// A rollout as it stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rollout<'a> {
    /// How the change is to reach the members.
    pub strategy: &'a Strategy,
    /// The revision every member is to run.
    pub target: &'a str,
    /// The members.
    pub members: &'a BTreeMap<ClusterName, Member>,
    /// The stages somebody has approved for this target.
    pub approved: BTreeSet<String>,
    /// The revision to return to when the target fails; without one a failed rollout stops where it is.
    pub last_good: Option<&'a str>,
    /// Whether this target was rolled back before. Whoever acts on [`Verdict::RollingBack`] has to write that down,
    /// as [`History::learn`] does: once nobody runs the target any more, nothing on the members tells that it failed.
    pub condemned: bool,
}

impl<'a> Rollout<'a> {
    /// A rollout without approvals that does not roll back.
    #[must_use]
    pub fn new(strategy: &'a Strategy, target: &'a str, members: &'a BTreeMap<ClusterName, Member>) -> Self {
        Self {
            strategy,
            target,
            members,
            approved: BTreeSet::new(),
            last_good: None,
            condemned: false,
        }
    }

    /// The rollout of the revision that is wanted, with what is known of it and of those before; `None` if none is.
    #[must_use]
    pub fn resume(
        strategy: &'a Strategy,
        history: &'a History,
        members: &'a BTreeMap<ClusterName, Member>,
    ) -> Option<Self> {
        let target = history.target()?;
        let rollout = Self::new(strategy, target, members)
            .condemned(history.outcome(target) == Some(Outcome::Condemned));
        Some(match history.last_good() {
            Some(revision) => rollout.rolling_back_to(revision),
            None => rollout,
        })
    }

    /// Returns to this revision when the target fails.
    #[must_use]
    pub fn rolling_back_to(mut self, revision: &'a str) -> Self {
        self.last_good = Some(revision).filter(|revision| *revision != self.target);
        self
    }

    /// Whose target was rolled back before.
    #[must_use]
    pub fn condemned(mut self, condemned: bool) -> Self {
        self.condemned = condemned;
        self
    }

    /// With the approval of a stage.
    #[must_use]
    pub fn approving(mut self, stage: impl Into<String>) -> Self {
        self.approved.insert(stage.into());
        self
    }
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Planned {
    /// The members to give [`revision`](Self::revision), in the order of their names.
    pub update: Vec<ClusterName>,
    /// The target, or the last good revision when rolling back.
    pub revision: String,
    /// How the whole stands.
    pub verdict: Verdict,
    /// How every stage stands, in order.
    pub stages: Vec<StageReport>,
    /// When to look again although nothing happened: a soak ends or a deadline passes.
    pub wake_at: Option<Timestamp>,
}

/// How a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Every member that can be reached runs the target, proven good or failed within the limit.
    Completed,
    /// A stage is under way.
    Progressing {
        /// Its name.
        stage: String,
    },
    /// The next stage waits for somebody.
    AwaitingApproval {
        /// Its name.
        stage: String,
    },
    /// Too many members failed; nothing more is updated.
    Halted {
        /// The stage in which they failed.
        stage: String,
        /// How many failed.
        failed: usize,
        /// How many may.
        tolerated: usize,
    },
    /// Too many members failed; the members that got the target return to the last good revision.
    RollingBack {
        /// The stage in which they failed.
        stage: String,
        /// How many failed.
        failed: usize,
        /// How many may.
        tolerated: usize,
    },
    /// The target failed before and stays off the members until it changes.
    RolledBack,
}

impl Verdict {
    /// The CamelCase token for conditions, Events and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Completed => "RolloutCompleted",
            Self::Progressing { .. } => "RolloutProgressing",
            Self::AwaitingApproval { .. } => "RolloutAwaitingApproval",
            Self::Halted { .. } => "RolloutHalted",
            Self::RolledBack => "RolloutRolledBack",
            Self::RollingBack { .. } => "RolloutRollingBack",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("every member that can be reached has the revision"),
            Self::Progressing { stage } => write!(f, "stage {stage} is under way"),
            Self::AwaitingApproval { stage } => write!(f, "stage {stage} waits for an approval"),
            Self::Halted {
                stage,
                failed,
                tolerated,
            } => {
                write!(
                    f,
                    "{failed} members of stage {stage} failed, {tolerated} may; nothing more is updated"
                )
            }
            Self::RolledBack => f.write_str("the revision failed before; change it to try again"),
            Self::RollingBack {
                stage,
                failed,
                tolerated,
            } => {
                write!(
                    f,
                    "{failed} members of stage {stage} failed, {tolerated} may; the last good revision is restored"
                )
            }
        }
    }
}

/// How a stage stands: every member of it is in exactly one list, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// Have the target and are proven good.
    pub done: Vec<ClusterName>,
    /// Have the target and are healthy, but not for long enough.
    pub soaking: Vec<ClusterName>,
    /// Have the target and are not healthy yet.
    pub updating: Vec<ClusterName>,
    /// Have the target and failed, or did not become healthy in time.
    pub failed: Vec<ClusterName>,
    /// Still have another revision.
    pub waiting: Vec<ClusterName>,
    /// Cannot be reached, and for how long; they get their turn when they return.
    pub away: Vec<(ClusterName, SignedDuration)>,
    /// How many may fail.
    pub tolerated: usize,
    /// How many may be in flight.
    pub at_once: usize,
}

impl StageReport {
    /// Members that were told to change and are not proven good.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.soaking.len() + self.updating.len()
    }

    fn finished(&self) -> bool {
        self.waiting.is_empty() && self.in_flight() == 0
    }

    fn breached(&self) -> bool {
        self.failed.len() > self.tolerated
    }
}

/// One line a stage, then the verdict.
impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            writeln!(
                f,
                "{}: {} done, {} soaking, {} updating, {} failed of {} allowed, {} waiting, {} away",
                stage.name,
                stage.done.len(),
                stage.soaking.len(),
                stage.updating.len(),
                stage.failed.len(),
                stage.tolerated,
                stage.waiting.len(),
                stage.away.len()
            )?;
        }
        writeln!(f, "{}: {}", self.verdict.reason(), self.verdict)?;
        for cluster in &self.update {
            writeln!(f, "update {cluster} to {}", self.revision)?;
        }
        Ok(())
    }
}

/// Says which members get which revision now.
pub fn plan(rollout: &Rollout<'_>, now: Timestamp) -> Planned {
    let rest = Stage::new("unselected");
    let stages: Vec<&Stage> = rollout.strategy.stages.iter().chain([&rest]).collect();
    let mut reports: Vec<StageReport> = stages
        .iter()
        .map(|stage| StageReport {
            name: stage.name.clone(),
            ..StageReport::default()
        })
        .collect();
    let mut wake_at: Option<Timestamp> = None;
    let mut got_target = Vec::new();
    for (name, member) in rollout.members {
        let at = stages
            .iter()
            .position(|stage| stage.selects(&member.labels))
            .unwrap_or(stages.len() - 1);
        let (Some(stage), Some(report)) = (stages.get(at), reports.get_mut(at)) else {
            continue;
        };
        let has_target = member.revision.as_deref() == Some(rollout.target);
        if has_target {
            got_target.push(name.clone());
        }
        if let Some(since) = member.away_since {
            report
                .away
                .push((name.clone(), now.duration_since(since).max(SignedDuration::ZERO)));
            continue;
        }
        let (list, wake) = match member.health {
            _ if !has_target => (&mut report.waiting, None),
            Health::Failed { .. } => (&mut report.failed, None),
            Health::Healthy { since } => match later(since, stage.soak) {
                until if until <= now => (&mut report.done, None),
                until => (&mut report.soaking, Some(until)),
            },
            Health::Updating { since } => match later(since, rollout.strategy.progress_deadline) {
                until if until <= now => (&mut report.failed, None),
                until => (&mut report.updating, Some(until)),
            },
        };
        list.push(name.clone());
        wake_at = [wake_at, wake].into_iter().flatten().min();
    }
    // A stage nobody is in is not worth a line.
    if reports.last().is_some_and(|report| {
        report.finished() && report.done.is_empty() && report.failed.is_empty() && report.away.is_empty()
    }) {
        reports.pop();
    }
    for (stage, report) in stages.iter().zip(&mut reports) {
        let members = report.done.len()
            + report.in_flight()
            + report.failed.len()
            + report.waiting.len()
            + report.away.len();
        report.tolerated = rollout.strategy.max_failures.tolerated(members);
        report.at_once = stage.max_concurrency.at_once(members);
    }
    let (update, revision, verdict) = decide(rollout, &stages, &reports, got_target);
    Planned {
        update,
        revision,
        verdict,
        stages: reports,
        wake_at,
    }
}

fn decide(
    rollout: &Rollout<'_>,
    stages: &[&Stage],
    reports: &[StageReport],
    got_target: Vec<ClusterName>,
) -> (Vec<ClusterName>, String, Verdict) {
    let target = rollout.target.to_owned();
    if rollout.condemned {
        let Some(last_good) = rollout.last_good else {
            return (Vec::new(), target, Verdict::RolledBack);
        };
        // Also those that joined or were away: nothing else is going to reach them.
        let others = rollout.members.iter();
        let others = others.filter(|(_, member)| member.revision.as_deref() != Some(last_good));
        let update = others.map(|(name, _)| name.clone()).collect();
        return (update, last_good.to_owned(), Verdict::RolledBack);
    }
    if let Some(report) = reports.iter().find(|report| report.breached()) {
        let (stage, failed, tolerated) = (report.name.clone(), report.failed.len(), report.tolerated);
        return match rollout.last_good {
            Some(last_good) => (
                got_target,
                last_good.to_owned(),
                Verdict::RollingBack {
                    stage,
                    failed,
                    tolerated,
                },
            ),
            None => (
                Vec::new(),
                target,
                Verdict::Halted {
                    stage,
                    failed,
                    tolerated,
                },
            ),
        };
    }
    let Some((stage, report)) = stages.iter().zip(reports).find(|(_, report)| !report.finished()) else {
        return (Vec::new(), target, Verdict::Completed);
    };
    // A stage that has begun does not wait again.
    let begun = report.in_flight() + report.done.len() + report.failed.len() > 0;
    if stage.approval && !begun && !rollout.approved.contains(&stage.name) {
        return (
            Vec::new(),
            target,
            Verdict::AwaitingApproval {
                stage: stage.name.clone(),
            },
        );
    }
    let free = report.at_once.saturating_sub(report.in_flight());
    let update = report.waiting.iter().take(free).cloned().collect();
    (
        update,
        target,
        Verdict::Progressing {
            stage: stage.name.clone(),
        },
    )
}

fn later(since: Timestamp, duration: SignedDuration) -> Timestamp {
    since.checked_add(duration).unwrap_or(Timestamp::MAX)
}
