//! One pass over one execution.

use std::time::Duration;

use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use kurator_core::{
    apply::FIELD_MANAGER, clock::Clock as _, condition::ConditionSet, names::NamespacedName,
    reason::Reason as _,
};
use serde_json::json;

use super::{error::ControllerError, manager::Context, measure, members::members, store::HubStatus};
use crate::{
    api::{BackupExecution, BackupExecutionStatus, ExecutionPhase, labels::FINALIZER},
    execute::StatusStore as _,
    run::{Prepared, Run, RunEvent, RunId, RunReason, SeenMembers, begin, events},
};

/// How soon a fleet that nobody knows, or a membership that cannot be read, is asked for again; a change comes first.
pub(super) const NOBODY_KNOWS: Duration = Duration::from_secs(30);

impl Context {
    pub(super) async fn execution(&self, seen: &BackupExecution) -> Result<Action, ControllerError> {
        let key = NamespacedName::new(seen.namespace().unwrap_or_default(), seen.name_any());
        let api: Api<BackupExecution> = Api::namespaced(self.hub.clone(), &key.namespace);
        // The watch may be behind what the pass before wrote, and a pass acts on what is on record.
        let Some(mut object) = api
            .get_opt(&key.name)
            .await
            .map_err(|source| ControllerError::hub("read execution", &key, source))?
        else {
            return Ok(Action::await_change());
        };
        if object.metadata.deletion_timestamp.is_some() {
            return self.delete(&api, &key, object).await;
        }
        if object.status.as_ref().is_some_and(is_done) {
            return Ok(Action::await_change());
        }
        if !object.finalizers().iter().any(|it| it == FINALIZER) {
            // Nothing is created anywhere before it is certain to be deleted.
            object = set_finalizer(&api, &key, &object, true).await?;
        }
        let policy = match Prepared::new(&object.spec.policy) {
            Ok(policy) => policy,
            Err(error) => {
                let message = format!("{}: {}", error.token(), chain(&error));
                let reason = RunReason::InvalidPolicy { message };
                self.hold_back(&api, object, &reason, true).await?;
                return Ok(Action::await_change());
            }
        };
        let members = match members(&*self.membership, policy.fleet()).await {
            Ok(members) => members,
            Err(reason) => {
                let begun = object.status.as_ref().is_some_and(|it| it.started_at.is_some());
                if !begun {
                    self.hold_back(&api, object, &reason, false).await?;
                }
                return Ok(Action::requeue(NOBODY_KNOWS));
            }
        };
        let run = self.run_of(&object, policy, members);
        let now = self.clock.now();
        let before = object.status.clone();
        let store = HubStatus::new(api, object.clone());
        let begun = before.clone().filter(|status| status.started_at.is_some());
        let (after, wake_at) = match begun {
            None => {
                let status = begin(&run, now);
                store
                    .save(&status)
                    .await
                    .map_err(|source| ControllerError::Execute {
                        object: key.clone(),
                        source: crate::execute::ExecuteError::Store {
                            run: key.name.clone(),
                            source,
                        },
                    })?;
                let done = is_done(&status);
                (status, (!done).then_some(now))
            }
            Some(status) => {
                let pass = self.executor.pass(&run, &status, &store, now).await;
                let pass = pass.map_err(|source| ControllerError::Execute {
                    object: key.clone(),
                    source,
                })?;
                (pass.status, pass.wake_at)
            }
        };
        self.count(
            &key,
            measure::run(run.policy.fleet(), before.as_ref(), &after, now),
        );
        for event in events(before.as_ref(), &after) {
            self.publish(&object, event).await;
        }
        Ok(self.until(wake_at))
    }

    fn run_of(&self, object: &BackupExecution, policy: Prepared, members: SeenMembers) -> Run {
        let created: Timestamp = object
            .creation_timestamp()
            .map_or_else(|| self.clock.now(), |at| at.0);
        let id = RunId::new(
            object.namespace().unwrap_or_default(),
            object.name_any(),
            object.uid().unwrap_or_default(),
            created,
        );
        Run::new(id, policy)
            .with_cancel(object.spec.cancel)
            .with_generation(object.metadata.generation)
            .with_members(members)
            .with_preflight(std::sync::Arc::clone(&self.preflight))
    }

