//! The machines of several replicas against a simulated API server, with delays, losses, pauses and deaths.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::machine::{Machine, Record, Write, Written};
use super::{LeaseKey, ReplicaId, ShardId, ShardOptions};

const SHARDS: u32 = 6;

struct Replica {
    machine: Machine,
    /// How far its monotonic clock is ahead of the simulation's.
    offset: Duration,
    paused_until: u64,
    dead: bool,
    /// Messages on their way to it: when they arrive, in order.
    inbox: Vec<(u64, Message)>,
}

#[derive(Clone)]
enum Message {
    Saw(LeaseKey, Option<Record>),
    Wrote(LeaseKey, Written),
}

struct World {
    now: u64,
    seed: u64,
    revision: u64,
    server: BTreeMap<LeaseKey, Record>,
    /// Writes on their way to the server.
    outbox: Vec<(u64, usize, Write)>,
    replicas: Vec<Replica>,
    faults: bool,
}

impl World {
    fn new(count: usize, seed: u64) -> Self {
        let options = ShardOptions::default().with_shards(SHARDS).with_lease_seconds(3);
        let replica = |index: usize| {
            let mut machine = Machine::new(ReplicaId::new(format!("r{index}")), options);
            machine.synced(&BTreeSet::new());
            let offset = Duration::from_secs(index as u64 * 1000);
            Replica {
                machine,
                offset,
                paused_until: 0,
                dead: false,
                inbox: Vec::new(),
            }
        };
        let replicas = (0..count).map(replica).collect();
        Self {
            now: 0,
            seed,
            revision: 1,
            server: BTreeMap::new(),
            outbox: Vec::new(),
            replicas,
            faults: true,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    /// Mostly a few milliseconds, sometimes longer than a lease.
    fn delay(&mut self) -> u64 {
        if self.faults && self.random(20) == 0 {
            self.random(5_000)
        } else {
            1 + self.random(30)
        }
    }

    fn clock(&self, index: usize) -> Duration {
        self.replicas[index].offset + Duration::from_millis(self.now)
    }

    fn step(&mut self) {
        self.now += 10;
        self.serve();
        for index in 0..self.replicas.len() {
            if self.faults && self.random(3_000) == 0 {
                self.replicas[index].paused_until = self.now + self.random(8_000);
            }
            if self.replicas[index].dead || self.now < self.replicas[index].paused_until {
                continue;
            }
            self.run(index);
        }
        self.check();
    }

    fn serve(&mut self) {
        let (due, later) = std::mem::take(&mut self.outbox)
            .into_iter()
            .partition(|(at, ..)| *at <= self.now);
        self.outbox = later;
        let mut due: Vec<(u64, usize, Write)> = due;
        due.sort_by_key(|(at, index, write)| (*at, *index, write.key.clone()));
        for (_, index, write) in due {
            let current = self.server.get(&write.key).map(|record| record.version.clone());
            let key = write.key.clone();
            let written = if current == write.replaces {
                self.revision += 1;
                let version = self.revision.to_string();
                let bury = write.holder.is_none() && matches!(key, LeaseKey::Replica(_));
                let record = Record {
                    holder: write.holder,
                    transitions: write.transitions,
                    duration: Duration::from_secs(3),
                    version: version.clone(),
                };
                if bury {
                    self.server.remove(&key);
                } else {
                    self.server.insert(key.clone(), record.clone());
                }
                for watcher in 0..self.replicas.len() {
                    let message = Message::Saw(key.clone(), (!bury).then(|| record.clone()));
                    self.deliver(watcher, message);
                }
                Written::Done { version }
            } else {
                Written::Refused
            };
            let lost = self.faults && self.random(15) == 0;
            self.deliver(
                index,
                Message::Wrote(key, if lost { Written::Lost } else { written }),
            );
        }
    }

    /// Watch events stay in order; answers to writes may overtake them.
    fn deliver(&mut self, to: usize, message: Message) {
        let mut at = self.now + self.delay();
        if matches!(message, Message::Saw(..)) {
            let events = self.replicas[to]
                .inbox
                .iter()
                .filter(|(_, other)| matches!(other, Message::Saw(..)));
            at = events.map(|(at, _)| *at).max().unwrap_or(0).max(at);
        }
        self.replicas[to].inbox.push((at, message));
    }

    fn run(&mut self, index: usize) {
        let clock = self.clock(index);
        let now = self.now;
        let replica = &mut self.replicas[index];
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut replica.inbox)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        replica.inbox = later;
        for (_, message) in due {
            match message {
                Message::Saw(key, Some(record)) => replica.machine.saw(key, record, clock),
                Message::Saw(key, None) => replica.machine.vanished(&key),
                Message::Wrote(key, written) => replica.machine.wrote(&key, written, clock),
            }
        }
        for shard in replica.machine.leaving() {
            replica.machine.stopped(shard);
        }
        for write in replica.machine.poll(clock, false) {
            let at = self.now + self.delay();
            self.outbox.push((at, index, write));
        }
    }

    fn owners(&self, shard: ShardId) -> Vec<usize> {
        (0..self.replicas.len())
            .filter(|index| !self.replicas[*index].dead)
            .filter(|index| {
                self.replicas[*index]
                    .machine
                    .owned(self.clock(*index))
                    .contains_key(&shard)
            })
            .collect()
    }

    fn check(&self) {
        for shard in (0..SHARDS).map(ShardId::new) {
            let owners = self.owners(shard);
            assert!(
                owners.len() <= 1,
                "shard {shard} is owned by {owners:?} at {} ms",
                self.now
            );
        }
    }

    fn run_for(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.step();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_shard_ever_has_two_owners_and_in_the_end_each_has_one(seed: u64, count in 1_usize..5) {
        let mut world = World::new(count, seed);
        world.run_for(40_000);
        let victim = (seed % count as u64) as usize;
        world.replicas[victim].dead = count > 1;
        world.run_for(20_000);
        world.faults = false;
        world.run_for(20_000);
        for shard in (0..SHARDS).map(ShardId::new) {
            prop_assert_eq!(world.owners(shard).len(), 1, "shard {} has no owner", shard);
        }
    }
}

#[test]
fn a_dead_replica_is_replaced_within_the_lease_time() {
    let mut world = World::new(2, 7);
    world.faults = false;
    world.run_for(10_000);
    let before = (0..SHARDS)
        .filter(|shard| world.owners(ShardId::new(*shard)) == [0])
        .count();
    assert_eq!(before, 3, "the shards are split evenly");
    world.replicas[0].dead = true;
    world.run_for(3_100);
    assert!((0..SHARDS).all(|shard| world.owners(ShardId::new(shard)) == [1]));
}

#[test]
fn a_replica_that_joins_gets_its_share_without_a_gap_longer_than_the_hand_over() {
    let mut world = World::new(2, 11);
    world.faults = false;
    world.replicas[1].paused_until = 8_000;
    world.run_for(7_900);
    assert!((0..SHARDS).all(|shard| world.owners(ShardId::new(shard)) == [0]));
    world.run_for(1_000);
    assert_eq!(
        (0..SHARDS)
            .filter(|shard| world.owners(ShardId::new(*shard)) == [1])
            .count(),
        3
    );
}
