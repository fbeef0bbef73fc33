use super::ClientPurpose;
use crate::{
    kubeconfig::KubeconfigError,
    membership::MembershipError,
    names::{ClusterName, NamespacedName},
};

/// Why there is no client of a member.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The kubeconfig was accepted and kube cannot make a client of it. There is no source error: those of TLS
    /// libraries are not known to keep keys to themselves.
    #[error("no {purpose} client for cluster {cluster}: {problem}")]
    Client {
        /// Member.
        cluster: ClusterName,
        /// What the client was for.
        purpose: ClientPurpose,
        /// What does not fit, without values.
        problem: &'static str,
    },
    /// Whoever gives the credentials of the member does not give any now.
    #[error("no credentials for cluster {cluster} from {provider} now; they are asked for again")]
    Credentials {
        /// Member.
        cluster: ClusterName,
        /// Who was asked.
        provider: String,
        /// Its answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kubeconfig is refused or wrong.
    #[error("the kubeconfig of cluster {cluster} cannot be used")]
    Kubeconfig {
        /// Member.
        cluster: ClusterName,
        /// What is wrong with it.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// The registration of the member cannot be read.
    #[error("the registration of cluster {cluster} cannot be read")]
    Membership {
        /// Member.
        cluster: ClusterName,
        /// Why.
        #[source]
        source: Box<MembershipError>,
    },
    /// The member offers ways of access and this process has been given none of them.
    #[error(
        "cluster {cluster} offers access through {} and none of that is configured here; configure one, or put its \
         kubeconfig into a Secret",
        if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") }
    )]
    NoAccess {
        /// Member.
        cluster: ClusterName,
        /// The names of what it offers.
        offered: Vec<String>,
    },
    /// The member is registered without a kubeconfig.
    #[error("cluster {cluster} is registered without a kubeconfig; name a Secret in its registration")]
    NoKubeconfig {
        /// Member.
        cluster: ClusterName,
    },
    /// The member is registered, and nothing is sent there now: it is silent, another cluster, or another replica's.
    #[error("cluster {cluster} cannot be worked with now: {reason}")]
    NotEngaged {
        /// Member.
        cluster: ClusterName,
        /// The token of its health or of the last failed probe.
        reason: &'static str,
    },
    /// The Secret does not exist.
    #[error(
        "Secret {secret} with the kubeconfig of cluster {cluster} does not exist; create it or correct the name"
    )]
    SecretNotFound {
        /// Member.
        cluster: ClusterName,
        /// Secret on the hub.
        secret: NamespacedName,
    },
    /// The Secret cannot be read: the hub does not answer or does not allow it.
    #[error("Secret {secret} with the kubeconfig of cluster {cluster} cannot be read from the hub")]
    SecretUnreadable {
        /// Member.
        cluster: ClusterName,
        /// Secret on the hub.
        secret: NamespacedName,
        /// The hub's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No such member.
    #[error("cluster {cluster} is not a member; register it or correct the name")]
    UnknownCluster {
        /// The name.
        cluster: ClusterName,
    },
}

impl ConnectError {
    /// The member this is about.
    pub fn cluster(&self) -> &ClusterName {
        match self {
            Self::Client { cluster, .. }
            | Self::Credentials { cluster, .. }
            | Self::NoAccess { cluster, .. }
            | Self::Kubeconfig { cluster, .. }
            | Self::Membership { cluster, .. }
            | Self::NoKubeconfig { cluster }
            | Self::NotEngaged { cluster, .. }
            | Self::SecretNotFound { cluster, .. }
            | Self::SecretUnreadable { cluster, .. }
            | Self::UnknownCluster { cluster } => cluster,
        }
    }

    /// The reason as conditions, Events and metric labels carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Client { .. } => "ClientUnusable",
            Self::Credentials { .. } => "CredentialsUnavailable",
            Self::NoAccess { .. } => "AccessNotConfigured",
            Self::Kubeconfig { source, .. } => source.reason(),
            Self::Membership { source, .. } => source.reason(),
            Self::NoKubeconfig { .. } => "KubeconfigMissing",
            Self::NotEngaged { reason, .. } => reason,
            Self::SecretNotFound { .. } => "KubeconfigSecretNotFound",
            Self::SecretUnreadable { .. } => "KubeconfigSecretUnreadable",
            Self::UnknownCluster { .. } => "UnknownCluster",
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Membership { source, .. } => matches!(**source, MembershipError::Unavailable { .. }),
            Self::Credentials { .. } | Self::NotEngaged { .. } | Self::SecretUnreadable { .. } => true,
            _ => false,
        }
    }
}

impl ConnectError {
    /// A client for `purpose` of a configuration that has been accepted; for connectors of hosts.
    ///
    /// # Errors
    /// [`ConnectError::Client`], without any value of the configuration in it.
    pub fn client(
        cluster: &ClusterName,
        purpose: ClientPurpose,
        mut config: kube::Config,
    ) -> Result<kube::Client, Self> {
        purpose.policy().apply_to(&mut config);
        kube::Client::try_from(config).map_err(|error| Self::Client {
            cluster: cluster.clone(),
            purpose,
            problem: client_problem(&error),
        })
    }
}

/// What is wrong with an accepted configuration, from kube's refusal to make a client of it.
fn client_problem(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::TlsRequired => {
            "no TLS stack is compiled in; enable kube's `rustls-tls` and `ring` in the application"
        }
        kube::Error::ProxyProtocolDisabled { .. } | kube::Error::ProxyProtocolUnsupported { .. } => {
            "the proxy needs kube's feature `http-proxy` or `socks5` in the application"
        }
        kube::Error::Auth(_) => "the authentication it asks for cannot be set up",
        _ => "its certificate authority, client certificate or client key does not load",
    }
}
