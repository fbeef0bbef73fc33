//! Which objects of a policy leave which clusters in this pass, and which may return.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Toleration, apimachinery::pkg::apis::meta::v1::Time};
use kurator_core::{
    names::ClusterName,
    observe::{ClusterView, HealthStatus, Snapshot, Taint, TaintEffect},
};

use super::{decide::reports_only, memory::Memory, policy::Policy, presumed::Presumed};
use crate::{
    api::{
        DistributionPolicySpec, DistributionPolicyStatus, FailedOver, FailoverBehavior, FailoverCause,
        Placement, PurgeMode,
    },
    failover::{
        Action, AppFacts, AppInCluster, Cause, ClusterFacts, Disruption, DisruptionGuard, Eviction,
        FailoverRules, Planned, Purge, Request, TAINT_NOT_READY, TAINT_UNREACHABLE, edge::LostEdge, plan,
    },
    placement::Running,
    propagate::{ObjectKey, Otherwise, Standing, Template},
};

/// The name of everything without replicas, which leaves a cluster with the last that has some.
const REST: &str = "*";

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct FailoverPass {
    /// What has left or is leaving, to be written before it is acted upon.
    pub(super) failovers: Vec<FailedOver>,
    /// When to look again although nothing happened.
    pub(super) wake_at: Option<Timestamp>,
    /// Whether something stays only because so many clusters are ill.
    pub(super) held: Option<Disruption>,
}

/// Everything a pass looks at.
pub(super) struct Situation<'a> {
    pub(super) policy: &'a Policy,
    pub(super) spec: &'a DistributionPolicySpec,
    /// The objects for which another placement holds.
    pub(super) otherwise: &'a Otherwise,
    pub(super) previous: Option<&'a DistributionPolicyStatus>,
    pub(super) templates: &'a [Template],
    pub(super) fleet: &'a Snapshot,
    pub(super) presumed: &'a Presumed,
    pub(super) pace: SignedDuration,
    pub(super) guard: DisruptionGuard,
    pub(super) now: Timestamp,
}

