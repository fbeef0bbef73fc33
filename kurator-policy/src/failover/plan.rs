use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Toleration;
use kurator_core::names::ClusterName;
use kurator_core::observe::{Taint, TaintEffect};
use kurator_core::report::Report;

use super::disruption::{Disruption, DisruptionGuard, is_verdict};
use super::facts::{AppFacts, AppInCluster, ClusterFacts, Eviction};
use super::reason::{Cause, FailoverReason};
use super::rules::Purge;
use crate::placement::Running;

/// Everything a failover plan depends on.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "the input of one pure function; a new fact is a new decision"
)]
pub struct Request<'a> {
    /// The workloads by name.
    pub apps: &'a BTreeMap<String, AppFacts>,
    /// The clusters.
    pub clusters: &'a BTreeMap<ClusterName, ClusterFacts>,
    /// The least time between two evictions; zero does not pace them.
    pub pace: SignedDuration,
    /// From when on it is more likely us who are cut off than the clusters.
    pub guard: DisruptionGuard,
    /// When the last eviction began.
    pub last_eviction: Option<Timestamp>,
    /// The time of the plan.
    pub now: Timestamp,
}

impl Request<'_> {
    fn disruption(&self) -> Option<Disruption> {
        let ill = self.clusters.values().filter(|facts| !facts.health.is_ready());
        self.guard.judge(ill.count(), self.clusters.len())
    }
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Action {
    /// The workload begins to leave: place it anew, without the cluster.
    Evict {
        /// The workload.
        app: String,
        /// The cluster.
        cluster: ClusterName,
        /// Why.
        cause: Cause,
        /// How it is taken out there.
        purge: Purge,
    },
    /// Take it out of the cluster now.
    Purge {
        /// The workload.
        app: String,
        /// The cluster.
        cluster: ClusterName,
    },
    /// Forget that it left: it may be placed there again.
    Forget {
        /// The workload.
        app: String,
        /// The cluster.
        cluster: ClusterName,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evict {
                app, cluster, cause, ..
            } => write!(f, "{app} leaves {cluster}: {cause}"),
            Self::Purge { app, cluster } => write!(f, "{app} is taken out of {cluster}"),
            Self::Forget { app, cluster } => write!(f, "{app} may return to {cluster}"),
        }
    }
}

/// What to do now, why, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Planned {
    /// What to do, in order: what is due longest comes first.
    pub actions: Vec<Action>,
    /// The evictions of every workload as they are once the actions are carried out; keep them for the next plan.
    pub evictions: BTreeMap<String, BTreeMap<ClusterName, Eviction>>,
    /// What becomes of each workload in each cluster, as `workload in cluster`.
    pub reasons: Report<String, FailoverReason>,
    /// When to look again although nothing happened.
    pub wake_at: Option<Timestamp>,
    /// Whether so many clusters are ill that nothing leaves them for it.
    pub disruption: Option<Disruption>,
    /// Workloads in clusters that would leave, or be on their way to it, were it not for that.
    pub held: usize,
}

impl Planned {
    /// What a workload is to be placed anew with: where it runs and where it may not.
    ///
    /// Of a cluster it is leaving nothing counts as running, so what it has there is placed elsewhere.
    #[must_use]
    pub fn running(&self, name: &str, app: &AppFacts) -> Running {
        let nothing = BTreeMap::new();
        let leaving = self.evictions.get(name).unwrap_or(&nothing);
        let stays = app
            .clusters
            .iter()
            .filter(|(cluster, _)| !leaving.contains_key(*cluster));
        let mut running = Running::new(stays.map(|(cluster, there)| (cluster.as_str(), there.replicas)));
        running.evicting = leaving.keys().map(ToString::to_string).collect();
        running
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.actions
            .iter()
            .try_for_each(|action| writeln!(f, "{action}"))?;
        self.reasons.fmt(f)
    }
}

