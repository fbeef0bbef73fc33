//! The reasons of one pass, read from what it left behind.

use std::collections::BTreeMap;

use kurator_core::names::ClusterName;
use kurator_core::reason::Reason;
use kurator_core::report::Report;

use super::Planner;
use crate::placement::bits::Bits;
use crate::placement::capacity;
use crate::placement::filter::Question;
use crate::placement::options::{Detail, Dialect};
use crate::placement::policy::How;
use crate::placement::reason::{ClusterReason, Limit, ShareOf, Unplaced};

impl Planner<'_> {
    pub(super) fn nobody(&self, question: &Question<'_>) -> Unplaced {
        let mut dropped = BTreeMap::<String, usize>::new();
        if self.options.detail == Detail::Full {
            for at in 0..question.fleet.len() {
                if let Some(reason) = question.objection(at, &self.plugins) {
                    *dropped.entry(reason.token().to_owned()).or_default() += 1;
                }
            }
        }
        Unplaced::NoCluster {
            clusters: question.fleet.len(),
            dropped: dropped.into_iter().collect(),
        }
    }

    pub(super) fn give_reasons(
        &self,
        question: &Question<'_>,
        divided: bool,
        reasons: &mut Report<ClusterName, ClusterReason>,
    ) {
        let Question {
            fleet,
            workload,
            policy,
            running,
            ..
        } = *question;
        let kept = |at: usize| self.keep.has(at);
        let runs: u64 = self.previous.iter().map(|&replicas| u64::from(replicas)).sum();
        let wanted = u64::from(workload.replicas.unwrap_or(0));
        let chosen = {
            let mut chosen = Bits::none(fleet.len());
            for &at in &self.ranked {
                chosen.set(at as usize, true);
            }
            chosen
        };
        let total: u64 = match &policy.how {
            How::Static(weights) => chosen
                .iter()
                .filter_map(|at| weights.get(at))
                .fold(0, |sum, w| sum.saturating_add(*w)),
            _ => 0,
        };
        for (at, name) in fleet.names.iter().enumerate() {
            if !kept(at) {
                if let Some(objection) = question.objection(at, &self.plugins) {
                    reasons.add(name.clone(), objection);
                }
                continue;
            }
            if workload.replicas.is_some() && !matches!(policy.how, How::Static(_) | How::Duplicated) {
                let room = self.room.get(at).copied().unwrap_or(0);
                let limit = if self.options.dialect == Dialect::Kurator && fleet.unready.has(at) {
                    Limit::NotReady
                } else {
                    capacity::limit(at, room, fleet, workload, &policy.hardware)
                };
                reasons.add(
                    name.clone(),
                    ClusterReason::Room {
                        replicas: room,
                        limit,
                    },
                );
            }
            let tried = self.gang_fits.iter().find(|(tried, _)| *tried as usize == at);
            if let Some((_, found)) =
                tried.filter(|(_, found)| workload.gang.is_some() && found.fit < found.wanted)
            {
                let reason = ClusterReason::GangDoesNotFit {
                    fit: found.fit,
                    wanted: found.wanted,
                    lacking: found.lacking.clone(),
                };
                reasons.add(name.clone(), reason);
                continue;
            }
            if !divided {
                continue;
            }
            if !chosen.has(at) {
                // A group of which nobody was chosen, the outermost first.
                let passed_over =
                    policy
                        .levels
                        .iter()
                        .filter(|level| !level.is_cluster())
                        .find_map(|level| {
                            let own = *level.group.get(at)?;
                            let unused = !chosen.iter().any(|other| level.group.get(other) == Some(&own));
                            unused.then(|| {
                                level
                                    .names
                                    .get(own as usize)
                                    .map(|name| format!("{} {name}", level.by))
                            })?
                        });
                reasons.add(name.clone(), ClusterReason::Outranked { group: passed_over });
                continue;
            }
            let share = match &policy.how {
                _ if workload.replicas.is_none() => ShareOf::NotDivided,
                _ if workload.gang.is_some() => ShareOf::Gang,
                How::Duplicated => ShareOf::Copy,
                How::Static(weights) => match weights.get(at) {
                    Some(&weight) if total > 0 => ShareOf::Weight { weight, total },
                    _ => ShareOf::Weight {
                        weight: 1,
                        total: chosen.count() as u64,
                    },
                },
                _ if running.fresh => ShareOf::Fresh,
                _ if runs == wanted => ShareOf::Kept,
                _ if runs < wanted => ShareOf::Grown,
                _ => ShareOf::Shrunk,
            };
            let replicas = self.assigned.get(at).copied().unwrap_or(0);
            let previous = running
                .clusters
                .iter()
                .find(|(cluster, _)| name == cluster.as_str())
                .map_or(0, |(_, replicas)| *replicas);
            reasons.add(
                name.clone(),
                ClusterReason::Assigned {
                    replicas,
                    previous,
                    share,
                },
            );
        }
    }
}
