//! A policy prepared for one fleet: its selectors answered, its weights laid out.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kurator_core::observe::{Taint, TaintEffect};
use kurator_core::selector::LabelMatcher;

use super::bits::Bits;
use super::gang::Gang;
use super::hardware::Hardware;
use super::index::FleetIndex;
use super::limits::Limits;
use super::options::Dialect;
use super::policy_error::PolicyError;
use super::spread::Level;
use super::workload::Workload;
use crate::api::{
    ClusterAffinity, ClusterField, FieldOperator, GangRequirement, Placement, ReplicaDivisionPreference,
    ReplicaSchedulingType, SpreadField,
};

/// A [`Placement`] prepared for one [`FleetIndex`]. It is out of date when the index changes.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The affinity groups in order; one without a name if the policy has none.
    pub(super) groups: Vec<Group>,
    /// Clusters with a taint that keeps new workloads away, and that taint.
    pub(super) repelled: Bits,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) levels: Vec<Level>,
    pub(super) how: How,
    pub(super) hardware: Hardware,
    /// `None` if the policy demands nothing beyond its strategy.
    pub(super) limits: Option<Limits>,
    /// What of a workload must run together, for those that do not say so themselves.
    pub(super) gang: Option<GangRequirement>,
}

/// One affinity group: its own clusters, then those of each group that takes what does not fit.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: Option<String>,
    pub(super) tiers: Vec<Bits>,
    /// All tiers together.
    pub(super) any: Bits,
}

/// How replicas are divided, with static weights by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    Duplicated,
    Static(Vec<u64>),
    Available,
    Aggregated,
}

impl Prepared {
    /// Prepares a policy.
    ///
    /// # Errors
    /// [`PolicyError`] naming the field that cannot be used.
    pub fn new(placement: &Placement, fleet: &FleetIndex, dialect: Dialect) -> Result<Self, PolicyError> {
        sub_gangs(placement)?;
        Ok(Self {
            groups: groups(placement, fleet)?,
            repelled: repelled(&placement.cluster_tolerations, fleet)?,
            tolerations: placement.cluster_tolerations.clone(),
            levels: levels(placement, fleet, dialect)?,
            how: how(placement, fleet)?,
            hardware: Hardware::new(placement, fleet),
            limits: Limits::new(placement, fleet)?,
            gang: placement.gang.clone(),
        })
    }

    /// The gang a workload is: its own, or the one the policy makes of it.
    pub(super) fn gang_of<'w>(&self, workload: &'w Workload) -> Option<Cow<'w, Gang>> {
        if let Some(gang) = &workload.gang {
            return Some(Cow::Borrowed(gang));
        }
        let asked = self.gang.as_ref()?;
        let replicas = workload.replicas?;
        let least = asked
            .sub_gangs
            .filter(|&count| count > 1)
            .map_or(replicas, |count| replicas / count.min(replicas.max(1)));
        Some(Cow::Owned(Gang {
            min: asked.min_available.unwrap_or(least),
            topology: asked.topology_key.clone(),
            sub_gangs: asked.sub_gangs,
            ..Gang::default()
        }))
    }
}

/// What counts replicas cannot be asked of a division that counts gangs.
fn sub_gangs(placement: &Placement) -> Result<(), PolicyError> {
    if placement
        .gang
        .as_ref()
        .is_none_or(|gang| gang.sub_gangs.is_none())
    {
        return Ok(());
    }
    let with = match &placement.replica_scheduling {
        _ if placement.scheduling_type() == ReplicaSchedulingType::Duplicated => {
            "replicaSchedulingType: Duplicated"
        }
        Some(scheduling) if !scheduling.cluster_limits.is_empty() => "clusterLimits",
        Some(scheduling) if scheduling.survive_cluster_loss.is_some() => "surviveClusterLoss",
        Some(scheduling) if scheduling.rebalancing.is_some() => "rebalancing",
        Some(scheduling) if scheduling.partial_placement => "partialPlacement",
        _ => return Ok(()),
    };
    Err(PolicyError::SubGangs { with })
}

fn groups(placement: &Placement, fleet: &FleetIndex) -> Result<Vec<Group>, PolicyError> {
    if placement.cluster_affinity.is_some() && !placement.cluster_affinities.is_empty() {
        return Err(PolicyError::TwoAffinities);
    }
    if placement.cluster_affinities.is_empty() {
        let bits = match &placement.cluster_affinity {
            Some(affinity) => matching(affinity, fleet, "clusterAffinity")?,
            None => Bits::all(fleet.len()),
        };
        return Ok(vec![Group {
            name: None,
            any: bits.clone(),
            tiers: vec![bits],
        }]);
    }
    let mut groups = Vec::with_capacity(placement.cluster_affinities.len());
    for term in &placement.cluster_affinities {
        let at = format!("clusterAffinities {:?}", term.affinity_name);
        let first = matching(&term.affinity(), fleet, &at)?;
        let mut any = first.clone();
        let mut tiers = vec![first];
        for overflow in &term.overflow_affinities {
            let at = format!("overflowAffinities {:?}", overflow.affinity_name);
            let mut own = matching(&overflow.affinity(), fleet, &at)?;
            // A cluster belongs to the first tier that has it.
            own.and_not(&any);
            any.or(&own);
            tiers.push(own);
        }
        groups.push(Group {
            name: Some(term.affinity_name.clone()),
            tiers,
            any,
        });
    }
    Ok(groups)
}

