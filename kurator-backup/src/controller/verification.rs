//! One pass over the verification of one schedule: scratch namespaces, a restore, and what is left of both.

use std::{collections::BTreeMap, fmt};

use futures::{StreamExt, stream};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::controller::Action as Next,
};
use kurator_core::{
    apply::FIELD_MANAGER,
    clock::Clock as _,
    condition::{ConditionSet, ConditionStatus},
    names::NamespacedName,
    reason::Reason as _,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{error::ControllerError, manager::Context, members::members, migration::ready, restore::view};
use crate::{
    api::{
        BackupExecution, BackupSchedule, RestoreExecution, RestoreExecutionSpec, VerificationPhase,
        VerificationStatus,
        labels::{self, SCRATCH_FINALIZER},
    },
    run::{RunEvent, RunReason, SeenMembers},
    verification::{Action, Ask, Seen, SeenRestore, Verification, VerificationReason, absorb, asks, step},
};

/// The condition that says what is known of the backups.
const VERIFIED: &str = "Verified";

impl Context {
    pub(super) async fn verification(&self, seen: &BackupSchedule) -> Result<Next, ControllerError> {
        let key = NamespacedName::new(seen.namespace().unwrap_or_default(), seen.name_any());
        let api: Api<BackupSchedule> = Api::namespaced(self.hub.clone(), &key.namespace);
        let found = api.get_opt(&key.name).await;
        let Some(mut object) = found.map_err(|source| ControllerError::hub("read schedule", &key, source))?
        else {
            return Ok(Next::await_change());
        };
        let leaving = object.metadata.deletion_timestamp.is_some();
        let kept = object.finalizers().iter().any(|it| it == SCRATCH_FINALIZER);
        let before = object.status.clone().unwrap_or_default().verification;
        let current = before.as_ref().and_then(|it| it.current.clone());
        if current.is_none() && (leaving || object.spec.verification.is_none()) {
            if kept {
                object = finalizer(&api, &key, &object, false).await?;
            }
            if !leaving && before.is_some() {
                self.record(&api, &key, &object, None, None).await?;
            }
            return Ok(Next::await_change());
        }
        let uid = object.uid().unwrap_or_default();
        let verification = Verification::new(&key.namespace, &key.name, uid, &object.spec);
        if !kept && !leaving && verification.is_wanted() {
            // Nothing is made anywhere before it is certain to be removed.
            object = finalizer(&api, &key, &object, true).await?;
        }
        let before = before.unwrap_or_default();
        let of_schedule = Restores {
            api: Api::namespaced(self.hub.clone(), &key.namespace),
            key: &key,
            verification: &verification,
        };
        let restore = match &current {
            None => None,
            Some(run) => of_schedule.find(&verification.restore_name(run)).await?,
        };
        let seen = self
            .look(&key, &object, &verification, &before, restore.as_ref())
            .await?;
        let next = step(&verification, &before, &seen, self.clock.now());
        let reason = next.reason.as_ref();
        let status = Some(&next.status);
        object = self.record(&api, &key, &object, status, reason).await?;
        let mut results = Vec::new();
        for action in next.actions {
            let result = match &action {
                Action::MakeScratch { cluster, request } => {
                    let made = self.scratch.make_scratch(cluster, request);
                    self.executor.patiently(made).await
                }
                Action::RemoveScratch { cluster, request } => {
                    let removed = self.scratch.remove_scratch(cluster, request);
                    self.executor.patiently(removed).await
                }
                Action::Restore { name, spec } => {
                    of_schedule.create(name, spec).await?;
                    Ok(())
                }
                Action::DeleteRestore { .. } => {
                    of_schedule.delete(restore.as_ref()).await?;
                    Ok(())
                }
                Action::ForgetRestore { .. } => {
                    of_schedule.forget(restore.as_ref()).await?;
                    Ok(())
                }
            };
            results.push((action, result));
        }
        let after = absorb(&next.status, &results);
        if after != next.status {
            object = self.record(&api, &key, &object, Some(&after), None).await?;
        }
        self.tell_verification(&object, &before, &after, reason, &next.left_behind)
            .await;
        Ok(self.until(next.wake_at))
    }

    /// What there is on the hub and on members.
    async fn look(
        &self,
        key: &NamespacedName,
        object: &BackupSchedule,
        verification: &Verification,
        status: &VerificationStatus,
        restore: Option<&RestoreExecution>,
    ) -> Result<Seen, ControllerError> {
        let mut seen = Seen {
            leaving: object.metadata.deletion_timestamp.is_some(),
            restore: restore.map(|found| seen_restore(verification, found)),
            ..Seen::default()
        };
        let cleaning = status
            .current
            .as_ref()
            .is_some_and(|run| run.phase == VerificationPhase::CleaningUp);
        seen.members = match members(&*self.membership, &object.spec.template.fleet).await {
            Ok(members) => Some(members),
            // A fleet that is gone for certain has no members to clean up.
            Err(RunReason::FleetNotFound { .. }) if cleaning => Some(SeenMembers::new()),
            Err(_) => None,
        };
        if status.current.is_none() {
            let executions: Api<BackupExecution> = Api::namespaced(self.hub.clone(), &key.namespace);
            let listed = executions
                .list(&ListParams::default().labels(labels::SCHEDULE))
                .await
                .map_err(|source| ControllerError::hub("list the executions of schedule", key, source))?;
            let runs = listed.items.iter().filter_map(view);
            seen.runs = runs
                .filter(|run| run.schedule.as_deref() == Some(&key.name))
                .collect();
        }
        let looked: Vec<_> = stream::iter(asks(verification, status, seen.restore.as_ref()))
            .map(|ask| async move {
                let Ask {
                    cluster,
                    request,
                    restore,
                } = ask;
                let scratch = self
                    .executor
                    .patiently(self.scratch.scratch(&cluster, &request))
                    .await;
                let server = match restore {
                    None => None,
                    Some(name) => {
                        let found = self
                            .executor
                            .patiently(self.executor.driver().restore(&cluster, &name));
                        Some(found.await.map(|found| found.map(|it| it.phase.stage())))
                    }
                };
                (cluster, scratch, server)
            })
            .buffer_unordered(16)
            .collect()
            .await;
        for (cluster, scratch, server) in looked {
            if let Some(server) = server {
                seen.servers.insert(cluster.clone(), server);
            }
            seen.scratch.insert(cluster, scratch);
        }
        Ok(seen)
    }

    /// Writes the status, refused by the hub if somebody else wrote it meanwhile. Without one, there is none.
    async fn record(
        &self,
        api: &Api<BackupSchedule>,
        key: &NamespacedName,
        object: &BackupSchedule,
        verification: Option<&VerificationStatus>,
        reason: Option<&VerificationReason>,
    ) -> Result<BackupSchedule, ControllerError> {
        let mut status = object.status.clone().unwrap_or_default();
        let old = std::mem::take(&mut status.conditions);
        let mut conditions = ConditionSet::new(old, object.metadata.generation, self.clock.now());
        match (verification, reason) {
            (None, _) => {
                conditions.remove(VERIFIED);
            }
            (Some(_), None) => {}
            (Some(_), Some(reason)) => {
                let verified = match reason {
                    VerificationReason::Verified { .. } => ConditionStatus::True,
                    VerificationReason::NeverVerified { .. } | VerificationReason::NotVerified { .. } => {
                        ConditionStatus::Unknown
                    }
                    _ => ConditionStatus::False,
                };
                conditions.set(VERIFIED, verified, reason);
            }
        }
        status.conditions = conditions.into_vec();
        status.verification = verification.cloned();
        if object.status.as_ref() == Some(&status) {
            return Ok(object.clone());
        }
        let mut next = object.clone();
        next.status = Some(status);
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        api.replace_status(&key.name, &params, &next)
            .await
            .map_err(|source| ControllerError::hub("write the status of schedule", key, source))
    }

    async fn tell_verification(
        &self,
        object: &BackupSchedule,
        before: &VerificationStatus,
        after: &VerificationStatus,
        reason: Option<&VerificationReason>,
        left_behind: &[String],
    ) {
        let begun = |it: &VerificationStatus| it.current.as_ref().map(|run| run.started_at.clone());
        if let (Some(run), true) = (&after.current, begun(before) != begun(after)) {
            let names: Vec<&str> = run.clusters.iter().map(|name| name.as_str()).collect();
            let note = format!("{} of {}", run.execution, names.join(", "));
            self.publish(object, RunEvent::new(false, "Verifying", note, "Verify"))
                .await;
        }
        if let Some(reason) = reason.filter(|_| before.members != after.members) {
            let good = matches!(reason, VerificationReason::Verified { .. });
            let event = RunEvent::new(!good, reason.token(), reason.to_string(), "Verify");
            self.publish(object, event).await;
        }
        if !left_behind.is_empty() && before.current.is_some() && after.current.is_none() {
            let note = format!("scratch namespaces were not removed; {}", left_behind.join("; "));
            self.publish(object, RunEvent::new(true, "LeftBehind", note, "Verify"))
                .await;
        }
    }
}

/// The restores of a schedule's verifications on the hub.
struct Restores<'a> {
    api: Api<RestoreExecution>,
    key: &'a NamespacedName,
    verification: &'a Verification,
}

