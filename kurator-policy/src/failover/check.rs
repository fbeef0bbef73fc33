use std::fmt;

use kurator_core::names::ClusterName;

use super::disruption::{TAINT_NOT_READY, TAINT_UNREACHABLE};
use super::facts::AppFacts;
use super::plan::{Action, Planned, Request, later};
use super::reason::Cause;
use super::rules::Purge;

/// An action that must not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailoverFlaw {
    /// A workload is evicted from where it is not.
    NotThere {
        /// The workload.
        app: String,
        /// The cluster.
        cluster: ClusterName,
    },
    /// A workload would be taken out too early: too few replicas would be ready.
    TooEarly {
        /// The workload.
        app: String,
        /// The cluster.
        cluster: ClusterName,
        /// Replicas that are ready elsewhere.
        ready: u32,
    },
    /// Something would be taken out where replicas are presumed to run.
    TouchesEdge {
        /// The workload.
        app: String,
        /// The cluster.
        cluster: ClusterName,
    },
    /// Evictions begin faster than they may.
    TooFast {
        /// How many begin now.
        evictions: usize,
    },
    /// A workload leaves for our own verdict about its cluster while most clusters are ill.
    InDisruption {
        /// The workload.
        app: String,
        /// The cluster.
        cluster: ClusterName,
    },
    /// A workload may return to a cluster that is not well, or has not been for long enough.
    ReturnsTooEarly {
        /// The workload.
        app: String,
        /// The cluster.
        cluster: ClusterName,
    },
}

impl fmt::Display for FailoverFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere { app, cluster } => write!(f, "{app} is evicted from {cluster}, where it is not"),
            Self::TooEarly { app, cluster, ready } => {
                write!(
                    f,
                    "{app} is taken out of {cluster} while {ready} replicas are ready elsewhere"
                )
            }
            Self::TouchesEdge { app, cluster } => {
                write!(
                    f,
                    "{app} is taken out of {cluster}, where replicas are presumed to run"
                )
            }
            Self::TooFast { evictions } => write!(f, "{evictions} evictions begin at once"),
            Self::InDisruption { app, cluster } => {
                write!(f, "{app} leaves {cluster} while most clusters are ill")
            }
            Self::ReturnsTooEarly { app, cluster } => write!(f, "{app} may return to {cluster} too early"),
        }
    }
}

/// Reads a plan one action at a time beside what it was made for; a right plan gives nothing.
#[must_use]
pub fn check(request: &Request<'_>, planned: &Planned) -> Vec<FailoverFlaw> {
    let mut flaws = Vec::new();
    let nobody = AppFacts::default();
    let mut evictions = 0;
    let (mut ready, mut ill) = (0_usize, 0_usize);
    for facts in request.clusters.values() {
        if facts.health.is_ready() {
            ready += 1;
        } else {
            ill += 1;
        }
    }
    let share = usize::from(request.guard.threshold_percent);
    let disrupted = ill > 0 && (ready == 0 || ill >= 3 && ill * 100 >= share * (ill + ready));
    for action in &planned.actions {
        match action {
            Action::Evict {
                app, cluster, cause, ..
            } => {
                evictions += 1;
                let by_verdict = matches!(cause, Cause::Tainted { taint }
                    if taint.starts_with(TAINT_UNREACHABLE) || taint.starts_with(TAINT_NOT_READY));
                if by_verdict && disrupted {
                    flaws.push(FailoverFlaw::InDisruption {
                        app: app.clone(),
                        cluster: cluster.clone(),
                    });
                }
                let facts = request.apps.get(app).unwrap_or(&nobody);
                if !facts.clusters.contains_key(cluster) || facts.evictions.contains_key(cluster) {
                    flaws.push(FailoverFlaw::NotThere {
                        app: app.clone(),
                        cluster: cluster.clone(),
                    });
                }
            }
            Action::Purge { app, cluster } => {
                let facts = request.apps.get(app).unwrap_or(&nobody);
                purged(request, planned, app, facts, cluster, &mut flaws);
            }
            Action::Forget { app, cluster } => {
                let facts = request.apps.get(app).unwrap_or(&nobody);
                let window = facts.rules.fail_back_window;
                let long = facts
                    .evictions
                    .get(cluster)
                    .is_some_and(|left| later(left.since, window) <= request.now);
                let well = request.clusters.get(cluster).is_some_and(|cluster| {
                    cluster.health.is_ready()
                        && cluster
                            .health
                            .since
                            .is_none_or(|since| later(since, window) <= request.now)
                });
                if !(long && well) {
                    flaws.push(FailoverFlaw::ReturnsTooEarly {
                        app: app.clone(),
                        cluster: cluster.clone(),
                    });
                }
            }
        }
    }
    let paced = request.pace.is_positive();
    let early = request
        .last_eviction
        .is_some_and(|last| later(last, request.pace) > request.now);
    if paced && evictions > usize::from(!early) {
        flaws.push(FailoverFlaw::TooFast { evictions });
    }
    flaws
}

fn purged(
    request: &Request<'_>,
    planned: &Planned,
    app: &str,
    facts: &AppFacts,
    cluster: &ClusterName,
    flaws: &mut Vec<FailoverFlaw>,
) {
    let Some(there) = facts.clusters.get(cluster) else {
        flaws.push(FailoverFlaw::NotThere {
            app: app.to_owned(),
            cluster: cluster.clone(),
        });
        return;
    };
    if there.presumed > 0 {
        flaws.push(FailoverFlaw::TouchesEdge {
            app: app.to_owned(),
            cluster: cluster.clone(),
        });
    }
    let left = planned.evictions.get(app).and_then(|all| all.get(cluster));
    let Some(left) = left.filter(|left| left.purge == Purge::Gracefully) else {
        return;
    };
    let mut ready = 0_u32;
    for (other, there) in &facts.clusters {
        if !facts.evictions.contains_key(other) {
            ready = ready.saturating_add(there.ready);
        }
    }
    if ready < facts.wanted && later(left.since, facts.rules.grace) > request.now {
        flaws.push(FailoverFlaw::TooEarly {
            app: app.to_owned(),
            cluster: cluster.clone(),
            ready,
        });
    }
}
