//! When nodes may be drained.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

/// Changes looked at before windows are taken never to open, or never to close: more than a year of hourly ones.
const CHANGES: usize = 20_000;

/// Days looked at for the next match of an expression: the 29th of February may be eight years away.
const DAYS: i64 = 8 * 366 + 7;

/// A recurring time in which nodes may, or may not, be drained: it begins whenever a cron expression matches, and lasts
/// for a while. Times are UTC.
///
/// The expression has the five fields and the meaning it has in a Kubernetes `CronJob`: minute, hour, day of the month,
/// month, day of the week; lists, ranges, steps and English names; `@hourly`, `@daily`, `@weekly`, `@monthly`,
/// `@yearly`; and if both days are restricted, either is enough.
///
/// ```
/// use std::time::Duration;
/// use kurator_fleet::scaling::{DrainPolicy, Window};
///
/// let policy = DrainPolicy::default()
///     .with_window(Window::open("0 22 * * MON-FRI", Duration::from_secs(6 * 3600))?)
///     .with_window(Window::closed("0 0 24 12 *", Duration::from_secs(3 * 86_400))?);
/// assert_eq!(policy.windows[0].to_string(), "open for 6h from 0 22 * * MON-FRI");
/// # Ok::<(), kurator_fleet::scaling::WindowError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    schedule: Schedule,
    seconds: i64,
    opens: bool,
}

impl Window {
    /// Nodes may be drained for `duration` from each match on.
    ///
    /// # Errors
    /// [`WindowError`] for an expression that is not one, and for a duration below a minute or above a year.
    pub fn open(schedule: &str, duration: std::time::Duration) -> Result<Self, WindowError> {
        Self::new(schedule, duration, true)
    }

    /// Nodes may not be drained for `duration` from each match on.
    ///
    /// # Errors
    /// As [`Window::open`].
    pub fn closed(schedule: &str, duration: std::time::Duration) -> Result<Self, WindowError> {
        Self::new(schedule, duration, false)
    }

    fn new(schedule: &str, duration: std::time::Duration, opens: bool) -> Result<Self, WindowError> {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        if !(60..=366 * 86_400).contains(&seconds) {
            return Err(WindowError::Duration { seconds });
        }
        Ok(Self {
            schedule: schedule.parse()?,
            seconds,
            opens,
        })
    }

    /// Whether it runs at that second.
    fn runs(&self, at: i64) -> bool {
        let start = self.schedule.last(at.div_euclid(60));
        start.is_some_and(|minute| minute * 60 + self.seconds > at)
    }

    /// The next second after `at` in which it may begin or end.
    fn changes(&self, at: i64) -> Option<i64> {
        let minute = at.div_euclid(60);
        let ends = self.schedule.last(minute).map(|start| start * 60 + self.seconds);
        let begins = self.schedule.next(minute + 1).map(|start| start * 60);
        ends.filter(|end| *end > at).into_iter().chain(begins).min()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.opens { "open" } else { "closed" };
        let duration = SignedDuration::from_secs(self.seconds);
        write!(f, "{what} for {duration:#} from {}", self.schedule.text)
    }
}

/// What windows say about one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hours {
    /// Nodes may be drained, until then.
    Open { until: Option<Timestamp> },
    /// Nodes may not be drained, until then.
    Closed { until: Option<Timestamp> },
}

pub(crate) fn hours(windows: &[Window], now: Timestamp) -> Hours {
    let mut at = now.as_second();
    let look = |window: &Window, at: i64| (window.opens, window.runs(at), window.changes(at));
    let mut seen: Vec<(bool, bool, Option<i64>)> = windows.iter().map(|window| look(window, at)).collect();
    let is_open = |seen: &[(bool, bool, Option<i64>)]| {
        let mut openers = seen.iter().filter(|(opens, ..)| *opens).peekable();
        let opened = openers.peek().is_none() || openers.any(|(_, runs, _)| *runs);
        opened && !seen.iter().any(|(opens, runs, _)| !opens && *runs)
    };
    let open = is_open(&seen);
    let mut until = None;
    for _ in 0..CHANGES {
        let Some(next) = seen.iter().filter_map(|(.., change)| *change).min() else {
            break;
        };
        at = next;
        for (window, seen) in windows.iter().zip(&mut seen) {
            if seen.2 == Some(at) {
                *seen = look(window, at);
            }
        }
        if is_open(&seen) != open {
            until = Timestamp::from_second(at).ok();
            break;
        }
    }
    if open {
        Hours::Open { until }
    } else {
        Hours::Closed { until }
    }
}

