use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::{
    condition::{ConditionSet, ConditionStatus},
    names::bounded_name,
    reason::{Reason as _, with_causes},
};

use super::reason::MigrationReason;
use crate::{
    api::{
        BackupExecutionSpec, BackupPolicy, ExecutionPhase, MigrationGate, MigrationPhase, MigrationSpec,
        MigrationStatus, RestoreExecutionSpec, RestorePhase, RestoreSource, RestoreTarget, RestoreTotals,
    },
    run::Prepared,
};

/// One migration: who it is and what it is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Migration {
    /// Its namespace, which is that of its backup and restore.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: what its backup and restore carry.
    pub uid: String,
    /// What it is to do.
    pub spec: MigrationSpec,
    /// Generation of the spec.
    pub generation: Option<i64>,
}

impl Migration {
    /// The migration of this name and UID.
    pub fn new(
        namespace: impl Into<String>,
        name: impl Into<String>,
        uid: impl Into<String>,
        spec: &MigrationSpec,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
            spec: spec.clone(),
            generation: None,
        }
    }

    /// Sets the generation of the spec.
    #[must_use]
    pub fn with_generation(mut self, generation: Option<i64>) -> Self {
        self.generation = generation;
        self
    }

    /// What its backup execution is called: always the same.
    #[must_use]
    pub fn backup_name(&self) -> String {
        bounded_name([self.name.as_str(), "backup", &self.uid])
    }

    /// What its restore execution is called: always the same.
    #[must_use]
    pub fn restore_name(&self) -> String {
        bounded_name([self.name.as_str(), "restore", &self.uid])
    }

    fn policy(&self) -> BackupPolicy {
        let (spec, backup) = (&self.spec, &self.spec.backup);
        let mut policy = BackupPolicy::new(spec.fleet.clone());
        policy.clusters.names = vec![spec.from.clone()];
        policy.scope.clone_from(&backup.scope);
        policy.storage_location.clone_from(&backup.storage_location);
        policy.consistency = backup.consistency;
        policy.hooks.clone_from(&backup.hooks);
        policy.quiesce.clone_from(&backup.quiesce);
        policy.snapshot_volumes = backup.snapshot_volumes;
        policy.file_system_backup = backup.file_system_backup;
        policy.limits = spec.limits.clone();
        policy
    }

    fn restore(&self) -> RestoreExecutionSpec {
        let (spec, restore) = (&self.spec, &self.spec.restore);
        let from = RestoreSource::execution(self.backup_name());
        let mut wanted = RestoreExecutionSpec::new(spec.fleet.clone(), from);
        wanted.clusters.names = vec![spec.from.clone()];
        wanted.targets = vec![RestoreTarget::new(spec.from.clone(), spec.to.clone())];
        wanted.namespace_mapping.clone_from(&restore.namespace_mapping);
        wanted.existing = restore.existing;
        wanted.status_of.clone_from(&restore.status_of);
        wanted.restore_volumes = restore.restore_volumes;
        wanted.preserve_node_ports = restore.preserve_node_ports;
        wanted.storage_classes.clone_from(&restore.storage_classes);
        wanted.modifiers.clone_from(&restore.modifiers);
        wanted.limits = spec.limits.clone();
        wanted.dry_run = true;
        wanted
    }
}

/// The backup and the restore of a migration as they are. `None` is certain: there is none.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Seen {
    /// The backup execution of its name.
    pub backup: Option<SeenBackup>,
    /// The restore execution of its name.
    pub restore: Option<SeenRestore>,
}

/// The backup execution of a migration.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SeenBackup {
    /// Where it is.
    pub phase: ExecutionPhase,
    /// Whether it is of this migration.
    pub ours: bool,
    /// Whether it was told to stop.
    pub cancelled: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What its condition `Ready` says.
    pub message: String,
}

impl SeenBackup {
    /// A backup of this migration in this phase.
    #[must_use]
    pub fn new(phase: ExecutionPhase) -> Self {
        Self {
            phase,
            ours: true,
            cancelled: false,
            deleting: false,
            message: String::new(),
        }
    }
}

/// The restore execution of a migration.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SeenRestore {
    /// Where it is.
    pub phase: RestorePhase,
    /// Whether it is of this migration.
    pub ours: bool,
    /// Whether it only plans.
    pub dry_run: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What it changes.
    pub totals: RestoreTotals,
    /// What it says of its member, or of itself.
    pub message: String,
}

impl SeenRestore {
    /// A restore of this migration in this phase.
    #[must_use]
    pub fn new(phase: RestorePhase, dry_run: bool) -> Self {
        Self {
            phase,
            ours: true,
            dry_run,
            deleting: false,
            totals: RestoreTotals::default(),
            message: String::new(),
        }
    }
}

