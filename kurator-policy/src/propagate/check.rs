//! An independent reading of a plan: what must hold whatever led to it.

use std::{collections::BTreeMap, fmt};

use kurator_core::names::ClusterName;

use super::{ObjectKey, Planned, Rendered, Request};
use crate::api::ReplicaSchedulingType;

/// Something that must not be in a plan. A planner that gives one has a defect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanFlaw {
    /// A cluster that is not a member gets something.
    NoMember {
        /// The cluster.
        cluster: ClusterName,
    },
    /// An object is planned that is no template of the policy, or a template is not planned.
    NotATemplate {
        /// The object.
        object: ObjectKey,
    },
    /// What is sent is not the object it is filed under.
    AnotherObject {
        /// The object.
        object: ObjectKey,
        /// The cluster.
        cluster: ClusterName,
    },
    /// What is sent asks for another number of replicas than the plan says.
    Replicas {
        /// The object.
        object: ObjectKey,
        /// The cluster.
        cluster: ClusterName,
    },
    /// A move would break before it makes: fewer replicas would be ready than are wanted, and than there are.
    BelowWanted {
        /// The object.
        object: ObjectKey,
        /// Replicas that would be left ready.
        left: u64,
        /// Those that have to be.
        bound: u64,
    },
    /// Divided replicas do not add up to those of the template, or copies are not all of them.
    Sum {
        /// The object.
        object: ObjectKey,
        /// Replicas that were given out.
        planned: u64,
        /// Replicas the template asks for.
        desired: u64,
    },
}

impl fmt::Display for PlanFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMember { cluster } => write!(f, "{cluster} gets something and is not a member"),
            Self::NotATemplate { object } => write!(f, "{object} is not both a template and planned"),
            Self::AnotherObject { object, cluster } => {
                write!(f, "what {cluster} gets as {object} is another object")
            }
            Self::Replicas { object, cluster } => {
                write!(
                    f,
                    "{object} does not ask {cluster} for the replicas the plan names"
                )
            }
            Self::BelowWanted { object, left, bound } => {
                write!(
                    f,
                    "{left} replicas of {object} would be left ready, {bound} have to be"
                )
            }
            Self::Sum {
                object,
                planned,
                desired,
            } => {
                write!(
                    f,
                    "{planned} replicas of {object} are given out, {desired} are asked for"
                )
            }
        }
    }
}

/// Reads a plan against its request; a right plan gives nothing.
#[must_use]
pub fn check(request: &Request<'_>, planned: &Planned) -> Vec<PlanFlaw> {
    let mut flaws = Vec::new();
    let mut given: BTreeMap<&ObjectKey, u64> = BTreeMap::new();
    let frozen = request.suspension.is_some_and(|suspension| suspension.scheduling);
    let stays = |key: &ObjectKey| {
        frozen
            || request.placement_of(key).is_none()
            || planned.objects.get(key).is_some_and(|totals| totals.held)
    };
    let divided = |key: &ObjectKey| {
        let placement = request.placement_of(key);
        placement.is_none_or(|it| it.scheduling_type() == ReplicaSchedulingType::Divided)
    };
    for (cluster, member) in &planned.members {
        if request.fleet.get(cluster).is_none() {
            flaws.push(PlanFlaw::NoMember {
                cluster: cluster.clone(),
            });
        }
        for (key, object) in &member.objects {
            let Some(template) = request.templates.iter().find(|template| template.key == *key) else {
                flaws.push(PlanFlaw::NotATemplate { object: key.clone() });
                continue;
            };
            *given.entry(key).or_default() += u64::from(object.planned.unwrap_or(0));
            if !divided(key) && !stays(key) && !object.leaving && object.planned != template.replicas {
                let (planned, desired) = (object.planned.unwrap_or(0), template.replicas.unwrap_or(0));
                let (planned, desired) = (u64::from(planned), u64::from(desired));
                flaws.push(PlanFlaw::Sum {
                    object: key.clone(),
                    planned,
                    desired,
                });
            }
            if let Rendered::Manifest {
                manifest, applied, ..
            } = &object.rendered
            {
                if ObjectKey::of(manifest).as_ref() != Some(key) {
                    flaws.push(PlanFlaw::AnotherObject {
                        object: key.clone(),
                        cluster: cluster.clone(),
                    });
                }
                if request.interpreter.replicas(&key.kind, manifest) != *applied {
                    flaws.push(PlanFlaw::Replicas {
                        object: key.clone(),
                        cluster: cluster.clone(),
                    });
                }
            }
        }
    }
    for template in request.templates {
        let Some(totals) = planned.objects.get(&template.key) else {
            flaws.push(PlanFlaw::NotATemplate {
                object: template.key.clone(),
            });
            continue;
        };
        if let (Some(standing), Some(wanted), true) = (
            request.standing.get(&template.key),
            template.replicas,
            divided(&template.key),
        ) {
            let (mut today, mut left) = (0_u64, 0_u64);
            let clusters = standing.clusters.iter();
            for (cluster, stand) in clusters.filter(|(cluster, _)| !standing.dismissed.contains(*cluster)) {
                let object = planned
                    .members
                    .get(cluster)
                    .and_then(|member| member.objects.get(&template.key));
                let told = object.and_then(|object| object.told).unwrap_or(0);
                let ready = stand.ready.unwrap_or(0).min(stand.told);
                today += u64::from(ready);
                left += u64::from(ready.min(told));
            }
            let bound = u64::from(wanted).min(today);
            if left < bound {
                let object = template.key.clone();
                flaws.push(PlanFlaw::BelowWanted { object, left, bound });
            }
        }
        let planned = given.get(&template.key).copied().unwrap_or(0) + totals.missing;
        let desired = u64::from(template.replicas.unwrap_or(0));
        if divided(&template.key) && !stays(&template.key) && planned != desired {
            flaws.push(PlanFlaw::Sum {
                object: template.key.clone(),
                planned,
                desired,
            });
        }
    }
    flaws
}
