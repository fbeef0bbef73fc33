//! What is where, kept up to date pod by pod, so that a plan need not look at all of them.

use super::{
    Model,
    outline::Outline,
    pod::{Class, PodRecord, Protection},
    resources::Resources,
    symbols::{Sym, id},
};

/// What the planner has to know of a pod on a node that probably stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// It moves when its node goes, unless a drain rule says otherwise.
    pub(crate) moves: bool,
    /// The API server asks budgets before it evicts it.
    pub(crate) covered: bool,
    pub(crate) ready: bool,
    /// Something about it may keep its node.
    pub(crate) odd: bool,
}

impl Traits {
    fn of(pod: &PodRecord, model: &Model) -> Self {
        let moves = pod.holds_room() && pod.class == Class::Ordinary && !pod.terminating;
        Self {
            moves,
            covered: pod.asks_budgets(),
            ready: pod.ready,
            odd: moves
                && (pod.owner.is_none()
                    || pod.local_volume.is_some()
                    || !matches!(pod.protection, Protection::None | Protection::SafeToEvict)
                    || !pod.claims.is_empty()
                    || model.constraints[pod.constraint].tolerates(super::constraint::CORDON)),
        }
    }
}

/// A pod on a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occupant {
    pub(crate) pod: u32,
    pub(crate) group: u32,
    pub(crate) traits: Traits,
}

/// What the pods on a node have requested, those that have finished apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used {
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
    pub(crate) storage: i64,
    pub(crate) pods: i64,
    pub(crate) extended: Vec<(Sym, i64)>,
}

impl Used {
    fn add(&mut self, requests: &Resources, sign: i64) {
        self.cpu += sign * requests.cpu;
        self.memory += sign * requests.memory;
        self.storage += sign * requests.storage;
        self.pods += sign * requests.pods;
        for (name, amount) in &requests.extended {
            match self.extended.iter_mut().find(|(own, _)| own == name) {
                Some((_, sum)) => *sum += sign * amount,
                None => self.extended.push((*name, sign * amount)),
            }
        }
    }
}

/// A node's name with the pods bound to it; the node itself may be unknown yet.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: Sym,
    /// Row of the node.
    pub(crate) node: Option<u32>,
    /// In no useful order.
    pub(crate) pods: Vec<Occupant>,
    pub(crate) used: Used,
    /// Pods that stay when the node loses the control plane.
    pub(crate) autonomous: u32,
}

/// A pod's places in the lists of its node, group and template, so that it can be taken out without a search.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seats {
    place: u32,
    group: u32,
    bearer: u32,
}

impl Model {
    /// The place of a node's name.
    pub(super) fn place(&mut self, name: Sym) -> u32 {
        *self.place_ids.entry(name).or_insert_with(|| {
            self.places.push(Place {
                name,
                node: None,
                pods: Vec::new(),
                used: Used::default(),
                autonomous: 0,
            });
            id(self.places.len() - 1)
        })
    }

    /// Enters a pod into every list and sum.
    pub(super) fn link(&mut self, at: u32) {
        let Some(pod) = self.pods.get(at) else { return };
        let traits = Traits::of(pod, self);
        let mut seats = Seats::default();
        if let Some(place) = pod.place.and_then(|place| self.places.get_mut(place as usize)) {
            seats.place = id(place.pods.len());
            place.pods.push(Occupant {
                pod: at,
                group: pod.group,
                traits,
            });
            if pod.holds_room() {
                place.used.add(&self.requests[pod.requests], 1);
                place.autonomous += u32::from(pod.edge_autonomy);
            }
        }
        if let Some(group) = self.groups.get_mut(pod.group as usize) {
            seats.group = id(group.pods.len());
            group.pods.push(at);
            group.count(pod, 1);
        }
        if let Some(bearers) = self.aversions.bearers_mut(pod.peers) {
            seats.bearer = id(bearers.len());
            bearers.push(at);
        }
        if let Some(owner) = pod.owner.filter(|_| pod.counts_for_owner())
            && let Some(owner) = self.owners.get_mut(owner)
        {
            owner.alive += 1;
        }
        let outline = Outline::of(pod, !self.ports[pod.ports].is_empty());
        if let Some(pod) = self.pods.get_mut(at) {
            pod.seats = seats;
        }
        let row = at as usize;
        if self.outlines.len() <= row {
            self.outlines.resize(row + 1, Outline::default());
        }
        self.outlines[row] = outline;
    }

    /// Undoes [`Model::link`].
    pub(super) fn unlink(&mut self, at: u32) {
        let Some(pod) = self.pods.get(at) else { return };
        let seats = pod.seats;
        let mut moved: [Option<u32>; 3] = [None; 3];
        if let Some(place) = pod.place.and_then(|place| self.places.get_mut(place as usize)) {
            place.pods.swap_remove(seats.place as usize);
            moved[0] = place.pods.get(seats.place as usize).map(|occupant| occupant.pod);
            if pod.holds_room() {
                place.used.add(&self.requests[pod.requests], -1);
                place.autonomous -= u32::from(pod.edge_autonomy);
            }
        }
        if let Some(group) = self.groups.get_mut(pod.group as usize) {
            group.pods.swap_remove(seats.group as usize);
            moved[1] = group.pods.get(seats.group as usize).copied();
            group.count(pod, -1);
        }
        if let Some(bearers) = self.aversions.bearers_mut(pod.peers) {
            bearers.swap_remove(seats.bearer as usize);
            moved[2] = bearers.get(seats.bearer as usize).copied();
        }
        if let Some(owner) = pod.owner.filter(|_| pod.counts_for_owner())
            && let Some(owner) = self.owners.get_mut(owner)
        {
            owner.alive -= 1;
        }
        // Whoever took the seat knows it.
        let [place, group, bearer] = moved;
        if let Some(other) = place.and_then(|other| self.pods.get_mut(other)) {
            other.seats.place = seats.place;
        }
        if let Some(other) = group.and_then(|other| self.pods.get_mut(other)) {
            other.seats.group = seats.group;
        }
        if let Some(other) = bearer.and_then(|other| self.pods.get_mut(other)) {
            other.seats.bearer = seats.bearer;
        }
        if let Some(outline) = self.outlines.get_mut(at as usize) {
            *outline = Outline::default();
        }
    }
}
