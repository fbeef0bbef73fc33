//! One pass over one migration: its backup and its restore are made, let go on, and taken back.

use std::{collections::BTreeMap, fmt, time::Duration};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    runtime::controller::Action as Next,
};
use kurator_core::{
    apply::FIELD_MANAGER, clock::Clock as _, condition::READY, names::NamespacedName, reason::Reason as _,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{error::ControllerError, manager::Context, metrics::BackupMetric};
use crate::{
    api::{BackupExecution, Migration, MigrationPhase, RestoreExecution, labels},
    migration::{self, Action, Seen, SeenBackup, SeenRestore, step},
    run::RunEvent,
};

/// A change of the backup or the restore comes first.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl Context {
    pub(super) async fn migration(&self, seen: &Migration) -> Result<Next, ControllerError> {
        let key = NamespacedName::new(seen.namespace().unwrap_or_default(), seen.name_any());
        let api: Api<Migration> = Api::namespaced(self.hub.clone(), &key.namespace);
        let found = api.get_opt(&key.name).await;
        let Some(object) = found.map_err(|source| ControllerError::hub("read migration", &key, source))?
        else {
            return Ok(Next::await_change());
        };
        // Its backup and its restore are records of their own, and stay.
        if object.metadata.deletion_timestamp.is_some() {
            return Ok(Next::await_change());
        }
        let uid = object.uid().unwrap_or_default();
        let migration = migration::Migration::new(&key.namespace, &key.name, uid, &object.spec)
            .with_generation(object.metadata.generation);
        let before = object.status.clone().unwrap_or_default();
        let of_migration = Children {
            context: self,
            key: &key,
            migration: &migration,
        };
        let backup: Option<BackupExecution> = of_migration.find(&migration.backup_name()).await?;
        let restore: Option<RestoreExecution> = of_migration.find(&migration.restore_name()).await?;
        let seen = Seen {
            backup: backup.as_ref().map(|found| seen_backup(&migration, found)),
            restore: restore.as_ref().map(|found| seen_restore(&migration, found)),
        };
        let next = step(&migration, &before, &seen, self.clock.now());
        if next.status != before {
            let mut changed = object.clone();
            changed.status = Some(next.status.clone());
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            api.replace_status(&key.name, &params, &changed)
                .await
                .map_err(|source| ControllerError::hub("write the status of migration", &key, source))?;
        }
        if next.status.phase != before.phase {
            let phase = next.status.phase;
            self.count(&key, [BackupMetric::Migrated { phase }]);
        }
        for action in &next.actions {
            of_migration
                .act(action, backup.as_ref(), restore.as_ref())
                .await?;
        }
        if let Some(reason) = next.reason.as_ref().filter(|_| next.status.phase != before.phase) {
            let warning = next.status.phase == MigrationPhase::Failed;
            let event = RunEvent::new(warning, reason.token(), reason.to_string(), "Migrate");
            self.publish(&object, event).await;
        }
        Ok(if next.status.phase.is_final() {
            Next::await_change()
        } else if next.again {
            Next::requeue(Duration::ZERO)
        } else {
            Next::requeue(LOOK_AGAIN)
        })
    }
}

/// What both kinds of executions are.
trait Execution:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + DeserializeOwned
    + fmt::Debug
    + Serialize
    + Sync
{
}

impl Execution for BackupExecution {}
impl Execution for RestoreExecution {}

/// The executions of a migration.
struct Children<'a> {
    context: &'a Context,
    key: &'a NamespacedName,
    migration: &'a migration::Migration,
}

