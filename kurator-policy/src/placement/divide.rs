//! From chosen clusters to numbers: the division with its tiers.

use super::policy::How;
use super::reason::Unplaced;
use crate::replicas::{Assigner, Division, DivisionError, Strategy, TieOrder};

/// What a division over tiers works on, by position over the whole fleet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiered<'a> {
    pub(super) how: &'a How,
    pub(super) replicas: u32,
    pub(super) ties: TieOrder,
    /// The chosen clusters in the order in which they are to be used.
    pub(super) chosen: &'a [u32],
    /// Their tiers; clusters of one tier take what the tiers before it have no room for.
    pub(super) tier: &'a [u8],
    pub(super) room: &'a [u64],
    pub(super) previous: &'a [u32],
    /// The order in which the running clusters are listed; empty means by name.
    pub(super) listed: &'a [u32],
    pub(super) fresh: bool,
    /// Divide tier by tier whatever the strategy, as Karmada does.
    pub(super) every_strategy: bool,
}

/// Divides over tiers; keeps its memory.
#[derive(Debug, Default)]
pub(super) struct TierDivider {
    assigner: Assigner,
    weights: Vec<u64>,
    room: Vec<u64>,
    previous: Vec<u32>,
    order: Vec<u32>,
    listed: Vec<u32>,
}

impl TierDivider {
    /// Writes every cluster's number of replicas to `out`; clusters that are not chosen get none.
    pub(super) fn divide(&mut self, tiered: &Tiered<'_>, out: &mut Vec<u32>) -> Result<(), Unplaced> {
        let fleet = tiered.room.len();
        out.clear();
        out.resize(fleet, 0);
        match tiered.how {
            _ if tiered.every_strategy => self.by_tier(tiered, out),
            How::Duplicated => {
                for &at in tiered.chosen {
                    set(out, at, tiered.replicas);
                }
                Ok(())
            }
            How::Static(weights) => self.by_weight(
                tiered,
                weights,
                tiered.chosen.iter().copied(),
                tiered.replicas,
                out,
            ),
            How::Available | How::Aggregated => self.by_tier(tiered, out),
        }
    }

    fn by_weight(
        &mut self,
        tiered: &Tiered<'_>,
        weights: &[u64],
        members: impl Iterator<Item = u32> + Clone,
        replicas: u32,
        out: &mut [u32],
    ) -> Result<(), Unplaced> {
        self.weights.clear();
        self.weights.resize(weights.len(), 0);
        let of = |at: u32| weights.get(at as usize).copied().unwrap_or(0);
        // Weights that nobody chosen has are no reason to place nothing.
        let none = members.clone().all(|at| of(at) == 0);
        for at in members.clone() {
            if let Some(weight) = self.weights.get_mut(at as usize) {
                *weight = if none { 1 } else { of(at) };
            }
        }
        let division = Division {
            strategy: Strategy::Static(&self.weights),
            replicas,
            ties: tiered.ties,
            room: tiered.room,
            previous: tiered.previous,
            fresh: tiered.fresh,
            order: &[],
            previous_order: &[],
        };
        let assigned = self
            .assigner
            .assign(&division)
            .map_err(|error| unplaced(&error))?;
        for at in members {
            set(out, at, assigned.get(at as usize).copied().unwrap_or(0));
        }
        Ok(())
    }

