//! Members with backup servers in memory, with the rules of the real ones that orchestration depends on.
//!
//! Time stands still until [`advance`](InMemoryBackups::advance): every call then moves each server one phase on.
//! Backups are kept by store, so members whose locations have the same [`StoreAddress`] see each other's backups, as
//! Velero's sync does it. Faults are asked for member by member.
//!
//! ```
//! use jiff::SignedDuration;
//! use kurator_backup::driver::{BackupRequest, OwnerToken, Phase, memory::InMemoryBackups};
//! use kurator_core::names::ClusterName;
//!
//! let fleet = InMemoryBackups::new("2026-11-23T03:00:00Z".parse()?);
//! let cluster: ClusterName = "cluster-a".parse()?;
//! fleet.add_member(&cluster);
//!
//! let owner = OwnerToken::bounded(["nightly", "1"]);
//! fleet.create_backup(&cluster, &BackupRequest::new("nightly-1".parse()?, owner))?;
//! for _ in 0..3 {
//!     fleet.advance(SignedDuration::from_secs(1));
//! }
//! let seen = fleet.backup(&cluster, &"nightly-1".parse()?)?.ok_or("it is there")?;
//! assert_eq!(seen.phase, Phase::Completed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "client")]
mod asynchronous;
mod calls;
mod scratch;
mod selection;
mod server;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use kurator_core::names::{ClusterName, NamespacedName};
use serde_json::Value;

use super::{
    BackupName, BackupObservation, BackupRequest, Capabilities, DeletionName, DeletionRequest, LocationFacts,
    LocationName, LocationState, MemberFacts, OwnerToken, QuiesceRequest, ResourceKind, RestoreName,
    RestoreObservation, RestoreRequest, StoreAddress,
};

/// Objects with their content, by kind.
type Objects = BTreeMap<ResourceKind, BTreeMap<NamespacedName, Value>>;

/// What the next backup of a member runs into.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It ends `Failed` with this message.
    Fails(String),
    /// It ends `PartiallyFailed` with that many errors.
    FailsPartially(u64),
    /// It ends `FailedValidation` with this message.
    Refused(String),
    /// It stays `ReadyToStart` until it is poked, as after a restart of the server at the wrong moment.
    Forgotten,
    /// It stays `InProgress` for ever.
    Hangs,
}

/// A fleet of members with backup servers, in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct InMemoryBackups(Arc<Mutex<World>>);

#[derive(Debug)]
pub(super) struct World {
    now: Timestamp,
    members: BTreeMap<ClusterName, MemberState>,
    stores: BTreeMap<StoreAddress, BTreeMap<BackupName, Stored>>,
    journal: Vec<JournalEntry>,
    uids: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    request: BackupRequest,
    observation: BackupObservation,
    objects: Objects,
}

#[derive(Debug)]
struct MemberState {
    reachable: bool,
    installed: bool,
    /// How many more writes are done whose answers are lost.
    lost_answers: u32,
    facts: MemberFacts,
    capabilities: Capabilities,
    objects: Objects,
    backups: BTreeMap<BackupName, (BackupRequest, BackupObservation, Option<Fault>)>,
    restores: BTreeMap<RestoreName, (RestoreRequest, RestoreObservation)>,
    deletions: BTreeMap<DeletionName, (DeletionRequest, Timestamp)>,
    held: BTreeMap<OwnerToken, QuiesceRequest>,
    refuses_to_hold: Option<String>,
    faults: VecDeque<Fault>,
}

/// One write that reached a member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalEntry {
    /// When.
    pub at: Timestamp,
    /// The member.
    pub cluster: ClusterName,
    /// What was done, such as `create backup nightly-1`.
    pub what: String,
}

