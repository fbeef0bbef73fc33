//! Good packings of many nodes: greedy, then wave by wave dissolved into the others.

use std::cmp::Reverse;

use super::{Capacity, Item, bound};

struct Wave {
    members: Vec<usize>,
    /// By budget number.
    load: Vec<u32>,
}

impl Wave {
    fn new(budgets: usize) -> Self {
        Self {
            members: Vec::new(),
            load: vec![0; budgets],
        }
    }

    fn used(&self, budget: u32) -> u32 {
        self.load.get(budget as usize).copied().unwrap_or(0)
    }

    fn fits(&self, item: &Item, capacity: &Capacity) -> bool {
        self.members.len() < capacity.parallel.max(1) as usize
            && item
                .load
                .iter()
                .all(|(budget, pods)| self.used(*budget) + pods <= capacity.of(*budget))
    }

    fn add(&mut self, at: usize, item: &Item) {
        self.members.push(at);
        for (budget, pods) in &item.load {
            if let Some(used) = self.load.get_mut(*budget as usize) {
                *used += pods;
            }
        }
    }

    fn remove(&mut self, at: usize, item: &Item) {
        self.members.retain(|member| *member != at);
        for (budget, pods) in &item.load {
            if let Some(used) = self.load.get_mut(*budget as usize) {
                *used -= pods;
            }
        }
    }
}

pub(super) fn pack(items: &[Item], capacity: &Capacity) -> Vec<Vec<usize>> {
    let bound = bound::relaxed(items, capacity, 0).waves as usize;
    let (items, capacity) = &capacity.compact(items);
    let demand = capacity.demand(items);
    // Nodes whose budgets need many waves are the hardest to place.
    let hardness = |at: usize| -> (u64, u64) {
        let pressure = items[at]
            .load
            .iter()
            .map(|(budget, pods)| {
                let total = demand.get(*budget as usize).copied().unwrap_or(0);
                let allowed = u64::from(capacity.of(*budget));
                (total * 1000 / allowed, u64::from(*pods) * 1000 / allowed)
            })
            .fold((0, 0), |(most, sum), (total, own)| {
                (most.max(total), sum + own * total / 1000)
            });
        (pressure.1, pressure.0)
    };
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_cached_key(|at| (Reverse(hardness(*at)), *at));

    let mut waves: Vec<Wave> = (0..bound).map(|_| Wave::new(capacity.allowed.len())).collect();
    for at in order {
        // Where its budgets leave the least over, then the fullest, then the first.
        let best = (0..waves.len())
            .filter(|wave| waves[*wave].fits(&items[at], capacity))
            .min_by_key(|wave| {
                (
                    shared(&waves[*wave], &items[at], capacity),
                    Reverse(waves[*wave].members.len()),
                    *wave,
                )
            });
        match best {
            Some(wave) => waves[wave].add(at, &items[at]),
            None => {
                let mut wave = Wave::new(capacity.allowed.len());
                wave.add(at, &items[at]);
                waves.push(wave);
            }
        }
    }
    waves.retain(|wave| !wave.members.is_empty());
    while waves.len() > bound && dissolve(&mut waves, items, capacity) {}
    waves.into_iter().map(|wave| wave.members).collect()
}

/// How much of what its budgets have left in the wave an item would not use up: exact fits first.
fn shared(wave: &Wave, item: &Item, capacity: &Capacity) -> u32 {
    item.load
        .iter()
        .map(|(budget, pods)| capacity.of(*budget) - wave.used(*budget) - pods)
        .sum()
}

/// Spreads the smallest wave over the others, pushing out members that stand in the way and placing those again. A
/// member pushed out often weighs more, so that the search does not go round in circles.
fn dissolve(waves: &mut Vec<Wave>, items: &[Item], capacity: &Capacity) -> bool {
    let Some(victim) = (0..waves.len()).min_by_key(|wave| (waves[*wave].members.len(), Reverse(*wave)))
    else {
        return false;
    };
    let before: Vec<Vec<usize>> = waves.iter().map(|wave| wave.members.clone()).collect();
    let mut homeless = waves.remove(victim).members;
    let mut weight = vec![1u64; items.len()];
    // Enough for every node to be pushed out dozens of times, and milliseconds at most.
    let steps = (200_000 / waves.len().max(1)).clamp(200, 60 * items.len().max(10));
    for _ in 0..steps {
        let Some(at) = homeless.pop() else { return true };
        let item = &items[at];
        let place = (0..waves.len())
            .map(|wave| (pushed_out(&waves[wave], item, items, capacity, &weight), wave))
            .min_by_key(|((cost, _), wave)| (*cost, *wave));
        let Some(((_, out), wave)) = place else { break };
        for other in out {
            weight[other] += 1;
            waves[wave].remove(other, &items[other]);
            homeless.push(other);
        }
        waves[wave].add(at, item);
        weight[at] += 1;
        // The heaviest is placed next.
        homeless.sort_by_key(|at| (weight[*at], *at));
    }
    if homeless.is_empty() {
        return true;
    }
    waves.clear();
    for members in before {
        let mut wave = Wave::new(capacity.allowed.len());
        members.into_iter().for_each(|at| wave.add(at, &items[at]));
        waves.push(wave);
    }
    false
}

/// Which members have to go so that the item fits, and what they weigh.
fn pushed_out(
    wave: &Wave,
    item: &Item,
    items: &[Item],
    capacity: &Capacity,
    weight: &[u64],
) -> (u64, Vec<usize>) {
    let mut out: Vec<usize> = Vec::new();
    let mut members: Vec<usize> = wave.members.clone();
    members.sort_by_key(|at| (weight[*at], *at));
    for (budget, pods) in &item.load {
        let takes = |at: &usize| {
            items[*at]
                .load
                .iter()
                .find(|(own, _)| own == budget)
                .map_or(0, |(_, pods)| *pods)
        };
        let mut used = wave.used(*budget) - out.iter().map(takes).sum::<u32>();
        for member in &members {
            if used + pods <= capacity.of(*budget) {
                break;
            }
            let own = takes(member);
            if own > 0 && !out.contains(member) {
                out.push(*member);
                used -= own;
            }
        }
    }
    let limit = capacity.parallel.max(1) as usize;
    for member in &members {
        if wave.members.len() - out.len() < limit {
            break;
        }
        if !out.contains(member) {
            out.push(*member);
        }
    }
    (out.iter().map(|at| weight[*at]).sum(), out)
}