    /// Says why a run has not begun, or never will.
    async fn hold_back(
        &self,
        api: &Api<BackupExecution>,
        object: BackupExecution,
        reason: &RunReason,
        for_good: bool,
    ) -> Result<(), ControllerError> {
        let key = NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any());
        let before = object.status.clone();
        let mut status = before.clone().unwrap_or_default();
        let now = self.clock.now();
        let mut conditions = ConditionSet::new(
            std::mem::take(&mut status.conditions),
            object.metadata.generation,
            now,
        );
        conditions.ready(false, reason);
        conditions.progressing(!for_good, reason);
        conditions.degraded(for_good, reason);
        status.conditions = conditions.into_vec();
        status.observed_generation = object.metadata.generation;
        if for_good {
            status.phase = ExecutionPhase::Failed;
        }
        if before.as_ref() == Some(&status) {
            return Ok(());
        }
        let store = HubStatus::new(api.clone(), object.clone());
        store
            .save(&status)
            .await
            .map_err(|source| ControllerError::Execute {
                object: key.clone(),
                source: crate::execute::ExecuteError::Store {
                    run: key.name.clone(),
                    source,
                },
            })?;
        let fleet = &object.spec.policy.fleet;
        self.count(&key, measure::run(fleet, before.as_ref(), &status, now));
        for event in events(before.as_ref(), &status) {
            self.publish(&object, event).await;
        }
        Ok(())
    }

    async fn delete(
        &self,
        api: &Api<BackupExecution>,
        key: &NamespacedName,
        object: BackupExecution,
    ) -> Result<Action, ControllerError> {
        if !object.finalizers().iter().any(|it| it == FINALIZER) {
            return Ok(Action::await_change());
        }
        if object.spec.hold {
            self.hold_back(api, object, &RunReason::Held, false).await?;
            return Ok(Action::await_change());
        }
        let nothing_to_delete = object
            .status
            .as_ref()
            .is_none_or(|status| status.clusters.is_empty());
        let policy = Prepared::new(&object.spec.policy);
        let (Ok(policy), false) = (policy, nothing_to_delete) else {
            set_finalizer(api, key, &object, false).await?;
            return Ok(Action::await_change());
        };
        let members = match members(&*self.membership, policy.fleet()).await {
            Ok(members) => members,
            // A fleet that is gone for certain has no members to ask.
            Err(RunReason::FleetNotFound { .. }) => SeenMembers::new(),
            Err(_) => return Ok(Action::requeue(NOBODY_KNOWS)),
        };
        let run = self.run_of(&object, policy, members);
        let status = object.status.clone().unwrap_or_default();
        let store = HubStatus::new(api.clone(), object.clone());
        let now = self.clock.now();
        // Whoever is still held still is let go first.
        if status.clusters.iter().any(|entry| entry.held_until.is_some()) {
            let run = run.with_cancel(true);
            let pass = self.executor.pass(&run, &status, &store, now).await;
            let pass = pass.map_err(|source| ControllerError::Execute {
                object: key.clone(),
                source,
            })?;
            self.count(
                key,
                measure::run(run.policy.fleet(), Some(&status), &pass.status, now),
            );
            return Ok(self.until(Some(pass.wake_at.unwrap_or(now))));
        }
        let next = self.executor.deletion_pass(&run, &status, &store, now).await;
        let next = next.map_err(|source| ControllerError::Execute {
            object: key.clone(),
            source,
        })?;
        self.count(key, measure::deletion(&status, &next.status, &next.left_behind));
        if !next.left_behind.is_empty() {
            let names: Vec<&str> = next.left_behind.iter().map(|name| name.as_str()).collect();
            let event = RunEvent::new(
                true,
                "LeftBehind",
                format!("no longer members, so not deleted there: {}", names.join(", ")),
                "Delete",
            );
            self.publish(&object, event).await;
        }
        if next.status.clusters.is_empty() {
            let current = api
                .get_opt(&key.name)
                .await
                .map_err(|source| ControllerError::hub("read execution", key, source))?;
            if let Some(current) = current {
                set_finalizer(api, key, &current, false).await?;
            }
            return Ok(Action::await_change());
        }
        Ok(self.until(next.wake_at))
    }
}

/// Whether nothing is left to do for a run.
fn is_done(status: &BackupExecutionStatus) -> bool {
    status.phase.has_ended() && status.clusters.iter().all(|entry| entry.held_until.is_none())
}

/// Refused by the hub if the execution has changed meanwhile, so nobody else's finalizer is lost.
async fn set_finalizer(
    api: &Api<BackupExecution>,
    key: &NamespacedName,
    object: &BackupExecution,
    wanted: bool,
) -> Result<BackupExecution, ControllerError> {
    let mut finalizers: Vec<&str> = object
        .finalizers()
        .iter()
        .map(String::as_str)
        .filter(|it| *it != FINALIZER)
        .collect();
    if wanted {
        finalizers.push(FINALIZER);
    }
    let patch = json!({
        "metadata": { "resourceVersion": object.resource_version(), "finalizers": finalizers },
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(&key.name, &params, &Patch::Merge(&patch))
        .await
        .map_err(|source| ControllerError::hub("set the finalizer of execution", key, source))
}

/// An error and what is behind it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text.push_str(": ");
        text.push_str(&next.to_string());
        source = next.source();
    }
    text
}
