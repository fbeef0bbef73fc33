//! Why a cluster is as far as it is: one word for status, condition, Event and metric label alike.

use std::fmt;

/// Why an object in a cluster, or a cluster as a whole, is as far as it is.
///
/// Ordered from well to ill: of several reasons the greatest stands for all. The tokens inside are those of
/// `kurator_core`: of an [`ObjectOutcome`](kurator_core::apply::ObjectOutcome), and of a failed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MemberReason {
    /// Everything is there, and is well as far as its kind tells.
    Applied,
    /// Everything is there; something is on its way to be well, such as replicas that are not ready yet.
    NotReady,
    /// Not sent yet.
    Pending,
    /// Being taken out of the cluster.
    Removing,
    /// Not as planned, and not to be changed for now.
    Suspended,
    /// Not as planned, and only reported: an object would be created, changed or removed, as the token says.
    Differs(&'static str),
    /// Everything is there, and something does not get well by waiting.
    Unhealthy,
    /// The policy names a cluster that is not a member, or not any more.
    UnknownCluster,
    /// An object could not be rendered, applied or removed.
    Object(&'static str),
    /// Nothing can be done in the cluster.
    Cluster(&'static str),
}

/// The cluster did not answer within the time it had.
pub const TIMED_OUT: MemberReason = MemberReason::Cluster("TimedOut");

impl MemberReason {
    /// The CamelCase token used as condition reason, Event reason and metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "Applied",
            Self::NotReady => "NotReady",
            Self::Pending => "Pending",
            Self::Removing => "Removing",
            Self::Suspended => "Suspended",
            Self::Differs(_) => "Differs",
            Self::Unhealthy => "Unhealthy",
            Self::UnknownCluster => "UnknownCluster",
            Self::Object(token) | Self::Cluster(token) => token,
        }
    }

    /// The token of one object, which says more where the object only differs.
    pub(super) const fn of_object(self) -> &'static str {
        match self {
            Self::Differs(token) => token,
            reason => reason.as_str(),
        }
    }

    /// Whether something is wrong, as opposed to not finished.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        !matches!(
            self,
            Self::Applied
                | Self::NotReady
                | Self::Pending
                | Self::Removing
                | Self::Suspended
                | Self::Differs(_)
        )
    }

    /// The same, of a token in a status.
    pub(super) fn is_failure_token(token: &str) -> bool {
        ![
            Self::Applied,
            Self::NotReady,
            Self::Pending,
            Self::Removing,
            Self::Suspended,
            Self::Differs(""),
        ]
        .iter()
        .any(|well| well.as_str() == token)
    }
}

impl fmt::Display for MemberReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
