//! Which candidate goes first.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::scaling::model::{Model, node::NodeRecord};

/// A node that could go, as an order sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub(super) model: &'a Model,
    pub(super) node: &'a NodeRecord,
    pub(super) utilisation: u32,
    pub(super) moves: u32,
    pub(super) covered: u32,
    pub(super) rounds: u32,
}

impl Candidate<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.model.symbols[self.node.name]
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let key = self.model.symbols.find(key)?;
        self.node.labels.get(key).map(|value| &self.model.symbols[value])
    }

    /// When it was created.
    pub fn created(&self) -> Timestamp {
        Timestamp::from_second(self.node.created).unwrap_or_default()
    }

    /// The larger of requested CPU and requested memory, as millionths of what it has.
    pub fn utilisation(&self) -> u32 {
        self.utilisation
    }

    /// Pods that would move.
    pub fn moves(&self) -> u32 {
        self.moves
    }

    /// Pods that would move under a budget.
    pub fn covered(&self) -> u32 {
        self.covered
    }

    /// Rounds of evictions it needs: more than 1 if it has more pods of a budget than that allows at once.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Whether the user marked it to go first.
    pub fn is_marked(&self) -> bool {
        self.node.delete_mark
    }

    /// Whether it is cordoned already.
    pub fn is_cordoned(&self) -> bool {
        self.node.unschedulable
    }
}

/// A preference among candidates: pure, and implemented for closures.
///
/// ```
/// use kurator_fleet::scaling::{Candidate, CandidateOrder};
///
/// let spot_first = |node: &Candidate<'_>| if node.label("lifecycle") == Some("spot") { 0 } else { 1 };
/// assert_eq!(spot_first.name(), "closure");
/// ```
pub trait CandidateOrder: Send + Sync {
    /// The lower goes first.
    fn key(&self, node: &Candidate<'_>) -> i64;

    /// A name for the plan's explanation.
    fn name(&self) -> &str {
        "closure"
    }
}

impl<F: Fn(&Candidate<'_>) -> i64 + Send + Sync> CandidateOrder for F {
    fn key(&self, node: &Candidate<'_>) -> i64 {
        self(node)
    }
}

/// The ready-made preferences.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The dearest first, by the label `node.kubernetes.io/instance-type`; types that are not listed cost 0.
    Cost(BTreeMap<String, i64>),
    /// Nodes with a delete annotation (`cluster.x-k8s.io/delete-machine`, `cluster.kurator.dev/delete-node`) first.
    DeleteMark,
    /// The fewest rounds, then pods under a budget, then moves.
    Disruption,
    /// The newest first.
    Newest,
    /// The oldest first.
    Oldest,
    /// The least utilised first.
    Utilisation,
}

impl CandidateOrder for Order {
    fn key(&self, node: &Candidate<'_>) -> i64 {
        match self {
            Self::Cost(prices) => {
                let price = node
                    .label("node.kubernetes.io/instance-type")
                    .and_then(|kind| prices.get(kind));
                price.map_or(0, |price| price.saturating_neg())
            }
            Self::DeleteMark => i64::from(!node.is_marked()),
            Self::Disruption => {
                (i64::from(node.rounds) << 40) + (i64::from(node.covered) << 20) + i64::from(node.moves)
            }
            Self::Newest => node.node.created.saturating_neg(),
            Self::Oldest => node.node.created,
            Self::Utilisation => i64::from(node.utilisation),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Cost(_) => "Cost",
            Self::DeleteMark => "DeleteMark",
            Self::Disruption => "Disruption",
            Self::Newest => "Newest",
            Self::Oldest => "Oldest",
            Self::Utilisation => "Utilisation",
        }
    }
}
