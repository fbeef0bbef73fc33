//! From templates on the hub to what every member is to hold, and from what the members say to a status.
//!
//! Pure: nothing here talks to a server or reads a clock.
//!
//! ```text
//! hub objects -> Template -> claims -> plan (place, divide, override) -> Planned -> check
//!                                                                          |
//! what the members said ------------------------------------------------> status
//! ```

mod activation;
mod check;
mod claim;
mod depend;
mod event;
mod interpret;
mod note;
mod object;
mod place;
mod plan;
mod reason;
mod render;
mod standing;
mod status;
mod template;
#[cfg(test)]
mod tests;
mod workload;

#[cfg(feature = "client")]
pub(crate) use self::activation::{holds_for, listed};
#[cfg(feature = "client")]
pub(crate) use self::{interpret::strip_allocated, object::CRD};
#[cfg(feature = "client")]
pub(crate) use kurator_core::reason::with_causes as chain;

pub use kurator_core::apply::retain;

pub use self::{
    activation::{
        Activated, Activations, MAX_ACTIVATED, MAX_RECORDED_PLACEMENTS, Otherwise, activation_revision,
        active_placement, placement_revision,
    },
    check::{PlanFlaw, check},
    claim::{CLAIMED_BY, Claim, Claimant, Precision, claims, claims_held},
    depend::{
        Change, Dependencies, DependencyFlaw, MAX_DEPENDENCIES, Missing, NeededBy, Reference, Use, attach,
        changes, check_dependencies, crd_of, dependencies, references,
    },
    event::{MAX_EVENTS, PolicyEvent, events},
    interpret::{
        BuiltinKinds, CustomKind, DeclarationError, DeclaredKind, Field, HealthRule, KindDeclaration, Kinds,
        ObjectHealth, ReplicaRequirements, ResourceInterpreter, hpa_targets, replica_fields, scale_target,
    },
    note::{Note, Severity},
    object::{ObjectKey, ObjectKind, PolicyKey},
    plan::{MemberPlan, ObjectTotals, Planned, PlannedObject, Rendered, Request, plan},
    reason::{MemberReason, TIMED_OUT},
    standing::{Stand, Standing},
    status::{
        DEPENDENCIES_FOUND, FAILOVER_HELD, MAX_MESSAGE, MAX_OBJECTS, MAX_PLACEMENTS, MemberObserved,
        ObjectObserved, Observed, STATE_CARRIED, TOTAL_KEPT, Trouble, held_status, status,
    },
    template::{Template, TemplateError, revision},
    workload::{Known, workload},
};
