//! The optimum for few nodes, over all subsets.

use super::{Capacity, Item};

/// Fewest waves by dynamic programming: a set of nodes needs one wave more than what its best admissible subset
/// leaves. For n nodes 3ⁿ steps, so n is at most [`EXACT`](super::EXACT).
pub(super) fn pack(items: &[Item], capacity: &Capacity) -> Vec<Vec<usize>> {
    let all: usize = (1 << items.len()) - 1;
    let admissible = admissible_sets(items, capacity);
    // For each set: waves needed, and the wave that holds its first node.
    let mut best: Vec<(u32, usize)> = vec![(0, 0); all + 1];
    for set in 1..=all {
        let first = set & set.wrapping_neg();
        let rest = set ^ first;
        let mut least = (u32::MAX, 0);
        // Every subset of the others, the largest first, together with the first node.
        let mut others = rest;
        loop {
            let wave = others | first;
            if admissible[wave] {
                let waves = best[set ^ wave].0 + 1;
                if waves < least.0 {
                    least = (waves, wave);
                }
            }
            if others == 0 {
                break;
            }
            others = (others - 1) & rest;
        }
        best[set] = least;
    }
    let mut waves = Vec::new();
    let mut set = all;
    while set != 0 {
        let wave = best[set].1;
        // A node alone is always admissible, so this takes at least one out.
        waves.push((0..items.len()).filter(|at| wave >> at & 1 == 1).collect());
        set ^= wave;
    }
    waves
}

fn admissible_sets(items: &[Item], capacity: &Capacity) -> Vec<bool> {
    let mut budgets: Vec<u32> = items
        .iter()
        .flat_map(|item| item.load.iter().map(|(budget, _)| *budget))
        .collect();
    budgets.sort_unstable();
    budgets.dedup();
    let sets = 1usize << items.len();
    let parallel = capacity.parallel.max(1);
    let mut admissible: Vec<bool> = (0..sets).map(|set| set.count_ones() <= parallel).collect();
    let mut sums = vec![0u32; sets];
    for budget in budgets {
        let allowed = capacity.of(budget);
        let pods: Vec<u32> = items
            .iter()
            .map(|item| {
                item.load
                    .iter()
                    .find(|(own, _)| *own == budget)
                    .map_or(0, |(_, pods)| *pods)
            })
            .collect();
        for set in 1..sets {
            let first = set.trailing_zeros() as usize;
            sums[set] = sums[set & (set - 1)] + pods[first];
            if sums[set] > allowed {
                admissible[set] = false;
            }
        }
    }
    admissible
}
