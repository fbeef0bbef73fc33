//! From what runs to what should run, with as few moves as possible, or with no more than allowed.

use super::division_error::DivisionError;
use super::divisor::{Bounds, Divider};
use super::ties::TieOrder;

/// A division that starts from what runs. All lists are by position, in the order of the clusters' names.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "borrowed input, built in place by the caller"
)]
pub struct Steady<'a> {
    /// What each cluster is worth: a weight, or all the room it has for this workload, used or not. It must not
    /// depend on how many replicas run, or the result depends on the way that led to it.
    pub weights: &'a [u64],
    /// What each cluster may have.
    pub bounds: &'a [Bounds],
    /// What each cluster has.
    pub previous: &'a [u32],
    /// What there is to divide.
    pub replicas: u32,
    /// Who goes first at equal claims.
    pub ties: TieOrder,
}

impl Steady<'_> {
    /// Keeps what runs as far as the bounds allow and adds or takes away the difference, the most deserved first.
    ///
    /// # Guarantees
    /// - No division within the bounds leaves more replicas where they are.
    /// - Adding (or taking away) n replicas one by one gives what adding n at once gives.
    ///
    /// # Errors
    /// [`DivisionError`] as of [`Divider::divide_within`]: the bounds leave no division.
    ///
    /// ```
    /// # fn main() -> Result<(), kurator_policy::replicas::DivisionError> {
    /// use kurator_policy::replicas::{Bounds, Divider, Steady, TieOrder};
    /// let steady = Steady {
    ///     weights: &[50, 50],
    ///     bounds: &[Bounds::default(); 2],
    ///     previous: &[6, 0],
    ///     replicas: 8,
    ///     ties: TieOrder::Ascending,
    /// };
    /// assert_eq!(steady.keep(&mut Divider::default())?, [6, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep(&self, divider: &mut Divider) -> Result<Vec<u32>, DivisionError> {
        let count = self.weights.len();
        if self.previous.len() != count || self.bounds.len() != count {
            return Err(DivisionError::Lengths {
                weights: count,
                bounds: self.previous.len().min(self.bounds.len()),
            });
        }
        // The same errors as without a previous division, so that a caller learns what is wrong with the bounds.
        divider.divide_within(self.weights, self.bounds, self.replicas, self.ties)?;
        let kept = |(bound, &previous): (&Bounds, &u32)| previous.clamp(bound.min, bound.max);
        let running: Vec<u32> = self.bounds.iter().zip(self.previous).map(kept).collect();
        let given: u64 = running.iter().map(|&replicas| u64::from(replicas)).sum();
        let Some(excess) = given
            .checked_sub(u64::from(self.replicas))
            .filter(|excess| *excess > 0)
        else {
            // What runs stays; a cluster without weight is never given more.
            let narrowed = self.narrowed(&running, |weight, bound, running| Bounds {
                min: running,
                max: if weight == 0 { running } else { bound.max },
            });
            return Ok(divider
                .divide_within(self.weights, &narrowed, self.replicas, self.ties)?
                .to_vec());
        };
        // A cluster without weight has no claim to what it runs: it shrinks before any other.
        let claimless: u64 = self
            .narrowed(&running, |weight, bound, running| Bounds {
                min: 0,
                max: if weight == 0 { running - bound.min } else { 0 },
            })
            .iter()
            .map(|bound| u64::from(bound.max))
            .sum();
        if claimless >= excess {
            let narrowed = self.narrowed(&running, |weight, bound, running| Bounds {
                min: if weight == 0 { bound.min } else { running },
                max: running,
            });
            let equal = vec![1; count];
            return Ok(divider
                .divide_within(&equal, &narrowed, self.replicas, self.ties)?
                .to_vec());
        }
        let narrowed = self.narrowed(&running, |weight, bound, running| Bounds {
            min: bound.min,
            max: if weight == 0 { bound.min } else { running },
        });
        Ok(divider
            .divide_within(self.weights, &narrowed, self.replicas, self.ties)?
            .to_vec())
    }

    fn narrowed(&self, running: &[u32], narrow: impl Fn(u64, Bounds, u32) -> Bounds) -> Vec<Bounds> {
        let bounds = self.bounds.iter().zip(running);
        self.weights
            .iter()
            .zip(bounds)
            .map(|(&weight, (&bound, &running))| narrow(weight, bound, running))
            .collect()
    }

    /// [`keep`](Self::keep), then moves at most `budget` replicas toward the division that would be made without
    /// regard to what runs.
    ///
    /// # Errors
    /// As of [`keep`](Self::keep).
    ///
    /// ```
    /// # fn main() -> Result<(), kurator_policy::replicas::DivisionError> {
    /// use kurator_policy::replicas::{Bounds, Divider, Steady, TieOrder};
    /// let steady = Steady {
    ///     weights: &[50, 50],
    ///     bounds: &[Bounds::default(); 2],
    ///     previous: &[8, 0],
    ///     replicas: 8,
    ///     ties: TieOrder::Ascending,
    /// };
    /// let step = steady.rebalance(3, &mut Divider::default())?;
    /// assert_eq!((step.replicas.as_slice(), step.moved, step.left), ([5, 3].as_slice(), 3, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn rebalance(&self, budget: u32, divider: &mut Divider) -> Result<Rebalanced, DivisionError> {
        let kept = self.keep(divider)?;
        let target = divider
            .divide_within(self.weights, self.bounds, self.replicas, self.ties)?
            .to_vec();
        let surplus: u32 = kept
            .iter()
            .zip(&target)
            .map(|(&kept, &target)| kept.saturating_sub(target))
            .sum();
        let moved = surplus.min(budget);
        let left = surplus - moved;
        if moved == 0 {
            return Ok(Rebalanced {
                replicas: kept,
                moved,
                left,
            });
        }
        let weights: Vec<u64> = self.weights.iter().map(|&weight| weight.max(1)).collect();
        let pairs = || kept.iter().zip(&target);
        // First take the seats with the weakest claims, then give them to the strongest, never past the target.
        let falling: Vec<Bounds> = pairs()
            .map(|(&kept, &target)| Bounds {
                min: kept.min(target),
                max: kept,
            })
            .collect();
        let fewer = divider
            .divide_within(&weights, &falling, self.replicas - moved, self.ties)?
            .to_vec();
        let rising: Vec<Bounds> = fewer
            .iter()
            .zip(pairs())
            .map(|(&fewer, (&kept, &target))| Bounds {
                min: fewer,
                max: if kept > target { fewer } else { target },
            })
            .collect();
        let replicas = divider
            .divide_within(&weights, &rising, self.replicas, self.ties)?
            .to_vec();
        Ok(Rebalanced {
            replicas,
            moved,
            left,
        })
    }
}

/// One step of a rebalance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebalanced {
    /// What each cluster is to have now.
    pub replicas: Vec<u32>,
    /// How many replicas change their cluster in this step, beside those that the bounds force to move.
    pub moved: u32,
    /// How many would still have to move to reach the target.
    pub left: u32,
}
