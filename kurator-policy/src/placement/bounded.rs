//! The division under the demands of a policy: bounds for clusters, guarantees for the whole.

use std::collections::BTreeMap;

use super::divide::Tiered;
use super::index::FleetIndex;
use super::limits::{Limits, WeightedLevel};
use super::policy::How;
use super::reason::Unplaced;
use crate::replicas::{
    Bounds, Branch, Conflict, Divider, DivisionError, Steady, TieOrder, conflict, divide_tree,
};

/// What came out: replicas by position, and how many found no place.
#[derive(Debug, Default)]
pub(super) struct Bounded {
    pub(super) assigned: Vec<u32>,
    pub(super) missing: u32,
}

/// Divides under the demands of the policy.
///
/// Within its bounds the result is the unique one of Webster's method (see [`Divider::divide_within`]); when what runs
/// is to stay, it is one that moves the fewest replicas (see [`Steady::keep`]).
pub(super) fn divide(tiered: &Tiered<'_>, limits: &Limits, fleet: &FleetIndex) -> Result<Bounded, Unplaced> {
    let mut problem = Problem::new(tiered, limits, fleet)?;
    let (least, most) = problem.reach();
    let wanted = u64::from(tiered.replicas);
    if least > wanted {
        return Err(problem.minima(tiered.replicas));
    }
    let placed = wanted.min(most);
    if placed < wanted && !limits.partial {
        return Err(problem.shortage(wanted, most));
    }
    let replicas = u32::try_from(placed).unwrap_or(u32::MAX);
    problem.loss(replicas)?;
    let mut assigned = vec![0; fleet.len()];
    let mut left = replicas;
    for tier in problem.tiers() {
        let members = problem.members(tier);
        let sums = |members: &[u32]| {
            members.iter().fold((0_u64, 0_u64), |(least, most), &at| {
                let bound = problem.bound(at);
                (least + u64::from(bound.min), most + u64::from(bound.max))
            })
        };
        let later: u64 = problem
            .tiers()
            .filter(|&other| other > tier)
            .map(|t| sums(&problem.members(t)).0)
            .sum();
        let (_, most) = sums(&members);
        // The tiers behind keep what they must have.
        let give = u64::from(left).saturating_sub(later).min(most);
        let give = u32::try_from(give).unwrap_or(u32::MAX);
        left -= give;
        let seats = problem.divide_tier(&members, give)?;
        for (&at, seats) in members.iter().zip(seats) {
            if let Some(slot) = assigned.get_mut(at as usize) {
                *slot = seats;
            }
        }
    }
    Ok(Bounded {
        assigned,
        missing: tiered.replicas - replicas,
    })
}

struct Problem<'a> {
    tiered: &'a Tiered<'a>,
    limits: &'a Limits,
    fleet: &'a FleetIndex,
    bounds: Vec<Bounds>,
    weights: Vec<u64>,
    divider: Divider,
}

impl<'a> Problem<'a> {
    fn new(tiered: &'a Tiered<'a>, limits: &'a Limits, fleet: &'a FleetIndex) -> Result<Self, Unplaced> {
        let by_room = matches!(tiered.how, How::Available | How::Aggregated);
        let most = limits.survive.map(|survive| survive.most(tiered.replicas));
        let mut bounds = vec![Bounds { min: 0, max: 0 }; fleet.len()];
        let mut weights = vec![0; fleet.len()];
        for &at in tiered.chosen {
            let index = at as usize;
            let mut bound = limits.bounds.get(index).copied().unwrap_or_default();
            let previous = tiered.previous.get(index).copied().unwrap_or(0);
            let room = tiered.room.get(index).copied().unwrap_or(0);
            let total = room.checked_add(u64::from(previous));
            let total = total.ok_or(Unplaced::Overflow {
                what: "room and running replicas".to_owned(),
            })?;
            if by_room || limits.cap_by_room {
                bound.max = bound.max.min(u32::try_from(total).unwrap_or(u32::MAX));
            }
            if let Some(most) = most {
                bound.max = bound.max.min(most);
            }
            bound.max = bound.max.min(tiered.replicas.max(bound.min));
            if bound.min > bound.max {
                let cluster = fleet
                    .names()
                    .nth(index)
                    .map(ToString::to_string)
                    .unwrap_or_default();
                return Err(Unplaced::Limits {
                    conflict: format!(
                        "{cluster} must have at least {} replicas and can have {}; lower its minimum or give it room",
                        bound.min, bound.max
                    ),
                });
            }
            let weight = match tiered.how {
                How::Static(weights) => weights.get(index).copied().unwrap_or(0),
                _ => total,
            };
            if let (Some(b), Some(w)) = (bounds.get_mut(index), weights.get_mut(index)) {
                (*b, *w) = (bound, weight);
            }
        }
        let mut problem = Self {
            tiered,
            limits,
            fleet,
            bounds,
            weights,
            divider: Divider::default(),
        };
        problem.weigh();
        Ok(problem)
    }

