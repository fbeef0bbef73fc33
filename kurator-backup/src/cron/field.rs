//! One field: a set of numbers, and whether it was left open.

use super::error::CronError;

/// What a field is called, what it takes, and its names.
pub(super) struct Domain {
    pub(super) name: &'static str,
    pub(super) min: u32,
    pub(super) max: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

pub(super) const MINUTE: Domain = Domain {
    name: "minute",
    min: 0,
    max: 59,
    names: &[],
};
pub(super) const HOUR: Domain = Domain {
    name: "hour",
    min: 0,
    max: 23,
    names: &[],
};
pub(super) const DAY_OF_MONTH: Domain = Domain {
    name: "day of month",
    min: 1,
    max: 31,
    names: &[],
};
pub(super) const MONTH: Domain = Domain {
    name: "month",
    min: 1,
    max: 12,
    names: &MONTHS,
};
pub(super) const DAY_OF_WEEK: Domain = Domain {
    name: "day of week",
    min: 0,
    max: 6,
    names: &DAYS,
};

/// The numbers a field matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    /// Bit n is number n.
    bits: u64,
    /// A plain `*` or `?` stands in it; decides how the two day fields combine.
    pub(super) open: bool,
    /// A step of it is as large as its range, which some servers refuse.
    pub(super) step_beyond_range: bool,
}

impl Field {
    /// Parses one field that starts at byte `offset` of the expression.
    pub(super) fn parse(text: &str, offset: usize, domain: &Domain) -> Result<Self, CronError> {
        let mut field = Self::default();
        let mut at = offset;
        for item in text.split(',') {
            field.add(item, at, domain)?;
            at += item.len() + 1;
        }
        Ok(field)
    }

    fn add(&mut self, item: &str, offset: usize, domain: &Domain) -> Result<(), CronError> {
        let refuse = || domain.refuse(item, offset);
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => (
                range,
                Some(number(step).filter(|step| *step > 0).ok_or_else(refuse)?),
            ),
        };
        let (low, high) = if matches!(range, "*" | "?") {
            self.open |= step.is_none_or(|step| step == 1);
            (domain.min, domain.max)
        } else {
            let (low, high) = match range.split_once('-') {
                Some((low, high)) => (domain.value(low), domain.value(high)),
                // `5/15` runs to the end of the range, `5` does not.
                None if step.is_some() => (domain.value(range), Some(domain.max)),
                None => (domain.value(range), domain.value(range)),
            };
            (low.ok_or_else(refuse)?, high.ok_or_else(refuse)?)
        };
        if low < domain.min || high > domain.max || low > high {
            return Err(refuse());
        }
        let step = step.unwrap_or(1);
        self.step_beyond_range |= step > 1 && step > high - low;
        let mut value = low;
        while value <= high {
            self.bits |= 1 << value;
            value = value.saturating_add(step);
        }
        Ok(())
    }

    /// The numbers, ascending.
    pub(super) fn values(&self) -> impl Iterator<Item = u32> + '_ {
        (0..64).filter(|value| self.contains(*value))
    }

    pub(super) fn contains(&self, value: u32) -> bool {
        value < 64 && self.bits >> value & 1 == 1
    }
}

impl Domain {
    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        named
            .and_then(|index| u32::try_from(index).ok())
            .map(|index| index + self.min)
            .or_else(|| number(text))
    }

    fn refuse(&self, item: &str, offset: usize) -> CronError {
        let names = match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!(" or {first}-{last}"),
            _ => String::new(),
        };
        CronError::Item {
            item: item.to_owned(),
            offset,
            field: self.name,
            expected: format!(
                "*, a number from {} to {}{names}, a range low-high, each with an optional /step",
                self.min, self.max
            ),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
