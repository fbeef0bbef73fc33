//! Which cluster a gang is tried in next.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use kurator_core::names::ClusterName;

/// A gang on its way to a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dispatch<'a> {
    /// The clusters it may go to, the best first: the one the placement chose, then the others it would fit.
    pub order: &'a [ClusterName],
    /// Where something of it is, or is not known not to be.
    pub seen: &'a BTreeMap<ClusterName, Presence>,
    /// The clusters that were given up, and when.
    pub tried: &'a BTreeMap<ClusterName, Timestamp>,
    /// How long it may be pending in a cluster before the next one is tried.
    pub patience: SignedDuration,
    /// When it moves: whether it may run in the new cluster before it has left the old one.
    pub two_copies: bool,
}

impl<'a> Dispatch<'a> {
    /// A gang that was tried nowhere, with a patience of five minutes, that never runs twice.
    #[must_use]
    pub fn new(
        order: &'a [ClusterName],
        seen: &'a BTreeMap<ClusterName, Presence>,
        tried: &'a BTreeMap<ClusterName, Timestamp>,
    ) -> Self {
        Self {
            order,
            seen,
            tried,
            patience: SignedDuration::from_mins(5),
            two_copies: false,
        }
    }

    /// Sets how long it may be pending.
    #[must_use]
    pub fn with_patience(mut self, patience: SignedDuration) -> Self {
        self.patience = patience;
        self
    }

    /// Lets it run twice while it moves.
    #[must_use]
    pub fn with_two_copies(mut self) -> Self {
        self.two_copies = true;
        self
    }
}

/// What is seen of a gang in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "it waits, it runs, it goes, or nobody knows"
)]
pub enum Presence {
    /// It is there and does not run.
    Pending {
        /// Since when.
        since: Timestamp,
    },
    /// Its minimum runs.
    Running,
    /// It was deleted and is not gone.
    Leaving,
    /// The cluster cannot be asked; it may run there.
    Unknown,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum NextStep {
    /// Create it there.
    Create {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Take it away there, and write the cluster down as tried if it was given up.
    Remove {
        /// The cluster.
        cluster: ClusterName,
        /// Whether it waited there in vain.
        given_up: bool,
    },
    /// Do nothing before that time, or before something changes.
    Wait {
        /// For what.
        why: &'static str,
        /// Until when, if time alone decides.
        until: Option<Timestamp>,
    },
    /// It runs where it is meant to.
    Settled {
        /// The cluster.
        cluster: ClusterName,
    },
    /// There is no cluster for it.
    Nowhere,
}

impl fmt::Display for NextStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { cluster } => write!(f, "create it in {cluster}"),
            Self::Remove {
                cluster,
                given_up: true,
            } => write!(f, "remove it from {cluster}, where it waited in vain"),
            Self::Remove { cluster, .. } => write!(f, "remove it from {cluster}, it belongs elsewhere"),
            Self::Wait { why, until: None } => write!(f, "wait: {why}"),
            Self::Wait {
                why,
                until: Some(until),
            } => write!(f, "wait until {until}: {why}"),
            Self::Settled { cluster } => write!(f, "it runs in {cluster}"),
            Self::Nowhere => f.write_str("no cluster can take it"),
        }
    }
}

/// Says what to do next about a gang.
///
/// It is created only where nothing of it is left anywhere else, so it is never in two clusters at once, unless
/// [`two_copies`](Dispatch::two_copies) allows the old one to run until the new one does. A cluster that cannot be
/// asked counts as having it. When it was given up everywhere, the cluster that was tried longest ago comes again.
///
/// ```
/// use std::collections::BTreeMap;
/// use kurator_policy::gangs::{Dispatch, NextStep, Presence, dispatch};
///
/// let order = ["a".parse()?, "b".parse()?];
/// let sent = "2026-01-02T03:00:00Z".parse()?;
/// let seen = BTreeMap::from([("a".parse()?, Presence::Pending { since: sent })]);
/// let tried = BTreeMap::new();
/// let gang = Dispatch::new(&order, &seen, &tried);
/// let step = dispatch(&gang, "2026-01-02T03:04:00Z".parse()?);
/// assert_eq!(step.to_string(), "wait until 2026-01-02T03:05:00Z: it is pending");
/// let step = dispatch(&gang, "2026-01-02T03:05:00Z".parse()?);
/// assert_eq!(step, NextStep::Remove { cluster: "a".parse()?, given_up: true });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn dispatch(gang: &Dispatch<'_>, now: Timestamp) -> NextStep {
    let rank = |cluster: &ClusterName| {
        gang.order
            .iter()
            .position(|other| other == cluster)
            .unwrap_or(usize::MAX)
    };
    let mut present: Vec<(&ClusterName, Presence)> = gang.seen.iter().map(|(c, seen)| (c, *seen)).collect();
    present.sort_by_key(|(cluster, seen)| (*seen != Presence::Running, rank(cluster), (*cluster).clone()));
    let candidates: Vec<&ClusterName> = gang
        .order
        .iter()
        .filter(|cluster| !gang.tried.contains_key(*cluster))
        .collect();
    let again = || {
        gang.order
            .iter()
            .min_by_key(|cluster| (gang.tried.get(*cluster), rank(cluster)))
    };
    let target = candidates.first().copied().or_else(again);
    match present.as_slice() {
        [] => match target {
            Some(cluster) => NextStep::Create {
                cluster: cluster.clone(),
            },
            None => NextStep::Nowhere,
        },
        [(cluster, seen)] => alone(gang, cluster, *seen, target, now),
        [(first, seen), rest @ ..] => {
            let moving = gang.two_copies && rest.len() == 1 && target.is_some();
            if moving {
                return arrive(&present, target);
            }
            // Never twice: the one that runs stays, or the best placed.
            let surplus = rest
                .iter()
                .find(|(_, seen)| matches!(seen, Presence::Pending { .. } | Presence::Running));
            match surplus {
                Some((cluster, _)) if *seen != Presence::Leaving || *cluster != *first => NextStep::Remove {
                    cluster: (*cluster).clone(),
                    given_up: false,
                },
                _ => NextStep::Wait {
                    why: "it is not known to be gone elsewhere",
                    until: None,
                },
            }
        }
    }
}