    /// Weights that nobody has are no reason to place nothing; who weighs nothing keeps to its minimum.
    fn weigh(&mut self) {
        let none = self
            .tiered
            .chosen
            .iter()
            .all(|&at| self.weights.get(at as usize).is_none_or(|&w| w == 0));
        for &at in self.tiered.chosen {
            if let Some(weight) = self.weights.get_mut(at as usize).filter(|_| none) {
                *weight = 1;
            }
        }
        if !self.limits.hierarchy.is_empty() {
            self.drop_weightless(&self.limits.hierarchy, self.tiered.chosen.to_vec());
        }
        for (bound, &weight) in self.bounds.iter_mut().zip(&self.weights) {
            if weight == 0 {
                bound.max = bound.min;
            }
        }
    }

    /// Takes the weight from the clusters of groups that have none.
    fn drop_weightless(&mut self, levels: &[WeightedLevel], members: Vec<u32>) {
        let Some((level, inner)) = levels.split_first() else {
            return;
        };
        let groups = grouped(level, &members);
        let none = groups.keys().all(|&group| level.weight(group) == 0);
        for (group, members) in groups {
            if !none && level.weight(group) == 0 {
                for at in members {
                    if let Some(weight) = self.weights.get_mut(at as usize) {
                        *weight = 0;
                    }
                }
            } else {
                self.drop_weightless(inner, members);
            }
        }
    }

    fn bound(&self, at: u32) -> Bounds {
        self.bounds
            .get(at as usize)
            .copied()
            .unwrap_or(Bounds { min: 0, max: 0 })
    }

    fn weight(&self, at: u32) -> u64 {
        self.weights.get(at as usize).copied().unwrap_or(0)
    }

    fn tier(&self, at: u32) -> u8 {
        self.tiered.tier.get(at as usize).copied().unwrap_or(0)
    }

    fn tiers(&self) -> impl Iterator<Item = u8> + use<> {
        let last = self.tiered.chosen.iter().map(|&at| self.tier(at)).max();
        let by_room = matches!(self.tiered.how, How::Available | How::Aggregated);
        // Weights divide over all tiers at once.
        last.map(|last| if by_room { 0..=last } else { 0..=0 })
            .into_iter()
            .flatten()
    }

    /// The clusters of a tier by position.
    fn members(&self, tier: u8) -> Vec<u32> {
        let by_room = matches!(self.tiered.how, How::Available | How::Aggregated);
        let mut members: Vec<u32> = self
            .tiered
            .chosen
            .iter()
            .copied()
            .filter(|&at| !by_room || self.tier(at) == tier)
            .collect();
        members.sort_unstable();
        members
    }

    fn reach(&self) -> (u64, u64) {
        self.tiered.chosen.iter().fold((0, 0), |(least, most), &at| {
            let bound = self.bound(at);
            (least + u64::from(bound.min), most + u64::from(bound.max))
        })
    }

    /// The fewest clusters whose minima alone are too much.
    fn minima(&self, replicas: u32) -> Unplaced {
        let Some(Conflict::Minima { positions, sum, .. }) = conflict(&self.weights, &self.bounds, replicas)
        else {
            return Unplaced::Limits {
                conflict: "the minima are more than the replicas".to_owned(),
            };
        };
        let names = positions.iter().filter_map(|&at| {
            Some(format!(
                "{} at least {}",
                self.fleet.names.get(at)?,
                self.bounds.get(at)?.min
            ))
        });
        let names: Vec<String> = names.collect();
        Unplaced::Limits {
            conflict: format!(
                "{} add up to {sum} of {replicas} replicas; lower one of them",
                names.join(", ")
            ),
        }
    }

