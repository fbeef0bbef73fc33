//! Sharing out the replicas of a workload: exact, in the same order every time, and fast.
//!
//! [`Divider`] is the arithmetic: Webster's method over `u64` weights, with or without bounds. [`Assigner`] puts the
//! strategies of a policy on top of it: copies, static weights, by available room, aggregated; steady (only what was
//! added or taken away moves) or fresh. Both work on plain numbers by position and know no clusters; positions are in
//! the order of the clusters' names, because names decide ties.

mod assign;
mod check;
mod division_error;
mod divisor;
mod explain;
mod ties;

pub use assign::{Assigner, Division, Strategy};
pub use check::{Flaw, check};
pub use division_error::DivisionError;
pub use divisor::{Bounds, Divider};
pub use explain::{Share, TieOutcome, explain};
pub use ties::TieOrder;
