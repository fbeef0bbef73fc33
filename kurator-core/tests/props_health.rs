//! Laws of the health lease, over random histories of probes.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use jiff::Timestamp;
use kurator_core::health::{HealthPolicy, HealthReason, HealthState, Probe};
use kurator_core::observe::HealthStatus;
use proptest::prelude::*;

fn probe() -> impl Strategy<Value = Probe> {
    prop_oneof![
        3 => Just(Probe::Succeeded),
        3 => Just(Probe::Failed(HealthReason::Unreachable)),
        1 => Just(Probe::Failed(HealthReason::ApiServerNotReady)),
        1 => Just(Probe::Failed(HealthReason::CredentialsRefused)),
    ]
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millisecond(i64::try_from(millis).unwrap()).unwrap()
}

proptest! {
    /// Seen within the grace and lost all the same, or silent for longer and still Ready: neither happens.
    #[test]
    fn a_member_is_lost_exactly_when_a_whole_grace_passes_without_a_success(
        history in prop::collection::vec((1_u64..15_000, probe()), 1..200),
    ) {
        let policy = HealthPolicy::default();
        let grace = u64::try_from(policy.grace.as_millis()).unwrap();
        let (mut state, mut now, mut seen) = (HealthState::default(), 0, None);
        for (step, probe) in history {
            now += step;
            let before = state.health;
            let turned = state.observe(&policy, probe, at(now));
            let silent = seen.is_none_or(|seen| now - seen >= grace);
            match probe {
                Probe::Succeeded => {
                    seen = Some(now);
                    prop_assert!(turned.is_none_or(|turned| turned.to == HealthStatus::Ready));
                }
                Probe::Failed(_) => {
                    prop_assert_eq!(state.health == HealthStatus::Ready, before == HealthStatus::Ready && !silent);
                }
            }
            prop_assert_eq!(turned.is_some(), before != state.health);
            prop_assert_eq!(state.last_seen, seen.map(at));
        }
    }

    /// Loss in any pattern that lets one probe through in each grace is not noticed at all.
    #[test]
    fn loss_that_lets_one_probe_through_in_a_grace_never_shows(
        runs in prop::collection::vec(0_u32..12, 1..300),
    ) {
        let policy = HealthPolicy::default();
        let mut state = HealthState::default();
        let mut now = 0;
        state.observe(&policy, Probe::Succeeded, at(now));
        let slowest = policy.timeout + policy.retry;
        for lost in runs.into_iter().map(|lost| lost.min(policy.attempts_in_grace() - 1)) {
            now += u64::try_from(policy.period.as_millis()).unwrap();
            for _ in 0..lost {
                prop_assert_eq!(state.observe(&policy, Probe::Failed(HealthReason::Unreachable), at(now)), None);
                now += u64::try_from(slowest.as_millis()).unwrap();
            }
            prop_assert_eq!(state.observe(&policy, Probe::Succeeded, at(now)), None);
            prop_assert_eq!(state.health, HealthStatus::Ready);
        }
    }

    #[test]
    fn the_proportions_hold_for_any_grace(seconds in 1_u64..3_600) {
        prop_assert!(HealthPolicy::with_grace(Duration::from_secs(seconds)).attempts_in_grace() >= 12);
    }
}
