//! The lease protocol of the shards, as a state machine without a clock and without a connection.
//!
//! Every shard is a Lease; whoever holds it owns the shard's members. The rules are those of the client-go leader
//! election, which need no synchronised clocks: a holder counts from the moment it *sent* its last successful
//! renewal, everyone else from the moment they *saw* the Lease change, and every write carries the resource version
//! it was decided on. So the owner always lets go before anyone else may take over, and of two takers one is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::assign::assign;
use super::{LeaseKey, ReplicaId, ShardId, ShardOptions};

/// A Lease as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) holder: Option<ReplicaId>,
    pub(super) transitions: u32,
    /// How long the holder counts on it; replicas may differ while their options are being changed.
    pub(super) duration: Duration,
    pub(super) version: String,
}

/// A write to one Lease. Refused by the API server if the Lease is no longer what it was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) key: LeaseKey,
    /// `None` lets go of a shard's Lease and deletes a replica's.
    pub(super) holder: Option<ReplicaId>,
    pub(super) transitions: u32,
    /// The resource version to replace; `None` creates.
    pub(super) replaces: Option<String>,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Done {
        version: String,
    },
    /// Someone was faster. What they wrote arrives by the watch.
    Refused,
    /// Not known whether it arrived.
    Lost,
}

#[derive(Debug)]
struct Seen {
    record: Record,
    /// When the record was seen to change, on our own clock.
    at: Duration,
}

impl Seen {
    fn expires(&self, own: Duration) -> Duration {
        self.at.saturating_add(self.record.duration.max(own))
    }
}

#[derive(Debug)]
struct Held {
    /// Until when we may act, counted from the sending of the last successful write.
    until: Duration,
    renew: Duration,
    epoch: u32,
    /// Another replica should have it: the owner's work is being stopped.
    leaving: bool,
    /// The work has stopped.
    stopped: bool,
}

#[derive(Debug)]
struct Flight {
    sent: Duration,
    write: Write,
}

/// What one replica knows and does. All times are on its own monotonic clock.
#[derive(Debug)]
pub(super) struct Machine {
    me: ReplicaId,
    options: ShardOptions,
    seen: BTreeMap<LeaseKey, Seen>,
    held: BTreeMap<ShardId, Held>,
    flights: BTreeMap<LeaseKey, Flight>,
    next_presence: Duration,
    /// After a write of it that failed.
    presence_again: Duration,
    synced: bool,
}

/// A shard this replica may act for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) epoch: u32,
    pub(super) until: Duration,
}

impl Machine {
    pub(super) fn new(me: ReplicaId, options: ShardOptions) -> Self {
        Self {
            me,
            options,
            seen: BTreeMap::new(),
            held: BTreeMap::new(),
            flights: BTreeMap::new(),
            next_presence: Duration::ZERO,
            presence_again: Duration::ZERO,
            synced: false,
        }
    }

    /// The first list is complete: a Lease that was not in it does not exist.
    pub(super) fn synced(&mut self, present: &BTreeSet<LeaseKey>) {
        self.seen.retain(|key, _| present.contains(key));
        self.synced = true;
    }

    pub(super) fn saw(&mut self, key: LeaseKey, record: Record, now: Duration) {
        let newest = self
            .seen
            .get(&key)
            .map_or(0, |seen| version(&seen.record.version));
        if version(&record.version) <= newest {
            return;
        }
        if let LeaseKey::Shard(shard) = &key
            && record.holder.as_ref() != Some(&self.me)
        {
            self.held.remove(shard);
        }
        self.seen.insert(key, Seen { record, at: now });
    }

    pub(super) fn vanished(&mut self, key: &LeaseKey) {
        self.seen.remove(key);
        if let LeaseKey::Shard(shard) = key {
            self.held.remove(shard);
        }
    }

    /// The work for a shard that had to be let go of has stopped.
    pub(super) fn stopped(&mut self, shard: ShardId) {
        if let Some(held) = self.held.get_mut(&shard) {
            held.stopped = held.leaving;
        }
    }

