//! Namespaces for test restores, in which nothing runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::name::OwnerToken;

/// Scratch namespaces on one member. Their names and their owner are decided before anything is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ScratchRequest {
    /// Whose they are: kept on each namespace, and compared before anything is done with one.
    pub owner: OwnerToken,
    /// Their names.
    pub names: BTreeSet<String>,
}

impl ScratchRequest {
    /// Namespaces of these names.
    pub fn new(owner: OwnerToken, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            owner,
            names: names.into_iter().map(Into::into).collect(),
        }
    }
}

/// One scratch namespace as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ScratchNamespace {
    /// There is none of that name; certain.
    Absent,
    /// It is ours, and what keeps things from running in it is not in force yet.
    Unguarded,
    /// It is ours, and nothing can run in it.
    Ready,
    /// It is ours and on its way out.
    Leaving,
    /// It is somebody else's.
    Foreign,
}

/// Scratch namespaces as they are, by name.
pub type ScratchView = BTreeMap<String, ScratchNamespace>;

#[cfg(feature = "client")]
pub use self::contract::{NoScratch, ScratchNamespaces};

#[cfg(feature = "client")]
mod contract {
    use std::fmt;

    use async_trait::async_trait;
    use kurator_core::names::ClusterName;

    use super::{ScratchRequest, ScratchView};
    use crate::driver::DriverError;

    /// Makes and removes the namespaces of test restores on members.
    ///
    /// # Guarantees an implementation gives
    /// - Only namespaces of the request's names that bear its owner are changed or removed. One that exists and does
    ///   not is [`Foreign`](super::ScratchNamespace::Foreign) and stays as it is.
    /// - [`Ready`](super::ScratchNamespace::Ready) is said only when the member's API server refuses pods, services and
    ///   volume claims in the namespace, whoever asks for them.
    /// - Calls may be repeated; one that failed half-way is completed by the next.
    #[async_trait]
    pub trait ScratchNamespaces: fmt::Debug + Send + Sync + 'static {
        /// The namespaces as they are. Changes nothing.
        ///
        /// # Errors
        /// [`DriverError`].
        async fn scratch(
            &self,
            cluster: &ClusterName,
            request: &ScratchRequest,
        ) -> Result<ScratchView, DriverError>;

        /// Makes those that are missing, and what keeps things from running in them.
        ///
        /// # Errors
        /// [`DriverError`].
        async fn make_scratch(
            &self,
            cluster: &ClusterName,
            request: &ScratchRequest,
        ) -> Result<(), DriverError>;

        /// Begins to remove those that are ours, with all that is in them.
        ///
        /// # Errors
        /// [`DriverError`].
        async fn remove_scratch(
            &self,
            cluster: &ClusterName,
            request: &ScratchRequest,
        ) -> Result<(), DriverError>;
    }

    /// No scratch namespaces: verifications say so, and restore nothing.
    #[derive(Clone, Copy, Debug, Default)]
    #[non_exhaustive]
    pub struct NoScratch;

    impl NoScratch {
        /// No scratch namespaces.
        #[must_use]
        pub const fn new() -> Self {
            Self
        }

        fn refuse(cluster: &ClusterName) -> DriverError {
            DriverError::Refused {
                cluster: cluster.clone(),
                action: "make scratch namespaces".to_owned(),
                message: "this host has nothing that makes them; give BackupManager one (with_scratch)"
                    .to_owned(),
            }
        }
    }

    #[async_trait]
    impl ScratchNamespaces for NoScratch {
        /// None: nothing was ever made.
        async fn scratch(
            &self,
            _: &ClusterName,
            request: &ScratchRequest,
        ) -> Result<ScratchView, DriverError> {
            let absent = |name: &String| (name.clone(), super::ScratchNamespace::Absent);
            Ok(request.names.iter().map(absent).collect())
        }

        async fn make_scratch(&self, cluster: &ClusterName, _: &ScratchRequest) -> Result<(), DriverError> {
            Err(Self::refuse(cluster))
        }

        async fn remove_scratch(&self, _: &ClusterName, _: &ScratchRequest) -> Result<(), DriverError> {
            Ok(())
        }
    }
}