/// Takes out of `running` what leaves, and says in `standing` what is kept for now and what goes at once.
pub(super) fn fail_over(
    situation: &Situation<'_>,
    memory: &mut Memory,
    running: &mut BTreeMap<ObjectKey, Running>,
    standing: &mut BTreeMap<ObjectKey, Standing>,
) -> FailoverPass {
    let Situation {
        policy, spec, now, ..
    } = *situation;
    let Some(behavior) = &spec.failover else {
        return FailoverPass::default();
    };
    memory.look(situation.fleet, situation.guard, now);
    let objects: BTreeSet<&ObjectKey> = situation.templates.iter().map(|template| &template.key).collect();
    memory.keep(&policy.key, &objects);
    let apps = apps(situation, behavior, memory, standing);
    let clusters = situation.fleet.clusters();
    let clusters = clusters.map(|view| (view.name.clone(), facts(view, behavior, memory, now)));
    let request = Request {
        apps: &apps,
        clusters: &clusters.collect(),
        pace: situation.pace,
        guard: situation.guard,
        last_eviction: memory.last_eviction,
        now,
    };
    let planned = if reports_only(spec) {
        as_it_is(&apps)
    } else {
        plan(&request)
    };
    for action in &planned.actions {
        tracing::info!(policy = %policy.key, "{action}");
        if matches!(action, Action::Evict { .. }) {
            memory.last_eviction = Some(now);
        }
    }
    let mut failovers = Vec::new();
    let nothing = BTreeMap::new();
    for template in situation.templates {
        let key = &template.key;
        let name = match template.replicas {
            Some(_) => name(key),
            None => REST.to_owned(),
        };
        let evictions = planned.evictions.get(&name).unwrap_or(&nothing);
        if evictions.is_empty() {
            continue;
        }
        let running = running.entry(key.clone()).or_default();
        let leaves = |cluster: &str| evictions.keys().any(|name| name.as_str() == cluster);
        running.clusters.retain(|(cluster, _)| !leaves(cluster));
        running.evicting = evictions.keys().map(ToString::to_string).collect();
        let standing = standing.entry(key.clone()).or_default();
        for (cluster, eviction) in evictions {
            if eviction.purged {
                standing.dismissed.insert(cluster.clone());
            } else {
                standing.leaving.insert(cluster.clone());
            }
        }
        if template.replicas.is_some() {
            failovers.extend(written(key, evictions));
        }
    }
    stay_with_replicas(situation.templates, standing);
    if let Some(evictions) = planned.evictions.get(REST) {
        failovers.extend(written((REST, REST, REST), evictions));
    }
    failovers.sort_by(|a, b| {
        let key = |it: &FailedOver| {
            (
                it.api_version.clone(),
                it.kind.clone(),
                it.name.clone(),
                it.cluster.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    FailoverPass {
        failovers,
        wake_at: planned.wake_at,
        held: planned.disruption.filter(|_| planned.held > 0),
    }
}

/// Whatever has left stays away, and nothing else leaves or returns: what a member is not told cannot be held against it.
fn as_it_is(apps: &BTreeMap<String, AppFacts>) -> Planned {
    let evictions = apps
        .iter()
        .map(|(name, app)| (name.clone(), app.evictions.clone()));
    Planned {
        evictions: evictions.filter(|(_, evictions)| !evictions.is_empty()).collect(),
        ..Planned::default()
    }
}

/// What pods use stays as long as there are pods.
fn stay_with_replicas(templates: &[Template], standing: &mut BTreeMap<ObjectKey, Standing>) {
    let mut used = BTreeSet::new();
    for template in templates.iter().filter(|template| template.replicas.is_some()) {
        let Some(standing) = standing.get(&template.key) else {
            continue;
        };
        let there = standing
            .clusters
            .keys()
            .filter(|cluster| !standing.dismissed.contains(*cluster));
        used.extend(there.cloned());
    }
    for template in templates.iter().filter(|template| template.replicas.is_none()) {
        let Some(standing) = standing.get_mut(&template.key) else {
            continue;
        };
        let (kept, gone) = std::mem::take(&mut standing.dismissed)
            .into_iter()
            .partition(|cluster| used.contains(cluster));
        standing.dismissed = gone;
        standing.leaving.extend::<BTreeSet<ClusterName>>(kept);
    }
}

fn name(key: &ObjectKey) -> String {
    format!("{} {key}", key.kind.api_version)
}

impl<'a> From<&'a ObjectKey> for Named<'a> {
    fn from(key: &'a ObjectKey) -> Self {
        Self(&key.kind.api_version, &key.kind.kind, &key.name.name)
    }
}

/// Group and version, kind and name.
struct Named<'a>(&'a str, &'a str, &'a str);

impl<'a> From<(&'a str, &'a str, &'a str)> for Named<'a> {
    fn from((api_version, kind, name): (&'a str, &'a str, &'a str)) -> Self {
        Self(api_version, kind, name)
    }
}

fn apps(
    situation: &Situation<'_>,
    behavior: &FailoverBehavior,
    memory: &mut Memory,
    standing: &BTreeMap<ObjectKey, Standing>,
) -> BTreeMap<String, AppFacts> {
    let Situation {
        policy, spec, now, ..
    } = *situation;
    let rules = rules(behavior);
    let usual = tolerations(&spec.placement, behavior);
    let tolerations = |key: &ObjectKey| match situation.otherwise.get(key) {
        Some(Some(placement)) => tolerations(placement, behavior),
        _ => usual.clone(),
    };
    let facts = |wanted, key: &ObjectKey, named: Named<'_>| AppFacts {
        tolerations: tolerations(key),
        evictions: evictions(situation, &named),
        ..AppFacts::new(wanted, rules.clone())
    };
    let mut apps = BTreeMap::new();
    for template in situation.templates {
        let Some(standing) = standing.get(&template.key) else {
            continue;
        };
        let Some(wanted) = template.replicas else {
            // All of them share one fate, so it is enough to know of one where they are.
            let mut rest = facts(0, &template.key, (REST, REST, REST).into());
            for cluster in standing.clusters.keys() {
                rest = rest.with_cluster(cluster.clone(), AppInCluster::default());
            }
            apps.insert(REST.to_owned(), rest);
            continue;
        };
        let mut app = facts(wanted, &template.key, (&template.key).into());
        for (cluster, stand) in &standing.clusters {
            let presumed = situation.presumed.of(cluster, &template.key);
            let unseen = presumed.map_or(0, |(replicas, _)| replicas.min(stand.told));
            let short = stand
                .ready
                .is_some_and(|ready| ready.saturating_add(unseen) < stand.told);
            let reached = situation
                .fleet
                .get(cluster)
                .is_some_and(|view| view.health.is_ready());
            let mut there = AppInCluster::ready(stand.told);
            there.ready = stand.ready.unwrap_or(0);
            there.presumed = unseen;
            there.cut_off_since = presumed.map(|(_, since)| since);
            let unwell = short && reached && !reports_only(spec);
            there.unhealthy_since = memory.unwell(&policy.key, cluster, &template.key, unwell, now);
            app = app.with_cluster(cluster.clone(), there);
        }
        apps.insert(name(&template.key), app);
    }
    apps
}

fn rules(behavior: &FailoverBehavior) -> FailoverRules {
    let seconds = |given: Option<u32>, default: SignedDuration| {
        given.map_or(default, |seconds| SignedDuration::from_secs(i64::from(seconds)))
    };
    let mut rules = FailoverRules::default();
    rules.grace = seconds(behavior.grace_period_seconds, rules.grace);
    rules.fail_back_window = seconds(behavior.stabilization_seconds, rules.fail_back_window);
    if let Some(cluster) = &behavior.cluster {
        rules.cluster_purge = cluster.purge_mode.unwrap_or_default().into();
        if let Some(edge) = &cluster.edge {
            rules.lost_edge = LostEdge::ReplaceAfterSeconds(edge.replace_after_seconds);
        }
    }
    if let Some(application) = &behavior.application {
        rules.application = true;
        rules.application_purge = application.purge_mode.unwrap_or_default().into();
        rules.tolerate_unhealthy = seconds(application.toleration_seconds, rules.tolerate_unhealthy);
    }
    rules
}

