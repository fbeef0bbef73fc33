//! Gangs that wait in one cluster in vain are tried in the next one, and are never in two at once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::{condition::ConditionSet, names::ClusterName, observe::Snapshot, reason::Said};

use super::{member::Desks, memory::Memory};
use crate::{
    api::{DistributionPolicyStatus, FailedOver, FailoverCause, Placement, PurgeMode, Suspension},
    gangs::{Dispatch, NextStep, Presence, Sighting, dispatch, watch},
    placement::{Detail, Dialect, FleetIndex, PlanOptions, Planner, Prepared, Running},
    propagate::{
        Known, ObjectKey, Otherwise, PolicyKey, ResourceInterpreter, Standing, Template, holds_for, workload,
    },
};

/// Whether every gang runs, where the policy says how long one may be pending.
const GANGS_RUNNING: &str = "GangsRunning";

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct GangPass {
    /// The clusters that were given up, to be written before anything leaves them.
    pub(super) given_up: Vec<FailedOver>,
    /// The gangs that are placed nowhere before they are gone from where they were.
    pub(super) withheld: BTreeSet<ObjectKey>,
    /// When to look again although nothing happened.
    pub(super) wake_at: Option<Timestamp>,
    said: Option<Said>,
}

/// Everything a pass looks at.
pub(super) struct Gangs<'a> {
    pub(super) policy: &'a PolicyKey,
    pub(super) placement: &'a Placement,
    pub(super) otherwise: &'a Otherwise,
    pub(super) previous: Option<&'a DistributionPolicyStatus>,
    pub(super) templates: &'a [Template],
    pub(super) fleet: &'a Snapshot,
    pub(super) desks: &'a Desks,
    /// Nothing is placed or written for now, so nothing is given up either.
    pub(super) idle: bool,
    pub(super) suspension: Option<&'a Suspension>,
    pub(super) interpreter: &'a dyn ResourceInterpreter,
    pub(super) now: Timestamp,
}

/// One gang that may not be pending for ever.
struct Gang<'a> {
    template: &'a Template,
    placement: &'a Placement,
    min: u32,
    patience: SignedDuration,
}

impl<'a> Gangs<'a> {
    /// Says where each gang is tried next. What leaves a cluster is taken out of `running` and `standing`.
    pub(super) fn pass(
        &self,
        memory: &mut Memory,
        running: &mut BTreeMap<ObjectKey, Running>,
        standing: &mut BTreeMap<ObjectKey, Standing>,
    ) -> GangPass {
        let mut pass = GangPass::default();
        let known = Known::of(self.templates);
        let mut waiting = Vec::new();
        let mut any = false;
        for template in self.templates {
            let Some(gang) = self.gang(template, &known) else {
                continue;
            };
            any = true;
            let key = &template.key;
            let running = running.entry(key.clone()).or_default();
            let standing = standing.entry(key.clone()).or_default();
            let mut tried = self.tried(key);
            let (seen, pods) = self.seen(&gang, standing, &tried, memory);
            let mut at_rest = seen
                .iter()
                .filter(|(_, presence)| matches!(presence, Presence::Pending { .. } | Presence::Running));
            let here = at_rest.next();
            if at_rest.next().is_none() && running.evicting.is_empty() && !self.idle {
                let order = self.order(&gang, &known, here, &tried);
                let on_its_way = Dispatch::new(&order, &seen, &tried).with_patience(gang.patience);
                let step = dispatch(&on_its_way, self.now);
                match &step {
                    NextStep::Settled { .. } => tried.clear(),
                    NextStep::Create { cluster } => {
                        tried.remove(cluster);
                    }
                    NextStep::Remove { cluster, .. } => {
                        tried.insert(cluster.clone(), self.now);
                        standing.dismissed.insert(cluster.clone());
                        running.clusters.retain(|(name, _)| name != cluster.as_str());
                        pass.withheld.insert(key.clone());
                    }
                    NextStep::Wait { until, .. } => {
                        pass.wake_at = [pass.wake_at, *until].into_iter().flatten().min();
                    }
                    NextStep::Nowhere => {}
                }
                let never_sent = seen.is_empty() && tried.is_empty();
                if !never_sent && !matches!(step, NextStep::Settled { .. }) {
                    let sighting = here.and_then(|(cluster, presence)| {
                        let Presence::Pending { since } = presence else {
                            return None;
                        };
                        let present = pods.get(cluster).copied().unwrap_or(0);
                        // Whether a scheduler has spoken is told by the pod group, which nobody reads here.
                        Some(watch(present, gang.min, true, *since, self.now))
                    });
                    if let Some(Sighting::TooEarly { until }) = sighting {
                        pass.wake_at = pass.wake_at.into_iter().chain([until]).min();
                    }
                    waiting.push(said(key, &step, sighting.as_ref()));
                }
            }
            // It moves otherwise, or waits; what it has left it must be gone from before it is anywhere else.
            let leaves = |cluster: &ClusterName| tried.contains_key(cluster);
            if here.is_none() && seen.keys().any(leaves) {
                pass.withheld.insert(key.clone());
            }
            running.evicting.extend(tried.keys().map(ToString::to_string));
            let given_up = tried
                .into_iter()
                .map(|(cluster, since)| given_up(key, &cluster, since, gang.patience));
            pass.given_up.extend(given_up);
        }
        pass.said = any.then(|| sum_up(waiting));
        pass
    }

