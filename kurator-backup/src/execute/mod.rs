//! Carrying a run out: the passes of [`run`](crate::run) over a [`BackupDriver`](crate::driver::BackupDriver).
//!
//! What must survive lives in a [`StatusStore`]; everything else may die at any time. The controllers keep it in the
//! status of a `BackupExecution`; [`MemoryStore`] keeps it in memory.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{collections::BTreeMap, sync::Arc};
//! use jiff::SignedDuration;
//! use kurator_backup::{
//!     api::{BackupPolicy, ExecutionPhase},
//!     driver::memory::InMemoryBackups,
//!     execute::{Executor, MemoryStore, StatusStore as _},
//!     run::{Prepared, Run, RunId, begin},
//! };
//!
//! let fleet = InMemoryBackups::new("2026-11-23T03:00:00Z".parse()?);
//! let cluster = "cluster-a".parse()?;
//! fleet.add_member(&cluster);
//!
//! let policy = Prepared::new(&BackupPolicy::new("storefront".parse()?))?;
//! let run = Run::new(RunId::new("default", "now", "uid-1", fleet.now()), policy)
//!     .with_members(BTreeMap::from([(cluster, BTreeMap::new())]));
//! let executor = Executor::new(Arc::new(fleet.clone()), Arc::new(fleet.clone()));
//! let store = MemoryStore::default();
//! let mut status = begin(&run, fleet.now());
//! store.save(&status).await?;
//! while !status.phase.has_ended() {
//!     status = executor.pass(&run, &status, &store, fleet.now()).await?.status;
//!     fleet.advance(SignedDuration::from_secs(1));
//! }
//! assert_eq!(status.phase, ExecutionPhase::Completed);
//! # Ok(())
//! # }
//! ```

mod error;
mod executor;
mod restore;
mod store;

pub use self::{
    error::{ExecuteError, StoreError},
    executor::{Executor, ExecutorOptions, Pass},
    restore::RestorePass,
    store::{MemoryStore, RestoreStore, StatusStore},
};
