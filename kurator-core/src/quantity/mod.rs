//! Exact Kubernetes quantities: `250m`, `1.5Gi`, `2e3`.
//!
//! A [`Quantity`] is an `i128` count of 10⁻⁹ and the [`Format`] it prints in, so sums, differences, products and
//! comparisons are exact, and what leaves the range is an absence of a result, never a wrong number. The grammar, the rounding
//! and the canonical form are those of `resource.Quantity` in `k8s.io/apimachinery`.
//!
//! # Where this differs from apimachinery
//! - Apimachinery caps what it cannot hold (at 2⁶³ - 1, in the binary format); here parsing fails with
//!   [`ParseQuantityError::OutOfRange`] beyond about ±1.7 × 10²⁹, and everything below is exact.
//! - A number needs a digit. Apimachinery reads `Ki`, `.` and `+` as zero, which its own grammar does not have.
//! - `Display` does not drop the magnitude of what is larger than the largest suffix: 10²¹ prints as `1000E`.
//! - Rounding to whole numbers is away from zero for negative amounts too; apimachinery rounds some of those up.
//! - A JSON number that is a float is read from its shortest decimal form in the format `DecimalSI`; write numbers
//!   of more than 15 significant digits as strings.
//!
//! ```
//! use kurator_core::quantity::Quantity;
//!
//! let node: Quantity = "1.5Gi".parse()?;
//! let request: Quantity = "100M".parse()?;
//! assert_eq!(node.to_string(), "1536Mi");
//! assert_eq!(node.times(request), Some(16));
//! assert_eq!("0.1".parse::<Quantity>()?, "100m".parse()?);
//! assert_eq!("1001u".parse::<Quantity>()?.milli_value(), 2); // rounded away from zero
//! # Ok::<(), kurator_core::quantity::ParseQuantityError>(())
//! ```

mod format;
mod parse;
mod wire;

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

pub use format::Format;
pub use parse::ParseQuantityError;

/// 10⁻⁹ units in one unit.
const NANO: i128 = 1_000_000_000;
/// 10⁻⁹ units in a thousandth.
const NANO_PER_MILLI: i128 = 1_000_000;

/// An exact amount of a resource, such as CPU cores, bytes or devices.
///
/// Equality, order and hash look at the amount only: `1Ki` equals `1024`. The module documentation says how this
/// relates to the type of the same name in apimachinery.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nano: 0,
        format: Format::DecimalSi,
    };

    /// The largest amount: about 1.7 × 10²⁹ units.
    pub const MAX: Self = Self {
        nano: i128::MAX,
        format: Format::DecimalSi,
    };

    /// The smallest amount: [`Quantity::MAX`] negated.
    pub const MIN: Self = Self {
        nano: -i128::MAX,
        format: Format::DecimalSi,
    };

    /// That many whole units: cores, bytes, devices.
    pub const fn from_units(units: i64) -> Self {
        // An i64 times 10⁹ is far inside an i128.
        Self {
            nano: units as i128 * NANO,
            format: Format::DecimalSi,
        }
    }

    /// That many thousandths, as in millicores.
    pub const fn from_milli(milli: i64) -> Self {
        Self {
            nano: milli as i128 * NANO_PER_MILLI,
            format: Format::DecimalSi,
        }
    }

    /// That many 10⁻⁹; `None` for `i128::MIN`, which has no opposite.
    pub const fn from_nano(nano: i128) -> Option<Self> {
        if nano == i128::MIN {
            None
        } else {
            Some(Self {
                nano,
                format: Format::DecimalSi,
            })
        }
    }

    /// The same amount, printed in `format`.
    #[must_use]
    pub const fn with_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// The amount in 10⁻⁹ units, exact.
    pub const fn nano(self) -> i128 {
        self.nano
    }

    /// The form it prints in.
    pub const fn format(self) -> Format {
        self.format
    }

    /// The amount in whole units, rounded away from zero like `Value()` in apimachinery.
    pub const fn value(self) -> i128 {
        away_from_zero(self.nano, NANO)
    }

    /// The amount in thousandths, rounded away from zero like `MilliValue()` in apimachinery.
    pub const fn milli_value(self) -> i128 {
        away_from_zero(self.nano, NANO_PER_MILLI)
    }

    /// Rounded up (towards +∞) to whole units; `None` if that leaves the range.
    pub fn ceil(self) -> Option<Self> {
        self.ceil_to(NANO)
    }

    /// Rounded up (towards +∞) to thousandths; `None` if that leaves the range.
    pub fn ceil_milli(self) -> Option<Self> {
        self.ceil_to(NANO_PER_MILLI)
    }

    fn ceil_to(self, step: i128) -> Option<Self> {
        let below = self.nano.div_euclid(step);
        let up = below + i128::from(self.nano.rem_euclid(step) != 0);
        Some(Self {
            nano: up.checked_mul(step)?,
            ..self
        })
    }

    /// The sum, exact; `None` if it leaves the range. Zero takes over the format of what is added to it.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.merged(self.nano.checked_add(other.nano)?, other)
    }

    /// The difference, exact; `None` if it leaves the range. Zero takes over the format of what is taken from it.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.merged(self.nano.checked_sub(other.nano)?, other)
    }

    /// The product with a whole number, exact; `None` if it leaves the range.
    pub fn checked_mul(self, factor: i64) -> Option<Self> {
        let product = Self {
            nano: self.nano.checked_mul(i128::from(factor))?,
            ..self
        };
        (product.nano != i128::MIN).then_some(product)
    }

    fn merged(self, nano: i128, other: Self) -> Option<Self> {
        let format = if self.is_zero() { other.format } else { self.format };
        (nano != i128::MIN).then_some(Self { nano, format })
    }

    /// The sum of many, exact; `None` if any step leaves the range.
    pub fn checked_sum(quantities: impl IntoIterator<Item = Self>) -> Option<Self> {
        quantities.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }

    /// How many times `request` fits in, exact and rounded down: 0 if nothing is left. `None` unless `request` is
    /// positive, since then it fits any number of times.
    pub fn times(self, request: Self) -> Option<u128> {
        if request.nano <= 0 {
            return None;
        }
        Some(u128::try_from(self.nano).unwrap_or(0) / request.nano.unsigned_abs())
    }

    /// Whether the amount is zero.
    pub const fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// Whether the amount is below zero.
    pub const fn is_negative(self) -> bool {
        self.nano < 0
    }
}