    /// What a template is to be watched as, if its placement says how long it may be pending.
    fn gang(&self, template: &'a Template, known: &Known<'_>) -> Option<Gang<'a>> {
        let placement = holds_for(self.placement, self.otherwise, &template.key)?;
        let asked = placement.gang.as_ref()?;
        let replicas = template.replicas.filter(|replicas| *replicas > 0)?;
        if asked.sub_gangs.is_some_and(|count| count > 1) {
            return None;
        }
        let own = workload(template, self.interpreter, known, false).ok()?.gang;
        let min = own.map(|gang| gang.min).or(asked.min_available);
        Some(Gang {
            template,
            placement,
            min: min.unwrap_or(replicas),
            patience: SignedDuration::from_secs(i64::from(asked.pending_seconds?)),
        })
    }

    /// The clusters that were given up, and when.
    fn tried(&self, key: &ObjectKey) -> BTreeMap<ClusterName, Timestamp> {
        let written = self.previous.into_iter().flat_map(|status| &status.failovers);
        let of_gang = written.filter(|it| {
            it.cause == FailoverCause::GangPending
                && (&it.api_version, &it.kind, &it.name)
                    == (&key.kind.api_version, &key.kind.kind, &key.name.name)
        });
        let tried = of_gang.filter_map(|it| Some((it.cluster.parse().ok()?, it.since.0)));
        tried
            .filter(|(cluster, _)| self.fleet.get(cluster).is_some())
            .collect()
    }

    /// Where something of it is, or is not known not to be; and how many pods are there.
    fn seen(
        &self,
        gang: &Gang<'_>,
        standing: &Standing,
        tried: &BTreeMap<ClusterName, Timestamp>,
        memory: &mut Memory,
    ) -> (BTreeMap<ClusterName, Presence>, BTreeMap<ClusterName, u32>) {
        let key = &gang.template.key;
        let (mut seen, mut pods) = (BTreeMap::new(), BTreeMap::new());
        let told = standing.clusters.iter().filter(|(_, stand)| stand.told > 0);
        let told: BTreeMap<&ClusterName, Option<u32>> =
            told.map(|(cluster, stand)| (cluster, stand.ready)).collect();
        // Where it was put afterwards, it was gone from them.
        let left = tried.keys().filter(|_| told.is_empty());
        let suspended = |cluster: &ClusterName| {
            let suspension = self.suspension;
            suspension.is_some_and(|suspension| suspension.dispatching_to(cluster.as_str()))
        };
        for cluster in told.keys().copied().chain(left) {
            let there = self.desks.open(cluster).observed(self.policy);
            let created = there.objects.get(key).and_then(|object| object.created);
            pods.insert(cluster.clone(), created.unwrap_or(0));
            // Where nothing is sent for now, nobody knows what would become of it.
            let mute = there.blocked.is_some() || suspended(cluster);
            let waits = told
                .get(cluster)
                .copied()
                .flatten()
                .is_some_and(|ready| ready < gang.min);
            let pending = memory.pending(self.policy, cluster, key, waits && !mute, self.now);
            let presence = match (told.get(cluster), pending) {
                _ if mute => Presence::Unknown,
                (Some(_), Some(since)) => Presence::Pending { since },
                (Some(Some(_)), None) => Presence::Running,
                (Some(None), None) => Presence::Unknown,
                (None, _) if there.objects.contains_key(key) || there.leaving.contains_key(key) => {
                    Presence::Leaving
                }
                (None, _) if there.complete => continue,
                (None, _) => Presence::Unknown,
            };
            seen.insert(cluster.clone(), presence);
        }
        (seen, pods)
    }

    /// The cluster it is in, and the next that takes it: one that was not tried, or the one that was tried longest ago.
    fn order(
        &self,
        gang: &Gang<'_>,
        known: &Known<'_>,
        here: Option<(&ClusterName, &Presence)>,
        tried: &BTreeMap<ClusterName, Timestamp>,
    ) -> Vec<ClusterName> {
        let moves = match here {
            Some((_, Presence::Pending { since })) => since
                .checked_add(gang.patience)
                .is_ok_and(|until| until <= self.now),
            Some(_) => false,
            None => !tried.is_empty(),
        };
        let here = here.map(|(cluster, _)| cluster);
        let next = moves.then(|| self.next(gang, known, here, tried)).flatten();
        here.cloned().into_iter().chain(next).collect()
    }

    fn next(
        &self,
        gang: &Gang<'_>,
        known: &Known<'_>,
        here: Option<&ClusterName>,
        tried: &BTreeMap<ClusterName, Timestamp>,
    ) -> Option<ClusterName> {
        let index = FleetIndex::new(self.fleet);
        let prepared = Prepared::new(gang.placement, &index, Dialect::Kurator).ok()?;
        let workload = workload(gang.template, self.interpreter, known, true).ok()?;
        let mut planner = Planner::new(PlanOptions::default().with_detail(Detail::Decision));
        let mut left: Vec<(&ClusterName, &Timestamp)> = tried.iter().collect();
        left.sort_by_key(|(cluster, since)| (std::cmp::Reverse(**since), *cluster));
        loop {
            let names = left.iter().map(|(cluster, _)| *cluster).chain(here);
            let nowhere = Running {
                evicting: names.map(ToString::to_string).collect(),
                ..Running::default()
            };
            let decision = planner.place(&index, &prepared, &workload, &nowhere, self.now);
            match decision.outcome {
                Ok(placed) => return placed.clusters.into_iter().map(|(cluster, _)| cluster).next(),
                // Tried longest ago, it comes again.
                Err(_) => left.pop()?,
            };
        }
    }
}

