//! Quantity to text, in canonical form.

use std::fmt;

use super::{NANO, Quantity};

/// How a quantity prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Powers of 1024: `Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `Ei`.
    BinarySi,
    /// A power of ten as an exponent: `1e3`.
    DecimalExponent,
    /// Powers of 1000: `n`, `u`, `m`, none, `k`, `M`, `G`, `T`, `P`, `E`.
    #[default]
    DecimalSi,
}

/// The canonical form: no fractional digits, the largest suffix that loses nothing, no `+`. Amounts that the binary
/// format cannot show exactly, and those below 1024, print in the decimal one.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.pad("0");
        }
        let units = self.nano / NANO;
        if matches!(self.format, Format::BinarySi) && self.nano % NANO == 0 && units.abs() >= 1024 {
            let (number, steps) = strip(units, 1024, 6);
            let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
                .get(steps)
                .copied()
                .unwrap_or_default();
            return f.pad(&format!("{number}{suffix}"));
        }
        if matches!(self.format, Format::DecimalExponent) {
            let (number, steps) = strip(self.nano, 1000, usize::MAX);
            // At most 12 steps fit in an i128.
            let exponent = 3 * steps as i64 - 9;
            if exponent != 0 {
                return f.pad(&format!("{number}e{exponent}"));
            }
            return f.pad(&number.to_string());
        }
        let (number, steps) = strip(self.nano, 1000, 9);
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"]
            .get(steps)
            .copied()
            .unwrap_or_default();
        f.pad(&format!("{number}{suffix}"))
    }
}

/// `number` divided by `base` as often as that leaves nothing over, at most `most` times.
fn strip(mut number: i128, base: i128, most: usize) -> (i128, usize) {
    let mut steps = 0;
    while steps < most && number % base == 0 {
        number /= base;
        steps += 1;
    }
    (number, steps)
}