    fn by_tier(&mut self, tiered: &Tiered<'_>, out: &mut [u32]) -> Result<(), Unplaced> {
        let tier_of = |at: u32| tiered.tier.get(at as usize).copied().unwrap_or(0);
        let previous = |at: u32| tiered.previous.get(at as usize).copied().unwrap_or(0);
        let room = |at: u32| tiered.room.get(at as usize).copied().unwrap_or(0);
        let tiers = tiered
            .chosen
            .iter()
            .map(|&at| tier_of(at))
            .max()
            .map_or(0, |last| u32::from(last) + 1);
        let wanted = u64::from(tiered.replicas);
        let mut left = tiered.replicas;
        let mut reach = 0_u64;
        for tier in 0..tiers {
            let members = || {
                tiered
                    .chosen
                    .iter()
                    .copied()
                    .filter(move |&at| u32::from(tier_of(at)) == tier)
            };
            // What runs in a tier has its place there, so it comes back from overflow when there is room again.
            let holds: u128 = members()
                .map(|at| u128::from(room(at)) + u128::from(previous(at)))
                .sum();
            // The last tier by room is asked for all that is left, and says what it has no room for.
            let by_room = matches!(tiered.how, How::Available | How::Aggregated);
            let give = if tier + 1 == tiers && by_room {
                left
            } else {
                left.min(u32::try_from(holds).unwrap_or(u32::MAX))
            };
            left -= give;
            reach = reach.saturating_add(u64::try_from(holds).unwrap_or(u64::MAX));
            match tiered.how {
                How::Duplicated => {
                    members().for_each(|at| set(out, at, give));
                    continue;
                }
                How::Static(weights) => {
                    if members().next().is_some() {
                        self.by_weight(tiered, weights, members(), give, out)?;
                    }
                    continue;
                }
                How::Available | How::Aggregated => self.fill(tiered, members()),
            }
            let division = Division {
                strategy: if *tiered.how == How::Aggregated {
                    Strategy::Aggregated
                } else {
                    Strategy::Available
                },
                replicas: give,
                ties: tiered.ties,
                room: &self.room,
                previous: &self.previous,
                fresh: tiered.fresh,
                order: &self.order,
                previous_order: &self.listed,
            };
            let assigned = match self.assigner.assign(&division) {
                Ok(assigned) => assigned,
                Err(DivisionError::NoRoom { missing, .. }) => {
                    return Err(Unplaced::NoRoom {
                        missing,
                        room: reach,
                        wanted,
                    });
                }
                Err(error) => return Err(unplaced(&error)),
            };
            for at in members() {
                set(out, at, assigned.get(at as usize).copied().unwrap_or(0));
            }
        }
        if left > 0 {
            return Err(Unplaced::NoRoom {
                missing: u64::from(left),
                room: reach,
                wanted,
            });
        }
        Ok(())
    }

    /// Lays out one tier; all other clusters have neither room nor replicas.
    fn fill(&mut self, tiered: &Tiered<'_>, members: impl Iterator<Item = u32>) {
        self.room.clear();
        self.room.resize(tiered.room.len(), 0);
        self.previous.clear();
        self.previous.resize(tiered.room.len(), 0);
        self.order.clear();
        for at in members {
            self.order.push(at);
            let index = at as usize;
            if let (Some(slot), Some(&room)) = (self.room.get_mut(index), tiered.room.get(index)) {
                *slot = room;
            }
            if let (Some(slot), Some(&previous)) = (self.previous.get_mut(index), tiered.previous.get(index))
            {
                *slot = previous;
            }
        }
        self.listed.clear();
        let previous = &self.previous;
        let runs = |at: &u32| previous.get(*at as usize).is_some_and(|&replicas| replicas > 0);
        self.listed.extend(tiered.listed.iter().copied().filter(runs));
    }
}

fn set(out: &mut [u32], at: u32, replicas: u32) {
    if let Some(slot) = out.get_mut(at as usize) {
        *slot = replicas;
    }
}

fn unplaced(error: &DivisionError) -> Unplaced {
    match *error {
        DivisionError::NoRoom {
            replicas,
            room,
            missing,
        } => Unplaced::NoRoom {
            missing,
            room: u64::try_from(room).unwrap_or(u64::MAX),
            wanted: replicas,
        },
        DivisionError::Overflow { what } => Unplaced::Overflow {
            what: what.to_owned(),
        },
        ref other => Unplaced::Limits {
            conflict: other.to_string(),
        },
    }
}
