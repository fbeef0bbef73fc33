//! Sharing out the replicas of a workload: exact, in the same order every time, and fast.
//!
//! [`Divider`] is the arithmetic: Webster's method over `u64` weights, with or without bounds. [`Assigner`] puts the
//! strategies of a policy on top of it: copies, static weights, by available room, aggregated; steady (only what was
//! added or taken away moves) or fresh. Both work on plain numbers by position and know no clusters; positions are in
//! the order of the clusters' names, because names decide ties.

mod assign;
mod check;
mod conflict;
mod division_error;
mod divisor;
mod explain;
mod failback;
mod hierarchy;
mod rebalance;
mod survival;
mod ties;

pub use assign::{Assigner, Division, Strategy};
pub use check::{Flaw, check};
pub use conflict::{Conflict, conflict};
pub use division_error::DivisionError;
pub use divisor::{Bounds, Divider};
pub use explain::{Share, TieOutcome, explain};
pub use failback::{FailBack, Readiness};
pub use hierarchy::{Branch, divide_tree};
pub use rebalance::{Rebalanced, Steady};
pub use survival::Survive;
pub use ties::TieOrder;
