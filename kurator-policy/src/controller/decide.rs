//! What every member is to hold of a policy: placed, moved out of what fails, and brought to the members in steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use kurator_core::{
    names::ClusterName,
    observe::{ApiSupport, Snapshot},
};
use tokio::time::Instant;

use super::{
    carried::Carried,
    claimed::Mark,
    content::Content,
    distribution::Context,
    failover::{FailoverPass, Situation, fail_over},
    gangs::{GangPass, Gangs},
    policy::Policy,
    presumed::Presumed,
    promises::goes_by_room,
    revisions::Kept,
    rollout::{Journal, Steps, in_use},
    running::running,
    shown::ShownReplicas,
    standing::standings,
};
use crate::{
    api::{
        ActivatedObjects, Activation, ApplyStrategy, DistributionPolicySpec, DistributionPolicyStatus,
        FailedOver, OverridePolicy, Placement, PlacementInUse, Preemption, Suspension,
    },
    placement::Running,
    propagate::{
        Activations, Known, MemberPlan, MemberReason, Note, ObjectKey, ObjectKind, Otherwise, Planned,
        PolicyKey, Rendered, Request, Standing, Template, attach, holds_for, plan,
    },
};

/// What a policy wants, as it stands on the hub.
pub(super) struct Wish<'a> {
    pub(super) policy: &'a Policy,
    pub(super) spec: &'a DistributionPolicySpec,
    pub(super) templates: &'a [Template],
    pub(super) overrides: &'a [OverridePolicy],
    /// What the templates refer to, of every revision that is in use.
    pub(super) referred: &'a [Template],
    /// The revisions that are kept.
    pub(super) kept: &'a Kept,
    pub(super) fleet: &'a Arc<Snapshot>,
}

/// What is to be done about it.
#[derive(Debug, Default)]
pub(super) struct Decision {
    pub(super) planned: Planned,
    pub(super) failovers: Vec<FailedOver>,
    pub(super) rollout: Option<RolledOut>,
    /// By what the objects are placed from now on, where that is recorded.
    pub(super) activations: Vec<PlacementInUse>,
    /// The objects of other policies that are taken over once they change.
    pub(super) to_take_over: Vec<ActivatedObjects>,
    /// What is to be written on objects about who has them.
    pub(super) marks: Vec<Mark>,
    pub(super) gangs: GangPass,
    pub(super) carried: Carried,
    pub(super) wake_at: Option<Timestamp>,
}

/// How far a change is, and what has to be kept of it.
#[derive(Debug)]
pub(super) struct RolledOut {
    pub(super) steps: Steps,
    pub(super) content: Arc<Content>,
}

/// One revision of a policy, ready to be planned.
struct Source<'a> {
    templates: Vec<Template>,
    overrides: &'a [OverridePolicy],
    placement: &'a Placement,
    /// The objects for which another placement holds.
    otherwise: Arc<Otherwise>,
}

impl Source<'_> {
    /// The placement that holds for an object, if it is known.
    fn placement_of(&self, object: &ObjectKey) -> Option<&Placement> {
        holds_for(self.placement, &self.otherwise, object)
    }
}

/// What is the same for every revision of one pass.
struct Pass<'a> {
    policy: &'a PolicyKey,
    fleet: &'a Snapshot,
    running: &'a BTreeMap<ObjectKey, Running>,
    standing: &'a BTreeMap<ObjectKey, Standing>,
    /// The objects that are placed nowhere for now.
    withheld: &'a BTreeSet<ObjectKey>,
    now: Timestamp,
}

