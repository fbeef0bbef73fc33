//! The plan as data.

use std::fmt;

use jiff::Timestamp;
use kurator_core::reason::Reason;
use serde::{Deserialize, Serialize};

use super::reason::{Blocker, ObjectName};

/// Which nodes to remove, in which waves, where every pod goes, and why the others stay.
///
/// # Guarantees
/// - In a wave, no budget loses more pods at once than it allows; a node with more pods of a budget than that is
///   drained in [rounds](NodeDrain::moves), with no other pods of the budget in its wave.
/// - Every pod of [`NodeDrain::moves`] fits on its destination when its wave is played after the ones before.
/// - No destination is a node of the plan, so no pod moves twice.
/// - Equal input, in any order, gives an equal plan, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[must_use]
#[non_exhaustive]
pub struct ScaleDownPlan {
    /// How many nodes were asked for.
    pub asked: u32,
    /// The nodes to remove, by name.
    pub remove: Vec<String>,
    /// What is done one after another.
    pub waves: Vec<Wave>,
    /// How short it could be at best.
    pub bound: LowerBound,
    /// Every other node that was considered, by name.
    pub skipped: Vec<Skipped>,
    /// Deployments that run one replica more while the plan runs.
    pub surges: Vec<Surge>,
    /// What the executor will have to wait for, or the reader should know.
    pub notes: Vec<Note>,
    /// Set if there is no plan because the cluster as a whole is not well or no [window](super::Window) is open, with
    /// when to look again.
    pub blocked_until: Option<Timestamp>,
    /// When nodes may no longer be drained, if the policy has [windows](super::Window): no wave is to start after it.
    #[serde(default)]
    pub closes: Option<Timestamp>,
}

/// Nodes that are drained together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Wave {
    /// The nodes, by name.
    pub nodes: Vec<NodeDrain>,
    /// Rounds of evictions it takes: 1 unless a node has more pods of a budget than that allows at once.
    pub rounds: u32,
}

/// What happens to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NodeDrain {
    /// Its name.
    pub node: String,
    /// Pods to evict, in order.
    pub moves: Vec<PodMove>,
    /// Pods that end with the node.
    pub stay: Vec<PodStay>,
}

/// A pod and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PodMove {
    /// The pod.
    pub pod: ObjectName,
    /// Its UID: a pod of the same name and another UID is not this one.
    pub uid: String,
    /// A node on which its replacement fits. The scheduler may choose another.
    pub to: String,
    /// Place in the order on its node: lower ones are gone before it is evicted.
    pub order: i32,
    /// Round of its wave, from 1.
    pub round: u32,
    /// The budget its eviction takes one from.
    pub budget: Option<ObjectName>,
    /// Its grace period in seconds.
    pub grace_seconds: i64,
}

/// A pod that is not moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PodStay {
    /// The pod.
    pub pod: ObjectName,
    /// Its UID.
    pub uid: String,
    /// Why.
    pub why: StayReason,
}

/// Why a pod is not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StayReason {
    /// Its DaemonSet runs one on every node.
    DaemonSet,
    /// It has finished.
    Finished,
    /// A drain rule says so.
    Rule,
    /// The kubelet runs it from a file.
    Static,
    /// It is being deleted already.
    Terminating,
}

/// What no plan for these nodes can undercut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LowerBound {
    /// Waves.
    pub waves: u32,
    /// Rounds of evictions, over all waves, if no limit but the budgets counted.
    pub rounds: u32,
    /// Those rounds in seconds, by the policy's estimate of one round, or the waves if there are more.
    pub seconds: u64,
    /// What the number of waves comes from.
    pub by: BoundBy,
    /// The budget that needs the most rounds.
    pub critical_budget: Option<CriticalBudget>,
}

/// What a lower bound comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum BoundBy {
    /// One budget.
    Budget {
        /// The budget.
        budget: ObjectName,
    },
    /// Nodes of which no two fit into a wave, or an exhaustive search.
    Conflicts,
    /// The limit of nodes at once.
    Parallel {
        /// Nodes to remove.
        nodes: u32,
        /// Nodes at once.
        limit: u32,
    },
}

