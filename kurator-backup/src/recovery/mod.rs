//! How much would be lost, and how long would it take: recovery points and times from what could really be restored.
//!
//! Counters of runs say what was tried. This reads which complete backups exist, and which restores were verified.
//!
//! ```
//! use jiff::SignedDuration;
//! use kurator_backup::{
//!     api::ExecutionPhase,
//!     recovery::{Objectives, report},
//!     retention::RunRecord,
//! };
//!
//! let mut monday = RunRecord::new("monday", "2026-11-23T03:00:00Z".parse()?, ExecutionPhase::Completed);
//! monday.complete.extend(["cluster-a".parse()?, "cluster-b".parse()?]);
//! let mut tuesday = RunRecord::new("tuesday", "2026-11-24T03:00:00Z".parse()?, ExecutionPhase::PartiallyFailed);
//! tuesday.complete.insert("cluster-a".parse()?);
//!
//! let objectives = Objectives::default().with_recovery_point(SignedDuration::from_hours(24));
//! let members = ["cluster-a".parse()?, "cluster-b".parse()?, "cluster-c".parse()?];
//! let found = report(&members, &[monday, tuesday], &[], &objectives, "2026-11-24T12:00:00Z".parse()?);
//! assert_eq!(
//!     found.to_string(),
//!     "cluster-a  PointKept: 9h old, of tuesday; never restored\n\
//!      cluster-b  PointMissed: 33h old, of monday; 1 run without it since; never restored\n\
//!      cluster-c  NothingRestorable: no complete backup\n",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod application;

pub use self::application::{Application, ApplicationRecovery, ApplicationReport, ScopedRun, by_application};

use std::{collections::BTreeMap, fmt};

use jiff::{SignedDuration, Timestamp};
use kurator_core::{names::ClusterName, reason::Reason};
use serde::Serialize;

use crate::retention::RunRecord;

/// What was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Objectives {
    /// How old the newest complete backup of a member may be.
    pub recovery_point: Option<SignedDuration>,
    /// How long the last verified restore of a member may have taken.
    pub recovery_time: Option<SignedDuration>,
}

impl Objectives {
    /// Sets how old the newest complete backup may be.
    #[must_use]
    pub fn with_recovery_point(mut self, age: SignedDuration) -> Self {
        self.recovery_point = Some(age);
        self
    }

    /// Sets how long a restore may take.
    #[must_use]
    pub fn with_recovery_time(mut self, time: SignedDuration) -> Self {
        self.recovery_time = Some(time);
        self
    }
}

/// A restore of one member that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreRecord {
    /// The member whose backup it was.
    pub cluster: ClusterName,
    /// When it began.
    pub started_at: Timestamp,
    /// When everything was found to be there.
    pub completed_at: Timestamp,
}

impl RestoreRecord {
    /// A restore.
    #[must_use]
    pub fn new(cluster: ClusterName, started_at: Timestamp, completed_at: Timestamp) -> Self {
        Self {
            cluster,
            started_at,
            completed_at,
        }
    }
}

/// What one member could be brought back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Recovery {
    /// The run of the newest complete backup.
    pub run: Option<String>,
    /// When that backup began: what happened since is lost.
    pub point: Option<Timestamp>,
    /// How old it is.
    pub age: Option<SignedDuration>,
    /// Runs that ended after it without a complete backup of the member.
    pub missed_since: u32,
    /// How long the last verified restore took.
    pub time: Option<SignedDuration>,
    /// When that restore was.
    pub restored_at: Option<Timestamp>,
    /// Whether the objective for the recovery point is kept; `None` without one.
    pub point_kept: Option<bool>,
    /// Whether the objective for the recovery time is kept; `None` without one, or without a restore.
    pub time_kept: Option<bool>,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(run), Some(age)) = (&self.run, self.age) else {
            return f.write_str("no complete backup");
        };
        write!(f, "{} old, of {run}", Rounded(age))?;
        match self.missed_since {
            0 => {}
            1 => f.write_str("; 1 run without it since")?,
            more => write!(f, "; {more} runs without it since")?,
        }
        match self.time {
            Some(time) => write!(f, "; last restored in {}", Rounded(time)),
            None => f.write_str("; never restored"),
        }
    }
}

impl Reason for Recovery {
    fn token(&self) -> &'static str {
        match (self.run.is_some(), self.point_kept, self.time_kept) {
            (false, _, _) => "NothingRestorable",
            (true, Some(false), _) => "PointMissed",
            (true, _, Some(false)) => "TimeMissed",
            (true, Some(true), _) => "PointKept",
            (true, None, _) => "Restorable",
        }
    }
}

/// A duration in its largest whole unit.
struct Rounded(SignedDuration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            ..=119 => write!(f, "{seconds}s"),
            120..=7199 => write!(f, "{}m", seconds / 60),
            7200..=172_799 => write!(f, "{}h", seconds / 3600),
            _ => write!(f, "{}d", seconds / 86400),
        }
    }
}

/// What every member could be brought back to. Prints one line a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
#[must_use = "a report tells whether anything can be restored"]
pub struct RecoveryReport {
    members: BTreeMap<ClusterName, Recovery>,
}

impl RecoveryReport {
    /// The members, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ClusterName, &Recovery)> {
        self.members.iter()
    }

    /// One member.
    #[must_use]
    pub fn get(&self, cluster: &ClusterName) -> Option<&Recovery> {
        self.members.get(cluster)
    }

    /// The oldest recovery point: what the fleet as a whole could be brought back to. `None` if a member has none.
    #[must_use]
    pub fn fleet_point(&self) -> Option<Timestamp> {
        let points: Option<Vec<Timestamp>> = self.members.values().map(|member| member.point).collect();
        points?.into_iter().min()
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .members
            .keys()
            .map(|name| name.as_str().len())
            .max()
            .unwrap_or(0);
        self.members
            .iter()
            .try_for_each(|(name, member)| writeln!(f, "{name:width$}  {}: {member}", member.token()))
    }
}

