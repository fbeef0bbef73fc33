//! What a server would refuse, said before it is asked: a refused backup stays refused for ever.

use std::fmt;

use kurator_core::{names::ClusterName, reason::Reason};

use crate::driver::{BackupRequest, MemberFacts, StoreWriter};

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
    pub(super) fn two_writers(other: &StoreWriter) -> Self {
        let StoreWriter {
            fleet, cluster, last, ..
        } = other;
        Self {
            token: "TwoWriters",
            message: format!(
                "{cluster} of fleet {fleet} has written to the same bucket and prefix at {last}, after this member began to; give each a prefix of its own, or set allowSharedStore"
            ),
        }
    }

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

/// Somebody else who wrote where `request` of a member goes since the member wrote there first: then there are two writers, for one
/// that was followed by another has stopped. Velero allows one to a bucket and prefix.
///
/// Pure. Whoever wrote before the member began is no reason: the store was handed on, or is that of a migration. Locations
/// that are only read are nothing a backup goes to.
#[must_use]
pub(super) fn other_writer<'a>(
    request: &BackupRequest,
    facts: &'a MemberFacts,
    fleet: &str,
    cluster: &ClusterName,
) -> Option<&'a StoreWriter> {
    let (location, _) = facts.location(request.location.as_ref())?;
    let writers = facts.writers.get(location.as_str())?;
    let ours = |writer: &&StoreWriter| writer.fleet == fleet && writer.cluster == cluster.as_str();
    let first = writers.iter().find(ours)?.first;
    writers
        .iter()
        .filter(|writer| !ours(writer) && writer.last > first)
        .max_by_key(|writer| writer.last)
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
