//! From a request to a [`ScaleDownPlan`]: pure, and the same for the same input in any order.
//!
//! ```text
//! review   every considered node on its own: what moves, what stays, what forbids it
//! order    candidates by preference
//! choose   try them one after another; a node is taken if all its pods fit on nodes that stay
//! pack     chosen nodes into waves under every budget and the parallel limit
//! replay   wave by wave, as it will happen; a node that no longer fits gets a wave of its own or stays
//! rehearse as the scheduler might do it, who does not know the plan: where is room tight?
//! ```

mod candidate;
mod choose;
mod crowd;
mod ladder;
mod ledger;
mod order;
mod outcome;
mod policy;
mod reason;
mod rehearse;
mod replay;
mod rule;
mod scale_up;
mod settle;
mod stage;
mod view;
mod waves;
mod window;

use std::collections::BTreeSet;

use jiff::Timestamp;

pub use ledger::BudgetState;
pub use order::{Candidate, CandidateOrder, Order};
pub use outcome::{
    BoundBy, CriticalBudget, LowerBound, NodeDrain, Note, PlanDiff, PlanSummary, PodMove, PodStay,
    ScaleDownPlan, Skipped, SkippedSummary, StayReason, Surge, Wave,
};
pub use policy::{DrainPolicy, ScaleDown, Target};
pub use reason::{Blocker, ObjectName, Refusals};
pub use rule::{DrainAction, DrainPod, DrainRule};
pub use scale_up::{GroupIncrease, NodeGroup, ScaleUpError, ScaleUpPlan, Unplaced};
pub(crate) use window::{Hours, hours};
pub use window::{Window, WindowError};

use self::{
    candidate::{Reviews, edge_away},
    settle::Outcome,
    stage::Stage,
    view::View,
};
use super::model::{
    Model,
    node::Ready,
    symbols::{Map, id},
};

/// A request that makes no sense for this cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// More nodes than allowed.
    #[error("{desired} nodes are wanted and the quota is {quota}; raise the quota or want fewer")]
    AboveQuota {
        /// Wanted, or there already.
        desired: i64,
        /// The most there may be.
        quota: u32,
    },
    /// A count below zero.
    #[error("{field} is {value}; it must be 0 or more")]
    Negative {
        /// `remove` or `desired`.
        field: &'static str,
        /// The value.
        value: i64,
    },
    /// More nodes than there are.
    #[error("cannot remove {asked} nodes: the cluster has {nodes} worker nodes; ask for at most that many")]
    TooMany {
        /// Asked for.
        asked: i64,
        /// Worker nodes.
        nodes: u32,
    },
    /// A desired count that is not below the current one.
    #[error(
        "{desired} worker nodes are wanted and there are {nodes}: there is nothing to remove; plan a scale-up"
    )]
    NotBelow {
        /// Wanted.
        desired: i64,
        /// Worker nodes.
        nodes: u32,
    },
    /// A named node that is not in the cluster.
    #[error("node {node:?} is not in the cluster; correct the name")]
    UnknownNode {
        /// The name.
        node: String,
    },
}

impl Model {
    /// Plans the removal of nodes.
    ///
    /// `now` decides which protections, autonomy bounds and evictions under way still count. Nodes that cannot go are
    /// data in the plan ([`ScaleDownPlan::skipped`]), not an error; so is a cluster too unhealthy to touch
    /// ([`ScaleDownPlan::blocked_until`]).
    ///
    /// # Errors
    /// [`PlanError`] for a count below zero or above the number of nodes, and for names that are not nodes.
    pub fn plan_scale_down(
        &self,
        request: &ScaleDown,
        policy: &DrainPolicy,
        now: Timestamp,
    ) -> Result<ScaleDownPlan, PlanError> {
        let mut view = View::new(self, now.as_second());
        let surges = if policy.surge {
            view.surge()
        } else {
            Map::default()
        };
        let asked = asked(&view, request)?;
        let considered = considered(&view, request)?;
        let mut reviews = Reviews::new(&view, policy, &considered);

        let mut held = Vec::new();
        let mut until = None;
        let mut closes = None;
        if let Some(blocker) = unhealthy(&view, policy, now) {
            until = match &blocker {
                Blocker::ClusterUnhealthy { until, .. } => Some(*until),
                _ => None,
            };
            held.push(blocker);
        }
        match hours(&policy.windows, now) {
            Hours::Open { until } => closes = until,
            Hours::Closed { until: opens } => {
                held.push(Blocker::WindowClosed { until: opens });
                // Windows that never open will be looked at again as an unhealthy cluster is.
                until = until.max(opens).or_else(|| Some(recheck(policy, now)));
            }
        }
        if !held.is_empty() {
            let mut stage = Stage::new(&view);
            let stuck = choose::beside(&mut stage, &reviews, &[], &Map::default());
            let outcome = Outcome::held(reviews, &held, stuck, until);
            return Ok(outcome.into_plan(&view, policy, asked, &Map::default()));
        }

        if !matches!(request.target, Target::Nodes(_)) {
            sort(policy, &mut reviews);
        }
        let outcome = choose::choose(&view, policy, asked, reviews, closes);
        Ok(outcome.into_plan(&view, policy, asked, &surges))
    }
}

