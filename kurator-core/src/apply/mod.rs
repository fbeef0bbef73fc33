//! A set of objects onto a member, and off it again.
//!
//! An [`Owner`] (one object of one hub, say a policy) wants an [`ObjectSet`] on a member. An `Applier` (feature
//! `client`) makes it so and reports, object by object, what it did ([`ApplyReport`]). It never takes over what others have placed
//! unless told to, corrects what has drifted, removes what is no longer wanted, and writes nothing when nothing
//! needs to be written.
//!
//! `ServerSideApplier` does this by server-side apply; the in-memory fleet does it for docs, tests and dry runs. Why it is done this way: `docs/design/ownership-and-pruning.md`.

#[cfg(feature = "client")]
mod applier;
mod differences;
mod failure;
mod options;
mod outcome;
mod owner;
mod retain;
#[cfg(feature = "client")]
mod server_side;
mod set;

#[cfg(feature = "mock")]
pub use self::applier::MockApplier;
#[cfg(feature = "client")]
pub(crate) use self::retain::without;
#[cfg(feature = "client")]
pub use self::{
    applier::{Applier, ApplyError},
    server_side::{ANNOTATION_APPLIED_HASH, ServerSideApplier},
};
pub use self::{
    differences::MAX_DIFFERENCES,
    failure::ApplyFailure,
    options::{ApplyOptions, ConflictResolution, KindRef, PruneScope},
    outcome::{
        ApplyReport, FieldConflict, ObjectOutcome, ObjectReport, Pruning, Refusal, Removal, RemovalReport,
    },
    owner::{ANNOTATION_OWNER_NAME, FIELD_MANAGER, LABEL_HUB, LABEL_OWNER, Owner, OwnerError},
    retain::retain,
    set::{Desired, ObjectKey, ObjectSet, ObjectSetError},
};
pub(crate) use self::{
    differences::differences,
    retain::{leave, unescape},
};
