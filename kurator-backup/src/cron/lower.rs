//! The fields as schedules of the `cron` crate, whose dialect counts seconds, numbers Sunday 1 and wants both day
//! fields to match.

use std::{fmt::Write as _, str::FromStr as _};

use chrono::{DateTime, Utc};
use cron::Schedule;
use jiff::{Timestamp, tz::TimeZone};

use super::expression::Fields;

/// One schedule, or two of which either may fire.
#[derive(Clone, Debug)]
pub(super) struct Lowered(Vec<Schedule>);

impl Lowered {
    /// `None` when the lowered text is no schedule, which no parsed fields lead to.
    pub(super) fn new(fields: &Fields) -> Option<Self> {
        let list = |values: &mut dyn Iterator<Item = u32>| {
            values.fold(String::new(), |mut text, value| {
                // Writing to a string cannot fail.
                let _ = write!(text, "{}{value}", if text.is_empty() { "" } else { "," });
                text
            })
        };
        let minutes = list(&mut fields.minute.values());
        let hours = list(&mut fields.hour.values());
        let months = list(&mut fields.month.values());
        let days = list(&mut fields.day_of_month.values());
        let weekdays = list(&mut fields.day_of_week.values().map(|day| day + 1));
        let both = [(days.as_str(), weekdays.as_str())];
        let either = [(days.as_str(), "*"), ("*", weekdays.as_str())];
        let open = fields.day_of_month.open || fields.day_of_week.open;
        let pairs: &[(&str, &str)] = if open { &both } else { &either };
        let lowered = pairs.iter().map(|(days, weekdays)| {
            Schedule::from_str(&format!("0 {minutes} {hours} {days} {months} {weekdays}"))
        });
        Some(Self(lowered.collect::<Result<_, _>>().ok()?))
    }

    /// The first instant after `after` at which the wall clock of `zone` matches.
    ///
    /// Between two changes of the clock wall time is the instant plus a constant, so each such stretch is
    /// searched by itself: a skipped wall time lies in no stretch, a repeated one in two.
    pub(super) fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut inside = after;
        let mut from = wall(after, zone)?;
        loop {
            let offset = i64::from(zone.to_offset(inside).seconds());
            let instant = Timestamp::from_second(self.wall_after(from)?.checked_sub(offset)?).ok()?;
            let change = zone
                .following(inside)
                .next()
                .map(|transition| transition.timestamp());
            match change {
                Some(change) if instant >= change => {
                    inside = change;
                    from = wall(change, zone)?.checked_sub(1)?;
                }
                _ => return Some(instant),
            }
        }
    }

    /// The first wall time after `wall` that matches, both in seconds as if in UTC.
    fn wall_after(&self, wall: i64) -> Option<i64> {
        let from = DateTime::<Utc>::from_timestamp(wall, 0)?;
        self.0
            .iter()
            .filter_map(|schedule| schedule.after(&from).next())
            .min()
            .map(|next| next.timestamp())
    }

    /// Whether any wall time in `(from, until]` matches.
    pub(super) fn matches_within(&self, from: i64, until: i64) -> bool {
        self.wall_after(from).is_some_and(|next| next <= until)
    }
}

/// The wall clock of `zone` at `instant`, in whole seconds as if in UTC.
pub(super) fn wall(instant: Timestamp, zone: &TimeZone) -> Option<i64> {
    let whole = instant.as_nanosecond().div_euclid(1_000_000_000);
    i64::try_from(whole)
        .ok()?
        .checked_add(i64::from(zone.to_offset(instant).seconds()))
}
