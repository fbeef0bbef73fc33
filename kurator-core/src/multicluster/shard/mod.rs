//! Members shared between the replicas of a controller.
//!
//! Members are spread over a fixed number of shards by name; every shard is a Kubernetes Lease on the hub, and every
//! replica shows that it lives by another. The live replicas all compute the same wanted owner for each shard: one
//! that has a shard it should not have stops the work there, then lets go; one that should have a shard takes it once
//! it is free or has run out.
//!
//! # Guarantees
//! - At most one replica acts for a shard at any instant, as long as the machines' clocks run at about the same
//!   *rate* (they may show any time). The owner counts two thirds of the lease time from when it sent its last
//!   renewal; everyone else counts the whole time from when they saw it.
//! - A replica that was suspended and wakes up late sends nothing: the [`Fence`] of a shard is asked before every
//!   single request.
//! - A replica that dies is replaced within the lease time; one that ends in an orderly way, at once.
//!
//! # Caveats
//! - A request that was already on the wire when the owner lost its lease may still be carried out by the member.
//! - Replica ids must be unique to a process: the pod's name will do when the pod runs one process.

mod assign;
mod guard;
mod machine;
mod owner;
#[cfg(test)]
mod sim;

use std::fmt;
use std::time::Duration;

pub use self::assign::{assign, shard_of};
pub use self::owner::{Fence, OwnedShards, ShardError, Shards};

/// The name of one replica of the controller, unique to its process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(String);

impl ReplicaId {
    /// Takes a name, such as the pod's.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u32);

impl ShardId {
    /// The shard with this number, counted from 0.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a Lease of ours stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LeaseKey {
    Replica(ReplicaId),
    Shard(ShardId),
}

/// How members are shared between replicas. Every replica must be given the same number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardOptions {
    /// How many shards. More spread members more evenly and cost one small write each per renewal. Default 32.
    pub shards: u32,
    /// How long after its last renewal a dead replica's shards are taken over. Default 15 s, at least 1 s.
    pub duration: Duration,
    /// Time between renewals. Default 5 s.
    pub renew: Duration,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            shards: 32,
            duration: Duration::from_secs(15),
            renew: Duration::from_secs(5),
        }
    }
}

impl ShardOptions {
    /// A number of shards, at least 1.
    #[must_use]
    pub const fn with_shards(mut self, shards: u32) -> Self {
        self.shards = if shards == 0 { 1 } else { shards };
        self
    }

    /// A lease time in whole seconds (Leases know no smaller unit), renewed every third of it.
    #[must_use]
    pub const fn with_lease_seconds(mut self, seconds: u32) -> Self {
        let seconds = if seconds == 0 { 1 } else { seconds };
        self.duration = Duration::from_secs(seconds as u64);
        self.renew = Duration::from_millis(seconds as u64 * 1000 / 3);
        self
    }

    /// How long a holder counts on a renewal.
    fn hold(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// The pause after a write that failed, and the deadline of one.
    fn retry(&self) -> Duration {
        self.duration / 15
    }
}
