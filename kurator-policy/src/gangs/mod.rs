//! Workloads whose members are of use only together: read from the objects that say so, sent to one cluster at a time,
//! and watched for parts that went missing.
//!
//! What a gang is to the scheduling pass is told in [`placement::Gang`](crate::placement::Gang): it goes whole to one
//! cluster where its minimum fits node by node. Here is what comes before and after:
//!
//! - [`gang_of`] reads a Volcano Job, or the pod group (Volcano's or Kubernetes' own) that the pods of a workload name.
//! - [`keeps_minimum`] refuses what an override would leave too small to run.
//! - [`dispatch`] says what to do next so that a gang that waits in vain in one cluster is tried in the next, and is
//!   never in two at once.
//! - [`watch`] finds a gang of which only a part is there. Kubernetes' own scheduler leaves such a gang pending and
//!   says nothing.

mod dispatch;
mod error;
mod read;
mod watch;

pub use self::{
    dispatch::{Dispatch, DispatchFlaw, NextStep, Presence, check, dispatch},
    error::GangError,
    read::{gang_of, group_of, keeps_minimum},
    watch::{Sighting, watch},
};
