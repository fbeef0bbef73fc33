//! Which groups of clusters to use: exact, in time that grows with groups x groups x clusters asked for.
//!
//! A set of groups is eligible if, taking its groups from the smallest to the largest, the last one is what completes
//! it: only then there are enough groups and enough clusters in them. Of the eligible sets the one with the largest
//! sum of weights is best, then the one with the most clusters, then the one that comes first in the order of size.
//! There are exponentially many sets; but what matters of a beginning is only how many groups and how many clusters
//! it has, so the best completion is kept for each such pair.

/// A group that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// The number of the group; groups are numbered in the order of their names.
    pub(super) group: u32,
    /// How many clusters it has.
    pub(super) clusters: u64,
    /// How good it is.
    pub(super) weight: u64,
}

/// The sum of weights and of clusters of the best completion; `None` if there is none.
type Best = Option<(u128, u64)>;

/// Chooses at least `min` and at most `max` groups with at least `clusters` clusters in all, the heaviest first in the
/// result. `None` if no choice has that many.
pub(super) fn choose(choices: &[Choice], min: usize, max: usize, clusters: u64) -> Option<Vec<Choice>> {
    let mut order = choices.to_vec();
    order.sort_unstable_by(|a, b| {
        a.clusters
            .cmp(&b.clusters)
            .then(b.weight.cmp(&a.weight))
            .then(a.group.cmp(&b.group))
    });
    let max = max.min(order.len());
    let available: u64 = order.iter().map(|choice| choice.clusters).sum();
    if min > max || clusters > available {
        return None;
    }
    let target = usize::try_from(clusters).ok()?;
    let (rows, width) = (max + 1, target + 1);
    let complete = |count: usize, sum: usize| count >= min && sum >= target;
    // Completions from the last group backwards; `take` remembers the choice at each step.
    let start = |count: usize, sum: usize| complete(count, sum).then_some((0, 0));
    let mut next: Vec<Best> = (0..rows * width)
        .map(|cell| start(cell / width, cell % width))
        .collect();
    let mut current = next.clone();
    let mut take = vec![false; order.len() * rows * width];
    for (index, choice) in order.iter().enumerate().rev() {
        let own = usize::try_from(choice.clusters).unwrap_or(usize::MAX);
        // A beginning of `count` groups ends at or after the group `count - 1`.
        for count in 0..=max.min(index) {
            for sum in 0..width {
                let cell = count * width + sum;
                if complete(count, sum) {
                    continue;
                }
                let skipped = next.get(cell).copied().flatten();
                let taken = if count < max {
                    let to = (count + 1) * width + sum.saturating_add(own).min(target);
                    next.get(to)
                        .copied()
                        .flatten()
                        .map(|(weight, held)| (weight + u128::from(choice.weight), held + choice.clusters))
                } else {
                    None
                };
                let better = taken.is_some() && taken >= skipped;
                if let Some(slot) = current.get_mut(cell) {
                    *slot = if better { taken } else { skipped };
                }
                if let Some(slot) = take.get_mut(index * rows * width + cell) {
                    *slot = better;
                }
            }
        }
        std::mem::swap(&mut next, &mut current);
    }
    next.first().copied().flatten()?;
    let mut chosen = Vec::new();
    let mut sum = 0;
    for (index, choice) in order.iter().enumerate() {
        if complete(chosen.len(), sum) {
            break;
        }
        if take
            .get(index * rows * width + chosen.len() * width + sum)
            .copied()
            .unwrap_or(false)
        {
            chosen.push(*choice);
            let own = usize::try_from(choice.clusters).unwrap_or(usize::MAX);
            sum = sum.saturating_add(own).min(target);
        }
    }
    chosen.sort_unstable_by(|a, b| b.weight.cmp(&a.weight).then(a.group.cmp(&b.group)));
    Some(shorten(chosen, min, clusters))
}

/// The shortest beginning, by weight, that is enough by itself.
fn shorten(mut chosen: Vec<Choice>, min: usize, clusters: u64) -> Vec<Choice> {
    let mut sum = 0_u64;
    let enough = chosen.iter().position(|choice| {
        sum += choice.clusters;
        sum >= clusters
    });
    if let Some(last) = enough {
        chosen.truncate((last + 1).max(min));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every eligible set, by depth-first search.
    fn exhaustive(choices: &[Choice], min: usize, max: usize, clusters: u64) -> Option<Vec<Choice>> {
        fn walk(
            order: &[Choice],
            from: usize,
            path: &mut Vec<Choice>,
            limits: (usize, usize, u64),
            found: &mut Vec<Vec<Choice>>,
        ) {
            let sum: u64 = path.iter().map(|c| c.clusters).sum();
            if sum >= limits.2 && path.len() >= limits.0 && path.len() <= limits.1 {
                found.push(path.clone());
                return;
            }
            if path.len() >= limits.1 {
                return;
            }
            for at in from..order.len() {
                path.push(order[at]);
                walk(order, at + 1, path, limits, found);
                path.pop();
            }
        }
        let mut order = choices.to_vec();
        order.sort_by_key(|c| (c.clusters, std::cmp::Reverse(c.weight), c.group));
        let mut found = vec![];
        walk(&order, 0, &mut vec![], (min, max, clusters), &mut found);
        let sums = |set: &[Choice]| {
            (
                set.iter().map(|c| u128::from(c.weight)).sum::<u128>(),
                set.iter().map(|c| c.clusters).sum::<u64>(),
            )
        };
        // The first of the best.
        let mut best: Option<&Vec<Choice>> = None;
        for set in &found {
            if best.is_none_or(|best| sums(set) > sums(best)) {
                best = Some(set);
            }
        }
        let by_weight = |set: &[Choice]| {
            let mut set = set.to_vec();
            set.sort_by_key(|c| (std::cmp::Reverse(c.weight), c.group));
            set
        };
        let mut last = by_weight(best?);
        let mut rest: Vec<Vec<Choice>> = found.iter().map(|set| by_weight(set)).collect();
        rest.sort_by_key(|set| std::cmp::Reverse(set.len()));
        for set in rest {
            if set.len() < last.len() && last.starts_with(&set) {
                last = set;
            }
        }
        Some(last)
    }

    fn choices() -> impl Strategy<Value = Vec<Choice>> {
        prop::collection::vec((1_u64..5, 0_u64..6), 1..13).prop_map(|groups| {
            let numbered = groups.into_iter().enumerate();
            numbered
                .map(|(group, (clusters, weight))| Choice {
                    group: u32::try_from(group).unwrap(),
                    clusters,
                    weight,
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn the_choice_equals_that_of_an_exhaustive_search(
            choices in choices(), min in 0_usize..7, more in 0_usize..5, clusters in 0_u64..20,
        ) {
            prop_assert_eq!(
                choose(&choices, min, min + more, clusters),
                exhaustive(&choices, min, min + more, clusters)
            );
        }
    }

    #[test]
    fn sixteen_groups_equal_an_exhaustive_search() {
        for seed in 0..20_u64 {
            let choices: Vec<Choice> = (0..16_u64)
                .map(|i| {
                    let draw = (i * 7919 + seed * 104_729) % 1009;
                    Choice {
                        group: u32::try_from(i).unwrap(),
                        clusters: 1 + draw % 7,
                        weight: draw % 11 * 1000,
                    }
                })
                .collect();
            for (min, max, clusters) in [(3, 5, 12), (8, 10, 30), (1, 16, 50)] {
                assert_eq!(
                    choose(&choices, min, max, clusters),
                    exhaustive(&choices, min, max, clusters),
                    "{seed} {min} {max} {clusters}"
                );
            }
        }
    }
}
