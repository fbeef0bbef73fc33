//! What can go wrong between the controller and the hub. What goes wrong with a member is status, not an error.

use crate::propagate::PolicyKey;

/// A pass over a policy that could not be finished; it is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControllerError {
    /// The hub did not take a write.
    #[error("cannot {action} of policy {policy} on the hub")]
    Hub {
        /// What was tried.
        action: &'static str,
        /// The policy.
        policy: PolicyKey,
        /// The hub's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The hub does not say who it is, so nothing that is placed could be told from what another hub places.
    #[error("cannot read the namespace kube-system of the hub, whose UID is the identity of the hub")]
    HubIdentity {
        /// The hub's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The UID of a policy or of the hub is no label value.
    #[error("policy {policy} has no usable identity")]
    Identity {
        /// The policy.
        policy: PolicyKey,
        /// What is wrong with it.
        #[source]
        source: Box<kurator_core::apply::OwnerError>,
    },
    /// Rendered objects make no set.
    #[error("the objects of policy {policy} cannot be applied together")]
    ObjectSet {
        /// The policy.
        policy: PolicyKey,
        /// What is wrong with them.
        #[source]
        source: Box<kurator_core::apply::ObjectSetError>,
    },
    /// A rendered object is no Kubernetes object.
    #[error("an object of policy {policy} cannot be read back after rendering")]
    Object {
        /// The policy.
        policy: PolicyKey,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl ControllerError {
    /// The CamelCase token used as metric label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Hub { .. } => "HubWriteFailed",
            Self::HubIdentity { .. } => "HubIdentityUnknown",
            Self::Identity { .. } => "PolicyIdentityInvalid",
            Self::ObjectSet { .. } => "ObjectSetInvalid",
            Self::Object { .. } => "ObjectInvalid",
        }
    }
}
