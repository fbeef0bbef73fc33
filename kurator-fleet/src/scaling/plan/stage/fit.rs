//! Whether one more pod fits on a node, and what refuses it.

use std::collections::BTreeSet;

use super::{Breach, Stage};
use crate::scaling::model::{
    outline::Outline,
    pod::PodRecord,
    resources::Resources,
    symbols::{Sym, id},
};

/// Why a node refuses a pod, in the order in which it is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
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

/// A pod that looks for a place, with what decides about it at hand.
#[derive(Clone, Copy)]
pub(super) struct Seeker<'m> {
    pod: u32,
    outline: &'m Outline,
    requests: &'m Resources,
    sheet: Option<u32>,
    /// Number of the memory of nodes that suit it; `None` if only taints matter.
    suits: Option<u32>,
}

impl<'m> Stage<'_, 'm> {
    pub(super) fn seeker(&mut self, pod: u32) -> Seeker<'m> {
        let outline = self.view.outline(pod);
        let model = self.view.model;
        let suits = (!model.constraints[outline.constraint].is_free()).then(|| {
            *self.suits_ids.entry(outline.constraint).or_insert_with(|| {
                self.suits.push(vec![0; self.view.len()]);
                id(self.suits.len() - 1)
            })
        });
        Seeker {
            pod,
            outline,
            requests: &model.requests[outline.requests],
            sheet: self.crowd.sheet(pod, &self.at),
            suits,
        }
    }

    pub(super) fn refusal(&mut self, seeker: Seeker<'m>, rank: u32) -> Option<Refusal> {
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
        if seeker.outline.has_claims && !self.volumes_fit(self.view.pod(seeker.pod), rank) {
            return Some(Refusal::Volume);
        }
        if seeker.outline.has_ports && !self.ports_fit(self.view.pod(seeker.pod), rank) {
            return Some(Refusal::HostPort);
        }
        match self.crowd.breach(seeker.sheet?, rank)? {
            Breach::Affinity => Some(Refusal::PodAffinity),
            Breach::Spread => Some(Refusal::Spread),
        }
    }

    fn suits(&mut self, seeker: Seeker<'m>, rank: u32) -> Option<Refusal> {
        if seeker.suits.is_none() && !self.tainted[rank as usize] {
            return None;
        }
        let model = self.view.model;
        let node = self.view.node(rank);
        let rules = &model.constraints[seeker.outline.constraint];
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
