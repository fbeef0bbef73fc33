//! What the pass knows of each cluster before it chooses: room, scores and tiers.

use super::Planner;
use crate::placement::bits::Bits;
use crate::placement::capacity;
use crate::placement::filter::Question;
use crate::placement::options::Dialect;

impl Planner<'_> {
    /// A copy goes to the hardware that is liked most only: what is liked less is for when nothing better has the room.
    /// Where it runs it stays, and what is liked as much joins in.
    pub(super) fn keep_what_is_liked(&mut self, question: &Question<'_>, replicas: u32) {
        let tier = |at: usize| self.tier.get(at).copied().unwrap_or(u8::MAX);
        let fits = |at: usize| self.room.get(at).is_some_and(|&room| room >= u64::from(replicas));
        let stays = |at: usize| question.targets.has(at) && !question.running.fresh;
        let mine = self.keep.iter().filter(|&at| stays(at)).map(tier).min();
        let best = mine
            .or_else(|| self.keep.iter().filter(|&at| fits(at)).map(tier).min())
            .or_else(|| self.keep.iter().map(tier).min());
        let Some(best) = best else { return };
        let enough = self
            .keep
            .iter()
            .any(|at| tier(at) == best && (stays(at) || fits(at)));
        let mut liked = Bits::none(question.fleet.len());
        for at in self.keep.iter() {
            liked.set(at, tier(at) == best && (!enough || stays(at) || fits(at)));
        }
        self.keep = liked;
    }

    /// Room, what is available for the selection, and scores.
    pub(super) fn measure(&mut self, question: &Question<'_>, replicas: u32) {
        let Question {
            fleet,
            workload,
            targets,
            ..
        } = *question;
        if workload.replicas.is_some() {
            let hardware = &question.policy.hardware;
            capacity::fill(
                &mut self.room,
                &self.keep,
                fleet,
                workload,
                hardware,
                self.options.dialect,
            );
        } else {
            // What has no replicas fits everywhere.
            self.room.clear();
            self.room.resize(fleet.len(), u64::MAX);
        }
        self.available.clear();
        self.available.resize(fleet.len(), 0);
        self.score.clear();
        self.score.resize(fleet.len(), 0);
        for at in self.keep.iter() {
            let (Some(room), Some(name)) = (self.room.get_mut(at), fleet.names.get(at)) else {
                continue;
            };
            for estimate in self
                .plugins
                .estimators
                .iter()
                .filter_map(|own| own.room(workload, name))
            {
                *room = (*room).min(estimate);
            }
            if *room == u64::MAX {
                // No opinion at all: room for everything.
                *room = u64::from(replicas);
            }
            if self.options.dialect == Dialect::Kurator && fleet.unready.has(at) {
                *room = 0;
            }
            if let (Some(available), Some(&previous)) = (self.available.get_mut(at), self.previous.get(at)) {
                *available = room.saturating_add(u64::from(previous));
            }
            if let Some(score) = self.score.get_mut(at) {
                let host: u64 = self
                    .plugins
                    .scores
                    .iter()
                    .fold(0, |sum, own| sum.saturating_add(own.score(workload, name)));
                *score = host.saturating_add(if targets.has(at) { 100 } else { 0 });
            }
        }
    }

    /// Tiers in the order in which room is used up: the affinity group before what takes its overflow, and in each of
    /// them the hardware that is liked most first.
    pub(super) fn note_tiers(&mut self, question: &Question<'_>) {
        self.tier.clear();
        self.tier.resize(question.fleet.len(), 0);
        let liked = &question.policy.hardware.liked;
        let tiers = &question.group.tiers;
        if liked.is_empty() {
            for (number, tier) in tiers.iter().enumerate().skip(1) {
                for at in tier.iter() {
                    if let (Some(slot), Ok(number)) = (self.tier.get_mut(at), u8::try_from(number)) {
                        *slot = number;
                    }
                }
            }
            return;
        }
        let place = |at: usize| {
            let tier = tiers.iter().position(|tier| tier.has(at)).unwrap_or(usize::MAX);
            (tier, std::cmp::Reverse(liked.get(at).copied().unwrap_or(0)))
        };
        let mut places: Vec<_> = self.keep.iter().map(place).collect();
        places.sort_unstable();
        places.dedup();
        for at in self.keep.iter() {
            let rank = places.binary_search(&place(at)).unwrap_or(0);
            if let Some(slot) = self.tier.get_mut(at) {
                *slot = u8::try_from(rank).unwrap_or(u8::MAX);
            }
        }
    }
}
