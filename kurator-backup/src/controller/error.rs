//! What can go wrong between the controllers and the hub. What goes wrong with a member is status, not an error.

use kurator_core::names::NamespacedName;

use crate::execute::ExecuteError;

/// A pass that could not be finished; it is made again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControllerError {
    /// The hub did not answer, or did not take a write.
    #[error("cannot {action} {object} on the hub")]
    Hub {
        /// What was tried.
        action: &'static str,
        /// The object.
        object: NamespacedName,
        /// The hub's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The pass itself failed.
    #[error("a pass over execution {object} was not finished")]
    Execute {
        /// The execution.
        object: NamespacedName,
        /// Why.
        #[source]
        source: ExecuteError,
    },
}

impl ControllerError {
    /// The CamelCase token used as metric label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Hub { .. } => "HubFailed",
            Self::Execute { source, .. } => source.reason(),
        }
    }

    pub(super) fn hub(action: &'static str, object: &NamespacedName, source: kube::Error) -> Self {
        Self::Hub {
            action,
            object: object.clone(),
            source: Box::new(source),
        }
    }

    /// Whether the pass only came too late: what it was about has changed or gone.
    pub(super) fn is_stale(&self) -> bool {
        use crate::execute::StoreError;
        match self {
            Self::Hub { source, .. } => {
                matches!(&**source, kube::Error::Api(answer) if answer.code == 404 || answer.code == 409)
            }
            Self::Execute {
                source: ExecuteError::Store { source, .. },
                ..
            } => matches!(source, StoreError::Conflict | StoreError::Gone),
            Self::Execute { .. } => false,
        }
    }
}