impl Children<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Execution,
    {
        Api::namespaced(self.context.hub.clone(), &self.key.namespace)
    }

    async fn find<K>(&self, name: &str) -> Result<Option<K>, ControllerError>
    where
        K: Execution,
    {
        let found = self.api().get_opt(name).await;
        found.map_err(|source| ControllerError::hub("read the executions of migration", self.key, source))
    }

    async fn act(
        &self,
        action: &Action,
        backup: Option<&BackupExecution>,
        restore: Option<&RestoreExecution>,
    ) -> Result<(), ControllerError> {
        match action {
            Action::BackUp { name, spec } => {
                let mut execution = BackupExecution::new(name, (**spec).clone());
                self.own(&mut execution.metadata);
                self.create(&execution).await
            }
            Action::Plan { name, spec } => {
                let mut execution = RestoreExecution::new(name, (**spec).clone());
                self.own(&mut execution.metadata);
                self.create(&execution).await
            }
            Action::Restore { .. } => self.patch(restore, json!({ "dryRun": false })).await,
            Action::CancelBackup { .. } => self.patch(backup, json!({ "cancel": true })).await,
            Action::DeleteRestore { .. } => self.delete(restore).await,
            Action::DeleteBackup { .. } => self.delete(backup).await,
        }
    }

    fn own(&self, metadata: &mut ObjectMeta) {
        let mark = |value: &str| BTreeMap::from([(labels::MIGRATION.to_owned(), value.to_owned())]);
        metadata.labels = Some(mark(&self.migration.uid));
        metadata.annotations = Some(mark(&self.migration.name));
    }

    async fn create<K>(&self, object: &K) -> Result<(), ControllerError>
    where
        K: Execution,
    {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.api().create(&params, object).await {
            Ok(_) => Ok(()),
            // By a pass that died, or by somebody else: the next pass sees which.
            Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(()),
            Err(source) => Err(ControllerError::hub(
                "make an execution of migration",
                self.key,
                source,
            )),
        }
    }

    /// Changes the object that was looked at, as it was seen.
    async fn patch<K>(&self, object: Option<&K>, spec: Value) -> Result<(), ControllerError>
    where
        K: Execution,
    {
        let Some(object) = object else { return Ok(()) };
        let patch = json!({
            "metadata": { "uid": object.uid(), "resourceVersion": object.resource_version() }, "spec": spec,
        });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = self
            .api::<K>()
            .patch(&object.name_any(), &params, &Patch::Merge(&patch))
            .await;
        patched
            .map(drop)
            .map_err(|source| ControllerError::hub("change an execution of migration", self.key, source))
    }

    /// Deletes the object that was looked at, and no other of its name.
    async fn delete<K>(&self, object: Option<&K>) -> Result<(), ControllerError>
    where
        K: Execution,
    {
        let Some(object) = object else { return Ok(()) };
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api::<K>().delete(&object.name_any(), &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
            Err(source) => Err(ControllerError::hub(
                "delete an execution of migration",
                self.key,
                source,
            )),
        }
    }
}

fn is_of(migration: &migration::Migration, object: &impl ResourceExt) -> bool {
    object.labels().get(labels::MIGRATION) == Some(&migration.uid)
}

pub(super) fn ready(conditions: &[Condition]) -> String {
    let ready = conditions.iter().find(|condition| condition.type_ == READY);
    ready
        .map(|condition| condition.message.clone())
        .unwrap_or_default()
}

fn seen_backup(migration: &migration::Migration, object: &BackupExecution) -> SeenBackup {
    let status = object.status.clone().unwrap_or_default();
    let mut seen = SeenBackup::new(status.phase);
    seen.ours = is_of(migration, object);
    seen.cancelled = object.spec.cancel;
    seen.deleting = object.metadata.deletion_timestamp.is_some();
    seen.message = match status.clusters.first() {
        Some(entry) if !entry.message.is_empty() => entry.message.clone(),
        _ => ready(&status.conditions),
    };
    seen
}

fn seen_restore(migration: &migration::Migration, object: &RestoreExecution) -> SeenRestore {
    let status = object.status.clone().unwrap_or_default();
    let mut seen = SeenRestore::new(status.phase, object.spec.dry_run);
    seen.ours = is_of(migration, object);
    seen.deleting = object.metadata.deletion_timestamp.is_some();
    seen.totals = status.totals;
    seen.message = match status.clusters.first() {
        Some(entry) if !entry.message.is_empty() => entry.message.clone(),
        _ => ready(&status.conditions),
    };
    seen
}
