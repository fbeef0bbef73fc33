//! One pass over one policy. It talks to the hub only, and never waits for a member.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use jiff::Timestamp;
use kube::{api::DynamicObject, runtime::controller::Action};
use kurator_core::{
    apply::{self, ObjectSet, Owner},
    condition::ConditionSet,
    names::ClusterName,
    observe::Snapshot,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    ControllerError,
    activation::{self, not_taken_yet, takes_lazily},
    carried::write_down,
    claimed::Marks,
    decide::{self, Decision, RolledOut},
    distribution::Context,
    member::{Assignment, Desk, Wanted},
    policy::Policy,
    presumed::Presumed,
    revisions::Kept,
    rollout::ROLLED_OUT,
    shared::{Wish, Word},
    templates::Listed,
};
use crate::{
    api::{ConflictResolution, DistributionPolicySpec, DistributionPolicyStatus},
    propagate::{
        Claimant, MemberPlan, Note, ObjectKey, ObjectKind, Observed, Planned, PolicyKey, Rendered, Template,
        claims_held, held_status, status,
    },
};

/// What there is to do for a policy.
enum Intent {
    /// Make this true.
    Plan(Box<Decision>),
    /// Leave everything as it is, and say why.
    Hold(Box<Note>),
    /// Wait for what is not known yet; it triggers the policy when it is.
    Wait,
}

impl Context {
    /// One pass, and what came of it in one word.
    pub(super) async fn reconcile(&self, policy: Policy) -> Result<(&'static str, Action), ControllerError> {
        if policy.deleting && !policy.has_finalizer() {
            self.forget(&policy.key);
            return Ok(("Gone", Action::await_change()));
        }
        let Some(fleet) = self.fleet.snapshot() else {
            self.open_templates(&policy);
            return Ok(("Waiting", Action::await_change()));
        };
        let intent = if policy.deleting {
            Intent::Plan(Box::default())
        } else {
            let kept = self.kept(&policy).await?;
            self.intent(&policy, &fleet, &kept)
        };
        let done = match intent {
            Intent::Wait => "Waiting",
            Intent::Hold(note) => {
                let previous = self.previous(&policy);
                let status = held_status(policy.generation, &note, previous.as_ref(), self.clock.now());
                self.write_status(&policy, previous, status).await?;
                "Held"
            }
            Intent::Plan(decision) => {
                self.pursue(&policy, &fleet, &decision).await?;
                let marked = self.mark(&policy, &decision).await;
                let until =
                    |at: Timestamp| at.duration_since(self.clock.now()).try_into().unwrap_or_default();
                let waits = decision.wake_at.map(until).into_iter().chain(marked);
                if let Some(wait) = waits.min() {
                    return Ok(("Planned", Action::requeue(wait)));
                }
                "Planned"
            }
        };
        Ok((done, Action::await_change()))
    }

    /// Begins to watch what the policy selects, so that it is there when the fleet is known.
    fn open_templates(&self, policy: &Policy) {
        let claimant = policy.claimant().ok().filter(|_| !policy.deleting);
        for kind in claimant.iter().flat_map(Claimant::kinds) {
            self.templates.list(&policy.key, kind);
        }
    }

    /// The revisions of a policy that is rolled out in steps.
    async fn kept(&self, policy: &Policy) -> Result<Kept, ControllerError> {
        let steps = policy.spec.as_ref().is_ok_and(|spec| spec.rollout.is_some());
        if steps {
            self.revisions.load(policy, self.previous(policy).as_ref()).await
        } else {
            Ok(Kept::new())
        }
    }

