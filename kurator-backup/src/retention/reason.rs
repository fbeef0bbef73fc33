use std::fmt;

use kurator_core::{names::ClusterName, reason::Reason};

/// Why a run is kept, or that it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepReason {
    /// It is under legal hold.
    Held,
    /// It has not ended.
    NotEnded,
    /// It is one of the last runs.
    Last {
        /// Its number, the newest is 1.
        number: u32,
        /// How many are kept.
        of: u32,
    },
    /// It stands for a day.
    Daily,
    /// It stands for a week.
    Weekly,
    /// It stands for a month.
    Monthly,
    /// Without it there would be no complete backup of a member, or none at all.
    LastGood {
        /// The member.
        cluster: ClusterName,
    },
    /// It ended last.
    Newest,
    /// Nothing keeps it.
    NotKept,
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("under legal hold"),
            Self::NotEnded => f.write_str("it has not ended"),
            Self::Last { number, of } => write!(f, "number {number} of the last {of}"),
            Self::Daily => f.write_str("stands for its day"),
            Self::Weekly => f.write_str("stands for its week"),
            Self::Monthly => f.write_str("stands for its month"),
            Self::LastGood { cluster } => write!(f, "newest complete backup of {cluster}"),
            Self::Newest => f.write_str("it ended last"),
            Self::NotKept => f.write_str("no rule keeps it"),
        }
    }
}

impl Reason for KeepReason {
    fn token(&self) -> &'static str {
        match self {
            Self::Held => "Held",
            Self::NotEnded => "NotEnded",
            Self::Last { .. } => "Last",
            Self::Daily => "Daily",
            Self::Weekly => "Weekly",
            Self::Monthly => "Monthly",
            Self::LastGood { .. } => "LastGood",
            Self::Newest => "Newest",
            Self::NotKept => "NotKept",
        }
    }
}