/// Something to do on the hub, after the status was written. Doing it twice is doing it once.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Create the backup execution.
    BackUp {
        /// Its name.
        name: String,
        /// What it does.
        spec: Box<BackupExecutionSpec>,
    },
    /// Create the restore execution, as a plan.
    Plan {
        /// Its name.
        name: String,
        /// What it does.
        spec: Box<RestoreExecutionSpec>,
    },
    /// Let the restore execution carry its plan out.
    Restore {
        /// Its name.
        name: String,
    },
    /// Stop the backup execution.
    CancelBackup {
        /// Its name.
        name: String,
    },
    /// Delete the restore execution.
    DeleteRestore {
        /// Its name.
        name: String,
    },
    /// Delete the backup execution, and with it what the servers have of it.
    DeleteBackup {
        /// Its name.
        name: String,
    },
}

/// What follows: write the status, then do the actions. A change of the backup or the restore brings the next one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The next status.
    pub status: MigrationStatus,
    /// What to do once it is written.
    pub actions: Vec<Action>,
    /// Why it is so.
    pub reason: Option<MigrationReason>,
    /// Whether more may follow at once from what is on record now.
    pub again: bool,
}

/// What follows from how far the backup and the restore of a migration are. Pure.
///
/// # Guarantees
/// - The target is written only after a plan is on record, with the gate `Restore` open, and from a complete backup.
/// - What has completed or was taken back stays so.
/// - Going back deletes nothing of anybody else's, and ends only when the backup is gone.
#[must_use]
pub fn step(migration: &Migration, status: &MigrationStatus, seen: &Seen, now: Timestamp) -> Step {
    if status.phase.is_final() {
        return Step {
            status: status.clone(),
            actions: Vec::new(),
            reason: None,
            again: false,
        };
    }
    let mut next = status.clone();
    next.started_at.get_or_insert(Time(now));
    let mut actions = Vec::new();
    let (phase, reason) = if migration.spec.go_back || status.phase == MigrationPhase::GoingBack {
        back(migration, &next, seen, &mut actions)
    } else {
        forth(migration, &mut next, seen, &mut actions)
    };
    let again = next.planned != status.planned;
    let mut step = conclude(migration, next, phase, reason, now);
    step.actions = actions;
    step.again = again;
    step
}

fn taken(kind: &str, name: String) -> (MigrationPhase, MigrationReason) {
    let object = format!("{kind} execution {name}");
    (MigrationPhase::Failed, MigrationReason::NameTaken { object })
}

fn forth(
    migration: &Migration,
    next: &mut MigrationStatus,
    seen: &Seen,
    actions: &mut Vec<Action>,
) -> (MigrationPhase, MigrationReason) {
    let gate = migration.spec.proceed_to;
    let backup = migration.backup_name();
    if let Some(restore) = seen
        .restore
        .as_ref()
        .filter(|restore| restore.ours && !restore.dry_run)
    {
        // From here on the backup is the restore's matter.
        return restoring(migration, next, restore);
    }
    let gone = MigrationReason::BackupGone {
        backup: backup.clone(),
    };
    let found = match &seen.backup {
        None if next.target_written || next.restore.is_some() => return (MigrationPhase::Failed, gone),
        None => {
            let policy = migration.policy();
            if let Err(error) = Prepared::new(&policy) {
                let token = error.token();
                let message = with_causes(&error);
                return (
                    MigrationPhase::Failed,
                    MigrationReason::Invalid { token, message },
                );
            }
            next.backup = Some(backup.clone());
            actions.push(Action::BackUp {
                name: backup.clone(),
                spec: Box::new(BackupExecutionSpec::new(policy)),
            });
            return (MigrationPhase::BackingUp, MigrationReason::BackingUp { backup });
        }
        Some(found) if !found.ours => return taken("backup", backup),
        Some(found) if found.deleting => return (MigrationPhase::Failed, gone),
        Some(found) => found,
    };
    match found.phase {
        ExecutionPhase::Completed => {}
        ExecutionPhase::PartiallyFailed | ExecutionPhase::Failed => {
            let message = found.message.clone();
            return (
                MigrationPhase::Failed,
                MigrationReason::BackupFailed { backup, message },
            );
        }
        ExecutionPhase::Deleting => return (MigrationPhase::Failed, gone),
        _ => return (MigrationPhase::BackingUp, MigrationReason::BackingUp { backup }),
    }
    if gate < MigrationGate::Plan {
        let (gate, planned) = (MigrationGate::Plan, None);
        return (
            MigrationPhase::BackedUp,
            MigrationReason::WaitingForGate { gate, planned },
        );
    }
    planning(migration, next, seen.restore.as_ref(), actions)
}

