//! The levels of a spread: what the clusters are grouped by, and how many groups there may be.

use super::bits::Bits;
use super::index::{FleetIndex, Values};
use super::options::Dialect;
use super::policy::SpreadBy;
use super::policy_error::PolicyError;
use crate::api::{SpreadConstraint, SpreadField};

/// No group.
pub(super) const NO_GROUP: u32 = u32::MAX;

/// One spread constraint with the group of every cluster.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) by: SpreadBy,
    pub(super) min: usize,
    pub(super) max: usize,
    /// The group of each cluster by position, [`NO_GROUP`] without one. Empty for the level of the clusters.
    pub(super) group: Vec<u32>,
    /// The names of the groups, sorted.
    pub(super) names: Vec<String>,
    /// Clusters that are in a group.
    pub(super) grouped: Bits,
}

impl Level {
    pub(super) fn new(
        index: usize,
        constraint: &SpreadConstraint,
        fleet: &FleetIndex,
        dialect: Dialect,
    ) -> Result<Self, PolicyError> {
        let by = match (constraint.spread_by_field, &constraint.spread_by_label) {
            (Some(field), None) => SpreadBy::Field(field),
            (None, Some(label)) => SpreadBy::Label(label.clone()),
            _ => return Err(PolicyError::SpreadBy { index }),
        };
        let (min, max) = (
            constraint.min_groups.unwrap_or(0),
            constraint.max_groups.unwrap_or(0),
        );
        if max > 0 && min > max {
            return Err(PolicyError::SpreadRange { index, min, max });
        }
        let (min, max) = match dialect {
            Dialect::Karmada => (min as usize, max as usize),
            Dialect::Kurator => (
                min.max(1) as usize,
                if max == 0 { usize::MAX } else { max as usize },
            ),
        };
        let empty = Values::default();
        let values = match &by {
            SpreadBy::Field(SpreadField::Cluster) => None,
            SpreadBy::Field(SpreadField::Provider) => Some(&fleet.provider),
            SpreadBy::Field(SpreadField::Region) => Some(&fleet.region),
            SpreadBy::Field(SpreadField::Zone) => Some(&fleet.zone),
            SpreadBy::Label(label) => Some(fleet.labels.get(label).unwrap_or(&empty)),
        };
        let Some(values) = values else {
            let grouped = Bits::all(fleet.len());
            return Ok(Self {
                by,
                min,
                max,
                group: Vec::new(),
                names: Vec::new(),
                grouped,
            });
        };
        let mut group = vec![NO_GROUP; fleet.len()];
        let mut names = Vec::new();
        let mut grouped = Bits::none(fleet.len());
        for (number, (name, bits)) in values.of.iter().enumerate() {
            names.push(name.clone());
            for at in bits.iter() {
                // A cluster that spans several zones counts as the first of them.
                if !grouped.has(at)
                    && let (Some(slot), Ok(number)) = (group.get_mut(at), u32::try_from(number))
                {
                    *slot = number;
                    grouped.set(at, true);
                }
            }
        }
        Ok(Self {
            by,
            min,
            max,
            group,
            names,
            grouped,
        })
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.by == SpreadBy::Field(SpreadField::Cluster)
    }
}
