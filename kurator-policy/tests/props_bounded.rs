//! Laws of divisions within bounds, over several levels, and of moves from one division to the next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kurator_policy::replicas::{
    Bounds, Branch, Conflict, Divider, Steady, Survive, TieOrder, check, conflict, divide_tree,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn bounds() -> impl Strategy<Value = Bounds> {
    (0..4_u32, 0..9_u32).prop_map(|(min, more)| Bounds { min, max: min + more })
}

fn ties() -> impl Strategy<Value = TieOrder> {
    prop_oneof![Just(TieOrder::Ascending), Just(TieOrder::Descending)]
}

/// Clusters as (weight, bounds, what runs).
fn clusters(most: usize) -> impl Strategy<Value = Vec<(u64, Bounds, u32)>> {
    vec((0..6_u64, bounds(), 0..6_u32), 1..=most)
}

/// Every division of `replicas` within `bounds`; weightless clusters may keep what they run but get no more.
fn all(bounds: &[Bounds], replicas: u32) -> Vec<Vec<u32>> {
    let Some((first, rest)) = bounds.split_first() else {
        return if replicas == 0 {
            vec![Vec::new()]
        } else {
            Vec::new()
        };
    };
    (first.min..=first.max.min(replicas))
        .flat_map(|seats| {
            all(rest, replicas - seats).into_iter().map(move |mut tail| {
                tail.insert(0, seats);
                tail
            })
        })
        .collect()
}

fn stays(previous: &[u32], next: &[u32]) -> u32 {
    previous
        .iter()
        .zip(next)
        .map(|(previous, next)| previous.min(next))
        .sum()
}

/// So many, or as many as `PROPTEST_CASES` asks for.
fn cases(least: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(asked.unwrap_or(least))
}