/// What could be restored of each of `members`, whatever the order of runs and restores.
///
/// Only complete backups of runs that have ended count. Those of a run that is being deleted do not.
pub fn report(
    members: &[ClusterName],
    runs: &[RunRecord],
    restores: &[RestoreRecord],
    objectives: &Objectives,
    now: Timestamp,
) -> RecoveryReport {
    let (backups, last) = (Backups::of(runs), last_restores(restores));
    report_on(members, &backups, &last, objectives, now)
}

/// The newest complete backup of each member, and when runs were.
struct Backups<'a> {
    newest: BTreeMap<&'a ClusterName, &'a RunRecord>,
    times: Vec<Timestamp>,
}

impl<'a> Backups<'a> {
    fn of(runs: impl IntoIterator<Item = &'a RunRecord>) -> Self {
        let (mut newest, mut times) = (BTreeMap::new(), Vec::new());
        for run in runs.into_iter().filter(|run| run.phase.has_ended()) {
            times.push(run.started_at);
            for cluster in &run.complete {
                let slot: &mut &RunRecord = newest.entry(cluster).or_insert(run);
                if (run.started_at, &run.name) > (slot.started_at, &slot.name) {
                    *slot = run;
                }
            }
        }
        times.sort_unstable();
        Self { newest, times }
    }
}

/// The last verified restore of each member.
fn last_restores(restores: &[RestoreRecord]) -> BTreeMap<&ClusterName, &RestoreRecord> {
    let mut last: BTreeMap<&ClusterName, &RestoreRecord> = BTreeMap::new();
    for restore in restores {
        let slot = last.entry(&restore.cluster).or_insert(restore);
        if restore.completed_at > slot.completed_at {
            *slot = restore;
        }
    }
    last
}

fn report_on<'c>(
    members: impl IntoIterator<Item = &'c ClusterName>,
    Backups { newest, times }: &Backups<'_>,
    last: &BTreeMap<&ClusterName, &RestoreRecord>,
    objectives: &Objectives,
    now: Timestamp,
) -> RecoveryReport {
    let member = |cluster: &ClusterName| {
        let run = newest.get(cluster);
        let point = run.map(|run| run.started_at);
        let age = point.map(|point| now.duration_since(point));
        let later = point.map_or(0, |point| times.len() - times.partition_point(|at| *at <= point));
        let restore = last.get(cluster);
        let time = restore.map(|restore| restore.completed_at.duration_since(restore.started_at));
        Recovery {
            run: run.map(|run| run.name.clone()),
            point,
            age,
            missed_since: u32::try_from(later).unwrap_or(u32::MAX),
            time,
            restored_at: restore.map(|restore| restore.completed_at),
            point_kept: objectives
                .recovery_point
                .map(|most| age.is_some_and(|age| age <= most)),
            time_kept: objectives.recovery_time.and_then(|most| Some(time? <= most)),
        }
    };
    RecoveryReport {
        members: members
            .into_iter()
            .map(|cluster| (cluster.clone(), member(cluster)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ExecutionPhase;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_fleet_goes_back_to_its_oldest_point_or_to_none() {
        let name = |name: &str| -> ClusterName { name.parse().unwrap() };
        let mut old = RunRecord::new("old", at("2026-11-23T03:00:00Z"), ExecutionPhase::Completed);
        old.complete.extend([name("a"), name("b")]);
        let mut new = RunRecord::new("new", at("2026-11-24T03:00:00Z"), ExecutionPhase::Deleting);
        new.complete.extend([name("a"), name("b")]);
        let mut mid = RunRecord::new("mid", at("2026-11-23T15:00:00Z"), ExecutionPhase::PartiallyFailed);
        mid.complete.insert(name("a"));
        let now = at("2026-11-24T12:00:00Z");
        let (members, objectives) = ([name("a"), name("b")], Objectives::default());
        let found = report(
            &members,
            &[new.clone(), old.clone(), mid.clone()],
            &[],
            &objectives,
            now,
        );
        assert_eq!(found.fleet_point(), Some(old.started_at));
        assert_eq!(found.get(&name("a")).unwrap().run.as_deref(), Some("mid"));
        assert_eq!(
            found,
            report(&members, &[mid, new.clone(), old], &[], &objectives, now)
        );
        assert_eq!(
            report(&members, &[new], &[], &objectives, now).fleet_point(),
            None
        );
    }

    #[test]
    fn the_last_verified_restore_tells_the_time() {
        let cluster: ClusterName = "a".parse().unwrap();
        let restore = |from: &str, to: &str| RestoreRecord::new(cluster.clone(), at(from), at(to));
        let restores = [
            restore("2026-11-23T03:00:00Z", "2026-11-23T03:05:00Z"),
            restore("2026-11-20T03:00:00Z", "2026-11-20T04:05:00Z"),
        ];
        let objectives = Objectives::default().with_recovery_time(SignedDuration::from_mins(4));
        let mut run = RunRecord::new("r", at("2026-11-23T02:00:00Z"), ExecutionPhase::Completed);
        run.complete.insert(cluster.clone());
        let found = report(
            std::slice::from_ref(&cluster),
            &[run],
            &restores,
            &objectives,
            at("2026-11-23T04:00:00Z"),
        );
        let member = found.get(&cluster).unwrap();
        assert_eq!(
            (member.time, member.token()),
            (Some(SignedDuration::from_mins(5)), "TimeMissed")
        );
    }
}
