//! The controllers: `BackupExecution`, `BackupSchedule`, `RestoreExecution` and `Migration` of a hub, made true on its members.
//!
//! Everything a run needs to survive is in the status of its execution: it is written before anything follows from it,
//! and refused by the hub if somebody else wrote it meanwhile. A controller that dies, is partitioned or runs twice
//! makes one backup an attempt, and leaves nobody held still.
//!
//! ```no_run
//! # async fn run(
//! #     hub: kube::Client,
//! #     membership: std::sync::Arc<dyn kurator_core::membership::Membership>,
//! #     driver: std::sync::Arc<dyn kurator_backup::driver::BackupDriver>,
//! #     barrier: std::sync::Arc<dyn kurator_backup::driver::ConsistencyBarrier>,
//! # ) {
//! use kurator_backup::controller::BackupManager;
//!
//! BackupManager::new(hub, membership, driver, barrier).run(std::future::pending()).await;
//! # }
//! ```

mod error;
mod execution;
mod manager;
mod measure;
mod members;
mod metrics;
mod migration;
mod restore;
mod schedule;
mod store;
mod verification;

pub use self::{
    error::ControllerError,
    manager::BackupManager,
    metrics::{BackupCounts, BackupMetric, BackupMetrics},
};
