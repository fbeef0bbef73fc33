use std::fmt;

use jiff::Timestamp;
use kurator_core::{names::ClusterName, reason::Reason};

use crate::driver::{BackupName, Phase, ResourceKind};

/// Why a member, or a restore as a whole, is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreReason {
    /// Others are at work and the limit is reached.
    WaitingForTurn,
    /// It is known what would change.
    Planned,
    /// The restore is being created.
    Submitted,
    /// The server is at work, or will be.
    InProgress {
        /// Its phase.
        phase: Phase,
    },
    /// What is there is compared with what was in the backup.
    Verifying,
    /// Done; everything that was in the backup is there.
    Verified,
    /// Done; the scope does not let anybody tell whether everything is there.
    Completed,
    /// Done, with errors.
    PartiallyFailed {
        /// Errors the server counted.
        errors: u64,
        /// What it says.
        message: String,
    },
    /// Done, and objects are missing.
    ObjectsMissing {
        /// How many.
        missing: u64,
        /// The first of them.
        first: String,
    },
    /// The server says that the restore failed, or refused it.
    RestoreFailed {
        /// What it says.
        message: String,
    },
    /// The restore is gone from the server.
    RestoreVanished,
    /// The target's server does not show the backup.
    BackupNotSynced {
        /// The backup.
        backup: BackupName,
    },
    /// The backup is in no phase that can be restored from.
    BackupUnusable {
        /// Its phase.
        phase: Phase,
    },
    /// The backup misses items.
    BackupPartial,
    /// The run has no backup of the member.
    NoBackup,
    /// No member of the fleet has this name.
    UnknownCluster,
    /// Another member's backup goes to the same target.
    TargetTwice {
        /// That member.
        other: ClusterName,
    },
    /// The target does not serve kinds that are in the backup.
    KindsNotServed {
        /// The kinds, at most ten.
        kinds: Vec<ResourceKind>,
    },
    /// The target serves kinds that are in the backup, but not in the versions they are in.
    VersionsNotServed {
        /// The kinds as they are in the backup, each with a version of the target, at most ten.
        kinds: Vec<(ResourceKind, String)>,
    },
    /// The target does not have storage classes that claims in the backup ask for.
    StorageClassesMissing {
        /// The classes, with how many claims ask for them, at most ten.
        classes: Vec<(String, u64)>,
        /// Classes the target has, at most ten.
        has: Vec<String>,
    },
    /// Something is in the way of talking to the member.
    Obstacle {
        /// What, as a token.
        token: &'static str,
        /// What, for people.
        message: String,
    },
    /// The deadline passed.
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
    /// Of a restore: members are at work.
    Running {
        /// Members that are done.
        ended: u32,
        /// All members.
        clusters: u32,
    },
    /// Of a restore: the success rule is met.
    Succeeded {
        /// Members that are restored.
        completed: u32,
        /// All members.
        clusters: u32,
    },
    /// Of a restore: the success rule is not met.
    Missed {
        /// Members that are restored.
        completed: u32,
        /// Members that had to be.
        needed: u32,
        /// All members.
        clusters: u32,
    },
    /// Of a restore: nothing is selected.
    NoClusters,
    /// Of a restore: it cannot be begun.
    Invalid {
        /// Why, as a token.
        token: &'static str,
        /// Why, for people.
        message: String,
    },
}

fn then(f: &mut fmt::Formatter<'_>, more: &str) -> fmt::Result {
    if more.is_empty() {
        Ok(())
    } else {
        write!(f, ": {more}")
    }
}