    /// Too little room, or limits that leave too little of it.
    fn shortage(&self, wanted: u64, most: u64) -> Unplaced {
        let room: u64 = self.tiered.chosen.iter().fold(0, |sum: u64, &at| {
            let index = at as usize;
            let previous = self.tiered.previous.get(index).copied().unwrap_or(0);
            sum.saturating_add(self.tiered.room.get(index).copied().unwrap_or(0))
                .saturating_add(u64::from(previous))
        });
        let by_room = matches!(self.tiered.how, How::Available | How::Aggregated) || self.limits.cap_by_room;
        if by_room && room < wanted {
            return Unplaced::NoRoom {
                missing: wanted - room,
                room,
                wanted,
            };
        }
        if let Some(survive) = self.limits.survive {
            let each = u64::from(survive.most(self.tiered.replicas));
            let keep = wanted - each;
            let clusters = self.tiered.chosen.len();
            if each.saturating_mul(clusters as u64) < wanted {
                let needed = wanted
                    .checked_div(each)
                    .map(|n| n + u64::from(!wanted.is_multiple_of(each)));
                let needed = needed.map_or_else(
                    || "no number of clusters is enough".to_owned(),
                    |needed| format!("{needed} clusters are needed"),
                );
                return Unplaced::Limits {
                    conflict: format!(
                        "to keep {keep} of {wanted} replicas through the loss of any cluster none may have more than \
                         {each}; {needed}, {clusters} can be used"
                    ),
                };
            }
        }
        Unplaced::Limits {
            conflict: format!(
                "the maxima of the {} clusters add up to {most} of {wanted} replicas; {} more are needed",
                self.tiered.chosen.len(),
                wanted - most
            ),
        }
    }

    /// With fewer replicas placed than wanted, the guarantee is about those that are.
    fn loss(&mut self, replicas: u32) -> Result<(), Unplaced> {
        let Some(survive) = self.limits.survive.filter(|_| replicas < self.tiered.replicas) else {
            return Ok(());
        };
        let each = survive.most(replicas);
        for bound in &mut self.bounds {
            bound.max = bound.max.min(each.max(bound.min));
        }
        let (_, most) = self.reach();
        if most < u64::from(replicas) {
            return Err(self.shortage(u64::from(self.tiered.replicas), most));
        }
        Ok(())
    }

    fn divide_tier(&mut self, members: &[u32], replicas: u32) -> Result<Vec<u32>, Unplaced> {
        if !self.limits.hierarchy.is_empty() {
            let tree = self.tree(&self.limits.hierarchy, members);
            let seats = divide_tree(
                &mut self.divider,
                &tree,
                self.fleet.len(),
                replicas,
                self.tiered.ties,
            );
            let seats = seats.map_err(|error| contradiction(&error))?;
            return Ok(members
                .iter()
                .map(|&at| seats.get(at as usize).copied().unwrap_or(0))
                .collect());
        }
        let mut bounds: Vec<Bounds> = members.iter().map(|&at| self.bound(at)).collect();
        let weights: Vec<u64> = members.iter().map(|&at| self.weight(at)).collect();
        if *self.tiered.how == How::Aggregated {
            self.concentrate(members, &mut bounds, replicas);
        }
        let previous: Vec<u32> = members
            .iter()
            .map(|&at| self.tiered.previous.get(at as usize).copied().unwrap_or(0))
            .collect();
        let runs = previous.iter().any(|&replicas| replicas > 0);
        let by_room = matches!(self.tiered.how, How::Available | How::Aggregated);
        // Static weights say what each cluster has, whatever it runs.
        let stays = runs && by_room && !self.tiered.fresh && !self.limits.path_independent;
        let ties = self.tiered.ties;
        let seats = if stays {
            let steady = Steady {
                weights: &weights,
                bounds: &bounds,
                previous: &previous,
                replicas,
                ties,
            };
            steady.keep(&mut self.divider)
        } else {
            self.divider
                .divide_within(&weights, &bounds, replicas, ties)
                .map(<[u32]>::to_vec)
        };
        seats.map_err(|error| contradiction(&error))
    }