impl Restores<'_> {
    fn failed(&self, action: &'static str) -> impl FnOnce(kube::Error) -> ControllerError {
        let key = self.key.clone();
        move |source| ControllerError::hub(action, &key, source)
    }

    async fn find(&self, name: &str) -> Result<Option<RestoreExecution>, ControllerError> {
        let found = self.api.get_opt(name).await;
        found.map_err(self.failed("read the restore of schedule"))
    }

    async fn create(&self, name: &str, spec: &RestoreExecutionSpec) -> Result<(), ControllerError> {
        let mark = |value: &str| BTreeMap::from([(labels::VERIFICATION.to_owned(), value.to_owned())]);
        let mut restore = RestoreExecution::new(name, spec.clone());
        restore.metadata.labels = Some(mark(&self.verification.uid));
        restore.metadata.annotations = Some(mark(&self.verification.schedule));
        restore.metadata.finalizers = Some(vec![SCRATCH_FINALIZER.to_owned()]);
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.api.create(&params, &restore).await {
            Ok(_) => Ok(()),
            // By a pass that died, or by somebody else: the next pass sees which.
            Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(()),
            Err(source) => Err(self.failed("make the restore of schedule")(source)),
        }
    }

    /// Deletes the restore that was looked at, and no other of its name.
    async fn delete(&self, restore: Option<&RestoreExecution>) -> Result<(), ControllerError> {
        let Some(restore) = restore else { return Ok(()) };
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: restore.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api.delete(&restore.name_any(), &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
            Err(source) => Err(self.failed("delete the restore of schedule")(source)),
        }
    }

    async fn forget(&self, restore: Option<&RestoreExecution>) -> Result<(), ControllerError> {
        match restore {
            Some(restore) => finalizer(&self.api, self.key, restore, false).await.map(drop),
            None => Ok(()),
        }
    }
}