proptest! {
    #![proptest_config(cases(4096))]

    #[test]
    fn no_division_within_the_bounds_moves_fewer(clusters in clusters(5), replicas in 0..=12_u32, ties in ties()) {
        let weights: Vec<u64> = clusters.iter().map(|c| c.0.max(1)).collect();
        let bounds: Vec<Bounds> = clusters.iter().map(|c| c.1).collect();
        let previous: Vec<u32> = clusters.iter().map(|c| c.2).collect();
        let steady = Steady { weights: &weights, bounds: &bounds, previous: &previous, replicas, ties };
        let possible = all(&bounds, replicas);
        match steady.keep(&mut Divider::default()) {
            Ok(kept) => {
                prop_assert!(possible.contains(&kept));
                let best = possible.iter().map(|next| stays(&previous, next)).max().unwrap();
                prop_assert_eq!(stays(&previous, &kept), best);
            }
            Err(_) => prop_assert!(possible.is_empty()),
        }
    }

    #[test]
    fn one_by_one_gives_what_all_at_once_gives(
        clusters in clusters(8), from in 0..40_u32, to in 0..40_u32, ties in ties(),
    ) {
        let weights: Vec<u64> = clusters.iter().map(|c| c.0).collect();
        let bounds = vec![Bounds::default(); weights.len()];
        prop_assume!(weights.iter().any(|&weight| weight > 0));
        let mut divider = Divider::default();
        let start = divider.divide(&weights, from, ties).unwrap().to_vec();
        let step = |previous: &[u32], replicas, divider: &mut Divider| {
            Steady { weights: &weights, bounds: &bounds, previous, replicas, ties }.keep(divider).unwrap()
        };
        let at_once = step(&start, to, &mut divider);
        let mut single = start;
        let mut at = from;
        while at != to {
            at = if at < to { at + 1 } else { at - 1 };
            single = step(&single, at, &mut divider);
        }
        prop_assert_eq!(single, at_once);
    }

    #[test]
    fn a_rebalance_honours_its_budget_and_ends_at_the_target(
        clusters in clusters(8), replicas in 0..60_u32, budget in 1..9_u32, ties in ties(),
    ) {
        let weights: Vec<u64> = clusters.iter().map(|c| c.0).collect();
        let bounds: Vec<Bounds> = clusters.iter().map(|c| c.1).collect();
        let mut divider = Divider::default();
        let Ok(target) = divider.divide_within(&weights, &bounds, replicas, ties).map(<[u32]>::to_vec) else {
            return Ok(());
        };
        let mut now: Vec<u32> = clusters.iter().map(|c| c.2).collect();
        let mut before = u32::MAX;
        loop {
            let steady = Steady { weights: &weights, bounds: &bounds, previous: &now, replicas, ties };
            let kept = steady.keep(&mut divider).unwrap();
            let step = steady.rebalance(budget, &mut divider).unwrap();
            prop_assert!(step.moved <= budget);
            prop_assert_eq!(kept.iter().sum::<u32>() - stays(&kept, &step.replicas), step.moved);
            prop_assert!(step.left < before || step.left == 0);
            prop_assert!(step.replicas.iter().zip(&bounds).all(|(seats, bound)| (bound.min..=bound.max).contains(seats)));
            before = step.left;
            now = step.replicas;
            if step.left == 0 {
                break;
            }
        }
        prop_assert_eq!(now, target);
    }

    #[test]
    fn a_conflict_is_named_exactly_when_there_is_no_division(
        clusters in clusters(6), replicas in 0..=20_u32, ties in ties(),
    ) {
        let weights: Vec<u64> = clusters.iter().map(|c| c.0).collect();
        let bounds: Vec<Bounds> = clusters.iter().map(|c| c.1).collect();
        let divided = Divider::default().divide_within(&weights, &bounds, replicas, ties).map(<[u32]>::to_vec);
        let named = conflict(&weights, &bounds, replicas);
        prop_assert_eq!(divided.is_err(), named.is_some());
        if let Some(Conflict::Minima { positions, sum, .. }) = named {
            // No smaller set of clusters is in conflict: not even the largest minima, one fewer.
            let mut minima: Vec<u64> = bounds.iter().map(|bound| u64::from(bound.min)).collect();
            minima.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert!(minima.iter().take(positions.len() - 1).sum::<u64>() <= u64::from(replicas));
            prop_assert_eq!(positions.iter().map(|&at| u64::from(bounds[at].min)).sum::<u64>(), sum);
        }
    }

    #[test]
    fn a_guarantee_against_loss_holds_and_is_not_stricter_than_needed(
        weights in vec(1..50_u64, 1..8), replicas in 0..200_u32, percent in 0..=100_u32, ties in ties(),
    ) {
        let survive = Survive::Percent(percent);
        let mut bounds = vec![Bounds::default(); weights.len()];
        survive.limit(&mut bounds, replicas);
        if let Ok(seats) = Divider::default().divide_within(&weights, &bounds, replicas, ties) {
            prop_assert!(survive.holds(seats));
            prop_assert!(check(&weights, &bounds, replicas, ties, seats).is_ok());
        }
        // One replica more in a cluster would break it.
        let most = survive.most(replicas);
        if most < replicas {
            prop_assert!(!survive.holds(&[most + 1, replicas - most - 1]));
        }
    }

    #[test]
    fn every_level_of_a_hierarchy_is_divided_fairly(
        groups in vec((1..9_u64, vec((1..9_u64, bounds()), 1..5)), 1..5), replicas in 0..80_u32, ties in ties(),
    ) {
        let mut position = 0;
        let tree: Vec<Branch> = groups
            .iter()
            .map(|(weight, parts)| {
                let parts = parts.iter().map(|&(weight, bounds)| {
                    position += 1;
                    cluster(weight, position - 1, bounds)
                });
                group(*weight, parts.collect())
            })
            .collect();
        let Ok(seats) = divide_tree(&mut Divider::default(), &tree, position, replicas, ties) else {
            let most: u32 = groups.iter().flat_map(|g| &g.1).map(|part| part.1.max).sum();
            let least: u32 = groups.iter().flat_map(|g| &g.1).map(|part| part.1.min).sum();
            prop_assert!(replicas > most || replicas < least);
            return Ok(());
        };
        prop_assert_eq!(seats.iter().sum::<u32>(), replicas);
        let mut rest = seats.as_slice();
        let (mut weights, mut limits, mut totals) = (Vec::new(), Vec::new(), Vec::new());
        for (weight, parts) in &groups {
            let (mine, others) = rest.split_at(parts.len());
            rest = others;
            let total: u32 = mine.iter().sum();
            let of: Vec<u64> = parts.iter().map(|part| part.0).collect();
            let within: Vec<Bounds> = parts.iter().map(|part| part.1).collect();
            prop_assert!(check(&of, &within, total, ties, mine).is_ok());
            weights.push(*weight);
            limits.push(Bounds { min: within.iter().map(|b| b.min).sum(), max: within.iter().map(|b| b.max).sum() });
            totals.push(total);
        }
        prop_assert!(check(&weights, &limits, replicas, ties, &totals).is_ok());
    }
}

fn cluster(weight: u64, position: usize, bounds: Bounds) -> Branch {
    Branch::cluster(weight, position, bounds)
}

fn group(weight: u64, parts: Vec<Branch>) -> Branch {
    Branch::group(weight, parts)
}

#[test]
fn a_cluster_without_weight_keeps_what_it_runs_but_shrinks_first() {
    let bounds = [Bounds::default(); 3];
    let steady = |replicas, previous: [u32; 3]| {
        let steady = Steady {
            weights: &[1, 0, 1],
            bounds: &bounds,
            previous: &previous,
            replicas,
            ties: TieOrder::Ascending,
        };
        steady.keep(&mut Divider::default()).unwrap()
    };
    assert_eq!(steady(9, [3, 3, 3]), [3, 3, 3]);
    assert_eq!(steady(11, [3, 3, 3]), [4, 3, 4]);
    assert_eq!(steady(7, [3, 3, 3]), [3, 1, 3]);
    assert_eq!(steady(5, [3, 3, 3]), [3, 0, 2]);
}
