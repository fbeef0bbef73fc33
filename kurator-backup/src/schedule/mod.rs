//! When a schedule makes its next run: a pure plan over what is on record and which runs there are.
//!
//! A new, an edited and a resumed schedule never run at once: times are counted from the moment of the change. A run
//! has a deterministic name, so making it twice makes it once.
//!
//! ```
//! use kurator_backup::{
//!     api::{BackupPolicy, BackupScheduleSpec, BackupScheduleStatus},
//!     schedule::{Schedule, plan},
//! };
//!
//! let spec = BackupScheduleSpec::new("0 3 * * *", BackupPolicy::new("storefront".parse()?));
//! let schedule = Schedule::new("nightly", &spec)?;
//! let created = plan(&schedule, &BackupScheduleStatus::default(), &[], "2026-11-23T12:00:00Z".parse()?);
//! assert!(created.create.is_none());
//!
//! let next = plan(&schedule, &created.status, &[], "2026-11-24T03:00:01Z".parse()?);
//! let run = next.create.ok_or("it is time")?;
//! assert_eq!(run.at.to_string(), "2026-11-24T03:00:00Z");
//! assert!(run.name.starts_with("nightly-1795489200-"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod reason;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::{condition::ConditionSet, names::bounded_name};

pub use self::reason::{ScheduleError, ScheduleReason};
use crate::{
    api::{BackupScheduleSpec, BackupScheduleStatus, ConcurrencyPolicy, ExecutionPhase, MissedRuns},
    cron::CronSchedule,
    run::Prepared,
};

/// How many times are looked at to find the last missed one. An `@every 1s` that slept for longer counts on from there.
const MOST_MISSED: usize = 10_000;

/// A schedule that was read and can be followed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// The schedule as it is written.
    pub spec: BackupScheduleSpec,
    /// The zone of the fields.
    pub zone: TimeZone,
    /// Generation of the spec.
    pub generation: Option<i64>,
    cron: CronSchedule,
    deadline: SignedDuration,
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// [`ScheduleError`]: the expression, the zone or the policy is wrong.
    pub fn new(name: impl Into<String>, spec: &BackupScheduleSpec) -> Result<Self, ScheduleError> {
        let cron = CronSchedule::parse(&spec.schedule).map_err(|source| ScheduleError::Cron { source })?;
        let zone = match &spec.time_zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::Zone { zone: name.clone() })?,
        };
        Prepared::new(&spec.template).map_err(|source| ScheduleError::Template { source })?;
        let deadline = match spec.starting_deadline {
            None => SignedDuration::from_hours(1),
            Some(given) => crate::run::signed(given).ok_or(ScheduleError::StartingDeadline)?,
        };
        Ok(Self {
            name: name.into(),
            spec: spec.clone(),
            zone,
            generation: None,
            cron,
            deadline,
        })
    }

    /// Sets the generation of the spec.
    #[must_use]
    pub fn with_generation(mut self, generation: Option<i64>) -> Self {
        self.generation = generation;
        self
    }

    /// What times are counted by: another text means that the schedule was edited or paused.
    fn counted_by(&self) -> String {
        let paused = if self.spec.paused { " paused" } else { "" };
        let zone = self.spec.time_zone.as_deref().unwrap_or("UTC");
        format!("{} {zone}{paused}", self.spec.schedule)
    }

    /// The name of the run of a time: `<schedule>-<unix time>-<hash>`, at most 63 characters.
    #[must_use]
    pub fn run_name(&self, at: Timestamp) -> String {
        let unix = at.as_second().to_string();
        let full = bounded_name([self.name.as_str(), &unix]);
        let hash = full.get(full.len().saturating_sub(10)..).unwrap_or(&full);
        let room = 63_usize.saturating_sub(unix.len() + hash.len() + 2);
        let head = self.name.replace('.', "-");
        let head = head
            .get(..room.min(head.len()))
            .unwrap_or(&head)
            .trim_end_matches('-');
        format!("{head}-{unix}-{hash}")
    }
}

/// A run of a schedule, as far as scheduling must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownRun {
    /// Name of the execution.
    pub name: String,
    /// When the schedule wanted it.
    pub at: Timestamp,
    /// Where it is.
    pub phase: ExecutionPhase,
    /// Whether it was told to stop.
    pub cancelled: bool,
    /// When it began.
    pub started_at: Option<Timestamp>,
}

impl KnownRun {
    /// A run.
    pub fn new(name: impl Into<String>, at: Timestamp, phase: ExecutionPhase) -> Self {
        Self {
            name: name.into(),
            at,
            phase,
            cancelled: false,
            started_at: Some(at),
        }
    }

    fn is_going(&self) -> bool {
        !self.phase.has_ended() && self.phase != ExecutionPhase::Deleting
    }
}

/// A run to make.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewRun {
    /// Name of the execution.
    pub name: String,
    /// The time it is for.
    pub at: Timestamp,
}

/// What follows for a schedule. The runs are made and cancelled *before* the status is written: their names are
/// deterministic, and a status that says a time is dealt with must be true.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SchedulePlan {
    /// The run to make.
    pub create: Option<NewRun>,
    /// Runs to cancel.
    pub cancel: Vec<String>,
    /// The next status.
    pub status: BackupScheduleStatus,
    /// When to come back; `None` if only a change can bring the next run.
    pub wake_at: Option<Timestamp>,
    /// Why.
    pub reason: ScheduleReason,
}

