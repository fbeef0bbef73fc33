//! Planning again what is left, when the cluster is no longer what the plan was made for.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kurator_core::progress::Progress;

use super::{
    DrainError, Left,
    mark::{Step, first_mark, waves},
    observe::observe,
    session::Session,
};
use crate::scaling::{Blocker, DrainPolicy, Model, ScaleDown, ScaleDownPlan};

/// Changes that come close together are answered together.
const GATHER: SignedDuration = SignedDuration::from_secs(1);
/// When it is tried again after it failed.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// What keeps a node now and passes by itself, so that it is waited for and the node not given up.
pub(crate) fn passes(blocker: &Blocker) -> bool {
    match blocker {
        Blocker::BudgetExhausted {
            desired, expected, ..
        } => desired < expected,
        Blocker::NodeNotReady { .. }
        | Blocker::ClusterUnhealthy { .. }
        | Blocker::EdgeDisconnected { .. } => true,
        _ => false,
    }
}

impl Session<'_> {
    /// If something has drifted, makes the waves anew from what is left, and lets go of nodes that can no longer go.
    pub(super) async fn replan(&mut self, now: Timestamp, wake: &mut Timestamp) -> Result<(), DrainError> {
        let Some(policy) = self.executor.policy.clone() else {
            return Ok(());
        };
        if self.live.drift.is_empty() {
            return Ok(());
        }
        let due = *self.replan_at.get_or_insert(now + GATHER);
        if due > now {
            *wake = (*wake).min(due);
            return Ok(());
        }
        let what = std::mem::take(&mut self.live.drift);
        let Some(plan) = self.plan_again(&policy, now).await else {
            self.live.drift = what;
            self.replan_at = Some(now + AGAIN);
            return Ok(());
        };
        self.replan_at = None;
        tracing::info!(
            plan = self.course.plan,
            ?what,
            "the cluster has changed, so the rest was planned again"
        );
        self.report.replans += 1;
        self.emit("plan again", Progress::Succeeded);
        // An unhealthy cluster is waited for, whatever becomes of the nodes.
        if plan.blocked_until.is_some() {
            return Ok(());
        }
        self.follow(&plan).await
    }

    async fn plan_again(&mut self, policy: &DrainPolicy, now: Timestamp) -> Option<ScaleDownPlan> {
        let objects = match observe(&self.control).await {
            Ok(objects) => objects,
            Err(error) => {
                tracing::warn!(%error, "the cluster could not be read to plan again");
                return None;
            }
        };
        let model = match Model::from_objects(&objects) {
            Ok(model) => model,
            Err(error) => {
                tracing::warn!(%error, "the cluster could not be understood to plan again");
                return None;
            }
        };
        match model.plan_scale_down(&ScaleDown::nodes(self.undecided()), policy, now) {
            Ok(plan) => Some(plan),
            Err(error) => {
                // A node went between the watch and the list.
                tracing::debug!(%error, "not planned again");
                None
            }
        }
    }

    /// Nodes of the plan that are there and whose removal has not begun.
    fn undecided(&self) -> Vec<String> {
        let undecided = |node: &&String| {
            self.live.nodes.contains_key(*node)
                && self.mark(node).is_some_and(|mark| mark.step != Step::Removing)
        };
        self.course.nodes().filter(undecided).cloned().collect()
    }

    async fn follow(&mut self, plan: &ScaleDownPlan) -> Result<(), DrainError> {
        let undecided = self.undecided();
        let skipped: BTreeMap<&str, &Vec<Blocker>> = plan
            .skipped
            .iter()
            .map(|skipped| (skipped.node.as_str(), &skipped.blockers))
            .collect();
        let mut held = Vec::new();
        for node in &undecided {
            match skipped.get(node.as_str()) {
                Some(blockers) if blockers.iter().all(passes) => held.push(node.clone()),
                Some(blockers) => {
                    let blockers = blockers.iter().filter(|blocker| !passes(blocker)).cloned();
                    let why = Left::NoLongerPossible {
                        blockers: blockers.collect(),
                    };
                    self.let_go(node, why).await?;
                }
                None => {}
            }
        }
        let begun = |node: &&String| self.live.nodes.contains_key(*node) && !undecided.contains(node);
        let begun: Vec<String> = self.course.nodes().filter(begun).cloned().collect();
        let current: Vec<String> = self.course.waves.first().cloned().unwrap_or_default();
        let mut next = waves(plan);
        next.extend(held.into_iter().map(|node| vec![node]));
        // What is half drained is finished first.
        next.sort_by_key(|wave| !wave.iter().any(|node| current.contains(node)));
        if !begun.is_empty() {
            next.insert(0, begun);
        }
        let gone = |node: &String| !self.live.nodes.contains_key(node);
        let before: Vec<Vec<String>> = self
            .course
            .waves
            .iter()
            .filter(|wave| !wave.iter().all(gone))
            .cloned()
            .collect();
        if next != before {
            let holder = self.course.holder().cloned();
            self.course.waves = next;
            self.course.revision += 1;
            self.marks.carry(&self.course, holder.as_ref()).await?;
        }
        for (wave, steps) in plan.waves.iter().enumerate() {
            for node in &steps.nodes {
                if self.mark(&node.node).is_some() {
                    let newer = first_mark(&self.course.plan, wave, node);
                    self.marks.remark(&node.node, &newer).await?;
                }
            }
        }
        Ok(())
    }
}
