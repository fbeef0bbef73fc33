use kurator_core::multicluster::shard::ShardError;

/// What stops a pass of these controllers. It is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The hub did not do what it was asked.
    #[error("failed to {action} {name}")]
    Hub {
        /// What was to be done.
        action: &'static str,
        /// To which object.
        name: String,
        /// The hub's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The hub has no `kube-system` namespace to be known by.
    #[error("the hub has no identity: its namespace kube-system has no UID")]
    HubIdentity,
    /// The replicas cannot choose one of them that leads.
    #[error("replicas of the fleet manager cannot share namespace {namespace}")]
    Replicas {
        /// The namespace.
        namespace: String,
        /// What is wrong.
        #[source]
        source: ShardError,
    },
    /// A leaving member could not be cleaned.
    #[error("failed to clean cluster {cluster}")]
    Member {
        /// The member.
        cluster: String,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
}

impl FleetError {
    pub(super) fn hub(action: &'static str, name: &str, source: kube::Error) -> Self {
        Self::Hub {
            action,
            name: name.to_owned(),
            source: Box::new(source),
        }
    }
}
