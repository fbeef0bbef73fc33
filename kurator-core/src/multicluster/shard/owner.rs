//! The lease protocol carried out against the hub.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::machine::{Machine, Record, Write, Written};
use super::{LeaseKey, ReplicaId, ShardId, ShardOptions, shard_of};
use crate::clock::Clock;

const GROUP_LABEL: &str = "multicluster.kurator.dev/controller";
const KIND_LABEL: &str = "multicluster.kurator.dev/lease";

/// The right to act for the members of one shard.
///
/// Asked before every request to a member. It ends by itself when the lease is not renewed, whether or not anything
/// in this process gets to run at that moment.
#[derive(Debug)]
pub struct Fence {
    epoch: u32,
    start: Instant,
    until: AtomicU64,
    revoked: CancellationToken,
    work: TaskTracker,
}

impl Fence {
    /// Whether the right stands at this moment.
    #[must_use]
    pub fn holds(&self) -> bool {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        now < self.until.load(Ordering::Acquire) && !self.revoked.is_cancelled()
    }

    /// Grows with every change of owner: of two owners of a shard the later has the greater number.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Resolves when the right is lost or has to be given up. The work must then end.
    pub async fn revoked(&self) {
        self.revoked.cancelled().await;
    }

    /// Does work until the right is lost, which waits for the work to be dropped; `None` if that came first.
    pub fn while_held<F: Future>(
        self: &Arc<Self>,
        work: F,
    ) -> impl Future<Output = Option<F::Output>> + use<F> {
        let fence = Arc::clone(self);
        self.track(async move {
            tokio::select! {
                biased;
                () = fence.revoked() => None,
                done = work => Some(done),
            }
        })
    }

    /// Counts the work of `future` as done under this right: the shard is given up only after it has ended.
    pub(crate) fn track<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        self.work.track_future(future)
    }
}

/// The shards this process owns now.
#[derive(Clone, Debug, Default)]
pub struct OwnedShards {
    shards: u32,
    fences: BTreeMap<ShardId, Arc<Fence>>,
}

impl OwnedShards {
    /// The right to act for a member, if this process has it.
    #[must_use]
    pub fn fence(&self, member: &str) -> Option<Arc<Fence>> {
        self.fences.get(&shard_of(member, self.shards)).map(Arc::clone)
    }

    /// The right to everything, if this process has it: for replicas of which one leads, that is with a single shard.
    #[must_use]
    pub fn leadership(&self) -> Option<Arc<Fence>> {
        (self.shards == 1)
            .then(|| self.fences.values().next().map(Arc::clone))
            .flatten()
    }

    /// The numbers of the shards.
    pub fn iter(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.fences.keys().copied()
    }
}

/// Sharing could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The name of the controller or of the replica cannot be part of an object's name.
    #[error(
        "{name:?} cannot be part of a Lease's name; use lower-case letters, digits and dashes, at most 30"
    )]
    Name {
        /// The refused name.
        name: String,
    },
    /// Another replica may hold the Lease by now.
    #[error("the Lease is not held any more; nothing was sent")]
    NotHeld,
}

/// This process's share of the members, kept up to date in the background.
///
/// Dropping it lets go of everything; [`close`](Self::close) does the same and waits until it is done.
#[derive(Debug)]
pub struct Shards {
    owned: watch::Receiver<OwnedShards>,
    stop: CancellationToken,
    task: TaskTracker,
}

impl Shards {
    /// Joins the replicas of `controller` that share members through Leases in `namespace` of the hub.
    ///
    /// The hub's client should not retry by itself (`Config::default_retry = false`): a late write is worse than none.
    ///
    /// # RBAC
    /// `leases.coordination.k8s.io` in `namespace`: `create`, `delete`, `list`, `watch`, `update`.
    ///
    /// # Errors
    /// [`ShardError::Name`] when a Lease cannot be named after `controller` and `replica`.
    pub fn join(
        hub: Client,
        namespace: &str,
        controller: &str,
        replica: ReplicaId,
        options: ShardOptions,
        clock: impl Clock,
    ) -> Result<Self, ShardError> {
        for (name, longest) in [(controller, 30), (replica.as_str(), 200)] {
            let plain = name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            if name.is_empty()
                || name.len() > longest
                || !plain
                || name.starts_with('-')
                || name.ends_with('-')
            {
                return Err(ShardError::Name {
                    name: name.to_owned(),
                });
            }
        }
        let stop = CancellationToken::new();
        let (sender, owned) = watch::channel(OwnedShards {
            shards: options.shards,
            fences: BTreeMap::new(),
        });
        let owner = Owner {
            leases: Api::namespaced(hub, namespace),
            names: Names {
                controller: controller.to_owned(),
            },
            machine: Machine::new(replica, options),
            options,
            clock: Arc::new(clock),
            start: Instant::now(),
            sender,
        };
        let task = TaskTracker::new();
        task.spawn(owner.run(stop.clone()));
        task.close();
        Ok(Self { owned, stop, task })
    }

