//! When replicas come home to a cluster that was lost and is back.

use jiff::{SignedDuration, Timestamp};

use super::divisor::Bounds;

/// How eagerly replicas return. Eager means frequent moves, lazy means a long time away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailBack {
    /// How long a cluster must have been healthy without a break before it may grow again. 10 minutes by default.
    pub window: SignedDuration,
    /// So many replicas must be out of place before anything moves; what was begun is finished. 1 by default.
    pub start_at: u32,
    /// At most so many percent of the replicas move in one pass, at least one. 10 by default.
    pub step_percent: u32,
}

impl Default for FailBack {
    fn default() -> Self {
        Self {
            window: SignedDuration::from_mins(10),
            start_at: 1,
            step_percent: 10,
        }
    }
}

/// Whether a cluster may be given more replicas than it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a cluster is well, recovering, or not well"
)]
pub enum Readiness {
    /// It has been healthy long enough.
    Stable,
    /// It is healthy, but not long enough.
    Recovering {
        /// When it will have been, if nothing happens.
        until: Timestamp,
    },
    /// It is not healthy, or not known to be.
    Unhealthy,
}

impl FailBack {
    /// Whether a cluster that has been healthy since `healthy_since` may grow at `now`. A time in the future counts
    /// as now: clocks differ.
    ///
    /// ```
    /// use kurator_policy::replicas::{FailBack, Readiness};
    /// let now = "2026-11-23T12:00:00Z".parse()?;
    /// let back = FailBack::default();
    /// assert_eq!(back.readiness(Some("2026-11-23T11:50:00Z".parse()?), now), Readiness::Stable);
    /// let until = "2026-11-23T12:05:00Z".parse()?;
    /// assert_eq!(
    ///     back.readiness(Some("2026-11-23T11:55:00Z".parse()?), now),
    ///     Readiness::Recovering { until },
    /// );
    /// assert_eq!(back.readiness(None, now), Readiness::Unhealthy);
    /// # Ok::<(), jiff::Error>(())
    /// ```
    #[must_use]
    pub fn readiness(&self, healthy_since: Option<Timestamp>, now: Timestamp) -> Readiness {
        let Some(since) = healthy_since else {
            return Readiness::Unhealthy;
        };
        match since.min(now).checked_add(self.window) {
            Ok(until) if until <= now => Readiness::Stable,
            Ok(until) => Readiness::Recovering { until },
            // A window that ends after all time never ends.
            Err(_) => Readiness::Recovering {
                until: Timestamp::MAX,
            },
        }
    }

    /// Keeps a cluster that may not grow at what it has; its minimum gives way, its own replicas do not.
    pub fn limit(readiness: Readiness, previous: u32, bounds: &mut Bounds) {
        if readiness != Readiness::Stable {
            bounds.max = bounds.max.min(previous);
            bounds.min = bounds.min.min(bounds.max);
        }
    }

    /// How many replicas may move in this pass when `out_of_place` of `replicas` are not where they should be.
    /// `ongoing` says that a return has begun: it goes on below [`start_at`](Self::start_at) until nothing is left.
    ///
    /// ```
    /// use kurator_policy::replicas::FailBack;
    /// let mut back = FailBack::default();
    /// back.start_at = 5;
    /// assert_eq!(back.budget(4, 100, false), 0);
    /// assert_eq!(back.budget(30, 100, false), 10);
    /// assert_eq!(back.budget(4, 100, true), 4);
    /// ```
    #[must_use]
    pub fn budget(&self, out_of_place: u32, replicas: u32, ongoing: bool) -> u32 {
        if !ongoing && out_of_place < self.start_at {
            return 0;
        }
        let step = u64::from(replicas) * u64::from(self.step_percent.min(100)) / 100;
        out_of_place.min(u32::try_from(step).unwrap_or(u32::MAX).max(1))
    }
}