/// What a schedule does now.
///
/// Pure. `runs` are the runs of this schedule, in any order.
#[must_use]
pub fn plan(
    schedule: &Schedule,
    status: &BackupScheduleStatus,
    runs: &[KnownRun],
    now: Timestamp,
) -> SchedulePlan {
    let mut next = status.clone();
    next.observed_generation = schedule.generation;
    next.last_good_at = runs
        .iter()
        .filter(|run| run.phase == ExecutionPhase::Completed)
        .filter_map(|run| run.started_at)
        .chain(status.last_good_at.as_ref().map(|at| at.0))
        .max()
        .map(Time);
    let counted_by = schedule.counted_by();
    let from = match &status.counted_from {
        Some(from) if status.counted_by == counted_by => from.0,
        _ => now,
    };
    next.counted_by = counted_by;
    next.counted_from = Some(Time(from));
    let mut planned = SchedulePlan {
        create: None,
        cancel: Vec::new(),
        status: next,
        wake_at: None,
        reason: ScheduleReason::Paused,
    };
    if schedule.spec.paused {
        planned.status.next_at = None;
        return conclude(schedule, planned, now);
    }
    let (due, passed) = due(schedule, from, now);
    match due {
        None => {}
        Some(at) if is_late(schedule, at, passed, now) => {
            planned.status.missed += passed;
            planned.status.counted_from = Some(Time(at));
        }
        Some(at) => decide(schedule, &mut planned, runs, at, passed, now),
    }
    let counted = planned.status.counted_from.as_ref().map_or(now, |at| at.0);
    let upcoming = schedule.cron.next_after(counted.max(now), &schedule.zone);
    planned.status.next_at = upcoming.map(Time);
    planned.wake_at = match (planned.wake_at, upcoming) {
        (Some(wake), Some(upcoming)) => Some(wake.min(upcoming)),
        (wake, upcoming) => wake.or(upcoming),
    };
    if !matches!(planned.reason, ScheduleReason::WaitingForRun { .. }) {
        planned.reason = match upcoming {
            Some(at) => ScheduleReason::Scheduled { next: at },
            None => ScheduleReason::NeverAgain,
        };
    }
    conclude(schedule, planned, now)
}

/// The last time that has passed since `from`, and how many have.
fn due(schedule: &Schedule, from: Timestamp, now: Timestamp) -> (Option<Timestamp>, u64) {
    let mut last = None;
    let mut passed = 0;
    let mut at = from;
    while let Some(next) = schedule.cron.next_after(at, &schedule.zone) {
        if next > now || passed >= MOST_MISSED as u64 {
            break;
        }
        passed += 1;
        last = Some(next);
        at = next;
    }
    (last, passed)
}

/// Whether a time is missed for good.
fn is_late(schedule: &Schedule, at: Timestamp, passed: u64, now: Timestamp) -> bool {
    let late = now.duration_since(at);
    // A time of the last minute is on time, whatever happens to missed ones.
    let on_time = late <= SignedDuration::from_secs(60).min(schedule.deadline);
    late > schedule.deadline || (schedule.spec.missed_runs == MissedRuns::Skip && !on_time && passed > 0)
}

fn decide(
    schedule: &Schedule,
    planned: &mut SchedulePlan,
    runs: &[KnownRun],
    at: Timestamp,
    passed: u64,
    now: Timestamp,
) {
    let name = schedule.run_name(at);
    let going: Vec<&KnownRun> = runs
        .iter()
        .filter(|run| run.is_going() && run.name != name)
        .collect();
    match schedule.spec.concurrency {
        ConcurrencyPolicy::Forbid if !going.is_empty() => {
            if let Some(first) = going.iter().min_by_key(|run| (run.at, &run.name)) {
                planned.reason = ScheduleReason::WaitingForRun {
                    run: first.name.clone(),
                    at,
                };
            }
            // The run that ends wakes us; this is for the deadline.
            planned.wake_at = at.checked_add(schedule.deadline).ok().map(|end| end.max(now));
            return;
        }
        ConcurrencyPolicy::Replace => {
            let mut cancel: Vec<String> = going
                .iter()
                .filter(|run| !run.cancelled)
                .map(|run| run.name.clone())
                .collect();
            cancel.sort();
            planned.cancel = cancel;
        }
        _ => {}
    }
    planned.status.missed += passed.saturating_sub(1);
    planned.status.counted_from = Some(Time(at));
    planned.status.last_scheduled_at = Some(Time(at));
    planned.create = Some(NewRun { name, at });
}

fn conclude(schedule: &Schedule, mut planned: SchedulePlan, now: Timestamp) -> SchedulePlan {
    let conditions = std::mem::take(&mut planned.status.conditions);
    let mut conditions = ConditionSet::new(conditions, schedule.generation, now);
    let going = !matches!(
        planned.reason,
        ScheduleReason::Paused | ScheduleReason::NeverAgain
    );
    conditions.ready(going, &planned.reason);
    planned.status.conditions = conditions.into_vec();
    planned
}

#[cfg(test)]
mod tests;
