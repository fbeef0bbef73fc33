//! Schedules in the cron dialect of Kubernetes and Velero.
//!
//! Five fields (minute, hour, day of month, month, day of week), names (`JAN`, `mon`), lists, ranges and steps,
//! `?` for `*`, the descriptors `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`,
//! `@every <duration>`, and a leading `CRON_TZ=<zone>` or `TZ=<zone>`. The grammar and its meaning are those of
//! the library that Kubernetes `CronJob` and Velero up to 1.18.2 use (robfig/cron v3, `ParseStandard`).
//!
//! ```
//! use jiff::{Timestamp, tz::TimeZone};
//! use kurator_backup::cron::CronSchedule;
//!
//! let nightly: CronSchedule = "30 2 * * 1-5".parse()?;
//! let saturday: Timestamp = "2026-11-21T12:00:00Z".parse()?;
//! let monday = nightly.next_after(saturday, &TimeZone::UTC);
//! assert_eq!(monday, Some("2026-11-23T02:30:00Z".parse()?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Days
//! When both the day of month and the day of week are restricted, a day that matches **either** fires, as in
//! vixie cron. A field is unrestricted only when it holds a plain `*` or `?`; `*/2` restricts.
//!
//! # Daylight saving
//! Times are wall-clock times of the zone. A time that the clocks skip does not fire that day; a time that the
//! clocks repeat fires twice. `@every` counts real time and knows no zone.
//!
//! # Where servers disagree
//! Velero 1.18.3 changed its library, so some expressions mean something else there.
//! [`CronSchedule::disagreements`] names them for one expression.

mod disagree;
mod error;
mod expression;
mod field;
mod lower;

pub use self::{disagree::Disagreement, error::CronError, expression::CronSchedule};
