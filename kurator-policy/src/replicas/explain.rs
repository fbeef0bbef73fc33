//! Why a cluster got its number.

use std::fmt;

/// A cluster's part of a weighted division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Share {
    /// The cluster's weight.
    pub weight: u64,
    /// The sum of all weights.
    pub total: u128,
    /// The whole part of its exact share of the replicas.
    pub quota: u32,
    /// What is left of the share, as `remainder / total` of a replica.
    pub remainder: u128,
    /// What it got.
    pub seats: u32,
    /// Whether the order of the names decided its last seat.
    pub tie: Option<TieOutcome>,
}

/// How a tie at the last seat ended for a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a tie is won or lost")]
pub enum TieOutcome {
    /// It got the seat.
    Won,
    /// Another cluster of equal claim got it.
    Lost,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            weight,
            total,
            quota,
            remainder,
            seats,
            tie,
        } = self;
        // Two decimals, cut, are enough to read; the exact fraction is in the fields.
        let percent = remainder
            .checked_mul(100)
            .and_then(|r| r.checked_div(*total))
            .unwrap_or(0);
        write!(
            f,
            "{seats}: weight {weight} of {total} is a share of {quota}.{percent:02}"
        )?;
        match tie {
            Some(TieOutcome::Won) => f.write_str(", last one won on a tie by name"),
            Some(TieOutcome::Lost) => f.write_str(", one more lost on a tie by name"),
            None => Ok(()),
        }
    }
}

/// Explains an unbounded division: the exact share of each cluster beside what it got.
///
/// ```
/// use kurator_policy::replicas::{TieOutcome, explain};
/// let shares = explain(&[1, 1], 3, &[2, 1]);
/// assert_eq!(shares[0].tie, Some(TieOutcome::Won));
/// assert_eq!(shares[1].to_string(), "1: weight 1 of 2 is a share of 1.50, one more lost on a tie by name");
/// ```
pub fn explain(weights: &[u64], replicas: u32, seats: &[u32]) -> Vec<Share> {
    let total: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    let claims = || {
        weights
            .iter()
            .zip(seats)
            .map(|(&weight, &seats)| (u128::from(weight), u128::from(seats)))
    };
    // The weakest quotient that got a seat, and the strongest that got none, as (weight, divisor).
    let less = |a: (u128, u128), b: (u128, u128)| a.0 * b.1 < b.0 * a.1;
    let last = claims()
        .filter(|&(weight, seats)| weight > 0 && seats > 0)
        .map(|(weight, seats)| (weight, 2 * seats - 1))
        .reduce(|a, b| if less(b, a) { b } else { a });
    let next = claims()
        .filter(|&(weight, _)| weight > 0)
        .map(|(weight, seats)| (weight, 2 * seats + 1))
        .reduce(|a, b| if less(a, b) { b } else { a });
    let tied = last
        .zip(next)
        .filter(|&(last, next)| !less(last, next) && !less(next, last))
        .map(|(q, _)| q);
    let same = |a: (u128, u128), b: (u128, u128)| a.0 * b.1 == b.0 * a.1;
    weights
        .iter()
        .zip(seats)
        .map(|(&weight, &seats)| {
            let product = u128::from(weight) * u128::from(replicas);
            let quota = product.checked_div(total).unwrap_or(0);
            let (wide, held) = (u128::from(weight), u128::from(seats));
            let tie = tied.filter(|_| weight > 0).and_then(|quotient| {
                if seats > 0 && same((wide, 2 * held - 1), quotient) {
                    Some(TieOutcome::Won)
                } else if same((wide, 2 * held + 1), quotient) {
                    Some(TieOutcome::Lost)
                } else {
                    None
                }
            });
            Share {
                weight,
                total,
                quota: u32::try_from(quota).unwrap_or(u32::MAX),
                remainder: product.checked_rem(total).unwrap_or(0),
                seats,
                tie,
            }
        })
        .collect()
}
