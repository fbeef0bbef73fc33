//! The `Fleet` controller: who is in it, how they are, and what happens when it goes.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::Store;
use kube::{Api, Resource, ResourceExt};
use kurator_core::condition::READY;
use kurator_core::names::ClusterName;
use serde_json::json;

use super::attached::{contact, force_after};
use super::context::{Context, Versions};
use super::status::{
    Candidate, Candidates, Members, Waiting, dissolving_status, fleet_status, of_attached, of_managed,
    shadowed,
};
use super::tombstone::Removed;
use super::{FINALIZER, FleetError, tombstone};
use crate::api::{AttachedCluster, Fleet, FleetStatus, MemberKind};
use crate::membership::{DetachMode, DetachStep, Detaching, Remains, next_step};

const AGAIN: Duration = Duration::from_secs(2);
/// How many members of a fleet that is being deleted are cleaned at once.
const AT_ONCE: usize = 16;

#[derive(Debug)]
pub(super) struct FleetContext {
    pub(super) shared: Arc<Context>,
    pub(super) attached: Store<AttachedCluster>,
}

impl FleetContext {
    /// Every cluster of the namespace; `None` before all of them are known. A fleet without its clusters would look as
    /// if all of them had gone.
    async fn candidates(&self) -> Option<Candidates> {
        self.attached.wait_until_ready().await.ok()?;
        let managed = self.shared.fleets.managed()?;
        let attached = self.attached.state().into_iter();
        let mut candidates: Candidates = attached
            .map(|cluster| {
                (
                    (cluster.name_any(), MemberKind::AttachedCluster),
                    of_attached(&cluster),
                )
            })
            .collect();
        for registered in managed {
            let name = &registered.member.name;
            let taken = candidates.contains_key(&(name.to_string(), MemberKind::AttachedCluster));
            let candidate = if taken {
                shadowed(&registered)
            } else {
                let members = &self.shared.members;
                let version = self.shared.versions.of(members, name).await;
                of_managed(&registered, members.status(name).as_ref(), version)
            };
            candidates.extend(candidate.map(|it| ((name.to_string(), MemberKind::Cluster), it)));
        }
        Some(candidates)
    }
}

pub(super) async fn reconcile(fleet: Arc<Fleet>, context: Arc<FleetContext>) -> Result<Action, FleetError> {
    let shared = &context.shared;
    let Some(candidates) = context.candidates().await else {
        return Ok(Action::requeue(AGAIN));
    };
    if fleet.metadata.deletion_timestamp.is_some() {
        return dissolve(&fleet, shared, &candidates).await;
    }
    shared.hold(&*fleet, FINALIZER).await?;
    let status = fleet_status(&fleet, &candidates, shared.clock.now());
    write(&fleet, &status, shared).await?;
    Ok(Action::requeue(Versions::FRESH))
}

/// Writes a status that is another than before, and tells of a change of `Ready` by an Event.
async fn write(fleet: &Fleet, status: &FleetStatus, context: &Context) -> Result<(), FleetError> {
    if fleet.status.as_ref() == Some(status) {
        return Ok(());
    }
    let name = fleet.name_any();
    let api: Api<Fleet> = Api::namespaced(context.hub.clone(), &context.namespace);
    // A merge patch leaves what it does not mention: what is unset now has to be said.
    let mut status_json = json!(status);
    if status.omitted_clusters.is_none() {
        status_json["omittedClusters"] = serde_json::Value::Null;
    }
    if status.clusters.is_empty() {
        status_json["clusters"] = json!([]);
    }
    let patch = json!({ "metadata": { "uid": fleet.uid() }, "status": status_json });
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(|source| FleetError::hub("write the status of Fleet", &name, source))?;
    let ready = |status: &FleetStatus| status.conditions.iter().find(|it| it.type_ == READY).cloned();
    let Some(now) = ready(status) else { return Ok(()) };
    let before = fleet.status.as_ref().and_then(ready);
    if before.map(|it| (it.status, it.reason)) != Some((now.status.clone(), now.reason.clone())) {
        let type_ = if now.status == "True" {
            EventType::Normal
        } else {
            EventType::Warning
        };
        context
            .tell(fleet.object_ref(&()), type_, &now.reason, &now.message)
            .await;
    }
    Ok(())
}

