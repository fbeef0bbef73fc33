//! The members of a fleet, looked after: who joined, who left, who is well, and who is ours to act for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ProbeFailure;
use super::engaged::EngagedMember;
use super::shard::{Fence, OwnedShards, Shards};
use super::tend::{Tended, tend};
use crate::clock::Clock;
use crate::connect::{ClientPurpose, ClusterConnector, ConnectError};
use crate::health::{ClusterUid, HealthPolicy, HealthState, Transition};
use crate::membership::{Member, Membership};
use crate::names::{ClusterName, FleetName};

/// How members are looked after.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MembersOptions {
    /// Probing and grace.
    pub health: HealthPolicy,
    /// Requests to one member a second and at once, over all its controllers. `None` for no bound. Default 50 and 100.
    pub rate: Option<(u32, u32)>,
    /// How many members are probed at the same moment. Default 64.
    pub probes: usize,
}

impl Default for MembersOptions {
    fn default() -> Self {
        Self {
            health: HealthPolicy::default(),
            rate: Some((50, 100)),
            probes: 64,
        }
    }
}

impl MembersOptions {
    /// Sets probing and grace.
    #[must_use]
    pub const fn with_health(mut self, health: HealthPolicy) -> Self {
        self.health = health;
        self
    }

    /// Bounds the requests to one member to so many a second in the long run, and so many at once.
    #[must_use]
    pub const fn with_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.rate = Some((per_second, burst));
        self
    }
}

/// What is known of one member.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemberStatus {
    /// Its health. `Unknown` and `NeverSeen` until the first probe has ended.
    pub health: HealthState,
    /// Which cluster answers there, if one ever did.
    pub uid: Option<ClusterUid>,
    /// What the last probe ran into; `None` after a success.
    pub failure: Option<ProbeFailure>,
    /// The last change of health.
    pub transition: Option<Transition>,
    /// Whether controllers run on it.
    pub engaged: bool,
}

/// Everyone who is registered, by name.
pub type Roster = Arc<BTreeMap<ClusterName, Member>>;

/// The engaged members by name.
pub type Engaged = Arc<BTreeMap<ClusterName, Arc<EngagedMember>>>;

