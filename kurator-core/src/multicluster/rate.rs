//! A bound on the rate of requests to one member.

use std::time::Duration;

/// A token bucket, kept as the time at which it will be full again (GCRA). Times are on any monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    interval: Duration,
    tolerance: Duration,
    full_at: Duration,
}

impl Rate {
    /// `per_second` requests a second in the long run, `burst` at once.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            tolerance: interval * burst.max(1),
            full_at: Duration::ZERO,
        }
    }

    /// Takes a token, and says how long to wait before using it.
    pub(super) fn take(&mut self, now: Duration) -> Duration {
        self.full_at = self.full_at.max(now) + self.interval;
        self.full_at.saturating_sub(self.tolerance).saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_what_follows_at_the_rate() {
        let mut rate = Rate::new(10, 5);
        let now = Duration::from_secs(100);
        let waits: Vec<u128> = (0..8).map(|_| rate.take(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 100, 200, 300]);
        assert_eq!(
            rate.take(now + Duration::from_secs(60)),
            Duration::ZERO,
            "rest refills the bucket"
        );
    }
}