/// Takes what was placed off every member that no other fleet has; each by itself, so that one that does not answer
/// keeps nobody else.
async fn dissolve(fleet: &Fleet, context: &Context, candidates: &Candidates) -> Result<Action, FleetError> {
    if !fleet.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::await_change());
    }
    let (now, mode) = (
        context.clock.now(),
        fleet.spec.detach.clone().unwrap_or_default().mode,
    );
    let mut members = Vec::new();
    if mode != DetachMode::Orphan {
        let listed = Members::of(fleet, candidates).listed.into_values();
        members.extend(listed.flatten().cloned());
    }
    let cleaning: Vec<_> = members
        .into_iter()
        .map(|member| let_go(member, fleet, context, now))
        .collect();
    let let_go: Vec<Result<Option<Waiting>, FleetError>> = futures::stream::iter(cleaning)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut waiting: Vec<Waiting> = let_go
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect();
    if waiting.is_empty() {
        context.release(fleet, FINALIZER).await?;
        return Ok(Action::await_change());
    }
    waiting.sort_by(|a, b| a.name.cmp(&b.name));
    let status = dissolving_status(fleet, candidates, &waiting, now);
    write(fleet, &status, context).await?;
    Ok(Action::requeue(AGAIN))
}

/// Cleans one member of a fleet that goes; what is still waited for there, if anything.
async fn let_go(
    candidate: Candidate,
    fleet: &Fleet,
    context: &Context,
    now: Timestamp,
) -> Result<Option<Waiting>, FleetError> {
    let waiting = |blocked| {
        Ok(Some(Waiting {
            name: candidate.status.name.clone(),
            blocked,
        }))
    };
    let member = candidate.status.name.parse::<ClusterName>().ok();
    let known = member.as_ref().and_then(|member| context.members.status(member));
    // One that never answered holds nothing of ours.
    let Some(uid) = candidate
        .uid
        .clone()
        .or_else(|| known.as_ref().and_then(|known| known.uid.clone()))
    else {
        return Ok(None);
    };
    match context.fleets.in_a_fleet(&uid, Some(&fleet.name_any())) {
        Some(true) => return Ok(None),
        Some(false) => {}
        None => return waiting(None),
    }
    if known.is_none() {
        // Not probed yet: nothing is known that could be decided on.
        return waiting(None);
    }
    let policy = fleet.spec.detach.clone().unwrap_or_default();
    let mut detaching = Detaching {
        mode: policy.mode,
        since: fleet
            .metadata
            .deletion_timestamp
            .as_ref()
            .map_or(now, |time| time.0),
        patience: force_after(&policy),
        contact: contact(context, member.as_ref()),
        remains: Remains::NotCounted,
        uid: Some(uid),
    };
    let mut step = next_step(&detaching, now);
    let engaged = member.as_ref().and_then(|member| context.members.get(member));
    if step == DetachStep::Clean
        && let Some(engaged) = engaged
    {
        match context.cleaner.clean(&engaged.client()).await {
            Ok(remain) => {
                detaching.remains = Remains::Counted(remain);
                step = next_step(&detaching, now);
            }
            Err(error) => {
                tracing::warn!(cluster = %candidate.status.name, %error, "cleaning goes on later");
            }
        }
    }
    match step {
        DetachStep::Release { tombstone: None } => Ok(None),
        DetachStep::Release {
            tombstone: Some(tombstone),
        } => {
            let (name, kubeconfig) = (&candidate.status.name, &candidate.kubeconfig);
            tombstone::bury(context, name, kubeconfig, &tombstone, Removed::Fleet).await?;
            Ok(None)
        }
        DetachStep::Clean => waiting(None),
        DetachStep::Blocked { reason, .. } => waiting(Some(reason)),
    }
}