impl Context {
    /// Plans, and takes the room of what is planned before anybody else plans.
    pub(super) fn decide(&self, wish: &Wish<'_>) -> Decision {
        let (key, now) = (&wish.policy.key, self.clock.now());
        let previous = self.previous(wish.policy);
        let previous = previous.as_ref();
        let everything = self.everything(wish);
        let recorded = previous.map_or(&[][..], |status| &status.activations);
        let (placement, templates) = (&wish.spec.placement, wish.templates);
        let active = match wish.spec.activation.unwrap_or_default() {
            Activation::Immediate if wish.spec.preemption == Some(Preemption::Always) => {
                Activations::immediate(templates, &*self.interpreter)
            }
            activation => Activations::of(activation, placement, recorded, templates, &*self.interpreter),
        };
        let mut running = running(previous, &everything, wish.fleet);
        let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        // What was promised fits the fleet as it is now, not as it was when this pass began.
        let fleet = self.fleet.snapshot().unwrap_or_else(|| Arc::clone(wish.fleet));
        let mut standing = standings(key, previous, &everything, &fleet, &self.desks);
        let told = standing
            .values()
            .flat_map(|standing| standing.clusters.keys().cloned());
        let presumed = Presumed::look(&self.facts, &told.collect(), now);
        let situation = Situation {
            policy: wish.policy,
            spec: wish.spec,
            otherwise: &active.otherwise,
            previous,
            templates: &everything,
            fleet: &fleet,
            presumed: &presumed,
            pace: self.eviction_pace,
            guard: self.disruption,
            now,
        };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let failover = fail_over(&situation, &mut memory, &mut running, &mut standing);
        drop(memory);
        let fleet = with_definitions(fleet, wish);
        let shown = ShownReplicas::new(&self.desks, &self.facts);
        let shown =
            |policy: &PolicyKey, cluster: &ClusterName, object: &ObjectKey| shown.of(policy, cluster, object);
        let fleet = if in_force(placement, &active).any(goes_by_room) {
            promises.deduct(&fleet, key, &running)
        } else {
            fleet
        };
        let suspension = wish.spec.suspension.as_ref();
        let gangs = Gangs {
            policy: key,
            placement,
            otherwise: &active.otherwise,
            previous,
            templates,
            fleet: &fleet,
            desks: &self.desks,
            idle: reports_only(wish.spec) || suspension.is_some_and(|suspension| suspension.scheduling),
            suspension,
            interpreter: &*self.interpreter,
            now,
        };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.keep_gangs(key, templates);
        let gangs = gangs.pass(&mut memory, &mut running, &mut standing);
        drop(memory);
        let pass = Pass {
            withheld: &gangs.withheld,
            policy: key,
            fleet: &fleet,
            running: &running,
            standing: &standing,
            now,
        };
        let (mut planned, rollout) = self.roll_out(wish, &active.otherwise, previous, &pass);
        planned.report_only = reports_only(wish.spec);
        // What is not placed for now is not activated either.
        let idle = planned.report_only || planned.suspension.scheduling;
        let placed = |object: &ObjectKey| {
            let totals = planned.objects.get(object);
            !idle && totals.is_some_and(|totals| !totals.held)
        };
        let activations = active.record(placement, recorded, placed);
        let freed = if planned.report_only {
            // It takes no room from anybody.
            promises.forget(key)
        } else {
            promises.keep(
                key,
                &planned,
                wish.templates,
                &*self.interpreter,
                &shown,
                Instant::now(),
            )
        };
        if promises.is_overtaken(key, &shown) {
            self.fleet.look_again();
        }
        drop(promises);
        self.waiting.set(key, planned.waits_for_room());
        if freed {
            self.waiting.fire();
        }
        let FailoverPass {
            mut failovers,
            wake_at,
            held,
        } = failover;
        planned
            .notes
            .extend(held.map(|disruption| Note::FailoverHeld { disruption }));
        let carried = self.carry(
            wish,
            previous,
            &everything,
            &standing,
            &mut planned,
            &mut failovers,
        );
        failovers.extend(gangs.given_up.iter().cloned());
        let pending = gangs.wake_at;
        let steps = rollout.as_ref().and_then(|rollout| rollout.steps.wake_at);
        let settled = in_force(placement, &active).filter_map(|placement| settles_at(placement, &fleet, now));
        Decision {
            planned,
            failovers,
            rollout,
            activations,
            to_take_over: Vec::new(),
            marks: Vec::new(),
            gangs,
            carried,
            wake_at: [wake_at, steps, pending]
                .into_iter()
                .flatten()
                .chain(settled)
                .min(),
        }
    }