/// The budget that needs the most rounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CriticalBudget {
    /// The budget.
    pub budget: ObjectName,
    /// Pods of it that move.
    pub pods: u32,
    /// Pods it allows at once.
    pub allowed: u32,
}

/// A node that stays, with everything that keeps it: what is taken away has to be all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Skipped {
    /// Its name.
    pub node: String,
    /// At least one.
    pub blockers: Vec<Blocker>,
}

impl Skipped {
    /// The token of the first blocker.
    pub fn reason(&self) -> &'static str {
        self.blockers.first().map_or("Unknown", Reason::token)
    }

    /// Every blocker with its numbers and its remedy, in one line.
    pub fn detail(&self) -> String {
        let parts: Vec<String> = self
            .blockers
            .iter()
            .map(|blocker| format!("{blocker} (remedy: {})", blocker.remedy()))
            .collect();
        parts.join("; ")
    }
}

/// A Deployment with one replica, which runs two until the plan is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Surge {
    /// The Deployment.
    pub deployment: ObjectName,
    /// The budget that allows nothing without it.
    pub budget: ObjectName,
    /// Replicas now.
    pub from: i64,
    /// Replicas during the drain.
    pub to: i64,
}

/// Something to know about a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Note {
    /// Fewer nodes than asked for can go.
    Fewer {
        /// Asked for.
        asked: u32,
        /// Found.
        found: u32,
    },
    /// The budget's status is about an older spec; its numbers were computed from the pods, and the API server refuses
    /// evictions until the disruption controller has caught up.
    StaleBudget {
        /// The budget.
        budget: ObjectName,
    },
    /// The disruption controller has not written a status yet; as for a stale one.
    UnsyncedBudget {
        /// The budget.
        budget: ObjectName,
    },
    /// The pod fits where the plan sends it, but the scheduler, which does not know the plan, may put others there, and
    /// then it waits for room. Looked for in clusters of up to 64 nodes.
    Tight {
        /// The pod.
        pod: ObjectName,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fewer { asked, found } => write!(f, "{found} of {asked} nodes can go"),
            Self::StaleBudget { budget } => {
                write!(
                    f,
                    "the status of budget {budget} is older than its spec; evictions wait for the controller"
                )
            }
            Self::Tight { pod } => {
                write!(
                    f,
                    "room is tight: pod {pod} may have to wait if the scheduler puts others where it fits"
                )
            }
            Self::UnsyncedBudget { budget } => {
                write!(
                    f,
                    "budget {budget} has no status yet; evictions wait for the controller"
                )
            }
        }
    }
}

/// The plan for programs that only ask which nodes go and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PlanSummary {
    /// Nodes to remove, by name.
    pub remove: Vec<String>,
    /// Their names, wave by wave.
    pub waves: Vec<Vec<String>>,
    /// Waves that cannot be undercut.
    pub lower_bound: u32,
    /// Every other node that was considered.
    pub skipped: Vec<SkippedSummary>,
}

/// A node that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SkippedSummary {
    /// Its name.
    pub node: String,
    /// The token of the first thing that keeps it.
    pub reason: String,
    /// All that keeps it, with numbers and remedies.
    pub detail: String,
}

impl ScaleDownPlan {
    /// Node names, wave by wave, and one line for each node that stays.
    pub fn summary(&self) -> PlanSummary {
        PlanSummary {
            remove: self.remove.clone(),
            waves: self
                .waves
                .iter()
                .map(|wave| wave.nodes.iter().map(|node| node.node.clone()).collect())
                .collect(),
            lower_bound: self.bound.waves,
            skipped: self
                .skipped
                .iter()
                .map(|skipped| SkippedSummary {
                    node: skipped.node.clone(),
                    reason: skipped.reason().to_owned(),
                    detail: skipped.detail(),
                })
                .collect(),
        }
    }

    /// Pods that move.
    pub fn moves(&self) -> impl Iterator<Item = &PodMove> {
        self.waves
            .iter()
            .flat_map(|wave| &wave.nodes)
            .flat_map(|node| &node.moves)
    }