/// Those of the placement, and how long a cluster may be ill for those that say nothing about it.
fn tolerations(placement: &Placement, behavior: &FailoverBehavior) -> Vec<Toleration> {
    let mut tolerations = placement.cluster_tolerations.clone();
    let seconds = behavior
        .cluster
        .as_ref()
        .and_then(|cluster| cluster.toleration_seconds);
    for key in [TAINT_UNREACHABLE, TAINT_NOT_READY] {
        let taint = Taint::new(key, TaintEffect::NoExecute);
        if taint.tolerated_by(&placement.cluster_tolerations).is_none() {
            tolerations.push(Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                toleration_seconds: Some(i64::from(seconds.unwrap_or(300))),
                ..Toleration::default()
            });
        }
    }
    tolerations
}

fn facts(view: &ClusterView, behavior: &FailoverBehavior, memory: &Memory, now: Timestamp) -> ClusterFacts {
    let mut health = view.health.clone();
    health.since = health.since.max(Some(memory.well_since(&view.name, now)));
    let mut facts = ClusterFacts::new(health);
    for taint in &view.taints {
        let mut taint = taint.clone();
        taint.time_added = Some(memory.tainted_since(&view.name, &taint, now));
        if behavior.cluster.is_none() && taint.effect == TaintEffect::NoExecute {
            // Nothing leaves for it, and nothing returns to it either.
            taint.effect = TaintEffect::NoSchedule;
        }
        facts = facts.with_taint(taint);
    }
    if behavior.cluster.is_some() {
        let key = match view.health.status {
            HealthStatus::Unknown => Some(TAINT_UNREACHABLE),
            HealthStatus::NotReady => Some(TAINT_NOT_READY),
            _ => None,
        };
        if let Some(key) = key {
            let since = memory.ill_since(&view.name, now);
            facts = facts.with_taint(Taint::new(key, TaintEffect::NoExecute).with_time_added(since));
        }
    }
    facts
}

fn evictions(situation: &Situation<'_>, named: &Named<'_>) -> BTreeMap<ClusterName, Eviction> {
    let written = situation.previous.iter().flat_map(|status| &status.failovers);
    let written = written.filter(|it| {
        (it.api_version.as_str(), it.kind.as_str(), it.name.as_str()) == (named.0, named.1, named.2)
    });
    let read = written.filter_map(|it| {
        let cluster: ClusterName = it.cluster.parse().ok()?;
        situation.fleet.get(&cluster)?;
        let cause = match it.cause {
            FailoverCause::Tainted => Cause::Tainted {
                taint: it.detail.clone(),
            },
            FailoverCause::Unhealthy => Cause::Unhealthy {
                since: it.detail.parse().unwrap_or(it.since.0),
            },
            FailoverCause::EdgeLost => Cause::EdgeLost {
                since: it.detail.parse().unwrap_or(it.since.0),
            },
            // Gangs have their own way.
            FailoverCause::GangPending => return None,
        };
        let eviction = Eviction {
            cause,
            since: it.since.0,
            purge: it.purge_mode.into(),
            released: situation.policy.words.releases(&cluster),
            purged: it.purged,
        };
        Some((cluster, eviction))
    });
    read.collect()
}

fn written<'a>(
    named: impl Into<Named<'a>>,
    evictions: &BTreeMap<ClusterName, Eviction>,
) -> impl Iterator<Item = FailedOver> {
    let Named(api_version, kind, name) = named.into();
    evictions.iter().map(move |(cluster, eviction)| {
        let (cause, detail) = match &eviction.cause {
            Cause::Tainted { taint } => (FailoverCause::Tainted, taint.clone()),
            Cause::Unhealthy { since } => (FailoverCause::Unhealthy, since.to_string()),
            Cause::EdgeLost { since } => (FailoverCause::EdgeLost, since.to_string()),
        };
        FailedOver {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            cluster: cluster.to_string(),
            cause,
            detail,
            since: Time(eviction.since),
            purge_mode: eviction.purge.into(),
            purged: eviction.purged,
            state: None,
        }
    })
}

impl From<PurgeMode> for Purge {
    fn from(mode: PurgeMode) -> Self {
        match mode {
            PurgeMode::Directly => Self::Directly,
            PurgeMode::Gracefully => Self::Gracefully,
            PurgeMode::Never => Self::Never,
        }
    }
}

impl From<Purge> for PurgeMode {
    fn from(purge: Purge) -> Self {
        match purge {
            Purge::Directly => Self::Directly,
            Purge::Gracefully => Self::Gracefully,
            Purge::Never => Self::Never,
        }
    }
}
