//! From a strategy and what runs today to a number of replicas for each cluster.

use std::cmp::Reverse;

use super::division_error::DivisionError;
use super::divisor::Divider;
use super::ties::TieOrder;

/// How replicas are divided among candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy<'a> {
    /// Every candidate gets all of them.
    Duplicated,
    /// In proportion to these weights, by position; if all are 0, in equal parts. Neither room nor what runs today
    /// is looked at.
    Static(&'a [u64]),
    /// In proportion to the room each candidate has.
    Available,
    /// On as few candidates as hold them, the roomiest first.
    Aggregated,
}

/// A division to make. All lists are by position, and positions are in the order of the clusters' names.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "borrowed input, built in place by the caller"
)]
pub struct Division<'a> {
    /// How to divide.
    pub strategy: Strategy<'a>,
    /// The replicas the workload has in all.
    pub replicas: u32,
    /// Who goes first at equal claims.
    pub ties: TieOrder,
    /// How many more replicas each candidate has room for.
    pub room: &'a [u64],
    /// How many replicas each candidate has today.
    pub previous: &'a [u32],
    /// Divide everything anew instead of only what was added or taken away.
    pub fresh: bool,
    /// The order in which candidates of equal room are taken by [`Strategy::Aggregated`]; empty means by position.
    pub order: &'a [u32],
    /// The order in which candidates of equally many replicas are kept when an aggregated workload shrinks; empty
    /// means by position.
    pub previous_order: &'a [u32],
}

/// Applies a strategy; keeps its working memory, so that assigning again allocates nothing.
///
/// ```
/// # fn main() -> Result<(), kurator_policy::replicas::DivisionError> {
/// use kurator_policy::replicas::{Assigner, Division, Strategy, TieOrder};
///
/// let mut assigner = Assigner::default();
/// let division = Division {
///     strategy: Strategy::Available,
///     replicas: 12,
///     ties: TieOrder::Ascending,
///     room: &[30, 10],
///     previous: &[0, 4],
///     fresh: false,
///     order: &[],
///     previous_order: &[],
/// };
/// // The four that run stay; the eight that are new go where the room is.
/// assert_eq!(assigner.assign(&division)?, [6, 6]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Assigner {
    divider: Divider,
    pool: Vec<u64>,
    order: Vec<u32>,
    rank: Vec<u32>,
    assigned: Vec<u32>,
}

impl Assigner {
    /// Assigns the replicas of `division` to its candidates.
    ///
    /// # Errors
    /// [`DivisionError::NoRoom`] if a strategy that looks at room finds too little of it, [`DivisionError::Overflow`]
    /// if a cluster would get more than `u32::MAX`, [`DivisionError::Lengths`] if the lists differ in length.
    pub fn assign(&mut self, division: &Division<'_>) -> Result<&[u32], DivisionError> {
        let candidates = division.room.len();
        if division.previous.len() != candidates {
            return Err(DivisionError::Lengths {
                weights: candidates,
                bounds: division.previous.len(),
            });
        }
        match division.strategy {
            Strategy::Duplicated => {
                self.assigned.clear();
                self.assigned.resize(candidates, division.replicas);
            }
            Strategy::Static(weights) => {
                if weights.len() != candidates {
                    return Err(DivisionError::Lengths {
                        weights: weights.len(),
                        bounds: candidates,
                    });
                }
                self.pool.clear();
                if weights.iter().all(|&weight| weight == 0) {
                    self.pool.resize(candidates, 1);
                } else {
                    self.pool.extend_from_slice(weights);
                }
                if candidates == 0 {
                    self.assigned.clear();
                } else {
                    let seats = self
                        .divider
                        .divide(&self.pool, division.replicas, division.ties)?;
                    self.assigned.clear();
                    self.assigned.extend_from_slice(seats);
                }
            }
            Strategy::Available | Strategy::Aggregated => self.assign_by_room(division)?,
        }
        Ok(&self.assigned)
    }

    fn assign_by_room(&mut self, division: &Division<'_>) -> Result<(), DivisionError> {
        let wanted = u64::from(division.replicas);
        let running: u64 = division
            .previous
            .iter()
            .map(|&replicas| u64::from(replicas))
            .sum();
        self.assigned.clear();
        self.pool.clear();
        if division.fresh {
            for (&room, &previous) in division.room.iter().zip(division.previous) {
                let all = room.checked_add(u64::from(previous));
                self.pool.push(all.ok_or(DivisionError::Overflow {
                    what: "room and running replicas",
                })?);
            }
            self.assigned.resize(division.room.len(), 0);
            self.arrange(division, division.order, &[]);
            self.add(division, division.replicas)
        } else if running == wanted {
            self.assigned.extend_from_slice(division.previous);
            Ok(())
        } else if running > wanted {
            self.pool
                .extend(division.previous.iter().map(|&replicas| u64::from(replicas)));
            self.assigned.resize(division.room.len(), 0);
            self.arrange(division, division.previous_order, &[]);
            self.add(division, division.replicas)
        } else {
            self.pool.extend_from_slice(division.room);
            self.assigned.extend_from_slice(division.previous);
            self.arrange(division, division.order, division.previous);
            let more = u32::try_from(wanted - running).map_err(|_| DivisionError::Overflow {
                what: "replicas to add",
            })?;
            self.add(division, more)
        }
    }

    /// The order in which an aggregated division takes candidates: those that run some already, then by size of pool,
    /// then as listed.
    fn arrange(&mut self, division: &Division<'_>, listed: &[u32], kept: &[u32]) {
        if !matches!(division.strategy, Strategy::Aggregated) {
            return;
        }
        let candidates = division.room.len();
        self.order.clear();
        if listed.is_empty() {
            self.order
                .extend(0..u32::try_from(candidates).unwrap_or(u32::MAX));
        } else {
            self.order.extend_from_slice(listed);
        }
        self.rank.clear();
        self.rank.resize(candidates, u32::MAX);
        for (rank, &position) in self.order.iter().enumerate() {
            if let Some(slot) = self.rank.get_mut(position as usize) {
                *slot = u32::try_from(rank).unwrap_or(u32::MAX);
            }
        }
        let (pool, rank) = (&self.pool, &self.rank);
        self.order.sort_unstable_by_key(|&position| {
            let at = position as usize;
            let kept = kept.get(at).is_some_and(|&replicas| replicas > 0);
            (!kept, Reverse(pool.get(at).copied()), rank.get(at).copied())
        });
    }

    /// Divides `more` replicas by the pool and adds them to what is assigned.
    fn add(&mut self, division: &Division<'_>, more: u32) -> Result<(), DivisionError> {
        let room: u128 = self.pool.iter().map(|&room| u128::from(room)).sum();
        if room < u128::from(more) {
            let missing = u64::try_from(u128::from(more) - room).unwrap_or(u64::MAX);
            return Err(DivisionError::NoRoom {
                replicas: u64::from(more),
                room,
                missing,
            });
        }
        if matches!(division.strategy, Strategy::Aggregated) {
            let mut held = 0_u128;
            for &position in &self.order {
                let Some(pool) = self.pool.get_mut(position as usize) else {
                    continue;
                };
                if held >= u128::from(more) {
                    *pool = 0;
                }
                held += u128::from(*pool);
            }
        }
        if more == 0 {
            return Ok(());
        }
        let seats = self.divider.divide(&self.pool, more, division.ties)?;
        for (assigned, &seats) in self.assigned.iter_mut().zip(seats) {
            *assigned = assigned.checked_add(seats).ok_or(DivisionError::Overflow {
                what: "running and added replicas of a cluster",
            })?;
        }
        Ok(())
    }
}
