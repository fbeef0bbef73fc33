//! The custom resources of this layer and the types inside them, with the names they have on the wire.
//!
//! What can be refused by looking at one object alone is refused by the API server through rules in the schema, and
//! [`crds`] are the definitions to install.
//!
//! ```
//! use kurator_backup::api::{BackupExecution, Consistency};
//!
//! let execution: BackupExecution = serde_json::from_value(serde_json::json!({
//!     "apiVersion": "backup.kurator.dev/v1alpha1",
//!     "kind": "BackupExecution",
//!     "metadata": { "name": "before-upgrade", "namespace": "default" },
//!     "spec": {
//!         "policy": {
//!             "fleet": "storefront",
//!             "scope": { "includedNamespaces": ["shop"] },
//!             "success": { "mode": "Quorum", "quorum": 2 },
//!         },
//!     },
//! }))?;
//! assert_eq!(execution.spec.policy.consistency, Consistency::None);
//! # Ok::<(), serde_json::Error>(())
//! ```

#![allow(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each public struct inside a function"
)]

mod execution;
mod migration;
mod policy;
mod restore;
mod schedule;
mod verification;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use self::{
    execution::{
        BackupExecution, BackupExecutionSpec, BackupExecutionStatus, ClusterExecution, ClusterPhase,
        ExecutionPhase, ExecutionTotals, QuiesceRecord,
    },
    migration::{
        Migration, MigrationBackup, MigrationGate, MigrationPhase, MigrationRestore, MigrationSpec,
        MigrationStatus,
    },
    policy::{
        BackupPolicy, ClusterOverride, ClusterSelection, Consistency, QuiescePolicy, RunLimits, SuccessMode,
        SuccessRule,
    },
    restore::{
        ClusterRestore, RestoreCounts, RestoreExecution, RestoreExecutionSpec, RestoreExecutionStatus,
        RestorePhase, RestoreSource, RestoreTarget, RestoreTotals, StorageClassPlan,
    },
    schedule::{
        BackupSchedule, BackupScheduleSpec, BackupScheduleStatus, ConcurrencyPolicy, MissedRuns,
        RetentionPolicy,
    },
    verification::{
        MemberVerification, VerificationPhase, VerificationPolicy, VerificationRun, VerificationStatus,
    },
};
/// What objects on the hub and on members carry.
pub mod labels;

/// The definitions of every custom resource of this crate, in the order of their names.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        BackupExecution::crd(),
        BackupSchedule::crd(),
        Migration::crd(),
        RestoreExecution::crd(),
    ]
}
