//! Where a pod goes of all the nodes it fits on.

use super::{
    Ladder, Refusals, Stage,
    fit::{Refusal, Seeker},
    room::reversed,
};
use crate::scaling::model::symbols::id;

/// Which of the nodes that fit is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Preference {
    /// The least loaded, as the scheduler prefers.
    Spread,
    /// The fullest, which leaves room in one piece.
    Pack,
}

/// Candidates looked at in order, before all are looked at in any order for the best of them.
const ORDERED: usize = 32;

impl<'m> Stage<'_, 'm> {
    /// Puts a lifted pod on that node, if it fits.
    pub(in super::super) fn place_at(&mut self, pod: u32, rank: u32) -> bool {
        let seeker = self.seeker(pod);
        let fits = self.refusal(seeker, rank).is_none();
        if fits {
            self.put(pod, rank);
        }
        fits
    }

    /// Puts a lifted pod on a node it fits on: `wish` if that does, else the one preferred.
    pub(in super::super) fn place(
        &mut self,
        pod: u32,
        preference: Preference,
        wish: Option<u32>,
    ) -> Option<u32> {
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
    pub(in super::super) fn options(&mut self, pod: u32) -> Vec<u32> {
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
    pub(in super::super) fn refusals(&mut self, pod: u32) -> Refusals {
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
}
