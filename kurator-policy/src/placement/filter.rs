//! Which clusters may run a workload at all.

use super::bits::Bits;
use super::index::FleetIndex;
use super::options::Dialect;
use super::plugins::Plugins;
use super::policy::{Group, How, Prepared, SpreadBy, repels, tolerates};
use super::reason::ClusterReason;
use super::workload::{Running, Workload};

/// The question the filters answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) fleet: &'a FleetIndex,
    pub(super) policy: &'a Prepared,
    pub(super) group: &'a Group,
    pub(super) workload: &'a Workload,
    pub(super) running: &'a Running,
    /// Clusters the workload is placed in today.
    pub(super) targets: &'a Bits,
    pub(super) dialect: Dialect,
}

impl Question<'_> {
    /// The clusters of the affinity group: with those that take its overflow, unless nothing can overflow.
    fn included(&self) -> Option<&Bits> {
        let by_room = matches!(self.policy.how, How::Available | How::Aggregated);
        let overflows = by_room || self.dialect == Dialect::Karmada;
        if self.workload.replicas.is_some() && overflows {
            Some(&self.group.any)
        } else {
            self.group.tiers.first()
        }
    }

    /// Leaves in `keep` the clusters that pass.
    pub(super) fn filter(&self, keep: &mut Bits, scratch: &mut Bits, plugins: &Plugins<'_>) {
        let Self {
            fleet,
            policy,
            targets,
            ..
        } = *self;
        match self.included() {
            Some(included) => keep.copy_from(included),
            None => *keep = Bits::none(fleet.len()),
        }
        keep.and_not(&fleet.deleting);
        let (served, discovered) = fleet.serving(&self.workload.api_version, &self.workload.kind);
        scratch.copy_from(discovered);
        scratch.invert();
        if let Some(served) = served {
            scratch.or(served);
        }
        scratch.or(targets);
        keep.and(scratch);
        scratch.copy_from(&policy.repelled);
        scratch.and_not(targets);
        keep.and_not(scratch);
        if self.dialect == Dialect::Kurator {
            scratch.copy_from(&fleet.unready);
            scratch.and_not(targets);
            keep.and_not(scratch);
        }
        for level in policy.levels.iter().filter(|level| self.counts(&level.by)) {
            keep.and(&level.grouped);
        }
        for at in self
            .running
            .evicting
            .iter()
            .filter_map(|name| fleet.position(name).ok())
        {
            keep.set(at, false);
        }
        policy.hardware.filter(keep, targets);
        if !plugins.filters.is_empty() {
            scratch.copy_from(keep);
            for at in scratch.iter() {
                let Some(name) = fleet.names.get(at) else { continue };
                if plugins
                    .filters
                    .iter()
                    .any(|filter| filter.objection(self.workload, name).is_some())
                {
                    keep.set(at, false);
                }
            }
        }
    }

    /// Whether a cluster without a group of this kind is dropped.
    fn counts(&self, by: &SpreadBy) -> bool {
        self.dialect == Dialect::Kurator || matches!(by, SpreadBy::Field(_))
    }

    /// The first reason for which a cluster was dropped; `None` if it passes.
    pub(super) fn objection(&self, at: usize, plugins: &Plugins<'_>) -> Option<ClusterReason> {
        let Self {
            fleet,
            policy,
            workload,
            ..
        } = *self;
        let target = self.targets.has(at);
        if !self.included().is_some_and(|included| included.has(at)) {
            return Some(ClusterReason::NotInAffinity {
                group: self.group.name.clone(),
            });
        }
        if fleet.deleting.has(at) {
            return Some(ClusterReason::Deleting);
        }
        let (served, discovered) = fleet.serving(&workload.api_version, &workload.kind);
        if discovered.has(at) && !served.is_some_and(|served| served.has(at)) && !target {
            return Some(ClusterReason::ApiMissing {
                api_version: workload.api_version.clone(),
                kind: workload.kind.clone(),
            });
        }
        if policy.repelled.has(at) && !target {
            let mut taints = fleet
                .taints
                .iter()
                .filter(|(_, tainted)| tainted.has(at))
                .map(|(taint, _)| taint);
            let taint = taints.find(|taint| repels(taint) && !tolerates(&policy.tolerations, taint));
            return Some(ClusterReason::Tainted {
                taint: taint.map(ToString::to_string).unwrap_or_default(),
            });
        }
        if self.dialect == Dialect::Kurator && fleet.unready.has(at) && !target {
            return Some(ClusterReason::NotReady);
        }
        let mut levels = policy.levels.iter().filter(|level| self.counts(&level.by));
        if let Some(level) = levels.find(|level| !level.grouped.has(at)) {
            return Some(ClusterReason::NotGrouped {
                by: level.by.to_string(),
            });
        }
        let name = fleet.names.get(at)?;
        if self
            .running
            .evicting
            .iter()
            .any(|evicting| name == evicting.as_str())
        {
            return Some(ClusterReason::Evicting);
        }
        let mut hardware = policy.hardware.constraints.iter();
        let short = hardware.find_map(|constraint| {
            let found = constraint.found(at, target);
            (found < constraint.wanted).then(|| ClusterReason::HardwareMissing {
                resource: constraint.asked.name.clone(),
                found,
                wanted: constraint.wanted,
            })
        });
        if short.is_some() {
            return short;
        }
        plugins.filters.iter().find_map(|filter| {
            let objection = filter.objection(workload, name)?;
            Some(ClusterReason::FilteredByHost {
                filter: filter.name().to_owned(),
                objection,
            })
        })
    }
}
