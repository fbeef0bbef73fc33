//! When to try an object again: exponential, per object, forgotten on success.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How retries of a failing object are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "the two ends of an exponential back-off"
)]
pub struct Backoff {
    /// The pause after the first failure. Default 1 s.
    pub first: Duration,
    /// The longest pause. Default 5 min.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
        }
    }
}

impl Backoff {
    /// The pause after the given number of failures in a row.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let factor = 1_u32 << failures.saturating_sub(1).min(20);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// The failing objects of one member. Holds nothing of those that do well.
#[derive(Debug, Default)]
pub(super) struct Failures {
    counts: Mutex<BTreeMap<(String, String), u32>>,
}

impl Failures {
    pub(super) fn failed(&self, namespace: &str, name: &str) -> u32 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((namespace.to_owned(), name.to_owned())).or_default();
        *count = count.saturating_add(1);
        *count
    }

    pub(super) fn succeeded(&self, namespace: &str, name: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if !counts.is_empty() {
            counts.remove(&(namespace.to_owned(), name.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_a_success() {
        let backoff = Backoff::default();
        let failures = Failures::default();
        let pauses: Vec<u64> = (0..10)
            .map(|_| backoff.after(failures.failed("ns", "a")).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(
            backoff.after(failures.failed("ns", "b")).as_secs(),
            1,
            "each object by itself"
        );
        failures.succeeded("ns", "a");
        assert_eq!(backoff.after(failures.failed("ns", "a")).as_secs(), 1);
    }
}
