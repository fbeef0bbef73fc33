use kurator_core::{names::ClusterName, reason::Reason};

/// Why a driver could not do what it was asked.
///
/// `Display` names the member and what to do; the source, where there is one, is chained and not printed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The member does not answer. It may have done what it was asked: create-once requests are sent again.
    #[error("{cluster} cannot be reached to {action}; it is tried again")]
    Unreachable {
        /// The member.
        cluster: ClusterName,
        /// What was tried, such as `create backup a`.
        action: String,
        /// What went wrong.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// There is no backup server on the member.
    #[error(
        "{cluster} has no backup server ({missing} is missing); install it there or take the cluster out of the selection"
    )]
    NotInstalled {
        /// The member.
        cluster: ClusterName,
        /// What is missing, such as `custom resource backups.velero.io`.
        missing: String,
    },
    /// The name is taken by something that belongs to somebody else.
    #[error("{name} on {cluster} belongs to somebody else ({holder}); nothing was changed there")]
    NameTaken {
        /// The member.
        cluster: ClusterName,
        /// The name.
        name: String,
        /// Whose it is, as far as it says.
        holder: String,
    },
    /// There is nothing of that name.
    #[error("{cluster} has no {what}")]
    NotFound {
        /// The member.
        cluster: ClusterName,
        /// What is missing, such as `backup a`.
        what: String,
    },
    /// We may not do that on the member.
    #[error("{cluster} does not permit to {action}; grant it")]
    Forbidden {
        /// The member.
        cluster: ClusterName,
        /// What was tried.
        action: String,
        /// The server's answer.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The member's API server does not take the request, and would not take it later.
    #[error("{cluster} does not take the request to {action}: {message}")]
    Refused {
        /// The member.
        cluster: ClusterName,
        /// What was tried.
        action: String,
        /// What the server says.
        message: String,
    },
    /// The answer makes no sense, or is too large.
    #[error("{cluster} answered something unusable when asked to {action}: {message}")]
    Unusable {
        /// The member.
        cluster: ClusterName,
        /// What was tried.
        action: String,
        /// What is wrong with the answer.
        message: String,
    },
}

impl DriverError {
    /// Whether the same call may work later with nothing changed by anyone.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The member it is about.
    #[must_use]
    pub const fn cluster(&self) -> &ClusterName {
        match self {
            Self::Unreachable { cluster, .. }
            | Self::NotInstalled { cluster, .. }
            | Self::NameTaken { cluster, .. }
            | Self::NotFound { cluster, .. }
            | Self::Forbidden { cluster, .. }
            | Self::Refused { cluster, .. }
            | Self::Unusable { cluster, .. } => cluster,
        }
    }
}

impl Reason for DriverError {
    fn token(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "MemberUnreachable",
            Self::NotInstalled { .. } => "BackupServerMissing",
            Self::NameTaken { .. } => "NameTaken",
            Self::NotFound { .. } => "NotFound",
            Self::Forbidden { .. } => "Forbidden",
            Self::Refused { .. } => "RequestRefused",
            Self::Unusable { .. } => "AnswerUnusable",
        }
    }
}
