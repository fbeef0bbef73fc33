//! The pass over a gang: where all of it fits.

use super::Planner;
use crate::placement::filter::Question;
use crate::placement::gang::Gang;
use crate::placement::gang_fit::{self, Fit};
use crate::placement::options::Dialect;
use crate::placement::reason::Unplaced;
use crate::placement::select::{self, Field};
use crate::placement::sub_gangs::{self, SubGangs};

impl Planner<'_> {
    /// Keeps a gang where it runs, or finds the first cluster that its minimum fits into.
    pub(super) fn place_gang(&mut self, question: &Question<'_>) -> Result<(), Unplaced> {
        let Question {
            fleet,
            policy,
            workload,
            targets,
            ..
        } = *question;
        let Some(gang) = &workload.gang else { return Ok(()) };
        self.note_tiers(question);
        let field = Field {
            tier: &self.tier,
            score: &self.score,
            available: &self.available,
        };
        select::rank(&mut self.ranked, &self.keep, &field);
        let previous = &self.previous;
        let runs = |at: &u32| {
            targets.has(*at as usize) && previous.get(*at as usize).is_some_and(|&replicas| replicas > 0)
        };
        let mut best = Fit::default();
        self.gang_fits.clear();
        let mut home = self.ranked.iter().copied().find(runs);
        for &at in &self.ranked {
            if home.is_some() {
                break;
            }
            let ready = question.dialect == Dialect::Karmada || !fleet.unready.has(at as usize);
            let known = fleet.nodes.get(at as usize).and_then(Option::as_ref);
            let found = match known.filter(|_| ready) {
                Some(nodes) => gang_fit::fit(gang, workload, nodes, &policy.hardware),
                None => {
                    let mut found = gang_fit::fit(gang, workload, &[], &policy.hardware);
                    // One member fits where a replica does; what the nodes are matters only to several.
                    if ready && found.wanted <= 1 && self.room.get(at as usize).is_some_and(|&room| room > 0)
                    {
                        found.fit = found.wanted;
                    }
                    found
                }
            };
            if found.fit == found.wanted {
                home = Some(at);
            }
            if found.fit >= best.fit {
                best = found.clone();
            }
            self.gang_fits.push((at, found));
        }
        let Some(home) = home else {
            self.ranked.clear();
            return Err(Unplaced::Gang {
                fit: best.fit,
                wanted: best.wanted,
                lacking: best.lacking,
            });
        };
        self.ranked.clear();
        self.ranked.push(home);
        self.assigned.clear();
        self.assigned.resize(fleet.len(), 0);
        if let Some(slot) = self.assigned.get_mut(home as usize) {
            *slot = workload.replicas.unwrap_or(0);
        }
        Ok(())
    }

    /// Divides the gangs as replicas are divided, by how many of them fit, and then counts replicas again.
    pub(super) fn place_sub_gangs(
        &mut self,
        question: &Question<'_>,
        gang: &Gang,
        of: SubGangs,
    ) -> Result<(), Unplaced> {
        let Question { fleet, policy, .. } = *question;
        let one = question.workload.clone().with_replicas(of.least());
        let previous = self.previous.clone();
        let room = self.room.clone();
        let clusters = &question.running.clusters;
        let total = clusters.iter().map(|(_, here)| u64::from(*here)).sum();
        self.previous = of.held(&previous, total);
        self.gang_fits.clear();
        for at in self.keep.iter() {
            let ready = question.dialect == Dialect::Karmada || !fleet.unready.has(at);
            let nodes = fleet.nodes.get(at).and_then(Option::as_deref).filter(|_| ready);
            let all = nodes.unwrap_or_default();
            let (mut fits, found) = sub_gangs::fits(gang, &one, all, &policy.hardware, of.count);
            // As for a single gang: what the nodes are matters only to several members.
            if ready && nodes.is_none() && found.wanted <= 1 {
                let replicas = room.get(at).copied().unwrap_or(0) / u64::from(of.least().max(1));
                fits = u32::try_from(replicas).unwrap_or(u32::MAX).min(of.count);
            }
            let held = self.previous.get(at).copied().unwrap_or(0);
            if fits == 0 && held == 0 {
                let at = u32::try_from(at).unwrap_or(u32::MAX);
                self.gang_fits.push((at, found));
            }
            if let Some(slot) = self.room.get_mut(at) {
                *slot = u64::from(fits);
            }
            if let Some(slot) = self.available.get_mut(at) {
                *slot = u64::from(fits) + u64::from(held);
            }
        }
        let outcome = self.choose_and_divide(question, of.count, None);
        if outcome.is_ok() {
            self.assigned = of.replicas(&self.assigned, &previous);
        }
        self.room = room;
        self.previous = previous;
        outcome.map_err(|unplaced| match unplaced {
            Unplaced::NoRoom { missing, .. } => Unplaced::SubGangs {
                fit: of
                    .count
                    .saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX)),
                wanted: of.count,
            },
            other => other,
        })
    }
}
