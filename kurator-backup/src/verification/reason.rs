use std::fmt;

use jiff::Timestamp;
use kurator_core::reason::Reason;

/// What verifications come to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerificationReason {
    /// Everything that was to be restored was found.
    Verified {
        /// The backup execution.
        execution: String,
        /// Members.
        members: usize,
        /// Objects that were compared.
        objects: u64,
        /// How long it took at most, in seconds.
        seconds: u64,
    },
    /// A restore failed, or objects are missing.
    NotRestorable {
        /// The backup execution.
        execution: String,
        /// The first member with which it failed, and why.
        what: String,
    },
    /// It could not be tried, or not to its end; that says nothing of the backup.
    NotVerified {
        /// The backup execution.
        execution: String,
        /// Why.
        what: String,
    },
    /// The policy cannot be carried out.
    Invalid {
        /// What, as a token.
        token: &'static str,
        /// What, for people.
        message: String,
    },
    /// Nothing was verified yet.
    NeverVerified {
        /// The next time.
        next: Option<Timestamp>,
    },
}

impl fmt::Display for VerificationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified {
                execution,
                members,
                objects,
                seconds,
            } => write!(
                f,
                "{objects} objects of {members} members of {execution} were restored and found, in {seconds} s"
            ),
            Self::NotRestorable { execution, what } => {
                write!(f, "{execution} does not restore: {what}")
            }
            Self::NotVerified { execution, what } => {
                write!(
                    f,
                    "{execution} could not be tried: {what}; the next verification tries again"
                )
            }
            Self::Invalid { message, .. } => f.write_str(message),
            Self::NeverVerified { next: Some(next) } => write!(f, "the first verification is due at {next}"),
            Self::NeverVerified { next: None } => f.write_str("no verification is due"),
        }
    }
}

impl Reason for VerificationReason {
    fn token(&self) -> &'static str {
        match self {
            Self::Verified { .. } => "Verified",
            Self::NotRestorable { .. } => "NotRestorable",
            Self::NotVerified { .. } => "NotVerified",
            Self::Invalid { token, .. } => token,
            Self::NeverVerified { .. } => "NeverVerified",
        }
    }
}
