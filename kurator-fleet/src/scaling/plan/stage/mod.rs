//! Where every pod is while a plan is played through.

mod find;
mod fit;
mod room;

pub(super) use self::{find::Preference, room::utilisation};

use self::room::{Room, key, reversed};
use super::{
    crowd::{Breach, Crowd, Positions},
    ladder::{Climb, Ladder},
    reason::Refusals,
    view::{NONE, View},
};
use crate::scaling::model::{
    node::{NodeRecord, Ready},
    symbols::{Map, id},
};

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
    /// Nodes that take pods, the least loaded first.
    emptiest: Ladder,
    /// The same the other way round, once it is asked for.
    fullest: Option<Ladder>,
    climb: Climb,
    open: Vec<bool>,
    tainted: Vec<bool>,
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
        let loads: Vec<u32> = rooms.iter().map(Room::load).collect();
        let keys = (0..view.len()).map(|place| open[place].then(|| key(loads[place], id(place))));
        Self {
            view,
            emptiest: Ladder::new(keys),
            fullest: None,
            climb: Climb::default(),
            rooms,
            loads,
            open,
            tainted: view
                .ranks()
                .map(|rank| !view.node(rank).taints.is_empty())
                .collect(),
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
        self.loads[place] = self.rooms[place].load();
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
        let requests = &self.view.model.requests[self.view.outline(pod).requests];
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

    fn pods_at(&self, rank: u32) -> Vec<u32> {
        pods_at(self.view, &self.at, &self.arrived, rank)
    }
}

/// Pods on a node now.
fn pods_at(view: &View<'_>, at: &Positions, arrived: &[Vec<u32>], rank: u32) -> Vec<u32> {
    let own = view.pods_on(rank).filter(|pod| at.of(view, *pod) == rank);
    own.chain(arrived[rank as usize].iter().copied()).collect()
}