    /// Closes the clusters an aggregated division can do without: those that run some come first, then the roomiest.
    fn concentrate(&self, members: &[u32], bounds: &mut [Bounds], replicas: u32) {
        let mut order: Vec<usize> = (0..members.len()).collect();
        let runs = |at: usize| {
            let position = members.get(at).map_or(usize::MAX, |&at| at as usize);
            !self.tiered.fresh
                && self
                    .tiered
                    .previous
                    .get(position)
                    .is_some_and(|&replicas| replicas > 0)
        };
        order.sort_by_key(|&at| {
            let bound = bounds.get(at).copied().unwrap_or_default();
            (bound.min == 0, !runs(at), std::cmp::Reverse(bound.max), at)
        });
        let mut held = 0_u64;
        for at in order {
            let Some(bound) = bounds.get_mut(at) else { continue };
            if held >= u64::from(replicas) {
                bound.max = bound.min;
            }
            held += u64::from(bound.max);
        }
    }

    /// The groups of the first level, in each of them those of the next, and last the clusters.
    fn tree(&self, levels: &[WeightedLevel], members: &[u32]) -> Vec<Branch> {
        let Some((level, inner)) = levels.split_first() else {
            return members
                .iter()
                .map(|&at| Branch::cluster(self.weight(at), at as usize, self.bound(at)))
                .collect();
        };
        let groups = grouped(level, members);
        let none = groups.keys().all(|&group| level.weight(group) == 0);
        let branch = |(group, members): (u32, Vec<u32>)| {
            Branch::group(
                if none { 1 } else { level.weight(group) },
                self.tree(inner, &members),
            )
        };
        groups.into_iter().map(branch).collect()
    }
}

impl WeightedLevel {
    fn weight(&self, group: u32) -> u64 {
        self.weights.get(group as usize).copied().unwrap_or(0)
    }
}

/// The clusters by group; those without one are a group of their own that weighs nothing.
fn grouped(level: &WeightedLevel, members: &[u32]) -> BTreeMap<u32, Vec<u32>> {
    let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for &at in members {
        groups
            .entry(level.group.get(at as usize).copied().unwrap_or(u32::MAX))
            .or_default()
            .push(at);
    }
    groups
}

fn contradiction(error: &DivisionError) -> Unplaced {
    Unplaced::Limits {
        conflict: error.to_string(),
    }
}

/// Moves at most `budget` replicas from what runs towards `target`; both have the same sum. Returns how many are left
/// to move.
pub(super) fn approach(previous: &[u32], target: &mut [u32], budget: u32, ties: TieOrder) -> u32 {
    let surplus: Vec<u64> = previous
        .iter()
        .zip(&*target)
        .map(|(&now, &then)| u64::from(now.saturating_sub(then)))
        .collect();
    let deficit: Vec<u64> = previous
        .iter()
        .zip(&*target)
        .map(|(&now, &then)| u64::from(then.saturating_sub(now)))
        .collect();
    let moves: u64 = deficit.iter().sum();
    let budget = u64::from(budget).min(moves);
    let left = moves - budget;
    // In proportion, so that every step looks like the whole move.
    let mut divider = Divider::default();
    let steps = u32::try_from(budget).unwrap_or(u32::MAX);
    let cap = |parts: &[u64]| -> Vec<Bounds> {
        parts
            .iter()
            .map(|&part| Bounds {
                min: 0,
                max: u32::try_from(part).unwrap_or(u32::MAX),
            })
            .collect()
    };
    let out = divider
        .divide_within(&surplus, &cap(&surplus), steps, ties)
        .map(<[u32]>::to_vec);
    let into = divider
        .divide_within(&deficit, &cap(&deficit), steps, ties)
        .map(<[u32]>::to_vec);
    if let (Ok(out), Ok(into)) = (out, into) {
        for (((slot, &now), out), into) in target.iter_mut().zip(previous).zip(out).zip(into) {
            *slot = now.saturating_sub(out).saturating_add(into);
        }
    }
    u32::try_from(left).unwrap_or(u32::MAX)
}
