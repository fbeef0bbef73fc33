/// The fleet, on every backup and restore we create.
pub const FLEET: &str = "backup.kurator.dev/fleet";
/// The member a backup is of.
pub const CLUSTER: &str = "backup.kurator.dev/cluster";
/// The owner token of a backup or restore: what is compared before an object is adopted.
pub const OWNER: &str = "backup.kurator.dev/owner";
/// UID of the execution that asked for it.
pub const EXECUTION_UID: &str = "backup.kurator.dev/execution-uid";
/// The attempt, counted from 1.
pub const ATTEMPT: &str = "backup.kurator.dev/attempt";
/// The schedule an execution is of; on executions.
pub const SCHEDULE: &str = "backup.kurator.dev/schedule";
/// UID of the migration an execution is of; as an annotation, its name.
pub const MIGRATION: &str = "backup.kurator.dev/migration";
/// Namespace and name of the execution; an annotation, because a label has no room for it.
pub const EXECUTION: &str = "backup.kurator.dev/execution";
/// Keeps an execution until its backups are deleted.
pub const FINALIZER: &str = "backup.kurator.dev/backups";
/// UID of the schedule whose verification a restore is of; as an annotation, its name.
pub const VERIFICATION: &str = "backup.kurator.dev/verification";
/// On scratch namespaces, beside [`OWNER`]: they are ours to delete.
pub const SCRATCH: &str = "backup.kurator.dev/scratch";
/// Keeps a schedule, and the restore of a verification, until the scratch namespaces are gone.
pub const SCRATCH_FINALIZER: &str = "backup.kurator.dev/scratch-namespaces";
