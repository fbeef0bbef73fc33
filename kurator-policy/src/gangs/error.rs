use crate::propagate::ObjectKey;

/// A gang that cannot run as it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GangError {
    /// A Volcano Job without tasks.
    #[error("{object} has no task; add one to spec.tasks")]
    NoTask {
        /// The Job.
        object: Box<ObjectKey>,
    },
    /// A task asks for more members than it has.
    #[error("task {task} of {object} has {replicas} replicas and asks for {min}; lower its minAvailable")]
    TaskMinimum {
        /// The Job.
        object: Box<ObjectKey>,
        /// The task.
        task: String,
        /// Its minimum.
        min: u32,
        /// Its replicas.
        replicas: u32,
    },
    /// The gang asks for more members than there are.
    #[error("{object} has {members} members and asks for {min}; lower the minimum or add replicas")]
    Minimum {
        /// The workload.
        object: Box<ObjectKey>,
        /// The minimum.
        min: u32,
        /// All members.
        members: u32,
    },
    /// The pods name a pod group that is not known.
    #[error(
        "{object} belongs to {group}, which is not on the hub; create it there, or take the name out of the pods"
    )]
    GroupMissing {
        /// The workload.
        object: Box<ObjectKey>,
        /// The pod group.
        group: Box<ObjectKey>,
    },
    /// A number that is none, or out of range.
    #[error("{object}: {field} is {value}, which is no number of members")]
    Number {
        /// The object it stands in.
        object: Box<ObjectKey>,
        /// The field.
        field: String,
        /// What stands there.
        value: String,
    },
    /// What a task asks of a node cannot be read.
    #[error(
        "task {task} of {object}: its pod cannot be read; compare spec.tasks.template.spec with a pod spec"
    )]
    Pod {
        /// The Job.
        object: Box<ObjectKey>,
        /// The task.
        task: String,
    },
}

impl GangError {
    /// The CamelCase token for conditions, Events and metrics.
    #[must_use]
    pub const fn token(&self) -> &'static str {
        match self {
            Self::GroupMissing { .. } => "PodGroupMissing",
            _ => "InvalidGang",
        }
    }
}