fn asked(view: &View<'_>, request: &ScaleDown) -> Result<u32, PlanError> {
    let workers = id(view
        .ranks()
        .filter(|rank| !view.node(*rank).control_plane)
        .count());
    match &request.target {
        Target::Remove(count) if *count < 0 => Err(PlanError::Negative {
            field: "remove",
            value: *count,
        }),
        Target::Desired(count) if *count < 0 => Err(PlanError::Negative {
            field: "desired",
            value: *count,
        }),
        Target::Desired(count) if request.quota.is_some_and(|quota| *count > i64::from(quota)) => {
            Err(PlanError::AboveQuota {
                desired: *count,
                quota: request.quota.unwrap_or_default(),
            })
        }
        Target::Remove(count) => match u32::try_from(*count) {
            Ok(count) if count <= workers => Ok(count),
            _ => Err(PlanError::TooMany {
                asked: *count,
                nodes: workers,
            }),
        },
        Target::Desired(count) => match u32::try_from(*count) {
            Ok(count) if count <= workers => Ok(workers - count),
            _ => Err(PlanError::NotBelow {
                desired: *count,
                nodes: workers,
            }),
        },
        Target::Nodes(nodes) => Ok(id(nodes.len())),
    }
}

fn considered(view: &View<'_>, request: &ScaleDown) -> Result<Vec<u32>, PlanError> {
    let ranks = |names: &BTreeSet<String>| {
        names
            .iter()
            .map(|name| {
                view.rank(name)
                    .ok_or_else(|| PlanError::UnknownNode { node: name.clone() })
            })
            .collect::<Result<Vec<u32>, _>>()
    };
    let among = request.candidates.as_ref().map(ranks).transpose()?;
    let mut all = match &request.target {
        Target::Nodes(nodes) => ranks(nodes)?,
        Target::Desired(_) | Target::Remove(_) => among.clone().unwrap_or_else(|| view.ranks().collect()),
    };
    if let Some(among) = among {
        let among: BTreeSet<u32> = among.into_iter().collect();
        all.retain(|rank| among.contains(rank));
    }
    Ok(all)
}

/// Edge nodes do not count: the cloud cannot tell a dead one from one that is cut off.
fn unhealthy(view: &View<'_>, policy: &DrainPolicy, now: Timestamp) -> Option<Blocker> {
    let (mut unready, mut total) = (0u32, 0u32);
    for rank in view.ranks() {
        let node = view.node(rank);
        if node.edge || edge_away(node, false, view.now).is_some() {
            continue;
        }
        total += 1;
        unready += u32::from(node.ready != Ready::Yes);
    }
    let over = u64::from(unready) * 100 > u64::from(total) * u64::from(policy.max_unready_percent);
    over.then(|| Blocker::ClusterUnhealthy {
        unready,
        total,
        max_percent: policy.max_unready_percent,
        until: recheck(policy, now),
    })
}

/// When to look again at a cluster that may not lose a node now.
fn recheck(policy: &DrainPolicy, now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second().saturating_add(policy.recheck_seconds)).unwrap_or(now)
}

/// The preferred first; ranks are in the order of names, so they break ties.
fn sort(policy: &DrainPolicy, reviews: &mut Reviews<'_, '_>) {
    let width = policy.order.len();
    let mut keys: Vec<i64> = Vec::with_capacity(reviews.rows.len() * width);
    for candidate in (0..reviews.rows.len()).filter_map(|at| reviews.candidate(at)) {
        keys.extend(policy.order.iter().map(|order| order.key(&candidate)));
    }
    let key = |at: usize| &keys[at * width..(at + 1) * width];
    let mut order: Vec<usize> = (0..reviews.rows.len()).collect();
    order.sort_unstable_by(|a, b| key(*a).cmp(key(*b)).then(reviews.rank(*a).cmp(&reviews.rank(*b))));
    let mut rows: Vec<Option<_>> = std::mem::take(&mut reviews.rows).into_iter().map(Some).collect();
    reviews.rows = order
        .into_iter()
        .filter_map(|at| rows.get_mut(at)?.take())
        .collect();
}
