use std::collections::BTreeMap;

use jiff::Timestamp;

/// What is known of a member as far as a rollout goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its labels, which select its stage.
    pub labels: BTreeMap<String, String>,
    /// The revision it was last told to run; `None` before the first.
    pub revision: Option<String>,
    /// How that revision does there.
    pub health: Health,
    /// Since when the member cannot be reached, if it cannot.
    pub away_since: Option<Timestamp>,
}

/// How a revision does on a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "on its way, good or bad")]
pub enum Health {
    /// It was applied and is not healthy yet.
    Updating {
        /// When it was applied.
        since: Timestamp,
    },
    /// It is healthy.
    Healthy {
        /// Since when, without a break.
        since: Timestamp,
    },
    /// It failed: the member refused it, or it will not become healthy.
    Failed {
        /// Since when.
        since: Timestamp,
    },
}

impl Member {
    /// A member that has long been healthy with a revision, without labels.
    #[must_use]
    pub fn new(revision: Option<&str>) -> Self {
        Self {
            labels: BTreeMap::new(),
            revision: revision.map(str::to_owned),
            health: Health::Healthy {
                since: Timestamp::MIN,
            },
            away_since: None,
        }
    }

    /// With a label.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// With this health.
    #[must_use]
    pub fn with_health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// Out of reach.
    #[must_use]
    pub fn away_since(mut self, since: Timestamp) -> Self {
        self.away_since = Some(since);
        self
    }
}