    /// Plans, as far as everything that the plan depends on is known.
    fn intent(&self, policy: &Policy, fleet: &Arc<Snapshot>, kept: &Kept) -> Intent {
        let spec = match &policy.spec {
            Ok(spec) => spec,
            Err(problem) => {
                let problem = problem.clone();
                return Intent::Hold(Box::new(Note::InvalidSpec { problem }));
            }
        };
        let claimant = match policy.claimant() {
            Ok(claimant) => claimant,
            Err(problem) => return Intent::Hold(Box::new(Note::InvalidSpec { problem })),
        };
        let mut kinds: BTreeSet<ObjectKind> = claimant.kinds().cloned().collect();
        let namespace = policy.key.name.namespace.as_str();
        let Some(overrides) = self.overrides.within(namespace) else {
            return Intent::Wait;
        };
        let (overrides, problems) = overrides;
        if let Some(note) = problems.into_iter().next() {
            return Intent::Hold(Box::new(note));
        }
        let mut notes = Vec::new();
        let mut templates = Vec::new();
        let mut marks = Marks::default();
        let mut waiting = false;
        for kind in &kinds {
            match self.templates.list(&policy.key, kind) {
                Listed::NotYet => waiting = true,
                Listed::NotServed => notes.push(Note::KindNotServed { kind: kind.clone() }),
                Listed::Objects(objects) => {
                    templates.extend(objects.iter().filter_map(|object| {
                        let template = self.template(kind, object)?;
                        marks.read(&template, object);
                        Some(template)
                    }));
                }
            }
        }
        if waiting {
            return Intent::Wait;
        }
        let Some(others) = self.policies.within(Some(namespace)) else {
            return Intent::Wait;
        };
        let claimants: Vec<_> = others
            .iter()
            .filter(|other| !other.deleting)
            .filter_map(|other| {
                let claimant = other.claimant().ok()?;
                if !takes_lazily(other) {
                    return Some(claimant);
                }
                let status = self.previous(other);
                let waits = not_taken_yet(status.as_ref(), &templates, &*self.interpreter);
                Some(claimant.with_waiting(waits))
            })
            .collect();
        templates.retain(|template| claimant.selects(template).is_some());
        let nothing_selected = templates.is_empty();
        let held = marks.held(others.iter().map(|other| &other.key));
        let mut claims = claims_held(&claimants, &templates, &held);
        let mut awaited = Vec::new();
        templates.retain(|template| match claims.remove(&template.key) {
            Some(claim) if claim.awaited.as_ref() == Some(&policy.key) => {
                awaited.push(template.clone());
                false
            }
            Some(claim) if claim.holder != policy.key => {
                notes.push(Note::ClaimedByOther {
                    object: template.key.clone(),
                    holder: claim.holder,
                });
                false
            }
            Some(claim) if !claim.rivals.is_empty() => {
                notes.push(Note::Contested {
                    object: template.key.clone(),
                    rivals: claim.rivals,
                });
                true
            }
            _ => true,
        });
        let mut wish = decide::Wish {
            policy,
            spec,
            templates: &templates,
            overrides: &overrides,
            referred: &[],
            kept,
            fleet,
        };
        let referred = if spec.propagate_deps {
            match self.referred(&policy.key, &self.everything(&wish), &mut kinds, &mut notes) {
                Some(referred) => referred,
                None => return Intent::Wait,
            }
        } else {
            Vec::new()
        };
        wish.referred = &referred;
        self.templates.keep(&policy.key, &kinds);
        let mut decision = self.decide(&wish);
        decision.marks = marks.missing(&policy.key, &templates);
        decision.to_take_over = activation::to_take_over(
            policy,
            self.previous(policy).as_ref(),
            &awaited,
            &templates,
            &decision.activations,
            &*self.interpreter,
        );
        let planned = &mut decision.planned;
        if let Some(note) = planned
            .notes
            .iter()
            .find(|note| matches!(note, Note::InvalidSpec { .. }))
        {
            return Intent::Hold(Box::new(note.clone()));
        }
        if !nothing_selected || !notes.is_empty() {
            planned.notes.retain(|note| *note != Note::NothingSelected);
        }
        planned.note(notes);
        Intent::Plan(Box::new(decision))
    }

    pub(super) fn template(&self, kind: &ObjectKind, object: &DynamicObject) -> Option<Template> {
        if object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let mut value = serde_json::to_value(object).ok()?;
        // Items of a list come without their kind.
        let fields = value.as_object_mut()?;
        fields.insert("apiVersion".to_owned(), kind.api_version.clone().into());
        fields.insert("kind".to_owned(), kind.kind.clone().into());
        Template::of(&value, &*self.interpreter).ok()
    }

