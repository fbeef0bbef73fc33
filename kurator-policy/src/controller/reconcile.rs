//! One pass over one policy. It talks to the hub only, and never waits for a member.

use std::collections::{BTreeMap, BTreeSet};

use kube::{api::DynamicObject, runtime::controller::Action};
use kurator_core::{
    apply::{self, ObjectSet, Owner},
    names::ClusterName,
    observe::Snapshot,
};

use super::{
    ControllerError,
    distribution::Context,
    member::{Assignment, Wanted},
    policy::Policy,
    templates::Listed,
};
use crate::{
    api::{ConflictResolution, DistributionPolicySpec, DistributionPolicyStatus},
    placement::Running,
    propagate::{
        MemberPlan, Note, ObjectKey, ObjectKind, Observed, Planned, Rendered, Request, Template, claims,
        held_status, plan, status,
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
        let Some(fleet) = self.members.snapshot(self.clock.now()) else {
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
    fn intent(&self, policy: &Policy, fleet: &Snapshot) -> Intent {
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
        let kinds: BTreeSet<ObjectKind> = claimant.kinds().cloned().collect();
        self.templates.keep(&policy.key, &kinds);
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
        let Some(others) = self.policies.within(namespace) else {
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
        let mut planned = plan(&Request {
            policy: &policy.key,
            placement: &spec.placement,
            templates: &templates,
            overrides: &overrides,
            fleet,
            running: &self.running(policy, fleet),
            now: self.clock.now(),
            interpreter: &*self.interpreter,
        });
        if !nothing_selected || !notes.is_empty() {
            planned.notes.retain(|note| *note != Note::NothingSelected);
        }
        planned.note(notes);
        Intent::Plan(planned)
    }

    /// Where the policy's objects run, as far as the members have said.
    fn running(&self, policy: &Policy, fleet: &Snapshot) -> BTreeMap<ObjectKey, Running> {
        let mut running: BTreeMap<ObjectKey, Vec<(String, u32)>> = BTreeMap::new();
        for cluster in fleet.clusters() {
            let seen = self
                .members
                .desk(&cluster.name)
                .and_then(|desk| desk.observed(&policy.key));
            for (key, object) in seen.into_iter().flat_map(|seen| seen.objects) {
                let Some(replicas) = object.applied else { continue };
                running
                    .entry(key)
                    .or_default()
                    .push((cluster.name.to_string(), replicas));
            }
        }
        running
            .into_iter()
            .map(|(key, clusters)| (key, Running::new(clusters)))
            .collect()
    }

    fn template(&self, kind: &ObjectKind, object: &DynamicObject) -> Option<Template> {
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
        let mut observed = Observed::default();
        for cluster in &concerned {
            let seen = self
                .members
                .desk(cluster)
                .and_then(|desk| desk.observed(&policy.key));
            observed.members.insert(cluster.clone(), seen.unwrap_or_default());
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
        for cluster in &concerned {
            let Some(desk) = self.members.desk(cluster) else {
                continue;
            };
            let assignment = self.assignment(policy, spec, planned, planned.member(cluster), &kinds)?;
            desk.assign(&policy.key, assignment);
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
        })
    }

    /// Lets go of everything that is kept in memory of a policy.
    pub(super) fn forget(&self, policy: &crate::propagate::PolicyKey) {
        self.templates.keep(policy, &BTreeSet::new());
        for desk in self.members.desks() {
            desk.dismiss(policy);
        }
        self.written().remove(policy);
    }
}
