//! From a set of nodes to waves: nodes of one wave are drained together.
//!
//! A wave is admissible if it has at most `parallel` nodes, and for every budget at most as many of its pods as the
//! budget allows at once. A node that alone has more than that takes the whole budget for itself and is drained in
//! rounds. This is vector bin packing; [`pack`] is exact for small sets and local search above, and
//! [`lower_bound`] says how far from the optimum it can be at most.

mod bound;
mod exact;
mod search;

pub(super) use bound::{By, lower_bound};

use crate::scaling::model::symbols::id;

/// A node to be put into a wave.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    /// Budgets it takes from and how much, capped at what the budget allows at once; sorted by budget.
    pub(super) load: Vec<(u32, u32)>,
}

/// What every wave may take.
#[derive(Clone, Debug, Default)]
pub(super) struct Capacity {
    pub(super) parallel: u32,
    /// What each budget allows at once, at least 1, by its number.
    pub(super) allowed: Vec<u32>,
}

impl Capacity {
    fn of(&self, budget: u32) -> u32 {
        self.allowed.get(budget as usize).copied().unwrap_or(1)
    }

    /// Pods of each budget, over all nodes.
    fn demand(&self, items: &[Item]) -> Vec<u64> {
        let mut demand = vec![0; self.allowed.len()];
        for (budget, pods) in items.iter().flat_map(|item| &item.load) {
            if let Some(sum) = demand.get_mut(*budget as usize) {
                *sum += u64::from(*pods);
            }
        }
        demand
    }

    /// The items without the budgets that all of them together do not exceed.
    fn binding(&self, items: &[Item], demand: &[u64]) -> Vec<Item> {
        let binds = |budget: u32| {
            let demand = demand.get(budget as usize).copied().unwrap_or(0);
            demand > u64::from(self.of(budget))
        };
        let bound = |item: &Item| {
            item.load
                .iter()
                .copied()
                .filter(|(budget, _)| binds(*budget))
                .collect()
        };
        items.iter().map(|item| Item { load: bound(item) }).collect()
    }

    /// The same problem with only the budgets that bind, numbered anew.
    fn compact(&self, items: &[Item]) -> (Vec<Item>, Self) {
        let demand = self.demand(items);
        let mut items = self.binding(items, &demand);
        let mut numbers = vec![None; self.allowed.len()];
        let mut allowed = Vec::new();
        for (budget, ((demand, cap), number)) in
            (0u32..).zip(demand.iter().zip(&self.allowed).zip(&mut numbers))
        {
            if *demand > u64::from(self.of(budget)) {
                *number = Some(id(allowed.len()));
                allowed.push(*cap);
            }
        }
        for (budget, _) in items.iter_mut().flat_map(|item| &mut item.load) {
            if let Some(Some(number)) = numbers.get(*budget as usize) {
                *budget = *number;
            }
        }
        let parallel = self.parallel;
        (items, Self { parallel, allowed })
    }
}

/// Sets up to this size are packed optimally.
pub(super) const EXACT: usize = 13;

/// Packs items into waves, each a list of places in `items` in ascending order.
pub(super) fn pack(items: &[Item], capacity: &Capacity) -> Vec<Vec<usize>> {
    let mut waves = if items.len() <= EXACT {
        exact::pack(items, capacity)
    } else {
        search::pack(items, capacity)
    };
    waves.iter_mut().for_each(|wave| wave.sort_unstable());
    waves.sort_unstable();
    waves
}

/// Whether the items of a wave fit together.
#[cfg(test)]
pub(super) fn is_admissible(wave: &[usize], items: &[Item], capacity: &Capacity) -> bool {
    let mut load: std::collections::BTreeMap<u32, u32> = std::collections::BTreeMap::new();
    for item in wave {
        for (budget, pods) in &items[*item].load {
            *load.entry(*budget).or_default() += pods;
        }
    }
    wave.len() <= capacity.parallel as usize
        && load.iter().all(|(budget, pods)| *pods <= capacity.of(*budget))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn instance(
        nodes: std::ops::Range<usize>,
        budgets: u32,
        most: u32,
    ) -> impl Strategy<Value = (Vec<Item>, Capacity)> {
        let allowed = prop::collection::vec(1..=most, budgets as usize);
        let items = prop::collection::vec(prop::collection::btree_map(0..budgets, 1..=most, 0..=4), nodes);
        (allowed, items, 1..=10u32).prop_map(|(allowed, items, parallel)| {
            let capacity = Capacity { parallel, allowed };
            let items = items
                .into_iter()
                .map(|load| Item {
                    load: load
                        .into_iter()
                        .map(|(budget, pods)| (budget, pods.min(capacity.of(budget))))
                        .collect(),
                })
                .collect();
            (items, capacity)
        })
    }

    /// The optimum, by trying every assignment to fewer than `known` waves, which are enough.
    fn brute_force(items: &[Item], capacity: &Capacity, known: usize) -> usize {
        fn go(at: usize, waves: &mut Vec<Vec<usize>>, best: &mut usize, items: &[Item], capacity: &Capacity) {
            if waves.len() >= *best {
                return;
            }
            if at == items.len() {
                *best = waves.len();
                return;
            }
            for wave in 0..waves.len() {
                waves[wave].push(at);
                if is_admissible(&waves[wave], items, capacity) {
                    go(at + 1, waves, best, items, capacity);
                }
                waves[wave].pop();
            }
            waves.push(vec![at]);
            go(at + 1, waves, best, items, capacity);
            waves.pop();
        }
        let mut best = known;
        go(0, &mut Vec::new(), &mut best, items, capacity);
        best
    }

    fn check(items: &[Item], capacity: &Capacity, waves: &[Vec<usize>]) {
        let mut all: Vec<usize> = waves.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(
            all,
            (0..items.len()).collect::<Vec<_>>(),
            "every node in exactly one wave"
        );
        for wave in waves {
            assert!(is_admissible(wave, items, capacity), "{wave:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn sets_of_up_to_twelve_are_packed_optimally((items, capacity) in instance(1..13, 6, 3)) {
            let waves = pack(&items, &capacity);
            check(&items, &capacity, &waves);
            let best = brute_force(&items, &capacity, waves.len());
            prop_assert_eq!(waves.len(), best);
            prop_assert_eq!(lower_bound(&items, &capacity, waves.len()).waves as usize, best);
        }

        #[test]
        fn local_search_alone_is_seldom_above_the_optimum((items, capacity) in instance(1..11, 6, 3)) {
            let waves = search::pack(&items, &capacity);
            check(&items, &capacity, &waves);
            prop_assert!(waves.len() <= brute_force(&items, &capacity, waves.len()) + 1);
        }

        #[test]
        fn the_bound_never_exceeds_the_optimum((items, capacity) in instance(1..9, 4, 4)) {
            let bound = bound::relaxed(&items, &capacity, usize::MAX);
            prop_assert!(bound.waves as usize <= brute_force(&items, &capacity, items.len() + 1));
        }

        #[test]
        fn large_sets_stay_within_a_tenth_of_the_bound((items, capacity) in instance(20..80, 60, 3)) {
            let waves = pack(&items, &capacity);
            check(&items, &capacity, &waves);
            let bound = lower_bound(&items, &capacity, waves.len()).waves as usize;
            prop_assert!(waves.len() * 10 <= bound * 11 + 9, "{} waves, bound {bound}", waves.len());
        }
    }
}
