use std::time::Duration;

/// How a cut link meets a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Cut {
    /// Nothing listens: "connection refused".
    Refuse,
    /// Connections are accepted and reset at once.
    Reset,
}

/// Time that each chunk of a stream takes from end to end, in each direction. Order is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Delay {
    pub(super) base: Duration,
    pub(super) jitter: Duration,
    pub(super) seed: u64,
}

impl Delay {
    /// Always the same time.
    pub fn fixed(base: Duration) -> Self {
        Self {
            base,
            jitter: Duration::ZERO,
            seed: 0,
        }
    }

    /// And up to `jitter` more, evenly spread.
    pub fn with_jitter(mut self, jitter: Duration, seed: u64) -> Self {
        (self.jitter, self.seed) = (jitter, seed);
        self
    }
}

/// Losses in parts of a thousand. Nothing is lost until it is said what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Loss {
    pub(super) connections: u16,
    pub(super) chunks: u16,
    pub(super) resets: bool,
    pub(super) seed: u64,
}

impl Loss {
    /// Draws from a generator with this seed. What is lost stalls: it stays open and silent.
    pub fn seeded(seed: u64) -> Self {
        Self {
            connections: 0,
            chunks: 0,
            resets: false,
            seed,
        }
    }

    /// So many of a thousand new connections are lost when they are opened.
    pub fn with_connections(mut self, per_thousand: u16) -> Self {
        self.connections = per_thousand;
        self
    }

    /// So many of a thousand chunks that pass take their connection with them.
    pub fn with_chunks(mut self, per_thousand: u16) -> Self {
        self.chunks = per_thousand;
        self
    }

    /// What is lost is reset instead of stalled.
    pub fn resets(mut self) -> Self {
        self.resets = true;
        self
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub(super) cut: Option<Cut>,
    pub(super) half_open: bool,
    pub(super) delay: Option<Delay>,
    pub(super) loss: Option<Loss>,
}

/// SplitMix64: small, and the same everywhere.
#[derive(Debug)]
pub(super) struct Draws(u64);

impl Draws {
    /// Independent streams for each connection and direction of one seed.
    pub(super) fn new(seed: u64, connection: u64, direction: u64) -> Self {
        let mut mixed = Self(seed);
        let mut mixed = Self(mixed.next() ^ connection);
        Self(mixed.next() ^ direction)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn happens(&mut self, per_thousand: u16) -> bool {
        self.next() % 1000 < u64::from(per_thousand)
    }

    pub(super) fn up_to(&mut self, limit: Duration) -> Duration {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(match nanos.checked_add(1) {
            Some(bound) => self.next() % bound,
            None => self.next(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_another_differs() {
        let draw = |seed, connection| {
            let mut draws = Draws::new(seed, connection, 0);
            (0..64).map(|_| draws.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
    }

    #[test]
    fn the_share_that_happens_is_about_what_was_asked() {
        let mut draws = Draws::new(7, 0, 0);
        let happened = (0..10_000).filter(|_| draws.happens(300)).count();
        assert!((2_800..3_200).contains(&happened), "{happened}");
        assert!(!(0..1000).any(|_| draws.happens(0)));
        assert!((0..1000).all(|_| draws.happens(1000)));
    }

    #[test]
    fn jitter_stays_within_its_limit() {
        let mut draws = Draws::new(3, 1, 1);
        let limit = Duration::from_millis(5);
        assert!((0..1000).all(|_| draws.up_to(limit) <= limit));
        assert_eq!(draws.up_to(Duration::ZERO), Duration::ZERO);
    }
}
