//! One pass over one schedule: runs are made and cancelled, old ones deleted, and the status written.

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::controller::Action,
};
use kurator_core::{
    apply::FIELD_MANAGER, clock::Clock as _, condition::ConditionSet, names::NamespacedName,
    reason::Reason as _,
};
use serde_json::json;

use super::{error::ControllerError, execution::chain, manager::Context, measure, metrics::BackupMetric};
use crate::{
    api::{
        BackupExecution, BackupExecutionSpec, BackupSchedule, BackupScheduleStatus, ClusterPhase,
        ExecutionPhase, labels,
    },
    retention::{self, RunRecord},
    run::RunEvent,
    schedule::{KnownRun, NewRun, Schedule, plan},
};

impl Context {
    pub(super) async fn schedule(&self, seen: &BackupSchedule) -> Result<Action, ControllerError> {
        let key = NamespacedName::new(seen.namespace().unwrap_or_default(), seen.name_any());
        let api: Api<BackupSchedule> = Api::namespaced(self.hub.clone(), &key.namespace);
        let found = api.get_opt(&key.name).await;
        let Some(object) = found.map_err(|source| ControllerError::hub("read schedule", &key, source))?
        else {
            self.last_success(&key, &[]);
            return Ok(Action::await_change());
        };
        if object.metadata.deletion_timestamp.is_some() {
            self.last_success(&key, &[]);
            return Ok(Action::await_change());
        }
        let now = self.clock.now();
        let before = object.status.clone().unwrap_or_default();
        let schedule = match Schedule::new(&key.name, &object.spec) {
            Ok(schedule) => schedule.with_generation(object.metadata.generation),
            Err(error) => {
                let mut status = before.clone();
                status.observed_generation = object.metadata.generation;
                status.next_at = None;
                let old = std::mem::take(&mut status.conditions);
                let mut conditions = ConditionSet::new(old, object.metadata.generation, now);
                conditions.ready(false, &Told(error.token(), chain(&error)));
                status.conditions = conditions.into_vec();
                self.write_schedule(&api, &key, &object, &before, &status).await?;
                return Ok(Action::await_change());
            }
        };
        let executions: Api<BackupExecution> = Api::namespaced(self.hub.clone(), &key.namespace);
        // A name may be longer than a label value, so the label narrows and the spec decides.
        let listed = executions
            .list(&ListParams::default().labels(labels::SCHEDULE))
            .await
            .map_err(|source| ControllerError::hub("list the executions of schedule", &key, source))?;
        let own: Vec<BackupExecution> = listed
            .items
            .into_iter()
            .filter(|run| run.spec.schedule.as_deref() == Some(&key.name))
            .collect();
        self.last_success(&key, &own);
        let runs: Vec<KnownRun> = own.iter().map(known).collect();
        let planned = plan(&schedule, &before, &runs, now);
        for name in &planned.cancel {
            cancel(&executions, &key, name).await?;
        }
        if let Some(run) = &planned.create {
            self.create(&executions, &key, &object, run).await?;
        }
        self.write_schedule(&api, &key, &object, &before, &planned.status)
            .await?;
        if let Some(policy) = &object.spec.retention {
            let mut records: Vec<RunRecord> = own.iter().map(record).collect();
            let verifying = before.verification.as_ref().and_then(|it| it.current.as_ref());
            for record in &mut records {
                // A backup is not deleted while it is restored from.
                record.hold |= verifying.is_some_and(|run| run.execution == record.name);
            }
            let kept = retention::plan(policy, &records, &schedule.zone);
            let notes = retention::check(&records, &kept.plan);
            if notes.permits() {
                for name in &kept.plan {
                    delete(&executions, &key, own.iter().find(|run| run.name_any() == *name)).await?;
                }
            } else {
                tracing::error!(schedule = %key, %notes, "retention would lose backups; nothing is deleted");
            }
        }
        Ok(self.until(planned.wake_at))
    }

    pub(super) fn last_success(&self, schedule: &NamespacedName, runs: &[BackupExecution]) {
        let read_at = &measure::last_success(runs);
        self.count(schedule, [BackupMetric::LastSuccess { schedule, read_at }]);
    }