    /// Leaves the members their work, and writes down how far they are.
    async fn pursue(
        &self,
        policy: &Policy,
        fleet: &Snapshot,
        decision: &Decision,
    ) -> Result<(), ControllerError> {
        let planned = &decision.planned;
        // Nothing leaves the hub before it is certain to be withdrawn.
        if !policy.deleting && !policy.has_finalizer() && !self.add_finalizer(policy).await? {
            return Ok(());
        }
        let previous = self.previous(policy);
        let concerned: BTreeSet<ClusterName> = previous
            .iter()
            .flat_map(|status| &status.clusters)
            .filter_map(|entry| entry.cluster.parse().ok())
            .filter(|name| fleet.get(name).is_some())
            .chain(planned.members.keys().cloned())
            .collect();
        let tracked = tracked(policy, previous.as_ref());
        let presumed = Presumed::look(&self.facts, &concerned, self.clock.now());
        let mut unfinished = BTreeSet::new();
        let mut observed = Observed::default();
        for cluster in &concerned {
            let mut seen = Arc::unwrap_or_clone(self.desks.open(cluster).observed(&policy.key));
            let plan = planned.member(cluster);
            let left = self
                .shared
                .fold(&self.desks, &policy.key, cluster, plan, &tracked, &mut seen);
            unfinished.extend(left);
            for (key, object) in &mut seen.objects {
                object.presumed = presumed.of(cluster, key).map_or(0, |(replicas, _)| replicas);
            }
            observed.members.insert(cluster.clone(), seen);
        }
        let kinds = self.kinds(policy, planned, previous.as_ref(), &observed);
        let mut status = status(
            policy.generation,
            planned,
            &observed,
            previous.as_ref(),
            self.clock.now(),
        );
        status.placed_kinds = kinds.iter().map(Into::into).collect();
        status.failovers.clone_from(&decision.failovers);
        write_down(&mut status, &decision.carried);
        without_left(&mut status);
        unfinished.extend(planned.dependencies().into_iter().cloned());
        status.dependencies = unfinished.iter().map(Into::into).collect();
        let clean = !status.clusters.iter().any(|entry| {
            entry
                .cluster
                .parse::<ClusterName>()
                .is_ok_and(|name| fleet.get(&name).is_some())
        });
        if policy.deleting && clean {
            self.report_left_behind(policy, &status).await;
            self.unmark(policy).await;
            self.remove_finalizer(policy).await?;
            self.forget(&policy.key);
            return Ok(());
        }
        self.keep_revisions(policy, previous.as_ref(), decision, &mut status)
            .await?;
        activation::show(policy, decision, &mut status, self.clock.now());
        decision
            .gangs
            .show(&mut status, policy.generation, self.clock.now());
        // Written before anything is sent: whoever comes after us must know where to look.
        self.write_status(policy, previous, status).await?;
        let spec = policy.spec.as_ref().ok();
        self.share(policy, spec, planned, &concerned, unfinished)?;
        self.states.set(&policy.uid, decision.carried.rules.as_ref());
        let mut last = None;
        for cluster in &concerned {
            let desk = self.desks.open(cluster);
            let mut known = Known {
                desk: &desk,
                last: last.take(),
            };
            let mut assignment =
                self.assignment(policy, spec, planned, planned.member(cluster), &kinds, &mut known)?;
            assignment.preserve.clone_from(&decision.carried.rules);
            assignment.suspended = planned.suspension.dispatching_to(cluster.as_str());
            last = known.last;
            desk.assign(&policy.key, assignment);
        }
        if self.aggregate_status {
            self.aggregate(policy, planned, &observed).await;
        }
        Ok(())
    }

    /// Keeps what the status is going to name, before it does.
    async fn keep_revisions(
        &self,
        policy: &Policy,
        previous: Option<&DistributionPolicyStatus>,
        decision: &Decision,
        status: &mut DistributionPolicyStatus,
    ) -> Result<(), ControllerError> {
        let mut conditions = ConditionSet::new(
            std::mem::take(&mut status.conditions),
            policy.generation,
            self.clock.now(),
        );
        if let Some(RolledOut { steps, content }) = &decision.rollout {
            self.revisions
                .store(policy, &steps.status.revision, content)
                .await?;
            self.revisions.drop(policy, &steps.dropped).await?;
            conditions.set(ROLLED_OUT, steps.completed, &steps.stand());
            for entry in &mut status.clusters {
                let name = entry.cluster.parse::<ClusterName>();
                entry.rollout = name.ok().and_then(|name| steps.clusters.get(&name).cloned());
            }
            status.rollout = Some(steps.status.clone());
        } else if decision.planned.report_only {
            // The steps stand still until something is written again.
            let before = previous.into_iter().flat_map(|status| &status.clusters);
            let before: BTreeMap<_, _> = before.map(|entry| (&entry.cluster, &entry.rollout)).collect();
            for entry in &mut status.clusters {
                entry.rollout = before.get(&entry.cluster).copied().cloned().flatten();
            }
            status.rollout = previous.and_then(|status| status.rollout.clone());
        } else {
            conditions.remove(ROLLED_OUT);
            let written = previous.and_then(|status| status.rollout.as_ref());
            let revisions = written.into_iter().flat_map(|rollout| &rollout.revisions);
            let names: Vec<String> = revisions.map(|past| past.revision.clone()).collect();
            if !policy.deleting {
                self.revisions.drop(policy, &names).await?;
            }
        }
        status.conditions = conditions.into_vec();
        Ok(())
    }

