use std::fmt;

use jiff::Timestamp;
use kurator_core::names::ClusterName;

use super::{
    member::{Health, Member},
    plan::{Planned, Rollout},
};

/// A promise that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// More members of a stage would be in flight than it allows.
    TooManyInFlight {
        /// The stage, by its place.
        stage: usize,
        /// How many would be.
        in_flight: usize,
    },
    /// A member would be updated while one of an earlier stage is not finished.
    OutOfOrder {
        /// The member.
        cluster: ClusterName,
        /// The one that is not finished.
        before: ClusterName,
    },
    /// A member would get the target although too many failed.
    AfterFailure {
        /// The member.
        cluster: ClusterName,
    },
    /// A member would be given a target that was rolled back before.
    Condemned {
        /// The member.
        cluster: ClusterName,
    },
    /// A member of a stage without approval would be updated first.
    WithoutApproval {
        /// The member.
        cluster: ClusterName,
    },
    /// A member that cannot be reached, or that the rollout does not know, would be given the target.
    NotThere {
        /// The member.
        cluster: ClusterName,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyInFlight { stage, in_flight } => {
                write!(f, "{in_flight} members of stage {stage} in flight")
            }
            Self::OutOfOrder { cluster, before } => {
                write!(f, "{cluster} would be updated before {before} is finished")
            }
            Self::AfterFailure { cluster } => write!(f, "{cluster} would be updated after too many failures"),
            Self::Condemned { cluster } => write!(f, "{cluster} would be given what was rolled back"),
            Self::WithoutApproval { cluster } => write!(f, "{cluster} would be updated without approval"),
            Self::NotThere { cluster } => write!(f, "{cluster} would be updated but is not there"),
        }
    }
}

/// Reads a plan beside the rollout it was made for, one member at a time, and names every promise it breaks.
#[must_use]
pub fn check(rollout: &Rollout<'_>, now: Timestamp, planned: &Planned) -> Vec<Breach> {
    let mut breaches = Vec::new();
    if planned.revision != rollout.target {
        return breaches;
    }
    for cluster in &planned.update {
        if rollout.condemned {
            breaches.push(Breach::Condemned {
                cluster: cluster.clone(),
            });
        }
        let Some(member) = rollout
            .members
            .get(cluster)
            .filter(|member| member.away_since.is_none())
        else {
            breaches.push(Breach::NotThere {
                cluster: cluster.clone(),
            });
            continue;
        };
        let mine = stage_of(rollout, member);
        for (name, other) in rollout.members {
            if stage_of(rollout, other) < mine && other.away_since.is_none() && open(rollout, other, now) {
                breaches.push(Breach::OutOfOrder {
                    cluster: cluster.clone(),
                    before: name.clone(),
                });
            }
        }
        let approval = rollout
            .strategy
            .stages
            .get(mine)
            .is_some_and(|stage| stage.approval);
        let approved = rollout
            .strategy
            .stages
            .get(mine)
            .is_some_and(|stage| rollout.approved.contains(&stage.name));
        let begun = present(rollout, mine).any(|other| has_target(rollout, other));
        if approval && !approved && !begun {
            breaches.push(Breach::WithoutApproval {
                cluster: cluster.clone(),
            });
        }
    }
    for at in 0..=rollout.strategy.stages.len() {
        let all = rollout
            .members
            .values()
            .filter(|member| stage_of(rollout, member) == at)
            .count();
        let failed = present(rollout, at)
            .filter(|member| failed(rollout, member, now))
            .count();
        if failed > rollout.strategy.max_failures.tolerated(all) {
            let late = planned.update.iter().map(|cluster| Breach::AfterFailure {
                cluster: cluster.clone(),
            });
            breaches.extend(late);
        }
        let flying =
            present(rollout, at).filter(|member| has_target(rollout, member) && open(rollout, member, now));
        let new = planned
            .update
            .iter()
            .filter_map(|cluster| rollout.members.get(cluster));
        let new = new.filter(|member| stage_of(rollout, member) == at).count();
        let in_flight = flying.count() + new;
        let allowed = rollout
            .strategy
            .stages
            .get(at)
            .map_or(1, |stage| stage.max_concurrency.at_once(all));
        if new > 0 && in_flight > allowed {
            breaches.push(Breach::TooManyInFlight { stage: at, in_flight });
        }
    }
    breaches
}

fn present<'a>(rollout: &'a Rollout<'_>, stage: usize) -> impl Iterator<Item = &'a Member> {
    rollout
        .members
        .values()
        .filter(move |member| stage_of(rollout, member) == stage && member.away_since.is_none())
}

fn stage_of(rollout: &Rollout<'_>, member: &Member) -> usize {
    let stages = &rollout.strategy.stages;
    let fits = |labels: &std::collections::BTreeMap<String, String>| {
        labels
            .iter()
            .all(|(label, value)| member.labels.get(label).is_some_and(|has| has == value))
    };
    stages
        .iter()
        .take_while(|stage| !fits(&stage.labels) || !stage.selector.matches(&member.labels))
        .count()
}

fn has_target(rollout: &Rollout<'_>, member: &Member) -> bool {
    member.revision.as_deref() == Some(rollout.target)
}

fn failed(rollout: &Rollout<'_>, member: &Member, now: Timestamp) -> bool {
    has_target(rollout, member)
        && match member.health {
            Health::Failed { .. } => true,
            Health::Updating { since } => now.duration_since(since) >= rollout.strategy.progress_deadline,
            Health::Healthy { .. } => false,
        }
}

/// Neither proven good nor given up.
fn open(rollout: &Rollout<'_>, member: &Member, now: Timestamp) -> bool {
    if !has_target(rollout, member) {
        return true;
    }
    let soak = rollout
        .strategy
        .stages
        .get(stage_of(rollout, member))
        .map(|stage| stage.soak)
        .unwrap_or_default();
    match member.health {
        Health::Healthy { since } => now.duration_since(since) < soak,
        Health::Updating { .. } => !failed(rollout, member, now),
        Health::Failed { .. } => false,
    }
}