/// A workload that is due to leave a cluster.
struct Due {
    at: Timestamp,
    app: String,
    cluster: ClusterName,
    cause: Cause,
    purge: Purge,
}

/// Says who leaves which cluster now, who is taken out, and who may return.
///
/// # Guarantees
/// Pure: the order of nothing reaches the result. A workload is taken out gracefully only when as many replicas as are
/// wanted are ready elsewhere, or its grace is over. Nothing is taken out of a cluster where replicas are presumed to
/// run on edge nodes.
///
/// ```
/// use std::collections::BTreeMap;
/// use jiff::SignedDuration;
/// use kurator_core::observe::{Health, Taint, TaintEffect};
/// use kurator_policy::failover::{
///     AppFacts, AppInCluster, ClusterFacts, DisruptionGuard, FailoverRules, Request, plan,
/// };
///
/// let lost = Taint::new("unreachable", TaintEffect::NoExecute);
/// let clusters = BTreeMap::from([
///     ("paris".parse()?, ClusterFacts::new(Health::unknown("Timeout")).with_taint(lost)),
///     ("oslo".parse()?, ClusterFacts::new(Health::ready())),
/// ]);
/// let web = AppFacts::new(4, FailoverRules::default())
///     .with_cluster("paris".parse()?, AppInCluster::ready(3))
///     .with_cluster("oslo".parse()?, AppInCluster::ready(1));
/// let apps = BTreeMap::from([("shop/web".to_owned(), web)]);
/// let planned = plan(&Request {
///     apps: &apps,
///     clusters: &clusters,
///     pace: SignedDuration::ZERO,
///     guard: DisruptionGuard::default(),
///     last_eviction: None,
///     now: "2026-01-02T03:04:05Z".parse()?,
/// });
/// assert_eq!(planned.actions[0].to_string(), "shop/web leaves paris: the cluster has the taint unreachable:NoExecute");
/// let running = planned.running("shop/web", &apps["shop/web"]);
/// assert_eq!((running.clusters, running.evicting), (vec![("oslo".to_owned(), 1)], vec!["paris".to_owned()]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn plan(request: &Request<'_>) -> Planned {
    let mut planned = Planned {
        disruption: request.disruption(),
        ..Planned::default()
    };
    let mut due = Vec::new();
    for (name, app) in request.apps {
        planned.evictions.insert(name.clone(), app.evictions.clone());
        for (cluster, there) in &app.clusters {
            if app.evictions.contains_key(cluster) {
                continue;
            }
            look(request, name, app, cluster, there, &mut planned, &mut due);
        }
        for (cluster, eviction) in &app.evictions {
            follow(request, name, app, cluster, eviction, &mut planned);
        }
    }
    due.sort_by(|a, b| (a.at, &a.app, &a.cluster).cmp(&(b.at, &b.app, &b.cluster)));
    let mut next = request
        .last_eviction
        .map_or(request.now, |last| later(last, request.pace).max(request.now));
    for due in due {
        let subject = subject(&due.app, &due.cluster);
        if next > request.now {
            planned.wake(next);
            let (cause, until) = (due.cause, next);
            planned
                .reasons
                .add(subject, FailoverReason::Paced { cause, until });
            next = later(next, request.pace);
            continue;
        }
        next = later(next, request.pace);
        begin(request, due, subject, &mut planned);
    }
    planned
}

fn begin(request: &Request<'_>, due: Due, subject: String, planned: &mut Planned) {
    let cause = due.cause.clone();
    planned.reasons.add(subject, FailoverReason::Leaves { cause });
    let there = request
        .apps
        .get(&due.app)
        .and_then(|app| app.clusters.get(&due.cluster));
    let presumed = there.map_or(0, |there| there.presumed);
    planned.actions.push(Action::Evict {
        app: due.app.clone(),
        cluster: due.cluster.clone(),
        cause: due.cause.clone(),
        purge: due.purge,
    });
    let purged = due.purge == Purge::Directly && presumed == 0;
    if purged {
        planned.actions.push(Action::Purge {
            app: due.app.clone(),
            cluster: due.cluster.clone(),
        });
    }
    let eviction = Eviction {
        cause: due.cause,
        since: request.now,
        purge: due.purge,
        released: false,
        purged,
    };
    planned
        .evictions
        .entry(due.app)
        .or_default()
        .insert(due.cluster, eviction);
}

