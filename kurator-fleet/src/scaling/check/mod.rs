//! An independent reading of a [`ScaleDownPlan`]: it believes neither the planner nor its model.
//!
//! [`check`] takes the plan and the objects it was made from, works with strings and API types throughout, shares no
//! code with the planner, and plays the plan wave by wave:
//!
//! - every node is removed once, and is not one that must be left alone;
//! - every pod that has to move does, once, from where it is to a node that stays;
//! - it fits there at that moment: room, taints, affinities, spread, volumes, host ports;
//! - no budget is exceeded at any instant, whatever the order within a wave turns out to be.
//!
//! It is slow on purpose: each question is answered by looking at all objects.

mod budgets;
mod moves;
mod places;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use kurator_core::{plan::Notes, reason::Reason};

use self::world::World;
use super::{Object, ScaleDownPlan};

/// A rule that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// More pods of a budget may be gone at once than it allows.
    BudgetExceeded {
        /// Place of the wave, from 1.
        wave: usize,
        /// Pods that may be gone at once.
        pods: i64,
        /// Pods that may be.
        allowed: i64,
    },
    /// Fewer waves than the bound the plan states.
    BelowBound {
        /// Waves.
        waves: usize,
        /// The bound.
        bound: u32,
    },
    /// A node that must not be touched, or does not exist.
    Forbidden {
        /// Why.
        why: &'static str,
    },
    /// A pod does not fit on its destination at its time.
    DoesNotFit {
        /// The destination.
        to: String,
        /// What stands in the way.
        why: String,
    },
    /// A pod of a removed node is neither moved nor may it stay behind.
    LeftBehind {
        /// The node.
        node: String,
    },
    /// A move of a pod that is not there, or must not move.
    NotMovable {
        /// Why.
        why: &'static str,
    },
    /// It is in the plan twice.
    Twice,
    /// The lists of the plan contradict each other.
    Inconsistent {
        /// How.
        why: &'static str,
    },
}

impl Reason for Flaw {
    fn token(&self) -> &'static str {
        match self {
            Self::BelowBound { .. } => "BelowBound",
            Self::BudgetExceeded { .. } => "BudgetExceeded",
            Self::DoesNotFit { .. } => "DoesNotFit",
            Self::Forbidden { .. } => "Forbidden",
            Self::Inconsistent { .. } => "Inconsistent",
            Self::LeftBehind { .. } => "LeftBehind",
            Self::NotMovable { .. } => "NotMovable",
            Self::Twice => "Twice",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowBound { waves, bound } => {
                write!(f, "{waves} waves are fewer than the bound of {bound}")
            }
            Self::BudgetExceeded { wave, pods, allowed } => {
                write!(
                    f,
                    "{pods} pods may be gone at once in wave {wave}, {allowed} are allowed"
                )
            }
            Self::DoesNotFit { to, why } => write!(f, "it does not fit on {to}: {why}"),
            Self::Forbidden { why } => write!(f, "it must not be removed: {why}"),
            Self::Inconsistent { why } => f.write_str(why),
            Self::LeftBehind { node } => write!(f, "it would end with node {node}"),
            Self::NotMovable { why } => write!(f, "it must not be moved: {why}"),
            Self::Twice => f.write_str("it is in the plan twice"),
        }
    }
}

/// What is wrong with a plan for a cluster of these objects at that time; nothing if it holds.
pub fn check(plan: &ScaleDownPlan, objects: &[Object], now: Timestamp) -> Notes {
    let mut notes = Notes::default();
    let world = World::new(objects, now);
    structure(plan, &world, &mut notes);
    moves::check(plan, &world, &mut notes);
    budgets::check(plan, &world, &mut notes);
    places::check(plan, &world, &mut notes);
    notes
}

fn structure(plan: &ScaleDownPlan, world: &World<'_>, notes: &mut Notes) {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for node in plan.waves.iter().flat_map(|wave| &wave.nodes) {
        *times.entry(&node.node).or_default() += 1;
    }
    let removed: BTreeSet<&str> = plan.remove.iter().map(String::as_str).collect();
    if removed.len() != plan.remove.len() {
        notes.error("plan", &Flaw::Twice);
    }
    for (node, times) in &times {
        if *times > 1 {
            notes.error(format!("Node {node}"), &Flaw::Twice);
        }
    }
    if !times.keys().copied().eq(removed.iter().copied()) {
        notes.error(
            "plan",
            &Flaw::Inconsistent {
                why: "the nodes of the waves are not the nodes to remove",
            },
        );
    }
    if plan
        .skipped
        .iter()
        .any(|skipped| removed.contains(&*skipped.node) || skipped.blockers.is_empty())
    {
        notes.error(
            "plan",
            &Flaw::Inconsistent {
                why: "a skipped node is removed, or has no reason",
            },
        );
    }
    if plan.waves.len() < plan.bound.waves as usize {
        notes.error(
            "plan",
            &Flaw::BelowBound {
                waves: plan.waves.len(),
                bound: plan.bound.waves,
            },
        );
    }
    for node in removed {
        if let Some(why) = world.must_stay(node) {
            notes.error(format!("Node {node}"), &Flaw::Forbidden { why });
        }
    }
}