    /// What may be acted for at `now`.
    pub(super) fn owned(&self, now: Duration) -> BTreeMap<ShardId, Owned> {
        self.held
            .iter()
            .filter(|(_, held)| now < held.until && !held.leaving)
            .map(|(shard, held)| {
                (
                    *shard,
                    Owned {
                        epoch: held.epoch,
                        until: held.until,
                    },
                )
            })
            .collect()
    }

    /// The shards whose work must be stopped before they can be let go of.
    pub(super) fn leaving(&self) -> BTreeSet<ShardId> {
        self.held
            .iter()
            .filter(|(_, held)| held.leaving && !held.stopped)
            .map(|(shard, _)| *shard)
            .collect()
    }

    /// Nothing is held, nothing is being written, and the sign of life is gone.
    pub(super) fn holds_nothing(&self) -> bool {
        let presence = LeaseKey::Replica(self.me.clone());
        self.held.is_empty() && self.flights.is_empty() && !self.seen.contains_key(&presence)
    }

    /// When to call [`poll`](Self::poll) again even if nothing is heard.
    pub(super) fn wake(&self, now: Duration) -> Duration {
        let leases = self.held.values().flat_map(|held| [held.renew, held.until]);
        let expiries = self.seen.values().map(|seen| seen.expires(self.options.duration));
        let next = leases
            .chain(expiries)
            .chain([self.next_presence, self.presence_again])
            .filter(|at| *at > now)
            .min();
        next.unwrap_or(now + self.options.renew)
            .min(now + self.options.renew)
    }

    /// The writes to send now. `giving_up` lets go of everything, for an orderly end.
    pub(super) fn poll(&mut self, now: Duration, giving_up: bool) -> Vec<Write> {
        // A lapsed lease is not ours any more, whatever the record says: it is won again or not at all.
        self.held.retain(|_, held| now < held.until);
        if !self.synced {
            return Vec::new();
        }
        let live = self.live(now);
        let wanted = if giving_up {
            Vec::new()
        } else {
            assign(self.options.shards, &live)
        };
        let mut writes = Vec::new();
        writes.extend(self.presence(now, giving_up));
        writes.extend(self.bury(now));
        for index in 0..self.options.shards {
            let shard = ShardId::new(index);
            let mine = usize::try_from(index).ok().and_then(|index| wanted.get(index)) == Some(&self.me);
            writes.extend(self.shard(shard, mine, now));
        }
        for write in &writes {
            self.flights.insert(
                write.key.clone(),
                Flight {
                    sent: now,
                    write: write.clone(),
                },
            );
        }
        writes
    }

    /// How a write that [`poll`](Self::poll) gave out has ended.
    pub(super) fn wrote(&mut self, key: &LeaseKey, written: Written, now: Duration) {
        let Some(flight) = self.flights.remove(key) else {
            return;
        };
        let LeaseKey::Shard(shard) = *key else {
            match written {
                Written::Done { .. } if flight.write.holder.is_none() => {
                    self.seen.remove(key);
                }
                Written::Done { version } => {
                    let Write {
                        holder, transitions, ..
                    } = flight.write;
                    let duration = self.options.duration;
                    self.saw(
                        key.clone(),
                        Record {
                            holder,
                            transitions,
                            duration,
                            version,
                        },
                        now,
                    );
                }
                Written::Refused | Written::Lost => {
                    self.presence_again = now + self.options.retry();
                    self.next_presence = self.presence_again;
                }
            }
            return;
        };
        match written {
            Written::Done { version } => {
                let duration = self.options.duration;
                let Write {
                    holder, transitions, ..
                } = flight.write;
                let record = Record {
                    holder,
                    transitions,
                    duration,
                    version,
                };
                let until = flight.sent + self.options.hold();
                let renew = flight.sent + self.options.renew;
                let newest = self
                    .seen
                    .get(key)
                    .map_or(0, |seen| self::version(&seen.record.version));
                if self::version(&record.version) < newest {
                    // The watch has already shown what came after our write.
                    return;
                }
                match (&record.holder, self.held.get_mut(&shard)) {
                    (None, _) => {
                        self.held.remove(&shard);
                    }
                    (Some(_), Some(held)) => (held.until, held.renew) = (until, renew),
                    (Some(_), None) if now < until => {
                        let epoch = record.transitions;
                        self.held.insert(
                            shard,
                            Held {
                                until,
                                renew,
                                epoch,
                                leaving: false,
                                stopped: false,
                            },
                        );
                    }
                    (Some(_), None) => {}
                }
                self.saw(key.clone(), record, now);
            }
            Written::Refused | Written::Lost => {
                // If someone else has it, the watch will say so; until then the last success counts.
                if let Some(held) = self.held.get_mut(&shard) {
                    held.renew = now + self.options.retry();
                }
            }
        }
    }