/// A workload that is in a cluster and is not leaving it.
fn look(
    request: &Request<'_>,
    name: &str,
    app: &AppFacts,
    cluster: &ClusterName,
    there: &AppInCluster,
    planned: &mut Planned,
    due: &mut Vec<Due>,
) {
    let subject = subject(name, cluster);
    let now = request.now;
    let mut causes: Vec<(Option<Timestamp>, Cause, Purge)> = Vec::new();
    let mut held = None;
    for taint in request
        .clusters
        .get(cluster)
        .iter()
        .flat_map(|facts| &facts.taints)
    {
        if taint.effect != TaintEffect::NoExecute {
            continue;
        }
        let cause = Cause::Tainted {
            taint: taint.to_string(),
        };
        if let Some(disruption) = planned.disruption
            && is_verdict(taint)
        {
            if !matches!(tolerated(&app.tolerations, taint), Tolerated::ForEver) {
                held = Some(FailoverReason::HeldInDisruption { cause, disruption });
            }
            continue;
        }
        match tolerated(&app.tolerations, taint) {
            Tolerated::ForEver => {}
            Tolerated::No => causes.push((
                Some(taint.time_added.unwrap_or(now)),
                cause,
                app.rules.cluster_purge,
            )),
            Tolerated::For(window) => match taint.time_added {
                Some(added) => causes.push((Some(later(added, window)), cause, app.rules.cluster_purge)),
                None => {
                    let taint = taint.to_string();
                    planned
                        .reasons
                        .add(subject.clone(), FailoverReason::TaintWithoutTime { taint });
                }
            },
        }
    }
    // What runs on nodes that are cut off is not seen to be healthy, and is not unhealthy for that.
    let short = there.ready.saturating_add(there.presumed) < there.replicas;
    if let Some(since) = there.unhealthy_since.filter(|_| app.rules.application && short) {
        let at = later(since, app.rules.tolerate_unhealthy);
        causes.push((Some(at), Cause::Unhealthy { since }, app.rules.application_purge));
    }
    if let Some(since) = there.cut_off_since.filter(|_| there.presumed > 0)
        && let Some(at) = app.rules.lost_edge.due(since)
    {
        causes.push((Some(at), Cause::EdgeLost { since }, app.rules.cluster_purge));
    }
    // A taint of a cluster whose edge nodes are cut off says nothing about what runs on them.
    if there.presumed > 0 && there.presumed == there.replicas {
        causes.retain(|(_, cause, _)| matches!(cause, Cause::EdgeLost { .. }));
        held = None;
    }
    causes.sort();
    let Some((Some(at), cause, purge)) = causes.into_iter().next() else {
        if let Some(held) = held {
            planned.held += 1;
            planned.reasons.add(subject, held);
        } else if planned.reasons.of(&subject).is_empty() {
            planned.reasons.add(subject, FailoverReason::Stays);
        }
        return;
    };
    if at > now {
        planned.wake(at);
        planned
            .reasons
            .add(subject, FailoverReason::Tolerated { cause, until: at });
        return;
    }
    due.push(Due {
        at,
        app: name.to_owned(),
        cluster: cluster.clone(),
        cause,
        purge,
    });
}