    /// What changed since `old`.
    pub fn diff(&self, old: &Self) -> PlanDiff {
        let missing = |from: &[String], of: &[String]| {
            from.iter()
                .filter(|node| of.binary_search(node).is_err())
                .cloned()
                .collect()
        };
        let mut moved = Vec::new();
        for new in self.moves() {
            if let Some(before) = old
                .moves()
                .find(|before| before.uid == new.uid && before.pod == new.pod)
                && before.to != new.to
            {
                moved.push((new.pod.clone(), before.to.clone(), new.to.clone()));
            }
        }
        moved.sort_unstable();
        PlanDiff {
            added: missing(&self.remove, &old.remove),
            dropped: missing(&old.remove, &self.remove),
            waves: (old.waves.len(), self.waves.len()),
            moved,
        }
    }
}

/// How one plan differs from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PlanDiff {
    /// Nodes only the new plan removes.
    pub added: Vec<String>,
    /// Nodes only the old plan removes.
    pub dropped: Vec<String>,
    /// Waves before and after.
    pub waves: (usize, usize),
    /// Pods of both with another destination: pod, before, after.
    pub moved: Vec<(ObjectName, String, String)>,
}

impl PlanDiff {
    /// Whether the plans remove the same nodes in as many waves and to the same places.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.dropped.is_empty()
            && self.moved.is_empty()
            && self.waves.0 == self.waves.1
    }
}

impl fmt::Display for PlanDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no change\n");
        }
        for node in &self.dropped {
            writeln!(f, "- node {node}")?;
        }
        for node in &self.added {
            writeln!(f, "+ node {node}")?;
        }
        if self.waves.0 != self.waves.1 {
            writeln!(f, "~ waves {} -> {}", self.waves.0, self.waves.1)?;
        }
        for (pod, before, after) in &self.moved {
            writeln!(f, "~ pod {pod} to {before} -> {after}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ScaleDownPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moves = self.moves().count();
        writeln!(
            f,
            "Remove {} of {} nodes asked for: {moves} pods move in {} waves (lower bound {}), about {} s at best.",
            self.remove.len(),
            self.asked,
            self.waves.len(),
            self.bound.waves,
            self.bound.seconds,
        )?;
        match &self.bound.by {
            BoundBy::Budget { budget } => writeln!(f, "The bound comes from budget {budget}.")?,
            BoundBy::Conflicts => writeln!(f, "The bound comes from nodes that cannot share a wave.")?,
            BoundBy::Parallel { nodes, limit } => {
                writeln!(f, "The bound comes from {nodes} nodes, {limit} at once.")?;
            }
        }
        if let Some(critical) = &self.bound.critical_budget {
            writeln!(
                f,
                "Critical budget: {} with {} pods to move, {} at once.",
                critical.budget, critical.pods, critical.allowed
            )?;
        }
        if let Some(until) = self.blocked_until {
            writeln!(f, "No plan now; look again at {until}.")?;
        }
        if let Some(closes) = self.closes {
            writeln!(f, "No wave starts after {closes}, when the window closes.")?;
        }
        for note in &self.notes {
            writeln!(f, "Note: {note}.")?;
        }
        for surge in &self.surges {
            writeln!(
                f,
                "Surge: Deployment {} {} -> {} while the plan runs, for budget {}.",
                surge.deployment, surge.from, surge.to, surge.budget
            )?;
        }
        for (number, wave) in (1..).zip(&self.waves) {
            write!(f, "\nWave {number}")?;
            if wave.rounds > 1 {
                write!(f, " ({} rounds)", wave.rounds)?;
            }
            writeln!(f)?;
            for node in &wave.nodes {
                writeln!(
                    f,
                    "  {}: {} pods move, {} stay",
                    node.node,
                    node.moves.len(),
                    node.stay.len()
                )?;
                for step in &node.moves {
                    write!(f, "    {} -> {}", step.pod, step.to)?;
                    if step.round > 1 {
                        write!(f, " in round {}", step.round)?;
                    }
                    if let Some(budget) = &step.budget {
                        write!(f, " (budget {budget})")?;
                    }
                    writeln!(f)?;
                }
            }
        }
        if !self.skipped.is_empty() {
            writeln!(f, "\nNodes that stay")?;
            for skipped in &self.skipped {
                writeln!(
                    f,
                    "  {}: {}: {}",
                    skipped.node,
                    skipped.reason(),
                    skipped.detail()
                )?;
            }
        }
        Ok(())
    }
}
