//! Where every pod is while a plan is played through, and whether one more fits on a node.

use std::collections::BTreeSet;

use super::{
    crowd::{Breach, Crowd, Positions},
    ladder::{Climb, Ladder},
    reason::Refusals,
    view::{NONE, View},
};
use crate::scaling::model::{
    node::{NodeRecord, Ready},
    place::Used,
    pod::PodRecord,
    resources::Resources,
    symbols::{Map, Sym, id},
};

/// What is left on a node.
#[derive(Clone, Debug, Default)]
struct Room {
    cpu: i64,
    memory: i64,
    storage: i64,
    slots: i64,
    extended: Vec<(Sym, i64)>,
}

impl Room {
    fn new(all: &Resources, used: &Used) -> Self {
        let taken = |name: &Sym| used.extended.iter().find(|(own, _)| own == name);
        Self {
            cpu: all.cpu - used.cpu,
            memory: all.memory - used.memory,
            storage: all.storage - used.storage,
            slots: all.pods - used.pods,
            extended: all
                .extended
                .iter()
                .map(|(name, amount)| (*name, amount - taken(name).map_or(0, |(_, used)| *used)))
                .collect(),
        }
    }

    fn take(&mut self, requests: &Resources, sign: i64) {
        self.cpu -= sign * requests.cpu;
        self.memory -= sign * requests.memory;
        self.storage -= sign * requests.storage;
        self.slots -= sign * requests.pods;
        for (name, amount) in &requests.extended {
            if let Some((_, left)) = self.extended.iter_mut().find(|(own, _)| own == name) {
                *left -= sign * amount;
            }
        }
    }
}

/// Which of the nodes that fit is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preference {
    /// The least loaded, as the scheduler prefers.
    Spread,
    /// The fullest, which leaves room in one piece.
    Pack,
}

/// Why a node refuses a pod, in the order in which it is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Closed,
    Leaving,
    Cpu,
    Memory,
    OtherResource,
    Slots,
    Taint,
    Affinity,
    Volume,
    HostPort,
    PodAffinity,
    Spread,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Moved { pod: u32, from: u32, to: u32 },
    Cordoned { rank: u32, cordoned: bool },
    Gone { rank: u32 },
    Returned { rank: u32 },
}

/// A pod that looks for a place, with what decides about it at hand.
#[derive(Clone, Copy)]
struct Seeker<'m> {
    record: &'m PodRecord,
    requests: &'m Resources,
    has_ports: bool,
    sheet: Option<u32>,
    /// Number of the memory of nodes that suit it; `None` if only taints matter.
    suits: Option<u32>,
}

/// Candidates looked at in order, before all are looked at in any order for the best of them.
const ORDERED: usize = 32;

/// A cluster in the middle of a plan. Every change can be undone back to a mark.
pub(super) struct Stage<'v, 'm> {
    pub(super) view: &'v View<'m>,
    rooms: Vec<Room>,
    /// Millionths of CPU and of memory in use, added: the order the scheduler prefers.
    loads: Vec<u32>,
    /// Nodes that take pods, the least loaded first.
    emptiest: Ladder,
    /// The same the other way round, once it is asked for.
    fullest: Option<Ladder>,
    climb: Climb,
    open: Vec<bool>,
    cordoned: Vec<bool>,
    gone: Vec<bool>,
    at: Positions,
    /// Pods that came, by rank.
    arrived: Vec<Vec<u32>>,
    crowd: Crowd<'v, 'm>,
    /// Whether a node suits a constraint: 0 unknown, 1 yes, 2 taint, 3 affinity.
    suits: Vec<Vec<u8>>,
    suits_ids: Map<u32, u32>,
    log: Vec<Step>,
}

