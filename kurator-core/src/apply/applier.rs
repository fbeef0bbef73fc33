use std::{collections::BTreeSet, fmt, sync::Arc};

use async_trait::async_trait;

use super::{ApplyFailure, ApplyOptions, ApplyReport, ObjectSet};
use crate::{connect::ConnectError, names::ClusterName};

/// Why a pass over a member did not begin: nothing was written there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// There is no client of the member.
    #[error("cluster {cluster} cannot be connected to")]
    Connect {
        /// The member.
        cluster: ClusterName,
        /// Why.
        #[source]
        source: Box<ConnectError>,
    },
    /// The member could not be read.
    #[error("cluster {cluster} cannot be read")]
    Unreadable {
        /// The member.
        cluster: ClusterName,
        /// Why.
        #[source]
        source: Box<ApplyFailure>,
    },
}

impl ApplyError {
    /// The member.
    pub fn cluster(&self) -> &ClusterName {
        match self {
            Self::Connect { cluster, .. } | Self::Unreadable { cluster, .. } => cluster,
        }
    }

    /// The reason as conditions, Events and metric labels carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connect { source, .. } => source.reason(),
            Self::Unreadable { source, .. } => source.reason(),
        }
    }
}

/// Puts sets of objects onto members.
///
/// # Guarantees an implementation gives
/// - An object that exists and was not placed for the owner of the set is not touched, unless
///   [`ConflictResolution::Overwrite`](super::ConflictResolution::Overwrite) says so.
/// - Nothing is removed but what was placed for the owner, and only after every object of the set is in place.
/// - Applying the same set again when nothing has changed writes nothing.
/// - A pass that is cut short has done no harm; the next one completes it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Applier: fmt::Debug + Send + Sync + 'static {
    /// Makes `cluster` hold `desired` and, within [`ApplyOptions::prune`], nothing else of its owner. Applying
    /// [`ObjectSet::empty`] withdraws everything.
    ///
    /// # Errors
    /// [`ApplyError`] if the pass could not begin. What goes wrong with one object is part of the report.
    async fn apply(
        &self,
        cluster: &ClusterName,
        desired: &ObjectSet,
        options: &ApplyOptions,
    ) -> Result<ApplyReport, ApplyError>;

    /// Deletes the namespaces on `cluster` that were created for objects of this hub (the identity in its
    /// [`Owner`](super::Owner)s), are not among those to `keep`, and hold nothing any more besides what every namespace
    /// holds. Gives the number of those that still hold something. An applier that creates none has none to delete.
    ///
    /// Kubernetes cannot delete a namespace "if empty": what somebody creates there between the last look and the
    /// deletion goes with it.
    ///
    /// # Errors
    /// [`ApplyError`] if the member could not be read as a whole; a namespace that may hold something stays.
    async fn remove_empty_namespaces(
        &self,
        cluster: &ClusterName,
        hub: &str,
        keep: &BTreeSet<String>,
    ) -> Result<usize, ApplyError> {
        let _ = (cluster, hub, keep);
        Ok(0)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Applier + ?Sized> Applier for Arc<T> {
    async fn apply(
        &self,
        cluster: &ClusterName,
        desired: &ObjectSet,
        options: &ApplyOptions,
    ) -> Result<ApplyReport, ApplyError> {
        (**self).apply(cluster, desired, options).await
    }

    async fn remove_empty_namespaces(
        &self,
        cluster: &ClusterName,
        hub: &str,
        keep: &BTreeSet<String>,
    ) -> Result<usize, ApplyError> {
        (**self).remove_empty_namespaces(cluster, hub, keep).await
    }
}
