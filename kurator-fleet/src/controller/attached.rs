//! The `AttachedCluster` controller: status, identity on record, Events, and leaving.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};
use kurator_core::condition::{ConditionSet, DEGRADED, READY};
use kurator_core::health::ClusterUid;
use kurator_core::kubeconfig::KubeconfigRef;
use kurator_core::names::{ClusterName, NamespacedName};
use serde_json::json;

use super::context::{Context, Versions};
use super::status::{Said, attached_status};
use super::tombstone::Removed;
use super::{FINALIZER, FleetError, tombstone};
use crate::api::{AttachedCluster, AttachedClusterStatus, DetachPolicy};
use crate::membership::{Contact, DetachStep, Detaching, Remains, next_step};

/// How soon a leaving cluster is looked at again while something happens.
const SOON: Duration = Duration::from_secs(1);
/// How soon when it is waited for.
const LATER: Duration = Duration::from_secs(10);
/// How long `Force` waits unless it is said otherwise.
pub(super) const FORCE_AFTER: Duration = Duration::from_secs(600);

pub(super) async fn reconcile(
    cluster: Arc<AttachedCluster>,
    context: Arc<Context>,
) -> Result<Action, FleetError> {
    let name = cluster.name_any();
    if cluster.metadata.deletion_timestamp.is_some() {
        return detach(&cluster, &context).await;
    }
    let Ok(member) = name.parse::<ClusterName>() else {
        let said = Said::new(
            "NameInvalid",
            "a member's name is an RFC 1123 label of at most 63 characters; rename it",
        );
        return not_usable(&cluster, &context, &said).await;
    };
    context.hold(&*cluster, FINALIZER).await?;
    let Some(known) = context.members.status(&member) else {
        return Ok(Action::await_change());
    };
    let version = context.versions.of(&context.members, &member).await;
    let status = attached_status(&cluster, &known, version, context.clock.now());
    write(&cluster, &context, status).await?;
    Ok(Action::requeue(Versions::FRESH))
}

fn condition<'a>(status: &'a AttachedClusterStatus, type_: &str) -> Option<&'a Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

async fn not_usable(cluster: &AttachedCluster, context: &Context, said: &Said) -> Result<Action, FleetError> {
    let mut status = cluster.status.clone().unwrap_or_default();
    let mut conditions = ConditionSet::new(
        std::mem::take(&mut status.conditions),
        cluster.metadata.generation,
        context.clock.now(),
    );
    conditions.ready(false, said);
    status.conditions = conditions.into_vec();
    status.observed_generation = cluster.metadata.generation;
    write(cluster, context, status).await?;
    Ok(Action::await_change())
}

/// Writes a status that is another than before, and tells of a change of `Ready` by an Event.
async fn write(
    cluster: &AttachedCluster,
    context: &Context,
    status: AttachedClusterStatus,
) -> Result<(), FleetError> {
    if cluster.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let name = cluster.name_any();
    let api: Api<AttachedCluster> = Api::namespaced(context.hub.clone(), &context.namespace);
    // Of the object this status is about, not of one that came after it under its name.
    let patch = json!({ "metadata": { "uid": cluster.uid() }, "status": status });
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(|source| FleetError::hub("write the status of AttachedCluster", &name, source))?;
    for (type_, wanted) in [(READY, "True"), (DEGRADED, "False")] {
        let Some(now) = condition(&status, type_) else {
            continue;
        };
        let before = cluster
            .status
            .as_ref()
            .and_then(|status| condition(status, type_));
        let state = |condition: &Condition| (condition.status.clone(), condition.reason.clone());
        // That nothing is wrong with a cluster that has just joined is no news.
        if before.map(state) == Some(state(now))
            || (before.is_none() && type_ == DEGRADED && now.status == wanted)
        {
            continue;
        }
        let event = if now.status == wanted {
            EventType::Normal
        } else {
            EventType::Warning
        };
        context
            .tell(cluster.object_ref(&()), event, &now.reason, &now.message)
            .await;
    }
    Ok(())
}

/// Whether anything can be done on a member now. One that answers and is not engaged is not ours to act on.
pub(super) fn contact(context: &Context, member: Option<&ClusterName>) -> Contact {
    let known = member.and_then(|member| context.members.status(member));
    let engaged = member.is_some_and(|member| context.members.get(member).is_some());
    match known.map(|known| Contact::from(&known.health)) {
        Some(Contact::Answers) if !engaged => Contact::Silent,
        Some(contact) => contact,
        None => Contact::Silent,
    }
}

async fn detach(cluster: &AttachedCluster, context: &Context) -> Result<Action, FleetError> {
    if !cluster
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == FINALIZER)
    {
        return Ok(Action::await_change());
    }
    let name = cluster.name_any();
    let member = name.parse::<ClusterName>().ok();
    let engaged = member.as_ref().and_then(|member| context.members.get(member));
    let known = member.as_ref().and_then(|member| context.members.status(member));
    if member.is_some() && known.is_none() {
        // Not probed yet: nothing is known that could be decided on.
        return Ok(Action::requeue(SOON));
    }
    let contact = contact(context, member.as_ref());
    let policy = cluster.spec.detach.clone().unwrap_or_default();
    let on_record = cluster
        .status
        .as_ref()
        .and_then(|status| status.cluster_uid.clone())
        .map(ClusterUid::new);
    let now = context.clock.now();
    let mut detaching = Detaching {
        mode: policy.mode,
        since: cluster
            .metadata
            .deletion_timestamp
            .as_ref()
            .map_or(now, |time| time.0),
        patience: force_after(&policy),
        contact,
        remains: Remains::NotCounted,
        uid: on_record.or_else(|| known.and_then(|known| known.uid)),
    };
    let mut step = next_step(&detaching, now);
    if step == DetachStep::Clean
        && let Some(engaged) = engaged
    {
        let remain = context.cleaner.clean(&engaged.client()).await;
        let remain = remain.map_err(|source| FleetError::Member {
            cluster: name.clone(),
            source: Box::new(source),
        })?;
        detaching.remains = Remains::Counted(remain);
        step = next_step(&detaching, now);
    }
    match step {
        DetachStep::Release { tombstone } => {
            if let Some(tombstone) = &tombstone {
                let secret = &cluster.spec.kubeconfig;
                let place = NamespacedName::new(cluster.namespace().unwrap_or_default(), &secret.name);
                let kubeconfig = KubeconfigRef::new(place).with_key(&secret.key);
                tombstone::bury(context, &name, &kubeconfig, tombstone, Removed::Cluster).await?;
                let note = "removed without being cleaned; it will be cleaned when it returns";
                context
                    .tell(cluster.object_ref(&()), EventType::Warning, "Buried", note)
                    .await;
            }
            context.release(cluster, FINALIZER).await?;
            Ok(Action::await_change())
        }
        DetachStep::Blocked { reason, until } => {
            not_usable(cluster, context, &Said::new(reason.as_str(), reason.to_string())).await?;
            let wait = until.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or(SOON));
            Ok(Action::requeue(wait.unwrap_or(LATER).clamp(SOON, LATER)))
        }
        DetachStep::Clean => {
            let left = match detaching.remains {
                Remains::Counted(remain) => format!("{remain} objects are still on the cluster"),
                Remains::NotCounted => "being cleaned".to_owned(),
            };
            not_usable(cluster, context, &Said::new("Detaching", left)).await?;
            Ok(Action::requeue(SOON))
        }
    }
}

pub(super) fn force_after(policy: &DetachPolicy) -> Duration {
    policy
        .timeout
        .as_ref()
        .map_or(FORCE_AFTER, |timeout| Duration::from(*timeout))
}