impl InMemoryBackups {
    /// A fleet without members, at that time.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(World {
            now,
            members: BTreeMap::new(),
            stores: BTreeMap::new(),
            journal: Vec::new(),
            uids: 0,
        })))
    }

    /// Adds a member with a server whose default location `default` is on a prefix of its own in the bucket `fleet`.
    pub fn add_member(&self, cluster: &ClusterName) {
        let store = StoreAddress::new("memory", "fleet", cluster.as_str());
        self.add_member_on(cluster, store);
    }

    /// Adds a member with a server whose default location `default` is on `store`.
    pub fn add_member_on(&self, cluster: &ClusterName, store: StoreAddress) {
        let mut facts = MemberFacts {
            server_version: Some("memory".to_owned()),
            ..MemberFacts::default()
        };
        if let Ok(name) = LocationName::new("default") {
            facts
                .locations
                .insert(name.clone(), LocationFacts::available(store));
            facts.default_location = Some(name);
        }
        let state = MemberState {
            reachable: true,
            installed: true,
            lost_answers: 0,
            facts,
            capabilities: Capabilities {
                kubernetes_version: "v1.37.2".to_owned(),
                ..Capabilities::default()
            },
            objects: BTreeMap::new(),
            backups: BTreeMap::new(),
            restores: BTreeMap::new(),
            deletions: BTreeMap::new(),
            held: BTreeMap::new(),
            refuses_to_hold: None,
            faults: VecDeque::new(),
        };
        self.lock().members.insert(cluster.clone(), state);
    }

    /// The time on every member.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.lock().now
    }

    /// Lets time pass, and every server take one step.
    pub fn advance(&self, by: SignedDuration) {
        self.lock().advance(by);
    }

    /// Cuts the member off, or connects it again. Its server and its leases go on.
    pub fn set_reachable(&self, cluster: &ClusterName, reachable: bool) {
        self.change(cluster, |member| member.reachable = reachable);
    }

    /// Takes the member's backup server away, or installs it again.
    pub fn set_installed(&self, cluster: &ClusterName, installed: bool) {
        self.change(cluster, |member| member.installed = installed);
    }

    /// The answers of the next `writes` writes are lost although they are done.
    pub fn lose_answers(&self, cluster: &ClusterName, writes: u32) {
        self.change(cluster, |member| member.lost_answers = writes);
    }

    /// What the member's next backup runs into. Faults asked for before come first.
    pub fn inject(&self, cluster: &ClusterName, fault: Fault) {
        self.change(cluster, |member| member.faults.push_back(fault));
    }

    /// The member refuses to hold still with this message, or does not any more.
    pub fn refuse_to_hold(&self, cluster: &ClusterName, message: Option<String>) {
        self.change(cluster, |member| member.refuses_to_hold = message);
    }

    /// Sets the state of one storage location.
    pub fn set_location(&self, cluster: &ClusterName, location: &LocationName, state: LocationState) {
        self.change(cluster, |member| {
            if let Some(location) = member.facts.locations.get_mut(location.as_str()) {
                location.state = state;
            }
        });
    }

    /// Changes what the member says of its server.
    pub fn change_facts(&self, cluster: &ClusterName, change: impl FnOnce(&mut MemberFacts)) {
        self.change(cluster, |member| change(&mut member.facts));
    }

    /// Changes what the member says it can take in. Until then it takes every kind and every storage class.
    pub fn change_capabilities(&self, cluster: &ClusterName, change: impl FnOnce(&mut Capabilities)) {
        self.change(cluster, |member| change(&mut member.capabilities));
    }

    /// The member's server dies and comes back: what was in progress has failed, deletions under way are forgotten.
    pub fn restart_server(&self, cluster: &ClusterName) {
        self.change(cluster, server::restart);
    }

    /// Puts an object onto the member, or replaces it. Something without `apiVersion`, `kind` and a name is no object
    /// and is left out.
    pub fn put_object(&self, cluster: &ClusterName, object: Value) {
        let Some((kind, name)) = selection::identity(&object) else {
            return;
        };
        self.change(cluster, |member| {
            member.objects.entry(kind).or_default().insert(name, object);
        });
    }

    /// Removes an object from the member.
    pub fn remove_object(&self, cluster: &ClusterName, kind: &ResourceKind, name: &NamespacedName) {
        self.change(cluster, |member| {
            if let Some(objects) = member.objects.get_mut(kind) {
                objects.remove(name);
            }
        });
    }

    /// The objects on the member.
    #[must_use]
    pub fn objects(&self, cluster: &ClusterName) -> Vec<Value> {
        let world = self.lock();
        let member = world.members.get(cluster.as_str());
        member
            .into_iter()
            .flat_map(|member| member.objects.values())
            .flat_map(BTreeMap::values)
            .cloned()
            .collect()
    }

    /// Who holds the member still.
    #[must_use]
    pub fn held_by(&self, cluster: &ClusterName) -> BTreeSet<OwnerToken> {
        let world = self.lock();
        let member = world.members.get(cluster.as_str());
        member
            .into_iter()
            .flat_map(|member| member.held.keys())
            .cloned()
            .collect()
    }

    /// Every write that reached a member, in order.
    #[must_use]
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.lock().journal.clone()
    }

    /// The names of the backups in a store.
    #[must_use]
    pub fn stored(&self, store: &StoreAddress) -> BTreeSet<BackupName> {
        let world = self.lock();
        let backups = world.stores.get(store);
        backups.into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    fn change(&self, cluster: &ClusterName, change: impl FnOnce(&mut MemberState)) {
        if let Some(member) = self.lock().members.get_mut(cluster.as_str()) {
            change(member);
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time of its members is the time of whoever orchestrates them.
impl kurator_core::clock::Clock for InMemoryBackups {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }
}

#[cfg(test)]
mod tests;