    /// The templates of the policy as it stands, and those that only older revisions have which are in use.
    pub(super) fn everything(&self, wish: &Wish<'_>) -> Vec<Template> {
        let mut all: BTreeMap<ObjectKey, Template> = BTreeMap::new();
        let previous = self.previous(wish.policy);
        let in_use = in_use(previous.as_ref()).into_iter();
        for content in in_use.filter_map(|revision| wish.kept.get(revision)) {
            for template in content.templates(wish.templates, &*self.interpreter) {
                all.insert(template.key.clone(), template);
            }
        }
        for template in wish.templates {
            all.insert(template.key.clone(), template.clone());
        }
        all.into_values().collect()
    }

    /// The plan, with each member at the revision that it is to hold.
    fn roll_out(
        &self,
        wish: &Wish<'_>,
        otherwise: &Arc<Otherwise>,
        previous: Option<&DistributionPolicyStatus>,
        pass: &Pass<'_>,
    ) -> (Planned, Option<RolledOut>) {
        let suspension = wish.spec.suspension.as_ref();
        let newest = Source {
            templates: wish.templates.to_vec(),
            overrides: wish.overrides,
            placement: &wish.spec.placement,
            otherwise: Arc::clone(otherwise),
        };
        // What is only reported goes nowhere, so no step would ever be done: all of it is reported at once.
        let steps = wish.spec.rollout.as_ref().filter(|_| !reports_only(wish.spec));
        let Some(behavior) = steps else {
            return (self.plan_revision(wish, &newest, suspension, pass), None);
        };
        let content = Arc::new(Content::of(
            wish.templates,
            wish.overrides,
            &wish.spec.placement,
            otherwise,
        ));
        let target = content.revision(&*self.interpreter);
        let mut journal = match Journal::open(behavior, wish.policy, previous, &target) {
            Ok(journal) => journal,
            Err(problem) => return (held(problem.to_string()), None),
        };
        let clusters = |planned: &Planned| planned.members.keys().cloned().collect::<BTreeSet<_>>();
        let older = |revision: &str| {
            let content = wish.kept.get(revision)?;
            Some(Source {
                templates: content.templates(wish.templates, &*self.interpreter),
                overrides: &content.overrides,
                placement: &content.placement,
                otherwise: Arc::new(content.otherwise()),
            })
        };
        let step = |journal: &mut Journal<'_>| {
            let governing = journal.governing().unwrap_or(&target).to_owned();
            let source = if governing == target {
                None
            } else {
                older(&governing)
            };
            let source = source.as_ref().unwrap_or(&newest);
            let planned = self.plan_revision(wish, source, suspension, pass);
            let (fleet, desks) = (pass.fleet, &self.desks);
            let steps = journal.step(wish.policy, clusters(&planned), wish.kept, fleet, desks, pass.now)?;
            let source = source.clone();
            Some((governing, source, planned, steps))
        };
        // The second time it is known to be taken back.
        let Some((governing, source, planned, steps)) = step(&mut journal).or_else(|| step(&mut journal))
        else {
            return (held("rollout: no revision is wanted".to_owned()), None);
        };
        let mut old: BTreeMap<&str, Option<Planned>> = BTreeMap::new();
        let mut mixed = planned.clone();
        mixed.members = BTreeMap::new();
        for (cluster, revision) in &steps.assigned {
            let member = if *revision == governing {
                planned.members.get(cluster).cloned()
            } else {
                let old = old.entry(revision).or_insert_with(|| {
                    let old = older(revision).or_else(|| (*revision == target).then(|| newest.clone()))?;
                    Some(self.plan_as_it_is(wish, &old, (&source, &planned), pass))
                });
                match old {
                    Some(old) => old.members.get(cluster).cloned(),
                    None => planned.members.get(cluster).map(|member| lost(member, revision)),
                }
            };
            if let Some(member) = member {
                mixed.members.insert(cluster.clone(), member);
            }
        }
        (mixed, Some(RolledOut { steps, content }))
    }

    fn plan_revision(
        &self,
        wish: &Wish<'_>,
        source: &Source<'_>,
        suspension: Option<&Suspension>,
        pass: &Pass<'_>,
    ) -> Planned {
        let mut templates = source.templates.clone();
        templates.retain(|template| !pass.withheld.contains(&template.key));
        let request = Request {
            policy: pass.policy,
            placement: source.placement,
            otherwise: &source.otherwise,
            suspension,
            templates: &templates,
            overrides: source.overrides,
            fleet: pass.fleet,
            running: pass.running,
            standing: pass.standing,
            now: pass.now,
            interpreter: &*self.interpreter,
        };
        let mut planned = plan(&request);
        if !pass.withheld.is_empty() {
            planned.notes.retain(|note| *note != Note::NothingSelected);
        }
        if wish.spec.propagate_deps {
            attach(&request, wish.referred, &mut planned);
        }
        planned
    }

    /// A revision that does not govern, where its objects are: by the numbers of the plan that counts, or for objects
    /// that are placed otherwise there, by those the members were told last.
    fn plan_as_it_is(
        &self,
        wish: &Wish<'_>,
        source: &Source<'_>,
        (governing, counts): (&Source<'_>, &Planned),
        pass: &Pass<'_>,
    ) -> Planned {
        let running = as_it_is(source, governing, counts, pass.standing);
        let still = Suspension {
            scheduling: true,
            ..wish.spec.suspension.clone().unwrap_or_default()
        };
        let pass = Pass {
            running: &running,
            ..*pass
        };
        self.plan_revision(wish, source, Some(&still), &pass)
    }
}

