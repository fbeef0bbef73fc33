use std::fmt;

use jiff::{SignedDuration, Timestamp};

/// How long a gang has before something must be said about it.
const QUIET: SignedDuration = SignedDuration::from_secs(10);

/// What is seen of a gang in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sighting {
    /// Its pods are there, and the scheduler has said something about it.
    Complete,
    /// It was sent only just now.
    TooEarly {
        /// When to look again.
        until: Timestamp,
    },
    /// Fewer pods are there than must run together: a part went missing, and the others wait in vain.
    Incomplete {
        /// The pods that are there.
        present: u32,
        /// The pods that must be.
        min: u32,
    },
    /// The pods are there and no scheduler has said anything: perhaps nobody there schedules gangs.
    Silent,
}

impl Sighting {
    /// The CamelCase token for conditions, Events and metrics.
    #[must_use]
    pub const fn token(&self) -> &'static str {
        match self {
            Self::Complete => "GangComplete",
            Self::TooEarly { .. } => "GangTooEarly",
            Self::Incomplete { .. } => "IncompleteGang",
            Self::Silent => "GangNotScheduled",
        }
    }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("its pods are there"),
            Self::TooEarly { until } => write!(f, "it was sent just now; look again at {until}"),
            Self::Incomplete { present, min } => write!(
                f,
                "{present} pods are there and {min} must run together; the others are missing or were sent elsewhere"
            ),
            Self::Silent => f.write_str(
                "its pods are there and no scheduler has said anything about the group; is gang scheduling on?",
            ),
        }
    }
}

/// Looks at a gang in a cluster: `present` of at least `min` pods, whether its pod group has `any_condition`, and since
/// when it is there.
///
/// ```
/// use kurator_policy::gangs::{Sighting, watch};
/// let sent = "2026-01-02T03:04:00Z".parse()?;
/// let later = "2026-01-02T03:04:10Z".parse()?;
/// assert!(matches!(watch(2, 4, false, sent, sent), Sighting::TooEarly { .. }));
/// assert_eq!(watch(2, 4, false, sent, later), Sighting::Incomplete { present: 2, min: 4 });
/// assert_eq!(watch(4, 4, false, sent, later), Sighting::Silent);
/// assert_eq!(watch(4, 4, true, sent, later), Sighting::Complete);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn watch(present: u32, min: u32, any_condition: bool, since: Timestamp, now: Timestamp) -> Sighting {
    if present >= min && any_condition {
        return Sighting::Complete;
    }
    // A time in the future counts as now: clocks differ.
    let until = since.min(now).checked_add(QUIET).unwrap_or(Timestamp::MAX);
    if now < until {
        return Sighting::TooEarly { until };
    }
    if present < min {
        return Sighting::Incomplete { present, min };
    }
    Sighting::Silent
}