/// The members of a fleet, for as long as this value or a clone of it lives.
///
/// Each member is probed on its own; the one that answers and is the cluster it should be is *engaged*: controllers
/// start on it. One that falls silent for the grace, leaves, is taken over by another replica, or turns out to be
/// another cluster is *disengaged*: controllers stop, and what they held is released.
///
/// # Guarantees
/// - Nothing is ever deleted or written because a member was not heard from, or because the membership could not be
///   read: then everything stays as it is.
/// - A member costs nothing but its probe while it is not engaged, and delays nobody.
/// - New credentials are used once they lead to the same cluster as the old ones.
#[derive(Clone)]
pub struct Members {
    shared: Arc<Shared>,
    // The last clone ends the background work.
    _guard: Arc<Guard>,
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("engaged", &self.shared.engaged.borrow().keys())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Guard(CancellationToken);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

pub(super) struct Shared {
    pub(super) membership: Arc<dyn Membership>,
    pub(super) connector: Arc<dyn ClusterConnector>,
    pub(super) options: MembersOptions,
    pub(super) probes: Semaphore,
    fleet: Option<FleetName>,
    base: Timestamp,
    start: Instant,
    engaged: watch::Sender<Engaged>,
    statuses: Mutex<BTreeMap<ClusterName, MemberStatus>>,
    changes: watch::Sender<u64>,
    registrations: Mutex<BTreeMap<ClusterName, Arc<Mutex<Member>>>>,
    roster: watch::Sender<Option<Roster>>,
    holders: Mutex<BTreeMap<ClusterUid, ClusterName>>,
    on_record: Mutex<BTreeMap<ClusterUid, ClusterName>>,
}

impl Members {
    /// Looks after the members of `fleet` (or of all fleets), in background tasks of the current runtime.
    ///
    /// With `shards`, only those that are this replica's. Call within a tokio runtime.
    #[must_use]
    pub fn start(
        membership: Arc<dyn Membership>,
        connector: Arc<dyn ClusterConnector>,
        fleet: Option<FleetName>,
        shards: Option<&Shards>,
        options: MembersOptions,
        clock: &dyn Clock,
    ) -> Self {
        let shared = Arc::new(Shared {
            membership,
            connector,
            options,
            probes: Semaphore::new(options.probes.max(1)),
            fleet,
            base: clock.now(),
            start: Instant::now(),
            engaged: watch::Sender::new(Engaged::default()),
            statuses: Mutex::default(),
            changes: watch::Sender::new(0),
            registrations: Mutex::default(),
            roster: watch::Sender::new(None),
            holders: Mutex::default(),
            on_record: Mutex::default(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(manage(
            Arc::clone(&shared),
            shards.map(Shards::owned),
            stop.clone(),
        ));
        Self {
            shared,
            _guard: Arc::new(Guard(stop)),
        }
    }

    /// The engaged members now, and every change of them.
    #[must_use]
    pub fn engaged(&self) -> watch::Receiver<Engaged> {
        self.shared.engaged.subscribe()
    }

    /// One engaged member.
    #[must_use]
    pub fn get(&self, name: &ClusterName) -> Option<Arc<EngagedMember>> {
        self.shared.engaged.borrow().get(name).map(Arc::clone)
    }

    /// How a member that this replica looks after is registered, now.
    #[must_use]
    pub fn registration(&self, name: &ClusterName) -> Option<Member> {
        let registrations = lock(&self.shared.registrations);
        registrations
            .get(name)
            .map(|registration| lock(registration).clone())
    }

    /// Everyone who is registered, whether or not they answer and whether or not they are this replica's, and every
    /// change of that; `None` until the membership could be read for the first time.
    #[must_use]
    pub fn roster(&self) -> watch::Receiver<Option<Roster>> {
        self.shared.roster.subscribe()
    }

    /// What is known of every member this replica looks after.
    #[must_use]
    pub fn statuses(&self) -> BTreeMap<ClusterName, MemberStatus> {
        self.shared.statuses().clone()
    }

    /// What is known of one member.
    #[must_use]
    pub fn status(&self, name: &ClusterName) -> Option<MemberStatus> {
        self.shared.statuses().get(name).cloned()
    }

    /// A counter that grows with every change of a status besides the time last seen.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Clients of the engaged members, whatever the purpose: rotated credentials, the fence and the rate are behind them.
///
/// A member that is not engaged has none: [`ConnectError::NotEngaged`].
#[async_trait]
impl ClusterConnector for Members {
    async fn client(&self, cluster: &ClusterName, _: ClientPurpose) -> Result<Client, ConnectError> {
        if let Some(member) = self.get(cluster) {
            return Ok(member.client());
        }
        let cluster = cluster.clone();
        match self.status(&cluster) {
            Some(status) => Err(ConnectError::NotEngaged {
                cluster,
                reason: status
                    .failure
                    .map_or(status.health.reason.as_str(), |failure| failure.token),
            }),
            None => Err(ConnectError::UnknownCluster { cluster }),
        }
    }

    /// The member is looked at again at once when its server said 401; nothing else is kept here.
    async fn invalidate(&self, cluster: &ClusterName) {
        if let Some(member) = self.get(cluster) {
            member.link.unauthorized.notify_one();
        }
    }
}

impl Shared {
    /// The present, running evenly whatever happens to the wall clock.
    pub(super) fn now(&self) -> Timestamp {
        self.base
            .checked_add(self.start.elapsed())
            .unwrap_or(Timestamp::MAX)
    }

    pub(super) fn statuses(&self) -> MutexGuard<'_, BTreeMap<ClusterName, MemberStatus>> {
        lock(&self.statuses)
    }

    pub(super) fn report(&self, name: &ClusterName, status: MemberStatus) {
        let changed = {
            let mut statuses = self.statuses();
            let before = statuses.insert(name.clone(), status.clone());
            before.is_none_or(|before| {
                (
                    before.health.health,
                    before.health.reason,
                    before.uid,
                    before.failure,
                    before.engaged,
                ) != (
                    status.health.health,
                    status.health.reason,
                    status.uid,
                    status.failure,
                    status.engaged,
                )
            })
        };
        if changed {
            self.changes.send_modify(|revision| *revision += 1);
        }
    }

    pub(super) fn engage(&self, member: Arc<EngagedMember>) {
        self.engaged.send_modify(|engaged| {
            Arc::make_mut(engaged).insert(member.name.clone(), member);
        });
    }

    pub(super) fn disengage(&self, name: &ClusterName) {
        self.engaged.send_if_modified(|engaged| {
            engaged.contains_key(name) && Arc::make_mut(engaged).remove(name).is_some()
        });
    }

    /// Takes hold of a cluster for a member, unless another member has it.
    pub(super) fn claim(&self, name: &ClusterName, uid: &ClusterUid) -> Result<(), ClusterName> {
        let on_record = lock(&self.on_record).get(uid).cloned();
        let mut holders = lock(&self.holders);
        let holder = on_record.as_ref().or_else(|| holders.get(uid));
        match holder {
            Some(holder) if holder != name => Err(holder.clone()),
            _ => {
                holders.insert(uid.clone(), name.clone());
                Ok(())
            }
        }
    }

    fn release(&self, name: &ClusterName) {
        self.statuses().remove(name);
        lock(&self.registrations).remove(name);
        lock(&self.holders).retain(|_, holder| holder != name);
        self.changes.send_modify(|revision| *revision += 1);
    }

    fn record(&self, roster: &BTreeMap<ClusterName, Member>) {
        let mut on_record = BTreeMap::new();
        for member in roster.values() {
            if let Some(uid) = &member.uid {
                on_record
                    .entry(uid.clone())
                    .or_insert_with(|| member.name.clone());
            }
        }
        *lock(&self.on_record) = on_record;
    }
}

struct Running {
    registration: Arc<Mutex<Member>>,
    poke: Arc<Notify>,
    fence: Option<Arc<Fence>>,
    stop: CancellationToken,
}

async fn manage(
    shared: Arc<Shared>,
    mut shards: Option<watch::Receiver<OwnedShards>>,
    stop: CancellationToken,
) {
    let mut changes = shared.membership.changes();
    let mut roster: BTreeMap<ClusterName, Member> = BTreeMap::new();
    let mut running: BTreeMap<ClusterName, Running> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let (mut stale, mut announced) = (true, true);
    while !stop.is_cancelled() {
        if stale {
            changes.mark_unchanged();
            match shared.membership.members(shared.fleet.as_ref()).await {
                Ok(members) => {
                    roster = members
                        .into_iter()
                        .map(|member| (member.name.clone(), member))
                        .collect();
                    stale = false;
                    shared.record(&roster);
                    shared.roster.send_if_modified(|known| {
                        let changed = known.as_deref() != Some(&roster);
                        if changed {
                            *known = Some(Arc::new(roster.clone()));
                        }
                        changed
                    });
                }
                Err(error) => tracing::warn!(%error, reason = error.reason(), "members stay as they are"),
            }
        }
        let owned = shards.as_mut().map(|shards| shards.borrow_and_update().clone());
        for (name, task) in &running {
            let kept = roster.contains_key(name) && wanted(owned.as_ref(), name, task.fence.as_ref());
            if !kept {
                task.stop.cancel();
            }
        }
        for (name, member) in &roster {
            if let Some(task) = running.get(name) {
                let mut registration = lock(&task.registration);
                if *registration != *member {
                    *registration = member.clone();
                    task.poke.notify_one();
                }
                continue;
            }
            let fence = owned.as_ref().and_then(|owned| owned.fence(name.as_str()));
            if owned.is_some() && fence.is_none() {
                continue;
            }
            let task = Running {
                registration: Arc::new(Mutex::new(member.clone())),
                poke: Arc::new(Notify::new()),
                fence,
                stop: stop.child_token(),
            };
            lock(&shared.registrations).insert(name.clone(), Arc::clone(&task.registration));
            let tended = Tended {
                name: name.clone(),
                registration: Arc::clone(&task.registration),
                poke: Arc::clone(&task.poke),
                fence: task.fence.clone(),
                stop: task.stop.clone(),
            };
            let work = tend(Arc::clone(&shared), tended);
            match &task.fence {
                Some(fence) => tasks.spawn(fence.track(work)),
                None => tasks.spawn(work),
            };
            running.insert(name.clone(), task);
        }
        let shards_changed = async {
            let ended = match &mut shards {
                Some(shards) => shards.changed().await.is_err(),
                None => true,
            };
            if ended {
                std::future::pending().await
            }
        };
        tokio::select! {
            changed = changes.changed(), if announced => match changed {
                Ok(()) => stale = true,
                // Nobody is left to announce changes: what is in place stays.
                Err(_) => announced = false,
            },
            () = shards_changed => {}
            Some(ended) = tasks.join_next() => {
                if let Ok(name) = ended {
                    running.remove(&name);
                    if !roster.contains_key(&name) || shards.is_some() {
                        shared.release(&name);
                    }
                }
            }
            () = tokio::time::sleep(Duration::from_secs(2)), if stale => {}
            () = stop.cancelled() => {}
        }
    }
    for task in running.values() {
        task.stop.cancel();
    }
    while tasks.join_next().await.is_some() {}
}

/// Whether a running task still has the right it was started with.
fn wanted(owned: Option<&OwnedShards>, name: &ClusterName, fence: Option<&Arc<Fence>>) -> bool {
    match (owned, fence) {
        (None, _) => true,
        (Some(owned), Some(fence)) => owned
            .fence(name.as_str())
            .is_some_and(|now| Arc::ptr_eq(&now, fence)),
        (Some(_), None) => false,
    }
}
