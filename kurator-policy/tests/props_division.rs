//! What holds for every division.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kurator_policy::replicas::{
    Assigner, Bounds, Divider, Division, DivisionError, Strategy as Divide, TieOrder, check, explain,
};
use proptest::prelude::*;

/// Weights with many ties, with a wide spread, and at the end of the range.
fn weights() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        prop::collection::vec(0_u64..5, 1..40),
        prop::collection::vec(0_u64..1000, 1..40),
        prop::collection::vec(prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>()], 1..20),
        (1_u64..50, 1_usize..60).prop_map(|(weight, n)| vec![weight; n]),
    ]
}

fn ties() -> impl Strategy<Value = TieOrder> {
    prop_oneof![Just(TieOrder::Ascending), Just(TieOrder::Descending)]
}

fn bounded() -> impl Strategy<Value = (Vec<u64>, Vec<Bounds>, u32)> {
    weights()
        .prop_flat_map(|weights| {
            let n = weights.len();
            (
                Just(weights),
                prop::collection::vec((0_u32..6, 0_u32..40), n),
                any::<prop::sample::Index>(),
            )
        })
        .prop_filter_map("no room between the bounds", |(weights, pairs, pick)| {
            let bounds: Vec<Bounds> = pairs
                .iter()
                .map(|&(min, more)| Bounds { min, max: min + more })
                .collect();
            let least: u32 = bounds.iter().map(|b| b.min).sum();
            let most: u32 = bounds
                .iter()
                .zip(&weights)
                .map(|(b, &w)| if w == 0 { b.min } else { b.max })
                .sum();
            let replicas = least + u32::try_from(pick.index((most - least + 1) as usize)).ok()?;
            Some((weights, bounds, replicas))
        })
}

