//! How a host says what it uses of the ways that an inventory offers.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::config::{AuthInfo, ExecConfig, ExecInteractiveMode};
use kurator_core::names::{ClusterName, NamespacedName};
use secrecy::SecretString;

/// Where credentials are wanted for: one way of access of one profile.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClusterAccess {
    /// The member.
    pub cluster: ClusterName,
    /// Its profile.
    pub profile: NamespacedName,
    /// The URL of the API server.
    pub server: String,
    /// What the inventory says to whoever gets the credentials: the extension `client.authentication.k8s.io/exec`.
    pub config: Option<serde_json::Value>,
}

/// Credentials for a member, and how long they are good for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Credentials {
    pub(super) kind: Kind,
    pub(super) lifetime: Option<Duration>,
}

#[derive(Clone)]
pub(super) enum Kind {
    Token(SecretString),
    Certificate { chain: String, key: SecretString },
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::Certificate { .. } => "Certificate",
        })
    }
}

impl Credentials {
    /// A bearer token.
    #[must_use]
    pub fn token(token: impl Into<SecretString>) -> Self {
        Self {
            kind: Kind::Token(token.into()),
            lifetime: None,
        }
    }

    /// A client certificate with its chain, and its key, both PEM in base64 as a kubeconfig has them.
    #[must_use]
    pub fn certificate(chain: impl Into<String>, key: impl Into<SecretString>) -> Self {
        Self {
            kind: Kind::Certificate {
                chain: chain.into(),
                key: key.into(),
            },
            lifetime: None,
        }
    }

    /// They are asked for anew after three quarters of this time. Without it, once the member refuses them.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    pub(super) fn user(self) -> AuthInfo {
        match self.kind {
            Kind::Token(token) => AuthInfo {
                token: Some(token),
                ..AuthInfo::default()
            },
            Kind::Certificate { chain, key } => AuthInfo {
                client_certificate_data: Some(chain),
                client_key_data: Some(key),
                ..AuthInfo::default()
            },
        }
    }
}

/// A program of the host's choice that gets credentials, in the protocol of `client-go` credential plugins (KEP-5339).
/// The inventory chooses neither the program nor its arguments; what it says reaches it as data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CredentialPlugin {
    command: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl CredentialPlugin {
    /// The program to run.
    #[must_use]
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn with_argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds a variable to the program's environment.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub(super) fn command(&self) -> &str {
        &self.command
    }

    pub(super) fn user(&self) -> AuthInfo {
        let variable = |(name, value): &(String, String)| {
            HashMap::from([
                ("name".to_owned(), name.clone()),
                ("value".to_owned(), value.clone()),
            ])
        };
        let exec = ExecConfig {
            api_version: Some("client.authentication.k8s.io/v1".to_owned()),
            command: Some(self.command.clone()),
            args: Some(self.arguments.clone()),
            env: Some(self.environment.iter().map(variable).collect()),
            drop_env: None,
            install_hint: None,
            interactive_mode: Some(ExecInteractiveMode::Never),
            provide_cluster_info: true,
            cluster: None,
            other: BTreeMap::new(),
        };
        AuthInfo {
            exec: Some(exec),
            ..AuthInfo::default()
        }
    }
}

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Source =
    Arc<dyn Fn(ClusterAccess) -> BoxFuture<'static, Result<Credentials, BoxError>> + Send + Sync>;

/// What a host does with one way of access.
#[derive(Clone)]
pub(super) enum Way {
    Given(Source),
    Plugin(CredentialPlugin),
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given"),
            Self::Plugin(plugin) => f.debug_tuple("Plugin").field(&plugin.command).finish(),
        }
    }
}
