//! What templates refer to, and which members therefore need it.
//!
//! A ConfigMap that two policies use is in a member once, and goes with the last of them. What a policy distributes
//! itself is no dependency where it does so.

mod attach;
mod changes;
mod check;
mod plan;
mod references;

pub use self::{
    attach::{MAX_DEPENDENCIES, attach},
    changes::{Change, changes},
    check::{DependencyFlaw, check_dependencies},
    plan::{Dependencies, Missing, NeededBy, Use, crd_of, dependencies},
    references::{Reference, references},
};