impl GangPass {
    /// Writes down which clusters were given up, and which gangs wait for what.
    pub(super) fn show(
        &self,
        status: &mut DistributionPolicyStatus,
        generation: Option<i64>,
        now: Timestamp,
    ) {
        let before = std::mem::take(&mut status.conditions);
        let mut conditions = ConditionSet::new(before, generation, now);
        match &self.said {
            Some(said) => conditions.set(GANGS_RUNNING, said.token != "GangPending", said),
            None => conditions.remove(GANGS_RUNNING),
        };
        status.conditions = conditions.into_vec();
    }
}

fn given_up(
    key: &ObjectKey,
    cluster: &ClusterName,
    since: Timestamp,
    patience: SignedDuration,
) -> FailedOver {
    FailedOver {
        api_version: key.kind.api_version.clone(),
        kind: key.kind.kind.clone(),
        name: key.name.name.clone(),
        cluster: cluster.to_string(),
        cause: FailoverCause::GangPending,
        detail: format!("pending for {} s", patience.as_secs()),
        since: Time(since),
        purge_mode: PurgeMode::Directly,
        purged: true,
        state: None,
    }
}

fn said(key: &ObjectKey, step: &NextStep, sighting: Option<&Sighting>) -> String {
    match sighting {
        Some(sighting @ Sighting::Incomplete { .. }) => format!("{key}: {step}; {sighting}"),
        _ => format!("{key}: {step}"),
    }
}

/// How the gangs are, as a condition says it.
fn sum_up(waiting: Vec<String>) -> Said {
    let more = waiting.len().saturating_sub(1);
    match waiting.into_iter().next() {
        None => Said::new("AsPlanned", "every gang runs where it is placed"),
        Some(first) if more > 0 => Said::new("GangPending", format!("{first} (and {more} more)")),
        Some(first) => Said::new("GangPending", first),
    }
}
