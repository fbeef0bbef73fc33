use std::fmt;

use jiff::Timestamp;
use kurator_core::{names::ClusterName, reason::Reason};

use super::preflight::Refusal;
use crate::driver::{DriverError, Phase};

/// Why a member is where it is in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterReason {
    /// Others are at work and the limit is reached, or its time in the jitter has not come.
    WaitingForTurn,
    /// It waits for the others before the fleet is held still.
    WaitingForOthers,
    /// It is being held still.
    Quiescing,
    /// It could not be held still.
    QuiesceFailed {
        /// Why.
        message: String,
    },
    /// Another member could not be held still, so it was let go again.
    QuiesceGivenUp {
        /// That member.
        culprit: ClusterName,
    },
    /// The backup is being created.
    Submitted,
    /// The server has the backup and has not begun.
    Queued {
        /// The server's phase.
        phase: Phase,
    },
    /// The server forgot the backup, and was reminded of it.
    Reminded {
        /// How often.
        times: u32,
    },
    /// The server is at work.
    InProgress,
    /// The last data and files are being written.
    Finalizing,
    /// The server says a phase that this version does not know.
    UnknownPhase {
        /// The phase.
        phase: String,
    },
    /// Done.
    Completed,
    /// Done, with items that failed.
    PartiallyFailed {
        /// Errors the server counted.
        errors: u64,
        /// What it says.
        message: String,
    },
    /// The server says that the backup failed.
    BackupFailed {
        /// What it says.
        message: String,
    },
    /// The server refused the backup.
    BackupRefused {
        /// What it says.
        message: String,
    },
    /// The backup is gone from the server, or going.
    BackupVanished,
    /// The server did not begin with the backup, not even when it was reminded.
    BackupStalled {
        /// Its phase.
        phase: Phase,
    },
    /// The backup made no progress for too long.
    BackupHangs,
    /// The server would refuse the backup.
    Refused(Refusal),
    /// Something is in the way of talking to the member.
    Obstacle {
        /// What, as a token.
        token: &'static str,
        /// What, for people.
        message: String,
    },
    /// There is no member of that name in the fleet.
    UnknownCluster,
    /// It left the fleet while the run went on.
    LeftFleet,
    /// The run's deadline passed.
    DeadlineExceeded {
        /// The deadline.
        deadline: Timestamp,
        /// What was in the way last.
        last: String,
    },
    /// As many attempts as are allowed were made.
    AttemptsExhausted {
        /// How many.
        attempts: u32,
        /// What was in the way last.
        last: String,
    },
    /// The run was told to stop.
    Cancelled {
        /// Whether the server may still be at work on the backup.
        at_work: bool,
    },
    /// Its backup is being deleted.
    Deleting,
    /// Its backup could not be deleted yet.
    DeletionFailed {
        /// What the server says.
        message: String,
    },
}

impl From<&DriverError> for ClusterReason {
    fn from(error: &DriverError) -> Self {
        Self::Obstacle {
            token: error.token(),
            message: error.to_string(),
        }
    }
}