    fn live(&self, now: Duration) -> BTreeSet<ReplicaId> {
        let others = self.seen.iter().filter_map(|(key, seen)| match key {
            LeaseKey::Replica(replica)
                if seen.record.holder.is_some() && now < seen.expires(self.options.duration) =>
            {
                Some(replica.clone())
            }
            _ => None,
        });
        others.chain([self.me.clone()]).collect()
    }

    fn presence(&mut self, now: Duration, giving_up: bool) -> Option<Write> {
        let key = LeaseKey::Replica(self.me.clone());
        let seen = self.seen.get(&key);
        let present = seen.is_some_and(|seen| seen.record.holder.is_some());
        if now < self.presence_again
            || self.flights.contains_key(&key)
            || (giving_up && !present)
            || (!giving_up && now < self.next_presence)
        {
            return None;
        }
        let write = Write {
            holder: (!giving_up).then(|| self.me.clone()),
            transitions: seen.map_or(0, |seen| seen.record.transitions),
            replaces: seen.map(|seen| seen.record.version.clone()),
            key,
        };
        self.next_presence = now + self.options.renew;
        Some(write)
    }

    /// The signs of life of replicas that died long ago; whoever has the first shard removes them.
    fn bury(&self, now: Duration) -> Vec<Write> {
        if !self.held.contains_key(&ShardId::new(0)) {
            return Vec::new();
        }
        let long_dead = self.seen.iter().filter(|(key, seen)| {
            matches!(key, LeaseKey::Replica(replica) if *replica != self.me)
                && now >= seen.at.saturating_add(self.options.duration * 10)
                && !self.flights.contains_key(key)
        });
        let bury = |(key, seen): (&LeaseKey, &Seen)| Write {
            key: key.clone(),
            holder: None,
            transitions: seen.record.transitions,
            replaces: Some(seen.record.version.clone()),
        };
        long_dead.map(bury).collect()
    }

    fn shard(&mut self, shard: ShardId, mine: bool, now: Duration) -> Option<Write> {
        let key = LeaseKey::Shard(shard);
        if self.flights.contains_key(&key) {
            return None;
        }
        let seen = self.seen.get(&key);
        if let Some(held) = self.held.get_mut(&shard) {
            held.leaving = !mine;
            held.stopped &= held.leaving;
            let seen = seen?;
            if held.stopped || now >= held.renew {
                return Some(Write {
                    key,
                    holder: (!held.stopped).then(|| self.me.clone()),
                    transitions: held.epoch,
                    replaces: Some(seen.record.version.clone()),
                });
            }
            return None;
        }
        if !mine {
            return None;
        }
        let Some(seen) = seen else {
            return Some(Write {
                key,
                holder: Some(self.me.clone()),
                transitions: 1,
                replaces: None,
            });
        };
        let expired = now >= seen.expires(self.options.duration);
        let ours = seen.record.holder.as_ref() == Some(&self.me);
        (seen.record.holder.is_none() || ours || expired).then(|| Write {
            key,
            holder: Some(self.me.clone()),
            transitions: seen.record.transitions.saturating_add(1),
            replaces: Some(seen.record.version.clone()),
        })
    }
}

/// Resource versions are comparable numbers since Kubernetes 1.35 (KEP-5504), and were so in etcd always.
fn version(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}
