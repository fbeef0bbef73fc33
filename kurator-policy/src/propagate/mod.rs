//! From templates on the hub to what every member is to hold, and from what the members say to a status.
//!
//! Pure: nothing here talks to a server or reads a clock.
//!
//! ```text
//! hub objects -> Template -> claims -> plan (place, divide, override) -> Planned -> check
//!                                                                          |
//! what the members said ------------------------------------------------> status
//! ```

mod check;
mod claim;
mod event;
mod interpret;
mod note;
mod object;
mod place;
mod plan;
mod reason;
mod render;
mod status;
mod template;
#[cfg(test)]
mod tests;

#[cfg(feature = "client")]
pub(crate) use self::place::chain;
pub use self::{
    check::{PlanFlaw, check},
    claim::{Claim, Claimant, Precision, claims},
    event::{MAX_EVENTS, PolicyEvent, events},
    interpret::{BuiltinKinds, ResourceInterpreter},
    note::{Note, Severity},
    object::{ObjectKey, ObjectKind, PolicyKey},
    plan::{MemberPlan, ObjectTotals, Planned, PlannedObject, Rendered, Request, plan},
    reason::{MemberReason, TIMED_OUT},
    status::{
        MAX_MESSAGE, MemberObserved, ObjectObserved, Observed, TOTAL_KEPT, Trouble, held_status, status,
    },
    template::{Template, TemplateError, revision},
};
