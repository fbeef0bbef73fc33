//! From a request to a [`ScaleDownPlan`]: pure, and the same for the same input in any order.
//!
//! ```text
//! review   every considered node on its own: what moves, what stays, what forbids it
//! order    candidates by preference
//! choose   try them one after another; a node is taken if all its pods fit on nodes that stay
//! pack     chosen nodes into waves under every budget and the parallel limit
//! replay   wave by wave, as it will happen; a node that no longer fits gets a wave of its own or stays
//! ```

mod candidate;
mod choose;
mod crowd;
mod order;
mod outcome;
mod policy;
mod reason;
mod replay;
mod rule;
mod scale_up;
mod stage;
pub(crate) mod view;
mod waves;

use std::collections::BTreeSet;

use jiff::Timestamp;

pub use order::{Candidate, CandidateOrder, Order};
pub use outcome::{
    BoundBy, CriticalBudget, LowerBound, NodeDrain, Note, PlanDiff, PlanSummary, PodMove, PodStay,
    ScaleDownPlan, Skipped, SkippedSummary, StayReason, Surge, Wave,
};
pub use policy::{DrainPolicy, ScaleDown, Target};
pub use reason::{Blocker, ObjectName, Refusals};
pub use rule::{DrainAction, DrainPod, DrainRule};
pub use scale_up::{GroupIncrease, NodeGroup, ScaleUpError, ScaleUpPlan, Unplaced};

use self::{
    candidate::{Review, edge_away, review},
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
        let mut reviews: Vec<Review> = considered
            .iter()
            .map(|rank| review(&view, policy, *rank))
            .collect();

        if let Some(blocker) = unhealthy(&view, policy, now) {
            let until = match &blocker {
                Blocker::ClusterUnhealthy { until, .. } => Some(*until),
                _ => None,
            };
            let mut stage = Stage::new(&view);
            let mut stuck = choose::beside(&mut stage, &reviews, &[], &Map::default());
            let skipped = reviews
                .into_iter()
                .map(|mut review| {
                    // An edge node out of reach is left alone whatever the others do.
                    let first = review
                        .blockers
                        .iter()
                        .position(|blocker| !matches!(blocker, Blocker::EdgeDisconnected { .. }))
                        .unwrap_or(review.blockers.len());
                    review.blockers.insert(first, blocker.clone());
                    review
                        .blockers
                        .append(&mut stuck.remove(&review.rank).unwrap_or_default());
                    (review.rank, review.blockers)
                })
                .collect();
            return Ok(replay::Outcome::nothing(&view, policy, asked, skipped, until));
        }

        sort(
            &view,
            policy,
            &mut reviews,
            matches!(request.target, Target::Nodes(_)),
        );
        let outcome = choose::choose(&view, policy, asked, reviews);
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
        until: Timestamp::from_second(now.as_second().saturating_add(policy.recheck_seconds)).unwrap_or(now),
    })
}

/// The preferred first; ranks are in the order of names, so they break ties.
fn sort(view: &View<'_>, policy: &DrainPolicy, reviews: &mut [Review], named: bool) {
    if named {
        return;
    }
    reviews.sort_by_cached_key(|review| {
        let candidate = review.candidate(view);
        let keys: Vec<i64> = policy.order.iter().map(|order| order.key(&candidate)).collect();
        (keys, review.rank)
    });
}