/// Why something is not a [`Window`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// Not five fields, and none of the names.
    #[error(
        "{expression:?} is not a cron expression: it needs 5 fields, or @hourly, @daily, @weekly, @monthly, @yearly"
    )]
    Fields {
        /// As given.
        expression: String,
    },
    /// A field does not parse.
    #[error(
        "{expression:?} is not a cron expression: {item:?} does not fit the {field} field ({least} to {most})"
    )]
    Item {
        /// As given.
        expression: String,
        /// The part of the field.
        item: String,
        /// Which field.
        field: &'static str,
        /// The smallest number it takes.
        least: u32,
        /// The largest number it takes.
        most: u32,
    },
    /// It matches no day of any year.
    #[error("{expression:?} never matches; correct the day or the month")]
    Never {
        /// As given.
        expression: String,
    },
    /// Too short to drain anything, or so long that it is not a window.
    #[error("a window of {seconds} seconds makes no sense; choose one minute to one year")]
    Duration {
        /// As given.
        seconds: i64,
    },
}

/// A cron expression in UTC, one bit for each value that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Schedule {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both days are restricted, so either is enough.
    either_day: bool,
}

impl Schedule {
    fn matches_day(&self, date: Date) -> bool {
        let has = |bits: u64, value: i8| u32::try_from(value).is_ok_and(|value| bits >> value & 1 == 1);
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month())
            && if self.either_day {
                day || weekday
            } else {
                day && weekday
            }
    }

    /// Minutes of a day that match, of those from `from` to `to`.
    fn minutes_of_day(&self, from: u32, to: u32) -> impl DoubleEndedIterator<Item = u32> {
        let matches =
            |minute: &u32| self.hours >> (minute / 60) & 1 == 1 && self.minutes >> (minute % 60) & 1 == 1;
        (from..=to).filter(matches)
    }

    /// The first matching minute since the epoch from this one on.
    fn next(&self, from: i64) -> Option<i64> {
        let (first, minute) = (from.div_euclid(1440), from.rem_euclid(1440));
        (first..first + DAYS).find_map(|day| {
            let date = date(day).filter(|date| self.matches_day(*date));
            let start = if day == first { minute } else { 0 };
            date.and_then(|_| self.minutes_of_day(u32::try_from(start).ok()?, 1439).next())
                .map(|minute| day * 1440 + i64::from(minute))
        })
    }

    /// The last matching minute since the epoch up to this one.
    fn last(&self, to: i64) -> Option<i64> {
        let (last, minute) = (to.div_euclid(1440), to.rem_euclid(1440));
        (last - DAYS..=last).rev().find_map(|day| {
            let date = date(day).filter(|date| self.matches_day(*date));
            let end = if day == last { minute } else { 1439 };
            date.and_then(|_| self.minutes_of_day(0, u32::try_from(end).ok()?).next_back())
                .map(|minute| day * 1440 + i64::from(minute))
        })
    }
}

/// The day with that number since the epoch.
fn date(day: i64) -> Option<Date> {
    let at = Timestamp::from_second(day.checked_mul(86_400)?).ok()?;
    Some(at.to_zoned(TimeZone::UTC).date())
}

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// Names of the values from `least` on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        least: 0,
        most: 59,
        names: &[],
    },
    Field {
        name: "hour",
        least: 0,
        most: 23,
        names: &[],
    },
    Field {
        name: "day of the month",
        least: 1,
        most: 31,
        names: &[],
    },
    Field {
        name: "month",
        least: 1,
        most: 12,
        names: &MONTHS,
    },
    Field {
        name: "day of the week",
        least: 0,
        most: 6,
        names: &WEEKDAYS,
    },
];

impl Field {
    /// The bits of a comma-separated list; the item that is wrong, if one is.
    fn parse<'a>(&self, list: &'a str) -> Result<u64, &'a str> {
        let mut bits = 0;
        for item in list.split(',') {
            bits |= self.item(item).ok_or(item)?;
        }
        Ok(bits)
    }

    fn item(&self, item: &str) -> Option<u64> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
            None => (item, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (self.least, self.most),
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            // With a step a single value is where counting starts.
            None if step.is_some() => (self.value(range)?, self.most),
            None => (self.value(range)?, self.value(range)?),
        };
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        (from <= to).then(|| (from..=to).step_by(step).fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = (self.least..)
            .zip(self.names)
            .find(|(_, name)| name.eq_ignore_ascii_case(text));
        named
            .map(|(value, _)| value)
            .or_else(|| number(text))
            .filter(|value| (self.least..=self.most).contains(value))
    }
}

