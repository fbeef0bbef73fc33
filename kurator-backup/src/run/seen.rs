//! What was seen of a member in one pass.

use kurator_core::reason::Reason;

use crate::driver::{
    BackupName, BackupObservation, DeletionObservation, DriverError, MemberFacts, QuiesceState,
};

/// Why something could not be seen or done on a member: a [`DriverError`] without its source, or an answer that did
/// not come in time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Obstacle {
    /// CamelCase token.
    pub token: &'static str,
    /// For people.
    pub message: String,
}

impl Obstacle {
    /// The member did not answer within the patience of a pass.
    #[must_use]
    pub fn slow(seconds: u64) -> Self {
        Self {
            token: "MemberSlow",
            message: format!("no answer within {seconds} s; it is tried again"),
        }
    }
}

impl From<DriverError> for Obstacle {
    fn from(error: DriverError) -> Self {
        Self {
            token: error.token(),
            message: error.to_string(),
        }
    }
}

/// What was seen of one member. What was not asked is `None`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Seen {
    /// Its server.
    pub facts: Option<Result<MemberFacts, Obstacle>>,
    /// The backup of the present attempt.
    pub backup: Option<Result<Option<BackupObservation>, Obstacle>>,
    /// Whether it holds still.
    pub quiesce: Option<Result<QuiesceState, Obstacle>>,
    /// How far deletions are.
    pub deletions: Vec<(BackupName, Result<DeletionObservation, Obstacle>)>,
}

impl Seen {
    /// Adds what its server is.
    #[must_use]
    pub fn with_facts(mut self, facts: Result<MemberFacts, DriverError>) -> Self {
        self.facts = Some(facts.map_err(Into::into));
        self
    }

    /// Adds the backup of the present attempt.
    #[must_use]
    pub fn with_backup(mut self, backup: Result<Option<BackupObservation>, DriverError>) -> Self {
        self.backup = Some(backup.map_err(Into::into));
        self
    }

    /// Adds whether it holds still.
    #[must_use]
    pub fn with_quiesce(mut self, state: Result<QuiesceState, DriverError>) -> Self {
        self.quiesce = Some(state.map_err(Into::into));
        self
    }
}

/// What became of an action: nothing to say, or why it could not be done.
pub type ActionResult = Result<(), Obstacle>;