/// Sets or takes away our finalizer. Refused by the hub if the object has changed meanwhile, so nobody else's is lost.
async fn finalizer<K>(
    api: &Api<K>,
    key: &NamespacedName,
    object: &K,
    wanted: bool,
) -> Result<K, ControllerError>
where
    K: Resource + Clone + DeserializeOwned + Serialize + fmt::Debug + Sync,
{
    let others = object.finalizers().iter().filter(|it| *it != SCRATCH_FINALIZER);
    let mut finalizers: Vec<&str> = others.map(String::as_str).collect();
    if wanted {
        finalizers.push(SCRATCH_FINALIZER);
    }
    let patch = json!({
        "metadata": { "resourceVersion": object.resource_version(), "finalizers": finalizers },
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(&object.name_any(), &params, &Patch::Merge(&patch))
        .await
        .map_err(|source| ControllerError::hub("set the finalizer of schedule", key, source))
}

fn seen_restore(verification: &Verification, object: &RestoreExecution) -> SeenRestore {
    let status = object.status.clone().unwrap_or_default();
    let mut seen = SeenRestore::new(status.phase);
    seen.ours = object.labels().get(labels::VERIFICATION) == Some(&verification.uid);
    seen.deleting = object.metadata.deletion_timestamp.is_some();
    seen.message = ready(&status.conditions);
    seen.clusters = status.clusters;
    seen.started_at = status.started_at.map(|at| at.0);
    seen.completed_at = status.completed_at.map(|at| at.0);
    seen
}
