//! What a server would refuse, said before it is asked: a refused backup stays refused for ever.

use std::fmt;

use kurator_core::{names::ClusterName, reason::Reason};

use crate::driver::{BackupRequest, MemberFacts};

/// Why a server would refuse a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// CamelCase token.
    pub token: &'static str,
    /// What to change, for people.
    pub message: String,
}

impl Refusal {
    /// A refusal for this reason.
    pub fn new(reason: &(impl Reason + ?Sized)) -> Self {
        Self {
            token: reason.token(),
            message: reason.to_string(),
        }
    }

    pub(super) fn shared_store(other: &ClusterName) -> Self {
        Self {
            token: "SharedStore",
            message: format!(
                "{other} writes to the same bucket and prefix; give each member a prefix of its own, or set allowSharedStore"
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Reason for Refusal {
    fn token(&self) -> &'static str {
        self.token
    }
}

/// Predicts what a member's server would refuse.
///
/// Pure: it depends on the request and the facts only. A refusal must be certain; a backup that is refused here is not
/// asked for until the facts change.
pub trait Preflight: fmt::Debug + Send + Sync + 'static {
    /// Why the server with these facts would refuse `request`; empty if it would not.
    fn backup(&self, request: &BackupRequest, facts: &MemberFacts) -> Vec<Refusal>;
}