/// The definition: one seat after the other to the best claim.
fn one_by_one(weights: &[u64], bounds: &[Bounds], replicas: u32, ties: TieOrder) -> Vec<u32> {
    let mut seats: Vec<u32> = bounds.iter().map(|b| b.min).collect();
    while seats.iter().sum::<u32>() < replicas {
        let mut best: Option<usize> = None;
        for at in 0..weights.len() {
            if weights[at] == 0 || seats[at] >= bounds[at].max {
                continue;
            }
            let better = best.is_none_or(|best| {
                let mine = u128::from(weights[at]) * u128::from(2 * u64::from(seats[best]) + 1);
                let theirs = u128::from(weights[best]) * u128::from(2 * u64::from(seats[at]) + 1);
                mine > theirs
                    || (mine == theirs && seats[at] < seats[best])
                    || (mine == theirs && seats[at] == seats[best] && ties == TieOrder::Descending)
            });
            if better {
                best = Some(at);
            }
        }
        seats[best.unwrap()] += 1;
    }
    seats
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_divisor_search_equals_giving_seats_one_by_one(weights in weights(), replicas in 0_u32..300, ties in ties()) {
        prop_assume!(weights.iter().any(|&w| w > 0));
        let open = vec![Bounds::default(); weights.len()];
        let mut divider = Divider::default();
        let seats = divider.divide(&weights, replicas, ties).unwrap().to_vec();
        prop_assert_eq!(&seats, &one_by_one(&weights, &open, replicas, ties));
        prop_assert_eq!(divider.divide_within(&weights, &open, replicas, ties).unwrap(), &seats[..]);
    }

    #[test]
    fn bounds_equal_starting_at_the_minimum_and_dropping_out_at_the_maximum(
        (weights, bounds, replicas) in bounded(), ties in ties(),
    ) {
        let seats = Divider::default().divide_within(&weights, &bounds, replicas, ties).unwrap().to_vec();
        prop_assert_eq!(check(&weights, &bounds, replicas, ties, &seats), Ok(()));
        prop_assert_eq!(&seats, &one_by_one(&weights, &bounds, replicas, ties));
    }

    #[test]
    fn any_number_of_replicas_and_any_weight_is_divided_without_a_flaw(
        weights in weights(), replicas in any::<u32>(), ties in ties(),
    ) {
        match Divider::default().divide(&weights, replicas, ties) {
            Ok(seats) => {
                prop_assert_eq!(check(&weights, &[], replicas, ties, seats), Ok(()));
                let shares = explain(&weights, replicas, seats);
                prop_assert_eq!(shares.len(), weights.len());
            }
            Err(error) => {
                prop_assert_eq!(error, DivisionError::NoWeight { replicas });
                prop_assert!(weights.iter().all(|&w| w == 0));
            }
        }
    }

    #[test]
    fn moving_any_seat_is_noticed_by_the_check(
        weights in weights(), replicas in 1_u32..300, ties in ties(), from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(),
    ) {
        prop_assume!(weights.len() > 1 && weights.iter().any(|&w| w > 0));
        let mut seats = Divider::default().divide(&weights, replicas, ties).unwrap().to_vec();
        let taken: Vec<usize> = (0..seats.len()).filter(|&at| seats[at] > 0).collect();
        let from = taken[from.index(taken.len())];
        let to = (from + 1 + to.index(seats.len() - 1)) % seats.len();
        seats[from] -= 1;
        seats[to] += 1;
        prop_assert!(check(&weights, &[], replicas, ties, &seats).is_err());
    }

    #[test]
    fn one_replica_more_takes_none_from_anyone(weights in weights(), replicas in 0_u32..1_000_000, ties in ties()) {
        prop_assume!(weights.iter().any(|&w| w > 0));
        let mut divider = Divider::default();
        let before = divider.divide(&weights, replicas, ties).unwrap().to_vec();
        let after = divider.divide(&weights, replicas + 1, ties).unwrap();
        prop_assert!(before.iter().zip(after).all(|(before, after)| before <= after));
    }

    #[test]
    fn a_cluster_that_joins_only_takes(weights in weights(), joining in 0_u64..1000, replicas in 0_u32..10_000, ties in ties()) {
        prop_assume!(weights.iter().any(|&w| w > 0));
        let mut divider = Divider::default();
        let before = divider.divide(&weights, replicas, ties).unwrap().to_vec();
        let more: Vec<u64> = weights.iter().copied().chain([joining]).collect();
        let after = divider.divide(&more, replicas, ties).unwrap();
        prop_assert!(before.iter().zip(after).all(|(before, after)| before >= after));
    }

    #[test]
    fn bounds_that_contradict_the_number_are_refused(
        weights in weights(), bounds in prop::collection::vec((any::<u32>(), any::<u32>()), 1..20), replicas in any::<u32>(), ties in ties(),
    ) {
        let bounds: Vec<Bounds> = bounds.iter().map(|&(min, max)| Bounds { min, max }).collect();
        match Divider::default().divide_within(&weights, &bounds, replicas, ties) {
            Ok(seats) => prop_assert_eq!(check(&weights, &bounds, replicas, ties, seats), Ok(())),
            Err(DivisionError::Lengths { .. }) => prop_assert_ne!(weights.len(), bounds.len()),
            Err(DivisionError::Inverted { position, .. }) => prop_assert!(bounds[position].min > bounds[position].max),
            Err(DivisionError::MinimaExceed { minima, .. }) => prop_assert!(minima > u64::from(replicas)),
            Err(DivisionError::MaximaFallShort { maxima, .. }) => prop_assert!(maxima < u64::from(replicas)),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn a_steady_division_by_room_keeps_what_runs_and_never_exceeds_the_room(
        clusters in prop::collection::vec((0_u64..100, 0_u32..30), 1..20), replicas in 0_u32..600, aggregated in any::<bool>(), ties in ties(),
    ) {
        let (room, previous): (Vec<u64>, Vec<u32>) = clusters.into_iter().unzip();
        let strategy = if aggregated { Divide::Aggregated } else { Divide::Available };
        let division = Division { strategy, replicas, ties, room: &room, previous: &previous, fresh: false, order: &[], previous_order: &[] };
        let running: u32 = previous.iter().sum();
        match Assigner::default().assign(&division) {
            Ok(assigned) => {
                prop_assert_eq!(assigned.iter().sum::<u32>(), replicas);
                for ((&now, &before), &room) in assigned.iter().zip(&previous).zip(&room) {
                    if replicas >= running {
                        prop_assert!(now >= before && u64::from(now - before) <= room);
                    } else {
                        prop_assert!(now <= before);
                    }
                }
            }
            Err(DivisionError::NoRoom { missing, .. }) => {
                prop_assert_eq!(u64::from(running) + room.iter().sum::<u64>() + missing, u64::from(replicas));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
