//! What a member's answers mean.

use kube::core::Status;
use kurator_core::{connect::ConnectError, names::ClusterName};

use crate::driver::DriverError;

/// Something tried on a member, for the errors it may end in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    pub(super) cluster: &'a ClusterName,
    pub(super) action: &'a str,
}

impl Attempt<'_> {
    pub(super) fn no_client(self, source: ConnectError) -> DriverError {
        DriverError::Unreachable {
            cluster: self.cluster.clone(),
            action: self.action.to_owned(),
            source: Some(Box::new(source)),
        }
    }

    /// `missing` is what a 404 means: nothing of that path is served.
    pub(super) fn failed(self, missing: &str, error: kube::Error) -> DriverError {
        let code = match &error {
            kube::Error::Api(status) => Some(status.code),
            _ => None,
        };
        match (code, error) {
            (Some(404), _) => DriverError::NotInstalled {
                cluster: self.cluster.clone(),
                missing: missing.to_owned(),
            },
            (Some(401 | 403), error) => DriverError::Forbidden {
                cluster: self.cluster.clone(),
                action: self.action.to_owned(),
                source: Some(Box::new(error)),
            },
            (Some(400 | 405 | 409 | 410 | 413 | 415 | 422), kube::Error::Api(status)) => {
                self.refused(&status)
            }
            (_, error) => DriverError::Unreachable {
                cluster: self.cluster.clone(),
                action: self.action.to_owned(),
                source: Some(Box::new(error)),
            },
        }
    }

    pub(super) fn refused(self, status: &Status) -> DriverError {
        DriverError::Refused {
            cluster: self.cluster.clone(),
            action: self.action.to_owned(),
            message: status.message.clone(),
        }
    }

    pub(super) fn unusable(self, message: impl Into<String>) -> DriverError {
        DriverError::Unusable {
            cluster: self.cluster.clone(),
            action: self.action.to_owned(),
            message: message.into(),
        }
    }

    pub(super) fn not_found(self, what: impl Into<String>) -> DriverError {
        DriverError::NotFound {
            cluster: self.cluster.clone(),
            what: what.into(),
        }
    }
}
