//! The one place that reads a clock.
//!
//! Planners take `now` as an argument. Whoever calls them holds a [`Clock`], and a test holds a [`ManualClock`] so
//! that it never waits.
//!
//! ```
//! use jiff::SignedDuration;
//! use kurator_core::clock::{Clock, ManualClock};
//!
//! let clock = ManualClock::new("2026-01-02T03:04:05Z".parse()?);
//! clock.advance(SignedDuration::from_mins(5));
//! assert_eq!(clock.now().to_string(), "2026-01-02T03:09:05Z");
//! # Ok::<(), jiff::Error>(())
//! ```

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

impl<C: Clock + ?Sized> Clock for Box<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SystemClock;

impl SystemClock {
    /// The clock of the machine.
    pub fn new() -> Self {
        Self
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "everything else takes a Clock or `now`")]
        Timestamp::now()
    }
}

/// A clock that stands still until it is told otherwise. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Shows `now` from here on, which may be earlier than before.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Shows that much later, or earlier if negative; stops at the ends of what a [`Timestamp`] can say.
    pub fn advance(&self, by: SignedDuration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now.saturating_add(by).unwrap_or(*now);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_show_the_same_time() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        clock.advance(SignedDuration::from_secs(90));
        assert_eq!(shared.now().as_second(), 90);
        clock.set(Timestamp::UNIX_EPOCH);
        assert_eq!(shared.now(), Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn the_end_of_time_is_where_it_stops() {
        let clock = ManualClock::new(Timestamp::MAX);
        clock.advance(SignedDuration::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
    }

    #[test]
    fn the_system_clock_does_not_stand_in_the_past() {
        assert!(SystemClock::new().now() > Timestamp::UNIX_EPOCH);
    }
}