/// A workload that leaves a cluster, or has left it.
fn follow(
    request: &Request<'_>,
    name: &str,
    app: &AppFacts,
    cluster: &ClusterName,
    eviction: &Eviction,
    planned: &mut Planned,
) {
    let subject = subject(name, cluster);
    let now = request.now;
    if let Some(there) = app.clusters.get(cluster)
        && !eviction.purged
    {
        if there.presumed > 0 {
            let presumed = there.presumed;
            planned
                .reasons
                .add(subject, FailoverReason::Deferred { presumed });
            return;
        }
        let elsewhere = app
            .clusters
            .iter()
            .filter(|(other, _)| !app.evictions.contains_key(*other))
            .fold(0_u32, |sum, (_, there)| sum.saturating_add(there.ready));
        let until = later(eviction.since, app.rules.grace);
        let goes = match eviction.purge {
            Purge::Directly => true,
            Purge::Gracefully => elsewhere >= app.wanted || until <= now,
            Purge::Never => eviction.released,
        };
        if goes {
            planned.actions.push(Action::Purge {
                app: name.to_owned(),
                cluster: cluster.clone(),
            });
            if let Some(eviction) = planned
                .evictions
                .get_mut(name)
                .and_then(|all| all.get_mut(cluster))
            {
                eviction.purged = true;
            }
            let cause = eviction.cause.clone();
            planned.reasons.add(subject, FailoverReason::Leaves { cause });
        } else if eviction.purge == Purge::Never {
            planned.reasons.add(subject, FailoverReason::KeptUntilReleased);
        } else {
            planned.wake(until);
            let reason = FailoverReason::KeptUntilReplaced {
                ready: elsewhere,
                wanted: app.wanted,
                until,
            };
            planned.reasons.add(subject, reason);
        }
        return;
    }
    // It is gone, or told to go. It may return to a cluster that is well, and has been for long enough.
    let well = request.clusters.get(cluster).filter(|facts| {
        let repelled = facts.taints.iter().any(|taint| {
            taint.effect != TaintEffect::PreferNoSchedule
                && !matches!(tolerated(&app.tolerations, taint), Tolerated::ForEver)
        });
        facts.health.is_ready() && !repelled
    });
    let since = well.map(|facts| facts.health.since.unwrap_or(eviction.since).max(eviction.since));
    let until = since.map(|since| later(since, app.rules.fail_back_window));
    match until {
        Some(until) if until <= now && !app.clusters.contains_key(cluster) => {
            planned.actions.push(Action::Forget {
                app: name.to_owned(),
                cluster: cluster.clone(),
            });
            if let Some(all) = planned.evictions.get_mut(name) {
                all.remove(cluster);
            }
            planned.reasons.add(subject, FailoverReason::MayReturn);
        }
        until => {
            if let Some(until) = until.filter(|until| *until > now) {
                planned.wake(until);
            }
            planned
                .reasons
                .add(subject, FailoverReason::MayNotReturn { until });
        }
    }
}

enum Tolerated {
    No,
    For(SignedDuration),
    ForEver,
}

/// How long a taint is tolerated: of several tolerations for it, the shortest time counts.
fn tolerated(tolerations: &[Toleration], taint: &Taint) -> Tolerated {
    let matching = tolerations
        .iter()
        .filter(|toleration| taint.tolerated_by(std::slice::from_ref(*toleration)).is_some());
    let mut found = false;
    let mut least: Option<i64> = None;
    for toleration in matching {
        found = true;
        if let Some(seconds) = toleration.toleration_seconds {
            least = Some(least.map_or(seconds, |least| least.min(seconds)));
        }
    }
    match (found, least) {
        (false, _) => Tolerated::No,
        (true, None) => Tolerated::ForEver,
        (true, Some(seconds)) => Tolerated::For(SignedDuration::from_secs(seconds.max(0))),
    }
}

pub(super) fn subject(app: &str, cluster: &ClusterName) -> String {
    format!("{app} in {cluster}")
}

pub(super) fn later(since: Timestamp, by: SignedDuration) -> Timestamp {
    since.checked_add(by).unwrap_or(Timestamp::MAX)
}
