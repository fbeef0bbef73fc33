use std::fmt;

/// One process of a member.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Part {
    /// The API server.
    ApiServer,
    /// The controllers of Kubernetes itself.
    ControllerManager,
    /// The store of the API server.
    Etcd,
    /// Plays the kubelets of the nodes.
    Kwok,
    /// Binds pods to nodes.
    Scheduler,
    /// Backs up and restores, with its plug-ins.
    Velero,
}

impl Part {
    /// Name of its binary, and of its log file without `.log`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Etcd => "etcd",
            Self::Kwok => "kwok",
            Self::Scheduler => "kube-scheduler",
            Self::Velero => "velero",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
