use crate::{
    apply::{FieldConflict, ObjectKey},
    names::ClusterName,
};

/// What a member in memory says no to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The object to create is there already.
    #[error("{object} exists already on {cluster}")]
    AlreadyExists {
        /// The member.
        cluster: ClusterName,
        /// The object.
        object: Box<ObjectKey>,
    },
    /// A precondition on UID or resource version does not hold.
    #[error("{object} on {cluster} is not the one that was meant; read it again")]
    Conflict {
        /// The member.
        cluster: ClusterName,
        /// The object.
        object: Box<ObjectKey>,
    },
    /// Other managers hold fields with other values.
    #[error("{object} on {cluster} has fields held by others; apply with force to take them")]
    FieldConflict {
        /// The member.
        cluster: ClusterName,
        /// The object.
        object: Box<ObjectKey>,
        /// The fields and who holds them, sorted.
        conflicts: Vec<FieldConflict>,
    },
    /// The value is not a Kubernetes object.
    #[error("not an object: `{field}` is missing")]
    Invalid {
        /// The field.
        field: &'static str,
    },
    /// There is no such object.
    #[error("{object} is not on {cluster}")]
    NotFound {
        /// The member.
        cluster: ClusterName,
        /// The object.
        object: Box<ObjectKey>,
    },
    /// There is no such member.
    #[error("{cluster} is not a member; join it first")]
    UnknownMember {
        /// The name.
        cluster: ClusterName,
    },
    /// The member was made unreachable.
    #[error("{cluster} does not answer")]
    Unreachable {
        /// The member.
        cluster: ClusterName,
    },
}
