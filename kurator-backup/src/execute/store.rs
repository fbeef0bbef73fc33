use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::error::StoreError;
use crate::api::{BackupExecutionStatus, RestoreExecutionStatus};

/// Where the status of one run survives.
///
/// # Guarantees an implementation gives
/// `save` replaces the whole status, and refuses with [`StoreError::Conflict`] if it was written by somebody else since
/// this store read or wrote it: so two hosts never act on one run at once.
#[async_trait]
pub trait StatusStore: fmt::Debug + Send + Sync {
    /// Writes the status.
    ///
    /// # Errors
    /// [`StoreError`]; the caller then does nothing of what follows from it.
    async fn save(&self, status: &BackupExecutionStatus) -> Result<(), StoreError>;
}

/// Where the status of one restore survives; the same guarantees as [`StatusStore`].
#[async_trait]
pub trait RestoreStore: fmt::Debug + Send + Sync {
    /// Writes the status.
    ///
    /// # Errors
    /// [`StoreError`]; the caller then does nothing of what follows from it.
    async fn save(&self, status: &RestoreExecutionStatus) -> Result<(), StoreError>;
}

/// The status of one run and of one restore, in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    run: Option<BackupExecutionStatus>,
    restore: Option<RestoreExecutionStatus>,
}

impl MemoryStore {
    /// What was written last of a run.
    #[must_use]
    pub fn status(&self) -> Option<BackupExecutionStatus> {
        self.lock().run.clone()
    }

    /// What was written last of a restore.
    #[must_use]
    pub fn restore_status(&self) -> Option<RestoreExecutionStatus> {
        self.lock().restore.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StatusStore for MemoryStore {
    async fn save(&self, status: &BackupExecutionStatus) -> Result<(), StoreError> {
        self.lock().run = Some(status.clone());
        Ok(())
    }
}

#[async_trait]
impl RestoreStore for MemoryStore {
    async fn save(&self, status: &RestoreExecutionStatus) -> Result<(), StoreError> {
        self.lock().restore = Some(status.clone());
        Ok(())
    }
}
