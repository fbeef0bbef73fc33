use super::KubeconfigPlace;
use crate::names::{ClusterName, NamespacedName};

/// Why a kubeconfig was not used. Every variant names the member, the Secret and the place; none repeats a value
/// of the file, and there is no source error that could: parsers quote what they choke on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeconfigError {
    /// An `auth-provider` entry, which the policy does not allow.
    #[error(
        "kubeconfig of cluster {cluster} in {place}: `{field}` is refused, it can run programs here; \
         use a token or a client certificate, or allow it in the KubeconfigPolicy"
    )]
    AuthProviderRefused {
        /// Member.
        cluster: ClusterName,
        /// The object that holds it.
        place: KubeconfigPlace,
        /// Field of the kubeconfig.
        field: &'static str,
    },
    /// A `server` with a user name or password in it.
    #[error(
        "kubeconfig of cluster {cluster} in {place}: `{field}` carries a user name or password; \
         move them to `users[].user`"
    )]
    CredentialsInUrl {
        /// Member.
        cluster: ClusterName,
        /// The object that holds it.
        place: KubeconfigPlace,
        /// Field of the kubeconfig.
        field: &'static str,
    },
    /// An `exec` entry whose command the policy does not allow.
    #[error(
        "kubeconfig of cluster {cluster} in {place}: `{field}` is refused, it runs a program here; \
         use a token or a client certificate, or allow that command in the KubeconfigPolicy"
    )]
    ExecRefused {
        /// Member.
        cluster: ClusterName,
        /// The object that holds it.
        place: KubeconfigPlace,
        /// Field of the kubeconfig.
        field: &'static str,
    },
    /// A path to a file of this machine.
    #[error(
        "kubeconfig of cluster {cluster} in {place}: `{field}` is refused, it names a file of this \
         machine; put the content inline (`{inline}`), or allow file paths in the KubeconfigPolicy"
    )]
    FilePathRefused {
        /// Member.
        cluster: ClusterName,
        /// The object that holds it.
        place: KubeconfigPlace,
        /// Field of the kubeconfig.
        field: &'static str,
        /// The field that holds the same thing inline.
        inline: &'static str,
    },
    /// `insecure-skip-tls-verify: true`.
    #[error(
        "kubeconfig of cluster {cluster} in {place}: `{field}` is refused, the credentials would go to \
         whoever answers; set `certificate-authority-data`, or allow it in the KubeconfigPolicy"
    )]
    InsecureTlsRefused {
        /// Member.
        cluster: ClusterName,
        /// The object that holds it.
        place: KubeconfigPlace,
        /// Field of the kubeconfig.
        field: &'static str,
    },
    /// A field is there and cannot be used.
    #[error("kubeconfig of cluster {cluster} in {place}: `{field}` {problem}")]
    Invalid {
        /// Member.
        cluster: ClusterName,
        /// The object that holds it.
        place: KubeconfigPlace,
        /// Field of the kubeconfig.
        field: &'static str,
        /// What is wrong with it and what would be right, without the value.
        problem: &'static str,
    },
    /// The Secret has none of the keys a kubeconfig is looked for under.
    #[error("kubeconfig of cluster {cluster}: Secret {secret} has no key {}", looked_for.join(" or "))]
    KeyMissing {
        /// Member.
        cluster: ClusterName,
        /// Secret on the hub.
        secret: NamespacedName,
        /// The keys, in the order they were looked for.
        looked_for: Vec<String>,
    },
    /// A field that is needed is not there.
    #[error("kubeconfig of cluster {cluster} in {place}: `{field}` is missing")]
    Missing {
        /// Member.
        cluster: ClusterName,
        /// The object that holds it.
        place: KubeconfigPlace,
        /// Field of the kubeconfig.
        field: &'static str,
    },
    /// A server that is reached without TLS.
    #[error(
        "kubeconfig of cluster {cluster} in {place}: `{field}` is not https and is refused, the \
         credentials would cross the network in the clear; use https, or allow it in the KubeconfigPolicy"
    )]
    PlainHttpRefused {
        /// Member.
        cluster: ClusterName,
        /// The object that holds it.
        place: KubeconfigPlace,
        /// Field of the kubeconfig.
        field: &'static str,
    },
    /// A proxy the kubeconfig chose.
    #[error(
        "kubeconfig of cluster {cluster} in {place}: `{field}` is refused, the credentials would pass a \
         proxy of the Secret's choice; remove it, or allow it in the KubeconfigPolicy"
    )]
    ProxyRefused {
        /// Member.
        cluster: ClusterName,
        /// The object that holds it.
        place: KubeconfigPlace,
        /// Field of the kubeconfig.
        field: &'static str,
    },
    /// The text is no kubeconfig.
    #[error("kubeconfig of cluster {cluster} in {place}: no kubeconfig from line {line}, column {column}")]
    Syntax {
        /// Member.
        cluster: ClusterName,
        /// The object that holds it.
        place: KubeconfigPlace,
        /// Line, from 1; 0 if the parser does not say.
        line: u64,
        /// Column, from 1; 0 if the parser does not say.
        column: u64,
    },
}

impl KubeconfigError {
    /// The reason as conditions, Events and metric labels carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AuthProviderRefused { .. } => "KubeconfigAuthProviderRefused",
            Self::CredentialsInUrl { .. } => "KubeconfigCredentialsInUrl",
            Self::ExecRefused { .. } => "KubeconfigExecRefused",
            Self::FilePathRefused { .. } => "KubeconfigFilePathRefused",
            Self::InsecureTlsRefused { .. } => "KubeconfigInsecureTlsRefused",
            Self::Invalid { .. } | Self::Missing { .. } | Self::Syntax { .. } => "KubeconfigInvalid",
            Self::KeyMissing { .. } => "KubeconfigKeyMissing",
            Self::PlainHttpRefused { .. } => "KubeconfigPlainHttpRefused",
            Self::ProxyRefused { .. } => "KubeconfigProxyRefused",
        }
    }
}
