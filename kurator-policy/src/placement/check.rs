//! An independent reading of a placement: what is decided is held against the snapshot and the policy, cluster by
//! cluster, without the index or the planner.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::Toleration;
use kurator_core::observe::{ApiSupport, ClusterView, HealthStatus, Snapshot, TaintEffect};
use kurator_core::plan::Notes;
use kurator_core::reason::Reason;
use kurator_core::selector::{ClusterField as Field, LabelMatcher};

use super::decision::Placed;
use super::workload::{Running, Workload};
use crate::api::{
    ClusterAffinity, ClusterField, FieldOperator, Placement, ReplicaDivisionPreference, ReplicaScheduling,
    ReplicaSchedulingType, SpreadField,
};

/// A rule a placement breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// The cluster is not in the fleet, or about to leave it.
    UnknownCluster,
    /// The policy does not include the cluster.
    OutsideAffinity,
    /// The cluster has a taint that is not tolerated, and did not run the workload before.
    Repelled,
    /// The cluster does not serve the kind, and did not run the workload before.
    ApiMissing,
    /// The cluster is not ready and gets more replicas than it had.
    GrowsUnready,
    /// The workload is being evicted from the cluster.
    Evicting,
    /// The cluster gets more new replicas than fit.
    OverCommitted {
        /// The new replicas.
        added: u64,
        /// The ones that fit.
        room: u64,
    },
    /// The replicas do not add up.
    Total {
        /// What is placed, with what is said to be missing.
        placed: u64,
        /// What was asked for.
        wanted: u64,
    },
    /// A gang is divided between clusters.
    GangDivided {
        /// The gangs of the workload.
        gangs: u32,
    },
    /// The cluster has more or fewer replicas than the policy allows.
    OutsideLimits {
        /// Its replicas.
        replicas: u32,
    },
    /// The loss of one cluster would leave too little.
    LossTooLarge {
        /// What would be left.
        left: u64,
    },
    /// The clusters are in more groups than the spread allows.
    TooSpread {
        /// The groups.
        groups: usize,
        /// The groups allowed.
        allowed: u32,
    },
}

impl Reason for Breach {
    fn token(&self) -> &'static str {
        match self {
            Self::UnknownCluster => "UnknownCluster",
            Self::OutsideAffinity => "OutsideAffinity",
            Self::Repelled => "Repelled",
            Self::ApiMissing => "ApiMissing",
            Self::GrowsUnready => "GrowsUnready",
            Self::Evicting => "Evicting",
            Self::OverCommitted { .. } => "OverCommitted",
            Self::Total { .. } => "Total",
            Self::GangDivided { .. } => "GangDivided",
            Self::OutsideLimits { .. } => "OutsideLimits",
            Self::LossTooLarge { .. } => "LossTooLarge",
            Self::TooSpread { .. } => "TooSpread",
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCluster => f.write_str("it is not in the fleet, or leaves it"),
            Self::OutsideAffinity => f.write_str("the policy does not include it"),
            Self::Repelled => f.write_str("it has a taint that is not tolerated"),
            Self::ApiMissing => f.write_str("it does not serve the kind"),
            Self::GrowsUnready => f.write_str("it is not ready and gets more replicas"),
            Self::Evicting => f.write_str("the workload is being evicted from it"),
            Self::OverCommitted { added, room } => {
                write!(f, "it gets {added} new replicas and has room for {room}")
            }
            Self::Total { placed, wanted } => {
                write!(f, "{placed} replicas are accounted for, {wanted} were asked for")
            }
            Self::GangDivided { gangs } => {
                write!(
                    f,
                    "its replicas are not {gangs} gangs that are each in one cluster"
                )
            }
            Self::OutsideLimits { replicas } => write!(f, "the policy does not allow it {replicas} replicas"),
            Self::LossTooLarge { left } => write!(f, "the loss of one cluster would leave {left} replicas"),
            Self::TooSpread { groups, allowed } => {
                write!(f, "it is in {groups} groups, {allowed} are allowed")
            }
        }
    }
}

/// Checks one placement. An empty result means that no rule is broken.
///
/// Where replicas run today is taken as given: a cluster that is full or tainted keeps what it has.
pub fn check(
    fleet: &Snapshot,
    placement: &Placement,
    workload: &Workload,
    running: &Running,
    placed: &Placed,
) -> Notes {
    let mut notes = Notes::default();
    for (name, replicas) in &placed.clusters {
        let before = running
            .clusters
            .iter()
            .find(|(cluster, _)| name == cluster.as_str())
            .map(|(_, n)| *n);
        let Some(cluster) = fleet.get(name).filter(|cluster| !cluster.deleting) else {
            notes.error(name, &Breach::UnknownCluster);
            continue;
        };
        for breach in breaches(cluster, placement, workload, before, *replicas) {
            notes.error(name, &breach);
        }
        if running.evicting.iter().any(|evicting| name == evicting.as_str()) {
            notes.error(name, &Breach::Evicting);
        }
    }
    for breach in totals(fleet, placement, workload, running, placed) {
        notes.error(&workload.name, &breach);
    }
    notes
}