/// `nano / step`, rounded away from zero.
const fn away_from_zero(nano: i128, step: i128) -> i128 {
    let towards = nano / step;
    if nano % step == 0 {
        towards
    } else {
        towards + nano.signum()
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nano.hash(state);
    }
}

impl From<i64> for Quantity {
    fn from(units: i64) -> Self {
        Self::from_units(units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn equality_ignores_the_format() {
        assert_eq!(quantity("1Ki"), quantity("1024"));
        assert_eq!(quantity("1e3"), quantity("1k"));
        assert!(quantity("1001m") > quantity("1"));
        assert!(quantity("-1") < quantity("-999m"));
    }

    #[test]
    fn values_round_away_from_zero_and_ceil_rounds_up() {
        assert_eq!(quantity("1n").value(), 1);
        assert_eq!(quantity("-1n").value(), -1);
        assert_eq!(quantity("-1500m").value(), -2);
        assert_eq!(quantity("1500u").milli_value(), 2);
        assert_eq!(quantity("-1500m").ceil().unwrap(), quantity("-1"));
        assert_eq!(quantity("1500u").ceil_milli().unwrap(), quantity("2m"));
        assert_eq!(quantity("2").ceil().unwrap(), quantity("2"));
        assert_eq!(Quantity::MAX.ceil(), None);
    }

    #[test]
    fn arithmetic_is_exact_and_refuses_to_leave_the_range() {
        assert_eq!(
            quantity("1Gi").checked_add(quantity("1n")).unwrap().to_string(),
            "1073741824000000001n"
        );
        assert_eq!(Quantity::MAX.checked_add(quantity("1n")), None);
        assert_eq!(Quantity::MIN.checked_sub(quantity("1n")), None);
        assert_eq!(Quantity::MAX.checked_mul(2), None);
        assert_eq!(Quantity::MAX.checked_mul(-1), Some(Quantity::MIN));
        assert_eq!(Quantity::checked_sum([quantity("1"), Quantity::MAX]), None);
        assert_eq!(
            Quantity::checked_sum([quantity("1"), quantity("2Ki")]).unwrap(),
            quantity("2049")
        );
    }

    #[test]
    fn zero_takes_over_the_format_of_what_is_added() {
        assert_eq!(
            Quantity::ZERO.checked_add(quantity("2Gi")).unwrap().to_string(),
            "2Gi"
        );
        assert_eq!(
            quantity("1").checked_add(quantity("1Ki")).unwrap().to_string(),
            "1025"
        );
    }

    #[test]
    fn times_counts_whole_fits() {
        assert_eq!(quantity("1").times(quantity("300m")), Some(3));
        assert_eq!(quantity("-1").times(quantity("300m")), Some(0));
        assert_eq!(quantity("1").times(Quantity::ZERO), None);
        assert_eq!(quantity("1").times(quantity("-1")), None);
    }
}