/// Where the objects of a revision stay that does not govern.
fn as_it_is(
    source: &Source<'_>,
    governing: &Source<'_>,
    counts: &Planned,
    standing: &BTreeMap<ObjectKey, Standing>,
) -> BTreeMap<ObjectKey, Running> {
    let mut running = BTreeMap::new();
    for template in &source.templates {
        let key = &template.key;
        let same = source.placement_of(key) == governing.placement_of(key);
        let numbers: Vec<(String, u32)> = if same && counts.objects.contains_key(key) {
            let members = counts.members.iter();
            let here = members.filter_map(|(cluster, member)| Some((cluster, member.objects.get(key)?)));
            here.filter(|(_, object)| !object.leaving)
                .map(|(cluster, object)| (cluster.to_string(), object.planned.unwrap_or(0)))
                .collect()
        } else {
            let standing = standing.get(key).into_iter();
            let stays = standing.flat_map(|standing| {
                let clusters = standing.clusters.iter();
                clusters.filter(|(cluster, _)| !standing.leaving.contains(*cluster))
            });
            stays
                .map(|(cluster, stand)| (cluster.to_string(), stand.told))
                .collect()
        };
        running.insert(key.clone(), Running::new(numbers));
    }
    running
}

impl Clone for Source<'_> {
    fn clone(&self) -> Self {
        Self {
            templates: self.templates.clone(),
            otherwise: Arc::clone(&self.otherwise),
            ..*self
        }
    }
}

/// The placements that hold for something, and that of the policy.
fn in_force<'a>(placement: &'a Placement, active: &'a Activations) -> impl Iterator<Item = &'a Placement> {
    let others = active.otherwise.values().flatten().map(|other| &**other);
    std::iter::once(placement).chain(others)
}