impl<'v, 'm> Stage<'v, 'm> {
    pub(super) fn new(view: &'v View<'m>) -> Self {
        let rooms: Vec<Room> = view
            .ranks()
            .map(|rank| Room::new(&view.node(rank).allocatable, &view.place(rank).used))
            .collect();
        let takes_pods = |node: &NodeRecord| {
            node.ready == Ready::Yes && !node.unschedulable && !node.deleting && !node.delegated_heartbeat
        };
        let open: Vec<bool> = view.ranks().map(|rank| takes_pods(view.node(rank))).collect();
        let loads: Vec<u32> = (view.ranks().zip(&rooms))
            .map(|(rank, room)| load(&view.node(rank).allocatable, room))
            .collect();
        let keys = (0..view.len()).map(|place| open[place].then(|| key(loads[place], id(place))));
        Self {
            view,
            emptiest: Ladder::new(keys),
            fullest: None,
            climb: Climb::default(),
            rooms,
            loads,
            open,
            cordoned: vec![false; view.len()],
            gone: vec![false; view.len()],
            at: Positions::new(view),
            arrived: vec![Vec::new(); view.len()],
            crowd: Crowd::new(view),
            suits: Vec::new(),
            suits_ids: Map::default(),
            log: Vec::new(),
        }
    }

    fn takes_pods(&self, rank: u32) -> bool {
        let rank = rank as usize;
        self.open[rank] && !self.cordoned[rank] && !self.gone[rank]
    }

    fn reload(&mut self, rank: u32) {
        let place = rank as usize;
        let takes = self.takes_pods(rank);
        if !takes && self.emptiest.key(rank).is_none() {
            return;
        }
        self.loads[place] = load(&self.view.node(rank).allocatable, &self.rooms[place]);
        let key = takes.then(|| key(self.loads[place], rank));
        self.emptiest.set(rank, key);
        if let Some(fullest) = &mut self.fullest {
            fullest.set(rank, key.map(reversed));
        }
    }

    pub(super) fn mark(&self) -> usize {
        self.log.len()
    }

    pub(super) fn undo_to(&mut self, mark: usize) {
        while self.log.len() > mark {
            match self.log.pop() {
                Some(Step::Moved { pod, from, to }) => self.relocate(pod, to, from),
                Some(Step::Cordoned { rank, cordoned }) => self.apply_cordon(rank, !cordoned),
                Some(Step::Gone { rank }) => self.apply_gone(rank, false),
                Some(Step::Returned { rank }) => self.apply_gone(rank, true),
                None => {}
            }
        }
    }

    fn relocate(&mut self, pod: u32, from: u32, to: u32) {
        let record = self.view.pod(pod);
        let requests = &self.view.model.requests[record.requests];
        let home = self.view.home(pod);
        if from != NONE {
            self.crowd.remove(pod, from);
            self.rooms[from as usize].take(requests, -1);
            if home != from {
                let arrived = &mut self.arrived[from as usize];
                if let Some(at) = arrived.iter().position(|one| *one == pod) {
                    arrived.swap_remove(at);
                }
            }
            self.reload(from);
        }
        self.at.set(pod, to);
        if to != NONE {
            self.crowd.add(pod, to);
            self.rooms[to as usize].take(requests, 1);
            if home != to {
                self.arrived[to as usize].push(pod);
            }
            self.reload(to);
        }
    }

    fn apply_cordon(&mut self, rank: u32, cordoned: bool) {
        self.cordoned[rank as usize] = cordoned;
        let here = || pods_at(self.view, &self.at, &self.arrived, rank);
        self.crowd.set_cordoned(rank, cordoned, here);
        self.reload(rank);
    }

    fn apply_gone(&mut self, rank: u32, gone: bool) {
        self.gone[rank as usize] = gone;
        let here = || pods_at(self.view, &self.at, &self.arrived, rank);
        self.crowd.set_gone(rank, gone, here);
        self.reload(rank);
    }

    /// Closes a node for pods, or opens it again.
    pub(super) fn cordon(&mut self, rank: u32, cordoned: bool) {
        if self.cordoned[rank as usize] != cordoned {
            self.apply_cordon(rank, cordoned);
            self.log.push(Step::Cordoned { rank, cordoned });
        }
    }

    /// Takes a node out of the cluster, with what is still on it.
    pub(super) fn remove_node(&mut self, rank: u32) {
        if !self.gone[rank as usize] {
            self.apply_gone(rank, true);
            self.log.push(Step::Gone { rank });
        }
    }