impl fmt::Display for ClusterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForTurn => f.write_str("waiting for its turn"),
            Self::WaitingForOthers => {
                f.write_str("ready; waiting for the other members to be held still with it")
            }
            Self::Quiescing => f.write_str("being held still"),
            Self::QuiesceFailed { message } => write!(f, "could not be held still: {message}"),
            Self::QuiesceGivenUp { culprit } => {
                write!(f, "let go again: {culprit} could not be held still with it")
            }
            Self::Submitted => f.write_str("the backup is being created"),
            Self::Queued { phase } => write!(f, "the server has not begun ({phase})"),
            Self::Reminded { times } => write!(f, "the server was reminded of the backup, time {times}"),
            Self::InProgress => f.write_str("the server is at work"),
            Self::Finalizing => f.write_str("all items are read; the rest is being written"),
            Self::UnknownPhase { phase } => {
                write!(
                    f,
                    "the server says {phase}, which this version does not know; it is watched until the deadline"
                )
            }
            Self::Completed => f.write_str("complete"),
            Self::PartiallyFailed { errors, message } => {
                write!(f, "{errors} errors")?;
                then(f, message)
            }
            Self::BackupFailed { message } => {
                f.write_str("the backup failed")?;
                then(f, message)
            }
            Self::BackupRefused { message } => {
                f.write_str("the server refused the backup")?;
                then(f, message)
            }
            Self::BackupVanished => f.write_str("the backup is gone from the server before it ended"),
            Self::BackupStalled { phase } => {
                write!(f, "the server did not begin ({phase}) although it was reminded")
            }
            Self::BackupHangs => f.write_str("no progress for too long; the server may still be at work"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Obstacle { message, .. } => f.write_str(message),
            Self::UnknownCluster => {
                f.write_str("no member of the fleet has this name; correct it or let it join")
            }
            Self::LeftFleet => f.write_str("it is no member of the fleet any more"),
            Self::DeadlineExceeded { deadline, last } => {
                write!(f, "not done by {deadline}")?;
                then(f, last)
            }
            Self::AttemptsExhausted { attempts, last } => {
                write!(f, "given up after {attempts} attempts")?;
                then(f, last)
            }
            Self::Cancelled { at_work: true } => {
                f.write_str("cancelled; the server may still finish the backup")
            }
            Self::Cancelled { at_work: false } => f.write_str("cancelled"),
            Self::Deleting => f.write_str("the backup is being deleted"),
            Self::DeletionFailed { message } => write!(f, "not deleted yet: {message}"),
        }
    }
}

fn then(f: &mut fmt::Formatter<'_>, more: &str) -> fmt::Result {
    if more.is_empty() {
        Ok(())
    } else {
        write!(f, ": {more}")
    }
}

impl Reason for ClusterReason {
    fn token(&self) -> &'static str {
        match self {
            Self::WaitingForTurn => "WaitingForTurn",
            Self::WaitingForOthers => "WaitingForOthers",
            Self::Quiescing => "Quiescing",
            Self::QuiesceFailed { .. } => "QuiesceFailed",
            Self::QuiesceGivenUp { .. } => "QuiesceGivenUp",
            Self::Submitted => "Submitted",
            Self::Queued { .. } => "Queued",
            Self::Reminded { .. } => "Reminded",
            Self::InProgress => "InProgress",
            Self::Finalizing => "Finalizing",
            Self::UnknownPhase { .. } => "UnknownPhase",
            Self::Completed => "Completed",
            Self::PartiallyFailed { .. } => "PartiallyFailed",
            Self::BackupFailed { .. } => "BackupFailed",
            Self::BackupRefused { .. } => "BackupRefused",
            Self::BackupVanished => "BackupVanished",
            Self::BackupStalled { .. } => "BackupStalled",
            Self::BackupHangs => "BackupHangs",
            Self::Refused(refusal) => refusal.token(),
            Self::Obstacle { token, .. } => token,
            Self::UnknownCluster => "UnknownCluster",
            Self::LeftFleet => "LeftFleet",
            Self::DeadlineExceeded { .. } => "DeadlineExceeded",
            Self::AttemptsExhausted { .. } => "AttemptsExhausted",
            Self::Cancelled { .. } => "Cancelled",
            Self::Deleting => "Deleting",
            Self::DeletionFailed { .. } => "DeletionFailed",
        }
    }
}