    /// The kinds of which something may be in some member.
    fn kinds(
        &self,
        policy: &Policy,
        planned: &Planned,
        previous: Option<&DistributionPolicyStatus>,
        observed: &Observed,
    ) -> BTreeSet<ObjectKind> {
        let mut kinds: BTreeSet<ObjectKind> = planned.objects.keys().map(|key| key.kind.clone()).collect();
        // What is there and not planned any more is still to be looked for, also if it was the last of its kind.
        let along = planned.dependencies();
        let wanted = |object| planned.objects.contains_key(object) || along.contains(object);
        let settled = observed
            .members
            .values()
            .all(|seen| seen.complete && seen.leaving.is_empty() && seen.objects.keys().all(wanted));
        if !settled || policy.deleting || kinds.is_empty() {
            kinds.extend(
                previous
                    .iter()
                    .flat_map(|status| &status.placed_kinds)
                    .map(ObjectKind::from),
            );
        }
        kinds
    }

    fn assignment(
        &self,
        policy: &Policy,
        spec: Option<&DistributionPolicySpec>,
        planned: &Planned,
        member: Option<&MemberPlan>,
        kinds: &BTreeSet<ObjectKind>,
        known: &mut Known<'_>,
    ) -> Result<Assignment, ControllerError> {
        let key = &policy.key;
        let name = format!("DistributionPolicy {}", key.name);
        let owner =
            Owner::new(&self.hub_id, &policy.uid, name).map_err(|source| ControllerError::Identity {
                policy: key.clone(),
                source: Box::new(source),
            })?;
        // What is not known to be unwanted stays.
        let mut prune = planned.held().next().is_none()
            && !planned
                .notes
                .iter()
                .any(|note| matches!(note, Note::KindNotServed { .. }));
        let mut refused = false;
        let mut manifests = Vec::new();
        let mut revisions = BTreeMap::new();
        for (object, entry) in member.into_iter().flat_map(|member| &member.objects) {
            match &entry.rendered {
                Rendered::Held { reason, .. } => {
                    prune = false;
                    refused |= reason.is_failure();
                }
                Rendered::Manifest {
                    manifest,
                    applied,
                    revision,
                } => {
                    manifests.push(&**manifest);
                    let wanted = Wanted {
                        revision: revision.clone(),
                        replicas: *applied,
                    };
                    revisions.insert(object.clone(), wanted);
                }
            }
        }
        let set = match known.set(key, &owner, &revisions) {
            Some(set) => set,
            None => Arc::new(object_set(key, owner, manifests)?),
        };
        known.last = Some((revisions.clone(), Arc::clone(&set)));
        let conflicts = match spec.and_then(|spec| spec.conflict_resolution) {
            Some(ConflictResolution::Overwrite) => apply::ConflictResolution::Overwrite,
            _ => apply::ConflictResolution::Abort,
        };
        Ok(Assignment {
            set,
            revisions,
            kinds: kinds.clone(),
            prune,
            conflicts,
            suspended: false,
            report_only: planned.report_only,
            shared: false,
            preserve: None,
            refused,
        })
    }

    /// Says what the policy needs to go along, and lets go of the rest.
    fn share(
        &self,
        policy: &Policy,
        spec: Option<&DistributionPolicySpec>,
        planned: &Planned,
        concerned: &BTreeSet<ClusterName>,
        tracked: BTreeSet<ObjectKey>,
    ) -> Result<(), ControllerError> {
        let overwrite = spec.and_then(|spec| spec.conflict_resolution) == Some(ConflictResolution::Overwrite);
        // Of a kind that the hub stopped serving it is not known what it refers to.
        let unsure = planned
            .notes
            .iter()
            .any(|note| matches!(note, Note::KindNotServed { .. }));
        let nothing = BTreeSet::new();
        let mut word = Word::default();
        for cluster in concerned {
            let suspended = planned.suspension.dispatching_to(cluster.as_str());
            let keep = if suspended || unsure { &tracked } else { &nothing };
            let wish = Wish {
                suspended,
                overwrite,
                report_only: planned.report_only,
            };
            word.add(cluster, planned.member(cluster), &wish, keep);
        }
        word.tracked = tracked;
        self.shared
            .speak(&self.desks, &policy.key, word, |object| self.everyone(object))
    }

