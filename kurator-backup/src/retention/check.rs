use std::collections::BTreeSet;
use std::fmt;

use kurator_core::{names::ClusterName, plan::Notes, reason::Reason};

use super::RunRecord;

/// What a plan would lose.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The only complete backup of a member.
    OnlyComplete {
        /// The member.
        cluster: ClusterName,
    },
    /// The only backup of a member from which anything can be restored.
    OnlyRestorable {
        /// The member.
        cluster: ClusterName,
    },
    /// A run under legal hold.
    Held,
    /// A run that has not ended.
    NotEnded,
    /// A run that does not exist.
    Unknown,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyComplete { cluster } => write!(f, "{cluster} would have no complete backup any more"),
            Self::OnlyRestorable { cluster } => write!(f, "{cluster} would have no backup any more"),
            Self::Held => f.write_str("it is under legal hold"),
            Self::NotEnded => f.write_str("it has not ended"),
            Self::Unknown => f.write_str("there is no such run"),
        }
    }
}

impl Reason for Loss {
    fn token(&self) -> &'static str {
        match self {
            Self::OnlyComplete { .. } => "OnlyComplete",
            Self::OnlyRestorable { .. } => "OnlyRestorable",
            Self::Held => "Held",
            Self::NotEnded => "NotEnded",
            Self::Unknown => "UnknownRun",
        }
    }
}

/// What deleting these runs would lose, found without knowing how they were chosen.
pub fn check(runs: &[RunRecord], delete: &[String]) -> Notes {
    let mut notes = Notes::default();
    for name in delete {
        match runs.iter().find(|run| run.name == *name) {
            None => notes.error(name, &Loss::Unknown),
            Some(run) if run.hold => notes.error(name, &Loss::Held),
            Some(run) if !run.phase.has_ended() && run.phase != crate::api::ExecutionPhase::Deleting => {
                notes.error(name, &Loss::NotEnded);
            }
            Some(_) => {}
        }
    }
    let collect = |which: fn(&RunRecord) -> Vec<&ClusterName>, left: bool| -> BTreeSet<&ClusterName> {
        runs.iter()
            .filter(|run| run.phase.has_ended() && !(left && delete.contains(&run.name)))
            .flat_map(which)
            .collect()
    };
    let complete: fn(&RunRecord) -> Vec<&ClusterName> = |run| run.complete.iter().collect();
    let restorable: fn(&RunRecord) -> Vec<&ClusterName> =
        |run| run.complete.iter().chain(&run.partial).collect();
    for cluster in collect(complete, false).difference(&collect(complete, true)) {
        notes.error(
            cluster,
            &Loss::OnlyComplete {
                cluster: (*cluster).clone(),
            },
        );
    }
    for cluster in collect(restorable, false).difference(&collect(restorable, true)) {
        notes.error(
            cluster,
            &Loss::OnlyRestorable {
                cluster: (*cluster).clone(),
            },
        );
    }
    notes
}
