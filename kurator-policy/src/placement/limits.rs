//! What a policy demands of a division beyond its strategy.

use super::index::{FleetIndex, Values};
use super::policy::matching;
use super::policy_error::PolicyError;
use super::spread::NO_GROUP;
use crate::api::{ClusterField, Placement, Rebalancing, ScalePath};
use crate::replicas::{Bounds, Survive};

/// The demands of one policy, by position.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) bounds: Vec<Bounds>,
    pub(super) cap_by_room: bool,
    pub(super) partial: bool,
    pub(super) path_independent: bool,
    pub(super) survive: Option<Survive>,
    pub(super) hierarchy: Vec<WeightedLevel>,
    pub(super) rebalancing: Option<Rebalancing>,
}

/// One level of a division by groups.
#[derive(Clone, Debug)]
pub(super) struct WeightedLevel {
    /// The group of each cluster.
    pub(super) group: Vec<u32>,
    /// The weight of each group; groups are numbered in the order of their names.
    pub(super) weights: Vec<u64>,
}

impl Limits {
    /// The demands of a policy; `None` if it has none, which keeps the plain strategies plain.
    pub(super) fn new(placement: &Placement, fleet: &FleetIndex) -> Result<Option<Self>, PolicyError> {
        let Some(scheduling) = &placement.replica_scheduling else {
            return Ok(None);
        };
        let levels = scheduling
            .weight_preference
            .as_ref()
            .map_or(&[][..], |weights| &weights.hierarchy);
        // Gangs are never more than their nodes hold, whatever the weights.
        let gangs = placement
            .gang
            .as_ref()
            .is_some_and(|gang| gang.sub_gangs.is_some());
        let cap_by_room = scheduling.cap_by_capacity || gangs;
        let plain = scheduling.cluster_limits.is_empty()
            && !cap_by_room
            && !scheduling.partial_placement
            && scheduling.scale_path != Some(ScalePath::PathIndependent)
            && scheduling.survive_cluster_loss.is_none()
            && scheduling.rebalancing.is_none()
            && levels.is_empty();
        if plain {
            return Ok(None);
        }
        let mut bounds = vec![Bounds::default(); fleet.len()];
        for (index, limit) in scheduling.cluster_limits.iter().enumerate() {
            let field = format!("clusterLimits[{index}]");
            let (min, max) = (
                limit.min_replicas.unwrap_or(0),
                limit.max_replicas.unwrap_or(u32::MAX),
            );
            if min > max {
                return Err(PolicyError::LimitRange { at: field, min, max });
            }
            for at in matching(&limit.target_cluster, fleet, &field)?.iter() {
                if let Some(bound) = bounds.get_mut(at) {
                    *bound = Bounds {
                        min: bound.min.max(min),
                        max: bound.max.min(max),
                    };
                }
            }
        }
        for (bound, name) in bounds.iter().zip(fleet.names()) {
            if bound.min > bound.max {
                let at = format!("clusterLimits for {name}");
                return Err(PolicyError::LimitRange {
                    at,
                    min: bound.min,
                    max: bound.max,
                });
            }
        }
        let survive = match &scheduling.survive_cluster_loss {
            None => None,
            Some(asked) => match (asked.min_available, asked.min_available_percent) {
                (Some(replicas), None) => Some(Survive::Replicas(replicas)),
                (None, Some(percent)) => Some(Survive::Percent(percent)),
                _ => return Err(PolicyError::SurviveClusterLoss),
            },
        };
        Ok(Some(Self {
            bounds,
            cap_by_room,
            partial: scheduling.partial_placement,
            path_independent: scheduling.scale_path == Some(ScalePath::PathIndependent),
            survive,
            hierarchy: levels
                .iter()
                .enumerate()
                .map(|(index, level)| WeightedLevel::new(index, level, fleet))
                .collect::<Result<_, _>>()?,
            rebalancing: scheduling.rebalancing.clone(),
        }))
    }
}

impl WeightedLevel {
    fn new(index: usize, level: &crate::api::WeightLevel, fleet: &FleetIndex) -> Result<Self, PolicyError> {
        let empty = Values::default();
        let values = match (level.group_by_field, &level.group_by_label) {
            (Some(ClusterField::Provider), None) => &fleet.provider,
            (Some(ClusterField::Region), None) => &fleet.region,
            (Some(ClusterField::Zone), None) => &fleet.zone,
            (None, Some(label)) => fleet.labels.get(label).unwrap_or(&empty),
            _ => return Err(PolicyError::GroupBy { index }),
        };
        let mut group = vec![NO_GROUP; fleet.len()];
        let mut weights = Vec::with_capacity(values.of.len());
        for ((name, members), number) in values.of.iter().zip(0_u32..) {
            let listed = level.weights.iter().filter(|entry| entry.group == *name);
            weights.push(listed.map(|entry| entry.weight.get()).max().unwrap_or(0));
            for at in members.iter() {
                // A cluster that spans several zones counts as the first of them.
                if let Some(slot) = group.get_mut(at).filter(|slot| **slot == NO_GROUP) {
                    *slot = number;
                }
            }
        }
        Ok(Self { group, weights })
    }
}