/// Why a run as a whole is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunReason {
    /// Members are at work, or wait for their turn.
    Running {
        /// Members that are done.
        ended: u32,
        /// All members.
        clusters: u32,
    },
    /// The success rule is met.
    Succeeded {
        /// Members that completed.
        completed: u32,
        /// All members.
        clusters: u32,
    },
    /// The success rule is not met.
    Missed {
        /// Members that completed.
        completed: u32,
        /// Members that had to.
        needed: u32,
        /// All members.
        clusters: u32,
        /// The members that did not, at most ten, with their reasons.
        which: Vec<(ClusterName, String)>,
    },
    /// Nothing is selected.
    NoClusters,
    /// Nobody knows the fleet.
    FleetNotFound {
        /// What is said about it.
        message: String,
    },
    /// Who the members are cannot be read right now.
    MembershipUnavailable {
        /// What is said about it.
        message: String,
    },
    /// The policy cannot be carried out.
    InvalidPolicy {
        /// Why.
        message: String,
    },
    /// More members than a status has room for.
    TooManyClusters {
        /// Members.
        clusters: usize,
    },
    /// The run was told to stop.
    Cancelled {
        /// Members that completed before.
        completed: u32,
    },
    /// Everything was read while the fleet held still.
    Consistent {
        /// Members.
        clusters: u32,
    },
    /// Some of the backups are not of the instant at which the fleet held still.
    OutsideCut {
        /// Their members, at most ten.
        which: Vec<ClusterName>,
    },
    /// Whether it is consistent is not decided.
    CutOpen,
    /// Its backups are being deleted.
    Deleting {
        /// Members where something is left.
        left: u32,
    },
    /// It may not be deleted.
    Held,
}

impl fmt::Display for RunReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running { ended, clusters } => write!(f, "{ended} of {clusters} members are done"),
            Self::Succeeded { completed, clusters } => {
                write!(f, "{completed} of {clusters} members completed")
            }
            Self::Missed {
                completed,
                needed,
                clusters,
                which,
            } => {
                write!(f, "{completed} of {clusters} members completed, {needed} had to")?;
                for (index, (cluster, token)) in which.iter().enumerate() {
                    write!(
                        f,
                        "{}{cluster} ({token})",
                        if index == 0 { "; without: " } else { ", " }
                    )?;
                }
                Ok(())
            }
            Self::NoClusters => f.write_str("no member of the fleet is selected; nothing was backed up"),
            Self::FleetNotFound { message }
            | Self::MembershipUnavailable { message }
            | Self::InvalidPolicy { message } => f.write_str(message),
            Self::TooManyClusters { clusters } => write!(
                f,
                "{clusters} members are more than one execution has room for; split them over several by their labels"
            ),
            Self::Cancelled { completed } => write!(f, "cancelled; {completed} members had completed"),
            Self::Consistent { clusters } => {
                write!(f, "{clusters} members held still until everything was read")
            }
            Self::OutsideCut { which } => {
                f.write_str("not of the instant at which the fleet held still:")?;
                which.iter().try_for_each(|cluster| write!(f, " {cluster}"))
            }
            Self::CutOpen => f.write_str("not everything is read yet"),
            Self::Deleting { left } => write!(f, "{left} members still have a backup of it"),
            Self::Held => f.write_str("it is held; set spec.hold to false to let it be deleted"),
        }
    }
}

impl Reason for RunReason {
    fn token(&self) -> &'static str {
        match self {
            Self::Running { .. } => "Running",
            Self::Succeeded { .. } => "Succeeded",
            Self::Missed { .. } => "SuccessRuleMissed",
            Self::NoClusters => "NoClusters",
            Self::FleetNotFound { .. } => "FleetNotFound",
            Self::MembershipUnavailable { .. } => "MembershipUnavailable",
            Self::InvalidPolicy { .. } => "InvalidPolicy",
            Self::TooManyClusters { .. } => "TooManyClusters",
            Self::Cancelled { .. } => "Cancelled",
            Self::Consistent { .. } => "Consistent",
            Self::OutsideCut { .. } => "OutsideCut",
            Self::CutOpen => "CutOpen",
            Self::Deleting { .. } => "Deleting",
            Self::Held => "Held",
        }
    }
}