    async fn create(
        &self,
        executions: &Api<BackupExecution>,
        key: &NamespacedName,
        schedule: &BackupSchedule,
        run: &NewRun,
    ) -> Result<(), ControllerError> {
        let mut spec = BackupExecutionSpec::new(schedule.spec.template.clone());
        spec.schedule = Some(key.name.clone());
        spec.scheduled_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(run.at));
        let mut execution = BackupExecution::new(&run.name, spec);
        execution
            .labels_mut()
            .insert(labels::SCHEDULE.to_owned(), label_value(&key.name));
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match executions.create(&params, &execution).await {
            Ok(_) => {
                let note = format!("made {} for {}", run.name, run.at);
                self.publish(schedule, RunEvent::new(false, "RunMade", note, "Schedule"))
                    .await;
                Ok(())
            }
            // Made by a pass that died before it could say so.
            Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(()),
            Err(source) => Err(ControllerError::hub("make a run of schedule", key, source)),
        }
    }

    async fn write_schedule(
        &self,
        api: &Api<BackupSchedule>,
        key: &NamespacedName,
        object: &BackupSchedule,
        before: &BackupScheduleStatus,
        status: &BackupScheduleStatus,
    ) -> Result<(), ControllerError> {
        if before == status {
            return Ok(());
        }
        let mut next = object.clone();
        next.status = Some(status.clone());
        api.replace_status(&key.name, &PostParams::default(), &next)
            .await
            .map(drop)
            .map_err(|source| ControllerError::hub("write the status of schedule", key, source))
    }
}

/// The name, or what is left of it where it is too long for a label value.
fn label_value(name: &str) -> String {
    if name.len() <= 63 {
        name.to_owned()
    } else {
        kurator_core::names::bounded_name([name])
    }
}

fn phase(run: &BackupExecution) -> ExecutionPhase {
    if run.metadata.deletion_timestamp.is_some() {
        return ExecutionPhase::Deleting;
    }
    run.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

fn known(run: &BackupExecution) -> KnownRun {
    let created = run
        .creation_timestamp()
        .map_or(jiff::Timestamp::UNIX_EPOCH, |at| at.0);
    let at = run.spec.scheduled_at.as_ref().map_or(created, |at| at.0);
    let mut known = KnownRun::new(run.name_any(), at, phase(run));
    known.cancelled = run.spec.cancel;
    known.started_at = run
        .status
        .as_ref()
        .and_then(|it| it.started_at.as_ref())
        .map(|at| at.0);
    known
}

fn record(run: &BackupExecution) -> RunRecord {
    let known = known(run);
    let mut record = RunRecord::new(known.name, known.started_at.unwrap_or(known.at), known.phase);
    record.hold = run.spec.hold;
    for entry in run.status.iter().flat_map(|status| &status.clusters) {
        match entry.phase {
            ClusterPhase::Completed => drop(record.complete.insert(entry.cluster.clone())),
            ClusterPhase::PartiallyFailed => drop(record.partial.insert(entry.cluster.clone())),
            _ => {}
        }
    }
    record
}

async fn cancel(
    executions: &Api<BackupExecution>,
    key: &NamespacedName,
    name: &str,
) -> Result<(), ControllerError> {
    let patch = json!({ "spec": { "cancel": true } });
    match executions
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(source) => Err(ControllerError::hub("cancel a run of schedule", key, source)),
    }
}

/// Deletes the run that was looked at, and no other of its name. Its finalizer deletes the backups.
async fn delete(
    executions: &Api<BackupExecution>,
    key: &NamespacedName,
    run: Option<&BackupExecution>,
) -> Result<(), ControllerError> {
    let Some(run) = run.filter(|run| run.metadata.deletion_timestamp.is_none()) else {
        return Ok(());
    };
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: run.uid(),
            // A hold that was set since it was read keeps it.
            resource_version: run.resource_version(),
        }),
        ..DeleteParams::default()
    };
    match executions.delete(&run.name_any(), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(()),
        Err(source) => Err(ControllerError::hub("delete a run of schedule", key, source)),
    }
}

/// A reason of which only token and sentence are left.
struct Told(&'static str, String);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl kurator_core::reason::Reason for Told {
    fn token(&self) -> &'static str {
        self.0
    }
}
