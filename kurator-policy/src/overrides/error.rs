use kurator_core::selector::SelectorError;

use super::{fault::Fault, report::PolicyName};

/// An override that cannot be read or cannot be made. The object is as it was.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverrideError {
    /// A change does not fit the object.
    #[error(
        "override policy {policy}, rule {rule}, {step}: cannot change {path} of {object} for cluster {cluster}"
    )]
    Apply {
        /// The policy.
        policy: PolicyName,
        /// Its rule, from 0.
        rule: usize,
        /// The part of the rule, such as `overrides[0]`.
        step: String,
        /// What was to be changed.
        path: String,
        /// Kind, namespace and name of the object.
        object: String,
        /// The cluster it was rendered for.
        cluster: String,
        /// Why it does not fit.
        #[source]
        fault: Box<Fault>,
    },
    /// A policy describes its clusters in a way nothing can be selected by.
    #[error("override policy {policy}, rule {rule}: targetClusters cannot be read")]
    Clusters {
        /// The policy.
        policy: PolicyName,
        /// Its rule, from 0.
        rule: usize,
        /// What is wrong.
        #[source]
        source: Box<SelectorError>,
    },
    /// What is to be rendered is not a Kubernetes object.
    #[error("only objects with apiVersion, kind and metadata.name can be overridden, not {what}")]
    NotAnObject {
        /// What it is or lacks.
        what: &'static str,
    },
    /// A policy describes its objects in a way nothing can be selected by.
    #[error("override policy {policy}: resourceSelectors[{selector}] cannot be read")]
    Objects {
        /// The policy.
        policy: PolicyName,
        /// Its selector, from 0.
        selector: usize,
        /// What is wrong.
        #[source]
        source: Box<SelectorError>,
    },
    /// A policy has a part that no object can be changed by.
    #[error("override policy {policy}, rule {rule}, {step}: cannot be read")]
    Rule {
        /// The policy.
        policy: PolicyName,
        /// Its rule, from 0.
        rule: usize,
        /// The part of the rule, such as `overriders.imageOverrider[0]`.
        step: String,
        /// What is wrong.
        #[source]
        fault: Box<Fault>,
    },
}

impl OverrideError {
    /// The policy that is at fault, if one is.
    #[must_use]
    pub fn policy(&self) -> Option<&PolicyName> {
        match self {
            Self::Apply { policy, .. }
            | Self::Clusters { policy, .. }
            | Self::Objects { policy, .. }
            | Self::Rule { policy, .. } => Some(policy),
            Self::NotAnObject { .. } => None,
        }
    }

    /// One CamelCase word for conditions, Events and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Apply { fault, .. } | Self::Rule { fault, .. } => fault.reason(),
            Self::Clusters { .. } | Self::Objects { .. } => "InvalidSelector",
            Self::NotAnObject { .. } => "NotAnObject",
        }
    }
}
