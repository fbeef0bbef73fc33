//! What stands between the orchestration of a fleet and the backup server of one member.
//!
//! The data here is plain and always there; the traits [`BackupDriver`] and [`ConsistencyBarrier`] come with the
//! feature `client`. [`memory`] is a fleet of members with backup servers in memory, for plans, docs and tests.

mod barrier;
mod claims;
#[cfg(feature = "client")]
mod contract;
mod error;
mod facts;
pub mod memory;
mod name;
mod observation;
mod phase;
mod request;
mod scope;
mod scratch;

#[cfg(feature = "client")]
pub use self::contract::{BackupDriver, ConsistencyBarrier, NoBarrier};
#[cfg(feature = "client")]
pub use self::scratch::{NoScratch, ScratchNamespaces};
pub use self::{
    barrier::{QuiesceRequest, QuiesceState},
    claims::{ClaimedClass, Claims},
    error::DriverError,
    facts::{
        Capabilities, LocationAccess, LocationFacts, LocationState, MemberFacts, StoreAddress, StoreWriter,
    },
    name::{BackupName, DeletionName, InvalidName, LocationName, OwnerToken, RestoreName},
    observation::{
        BackupObservation, DeletionObservation, Inventory, ItemProgress, Observation, ResourceKind,
        RestoreObservation,
    },
    phase::{Phase, Stage},
    request::{BackupRequest, Created, DeletionRequest, RestoreRequest},
    scope::{BackupHook, BackupScope, ExecHook, ExistingResources, OnHookError, RestoreScope},
    scratch::{ScratchNamespace, ScratchRequest, ScratchView},
};
pub(crate) use self::{
    claims::ClaimReader,
    observation::{cut, names_kind},
};
