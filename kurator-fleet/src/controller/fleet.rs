//! The `Fleet` controller: who is in it, how they are, and what happens when it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::Store;
use kube::{Api, Resource, ResourceExt};
use kurator_core::condition::READY;
use kurator_core::health::ClusterUid;
use kurator_core::names::ClusterName;
use serde_json::json;

use super::attached::force_after;
use super::status::fleet_status;
use super::{Context, FINALIZER, FleetError, tombstone};
use crate::api::{AttachedCluster, Fleet, FleetStatus};
use crate::membership::{Contact, DetachMode, DetachStep, Detaching, Remains, next_step};

const AGAIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct FleetContext {
    pub(super) shared: Arc<Context>,
    pub(super) clusters: Store<AttachedCluster>,
}

impl FleetContext {
    fn clusters(&self) -> BTreeMap<String, AttachedCluster> {
        self.clusters
            .state()
            .into_iter()
            .map(|it| (it.name_any(), Arc::unwrap_or_clone(it)))
            .collect()
    }
}

pub(super) async fn reconcile(fleet: Arc<Fleet>, context: Arc<FleetContext>) -> Result<Action, FleetError> {
    let shared = &context.shared;
    // A fleet without its clusters would look as if all of them had gone.
    if context.clusters.wait_until_ready().await.is_err() {
        return Ok(Action::requeue(AGAIN));
    }
    let clusters = context.clusters();
    let status = fleet_status(&fleet, &clusters, shared.clock.now());
    if fleet.metadata.deletion_timestamp.is_some() {
        return dissolve(&fleet, shared, &clusters, &status).await;
    }
    shared.hold(&*fleet, FINALIZER).await?;
    if fleet.status.as_ref() == Some(&status) {
        return Ok(Action::await_change());
    }
    let name = fleet.name_any();
    let api: Api<Fleet> = Api::namespaced(shared.hub.clone(), &shared.namespace);
    // A merge patch leaves what it does not mention: what is unset now has to be said.
    let mut status_json = json!(status);
    if status.omitted_clusters.is_none() {
        status_json["omittedClusters"] = serde_json::Value::Null;
    }
    let patch = json!({ "metadata": { "uid": fleet.uid() }, "status": status_json });
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(|source| FleetError::hub("write the status of Fleet", &name, source))?;
    tell(&fleet, &status, shared).await;
    Ok(Action::await_change())
}

async fn tell(fleet: &Fleet, status: &FleetStatus, context: &Context) {
    let ready = |status: &FleetStatus| status.conditions.iter().find(|it| it.type_ == READY).cloned();
    let Some(now) = ready(status) else { return };
    let before = fleet
        .status
        .as_ref()
        .and_then(ready)
        .map(|it| (it.status, it.reason));
    if before != Some((now.status.clone(), now.reason.clone())) {
        let type_ = if now.status == "True" {
            EventType::Normal
        } else {
            EventType::Warning
        };
        context
            .tell(fleet.object_ref(&()), type_, &now.reason, &now.message)
            .await;
    }
}

/// Takes what was placed off every member that no other fleet has; each by itself, so that one that does not answer
/// keeps nobody else.
async fn dissolve(
    fleet: &Fleet,
    context: &Context,
    clusters: &BTreeMap<String, AttachedCluster>,
    status: &FleetStatus,
) -> Result<Action, FleetError> {
    let name = fleet.name_any();
    if !fleet.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::await_change());
    }
    let policy = fleet.spec.detach.clone().unwrap_or_default();
    let now = context.clock.now();
    let mut waiting = Vec::new();
    let members = status
        .clusters
        .iter()
        .filter_map(|member| clusters.get(&member.name));
    for cluster in members.filter(|_| policy.mode != DetachMode::Orphan) {
        let cluster_name = cluster.name_any();
        let uid = cluster
            .status
            .as_ref()
            .and_then(|status| status.cluster_uid.clone())
            .map(ClusterUid::new);
        let Some(uid) = uid else { continue };
        match context.fleets.in_a_fleet(&uid, Some(&name)) {
            Some(true) => continue,
            Some(false) => {}
            None => return Ok(Action::requeue(AGAIN)),
        }
        let member = cluster_name.parse::<ClusterName>().ok();
        let engaged = member.as_ref().and_then(|member| context.members.get(member));
        let mut detaching = Detaching {
            mode: policy.mode,
            since: fleet
                .metadata
                .deletion_timestamp
                .as_ref()
                .map_or(now, |time| time.0),
            patience: force_after(&policy),
            contact: if engaged.is_some() {
                Contact::Answers
            } else {
                Contact::Silent
            },
            remains: Remains::NotCounted,
            uid: Some(uid),
        };
        if let Some(engaged) = engaged {
            match context.cleaner.clean(&engaged.client()).await {
                Ok(remain) => detaching.remains = Remains::Counted(remain),
                Err(error) => tracing::warn!(cluster = %cluster_name, %error, "cleaning goes on later"),
            }
        }
        match next_step(&detaching, now) {
            DetachStep::Release {
                tombstone: Some(tombstone),
            } => {
                tombstone::bury(&context.hub, cluster, &tombstone).await?;
            }
            DetachStep::Release { tombstone: None } => {}
            DetachStep::Clean | DetachStep::Blocked { .. } => waiting.push(cluster_name),
        }
    }
    if waiting.is_empty() {
        context.release(fleet, FINALIZER).await?;
        return Ok(Action::await_change());
    }
    let note = format!(
        "{} members are not clean yet, the first is {}",
        waiting.len(),
        waiting.join(", ")
    );
    context
        .tell(
            fleet.object_ref(&()),
            EventType::Normal,
            "Detaching",
            note.get(..200).unwrap_or(&note),
        )
        .await;
    Ok(Action::requeue(AGAIN))
}
