//! Which runs of a schedule are kept, and which are deleted.
//!
//! A pure plan over plain records. Whatever the policy says, the newest complete backup of every member is kept, and
//! so is a run under legal hold and one that has not ended.
//!
//! ```
//! use kurator_backup::{
//!     api::{ExecutionPhase, RetentionPolicy},
//!     retention::{RunRecord, plan},
//! };
//! use jiff::tz::TimeZone;
//!
//! let mut policy = RetentionPolicy::default();
//! policy.last = Some(1);
//! let run = |name: &str, at: &str, complete: &[&str]| -> Result<RunRecord, Box<dyn std::error::Error>> {
//!     let mut run = RunRecord::new(name, at.parse()?, ExecutionPhase::Completed);
//!     for cluster in complete {
//!         run.complete.insert(cluster.parse()?);
//!     }
//!     Ok(run)
//! };
//! let planned = plan(
//!     &policy,
//!     &[
//!         run("monday", "2026-11-23T03:00:00Z", &["cluster-a", "cluster-b"])?,
//!         run("tuesday", "2026-11-24T03:00:00Z", &["cluster-a"])?,
//!         run("sunday", "2026-11-22T03:00:00Z", &["cluster-a", "cluster-b"])?,
//!     ],
//!     &TimeZone::UTC,
//! );
//! assert_eq!(planned.plan, ["sunday"]);
//! assert_eq!(
//!     planned.report.to_string(),
//!     "monday   LastGood: newest complete backup of cluster-b\n\
//!      sunday   NotKept: no rule keeps it\n\
//!      tuesday  Last: number 1 of the last 1\n",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod reason;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, civil::ISOWeekDate, tz::TimeZone};
use kurator_core::{names::ClusterName, plan::Planned, report::Report};

pub use self::{
    check::{Loss, check},
    reason::KeepReason,
};
use crate::api::{ExecutionPhase, RetentionPolicy};

/// What retention must know of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunRecord {
    /// Name of the execution, unique among the records.
    pub name: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Where it is.
    pub phase: ExecutionPhase,
    /// Whether it is under legal hold.
    pub hold: bool,
    /// Members whose backup is complete.
    pub complete: BTreeSet<ClusterName>,
    /// Members whose backup misses items but can be restored from.
    pub partial: BTreeSet<ClusterName>,
}

impl RunRecord {
    /// A run without any backup.
    pub fn new(name: impl Into<String>, started_at: Timestamp, phase: ExecutionPhase) -> Self {
        Self {
            name: name.into(),
            started_at,
            phase,
            hold: false,
            complete: BTreeSet::new(),
            partial: BTreeSet::new(),
        }
    }
}

/// The runs to delete, oldest first, and why each run is kept or not.
///
/// Days, weeks and months are those of `zone`; the newest run of one that met its success rule stands for it, or the
/// newest that can be restored from if none did. A run that failed is deleted as soon as a newer one has ended.
pub fn plan(
    policy: &RetentionPolicy,
    runs: &[RunRecord],
    zone: &TimeZone,
) -> Planned<Vec<String>, Report<String, KeepReason>> {
    let mut sorted: Vec<&RunRecord> = runs.iter().collect();
    sorted.sort_by(|a, b| (b.started_at, &b.name).cmp(&(a.started_at, &a.name)));
    let mut kept: BTreeMap<&str, KeepReason> = BTreeMap::new();
    let ended: Vec<&RunRecord> = sorted
        .iter()
        .copied()
        .filter(|run| run.phase.has_ended())
        .collect();
    for run in &sorted {
        if run.hold {
            kept.insert(&run.name, KeepReason::Held);
        } else if !run.phase.has_ended() && run.phase != ExecutionPhase::Deleting {
            kept.insert(&run.name, KeepReason::NotEnded);
        }
    }
    let usable: Vec<&RunRecord> = ended
        .iter()
        .copied()
        .filter(|run| !run.complete.is_empty() || !run.partial.is_empty())
        .collect();
    by_count(policy, &usable, zone, &mut kept);
    last_good(&usable, &mut kept);
    if let Some(newest) = ended.first() {
        // The newest failure tells why there is no backup.
        kept.entry(&newest.name).or_insert(KeepReason::Newest);
    }
    let mut report = Report::default();
    let mut delete = Vec::new();
    for run in sorted.iter().rev() {
        match kept.remove(run.name.as_str()) {
            Some(reason) => report.add(run.name.clone(), reason),
            None => {
                report.add(run.name.clone(), KeepReason::NotKept);
                delete.push(run.name.clone());
            }
        }
    }
    Planned::new(delete, report)
}

fn by_count<'a>(
    policy: &RetentionPolicy,
    usable: &[&'a RunRecord],
    zone: &TimeZone,
    kept: &mut BTreeMap<&'a str, KeepReason>,
) {
    let size = |count: Option<u32>| usize::try_from(count.unwrap_or(0)).unwrap_or(usize::MAX);
    for (index, run) in usable.iter().take(size(policy.last)).enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let of = policy.last.unwrap_or_default();
        kept.entry(&run.name).or_insert(KeepReason::Last { number, of });
    }
    type Period = fn(&Timestamp, &TimeZone) -> (i32, i32);
    let day: Period = |at, zone| {
        let date = at.to_zoned(zone.clone()).date();
        (i32::from(date.year()), i32::from(date.day_of_year()))
    };
    let week: Period = |at, zone| {
        let week: ISOWeekDate = at.to_zoned(zone.clone()).date().iso_week_date();
        (i32::from(week.year()), i32::from(week.week()))
    };
    let month: Period = |at, zone| {
        let date = at.to_zoned(zone.clone()).date();
        (i32::from(date.year()), i32::from(date.month()))
    };
    let rules: [(Option<u32>, Period, KeepReason); 3] = [
        (policy.daily, day, KeepReason::Daily),
        (policy.weekly, week, KeepReason::Weekly),
        (policy.monthly, month, KeepReason::Monthly),
    ];
    for (count, period, reason) in rules {
        // Newest first, so the first good run of a period is its newest.
        let mut best: BTreeMap<(i32, i32), &RunRecord> = BTreeMap::new();
        for run in usable {
            let slot = best.entry(period(&run.started_at, zone)).or_insert(run);
            if slot.phase != ExecutionPhase::Completed && run.phase == ExecutionPhase::Completed {
                *slot = run;
            }
        }
        for run in best.values().rev().take(size(count)) {
            kept.entry(&run.name).or_insert_with(|| reason.clone());
        }
    }
}

/// The newest complete backup of every member, or the newest at all where none is complete.
fn last_good<'a>(usable: &[&'a RunRecord], kept: &mut BTreeMap<&'a str, KeepReason>) {
    let members: BTreeSet<&ClusterName> = usable
        .iter()
        .flat_map(|run| run.complete.iter().chain(&run.partial))
        .collect();
    for cluster in members {
        let complete = usable.iter().find(|run| run.complete.contains(cluster));
        let any = usable.iter().find(|run| run.partial.contains(cluster));
        if let Some(run) = complete.or(any) {
            kept.entry(&run.name).or_insert_with(|| KeepReason::LastGood {
                cluster: cluster.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