/// Digits alone: no sign.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl FromStr for Schedule {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let expression = || text.to_owned();
        let named = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            other => other,
        };
        let parts: Vec<&str> = named.split_whitespace().collect();
        let [_, _, day, _, weekday] = parts[..] else {
            return Err(WindowError::Fields {
                expression: expression(),
            });
        };
        let mut bits = [0; 5];
        for ((field, part), bits) in FIELDS.iter().zip(&parts).zip(&mut bits) {
            *bits = field.parse(part).map_err(|item| WindowError::Item {
                expression: expression(),
                item: item.to_owned(),
                field: field.name,
                least: field.least,
                most: field.most,
            })?;
        }
        let [minutes, hours, days, months, weekdays] = bits;
        let restricted = |field: &str| !field.split(',').any(|item| item == "*" || item == "?");
        let schedule = Self {
            text: text.trim().to_owned(),
            minutes,
            hours,
            days,
            months,
            weekdays,
            either_day: restricted(day) && restricted(weekday),
        };
        if schedule.next(0).is_none() {
            return Err(WindowError::Never {
                expression: expression(),
            });
        }
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(count * 60)
    }

    #[test]
    fn a_window_is_open_from_each_match_for_its_duration() {
        let nights = [Window::open("0 22 * * MON-FRI", minutes(360)).unwrap()];
        // 2026-11-23 is a Monday.
        for (now, open, until) in [
            ("2026-11-23T21:59:59Z", false, "2026-11-23T22:00:00Z"),
            ("2026-11-23T22:00:00Z", true, "2026-11-24T04:00:00Z"),
            ("2026-11-24T03:59:59Z", true, "2026-11-24T04:00:00Z"),
            ("2026-11-24T04:00:00Z", false, "2026-11-24T22:00:00Z"),
            ("2026-11-28T12:00:00Z", false, "2026-11-30T22:00:00Z"),
        ] {
            let until = Some(at(until));
            let expected = if open {
                Hours::Open { until }
            } else {
                Hours::Closed { until }
            };
            assert_eq!(hours(&nights, at(now)), expected, "{now}");
        }
    }

    #[test]
    fn a_closed_window_wins_over_an_open_one() {
        let windows = [
            Window::open("@daily", minutes(12 * 60)).unwrap(),
            Window::closed("0 8 * * *", minutes(60)).unwrap(),
        ];
        let closed = hours(&windows, at("2026-11-23T08:30:00Z"));
        assert_eq!(
            closed,
            Hours::Closed {
                until: Some(at("2026-11-23T09:00:00Z"))
            }
        );
        let open = hours(&windows, at("2026-11-23T07:00:00Z"));
        assert_eq!(
            open,
            Hours::Open {
                until: Some(at("2026-11-23T08:00:00Z"))
            }
        );
        // Alone it leaves everything else open.
        let rest = hours(&windows[1..], at("2026-11-23T09:30:00Z"));
        assert_eq!(
            rest,
            Hours::Open {
                until: Some(at("2026-11-24T08:00:00Z"))
            }
        );
    }

    #[test]
    fn windows_that_overlap_themselves_have_no_gap_and_no_end() {
        let always = [Window::open("*/30 * * * *", minutes(45)).unwrap()];
        assert_eq!(
            hours(&always, at("2026-11-23T08:29:59Z")),
            Hours::Open { until: None }
        );
        assert_eq!(
            hours(&[], at("2026-11-23T08:29:59Z")),
            Hours::Open { until: None }
        );
        let never = [Window::closed("* * * * *", minutes(1)).unwrap()];
        assert_eq!(
            hours(&never, at("2026-11-23T08:29:59Z")),
            Hours::Closed { until: None }
        );
    }

    #[test]
    fn either_day_is_enough_if_both_are_restricted() {
        let schedule: Schedule = "0 0 13 * FRI".parse().unwrap();
        let starts = |from: &str| schedule.next(at(from).as_second() / 60).map(|minute| minute * 60);
        assert_eq!(
            starts("2026-11-23T00:01:00Z"),
            Some(at("2026-11-27T00:00:00Z").as_second())
        );
        assert_eq!(
            starts("2026-12-12T00:01:00Z"),
            Some(at("2026-12-13T00:00:00Z").as_second())
        );
        let leap: Schedule = "0 0 29 2 *".parse().unwrap();
        let next = leap.next(at("2096-03-01T00:00:00Z").as_second() / 60);
        assert_eq!(next, Some(at("2104-02-29T00:00:00Z").as_second() / 60));
        assert_eq!(
            leap.last(at("2104-02-28T00:00:00Z").as_second() / 60),
            Some(at("2096-02-29T00:00:00Z").as_second() / 60)
        );
    }

    #[test]
    fn what_is_not_a_window_says_why() {
        for (expression, said) in [
            ("", "5 fields"),
            ("* * * *", "5 fields"),
            ("@often", "5 fields"),
            ("60 * * * *", "\"60\" does not fit the minute field (0 to 59)"),
            ("* 5-3 * * *", "\"5-3\" does not fit the hour field (0 to 23)"),
            ("*/0 * * * *", "\"*/0\" does not fit"),
            (
                "* * 0 * *",
                "\"0\" does not fit the day of the month field (1 to 31)",
            ),
            (
                "* * * * 7",
                "\"7\" does not fit the day of the week field (0 to 6)",
            ),
            ("* * * FOO *", "\"FOO\" does not fit the month field"),
            ("+1 * * * *", "\"+1\" does not fit the minute field"),
            ("0 0 30 2 *", "never matches"),
        ] {
            let error = Window::open(expression, minutes(60)).unwrap_err().to_string();
            assert!(error.contains(said), "{expression:?}: {error}");
        }
        assert!(Window::open("@daily", Duration::from_secs(59)).is_err());
    }
}
