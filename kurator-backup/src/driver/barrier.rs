//! What holds the applications of several members still at the same time.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{name::OwnerToken, scope::BackupHook};

/// A request to hold a member's applications still until a time.
///
/// It is a lease: at `until`, by the member's own clock, everything is released there by itself, whatever became of
/// whoever asked. Asking again under the same owner with a later time renews it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct QuiesceRequest {
    /// Whose lease it is: one token for one attempt of one run.
    pub owner: OwnerToken,
    /// What to run: `pre` holds still, `post` lets go.
    pub hooks: Vec<BackupHook>,
    /// When everything is released at the latest.
    pub until: Timestamp,
    /// Whether a lease that is there may be renewed and nothing else: who comes late must not hold still again what
    /// was released.
    pub only_renew: bool,
}

impl QuiesceRequest {
    /// Holds still what `hooks` say until `until`.
    pub fn new(owner: OwnerToken, hooks: Vec<BackupHook>, until: Timestamp) -> Self {
        Self {
            owner,
            hooks,
            until,
            only_renew: false,
        }
    }
}

impl QuiesceRequest {
    /// The same, for a lease that must be there already; without one the answer is [`QuiesceState::Failed`].
    #[must_use]
    pub fn renewing(mut self) -> Self {
        self.only_renew = true;
        self
    }
}

/// How far a member is in holding still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum QuiesceState {
    /// Not everything holds still yet; ask again.
    #[serde(rename_all = "camelCase")]
    Pending {
        /// Pods that hold still.
        held: u32,
        /// Pods that are to.
        wanted: u32,
    },
    /// Everything holds still until then.
    #[serde(rename_all = "camelCase")]
    Held {
        /// Pods that hold still.
        pods: u32,
        /// When they are released at the latest.
        until: Timestamp,
    },
    /// It cannot be done; what held still was released.
    Failed {
        /// Why, for people.
        message: String,
    },
}