    /// What is owned now, and every change of it.
    #[must_use]
    pub fn owned(&self) -> watch::Receiver<OwnedShards> {
        self.owned.clone()
    }

    /// Stops the work, lets go of every shard and of the sign of life, and waits for that (at most a lease time).
    pub async fn close(self) {
        self.stop.cancel();
        self.task.wait().await;
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Clone, Debug)]
struct Names {
    controller: String,
}

impl Names {
    fn name(&self, key: &LeaseKey) -> String {
        match key {
            LeaseKey::Replica(replica) => format!("{}-replica-{replica}", self.controller),
            LeaseKey::Shard(shard) => format!("{}-shard-{shard}", self.controller),
        }
    }

    fn key(&self, lease: &Lease) -> Option<LeaseKey> {
        let name = lease.name_any();
        let rest = name.strip_prefix(&self.controller)?;
        if let Some(replica) = rest.strip_prefix("-replica-") {
            return Some(LeaseKey::Replica(ReplicaId::new(replica)));
        }
        rest.strip_prefix("-shard-")?
            .parse()
            .ok()
            .map(|index| LeaseKey::Shard(ShardId::new(index)))
    }
}

struct Owner {
    leases: Api<Lease>,
    names: Names,
    machine: Machine,
    options: ShardOptions,
    clock: Arc<dyn Clock>,
    start: Instant,
    sender: watch::Sender<OwnedShards>,
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner")
            .field("controller", &self.names.controller)
            .finish_non_exhaustive()
    }
}

impl Owner {
    async fn run(mut self, stop: CancellationToken) {
        let selector = format!("{GROUP_LABEL}={}", self.names.controller);
        let events =
            watcher(self.leases.clone(), watcher::Config::default().labels(&selector)).default_backoff();
        futures::pin_mut!(events);
        let mut writes = FuturesUnordered::new();
        let mut stopping = FuturesUnordered::new();
        let mut ending: BTreeSet<ShardId> = BTreeSet::new();
        let mut listed = BTreeSet::new();
        let mut giving_up: Option<Instant> = None;
        loop {
            let now = self.start.elapsed();
            for write in self.machine.poll(now, giving_up.is_some()) {
                writes.push(send(
                    self.leases.clone(),
                    self.lease(&write),
                    write,
                    self.options.retry() * 3,
                ));
            }
            for (shard, fence) in self.publish(now) {
                ending.insert(shard);
                stopping.push(async move {
                    fence.work.close();
                    fence.work.wait().await;
                    shard
                });
            }
            // Won and lost again before anyone was told: there is no work to wait for.
            let untold: Vec<ShardId> = self.machine.leaving().difference(&ending).copied().collect();
            if !untold.is_empty() {
                untold.into_iter().for_each(|shard| self.machine.stopped(shard));
                continue;
            }
            let done = writes.is_empty() && self.machine.holds_nothing();
            if giving_up.is_some_and(|since| done || since.elapsed() > self.options.duration) {
                break;
            }
            let wake = self.start + self.machine.wake(now);
            tokio::select! {
                Some(event) = events.next() => self.take(event, &mut listed),
                Some((key, written)) = writes.next() => self.machine.wrote(&key, written, self.start.elapsed()),
                Some(shard) = stopping.next() => {
                    ending.remove(&shard);
                    self.machine.stopped(shard);
                }
                () = tokio::time::sleep_until(wake) => {}
                () = stop.cancelled(), if giving_up.is_none() => giving_up = Some(Instant::now()),
            }
        }
        self.sender.send_modify(|owned| owned.fences.clear());
    }

