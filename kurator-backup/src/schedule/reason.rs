use std::fmt;

use jiff::Timestamp;
use kurator_core::reason::Reason;

use crate::{cron::CronError, run::PolicyError};

/// Why a schedule cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The expression is wrong.
    #[error("spec.schedule cannot be read")]
    Cron {
        /// What is wrong with it.
        #[source]
        source: CronError,
    },
    /// There is no such time zone.
    #[error("spec.timeZone {zone:?} is no time zone; expected an IANA name such as Europe/Berlin, or UTC")]
    Zone {
        /// The name.
        zone: String,
    },
    /// The starting deadline is negative.
    #[error("spec.startingDeadline is negative; expected a duration such as 30m")]
    StartingDeadline,
    /// The policy cannot be carried out.
    #[error("spec.template cannot be carried out")]
    Template {
        /// Why.
        #[source]
        source: PolicyError,
    },
}

impl Reason for ScheduleError {
    fn token(&self) -> &'static str {
        match self {
            Self::Cron { .. } => "InvalidSchedule",
            Self::Zone { .. } => "InvalidTimeZone",
            Self::StartingDeadline => "InvalidDuration",
            Self::Template { source } => source.token(),
        }
    }
}

/// What a schedule waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScheduleReason {
    /// Its next time.
    Scheduled {
        /// The next time.
        next: Timestamp,
    },
    /// The run before has not ended.
    WaitingForRun {
        /// That run.
        run: String,
        /// The time that waits.
        at: Timestamp,
    },
    /// Being resumed.
    Paused,
    /// Nothing: the expression has no further time.
    NeverAgain,
}

impl fmt::Display for ScheduleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheduled { next } => write!(f, "next run at {next}"),
            Self::WaitingForRun { run, at } => write!(f, "the run of {at} waits for {run} to end"),
            Self::Paused => f.write_str("paused"),
            Self::NeverAgain => f.write_str("the expression has no further time before the year 2100"),
        }
    }
}

impl Reason for ScheduleReason {
    fn token(&self) -> &'static str {
        match self {
            Self::Scheduled { .. } => "Scheduled",
            Self::WaitingForRun { .. } => "WaitingForRun",
            Self::Paused => "Paused",
            Self::NeverAgain => "NeverAgain",
        }
    }
}
