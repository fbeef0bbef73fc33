//! What a server would refuse, said before it is asked: a refused backup stays refused for ever.

use std::fmt;

use kurator_core::{names::ClusterName, reason::Reason};

use crate::driver::{BackupRequest, LocationAccess, LocationState, MemberFacts};

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

/// The rule of every server: the storage location must be there, writable and looked at.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LocationGate;

impl Preflight for LocationGate {
    fn backup(&self, request: &BackupRequest, facts: &MemberFacts) -> Vec<Refusal> {
        let named = request.location.as_ref();
        let refusal = |token, message| vec![Refusal { token, message }];
        let Some((name, location)) = facts.location(named) else {
            let message = named.map_or_else(
                || "there is no default storage location; make one the default or name one".to_owned(),
                |name| format!("there is no storage location {name}; create it or name another"),
            );
            return refusal("StorageLocationMissing", message);
        };
        if location.access == LocationAccess::ReadOnly {
            let message = format!("storage location {name} is read-only; name another");
            return refusal("StorageLocationReadOnly", message);
        }
        match &location.state {
            LocationState::Available => Vec::new(),
            LocationState::Unavailable { message } => refusal(
                "StorageLocationUnavailable",
                format!("storage location {name} cannot be used now: {message}"),
            ),
            LocationState::Unknown => refusal(
                "StorageLocationUnavailable",
                format!("the server has not looked at storage location {name} yet"),
            ),
        }
    }
}
