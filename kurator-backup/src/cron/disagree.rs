use std::fmt;

use jiff::{Timestamp, tz::TimeZone};

use super::expression::Calendar;

/// Velero changed its cron library in 1.18.3; this is what that changes for an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Disagreement {
    /// Day of month and day of week are both restricted: older servers run when either matches, newer ones only
    /// when both do.
    DayAndWeekday,
    /// A time that the clocks skip at the next change: older servers leave that day out, newer ones run when the
    /// clocks have moved.
    SkippedTime,
    /// A step as large as its range: older servers take it for the first value alone, newer ones refuse it.
    StepBeyondRange,
}

impl Disagreement {
    /// The CamelCase token for conditions, Events and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::DayAndWeekday => "CronDayAndWeekday",
            Self::SkippedTime => "CronSkippedTime",
            Self::StepBeyondRange => "CronStepBeyondRange",
        }
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DayAndWeekday => {
                "day of month and day of week are both set: Velero before 1.18.3 runs when either matches, later versions only when both do"
            }
            Self::SkippedTime => {
                "the clocks skip this time at their next change: Velero before 1.18.3 does not run on that day, later versions run right after the change"
            }
            Self::StepBeyondRange => {
                "a step is as large as its range: Velero before 1.18.3 uses the first value alone, later versions refuse the schedule"
            }
        })
    }
}

pub(super) fn of(calendar: &Calendar, now: Timestamp, zone: &TimeZone) -> Vec<Disagreement> {
    let fields = &calendar.fields;
    let mut found = Vec::new();
    if !fields.day_of_month.open && !fields.day_of_week.open {
        found.push(Disagreement::DayAndWeekday);
    }
    if zone
        .following(now)
        .take(2)
        .any(|change| skips_a_match(calendar, change.timestamp(), zone))
    {
        found.push(Disagreement::SkippedTime);
    }
    let all = [
        &fields.minute,
        &fields.hour,
        &fields.day_of_month,
        &fields.month,
        &fields.day_of_week,
    ];
    if all.iter().any(|field| field.step_beyond_range) {
        found.push(Disagreement::StepBeyondRange);
    }
    found
}

fn skips_a_match(calendar: &Calendar, change: Timestamp, zone: &TimeZone) -> bool {
    let before = change.checked_sub(jiff::SignedDuration::from_secs(1)).ok();
    let last = before.and_then(|before| super::lower::wall(before, zone));
    let first = super::lower::wall(change, zone);
    // Wall times after the last second of the old clock and before the first of the new one never happen.
    matches!((last, first), (Some(last), Some(first)) if first > last + 1 && calendar.lowered.matches_within(last, first - 1))
}