    /// Brings a node back that was taken out.
    pub(super) fn return_node(&mut self, rank: u32) {
        if self.gone[rank as usize] {
            self.apply_gone(rank, false);
            self.log.push(Step::Returned { rank });
        }
    }

    /// Puts a lifted pod on that node, if it fits.
    pub(super) fn place_at(&mut self, pod: u32, rank: u32) -> bool {
        let seeker = self.seeker(pod);
        let fits = self.refusal(seeker, rank).is_none();
        if fits {
            self.put(pod, rank);
        }
        fits
    }

    /// Takes a pod off its node.
    pub(super) fn lift(&mut self, pod: u32) {
        let from = self.node_of(pod);
        if from != NONE {
            self.relocate(pod, from, NONE);
            self.log.push(Step::Moved { pod, from, to: NONE });
        }
    }

    fn put(&mut self, pod: u32, to: u32) {
        let from = self.node_of(pod);
        self.relocate(pod, from, to);
        self.log.push(Step::Moved { pod, from, to });
    }

    /// The rank of the node a pod is on.
    pub(super) fn node_of(&self, pod: u32) -> u32 {
        self.at.of(self.view, pod)
    }

    /// Pods that came to a node during the plan.
    pub(super) fn arrived(&self, rank: u32) -> &[u32] {
        &self.arrived[rank as usize]
    }

    /// Puts a lifted pod on a node it fits on: `wish` if that does, else the one preferred.
    pub(super) fn place(&mut self, pod: u32, preference: Preference, wish: Option<u32>) -> Option<u32> {
        let seeker = self.seeker(pod);
        if let Some(rank) = wish
            && self.refusal(seeker, rank).is_none()
        {
            self.put(pod, rank);
            return Some(rank);
        }
        let rank = match preference {
            Preference::Spread => self.first(seeker, |stage| &stage.emptiest),
            Preference::Pack => {
                if self.fullest.is_none() {
                    let keys = (0..id(self.view.len())).map(|rank| self.emptiest.key(rank).map(reversed));
                    self.fullest = Some(Ladder::new(keys));
                }
                self.first(seeker, |stage| stage.fullest.as_ref().unwrap_or(&stage.emptiest))
            }
        }?;
        self.put(pod, rank);
        Some(rank)
    }

    /// The first node of a ladder that takes the pod.
    fn first(&mut self, seeker: Seeker<'m>, ladder: fn(&Self) -> &Ladder) -> Option<u32> {
        let mut climb = std::mem::take(&mut self.climb);
        climb.start(ladder(self));
        let mut found = None;
        let mut ended = false;
        for _ in 0..ORDERED {
            let Some(rank) = climb.next(ladder(self)) else {
                ended = true;
                break;
            };
            if self.refusal(seeker, rank).is_none() {
                found = Some(rank);
                break;
            }
        }
        self.climb = climb;
        if found.is_some() || ended {
            return found;
        }
        let mut best: Option<(u64, u32)> = None;
        for rank in self.view.ranks() {
            if let Some(key) = ladder(self).key(rank)
                && best.is_none_or(|(least, _)| key < least)
                && self.refusal(seeker, rank).is_none()
            {
                best = Some((key, rank));
            }
        }
        best.map(|(_, rank)| rank)
    }

    /// Ranks of all nodes the lifted pod fits on, the least loaded first.
    pub(super) fn options(&mut self, pod: u32) -> Vec<u32> {
        let seeker = self.seeker(pod);
        let mut found: Vec<(u64, u32)> = Vec::new();
        for rank in self.view.ranks() {
            if let Some(key) = self.emptiest.key(rank)
                && self.refusal(seeker, rank).is_none()
            {
                found.push((key, rank));
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, rank)| rank).collect()
    }