/// The clusters an affinity describes.
pub(super) fn matching(
    affinity: &ClusterAffinity,
    fleet: &FleetIndex,
    at: &str,
) -> Result<Bits, PolicyError> {
    let len = fleet.len();
    let mut bits = if affinity.cluster_names.is_empty() {
        Bits::all(len)
    } else {
        named(&affinity.cluster_names, fleet)
    };
    if let Some(selector) = &affinity.label_selector {
        bits.and(&labelled(selector, fleet, at)?);
    }
    for requirement in affinity
        .field_selector
        .iter()
        .flat_map(|selector| &selector.match_expressions)
    {
        let values = match requirement.key {
            ClusterField::Provider => &fleet.provider,
            ClusterField::Region => &fleet.region,
            ClusterField::Zone => &fleet.zone,
        };
        let found = values.one_of(&requirement.values, len);
        match requirement.operator {
            FieldOperator::In => bits.and(&found),
            FieldOperator::NotIn => bits.and_not(&found),
        }
    }
    bits.and_not(&named(&affinity.exclude, fleet));
    Ok(bits)
}

fn named(names: &[String], fleet: &FleetIndex) -> Bits {
    let mut bits = Bits::none(fleet.len());
    for at in names.iter().filter_map(|name| fleet.position(name).ok()) {
        bits.set(at, true);
    }
    bits
}

fn labelled(selector: &LabelSelector, fleet: &FleetIndex, at: &str) -> Result<Bits, PolicyError> {
    // What the API server would refuse is refused here; what follows may rely on known operators.
    LabelMatcher::compile(selector).map_err(|source| PolicyError::Selector {
        at: at.to_owned(),
        source: Box::new(source),
    })?;
    let len = fleet.len();
    let mut bits = Bits::all(len);
    for (key, value) in selector.match_labels.iter().flatten() {
        let found = fleet.labels.get(key).and_then(|values| values.of.get(value));
        bits.and(found.unwrap_or(&Bits::none(len)));
    }
    for requirement in selector.match_expressions.iter().flatten() {
        let own = fleet.labels.get(&requirement.key);
        let mut found = match (own, requirement.operator.as_str()) {
            (Some(values), "In" | "NotIn") => values.one_of(requirement.values.iter().flatten(), len),
            (Some(values), _) => values.any(len),
            (None, _) => Bits::none(len),
        };
        if matches!(requirement.operator.as_str(), "NotIn" | "DoesNotExist") {
            found.invert();
        }
        bits.and(&found);
    }
    Ok(bits)
}

fn repelled(tolerations: &[Toleration], fleet: &FleetIndex) -> Result<Bits, PolicyError> {
    for toleration in tolerations {
        let operator = toleration.operator.as_deref().unwrap_or_default();
        if !matches!(operator, "" | "Equal" | "Exists") {
            return Err(PolicyError::Toleration {
                key: toleration.key.clone().unwrap_or_default(),
                operator: operator.to_owned(),
            });
        }
    }
    let mut bits = Bits::none(fleet.len());
    for (taint, tainted) in &fleet.taints {
        if repels(taint) && !tolerates(tolerations, taint) {
            bits.or(tainted);
        }
    }
    Ok(bits)
}

/// Whether a taint keeps new workloads away.
pub(super) fn repels(taint: &Taint) -> bool {
    matches!(taint.effect, TaintEffect::NoSchedule | TaintEffect::NoExecute)
}

/// Whether one of the tolerations is for this taint.
pub(super) fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect.as_str())
            && (key.is_empty() || key == taint.key)
            && match toleration.operator.as_deref() {
                Some("Exists") => true,
                _ => toleration.value.as_deref().unwrap_or_default() == taint.value,
            }
    })
}

fn levels(placement: &Placement, fleet: &FleetIndex, dialect: Dialect) -> Result<Vec<Level>, PolicyError> {
    let mut levels: Vec<Level> = Vec::with_capacity(placement.spread_constraints.len());
    for (index, constraint) in placement.spread_constraints.iter().enumerate() {
        let level = Level::new(index, constraint, fleet, dialect)?;
        if levels.iter().any(|other| other.by == level.by) {
            return Err(PolicyError::SpreadTwice {
                index,
                by: level.by.to_string(),
            });
        }
        levels.push(level);
    }
    Ok(levels)
}

fn how(placement: &Placement, fleet: &FleetIndex) -> Result<How, PolicyError> {
    let Some(scheduling) = &placement.replica_scheduling else {
        return Ok(How::Duplicated);
    };
    if scheduling.scheduling_type() == ReplicaSchedulingType::Duplicated {
        return Ok(How::Duplicated);
    }
    if scheduling.replica_division_preference == Some(ReplicaDivisionPreference::Aggregated) {
        return Ok(How::Aggregated);
    }
    let Some(weights) = &scheduling.weight_preference else {
        return Ok(How::Static(vec![1; fleet.len()]));
    };
    if weights.dynamic_weight.is_some() {
        return Ok(How::Available);
    }
    let mut by_position = vec![0; fleet.len()];
    for (index, entry) in weights.static_weight_list.iter().enumerate() {
        let bits = matching(
            &entry.target_cluster,
            fleet,
            &format!("staticWeightList[{index}]"),
        )?;
        for at in bits.iter() {
            if let Some(weight) = by_position.get_mut(at) {
                *weight = entry.weight.get().max(*weight);
            }
        }
    }
    Ok(How::Static(by_position))
}

/// What a level of a spread groups clusters by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SpreadBy {
    Field(SpreadField),
    Label(String),
}

impl std::fmt::Display for SpreadBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Field(SpreadField::Cluster) => f.write_str("cluster"),
            Self::Field(SpreadField::Provider) => f.write_str("provider"),
            Self::Field(SpreadField::Region) => f.write_str("region"),
            Self::Field(SpreadField::Zone) => f.write_str("zone"),
            Self::Label(label) => write!(f, "label {label}"),
        }
    }
}