fn breaches(
    cluster: &ClusterView,
    placement: &Placement,
    workload: &Workload,
    before: Option<u32>,
    replicas: u32,
) -> Vec<Breach> {
    let mut found = Vec::new();
    let rebalances = scheduling(placement).is_some_and(|scheduling| scheduling.rebalancing.is_some());
    // On the way back to an earlier group a workload is in both.
    let underway = rebalances && before.is_some();
    if !(underway || included(cluster, placement)) {
        found.push(Breach::OutsideAffinity);
    }
    if before.is_none() {
        let repelled = cluster.taints.iter().any(|taint| {
            taint.effect != TaintEffect::PreferNoSchedule
                && !placement
                    .cluster_tolerations
                    .iter()
                    .any(|toleration| tolerated(toleration, taint))
        });
        if repelled {
            found.push(Breach::Repelled);
        }
        if cluster.apis.support(&workload.api_version, &workload.kind) == ApiSupport::Absent {
            found.push(Breach::ApiMissing);
        }
    }
    let added = u64::from(replicas.saturating_sub(before.unwrap_or(0)));
    if cluster.health.status == HealthStatus::NotReady
        && (added > 0 || before.is_none())
        && by_room(placement)
        // What is new of a gang stays with it.
        && !(before.is_some() && gang(placement, workload))
    {
        found.push(Breach::GrowsUnready);
    }
    let capped =
        by_room(placement) || scheduling(placement).is_some_and(|scheduling| scheduling.cap_by_capacity);
    if capped && !gang(placement, workload) && workload.replicas.is_some() {
        let room = room(cluster, workload);
        if added > room {
            found.push(Breach::OverCommitted { added, room });
        }
    }
    let limits = scheduling(placement).map_or(&[][..], |scheduling| &scheduling.cluster_limits);
    let outside = limits
        .iter()
        .filter(|limit| matches(cluster, &limit.target_cluster))
        .any(|limit| {
            replicas > limit.max_replicas.unwrap_or(u32::MAX) || replicas < limit.min_replicas.unwrap_or(0)
        });
    if outside
        && !gang(placement, workload)
        && !rebalances
        && divided(placement)
        && workload.replicas.is_some()
    {
        found.push(Breach::OutsideLimits { replicas });
    }
    found
}

fn totals(
    fleet: &Snapshot,
    placement: &Placement,
    workload: &Workload,
    running: &Running,
    placed: &Placed,
) -> Vec<Breach> {
    let mut found = Vec::new();
    let Some(replicas) = workload.replicas else {
        return found;
    };
    let wanted = u64::from(replicas);
    if divided(placement) || gang(placement, workload) {
        let sum = placed.replicas() + u64::from(placed.missing);
        if sum != wanted {
            found.push(Breach::Total { placed: sum, wanted });
        }
    } else if let Some((_, other)) = placed.clusters.iter().find(|(_, here)| *here != replicas) {
        found.push(Breach::Total {
            placed: u64::from(*other),
            wanted,
        });
    }
    if gang(placement, workload) && !whole_gangs(placement, workload, placed) {
        found.push(Breach::GangDivided {
            gangs: gangs(placement, workload),
        });
    }
    let survive = scheduling(placement).and_then(|scheduling| scheduling.survive_cluster_loss);
    if let Some(survive) = survive.filter(|_| divided(placement) && !gang(placement, workload)) {
        let largest = placed
            .clusters
            .iter()
            .map(|(_, here)| u64::from(*here))
            .max()
            .unwrap_or(0);
        let all = placed.replicas();
        let left = all - largest;
        let percent = u64::from(survive.min_available_percent.unwrap_or(0));
        let short = left < u64::from(survive.min_available.unwrap_or(0)) || left * 100 < percent * all;
        if short && running.clusters.is_empty() {
            found.push(Breach::LossTooLarge { left });
        }
    }
    // On the way back to an earlier group a workload is in both.
    let underway =
        placed.moving > 0 && scheduling(placement).is_some_and(|scheduling| scheduling.rebalancing.is_some());
    let by_weight = divided(placement) && !by_room(placement) && !aggregated(placement);
    for constraint in placement
        .spread_constraints
        .iter()
        .filter(|_| !by_weight && !underway && !gang(placement, workload))
    {
        let Some(allowed) = constraint.max_groups.filter(|max| *max > 0) else {
            continue;
        };
        let mut groups = BTreeSet::new();
        for cluster in placed.clusters.iter().filter_map(|(name, _)| fleet.get(name)) {
            let group = match (constraint.spread_by_field, &constraint.spread_by_label) {
                (Some(SpreadField::Cluster), _) => Some(cluster.name.as_str()),
                (Some(SpreadField::Provider), _) => cluster.provider.as_deref(),
                (Some(SpreadField::Region), _) => cluster.region.as_deref(),
                (Some(SpreadField::Zone), _) => cluster.zones.first().map(String::as_str),
                (None, Some(label)) => cluster.labels.get(label).map(String::as_str),
                (None, None) => None,
            };
            groups.extend(group);
        }
        if groups.len() > allowed as usize {
            found.push(Breach::TooSpread {
                groups: groups.len(),
                allowed,
            });
        }
    }
    found
}