fn planning(
    migration: &Migration,
    next: &mut MigrationStatus,
    found: Option<&SeenRestore>,
    actions: &mut Vec<Action>,
) -> (MigrationPhase, MigrationReason) {
    let restore = migration.restore_name();
    let Some(found) = found else {
        if next.target_written {
            return (MigrationPhase::Failed, MigrationReason::RestoreGone { restore });
        }
        next.restore = Some(restore.clone());
        next.planned = None;
        actions.push(Action::Plan {
            name: restore.clone(),
            spec: Box::new(migration.restore()),
        });
        let message = String::new();
        return (
            MigrationPhase::Planning,
            MigrationReason::Planning { restore, message },
        );
    };
    if !found.ours {
        return taken("restore", restore);
    }
    if found.deleting {
        return (MigrationPhase::Failed, MigrationReason::RestoreGone { restore });
    }
    let message = found.message.clone();
    match found.phase {
        RestorePhase::Planned => {
            // On record before anything follows from it: the gate is looked at in the next pass.
            let known = next.planned.replace(found.totals) == Some(found.totals);
            if known && migration.spec.proceed_to >= MigrationGate::Restore {
                next.target_written = true;
                actions.push(Action::Restore {
                    name: restore.clone(),
                });
                return (MigrationPhase::Restoring, MigrationReason::Restoring { restore });
            }
            let (gate, planned) = (MigrationGate::Restore, Some(found.totals));
            (
                MigrationPhase::Planned,
                MigrationReason::WaitingForGate { gate, planned },
            )
        }
        phase if phase.has_ended() => (
            MigrationPhase::Failed,
            MigrationReason::RestoreFailed { restore, message },
        ),
        _ => (
            MigrationPhase::Planning,
            MigrationReason::Planning { restore, message },
        ),
    }
}

fn restoring(
    migration: &Migration,
    next: &mut MigrationStatus,
    found: &SeenRestore,
) -> (MigrationPhase, MigrationReason) {
    let restore = migration.restore_name();
    next.target_written = true;
    match found.phase {
        RestorePhase::Completed if migration.spec.proceed_to >= MigrationGate::Finish => {
            (MigrationPhase::Completed, MigrationReason::Migrated)
        }
        RestorePhase::Completed => {
            let (gate, planned) = (MigrationGate::Finish, None);
            (
                MigrationPhase::Restored,
                MigrationReason::WaitingForGate { gate, planned },
            )
        }
        phase if phase.has_ended() => {
            let message = found.message.clone();
            (
                MigrationPhase::Failed,
                MigrationReason::RestoreFailed { restore, message },
            )
        }
        _ if found.deleting => (MigrationPhase::Failed, MigrationReason::RestoreGone { restore }),
        _ => (MigrationPhase::Restoring, MigrationReason::Restoring { restore }),
    }
}

fn back(
    migration: &Migration,
    next: &MigrationStatus,
    seen: &Seen,
    actions: &mut Vec<Action>,
) -> (MigrationPhase, MigrationReason) {
    let waits = |waits_for: String| {
        (
            MigrationPhase::GoingBack,
            MigrationReason::GoingBack { waits_for },
        )
    };
    if let Some(restore) = seen.restore.as_ref().filter(|restore| restore.ours) {
        let name = migration.restore_name();
        if !restore.dry_run && !restore.phase.has_ended() && !restore.deleting {
            // Its server cannot be stopped, and must not read a backup that is being deleted.
            return waits(format!("restore execution {name} to end"));
        }
        if !restore.deleting {
            actions.push(Action::DeleteRestore { name: name.clone() });
        }
        return waits(format!("restore execution {name} to be gone"));
    }
    if let Some(backup) = seen.backup.as_ref().filter(|backup| backup.ours) {
        let name = migration.backup_name();
        if !backup.phase.has_ended() && !backup.deleting {
            if !backup.cancelled {
                actions.push(Action::CancelBackup { name: name.clone() });
            }
            return waits(format!("backup execution {name} to stop"));
        }
        if !backup.deleting {
            actions.push(Action::DeleteBackup { name: name.clone() });
        }
        return waits(format!("the servers to delete backup execution {name}"));
    }
    let left_on = next.target_written.then(|| migration.spec.to.to_string());
    (MigrationPhase::WentBack, MigrationReason::WentBack { left_on })
}

fn conclude(
    migration: &Migration,
    mut status: MigrationStatus,
    phase: MigrationPhase,
    reason: MigrationReason,
    now: Timestamp,
) -> Step {
    status.phase = phase;
    status.observed_generation = migration.generation;
    if phase.is_final() {
        status.completed_at.get_or_insert(Time(now));
    }
    let old = std::mem::take(&mut status.conditions);
    let mut conditions = ConditionSet::new(old, migration.generation, now);
    let ready = match phase {
        MigrationPhase::Completed => ConditionStatus::True,
        MigrationPhase::Failed | MigrationPhase::WentBack => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    };
    let at_work = matches!(
        phase,
        MigrationPhase::BackingUp
            | MigrationPhase::Planning
            | MigrationPhase::Restoring
            | MigrationPhase::GoingBack
    );
    conditions.ready(ready, &reason);
    conditions.progressing(at_work, &reason);
    conditions.degraded(phase == MigrationPhase::Failed, &reason);
    status.conditions = conditions.into_vec();
    Step {
        status,
        actions: Vec::new(),
        reason: Some(reason),
        again: false,
    }
}
