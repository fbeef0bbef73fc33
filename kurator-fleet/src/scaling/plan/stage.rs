//! Where every pod is while a plan is played through, and whether one more fits on a node.

use std::collections::BTreeSet;

use super::{
    crowd::Crowd,
    reason::Refusals,
    view::{NONE, View},
};
use crate::scaling::model::{
    node::Ready,
    pod::PodRecord,
    resources::Resources,
    symbols::{Map, Sym},
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

/// A cluster in the middle of a plan. Every change can be undone back to a mark.
pub(super) struct Stage<'v, 'm> {
    pub(super) view: &'v View<'m>,
    rooms: Vec<Room>,
    /// Millionths of CPU and of memory in use, added: the order the scheduler prefers.
    loads: Vec<u32>,
    by_load: BTreeSet<(u32, u32)>,
    /// Which ranks are in `by_load`.
    listed: Vec<bool>,
    open: Vec<bool>,
    cordoned: Vec<bool>,
    gone: Vec<bool>,
    /// Rank of the node each pod row is on now.
    at: Vec<u32>,
    /// Pods that came, by rank.
    arrived: Map<u32, Vec<u32>>,
    crowd: Crowd<'v, 'm>,
    /// Whether a node suits a constraint: 0 unknown, 1 yes, 2 taint, 3 affinity.
    suits: Map<u32, Vec<u8>>,
    log: Vec<Step>,
}

impl<'v, 'm> Stage<'v, 'm> {
    pub(super) fn new(view: &'v View<'m>) -> Self {
        let model = view.model;
        let mut rooms = Vec::with_capacity(view.len());
        let mut open = Vec::with_capacity(view.len());
        for rank in view.ranks() {
            let node = view.node(rank);
            let allocatable = &node.allocatable;
            let mut room = Room {
                cpu: allocatable.cpu,
                memory: allocatable.memory,
                storage: allocatable.storage,
                slots: allocatable.pods,
                extended: allocatable.extended.to_vec(),
            };
            for pod in view.pods_on(rank) {
                let pod = view.pod(*pod);
                if pod.holds_room() {
                    room.take(&model.requests[pod.requests], 1);
                }
            }
            rooms.push(room);
            open.push(
                node.ready == Ready::Yes
                    && !node.unschedulable
                    && !node.deleting
                    && !node.delegated_heartbeat,
            );
        }
        let at: Vec<u32> = view.node_of_pod.clone();
        let mut stage = Self {
            view,
            loads: Vec::new(),
            rooms,
            by_load: BTreeSet::new(),
            listed: vec![false; view.len()],
            open,
            cordoned: vec![false; view.len()],
            gone: vec![false; view.len()],
            at,
            arrived: Map::default(),
            crowd: Crowd::new(view),
            suits: Map::default(),
            log: Vec::new(),
        };
        stage.loads = view.ranks().map(|rank| stage.load(rank)).collect();
        for rank in view.ranks() {
            if stage.takes_pods(rank) {
                stage.listed[rank as usize] = true;
                stage.by_load.insert((stage.loads[rank as usize], rank));
            }
        }
        stage
    }

    fn load(&self, rank: u32) -> u32 {
        let all = &self.view.node(rank).allocatable;
        let left = &self.rooms[rank as usize];
        utilisation(all.cpu, all.cpu - left.cpu)
            .saturating_add(utilisation(all.memory, all.memory - left.memory))
    }

    fn takes_pods(&self, rank: u32) -> bool {
        let rank = rank as usize;
        self.open[rank] && !self.cordoned[rank] && !self.gone[rank]
    }

    fn reload(&mut self, rank: u32) {
        let place = rank as usize;
        let takes = self.takes_pods(rank);
        if !takes && !self.listed[place] {
            return;
        }
        let old = self.loads[place];
        let new = self.load(rank);
        if self.listed[place] {
            self.by_load.remove(&(old, rank));
        }
        self.loads[place] = new;
        self.listed[place] = takes;
        if takes {
            self.by_load.insert((new, rank));
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
        if from != NONE {
            self.crowd.remove(pod, from);
            self.rooms[from as usize].take(requests, -1);
            if self.view.node_of_pod[pod as usize] != from
                && let Some(arrived) = self.arrived.get_mut(&from)
            {
                arrived.retain(|one| *one != pod);
            }
            self.reload(from);
        }
        self.at[pod as usize] = to;
        if to != NONE {
            self.crowd.add(pod, to);
            self.rooms[to as usize].take(requests, 1);
            if self.view.node_of_pod[pod as usize] != to {
                self.arrived.entry(to).or_default().push(pod);
            }
            self.reload(to);
        }
    }

    fn apply_cordon(&mut self, rank: u32, cordoned: bool) {
        self.cordoned[rank as usize] = cordoned;
        let here = self.pods_at(rank);
        self.crowd.set_cordoned(rank, cordoned, &here);
        self.reload(rank);
    }

    fn apply_gone(&mut self, rank: u32, gone: bool) {
        self.gone[rank as usize] = gone;
        let here = self.pods_at(rank);
        self.crowd.set_gone(rank, gone, &here);
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
        self.crowd.prepare(pod, &self.at);
        let fits = self.refusal(pod, rank).is_none();
        if fits {
            self.put(pod, rank);
        }
        fits
    }

    /// Takes a pod off its node.
    pub(super) fn lift(&mut self, pod: u32) {
        let from = self.at[pod as usize];
        if from != NONE {
            self.relocate(pod, from, NONE);
            self.log.push(Step::Moved { pod, from, to: NONE });
        }
    }

    fn put(&mut self, pod: u32, to: u32) {
        let from = self.at[pod as usize];
        self.relocate(pod, from, to);
        self.log.push(Step::Moved { pod, from, to });
    }

    /// The rank of the node a pod is on.
    pub(super) fn node_of(&self, pod: u32) -> u32 {
        self.at[pod as usize]
    }

    /// Pods that came to a node during the plan.
    pub(super) fn arrived(&self, rank: u32) -> &[u32] {
        self.arrived.get(&rank).map_or(&[], Vec::as_slice)
    }

    fn pods_at(&self, rank: u32) -> Vec<u32> {
        let own = self
            .view
            .pods_on(rank)
            .iter()
            .copied()
            .filter(|pod| self.at[*pod as usize] == rank);
        own.chain(self.arrived(rank).iter().copied()).collect()
    }

    /// Puts a lifted pod on a node it fits on: `wish` if that does, else the one preferred.
    pub(super) fn place(&mut self, pod: u32, preference: Preference, wish: Option<u32>) -> Option<u32> {
        self.crowd.prepare(pod, &self.at);
        if let Some(rank) = wish
            && self.refusal(pod, rank).is_none()
        {
            self.put(pod, rank);
            return Some(rank);
        }
        let by_load = std::mem::take(&mut self.by_load);
        let found = match preference {
            Preference::Spread => by_load
                .iter()
                .map(|(_, rank)| *rank)
                .find(|rank| self.refusal(pod, *rank).is_none()),
            Preference::Pack => by_load
                .iter()
                .rev()
                .map(|(_, rank)| *rank)
                .find(|rank| self.refusal(pod, *rank).is_none()),
        };
        self.by_load = by_load;
        let rank = found?;
        self.put(pod, rank);
        Some(rank)
    }

    /// Ranks of all nodes the lifted pod fits on, the preferred first.
    pub(super) fn options(&mut self, pod: u32) -> Vec<u32> {
        self.crowd.prepare(pod, &self.at);
        let by_load = std::mem::take(&mut self.by_load);
        let found = by_load
            .iter()
            .map(|(_, rank)| *rank)
            .filter(|rank| self.refusal(pod, *rank).is_none())
            .collect();
        self.by_load = by_load;
        found
    }

    /// Why no node takes the lifted pod.
    pub(super) fn refusals(&mut self, pod: u32) -> Refusals {
        self.crowd.prepare(pod, &self.at);
        let mut all = Refusals::default();
        for rank in self.view.ranks() {
            if self.gone[rank as usize] {
                all.leaving += 1;
                continue;
            }
            match self.refusal(pod, rank) {
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

    fn refusal(&mut self, pod: u32, rank: u32) -> Option<Refusal> {
        let record = self.view.pod(pod);
        let place = rank as usize;
        if self.cordoned[place] {
            return Some(Refusal::Leaving);
        }
        if !self.takes_pods(rank) {
            return Some(Refusal::Closed);
        }
        let model = self.view.model;
        let requests = &model.requests[record.requests];
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
        if let Some(refusal) = self.suits(record.constraint, rank) {
            return Some(refusal);
        }
        if !record.claims.is_empty() && !self.volumes_fit(record, rank) {
            return Some(Refusal::Volume);
        }
        if !model.ports[record.ports].is_empty() && !self.ports_fit(record, rank) {
            return Some(Refusal::HostPort);
        }
        if !self.crowd.affinity_fits(pod, rank) {
            return Some(Refusal::PodAffinity);
        }
        if !self.crowd.spread_fits(pod, rank) {
            return Some(Refusal::Spread);
        }
        None
    }

    fn suits(&mut self, constraint: u32, rank: u32) -> Option<Refusal> {
        let nodes = self.view.len();
        let memo = self.suits.entry(constraint).or_insert_with(|| vec![0; nodes]);
        let known = &mut memo[rank as usize];
        if *known == 0 {
            let model = self.view.model;
            let node = self.view.node(rank);
            let rules = &model.constraints[constraint];
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

/// Millionths of `all` that are in use; what has nothing is full.
pub(super) fn utilisation(all: i64, used: i64) -> u32 {
    if all <= 0 {
        return 1_000_000;
    }
    let share = i128::from(used.max(0)) * 1_000_000 / i128::from(all);
    u32::try_from(share).unwrap_or(u32::MAX / 2)
}