fn scheduling(placement: &Placement) -> Option<&ReplicaScheduling> {
    placement
        .replica_scheduling
        .as_ref()
        .filter(|_| divided(placement))
}

fn divided(placement: &Placement) -> bool {
    placement.scheduling_type() == ReplicaSchedulingType::Divided
}

/// Whether the replicas go to one cluster together.
fn gang(placement: &Placement, workload: &Workload) -> bool {
    workload.gang.is_some() || (placement.gang.is_some() && workload.replicas.is_some())
}

/// How many gangs the replicas are.
fn gangs(placement: &Placement, workload: &Workload) -> u32 {
    let asked = match &workload.gang {
        Some(gang) => gang.sub_gangs.filter(|_| gang.roles.is_empty()),
        None => placement.gang.as_ref().and_then(|gang| gang.sub_gangs),
    };
    let most = workload.replicas.unwrap_or(0).max(1);
    asked.unwrap_or(1).clamp(1, most)
}

/// Whether the numbers can be made of whole gangs whose sizes differ by one at most.
fn whole_gangs(placement: &Placement, workload: &Workload, placed: &Placed) -> bool {
    let gangs = gangs(placement, workload);
    let replicas = workload.replicas.unwrap_or(0);
    let (least, most) = (replicas / gangs, replicas.div_ceil(gangs));
    let (mut fewest, mut greatest) = (0_u64, 0_u64);
    for &(_, here) in placed.clusters.iter().filter(|(_, here)| *here > 0) {
        let first = here.div_ceil(most.max(1));
        let last = here / least.max(1);
        if first > last {
            return false;
        }
        fewest += u64::from(first);
        greatest += u64::from(last);
    }
    replicas == 0 || (fewest..=greatest).contains(&u64::from(gangs))
}

fn aggregated(placement: &Placement) -> bool {
    scheduling(placement).and_then(|scheduling| scheduling.replica_division_preference)
        == Some(ReplicaDivisionPreference::Aggregated)
}

fn by_room(placement: &Placement) -> bool {
    let weights = scheduling(placement).and_then(|scheduling| scheduling.weight_preference.as_ref());
    aggregated(placement) || weights.is_some_and(|weights| weights.dynamic_weight.is_some())
}

fn included(cluster: &ClusterView, placement: &Placement) -> bool {
    if placement.cluster_affinities.is_empty() {
        return placement
            .cluster_affinity
            .as_ref()
            .is_none_or(|affinity| matches(cluster, affinity));
    }
    placement.cluster_affinities.iter().any(|term| {
        matches(cluster, &term.affinity())
            || term
                .overflow_affinities
                .iter()
                .any(|overflow| matches(cluster, &overflow.affinity()))
    })
}

fn matches(cluster: &ClusterView, affinity: &ClusterAffinity) -> bool {
    let named = |names: &[String]| names.iter().any(|name| cluster.name == name.as_str());
    let labelled = affinity.label_selector.as_ref().is_none_or(|selector| {
        LabelMatcher::compile(selector).is_ok_and(|matcher| matcher.matches(&cluster.labels))
    });
    let mut requirements = affinity
        .field_selector
        .iter()
        .flat_map(|selector| &selector.match_expressions);
    !named(&affinity.exclude)
        && (affinity.cluster_names.is_empty() || named(&affinity.cluster_names))
        && labelled
        && requirements.all(|requirement| {
            let field = match requirement.key {
                ClusterField::Provider => Field::Provider,
                ClusterField::Region => Field::Region,
                ClusterField::Zone => Field::Zone,
            };
            let one_of = field
                .values(cluster)
                .any(|value| requirement.values.iter().any(|other| other == value));
            one_of == (requirement.operator == FieldOperator::In)
        })
}

fn tolerated(toleration: &Toleration, taint: &kurator_core::observe::Taint) -> bool {
    let any =
        |own: &Option<String>, other: &str| own.as_deref().is_none_or(|own| own.is_empty() || own == other);
    let value = toleration.operator.as_deref() == Some("Exists")
        || toleration.value.as_deref().unwrap_or_default() == taint.value;
    any(&toleration.effect, taint.effect.as_str()) && any(&toleration.key, &taint.key) && value
}

/// The room by the sums alone; the planner may see less.
fn room(cluster: &ClusterView, workload: &Workload) -> u64 {
    let Some(sums) = &cluster.resources else {
        return u64::MAX;
    };
    let mut room = sums.free("pods").map_or(0, |pods| pods.value().max(0));
    for (name, wanted) in workload.request.iter().filter(|(_, wanted)| wanted.nano() > 0) {
        let free = sums.free(name).unwrap_or_default();
        let fits = if name == "cpu" {
            free.milli_value().max(0) / wanted.milli_value()
        } else {
            free.value().max(0) / wanted.value()
        };
        room = room.min(fits);
    }
    u64::try_from(room).unwrap_or(u64::MAX)
}
