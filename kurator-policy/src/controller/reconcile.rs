//! One pass over one policy. It talks to the hub only, and never waits for a member.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use kube::{api::DynamicObject, runtime::controller::Action};
use kurator_core::{
    apply::{self, ObjectSet, Owner},
    names::ClusterName,
    observe::Snapshot,
};

use tokio::time::Instant;

use super::{
    ControllerError,
    distribution::Context,
    member::{Assignment, Wanted},
    policy::Policy,
    promises::goes_by_room,
    shared::{Wish, Word},
    shown::ShownReplicas,
    templates::Listed,
};
use crate::{
    api::{
        ConflictResolution, DistributionPolicySpec, DistributionPolicyStatus, ObjectPlacement, OverridePolicy,
    },
    placement::Running,
    propagate::{
        MemberPlan, Note, ObjectKey, ObjectKind, Observed, Planned, PolicyKey, Rendered, Request, Template,
        attach, claims, held_status, plan, status,
    },
};

/// What there is to do for a policy.
enum Intent {
    /// Make this true.
    Plan(Planned),
    /// Leave everything as it is, and say why.
    Hold(Note),
    /// Wait for what is not known yet; it triggers the policy when it is.
    Wait,
}

impl Context {
    pub(super) async fn reconcile(&self, policy: Policy) -> Result<Action, ControllerError> {
        if policy.deleting && !policy.has_finalizer() {
            self.forget(&policy.key);
            return Ok(Action::await_change());
        }
        let Some(fleet) = self.fleet.snapshot() else {
            return Ok(Action::await_change());
        };
        let intent = if policy.deleting {
            Intent::Plan(Planned::empty())
        } else {
            self.intent(&policy, &fleet)
        };
        match intent {
            Intent::Wait => {}
            Intent::Hold(note) => {
                let previous = self.previous(&policy);
                let status = held_status(policy.generation, &note, previous.as_ref(), self.clock.now());
                self.write_status(&policy, previous, status).await?;
            }
            Intent::Plan(planned) => self.pursue(&policy, &fleet, &planned).await?,
        }
        Ok(Action::await_change())
    }