impl fmt::Display for RestoreReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForTurn => f.write_str("waiting for its turn"),
            Self::Planned => f.write_str("planned; nothing was written"),
            Self::Submitted => f.write_str("the restore is being created"),
            Self::InProgress { phase } => write!(f, "the server is at work ({phase})"),
            Self::Verifying => f.write_str("what is there is compared with what was in the backup"),
            Self::Verified => f.write_str("everything that was in the backup is there"),
            Self::Completed => f.write_str("complete, as the server says"),
            Self::PartiallyFailed { errors, message } => {
                write!(f, "{errors} errors")?;
                then(f, message)
            }
            Self::ObjectsMissing { missing, first } => {
                write!(
                    f,
                    "{missing} objects of the backup are not there, the first is {first}"
                )
            }
            Self::RestoreFailed { message } => {
                f.write_str("the restore failed")?;
                then(f, message)
            }
            Self::RestoreVanished => f.write_str("the restore is gone from the server before it ended"),
            Self::BackupNotSynced { backup } => {
                write!(
                    f,
                    "the server does not show backup {backup}; it needs a location on the same bucket and prefix"
                )
            }
            Self::BackupUnusable { phase } => {
                write!(f, "the backup is {phase}, which cannot be restored from")
            }
            Self::BackupPartial => {
                f.write_str("the backup misses items; set allowPartial to restore it all the same")
            }
            Self::NoBackup => f.write_str("the run has no backup of it that can be restored from"),
            Self::UnknownCluster => {
                f.write_str("no member of the fleet has this name; correct it or let it join")
            }
            Self::TargetTwice { other } => write!(f, "the backup of {other} goes to the same target"),
            Self::KindsNotServed { kinds } => {
                f.write_str("the target does not serve")?;
                kinds.iter().try_for_each(|kind| write!(f, " {kind}"))?;
                f.write_str("; install them there or exclude them")
            }
            Self::VersionsNotServed { kinds } => {
                f.write_str("the target serves other versions of")?;
                for (kind, version) in kinds {
                    write!(f, " {kind} (it has {version})")?;
                }
                f.write_str("; have it serve these, or back up anew from a cluster that prefers its versions")
            }
            Self::StorageClassesMissing { classes, has } => {
                f.write_str("the target has no storage class")?;
                for (index, (class, claims)) in classes.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma} {class} ({claims} claims)")?;
                }
                if has.is_empty() {
                    f.write_str("; create it")?;
                } else {
                    write!(f, "; replace it in storageClasses by {}", has.join(" or "))?;
                }
                f.write_str(", or by itself to keep it")
            }
            Self::Obstacle { message, .. } | Self::Invalid { message, .. } => f.write_str(message),
            Self::DeadlineExceeded { deadline, last } => {
                write!(f, "not done by {deadline}")?;
                then(f, last)
            }
            Self::AttemptsExhausted { attempts, last } => {
                write!(f, "given up after {attempts} attempts")?;
                then(f, last)
            }
            Self::Running { ended, clusters } => write!(f, "{ended} of {clusters} members are done"),
            Self::Succeeded { completed, clusters } => {
                write!(f, "{completed} of {clusters} members are restored")
            }
            Self::Missed {
                completed,
                needed,
                clusters,
            } => write!(
                f,
                "{completed} of {clusters} members are restored, {needed} had to be"
            ),
            Self::NoClusters => f.write_str("no member of the run is selected; nothing was restored"),
        }
    }
}

impl Reason for RestoreReason {
    fn token(&self) -> &'static str {
        match self {
            Self::WaitingForTurn => "WaitingForTurn",
            Self::Planned => "Planned",
            Self::Submitted => "Submitted",
            Self::InProgress { .. } => "InProgress",
            Self::Verifying => "Verifying",
            Self::Verified => "Verified",
            Self::Completed => "Completed",
            Self::PartiallyFailed { .. } => "PartiallyFailed",
            Self::ObjectsMissing { .. } => "ObjectsMissing",
            Self::RestoreFailed { .. } => "RestoreFailed",
            Self::RestoreVanished => "RestoreVanished",
            Self::BackupNotSynced { .. } => "BackupNotSynced",
            Self::BackupUnusable { .. } => "BackupUnusable",
            Self::BackupPartial => "BackupPartial",
            Self::NoBackup => "NoBackup",
            Self::UnknownCluster => "UnknownCluster",
            Self::TargetTwice { .. } => "TargetTwice",
            Self::KindsNotServed { .. } => "KindsNotServed",
            Self::VersionsNotServed { .. } => "VersionsNotServed",
            Self::StorageClassesMissing { .. } => "StorageClassesMissing",
            Self::Obstacle { token, .. } | Self::Invalid { token, .. } => token,
            Self::DeadlineExceeded { .. } => "DeadlineExceeded",
            Self::AttemptsExhausted { .. } => "AttemptsExhausted",
            Self::Running { .. } => "Running",
            Self::Succeeded { .. } => "Succeeded",
            Self::Missed { .. } => "SuccessRuleMissed",
            Self::NoClusters => "NoClusters",
        }
    }
}
