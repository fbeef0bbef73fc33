//! The drain that goes on beside the passes: its start, how far it is, its end.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::events::EventType;
use kurator_core::reason::Reason;
use tokio::sync::watch;

use super::Pass;
use crate::api::DeadlineAction;
use crate::controller::cluster::decide::Under;
use crate::controller::cluster::identity::chain;
use crate::controller::cluster::metrics::ScalingMetric;
use crate::controller::cluster::status::Doing;
use crate::controller::cluster::tended::Tended;
use crate::controller::cluster::work::{Drain, Ended};
use crate::controller::status::Said;
use crate::scaling::execute::{
    DrainExecutor, DrainOptions, DrainOutcome, DrainStanding, InfrastructureProvider, OnDeadline,
};
use crate::scaling::{DrainPolicy, ScaleDownPlan};

/// Grace period of pods that are deleted past their deadline.
const FORCED_GRACE: u32 = 30;

impl Pass<'_> {
    pub(super) fn executor(
        &self,
        machines: &Arc<dyn InfrastructureProvider>,
        policy: DrainPolicy,
        standing: watch::Sender<Option<DrainStanding>>,
    ) -> DrainExecutor {
        let settings = self.settings();
        let mut options: DrainOptions = self.context.options.drain.clone();
        if let Some(deadline) = settings.node_deadline {
            let then = match settings.on_deadline {
                DeadlineAction::Force => OnDeadline::Force {
                    max_grace_seconds: FORCED_GRACE,
                },
                DeadlineAction::Leave => OnDeadline::Leave,
                DeadlineAction::Stop => OnDeadline::Stop,
            };
            options = options.with_node_deadline(Duration::from(deadline), then);
        }
        DrainExecutor::new(
            Arc::clone(&self.context.connector),
            self.member.clone(),
            Arc::clone(machines),
        )
        .with_options(options)
        .with_replanning(policy)
        .with_clock(Arc::clone(&self.context.clock))
        .with_standing(standing)
    }

    /// Starts what is carried out beside the passes: a plan, what is left of one, or its taking back.
    pub(super) fn begin(
        &self,
        tended: &mut Tended,
        under: Under,
        executor: impl FnOnce(watch::Sender<Option<DrainStanding>>) -> DrainExecutor,
        plan: Option<ScaleDownPlan>,
    ) {
        let (sender, standing) = watch::channel(None);
        let executor = executor(sender);
        let wake = self.context.waker(self.cluster);
        let drain = Drain::start(under, standing, &wake, |cancel| async move {
            let ended: Ended = match (under, plan) {
                (Under::RollingBack, _) => executor.roll_back().await,
                (Under::Draining, Some(plan)) => executor.run(&plan, cancel).await.map(Some),
                (Under::Draining, None) => executor.resume(cancel).await,
            };
            ended
        });
        tended.drain = Some(drain);
    }

    /// Takes note of how a drain has ended.
    pub(super) async fn take_end(&self, tended: &mut Tended) {
        let Some(ended) = tended.drain.as_ref().and_then(Drain::take_end) else {
            return;
        };
        tended.drain = None;
        match ended {
            Ok(None) => {}
            Ok(Some(report)) => {
                let took = report.finished.duration_since(report.started);
                let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                let metric = ScalingMetric::Drained {
                    reason: report.outcome.token(),
                    removed: count(report.removed.len()),
                    evicted: report.evicted,
                    refused: report.refused,
                    forced: report.forced,
                    took: Duration::try_from(took).unwrap_or_default(),
                };
                self.context.options.metrics.record(self.member, &metric);
                let mut note = format!(
                    "{}: {} nodes removed, {} given back, {} pods evicted, {} evictions refused",
                    report.outcome,
                    report.removed.len(),
                    report.rolled_back.len() + report.left.len(),
                    report.evicted,
                    report.refused,
                );
                for (node, why) in report.left.iter().take(10) {
                    note.push_str(&format!("; {node} stays: {why}"));
                }
                let well = matches!(report.outcome, DrainOutcome::Completed | DrainOutcome::Cancelled);
                let type_ = if well && report.left.is_empty() {
                    EventType::Normal
                } else {
                    EventType::Warning
                };
                let reason = report.outcome.token();
                self.context.tell(self.cluster, type_, reason, &note).await;
                if !well || !report.left.is_empty() {
                    let token = match report.left.values().next() {
                        Some(why) if well => why.token(),
                        _ => report.outcome.token(),
                    };
                    tended.trouble_until(Said::new(token, note), self.recheck());
                } else if report.outcome == DrainOutcome::Completed {
                    tended.well();
                }
            }
            Err(error) => {
                let said = Said::new(error.token(), chain(&error));
                self.context
                    .tell(self.cluster, EventType::Warning, said.token, &said.message)
                    .await;
                tended.failed(said, self.now);
            }
        }
    }

    /// The cluster's object is being deleted: whether everything of ours is off its nodes.
    pub(in crate::controller::cluster) fn leave(&self, tended: &mut Tended) -> bool {
        if let Some(drain) = &tended.drain {
            drain.call_off();
            if drain.take_end().is_none() {
                return false;
            }
            tended.drain = None;
        }
        let (counts, unreachable) = tended.nodes.counts();
        match counts {
            Some(counts) if counts.marked == 0 => true,
            Some(_) if unreachable.is_none() => {
                let cloud = &self.cluster.spec.infrastructure.cloud_provider;
                let Some(machines) = self.context.options.infrastructures.get(cloud) else {
                    return false;
                };
                // To give back it takes no rules.
                let policy = self.context.options.policy.clone();
                let executor = |standing| self.executor(machines, policy, standing);
                self.begin(tended, Under::RollingBack, executor, None);
                false
            }
            _ => false,
        }
    }
}

pub(super) fn working(tended: &Tended) -> Doing {
    let Some(drain) = &tended.drain else {
        return Doing::Nothing;
    };
    if drain.under == Under::RollingBack {
        return rolling_back();
    }
    let Some(standing) = drain.standing() else {
        return Doing::Working(Said::new("ScalingDown", "the drain begins"));
    };
    let mut message = format!(
        "wave {} of {}, {} of {} pods moved, {} nodes to go",
        standing.wave,
        standing.waves,
        standing.pods_moved,
        standing.pods_to_move,
        standing.nodes.len(),
    );
    if let Some(waiting) = &standing.waiting {
        message.push_str(&format!("; {waiting}"));
    }
    Doing::Working(Said::new("ScalingDown", message))
}

pub(super) fn rolling_back() -> Doing {
    let message = "more nodes are wanted than the plan leaves, so it is given up";
    Doing::Working(Said::new("RollingBack", message))
}
