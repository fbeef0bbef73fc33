//! Webster's method (Sainte-Laguë) in exact integers, by divisor search.
//!
//! The method gives one seat after the other to the cluster with the largest `weight / (2 * seats + 1)`. Given one by
//! one that is slow; but the seats given so far are always those whose quotient is at or above some threshold, so it
//! is enough to guess a threshold, round every cluster's share at it, and give or take the few seats that are then
//! missing or too many. The guess decides only how many that are, never what comes out.

use super::division_error::DivisionError;
use super::ties::TieOrder;

/// The fewest and the most replicas a cluster may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a pair of bounds")]
pub struct Bounds {
    /// At least so many.
    pub min: u32,
    /// At most so many.
    pub max: u32,
}

impl Default for Bounds {
    /// Anything.
    fn default() -> Self {
        Self {
            min: 0,
            max: u32::MAX,
        }
    }
}

/// Divides replicas; keeps its working memory, so that dividing again allocates nothing.
///
/// # Guarantees
/// - The sum of the result is the number asked for, or there is an error.
/// - Without bounds the result is that of Webster's method: house monotone (one replica more takes none from anyone)
///   and population monotone (a cluster joining only takes).
/// - All arithmetic is exact for every `u64` weight; nothing rounds and nothing wraps.
/// - The time does not depend on the number of replicas.
///
/// ```
/// # fn main() -> Result<(), kurator_policy::replicas::DivisionError> {
/// use kurator_policy::replicas::{Divider, TieOrder};
///
/// let mut divider = Divider::default();
/// assert_eq!(divider.divide(&[90, 10], 20, TieOrder::Ascending)?, [18, 2]);
/// assert_eq!(divider.divide(&[1, 1], 3, TieOrder::Descending)?, [1, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Divider {
    seats: Vec<u32>,
    heap: Vec<u32>,
}

impl Divider {
    /// Divides `replicas` in proportion to `weights`. A weight of 0 gets nothing.
    ///
    /// The result stands in the order of the weights; `ties` reads that order as the order of the names.
    ///
    /// # Errors
    /// [`DivisionError::NoWeight`] if there are replicas and all weights are 0.
    pub fn divide(
        &mut self,
        weights: &[u64],
        replicas: u32,
        ties: TieOrder,
    ) -> Result<&[u32], DivisionError> {
        let total = sum(weights);
        if total == 0 && replicas > 0 {
            return Err(DivisionError::NoWeight { replicas });
        }
        self.seats.clear();
        if replicas == 0 {
            self.seats.resize(weights.len(), 0);
            return Ok(&self.seats);
        }
        let at = Threshold::near(replicas, total);
        let given = round_all(&mut self.seats, at, weights, &Unbounded);
        settle(
            &mut self.seats,
            &mut self.heap,
            weights,
            &Unbounded,
            ties,
            given,
            replicas,
        );
        Ok(&self.seats)
    }

    /// Divides `replicas` in proportion to `weights` as far as `bounds` allow: the result is the one that Webster's
    /// method reaches when every cluster starts with its minimum and drops out at its maximum. It is unique.
    ///
    /// A cluster of weight 0 gets its minimum.
    ///
    /// # Errors
    /// [`DivisionError`] if the lists differ in length, a minimum is above its maximum, or the bounds leave no room
    /// for the number asked for.
    pub fn divide_within(
        &mut self,
        weights: &[u64],
        bounds: &[Bounds],
        replicas: u32,
        ties: TieOrder,
    ) -> Result<&[u32], DivisionError> {
        check_bounds(weights, bounds, replicas)?;
        let total = sum(weights);
        self.seats.clear();
        if total == 0 {
            // The minima are the only possible answer, and the check has seen that they add up.
            self.seats.extend(bounds.iter().map(|bound| bound.min));
            return Ok(&self.seats);
        }
        let at = Threshold::near(replicas.max(1), total);
        let given = search(&mut self.seats, at, weights, bounds, replicas);
        settle(
            &mut self.seats,
            &mut self.heap,
            weights,
            bounds,
            ties,
            given,
            replicas,
        );
        Ok(&self.seats)
    }
}

fn sum(weights: &[u64]) -> u128 {
    weights.iter().map(|&weight| u128::from(weight)).sum()
}