/// Whether nothing is written to members.
pub(super) fn reports_only(spec: &DistributionPolicySpec) -> bool {
    spec.apply_strategy == Some(ApplyStrategy::ReportDiff)
}

/// The fleet as it is once the definitions that go along have arrived: what defines a kind of the templates goes wherever
/// these go, so no cluster is refused for want of it.
fn with_definitions(fleet: Arc<Snapshot>, wish: &Wish<'_>) -> Arc<Snapshot> {
    let known = Known::of(wish.referred);
    let kinds: BTreeSet<&ObjectKind> = wish
        .templates
        .iter()
        .map(|template| &template.key.kind)
        .filter(|kind| known.definition(kind).is_some())
        .collect();
    let lacks = |kind: &ObjectKind| {
        fleet
            .clusters()
            .any(|view| view.apis.support(&kind.api_version, &kind.kind) == ApiSupport::Absent)
    };
    if !kinds.iter().any(|kind| lacks(kind)) {
        return fleet;
    }
    let mut arrived = Snapshot::clone(&fleet);
    for view in fleet.clusters() {
        let mut view = view.clone();
        for kind in &kinds {
            view.apis.insert(&kind.api_version, &kind.kind);
        }
        arrived.insert(view);
    }
    Arc::new(arrived)
}

/// What a member keeps of a revision of which nobody knows any more what it was.
fn lost(member: &MemberPlan, revision: &str) -> MemberPlan {
    let mut member = member.clone();
    for object in member.objects.values_mut() {
        object.rendered = Rendered::Held {
            reason: MemberReason::Object("RevisionLost"),
            message: format!(
                "the Secret of revision {revision} is gone; what is there stays until its turn comes"
            ),
        };
    }
    member
}

/// A plan that changes nothing, because of what the spec says.
fn held(problem: String) -> Planned {
    let mut planned = Planned::empty();
    planned.note([Note::InvalidSpec { problem }]);
    planned
}

/// When a cluster will have been ready for long enough to take replicas back.
fn settles_at(placement: &Placement, fleet: &Snapshot, now: Timestamp) -> Option<Timestamp> {
    let rebalancing = placement.replica_scheduling.as_ref()?.rebalancing.as_ref()?;
    let window = SignedDuration::from_secs(i64::from(rebalancing.stabilization_seconds.unwrap_or(600)));
    let since = fleet.clusters().filter(|view| view.health.is_ready());
    let until = since.filter_map(|view| view.health.since?.checked_add(window).ok());
    until.filter(|until| *until > now).min()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::ClusterAffinity,
        propagate::{BuiltinKinds, ObjectTotals},
    };

    fn to(cluster: &str) -> Placement {
        Placement {
            cluster_affinity: Some(ClusterAffinity::names([cluster])),
            ..Placement::default()
        }
    }

    #[test]
    fn a_revision_goes_by_the_numbers_of_the_one_that_governs_only_where_both_place_alike() {
        let web = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "replicas": 3 },
        });
        let web = Template::of(&web, &BuiltinKinds).unwrap();
        // The newest placement, that of the spec, was taken back: the one before it governs.
        let (newest, good) = (to("b"), to("a"));
        let source = |placement| Source {
            templates: vec![web.clone()],
            overrides: &[],
            placement,
            otherwise: Arc::default(),
        };
        let mut counts = Planned::default();
        counts.objects.insert(web.key.clone(), ObjectTotals::default());
        let standing = Standing::default().with("b".parse().unwrap(), 3, Some(0));
        let standing = BTreeMap::from([(web.key.clone(), standing)]);
        let of = |old| {
            let running = as_it_is(&source(old), &source(&good), &counts, &standing);
            running[&web.key].clusters.clone()
        };
        assert_eq!(of(&newest), [("b".to_owned(), 3)], "what is there stays");
        assert_eq!(of(&good), [], "nothing is counted out to anybody");
    }
}