    /// The policies that may need an object; `None` while they are not known.
    fn everyone(&self, object: &ObjectKey) -> Option<BTreeSet<PolicyKey>> {
        let namespace = Some(object.name.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let policies = self.policies.within(namespace)?.into_iter();
        let concerned = policies.filter(|policy| {
            let needs = policy.spec.as_ref().map_or(true, |spec| spec.propagate_deps);
            let needed = policy
                .status
                .as_ref()
                .is_some_and(|status| !status.dependencies.is_empty());
            (needs || needed) && (!policy.deleting || policy.has_finalizer())
        });
        Some(concerned.map(|policy| policy.key).collect())
    }

    /// Lets go of everything that is kept in memory of a policy.
    pub(super) fn forget(&self, policy: &PolicyKey) {
        self.templates.keep(policy, &BTreeSet::new());
        self.triggers.forget(policy);
        self.mark_book.rest(policy);
        self.shared
            .forget(&self.desks, policy, |object| self.everyone(object));
        for desk in self.desks.all() {
            desk.dismiss(policy);
        }
        if let Some(written) = self.written().remove(policy) {
            self.revisions.forget(written.uid());
        }
        self.waiting.set(policy, false);
        let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        if promises.forget(policy) {
            self.waiting.fire();
        }
    }
}

/// Sets that need not be made again.
struct Known<'a> {
    desk: &'a Desk,
    /// That of the cluster before, with what it was made of.
    last: Option<(BTreeMap<ObjectKey, Wanted>, Arc<ObjectSet>)>,
}

impl Known<'_> {
    /// The set that is made of this: most passes are about what was seen, and change nothing of what is wanted, and
    /// what is copied is the same everywhere.
    fn set(
        &self,
        policy: &PolicyKey,
        owner: &Owner,
        revisions: &BTreeMap<ObjectKey, Wanted>,
    ) -> Option<Arc<ObjectSet>> {
        let last = self.last.as_ref().filter(|(of, _)| of == revisions);
        self.desk
            .told(policy, owner, revisions)
            .or_else(|| last.map(|(_, set)| Arc::clone(set)))
    }
}

fn object_set(key: &PolicyKey, owner: Owner, manifests: Vec<&Value>) -> Result<ObjectSet, ControllerError> {
    let mut objects = Vec::with_capacity(manifests.len());
    for manifest in manifests {
        let parsed = DynamicObject::deserialize(manifest).map_err(|source| ControllerError::Object {
            policy: key.clone(),
            source,
        })?;
        objects.push(parsed);
    }
    ObjectSet::new(owner, objects).map_err(|source| ControllerError::ObjectSet {
        policy: key.clone(),
        source: Box::new(source),
    })
}

/// What may be in some cluster because the policy's objects refer to it.
fn tracked(policy: &Policy, previous: Option<&DistributionPolicyStatus>) -> BTreeSet<ObjectKey> {
    let namespace = &policy.key.name.namespace;
    let written = previous.into_iter().flat_map(|status| &status.dependencies);
    written.map(|it| it.key(namespace)).collect()
}

/// An object that is not placed anew keeps what was written of it, but for the clusters that it has left or is leaving.
fn without_left(status: &mut DistributionPolicyStatus) {
    for failover in &status.failovers {
        let mut placements = status.placements.iter_mut();
        let placement = placements.find(|it| {
            it.name == failover.name && it.kind == failover.kind && it.api_version == failover.api_version
        });
        let Some(placement) = placement else { continue };
        match placement.clusters.remove(&failover.cluster) {
            Some(replicas) if !failover.purged => {
                placement
                    .holding
                    .entry(failover.cluster.clone())
                    .or_insert(replicas);
            }
            _ => {}
        }
        if failover.purged {
            placement.holding.remove(&failover.cluster);
        }
    }
}