fn check_bounds(weights: &[u64], bounds: &[Bounds], replicas: u32) -> Result<(), DivisionError> {
    if weights.len() != bounds.len() {
        return Err(DivisionError::Lengths {
            weights: weights.len(),
            bounds: bounds.len(),
        });
    }
    let (mut least, mut most) = (0_u64, 0_u64);
    for (position, (&weight, bound)) in weights.iter().zip(bounds).enumerate() {
        if bound.min > bound.max {
            return Err(DivisionError::Inverted {
                position,
                min: bound.min,
                max: bound.max,
            });
        }
        least += u64::from(bound.min);
        most += u64::from(if weight == 0 { bound.min } else { bound.max });
    }
    if least > u64::from(replicas) {
        return Err(DivisionError::MinimaExceed {
            minima: least,
            replicas,
        });
    }
    if most < u64::from(replicas) {
        return Err(DivisionError::MaximaFallShort {
            maxima: most,
            replicas,
        });
    }
    Ok(())
}

/// What a cluster may get, by position. Compiled away where there are no bounds.
trait Limits {
    fn of(&self, position: usize) -> Bounds;
}

struct Unbounded;

impl Limits for Unbounded {
    #[inline]
    fn of(&self, _: usize) -> Bounds {
        Bounds {
            min: 0,
            max: u32::MAX,
        }
    }
}

impl Limits for [Bounds] {
    #[inline]
    fn of(&self, position: usize) -> Bounds {
        self.get(position).copied().unwrap_or_default()
    }
}

/// Replicas for one unit of weight, as `scale / 2^shift`: a cluster's share is found without dividing.
#[derive(Clone, Copy)]
struct Threshold {
    scale: u64,
    shift: u32,
}

impl Threshold {
    /// About `replicas / total`, from below. Both must be above 0.
    fn near(replicas: u32, total: u128) -> Self {
        let bits = |value: u128| 128 - value.leading_zeros();
        // At most 95, so that `replicas << shift` fits; at least 1, because shares are rounded from twice the value.
        let shift = (62 + bits(total))
            .saturating_sub(bits(u128::from(replicas)))
            .clamp(1, 95);
        let scale = (u128::from(replicas) << shift) / total;
        Self {
            scale: u64::try_from(scale).unwrap_or(u64::MAX),
            shift,
        }
    }

    /// The share of `weight`, rounded half up.
    #[inline]
    fn share(self, weight: u64) -> u128 {
        let product = u128::from(weight) * u128::from(self.scale);
        let doubled = product.checked_shr(self.shift - 1).unwrap_or(0);
        doubled.div_ceil(2)
    }
}

/// Rounds every share at the threshold and returns their sum.
fn round_all<L: Limits + ?Sized>(seats: &mut Vec<u32>, at: Threshold, weights: &[u64], limits: &L) -> u64 {
    seats.clear();
    seats.reserve(weights.len());
    let mut given = 0;
    seats.extend(weights.iter().enumerate().map(|(position, &weight)| {
        let bound = limits.of(position);
        let share = u32::try_from(at.share(weight))
            .unwrap_or(u32::MAX)
            .clamp(bound.min, bound.max);
        given += u64::from(share);
        share
    }));
    given
}

/// Finds a threshold at which no more seats are missing or too many than there are clusters, and rounds at it.
fn search<L: Limits + ?Sized>(
    seats: &mut Vec<u32>,
    start: Threshold,
    weights: &[u64],
    limits: &L,
    replicas: u32,
) -> u64 {
    let wanted = u64::from(replicas);
    let close = (weights.len() as u64 / 8).max(8);
    let mut at = start;
    let mut given = round_all(seats, at, weights, limits);
    if given.abs_diff(wanted) <= close {
        return given;
    }
    // Double or halve until the wanted number lies between; at the ends every cluster is at a bound.
    let (mut low, mut high);
    if given < wanted {
        loop {
            if at.shift == 1 {
                return given;
            }
            at.shift -= 1;
            given = round_all(seats, at, weights, limits);
            if given >= wanted {
                break;
            }
        }
        (low, high) = (at.scale, at.scale.saturating_mul(2));
        at.shift += 1;
    } else {
        loop {
            at.shift += 1;
            given = round_all(seats, at, weights, limits);
            if given <= wanted || at.shift > 192 {
                break;
            }
        }
        (low, high) = (at.scale, at.scale.saturating_mul(2));
    }
    while given.abs_diff(wanted) > close && high - low > 1 {
        let scale = low + (high - low) / 2;
        at.scale = scale;
        given = round_all(seats, at, weights, limits);
        if given < wanted {
            low = scale;
        } else {
            high = scale;
        }
    }
    if given.abs_diff(wanted) > close {
        // Nothing lies between two neighbouring thresholds but clusters of the same quotient, one seat each.
        at.scale = high;
        given = round_all(seats, at, weights, limits);
    }
    given
}

