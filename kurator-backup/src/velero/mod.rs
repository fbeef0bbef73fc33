//! Velero as the backup server of members.
//!
//! [`preflight`] says what a server would refuse before it is asked, from plain data. `VeleroDriver` (feature
//! `client`) is the [`BackupDriver`](crate::driver) over the custom resources of `velero.io/v1`; it needs no Velero
//! library and no node agent, and tolerates what it does not know of: fields it does not read, phases it has never
//! heard of.
//!
//! # What is known of Velero, and what is done about it
//! Seen on servers of 1.18.3 (`tests/full_velero.rs`), but for the hooks: that is from the source.
//!
//! | Velero | so |
//! |---|---|
//! | edits the spec of a backup, and has no status subresource: a full update overwrites its status | objects are created once and never applied or updated; a poke is a merge patch of one annotation |
//! | `FailedValidation` is final | [`preflight`], which runs heed ([`VeleroPreflight`]) |
//! | leaves a location `Available` for ever when it dies | [`preflight::is_fresh`] tells by the time of the last look |
//! | takes a missing `onError` of a hook for `Continue`, against its documentation | it is always sent |
//! | forgets a backup in `ReadyToStart` when it restarts, and everything behind it waits | a poke starts it |
//! | skips a deletion request that was in progress when it restarted, for 24 h | ask again under another name, as a deletion by an execution does after five minutes |
//! | re-creates a backup that was deleted as an object within a minute: the store still has it | what a server has begun is deleted by `DeleteBackupRequest` only |
//! | refuses for good to delete a backup that it has not begun and that names no location | such a one is deleted as an object, in the version that was seen |
//! | leaves a backup `Queued` for up to a minute after the one before it has ended (below) | `Queued` is no stall |
//! | cannot cancel a backup | one that waits is deleted before it starts; the volume work of one that runs can be cancelled |
//!
//! # Why a backup waits in the queue after its turn has come
//! From the source of 1.18.3, `pkg/controller/backup_queue_controller.go`, `backup_controller.go` and
//! `backup_tracker.go`. A queued backup is looked at on two occasions: when another one leaves `InProgress`, and every
//! minute (`defaultQueuedBackupRecheckFrequency`). The first is missed in two ways:
//! - A backup that is refused goes from `ReadyToStart` to `FailedValidation` and was never `InProgress`: nothing is looked
//!   at.
//! - The look asks a counter of running backups, and the backup that ended is taken out of it in a deferred function
//!   after its phase was written: a look that comes in between finds it running, and is not repeated.
//!
//! So what waits starts a minute later at the latest, whatever a client does: the controller ignores changes of the
//! metadata of a queued backup (only `New` and a change into `Queued` pass its filter), so that a poke, which starts one
//! in `ReadyToStart`, cannot move one in the queue. What could is a write to its status, which is the server's.

#[cfg(feature = "client")]
mod archive;
#[cfg(feature = "client")]
mod download;
#[cfg(feature = "client")]
mod driver;
#[cfg(feature = "client")]
mod facts;
#[cfg(feature = "client")]
mod failure;
mod gate;
mod glob;
#[cfg(feature = "client")]
mod inventory;
#[cfg(feature = "client")]
mod look;
#[cfg(feature = "client")]
mod modifiers;
#[cfg(feature = "client")]
mod policy;
pub mod preflight;
#[cfg(feature = "client")]
mod scratch;
#[cfg(feature = "client")]
mod wire;

#[cfg(feature = "client")]
pub use self::driver::VeleroDriver;
pub use self::gate::VeleroPreflight;