    /// Plans, as far as everything that the plan depends on is known.
    fn intent(&self, policy: &Policy, fleet: &Arc<Snapshot>) -> Intent {
        let spec = match &policy.spec {
            Ok(spec) => spec,
            Err(problem) => {
                return Intent::Hold(Note::InvalidSpec {
                    problem: problem.clone(),
                });
            }
        };
        let claimant = match policy.claimant() {
            Ok(claimant) => claimant,
            Err(problem) => return Intent::Hold(Note::InvalidSpec { problem }),
        };
        let mut kinds: BTreeSet<ObjectKind> = claimant.kinds().cloned().collect();
        let namespace = policy.key.name.namespace.as_str();
        let Some(overrides) = self.overrides.within(namespace) else {
            return Intent::Wait;
        };
        let (overrides, problems) = overrides;
        if let Some(note) = problems.into_iter().next() {
            return Intent::Hold(note);
        }
        let mut notes = Vec::new();
        let mut templates = Vec::new();
        let mut waiting = false;
        for kind in &kinds {
            match self.templates.list(&policy.key, kind) {
                Listed::NotYet => waiting = true,
                Listed::NotServed => notes.push(Note::KindNotServed { kind: kind.clone() }),
                Listed::Objects(objects) => {
                    templates.extend(objects.iter().filter_map(|object| self.template(kind, object)));
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
            .filter_map(|other| other.claimant().ok())
            .collect();
        templates.retain(|template| claimant.selects(template).is_some());
        let nothing_selected = templates.is_empty();
        let mut claims = claims(&claimants, &templates);
        templates.retain(|template| match claims.remove(&template.key) {
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
        let referred = if spec.propagate_deps {
            match self.referred(&policy.key, &templates, &mut kinds, &mut notes) {
                Some(referred) => referred,
                None => return Intent::Wait,
            }
        } else {
            Vec::new()
        };
        self.templates.keep(&policy.key, &kinds);
        let mut planned = self.plan(policy, spec, &templates, &referred, &overrides, fleet);
        if !nothing_selected || !notes.is_empty() {
            planned.notes.retain(|note| *note != Note::NothingSelected);
        }
        planned.note(notes);
        Intent::Plan(planned)
    }

    /// Plans, and takes the room of what is planned before anybody else plans.
    fn plan(
        &self,
        policy: &Policy,
        spec: &DistributionPolicySpec,
        templates: &[Template],
        referred: &[Template],
        overrides: &[OverridePolicy],
        fleet: &Arc<Snapshot>,
    ) -> Planned {
        let running = running(self.previous(policy).as_ref(), templates, fleet);
        let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = ShownReplicas::new(&self.desks, &self.facts);
        let shown =
            |policy: &PolicyKey, cluster: &ClusterName, object: &ObjectKey| shown.of(policy, cluster, object);
        // What was promised fits the fleet as it is now, not as it was when this pass began.
        let fleet = self.fleet.snapshot().unwrap_or_else(|| Arc::clone(fleet));
        let fleet = if goes_by_room(&spec.placement) {
            promises.deduct(&fleet, &policy.key, &running)
        } else {
            fleet
        };
        let request = Request {
            policy: &policy.key,
            placement: &spec.placement,
            suspension: spec.suspension.as_ref(),
            templates,
            overrides,
            fleet: &fleet,
            running: &running,
            now: self.clock.now(),
            interpreter: &*self.interpreter,
        };
        let mut planned = plan(&request);
        let freed = promises.keep(
            &policy.key,
            &planned,
            templates,
            &*self.interpreter,
            &shown,
            Instant::now(),
        );
        if promises.is_overtaken(&policy.key, &shown) {
            self.fleet.look_again();
        }
        drop(promises);
        self.waiting.set(&policy.key, planned.waits_for_room());
        if freed {
            self.waiting.fire();
        }
        if spec.propagate_deps {
            attach(&request, referred, &mut planned);
        }
        planned
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
        planned: &Planned,
    ) -> Result<(), ControllerError> {
        if !policy.deleting && !policy.has_finalizer() {
            // Nothing leaves the hub before it is certain to be withdrawn; the patch brings the policy back here.
            return self.add_finalizer(policy).await;
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
        let mut unfinished = BTreeSet::new();
        let mut observed = Observed::default();
        for cluster in &concerned {
            let mut seen = self.desks.open(cluster).observed(&policy.key);
            let plan = planned.member(cluster);
            let left = self
                .shared
                .fold(&self.desks, &policy.key, cluster, plan, &tracked, &mut seen);
            unfinished.extend(left);
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
            self.remove_finalizer(policy).await?;
            self.forget(&policy.key);
            return Ok(());
        }
        // Written before anything is sent: whoever comes after us must know where to look.
        self.write_status(policy, previous, status).await?;
        let spec = policy.spec.as_ref().ok();
        self.share(policy, spec, planned, &concerned, unfinished)?;
        for cluster in &concerned {
            let mut assignment = self.assignment(policy, spec, planned, planned.member(cluster), &kinds)?;
            assignment.suspended = planned.suspension.dispatching_to(cluster.as_str());
            self.desks.open(cluster).assign(&policy.key, assignment);
        }
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
        let settled = observed
            .members
            .values()
            .all(|seen| seen.complete && seen.leaving.is_empty());
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
        let mut objects = Vec::new();
        let mut revisions = BTreeMap::new();
        for (object, entry) in member.into_iter().flat_map(|member| &member.objects) {
            match &entry.rendered {
                Rendered::Held { .. } => prune = false,
                Rendered::Manifest {
                    manifest,
                    applied,
                    revision,
                } => {
                    let parsed =
                        serde_json::from_value::<DynamicObject>(manifest.clone()).map_err(|source| {
                            ControllerError::Object {
                                policy: key.clone(),
                                source,
                            }
                        })?;
                    objects.push(parsed);
                    let wanted = Wanted {
                        revision: revision.clone(),
                        replicas: *applied,
                    };
                    revisions.insert(object.clone(), wanted);
                }
            }
        }
        let set = ObjectSet::new(owner, objects).map_err(|source| ControllerError::ObjectSet {
            policy: key.clone(),
            source: Box::new(source),
        })?;
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
            shared: false,
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
            let wish = Wish { suspended, overwrite };
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
        self.shared
            .forget(&self.desks, policy, |object| self.everyone(object));
        for desk in self.desks.all() {
            desk.dismiss(policy);
        }
        self.written().remove(policy);
        self.waiting.set(policy, false);
        let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        if promises.forget(policy) {
            self.waiting.fire();
        }
    }
}

/// What may be in some cluster because the policy's objects refer to it.
fn tracked(policy: &Policy, previous: Option<&DistributionPolicyStatus>) -> BTreeSet<ObjectKey> {
    let namespace = &policy.key.name.namespace;
    let written = previous.into_iter().flat_map(|status| &status.dependencies);
    written.map(|it| it.key(namespace)).collect()
}

/// Where the objects run: as it was last decided, which the status on the hub says whether or not a member can be
/// asked. What has no replicas is wherever the policy has something.
fn running(
    previous: Option<&DistributionPolicyStatus>,
    templates: &[Template],
    fleet: &Snapshot,
) -> BTreeMap<ObjectKey, Running> {
    let member = |name: &str| {
        let name = name.parse::<ClusterName>().ok()?;
        fleet.get(&name).map(|_| name.to_string())
    };
    let written: BTreeMap<_, _> = previous
        .iter()
        .flat_map(|status| &status.placements)
        .map(|placement| {
            let ObjectPlacement {
                api_version,
                kind,
                name,
                ..
            } = placement;
            ((api_version.as_str(), kind.as_str(), name.as_str()), placement)
        })
        .collect();
    let everywhere: Vec<_> = previous
        .iter()
        .flat_map(|status| &status.clusters)
        .filter_map(|entry| Some((member(&entry.cluster)?, 0)))
        .collect();
    let mut running = BTreeMap::new();
    for template in templates {
        let key = &template.key;
        let found = written.get(&(
            key.kind.api_version.as_str(),
            key.kind.kind.as_str(),
            key.name.name.as_str(),
        ));
        let today = match (found, template.replicas) {
            (Some(placement), _) => {
                let clusters = placement.clusters.iter().filter_map(|(cluster, replicas)| {
                    Some((member(cluster)?, u32::try_from(*replicas).unwrap_or(0)))
                });
                let mut today = Running::new(clusters);
                today.affinity.clone_from(&placement.affinity);
                today
            }
            (None, None) => Running::new(everywhere.clone()),
            (None, Some(_)) => continue,
        };
        running.insert(key.clone(), today);
    }
    running
}