/// Gives or takes the seats that are missing or too many, the most deserved first.
fn settle<L: Limits + ?Sized>(
    seats: &mut [u32],
    heap: &mut Vec<u32>,
    weights: &[u64],
    limits: &L,
    ties: TieOrder,
    mut given: u64,
    replicas: u32,
) {
    let wanted = u64::from(replicas);
    heap.clear();
    if given < wanted {
        heap.reserve(weights.len());
        let open = |&position: &u32, seats: &[u32]| {
            let at = position as usize;
            weights.get(at).is_some_and(|&w| w > 0) && seats.get(at).is_some_and(|&s| s < limits.of(at).max)
        };
        heap.extend(positions(weights.len()).filter(|p| open(p, seats)));
        let mut queue = Queue {
            heap,
            weights,
            before: |a: Claim, b: Claim| a.next_before(b, ties),
        };
        queue.build(seats);
        while given < wanted {
            let Some(top) = queue.top() else { break };
            if let Some(seat) = seats.get_mut(top as usize) {
                *seat += 1;
            }
            given += 1;
            queue.update_top(seats, open(&top, seats));
        }
    } else if given > wanted {
        heap.reserve(weights.len());
        let held = |&position: &u32, seats: &[u32]| {
            let at = position as usize;
            seats.get(at).is_some_and(|&s| s > limits.of(at).min)
        };
        heap.extend(positions(weights.len()).filter(|p| held(p, seats)));
        let mut queue = Queue {
            heap,
            weights,
            before: |a: Claim, b: Claim| b.last_before(a, ties),
        };
        queue.build(seats);
        while given > wanted {
            let Some(top) = queue.top() else { break };
            if let Some(seat) = seats.get_mut(top as usize) {
                *seat -= 1;
            }
            given -= 1;
            queue.update_top(seats, held(&top, seats));
        }
    }
}

fn positions(len: usize) -> impl Iterator<Item = u32> {
    0..u32::try_from(len).unwrap_or(u32::MAX)
}

/// A cluster's claim to a seat.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) position: usize,
    pub(super) weight: u64,
    pub(super) seats: u32,
}

impl Claim {
    /// Whether the next seat goes to this cluster before the other one.
    pub(super) fn next_before(self, other: Self, ties: TieOrder) -> bool {
        self.before(
            other,
            2 * u64::from(self.seats) + 1,
            2 * u64::from(other.seats) + 1,
            ties,
        )
    }

    /// Whether the last seat this cluster holds was given before the other one's. Both hold at least one.
    pub(super) fn last_before(self, other: Self, ties: TieOrder) -> bool {
        self.before(
            other,
            (2 * u64::from(self.seats)).saturating_sub(1),
            (2 * u64::from(other.seats)).saturating_sub(1),
            ties,
        )
    }

    #[inline]
    fn before(self, other: Self, divisor: u64, other_divisor: u64, ties: TieOrder) -> bool {
        let mine = u128::from(self.weight) * u128::from(other_divisor);
        let theirs = u128::from(other.weight) * u128::from(divisor);
        if mine != theirs {
            return mine > theirs;
        }
        if self.seats != other.seats {
            return self.seats < other.seats;
        }
        ties.first(self.position, other.position)
    }
}

/// A binary heap of positions over borrowed memory.
struct Queue<'a, B> {
    heap: &'a mut Vec<u32>,
    weights: &'a [u64],
    before: B,
}

impl<B: Fn(Claim, Claim) -> bool> Queue<'_, B> {
    fn build(&mut self, seats: &[u32]) {
        for start in (0..self.heap.len() / 2).rev() {
            self.sift_down(start, seats);
        }
    }

    fn top(&self) -> Option<u32> {
        self.heap.first().copied()
    }

    /// Puts the top where its changed claim belongs, or drops it if it has none left.
    fn update_top(&mut self, seats: &[u32], keep: bool) {
        if !keep && !self.heap.is_empty() {
            self.heap.swap_remove(0);
        }
        self.sift_down(0, seats);
    }

    #[inline]
    fn claim(&self, at: usize, seats: &[u32]) -> Option<Claim> {
        let position = *self.heap.get(at)? as usize;
        Some(Claim {
            position,
            weight: *self.weights.get(position)?,
            seats: *seats.get(position)?,
        })
    }

    fn sift_down(&mut self, mut at: usize, seats: &[u32]) {
        let Some(sinking) = self.claim(at, seats) else {
            return;
        };
        loop {
            let left = 2 * at + 1;
            let Some(mut best) = self.claim(left, seats) else {
                return;
            };
            let mut child = left;
            if let Some(right) = self.claim(left + 1, seats)
                && (self.before)(right, best)
            {
                (best, child) = (right, left + 1);
            }
            if !(self.before)(best, sinking) {
                return;
            }
            self.heap.swap(at, child);
            at = child;
        }
    }
}
