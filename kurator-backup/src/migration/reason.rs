use std::fmt;

use kurator_core::reason::Reason;

use crate::api::{MigrationGate, RestoreTotals};

/// Why a migration is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationReason {
    /// The source is being backed up.
    BackingUp {
        /// The execution.
        backup: String,
    },
    /// The target is being compared with the backup.
    Planning {
        /// The restore.
        restore: String,
        /// What it says.
        message: String,
    },
    /// A gate is closed.
    WaitingForGate {
        /// What `proceedTo` must be for it to go on.
        gate: MigrationGate,
        /// What the plan changes, once it is known.
        planned: Option<RestoreTotals>,
    },
    /// The target is being written.
    Restoring {
        /// The restore.
        restore: String,
    },
    /// Done.
    Migrated,
    /// The policy cannot be carried out by anybody.
    Invalid {
        /// What, as a token.
        token: &'static str,
        /// What, for people.
        message: String,
    },
    /// The name of the backup or the restore is somebody else's.
    NameTaken {
        /// Kind and name.
        object: String,
    },
    /// The backup failed, or misses items.
    BackupFailed {
        /// The execution.
        backup: String,
        /// What it says.
        message: String,
    },
    /// The backup is gone or is being deleted before it was restored.
    BackupGone {
        /// The execution.
        backup: String,
    },
    /// The restore failed, or did not bring everything.
    RestoreFailed {
        /// The restore.
        restore: String,
        /// What it says.
        message: String,
    },
    /// The restore is gone before its end was seen.
    RestoreGone {
        /// The restore.
        restore: String,
    },
    /// It is being taken back.
    GoingBack {
        /// What it waits for.
        waits_for: String,
    },
    /// It was taken back.
    WentBack {
        /// The target, if it may hold what was restored.
        left_on: Option<String>,
    },
}

impl fmt::Display for MigrationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BackingUp { backup } => write!(f, "backup execution {backup} is at work"),
            Self::Planning { restore, message } if message.is_empty() => {
                write!(f, "restore execution {restore} finds out what would change")
            }
            Self::Planning { restore, message } => {
                write!(
                    f,
                    "restore execution {restore} finds out what would change: {message}"
                )
            }
            Self::WaitingForGate { gate, planned: None } => {
                write!(f, "set proceedTo to {gate:?} or later to go on")
            }
            Self::WaitingForGate {
                gate,
                planned: Some(planned),
            } => write!(
                f,
                "create {}, skip {}, patch {} on the target; set proceedTo to {gate:?} or later to go on",
                planned.create, planned.skip, planned.patch
            ),
            Self::Restoring { restore } => write!(f, "restore execution {restore} is at work"),
            Self::Migrated => f.write_str("everything that was in the backup is on the target"),
            Self::Invalid { message, .. } => f.write_str(message),
            Self::NameTaken { object } => {
                write!(
                    f,
                    "{object} is not of this migration; delete it, or migrate under another name"
                )
            }
            Self::BackupFailed { backup, message } => {
                write!(
                    f,
                    "backup execution {backup} is not complete: {message}; set goBack and migrate again"
                )
            }
            Self::BackupGone { backup } => {
                write!(
                    f,
                    "backup execution {backup} is gone or being deleted; set goBack and migrate again"
                )
            }
            Self::RestoreFailed { restore, message } => {
                write!(
                    f,
                    "restore execution {restore} did not bring everything: {message}; set goBack and migrate again"
                )
            }
            Self::RestoreGone { restore } => {
                write!(
                    f,
                    "restore execution {restore} is gone; set goBack and migrate again"
                )
            }
            Self::GoingBack { waits_for } => write!(f, "waits for {waits_for}"),
            Self::WentBack { left_on: None } => f.write_str("taken back; nothing was written to the target"),
            Self::WentBack {
                left_on: Some(target),
            } => write!(
                f,
                "taken back; what was restored is left on {target}, delete it there"
            ),
        }
    }
}

impl Reason for MigrationReason {
    fn token(&self) -> &'static str {
        match self {
            Self::BackingUp { .. } => "BackingUp",
            Self::Planning { .. } => "Planning",
            Self::WaitingForGate { .. } => "WaitingForGate",
            Self::Restoring { .. } => "Restoring",
            Self::Migrated => "Migrated",
            Self::Invalid { token, .. } => token,
            Self::NameTaken { .. } => "NameTaken",
            Self::BackupFailed { .. } => "BackupFailed",
            Self::BackupGone { .. } => "BackupGone",
            Self::RestoreFailed { .. } => "RestoreFailed",
            Self::RestoreGone { .. } => "RestoreGone",
            Self::GoingBack { .. } => "GoingBack",
            Self::WentBack { .. } => "WentBack",
        }
    }
}
