use std::{collections::BTreeSet, fmt};

use async_trait::async_trait;
use kurator_core::names::ClusterName;

use super::{
    barrier::{QuiesceRequest, QuiesceState},
    claims::Claims,
    error::DriverError,
    facts::{Capabilities, MemberFacts},
    name::{BackupName, OwnerToken, RestoreName},
    observation::{BackupObservation, DeletionObservation, Inventory, ResourceKind, RestoreObservation},
    request::{BackupRequest, Created, DeletionRequest, RestoreRequest},
};

/// What backs up and restores one member: Velero, or something else.
///
/// Everything above decides; a driver only asks its server and says what it sees.
///
/// # Guarantees an implementation gives
/// - **Create-once.** A request that exists under its name with the same owner is [`Created::Adopted`] and left as
///   it is; with another owner it is [`DriverError::NameTaken`]. A call that failed half-way may be repeated.
/// - **Nothing is edited after it was created**, except by [`poke`](Self::poke) and where the server must be told to
///   delete.
/// - **Bounded.** A call ends within the time the implementation's clients allow; a member that hangs is
///   [`DriverError::Unreachable`].
/// - What is returned holds no credential.
#[async_trait]
pub trait BackupDriver: fmt::Debug + Send + Sync + 'static {
    /// The server, its locations, and what a request may refer to. Never cached for longer than a few seconds: a
    /// request is made on it, and a server may refuse one for ever.
    ///
    /// # Errors
    /// [`DriverError::NotInstalled`] for a member without a server.
    async fn facts(&self, cluster: &ClusterName) -> Result<MemberFacts, DriverError>;

    /// What the member can take in.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn capabilities(&self, cluster: &ClusterName) -> Result<Capabilities, DriverError>;

    /// The objects of these kinds that are on the member now. Kinds it does not serve are missing from the answer.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn inventory(
        &self,
        cluster: &ClusterName,
        kinds: &BTreeSet<ResourceKind>,
    ) -> Result<Inventory, DriverError>;

    /// Creates a backup, once.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn create_backup(
        &self,
        cluster: &ClusterName,
        request: &BackupRequest,
    ) -> Result<Created, DriverError>;

    /// The backup of that name; `None` if it is certain that there is none.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn backup(
        &self,
        cluster: &ClusterName,
        name: &BackupName,
    ) -> Result<Option<BackupObservation>, DriverError>;

    /// Every backup the member's server shows, sorted by name, those of others and of other clusters on the same
    /// store included.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn backups(&self, cluster: &ClusterName) -> Result<Vec<BackupObservation>, DriverError>;

    /// What is in a backup.
    ///
    /// # Errors
    /// [`DriverError::NotFound`] if there is no such backup or it has no list.
    async fn contents(&self, cluster: &ClusterName, name: &BackupName) -> Result<Inventory, DriverError>;

    /// The volume claims in a backup; `None` if that cannot be told, and nobody compares storage classes then. A driver
    /// that does not implement it cannot tell.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn claims(&self, cluster: &ClusterName, name: &BackupName) -> Result<Option<Claims>, DriverError> {
        let _ = (cluster, name);
        Ok(None)
    }

    /// Touches a backup so that its server looks at it again, without a change in meaning. Observed as
    /// [`poked`](super::Observation::poked); the same token again does nothing.
    ///
    /// # Errors
    /// [`DriverError::NotFound`] if there is no such backup.
    async fn poke(&self, cluster: &ClusterName, name: &BackupName, token: &str) -> Result<(), DriverError>;

    /// Asks the server to delete a backup and all it has in the store, once.
    ///
    /// # Errors
    /// [`DriverError`]. A backup that is gone already is no error.
    async fn request_deletion(
        &self,
        cluster: &ClusterName,
        request: &DeletionRequest,
    ) -> Result<Created, DriverError>;

    /// How far the deletion of a backup is.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn deletion(
        &self,
        cluster: &ClusterName,
        backup: &BackupName,
    ) -> Result<DeletionObservation, DriverError>;

    /// Creates a restore, once.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn create_restore(
        &self,
        cluster: &ClusterName,
        request: &RestoreRequest,
    ) -> Result<Created, DriverError>;

    /// The restore of that name; `None` if it is certain that there is none.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn restore(
        &self,
        cluster: &ClusterName,
        name: &RestoreName,
    ) -> Result<Option<RestoreObservation>, DriverError>;
}

/// Holds the applications of a member still while the whole fleet is backed up.
///
/// # Guarantees an implementation gives
/// - A lease ends at its time on the member by itself: when we die, when the network is cut, when the backup server
///   dies.
/// - [`QuiesceState::Held`] is said only when everything holds still, and stays true until the lease ends or is
///   released.
/// - Quiescing and releasing may be repeated; releasing what is not held does nothing.
#[async_trait]
pub trait ConsistencyBarrier: fmt::Debug + Send + Sync + 'static {
    /// Takes or renews the lease, and says how far the member is.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn quiesce(
        &self,
        cluster: &ClusterName,
        request: &QuiesceRequest,
    ) -> Result<QuiesceState, DriverError>;

    /// Ends a lease, given by the request it was taken with.
    ///
    /// # Errors
    /// [`DriverError`]. The lease then ends by itself.
    async fn release(&self, cluster: &ClusterName, request: &QuiesceRequest) -> Result<(), DriverError>;

    /// Who holds the member still now.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn holders(&self, cluster: &ClusterName) -> Result<BTreeSet<OwnerToken>, DriverError>;
}

/// No barrier: whoever asks for the consistency `Fleet` is told that nothing can hold still, and nothing is backed up.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoBarrier;

impl NoBarrier {
    /// No barrier.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl ConsistencyBarrier for NoBarrier {
    async fn quiesce(&self, _: &ClusterName, _: &QuiesceRequest) -> Result<QuiesceState, DriverError> {
        Ok(QuiesceState::Failed {
            message: "this host has no barrier; ask for another consistency, or give it one".to_owned(),
        })
    }

    async fn release(&self, _: &ClusterName, _: &QuiesceRequest) -> Result<(), DriverError> {
        Ok(())
    }

    async fn holders(&self, _: &ClusterName) -> Result<BTreeSet<OwnerToken>, DriverError> {
        Ok(BTreeSet::new())
    }
}