    /// Why no node takes the lifted pod.
    pub(super) fn refusals(&mut self, pod: u32) -> Refusals {
        let seeker = self.seeker(pod);
        let mut all = Refusals::default();
        for rank in self.view.ranks() {
            if self.gone[rank as usize] {
                all.leaving += 1;
                continue;
            }
            match self.refusal(seeker, rank) {
                None => {}
                Some(Refusal::Affinity) => all.affinity += 1,
                Some(Refusal::Closed) => all.closed += 1,
                Some(Refusal::Cpu) => all.cpu += 1,
                Some(Refusal::HostPort) => all.host_port += 1,
                Some(Refusal::Leaving) => all.leaving += 1,
                Some(Refusal::Memory) => all.memory += 1,
                Some(Refusal::OtherResource) => all.other_resource += 1,
                Some(Refusal::PodAffinity) => all.pod_affinity += 1,
                Some(Refusal::Slots) => all.slots += 1,
                Some(Refusal::Spread) => all.spread += 1,
                Some(Refusal::Taint) => all.taint += 1,
                Some(Refusal::Volume) => all.volume += 1,
            }
        }
        all
    }

    fn seeker(&mut self, pod: u32) -> Seeker<'m> {
        let record = self.view.pod(pod);
        let model = self.view.model;
        let suits = (!model.constraints[record.constraint].is_free()).then(|| {
            *self.suits_ids.entry(record.constraint).or_insert_with(|| {
                self.suits.push(vec![0; self.view.len()]);
                id(self.suits.len() - 1)
            })
        });
        Seeker {
            record,
            requests: &model.requests[record.requests],
            has_ports: !model.ports[record.ports].is_empty(),
            sheet: self.crowd.sheet(pod, &self.at),
            suits,
        }
    }

    fn refusal(&mut self, seeker: Seeker<'m>, rank: u32) -> Option<Refusal> {
        let place = rank as usize;
        if self.cordoned[place] {
            return Some(Refusal::Leaving);
        }
        if !self.takes_pods(rank) {
            return Some(Refusal::Closed);
        }
        let requests = seeker.requests;
        let room = &self.rooms[place];
        // A resource that is not asked for may be overdrawn, as the scheduler sees it.
        let lacks = |request: i64, left: i64| request > 0 && request > left;
        if lacks(requests.cpu, room.cpu) {
            return Some(Refusal::Cpu);
        }
        if lacks(requests.memory, room.memory) {
            return Some(Refusal::Memory);
        }
        if room.slots < 1 {
            return Some(Refusal::Slots);
        }
        if lacks(requests.storage, room.storage) {
            return Some(Refusal::OtherResource);
        }
        for (name, amount) in &requests.extended {
            let left = room
                .extended
                .iter()
                .find(|(own, _)| own == name)
                .map_or(0, |(_, left)| *left);
            if lacks(*amount, left) {
                return Some(Refusal::OtherResource);
            }
        }
        if let Some(refusal) = self.suits(seeker, rank) {
            return Some(refusal);
        }
        if !seeker.record.claims.is_empty() && !self.volumes_fit(seeker.record, rank) {
            return Some(Refusal::Volume);
        }
        if seeker.has_ports && !self.ports_fit(seeker.record, rank) {
            return Some(Refusal::HostPort);
        }
        match self.crowd.breach(seeker.sheet?, rank)? {
            Breach::Affinity => Some(Refusal::PodAffinity),
            Breach::Spread => Some(Refusal::Spread),
        }
    }

    fn suits(&mut self, seeker: Seeker<'m>, rank: u32) -> Option<Refusal> {
        let model = self.view.model;
        let node = self.view.node(rank);
        let rules = &model.constraints[seeker.record.constraint];
        let Some(memo) = seeker.suits.and_then(|at| self.suits.get_mut(at as usize)) else {
            return (!rules.tolerates_all(&node.taints)).then_some(Refusal::Taint);
        };
        let known = &mut memo[rank as usize];
        if *known == 0 {
            *known = if !rules.tolerates_all(&node.taints) {
                2
            } else if !rules.accepts_labels(node.name, &node.labels, &model.symbols) {
                3
            } else {
                1
            };
        }
        match *known {
            2 => Some(Refusal::Taint),
            3 => Some(Refusal::Affinity),
            _ => None,
        }
    }

    fn pods_at(&self, rank: u32) -> Vec<u32> {
        pods_at(self.view, &self.at, &self.arrived, rank)
    }

    fn volumes_fit(&self, pod: &PodRecord, rank: u32) -> bool {
        let model = self.view.model;
        let node = self.view.node(rank);
        for claim in &pod.claims {
            let volume = model
                .claims
                .get(&(pod.namespace, *claim))
                .and_then(|claim| claim.volume);
            let Some(volume) = volume.and_then(|volume| model.volumes.get(&volume)) else {
                continue;
            };
            let reachable = volume
                .terms
                .as_ref()
                .is_none_or(|terms| terms.match_node(node.name, &node.labels, &model.symbols));
            // A node without any zone or region label takes every volume.
            let labelled = volume
                .zones
                .iter()
                .any(|(key, _)| node.labels.get(*key).is_some());
            let in_zone = volume.zones.iter().all(|(key, values)| {
                node.labels
                    .get(*key)
                    .map_or(!labelled, |value| values.contains(&value))
            });
            if !reachable || !in_zone {
                return false;
            }
        }
        let Some(limits) = model.attach_limits.get(&node.name) else {
            return true;
        };
        limits.iter().all(|(driver, limit)| {
            let mut attached = BTreeSet::new();
            let mut wanted = BTreeSet::new();
            self.attached(pod, *driver, &mut wanted);
            if wanted.is_empty() {
                return true;
            }
            for other in self.pods_at(rank) {
                let other = self.view.pod(other);
                if other.holds_room() {
                    self.attached(other, *driver, &mut attached);
                }
            }
            attached.extend(wanted);
            i64::try_from(attached.len()).unwrap_or(i64::MAX) <= *limit
        })
    }

    /// Volumes of a driver that a pod uses.
    fn attached(&self, pod: &PodRecord, driver: Sym, volumes: &mut BTreeSet<Sym>) {
        let model = self.view.model;
        for claim in &pod.claims {
            let volume = model
                .claims
                .get(&(pod.namespace, *claim))
                .and_then(|claim| claim.volume);
            if let Some(volume) = volume
                && model
                    .volumes
                    .get(&volume)
                    .is_some_and(|record| record.driver == Some(driver))
            {
                volumes.insert(volume);
            }
        }
    }

    fn ports_fit(&self, pod: &PodRecord, rank: u32) -> bool {
        let model = self.view.model;
        let wanted = &model.ports[pod.ports];
        !self.pods_at(rank).into_iter().any(|other| {
            let other = self.view.pod(other);
            other.holds_room()
                && model.ports[other.ports]
                    .iter()
                    .any(|used| wanted.iter().any(|port| port.conflicts(used)))
        })
    }
}

/// Pods on a node now.
fn pods_at(view: &View<'_>, at: &Positions, arrived: &[Vec<u32>], rank: u32) -> Vec<u32> {
    let own = view.pods_on(rank).filter(|pod| at.of(view, *pod) == rank);
    own.chain(arrived[rank as usize].iter().copied()).collect()
}

fn load(all: &Resources, left: &Room) -> u32 {
    utilisation(all.cpu, all.cpu - left.cpu).saturating_add(utilisation(all.memory, all.memory - left.memory))
}

/// Orders nodes by load, then by name.
fn key(load: u32, rank: u32) -> u64 {
    u64::from(load) << 32 | u64::from(rank)
}

/// Orders them the other way round.
fn reversed(key: u64) -> u64 {
    u64::MAX - 1 - key
}

/// Millionths of `all` that are in use; what has nothing is full.
pub(super) fn utilisation(all: i64, used: i64) -> u32 {
    if all <= 0 {
        return 1_000_000;
    }
    let used = used.max(0);
    let share = match used.checked_mul(1_000_000) {
        Some(scaled) => i128::from(scaled / all),
        None => i128::from(used) * 1_000_000 / i128::from(all),
    };
    u32::try_from(share).unwrap_or(u32::MAX / 2)
}
