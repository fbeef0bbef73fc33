//! Text to quantity.

use std::str::FromStr;

use super::{Format, NANO, Quantity};

/// A text that is not a quantity, or one outside what a [`Quantity`] holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseQuantityError {
    /// The grammar does not allow what stands at `offset`.
    #[error("invalid quantity {input:?} at byte {offset}: expected {expected}")]
    Syntax {
        /// The text.
        input: String,
        /// Byte offset of the first offence.
        offset: usize,
        /// What would have been accepted there.
        expected: &'static str,
    },
    /// A well-formed number of more than about 1.7 × 10²⁹ units.
    #[error("quantity {input:?} is out of range: its magnitude must stay below 1.7e29")]
    OutOfRange {
        /// The text.
        input: String,
    },
}

const SUFFIXES: &str = "the end or one of n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, e<n>, E<n>";

/// What the number is multiplied with.
enum Scale {
    Binary(u32),
    Decimal(i64),
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let syntax = |offset, expected| ParseQuantityError::Syntax {
            input: input.to_owned(),
            offset,
            expected,
        };
        let out_of_range = || ParseQuantityError::OutOfRange {
            input: input.to_owned(),
        };

        let (negative, unsigned) = match input.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            all => (false, all),
        };
        let at = |rest: &[u8]| input.len() - rest.len();

        let (whole, rest) = digits(unsigned);
        let (fraction, rest) = match rest {
            [b'.', after @ ..] => digits(after),
            _ => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(syntax(at(unsigned), "a digit"));
        }

        let (scale, mut format) = match rest {
            b"n" => (Scale::Decimal(-9), Format::DecimalSi),
            b"u" => (Scale::Decimal(-6), Format::DecimalSi),
            b"m" => (Scale::Decimal(-3), Format::DecimalSi),
            b"" => (Scale::Decimal(0), Format::DecimalSi),
            b"k" => (Scale::Decimal(3), Format::DecimalSi),
            b"M" => (Scale::Decimal(6), Format::DecimalSi),
            b"G" => (Scale::Decimal(9), Format::DecimalSi),
            b"T" => (Scale::Decimal(12), Format::DecimalSi),
            b"P" => (Scale::Decimal(15), Format::DecimalSi),
            b"E" => (Scale::Decimal(18), Format::DecimalSi),
            b"Ki" => (Scale::Binary(10), Format::BinarySi),
            b"Mi" => (Scale::Binary(20), Format::BinarySi),
            b"Gi" => (Scale::Binary(30), Format::BinarySi),
            b"Ti" => (Scale::Binary(40), Format::BinarySi),
            b"Pi" => (Scale::Binary(50), Format::BinarySi),
            b"Ei" => (Scale::Binary(60), Format::BinarySi),
            [b'e' | b'E', exponent @ ..] => {
                let (down, figures) = match exponent {
                    [b'-', figures @ ..] => (true, figures),
                    [b'+', figures @ ..] => (false, figures),
                    figures => (false, figures),
                };
                let (figures, tail) = digits(figures);
                if figures.is_empty() || !tail.is_empty() {
                    return Err(syntax(at(tail), "the digits of an exponent"));
                }
                let size = figures.iter().fold(0_i64, |size, figure| {
                    size.saturating_mul(10).saturating_add(i64::from(figure - b'0'))
                });
                // Beyond a million either way the answer is already decided.
                let size = size.min(1_000_000);
                (
                    Scale::Decimal(if down { -size } else { size }),
                    Format::DecimalExponent,
                )
            }
            other => return Err(syntax(at(other), SUFFIXES)),
        };

        let magnitude = match scale {
            Scale::Decimal(exponent) => decimal(whole, fraction, exponent),
            Scale::Binary(power) => binary(whole, fraction, power),
        }
        .ok_or_else(out_of_range)?;
        if matches!(format, Format::BinarySi) && magnitude < NANO && magnitude != 0 {
            // As apimachinery does: a binary suffix cannot show less than one.
            format = Format::DecimalSi;
        }
        Ok(Self {
            nano: if negative { -magnitude } else { magnitude },
            format,
        })
    }
}

/// The leading ASCII digits, and what follows.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `whole.fraction × 10^exponent` in 10⁻⁹, rounded up below that; `None` beyond the range.
fn decimal(whole: &[u8], fraction: &[u8], exponent: i64) -> Option<i128> {
    // The power of ten of the last digit, counted from 10⁻⁹.
    let mut power = i64::try_from(whole.len()).ok()? + exponent + 9;
    let mut nano = 0_i128;
    let mut inexact = false;
    for digit in whole.iter().chain(fraction).map(|digit| i128::from(digit - b'0')) {
        power -= 1;
        if power >= 0 {
            nano = nano.checked_mul(10)?.checked_add(digit)?;
        } else {
            inexact |= digit != 0;
        }
    }
    if nano != 0 && power > 0 {
        nano = nano.checked_mul(10_i128.checked_pow(u32::try_from(power).ok()?)?)?;
    }
    nano.checked_add(i128::from(inexact))
}

/// `whole.fraction × 2^power` in 10⁻⁹, rounded up below that; `None` beyond the range. `power` is at most 60.
fn binary(whole: &[u8], fraction: &[u8], power: u32) -> Option<i128> {
    let unit = NANO << power;
    let mut units = 0_i128;
    for digit in whole {
        units = units.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    // Long division of the fraction: digit by digit it scales the unit down by ten; the remainders are carried as
    // an exact fraction of ten to the number of digits seen, by working from the last digit to the first.
    let mut part = 0_i128;
    let mut inexact = false;
    for digit in fraction.iter().rev() {
        // part is below `unit`, so this stays far inside an i128.
        let sum = unit * i128::from(digit - b'0') + part;
        part = sum / 10;
        inexact |= sum % 10 != 0;
    }
    units
        .checked_mul(unit)?
        .checked_add(part)?
        .checked_add(i128::from(inexact))
}
