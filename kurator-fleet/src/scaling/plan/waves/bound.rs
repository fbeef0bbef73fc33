//! How few waves there can be.

use super::{Capacity, EXACT, Item};

/// A number of waves that cannot be undercut, and what it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Bound {
    pub(in super::super) waves: u32,
    pub(in super::super) by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum By {
    /// One budget's pods alone need as many.
    Budget(u32),
    /// So many nodes that no two of them can share a wave, or an exhaustive search.
    Conflicts,
    /// The limit of nodes at once.
    Parallel,
}

/// A lower bound, given that `found` waves are enough.
pub(in super::super) fn lower_bound(items: &[Item], capacity: &Capacity, found: usize) -> Bound {
    let bound = relaxed(items, capacity, found);
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    // What the exact search found is the optimum.
    if items.len() <= EXACT && bound.waves < found {
        return Bound {
            waves: found,
            by: By::Conflicts,
        };
    }
    bound
}

/// The largest of three bounds that each leave something out.
pub(super) fn relaxed(items: &[Item], capacity: &Capacity, found: usize) -> Bound {
    let nodes = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let mut best = Bound {
        waves: nodes.div_ceil(capacity.parallel.max(1)),
        by: By::Parallel,
    };
    let demand = capacity.demand(items);
    let items = &capacity.binding(items, &demand)[..];
    let mut loads: Vec<(u32, u32)> = items.iter().flat_map(|item| &item.load).copied().collect();
    loads.sort_unstable();
    for load in loads.chunk_by(|a, b| a.0 == b.0) {
        let Some((budget, _)) = load.first().copied() else {
            continue;
        };
        let pods: Vec<u32> = load.iter().map(|(_, pods)| *pods).collect();
        let waves = one_budget(&pods, capacity.of(budget));
        if waves > best.waves {
            best = Bound {
                waves,
                by: By::Budget(budget),
            };
        }
    }
    if (best.waves as usize) < found {
        let waves = clique(items, capacity);
        if waves > best.waves {
            best = Bound {
                waves,
                by: By::Conflicts,
            };
        }
    }
    best
}

/// The bound of Martello and Toth for bins of one dimension: nodes with more than half of the budget need a wave
/// each, and what does not fit beside them needs more.
fn one_budget(sorted: &[u32], allowed: u32) -> u32 {
    let total = |part: &[u32]| part.iter().map(|pods| u64::from(*pods)).sum::<u64>();
    let allowed64 = u64::from(allowed.max(1));
    let mut best = total(sorted).div_ceil(allowed64);
    let above_half = sorted.partition_point(|pods| *pods <= allowed / 2);
    let (small, big) = sorted.split_at(above_half);
    let mut thresholds: Vec<u32> = small.to_vec();
    thresholds.push(0);
    thresholds.dedup();
    for least in thresholds {
        // Nodes beside which nothing of at least this size fits.
        let alone = big.partition_point(|pods| *pods <= allowed - least.min(allowed));
        let (beside, alone) = big.split_at(alone);
        let rest = &small[small.partition_point(|pods| *pods < least)..];
        let left = beside.len() as u64 * allowed64 - total(beside);
        let more = total(rest).saturating_sub(left).div_ceil(allowed64);
        best = best.max(alone.len() as u64 + beside.len() as u64 + more);
    }
    u32::try_from(best).unwrap_or(u32::MAX)
}

/// The largest set found of nodes of which no two fit together.
fn clique(items: &[Item], capacity: &Capacity) -> u32 {
    // Quadratic; sets that large are bounded well by the other two.
    if items.len() > 400 {
        return 0;
    }
    let conflict = |a: &Item, b: &Item| {
        capacity.parallel < 2
            || a.load.iter().any(|(budget, pods)| {
                let other = b.load.binary_search_by_key(budget, |(budget, _)| *budget);
                let other = other
                    .ok()
                    .and_then(|at| b.load.get(at))
                    .map_or(0, |(_, pods)| *pods);
                other > 0 && pods + other > capacity.of(*budget)
            })
    };
    let neighbours: Vec<Vec<bool>> = items
        .iter()
        .map(|a| items.iter().map(|b| conflict(a, b)).collect())
        .collect();
    let degree: Vec<usize> = neighbours
        .iter()
        .map(|row| row.iter().filter(|edge| **edge).count())
        .collect();
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(degree[*at]), *at));
    let mut best = 0;
    for first in 0..items.len() {
        let mut members = vec![first];
        let mut open: Vec<usize> = order
            .iter()
            .copied()
            .filter(|at| *at != first && neighbours[first][*at])
            .collect();
        while !open.is_empty() {
            // The one that keeps the most others possible.
            let next = open.iter().copied().max_by_key(|at| {
                (
                    open.iter().filter(|other| neighbours[*at][**other]).count(),
                    std::cmp::Reverse(*at),
                )
            });
            let Some(next) = next else { break };
            members.push(next);
            open.retain(|at| *at != next && neighbours[next][*at]);
        }
        best = best.max(members.len());
    }
    u32::try_from(best).unwrap_or(u32::MAX)
}