/// It is in one cluster.
fn alone(
    gang: &Dispatch<'_>,
    cluster: &ClusterName,
    seen: Presence,
    target: Option<&ClusterName>,
    now: Timestamp,
) -> NextStep {
    let misplaced = !gang.order.contains(cluster);
    match seen {
        Presence::Leaving => NextStep::Wait {
            why: "it is not gone yet",
            until: None,
        },
        Presence::Unknown => NextStep::Wait {
            why: "its cluster cannot be asked, and it may run there",
            until: None,
        },
        Presence::Running if !misplaced => NextStep::Settled {
            cluster: cluster.clone(),
        },
        Presence::Running | Presence::Pending { .. } if misplaced => match target {
            Some(target) if gang.two_copies && seen == Presence::Running => NextStep::Create {
                cluster: target.clone(),
            },
            Some(_) => NextStep::Remove {
                cluster: cluster.clone(),
                given_up: false,
            },
            None => NextStep::Wait {
                why: "there is no other cluster for it",
                until: None,
            },
        },
        Presence::Running => NextStep::Settled {
            cluster: cluster.clone(),
        },
        Presence::Pending { since } => {
            let until = since
                .min(now)
                .checked_add(gang.patience)
                .unwrap_or(Timestamp::MAX);
            let other = gang.order.iter().any(|other| other != cluster);
            if now < until {
                NextStep::Wait {
                    why: "it is pending",
                    until: Some(until),
                }
            } else if other {
                NextStep::Remove {
                    cluster: cluster.clone(),
                    given_up: true,
                }
            } else {
                NextStep::Wait {
                    why: "it is pending, and there is no other cluster for it",
                    until: None,
                }
            }
        }
    }
}

/// It is in two clusters, and may be while it moves: the old one goes once the new one runs.
fn arrive(present: &[(&ClusterName, Presence)], target: Option<&ClusterName>) -> NextStep {
    let at_target = present.iter().find(|(cluster, _)| Some(*cluster) == target);
    let elsewhere = present.iter().find(|(cluster, _)| Some(*cluster) != target);
    match (at_target, elsewhere) {
        (Some((_, Presence::Running)), Some((old, Presence::Running | Presence::Pending { .. }))) => {
            NextStep::Remove {
                cluster: (*old).clone(),
                given_up: false,
            }
        }
        (Some((_, Presence::Running)), _) => NextStep::Wait {
            why: "it is not gone yet elsewhere",
            until: None,
        },
        _ => NextStep::Wait {
            why: "it does not run in the new cluster yet",
            until: None,
        },
    }
}

/// A step that must not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DispatchFlaw {
    /// It would be in two clusters.
    Twice {
        /// Where it is created.
        cluster: ClusterName,
        /// Where something of it is.
        other: ClusterName,
    },
    /// It would go where it may not.
    OutsideOrder {
        /// The cluster.
        cluster: ClusterName,
    },
    /// It would be removed where it runs and belongs.
    RemovesRunning {
        /// The cluster.
        cluster: ClusterName,
    },
}

impl fmt::Display for DispatchFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice { cluster, other } => write!(f, "it is created in {cluster} and is in {other}"),
            Self::OutsideOrder { cluster } => write!(f, "it may not go to {cluster}"),
            Self::RemovesRunning { cluster } => write!(f, "it runs alone in {cluster}, where it belongs"),
        }
    }
}

/// Reads a step against what is seen; a right step gives nothing.
#[must_use]
pub fn check(gang: &Dispatch<'_>, step: &NextStep) -> Option<DispatchFlaw> {
    match step {
        NextStep::Create { cluster } => {
            if !gang.order.contains(cluster) {
                return Some(DispatchFlaw::OutsideOrder {
                    cluster: cluster.clone(),
                });
            }
            let other = gang.seen.iter().find(|(_, seen)| {
                // One that runs where it does not belong may be joined by its successor.
                !(gang.two_copies && gang.seen.len() == 1 && **seen == Presence::Running)
            });
            other.map(|(other, _)| DispatchFlaw::Twice {
                cluster: cluster.clone(),
                other: other.clone(),
            })
        }
        NextStep::Remove { cluster, .. } => {
            let runs = gang.seen.get(cluster) == Some(&Presence::Running);
            let alone = gang
                .seen
                .values()
                .filter(|seen| **seen == Presence::Running)
                .count()
                == 1;
            (runs && alone && gang.order.contains(cluster) && gang.seen.len() == 1).then(|| {
                DispatchFlaw::RemovesRunning {
                    cluster: cluster.clone(),
                }
            })
        }
        _ => None,
    }
}
