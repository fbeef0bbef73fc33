//! One pass over one restore.

use kube::{Api, ResourceExt, api::ListParams, runtime::controller::Action};
use kurator_core::{clock::Clock as _, condition::ConditionSet, names::NamespacedName, reason::Reason as _};

use super::{
    error::ControllerError,
    execution::{NOBODY_KNOWS, chain},
    manager::Context,
    measure,
    members::members,
    store::HubStatus,
};
use crate::{
    api::{
        BackupExecution, ClusterPhase, ExecutionPhase, RestoreExecution, RestoreExecutionStatus, RestorePhase,
    },
    execute::{ExecuteError, RestoreStore as _},
    restore::{Restore, RestoreReason, RunView, begin, select},
    run::{RunEvent, RunId, RunReason},
};

impl Context {
    pub(super) async fn restore(&self, seen: &RestoreExecution) -> Result<Action, ControllerError> {
        let key = NamespacedName::new(seen.namespace().unwrap_or_default(), seen.name_any());
        let api: Api<RestoreExecution> = Api::namespaced(self.hub.clone(), &key.namespace);
        let found = api.get_opt(&key.name).await;
        let Some(object) = found.map_err(|source| ControllerError::hub("read restore", &key, source))? else {
            return Ok(Action::await_change());
        };
        let before = object.status.clone();
        let ended = before.as_ref().is_some_and(|status| status.phase.has_ended());
        if ended || object.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let created = object
            .creation_timestamp()
            .map_or_else(|| self.clock.now(), |at| at.0);
        let id = RunId::new(
            &key.namespace,
            &key.name,
            object.uid().unwrap_or_default(),
            created,
        );
        let restore = match Restore::new(id, &object.spec) {
            Ok(restore) => restore.with_generation(object.metadata.generation),
            Err(error) => {
                let message = chain(&error);
                let token = error.token();
                let reason = RestoreReason::Invalid { token, message };
                return self.refuse(api, &key, object, &reason).await;
            }
        };
        let now = self.clock.now();
        let store = HubStatus::new(api.clone(), object.clone());
        let failed = |source| ControllerError::Execute {
            object: key.clone(),
            source,
        };
        let begun = before.clone().filter(|status| status.started_at.is_some());
        let (after, wake_at) = if let Some(status) = begun {
            let pass = self.executor.restore_pass(&restore, &status, &store, now).await;
            let pass = pass.map_err(failed)?;
            (pass.status, pass.wake_at)
        } else {
            let members = match members(&*self.membership, &object.spec.fleet).await {
                Ok(members) => members,
                Err(reason) => {
                    self.wait(&store, before.as_ref(), &object, &reason)
                        .await
                        .map_err(failed)?;
                    return Ok(Action::requeue(NOBODY_KNOWS));
                }
            };
            let executions: Api<BackupExecution> = Api::namespaced(self.hub.clone(), &key.namespace);
            let listed = executions
                .list(&ListParams::default())
                .await
                .map_err(|source| ControllerError::hub("list executions for restore", &key, source))?;
            let views: Vec<RunView> = listed.items.iter().filter_map(view).collect();
            let run = match select(&object.spec.from, &views) {
                Ok(run) => run,
                Err(error) => {
                    let message = error.to_string();
                    let token = error.token();
                    let reason = RestoreReason::Invalid { token, message };
                    return self.refuse(api, &key, object, &reason).await;
                }
            };
            let status = begin(&restore, run, &members, now);
            let saved = store.save(&status).await.map_err(|source| ExecuteError::Store {
                run: key.name.clone(),
                source,
            });
            saved.map_err(failed)?;
            let ended = status.phase.has_ended();
            (status, (!ended).then_some(now))
        };
        self.tell(&object, before.as_ref(), &after).await;
        Ok(self.until(wake_at))
    }

    /// A restore that cannot begin yet.
    async fn wait(
        &self,
        store: &HubStatus<RestoreExecution>,
        before: Option<&RestoreExecutionStatus>,
        object: &RestoreExecution,
        reason: &RunReason,
    ) -> Result<(), ExecuteError> {
        let mut status = before.cloned().unwrap_or_default();
        status.observed_generation = object.metadata.generation;
        let old = std::mem::take(&mut status.conditions);
        let mut conditions = ConditionSet::new(old, object.metadata.generation, self.clock.now());
        conditions.ready(false, reason);
        conditions.progressing(true, reason);
        status.conditions = conditions.into_vec();
        if before == Some(&status) {
            return Ok(());
        }
        store.save(&status).await.map_err(|source| ExecuteError::Store {
            run: object.name_any(),
            source,
        })
    }

    /// A restore that never begins.
    async fn refuse(
        &self,
        api: Api<RestoreExecution>,
        key: &NamespacedName,
        object: RestoreExecution,
        reason: &RestoreReason,
    ) -> Result<Action, ControllerError> {
        let before = object.status.clone();
        let mut status = before.clone().unwrap_or_default();
        status.phase = RestorePhase::Failed;
        status.observed_generation = object.metadata.generation;
        let old = std::mem::take(&mut status.conditions);
        let mut conditions = ConditionSet::new(old, object.metadata.generation, self.clock.now());
        conditions.ready(false, reason);
        conditions.progressing(false, reason);
        conditions.degraded(true, reason);
        status.conditions = conditions.into_vec();
        let store = HubStatus::new(api, object.clone());
        store
            .save(&status)
            .await
            .map_err(|source| ControllerError::Execute {
                object: key.clone(),
                source: ExecuteError::Store {
                    run: key.name.clone(),
                    source,
                },
            })?;
        self.tell(&object, before.as_ref(), &status).await;
        Ok(Action::await_change())
    }

    /// An Event for each phase of the restore, and what there is to count.
    async fn tell(
        &self,
        object: &RestoreExecution,
        before: Option<&RestoreExecutionStatus>,
        after: &RestoreExecutionStatus,
    ) {
        let key = NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any());
        let now = self.clock.now();
        self.count(&key, measure::restore(&object.spec.fleet, before, after, now));
        if before.map(|status| status.phase) == Some(after.phase) {
            return;
        }
        let warning = matches!(after.phase, RestorePhase::Failed | RestorePhase::PartiallyFailed);
        let ready = after
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready");
        let note = ready
            .map(|condition| condition.message.clone())
            .unwrap_or_default();
        let event = RunEvent::new(warning, &format!("{:?}", after.phase), note, "Restore");
        self.publish(object, event).await;
    }
}

/// A run as a restore looks at it; `None` before it has begun.
pub(super) fn view(run: &BackupExecution) -> Option<RunView> {
    let status = run.status.as_ref()?;
    let phase = if run.metadata.deletion_timestamp.is_some() {
        ExecutionPhase::Deleting
    } else {
        status.phase
    };
    let mut view = RunView::new(run.name_any(), status.started_at.as_ref()?.0, phase);
    view.schedule.clone_from(&run.spec.schedule);
    let created = run.creation_timestamp()?.0;
    let id = RunId::new(
        run.namespace().unwrap_or_default(),
        run.name_any(),
        run.uid().unwrap_or_default(),
        created,
    );
    for entry in &status.clusters {
        // The name may have been left out of a status that was short of room.
        let backup = || id.backup_name(&entry.cluster, entry.attempt);
        let complete = match entry.phase {
            ClusterPhase::Completed => true,
            ClusterPhase::PartiallyFailed => false,
            _ => continue,
        };
        view = view.with_backup(
            entry.cluster.clone(),
            entry.backup.clone().unwrap_or_else(backup),
            complete,
        );
    }
    Some(view)
}
