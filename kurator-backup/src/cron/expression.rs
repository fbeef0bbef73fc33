use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{
    disagree::{self, Disagreement},
    error::CronError,
    field::{DAY_OF_MONTH, DAY_OF_WEEK, Field, HOUR, MINUTE, MONTH},
    lower::Lowered,
};

/// When something runs: a parsed expression that can be asked for its next time.
///
/// `Display` gives the expression as it was written; two schedules are equal when their expressions are.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    source: String,
    zone: Option<TimeZone>,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Every(SignedDuration),
    Calendar(Box<Calendar>),
}

#[derive(Clone, Debug)]
pub(super) struct Calendar {
    pub(super) fields: Fields,
    pub(super) lowered: Lowered,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) minute: Field,
    pub(super) hour: Field,
    pub(super) day_of_month: Field,
    pub(super) month: Field,
    pub(super) day_of_week: Field,
}

impl CronSchedule {
    /// Parses an expression.
    ///
    /// # Errors
    /// [`CronError`] names the item, its byte offset and what was expected.
    pub fn parse(expression: &str) -> Result<Self, CronError> {
        let (zone, start) = zone_prefix(expression)?;
        let rest = expression.get(start..).unwrap_or_default();
        let rule = if rest.trim_start().starts_with('@') {
            descriptor(expression, start, rest)?
        } else {
            calendar(expression, start, rest)?
        };
        Ok(Self {
            source: expression.to_owned(),
            zone,
            rule,
        })
    }

    /// The zone written in the expression, if any.
    #[must_use]
    pub fn zone(&self) -> Option<&TimeZone> {
        self.zone.as_ref()
    }

    /// The first time strictly after `after`, or `None` when there is none before the year 2100.
    ///
    /// Wall-clock fields are read in the expression's own zone, else in `zone`. `@every` counts from `after`,
    /// to the whole second.
    #[must_use]
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(interval) => {
                let next = after.checked_add(*interval).ok()?;
                Timestamp::from_second(next.as_second()).ok()
            }
            Rule::Calendar(calendar) => calendar
                .lowered
                .next_after(after, self.zone.as_ref().unwrap_or(zone)),
        }
    }

    /// What Velero servers of different versions make of this expression: empty when they agree.
    ///
    /// Daylight-saving disagreements are looked for at the two changes of the clock that follow `now`.
    #[must_use]
    pub fn disagreements(&self, now: Timestamp, zone: &TimeZone) -> Vec<Disagreement> {
        match &self.rule {
            Rule::Every(_) => Vec::new(),
            Rule::Calendar(calendar) => disagree::of(calendar, now, self.zone.as_ref().unwrap_or(zone)),
        }
    }
}

impl PartialEq for CronSchedule {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for CronSchedule {}

impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl FromStr for CronSchedule {
    type Err = CronError;

    fn from_str(expression: &str) -> Result<Self, CronError> {
        Self::parse(expression)
    }
}

/// The zone of a `CRON_TZ=` or `TZ=` prefix, and where the rest starts.
fn zone_prefix(expression: &str) -> Result<(Option<TimeZone>, usize), CronError> {
    let Some(prefix) = ["CRON_TZ=", "TZ="]
        .into_iter()
        .find(|prefix| expression.starts_with(prefix))
    else {
        return Ok((None, 0));
    };
    let offset = prefix.len();
    let name = expression
        .get(offset..)
        .unwrap_or_default()
        .split(' ')
        .next()
        .unwrap_or_default();
    let refuse = |_| CronError::Zone {
        zone: name.to_owned(),
        offset,
    };
    Ok((Some(TimeZone::get(name).map_err(refuse)?), offset + name.len()))
}

fn descriptor(expression: &str, start: usize, rest: &str) -> Result<Rule, CronError> {
    let word = rest.trim();
    let fields = match word {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let Some(duration) = word.strip_prefix("@every ") else {
                return Err(CronError::Descriptor {
                    expression: expression.to_owned(),
                });
            };
            let offset = start + rest.find(duration).unwrap_or_default();
            return every(duration, offset);
        }
    };
    calendar(fields, 0, fields)
}

fn every(duration: &str, offset: usize) -> Result<Rule, CronError> {
    let refuse = || CronError::Every {
        duration: duration.to_owned(),
        offset,
    };
    let parsed: kube::core::Duration = duration.parse().map_err(|_| refuse())?;
    let seconds = std::time::Duration::from(parsed).as_secs();
    if parsed.is_negative() || seconds == 0 {
        return Err(refuse());
    }
    Ok(Rule::Every(SignedDuration::from_secs(
        i64::try_from(seconds).map_err(|_| refuse())?,
    )))
}

fn calendar(expression: &str, start: usize, rest: &str) -> Result<Rule, CronError> {
    let items: Vec<(usize, &str)> = words(rest).map(|(offset, word)| (start + offset, word)).collect();
    let [minute, hour, day_of_month, month, day_of_week] = items.as_slice() else {
        return Err(CronError::FieldCount {
            expression: expression.to_owned(),
            found: items.len(),
        });
    };
    let fields = Fields {
        minute: Field::parse(minute.1, minute.0, &MINUTE)?,
        hour: Field::parse(hour.1, hour.0, &HOUR)?,
        day_of_month: Field::parse(day_of_month.1, day_of_month.0, &DAY_OF_MONTH)?,
        month: Field::parse(month.1, month.0, &MONTH)?,
        day_of_week: Field::parse(day_of_week.1, day_of_week.0, &DAY_OF_WEEK)?,
    };
    let lowered = Lowered::new(&fields).ok_or_else(|| CronError::FieldCount {
        expression: expression.to_owned(),
        found: items.len(),
    })?;
    Ok(Rule::Calendar(Box::new(Calendar { fields, lowered })))
}

/// Words with their byte offsets.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let base = text.as_ptr().addr();
    text.split_whitespace()
        .map(move |word| (word.as_ptr().addr() - base, word))
}
