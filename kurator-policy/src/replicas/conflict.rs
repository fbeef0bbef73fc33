//! Which bounds cannot hold together.

use std::fmt;

use super::divisor::Bounds;

/// The fewest clusters whose bounds leave no division of the replicas. Positions are ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conflict {
    /// These minima alone are more than there is; no smaller set of clusters has that much.
    Minima {
        /// The clusters.
        positions: Vec<usize>,
        /// What their minima add up to.
        sum: u64,
        /// The replicas to divide.
        replicas: u32,
    },
    /// All maxima together are less than there is; raising the maximum of any of these by what is missing helps.
    Maxima {
        /// The clusters that could have more but for their maximum. Empty if no cluster has a weight.
        positions: Vec<usize>,
        /// What all clusters can have together.
        sum: u64,
        /// The replicas to divide.
        replicas: u32,
    },
}

impl Conflict {
    /// How many replicas are too many or too few.
    #[must_use]
    pub fn amount(&self) -> u64 {
        match self {
            Self::Minima { sum, replicas, .. } | Self::Maxima { sum, replicas, .. } => {
                sum.abs_diff(u64::from(*replicas))
            }
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = self.amount();
        match self {
            Self::Minima {
                positions,
                sum,
                replicas,
            } => {
                write!(
                    f,
                    "the minima of {} clusters add up to {sum}, {amount} more than the {replicas} replicas",
                    positions.len()
                )
            }
            Self::Maxima { sum, replicas, .. } => {
                write!(
                    f,
                    "all clusters together may have {sum}, {amount} fewer than the {replicas} replicas"
                )
            }
        }
    }
}

/// Names the smallest set of bounds that leaves no division of `replicas`, or `None` if there is one.
///
/// A list of bounds that is shorter than the weights leaves the rest unbounded; a cluster of weight 0 can have its
/// minimum and no more.
///
/// ```
/// use kurator_policy::replicas::{Bounds, Conflict, conflict};
/// let bounds = [Bounds { min: 1, max: 9 }, Bounds { min: 6, max: 9 }, Bounds { min: 2, max: 9 }];
/// assert_eq!(
///     conflict(&[1, 1, 1], &bounds, 5),
///     Some(Conflict::Minima { positions: vec![1], sum: 6, replicas: 5 }),
/// );
/// assert_eq!(conflict(&[1, 1, 1], &bounds, 9), None);
/// ```
#[must_use]
pub fn conflict(weights: &[u64], bounds: &[Bounds], replicas: u32) -> Option<Conflict> {
    let of = |position: usize| bounds.get(position).copied().unwrap_or_default();
    let wanted = u64::from(replicas);
    let mut by_minimum: Vec<usize> = (0..weights.len()).collect();
    by_minimum.sort_by_key(|&position| (std::cmp::Reverse(of(position).min), position));
    let mut sum = 0_u64;
    for (taken, &position) in by_minimum.iter().enumerate() {
        sum += u64::from(of(position).min);
        if sum > wanted {
            by_minimum.truncate(taken + 1);
            by_minimum.sort_unstable();
            return Some(Conflict::Minima {
                positions: by_minimum,
                sum,
                replicas,
            });
        }
    }
    let most = |(position, &weight): (usize, &u64)| {
        u64::from(if weight == 0 {
            of(position).min
        } else {
            of(position).max
        })
    };
    let sum: u64 = weights.iter().enumerate().map(most).sum();
    if sum >= wanted {
        return None;
    }
    let limited = weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0)
        .map(|(position, _)| position);
    Some(Conflict::Maxima {
        positions: limited.collect(),
        sum,
        replicas,
    })
}
