use std::fmt;

use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::KubeconfigError;
use crate::names::{ClusterName, NamespacedName};

/// The keys a kubeconfig is looked for under, in this order, when none is named: `value` is what Cluster API and
/// Kurator's `AttachedCluster` use, `kubeconfig` is what people write by hand.
pub const DEFAULT_KEYS: [&str; 2] = ["value", "kubeconfig"];

/// The object on the hub that says how a member is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KubeconfigPlace {
    /// A Secret that holds a kubeconfig.
    Secret(NamespacedName),
    /// A `ClusterProfile` of an inventory.
    ClusterProfile(NamespacedName),
}

impl From<NamespacedName> for KubeconfigPlace {
    fn from(secret: NamespacedName) -> Self {
        Self::Secret(secret)
    }
}

impl fmt::Display for KubeconfigPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "Secret {name}"),
            Self::ClusterProfile(name) => write!(f, "ClusterProfile {name}"),
        }
    }
}

/// Where a member's kubeconfig is: a Secret on the hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KubeconfigRef {
    /// The Secret.
    pub secret: NamespacedName,
    /// The key in the Secret; without one, [`DEFAULT_KEYS`] are tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl KubeconfigRef {
    /// The kubeconfig in `secret`, under one of [`DEFAULT_KEYS`].
    pub fn new(secret: NamespacedName) -> Self {
        Self { secret, key: None }
    }

    /// The kubeconfig under `key` of the Secret, and under no other.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// Takes the kubeconfig out of `secret`.
///
/// # Errors
/// [`KubeconfigError::KeyMissing`], or [`KubeconfigError::Invalid`] if the bytes are not UTF-8.
pub fn kubeconfig_text(
    cluster: &ClusterName,
    from: &KubeconfigRef,
    secret: &Secret,
) -> Result<SecretString, KubeconfigError> {
    let keys: Vec<&str> = match &from.key {
        Some(key) => vec![key],
        None => DEFAULT_KEYS.to_vec(),
    };
    let data = keys
        .iter()
        .find_map(|key| secret.data.as_ref().and_then(|data| data.get(*key)));
    let Some(data) = data else {
        return Err(KubeconfigError::KeyMissing {
            cluster: cluster.clone(),
            secret: from.secret.clone(),
            looked_for: keys.into_iter().map(str::to_owned).collect(),
        });
    };
    match std::str::from_utf8(&data.0) {
        Ok(text) => Ok(SecretString::from(text)),
        Err(_) => Err(KubeconfigError::Invalid {
            cluster: cluster.clone(),
            place: from.secret.clone().into(),
            field: "data",
            problem: "is not UTF-8 text",
        }),
    }
}