    fn take(&mut self, event: watcher::Result<watcher::Event<Lease>>, listed: &mut BTreeSet<LeaseKey>) {
        let now = self.start.elapsed();
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(lease)) => {
                if let Some(key) = self.names.key(&lease) {
                    listed.insert(key.clone());
                    self.machine.saw(key, record(&lease), now);
                }
            }
            Ok(watcher::Event::InitDone) => self.machine.synced(listed),
            Ok(watcher::Event::Apply(lease)) => {
                if let Some(key) = self.names.key(&lease) {
                    self.machine.saw(key, record(&lease), now);
                }
            }
            Ok(watcher::Event::Delete(lease)) => {
                if let Some(key) = self.names.key(&lease) {
                    self.machine.vanished(&key);
                }
            }
            Err(error) => {
                tracing::debug!(controller = %self.names.controller, %error, "watching leases failed")
            }
        }
    }

    /// Makes what the machine says true for everyone who holds a fence, and returns what has to be stopped first.
    fn publish(&self, now: Duration) -> Vec<(ShardId, Arc<Fence>)> {
        let owned = self.machine.owned(now);
        let leaving = self.machine.leaving();
        let mut to_stop = Vec::new();
        self.sender.send_if_modified(|published| {
            let mut changed = false;
            published.fences.retain(|shard, fence| {
                let kept = owned.get(shard).is_some_and(|owned| owned.epoch == fence.epoch);
                if !kept {
                    fence.revoked.cancel();
                    if leaving.contains(shard) {
                        to_stop.push((*shard, Arc::clone(fence)));
                    }
                    changed = true;
                }
                kept
            });
            for (shard, owned) in &owned {
                let until = u64::try_from(owned.until.as_micros()).unwrap_or(u64::MAX);
                let fence = published.fences.entry(*shard).or_insert_with(|| {
                    changed = true;
                    Arc::new(Fence {
                        epoch: owned.epoch,
                        start: self.start,
                        until: AtomicU64::new(until),
                        revoked: CancellationToken::new(),
                        work: TaskTracker::new(),
                    })
                });
                fence.until.store(until, Ordering::Release);
            }
            changed
        });
        to_stop
    }

    fn lease(&self, write: &Write) -> Lease {
        let kind = if matches!(write.key, LeaseKey::Shard(_)) {
            "shard"
        } else {
            "replica"
        };
        let labels = [(GROUP_LABEL, self.names.controller.as_str()), (KIND_LABEL, kind)];
        let now: Timestamp = self.clock.now();
        Lease {
            metadata: ObjectMeta {
                name: Some(self.names.name(&write.key)),
                labels: Some(
                    labels
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                ),
                resource_version: write.replaces.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: write.holder.as_ref().map(ToString::to_string),
                lease_duration_seconds: i32::try_from(self.options.duration.as_secs()).ok(),
                lease_transitions: i32::try_from(write.transitions).ok(),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }
}

async fn send(leases: Api<Lease>, lease: Lease, write: Write, deadline: Duration) -> (LeaseKey, Written) {
    let params = PostParams::default();
    let name = lease.name_any();
    let buried = write.holder.is_none() && matches!(write.key, LeaseKey::Replica(_));
    let result = tokio::time::timeout(deadline, async {
        if buried {
            let preconditions = Preconditions {
                resource_version: write.replaces.clone(),
                uid: None,
            };
            let params = DeleteParams {
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            leases.delete(&name, &params).await.map(|_| Lease::default())
        } else if write.replaces.is_some() {
            leases.replace(&name, &params, &lease).await
        } else {
            leases.create(&params, &lease).await
        }
    })
    .await;
    let written = match result {
        Ok(Ok(lease)) => Written::Done {
            version: lease.resource_version().unwrap_or_default(),
        },
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Written::Refused,
        Ok(Err(error)) => {
            tracing::debug!(lease = %name, %error, "writing a lease failed");
            Written::Lost
        }
        Err(_) => Written::Lost,
    };
    (write.key, written)
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.as_ref();
    let positive = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0);
    Record {
        holder: spec
            .and_then(|spec| spec.holder_identity.as_deref())
            .filter(|holder| !holder.is_empty())
            .map(ReplicaId::new),
        transitions: positive(spec.and_then(|spec| spec.lease_transitions)),
        duration: Duration::from_secs(positive(spec.and_then(|spec| spec.lease_duration_seconds)).into()),
        version: lease.resource_version().unwrap_or_default(),
    }
}
