//! One pass over a cluster.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kurator_core::connect::ClientPurpose;
use kurator_core::gate::Passage;
use kurator_core::names::ClusterName;
use kurator_core::reason::Reason;
use tokio::sync::watch;
use tokio::time::Instant;

use super::decide::{Facts, Step, Under, decide};
use super::identity::chain;
use super::metrics::ScalingMetric;
use super::nodes::Counts;
use super::status::{Doing, Identity, Known, cluster_status};
use super::tended::Tended;
use super::work::{Drain, Ended};
use super::{APPROVE, ClusterError, Context};
use crate::api::{Approval, Cluster, DeadlineAction, DrainSettings};
use crate::controller::status::Said;
use crate::scaling::execute::{
    DrainExecutor, DrainOptions, DrainOutcome, DrainStanding, InfrastructureProvider, OnDeadline, WorkerPool,
    observe, passes, plan_id,
};
use crate::scaling::{
    Blocker, DrainPolicy, Model, Object, PlanError, ScaleDown, ScaleDownPlan, Skipped, Window, check,
};

/// Without anything happening a cluster is looked at again after that long.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// When what the watch has not seen yet is asked for again.
const SOON: Duration = Duration::from_secs(1);
/// Grace period of pods that are deleted past their deadline.
const FORCED_GRACE: u32 = 30;
/// Plans over more objects than that are not read again by the checker: that takes longer than the planning.
const CHECKED: usize = 50_000;

/// One look at one cluster.
#[derive(Debug)]
pub(super) struct Pass<'p> {
    pub(super) cluster: &'p Cluster,
    pub(super) member: &'p ClusterName,
    pub(super) context: &'p Context,
    pub(super) now: Timestamp,
}

pub(super) async fn tend(
    cluster: &Cluster,
    context: &Context,
) -> Result<(Action, &'static str), ClusterError> {
    let now = context.clock.now();
    let Ok(member) = cluster.name_any().parse::<ClusterName>() else {
        let said = Said::new(
            "NameInvalid",
            "a member's name is an RFC 1123 label of at most 63 characters; rename it",
        );
        let known = Known {
            counts: None,
            unreachable: Some(said.clone()),
            doing: Doing::Held(said),
            standing: None,
            trouble: None,
            identity: Identity::Off,
        };
        context
            .write(cluster, cluster_status(cluster, &known, now))
            .await?;
        return Ok((Action::await_change(), "NameInvalid"));
    };
    let pass = Pass {
        cluster,
        member: &member,
        context,
        now,
    };
    let tended = context.tended(cluster, &member);
    let mut tended = tended.lock().await;
    tended.look_at(cluster.metadata.generation);
    pass.take_end(&mut tended).await;
    let (counts, unreachable) = tended.nodes.counts();
    let mut again = now.saturating_add(SignedDuration::from_secs(60)).unwrap_or(now);
    let mut sooner = |when: Option<Timestamp>| again = when.map_or(again, |when| again.min(when));
    let doing = match (counts, &unreachable) {
        (_, Some(failure)) => Doing::Held(failure.clone()),
        (None, None) => Doing::Held(Said::new("Connecting", "its nodes have not been listed yet")),
        (Some(counts), None) => {
            let done = pass.act(&mut tended, counts).await;
            sooner(done.again);
            done.doing
        }
    };
    sooner(tended.not_before.filter(|when| *when > now));
    let (identity, when) = pass.identity(&mut tended);
    sooner(when);
    let carried_out = tended.drain.as_ref().and_then(Drain::standing);
    let standing = carried_out.or_else(|| tended.proposal.clone());
    let known = Known {
        counts,
        unreachable,
        doing,
        standing,
        trouble: tended.trouble.clone(),
        identity,
    };
    let token = match &known.doing {
        Doing::Nothing => "AsWanted",
        Doing::Held(said) | Doing::Working(said) => said.token,
    };
    drop(tended);
    context
        .write(cluster, cluster_status(cluster, &known, now))
        .await?;
    let pause = Duration::try_from(again.duration_since(now)).unwrap_or(LOOK_AGAIN);
    Ok((Action::requeue(pause.clamp(SOON, LOOK_AGAIN.max(pause))), token))
}

/// What an act came to.
struct Done {
    doing: Doing,
    again: Option<Timestamp>,
}

impl From<Doing> for Done {
    fn from(doing: Doing) -> Self {
        Self { doing, again: None }
    }
}

impl Pass<'_> {
    fn settings(&self) -> DrainSettings {
        self.cluster.spec.worker_nodes.drain.clone().unwrap_or_default()
    }

    /// Takes note of how a drain has ended.
    async fn take_end(&self, tended: &mut Tended) {
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

    fn recheck(&self) -> Timestamp {
        let pause = SignedDuration::from_secs(self.context.options.policy.recheck_seconds);
        self.now.saturating_add(pause).unwrap_or(self.now)
    }

    async fn act(&self, tended: &mut Tended, counts: Counts) -> Done {
        let wanted = self.cluster.spec.worker_nodes.count;
        let step = decide(&Facts {
            wanted,
            workers: counts.workers,
            marked: counts.marked,
            under: tended.drain.as_ref().map(|drain| drain.under),
            hold: self.settings().approval == Approval::DryRun,
        });
        if step != Step::ScaleUp {
            tended.joining = None;
        }
        if step != Step::ScaleDown {
            tended.proposal = None;
        }
        match step {
            Step::Wait => return working(tended).into(),
            Step::Cancel => {
                if let Some(drain) = &tended.drain {
                    drain.call_off();
                }
                return rolling_back().into();
            }
            Step::Rest => {
                tended.well();
                return Doing::Nothing.into();
            }
            Step::Resume | Step::RollBack | Step::ScaleDown | Step::ScaleUp => {}
        }
        if tended.not_before.is_some_and(|when| when > self.now) {
            let waits = Said::new("Waiting", "it is looked at again in a while");
            return Doing::Held(tended.held.clone().unwrap_or(waits)).into();
        }
        let cloud = &self.cluster.spec.infrastructure.cloud_provider;
        let Some(machines) = self.context.options.infrastructures.get(cloud) else {
            let names: Vec<&str> = self
                .context
                .options
                .infrastructures
                .keys()
                .map(String::as_str)
                .collect();
            let message = format!(
                "no infrastructure provider is registered for {cloud:?}, only for {names:?}; register it, or correct \
                 infrastructure.cloudProvider"
            );
            let said = Said::new("InfrastructureUnknown", message);
            tended.trouble = Some(said.clone());
            return Doing::Held(said).into();
        };
        let policy = match self.policy() {
            Ok(policy) => policy,
            Err(said) => {
                tended.trouble = Some(said.clone());
                return Doing::Held(said).into();
            }
        };
        match step {
            Step::Resume => {
                let executor = |standing| self.executor(machines, policy, standing);
                self.begin(tended, Under::Draining, executor, None);
                working(tended).into()
            }
            Step::RollBack => {
                let executor = |standing| self.executor(machines, policy, standing);
                self.begin(tended, Under::RollingBack, executor, None);
                rolling_back().into()
            }
            Step::ScaleUp => self.scale_up(tended, machines, counts).await,
            _ => self.scale_down(tended, machines, policy).await,
        }
    }

    async fn scale_up(
        &self,
        tended: &mut Tended,
        machines: &Arc<dyn InfrastructureProvider>,
        counts: Counts,
    ) -> Done {
        let spec = &self.cluster.spec;
        let wanted = spec.worker_nodes.count;
        let pool = WorkerPool::new(self.member.clone(), wanted)
            .with_instance_type(spec.worker_nodes.instance_type.clone())
            .with_region(spec.infrastructure.region.clone())
            .with_version(spec.infrastructure.version.clone());
        if let Err(error) = machines.provide(&pool).await {
            let said = Said::new("InfrastructureFailed", chain(&error));
            tended.failed(said.clone(), self.now);
            return Doing::Held(said).into();
        }
        let metric = ScalingMetric::Provided { count: wanted };
        self.context.options.metrics.record(self.member, &metric);
        let since = *tended.joining.get_or_insert(self.now);
        let patience =
            SignedDuration::try_from(self.context.options.join_deadline).unwrap_or(SignedDuration::MAX);
        let missing = wanted.saturating_sub(counts.workers);
        tended.trouble = (self.now.duration_since(since) > patience).then(|| {
            let message =
                format!("{missing} machines were asked for at {since} and no node has joined; look at them");
            Said::new("NodesMissing", message)
        });
        let message = format!("{missing} machines were asked for; waiting until they join");
        Doing::Working(Said::new("ScalingUp", message)).into()
    }

    async fn scale_down(
        &self,
        tended: &mut Tended,
        machines: &Arc<dyn InfrastructureProvider>,
        policy: DrainPolicy,
    ) -> Done {
        let began = Instant::now();
        let objects = match self.observe().await {
            Ok(objects) => objects,
            Err(said) => {
                tended.failed(said.clone(), self.now);
                return Doing::Held(said).into();
            }
        };
        let (plan, proposed_before) = match self.plan(&objects, &policy, tended.proposal.as_ref()) {
            Ok(Some(plan)) => plan,
            Ok(None) => {
                // The watch is behind what has just been read.
                let said = Said::new("ScalingDown", "nodes are going");
                return Done {
                    doing: Doing::Working(said),
                    again: Some(self.now + SignedDuration::from_secs(1)),
                };
            }
            Err(said) => {
                tended.trouble_until(said.clone(), self.recheck());
                return Doing::Held(said).into();
            }
        };
        let metric = ScalingMetric::Planned {
            remove: u32::try_from(plan.remove.len()).unwrap_or(u32::MAX),
            took: began.elapsed(),
        };
        self.context.options.metrics.record(self.member, &metric);
        if let Some(said) = impossible(&plan, proposed_before) {
            let passing: Vec<_> = plan
                .skipped
                .iter()
                .filter(|node| node.blockers.iter().all(passes))
                .collect();
            match plan.blocked_until.or_else(|| soonest(&passing)) {
                // It is as it should be, or a budget still counts an eviction that never came to its end.
                Some(until) if said.token != "ClusterUnhealthy" => {
                    tended.trouble = None;
                    tended.held_until(said.clone(), until);
                }
                Some(until) => tended.trouble_until(said.clone(), until),
                // Such as a budget whose pods have just moved.
                None if !passing.is_empty() => tended.waits(&said, self.now),
                None => tended.failed(said.clone(), self.now),
            }
            return Doing::Held(said).into();
        }
        let same = tended
            .proposal
            .take()
            .filter(|proposal| proposal.nodes.iter().eq(&plan.remove));
        let id = same.map_or_else(|| plan_id(&plan), |proposal| proposal.plan);
        if let Some(said) = self.held(&plan, &id).await {
            tended.proposal = Some(proposed(&plan, id));
            return Doing::Held(said).into();
        }
        let mut said = summary(&plan);
        let executor = |standing| self.executor(machines, policy, standing);
        self.begin(tended, Under::Draining, executor, Some(plan));
        if let Some(trouble) = &tended.trouble {
            said.push_str(&format!("; before: {trouble}"));
        }
        self.context
            .tell(self.cluster, EventType::Normal, "ScalingDown", &said)
            .await;
        working(tended).into()
    }

    async fn observe(&self) -> Result<Vec<Object>, Said> {
        let client = self
            .context
            .connector
            .client(self.member, ClientPurpose::Control)
            .await;
        let client = client.map_err(|error| Said::new(error.reason(), error.to_string()))?;
        observe(&client).await.map_err(|error| {
            Said::new(
                "ApiFailed",
                format!("the cluster cannot be read: {}", chain(&error)),
            )
        })
    }

    /// The nodes that were proposed before as long as they can go and are as many as wanted, so that what somebody
    /// agrees to is what happens: for those that somebody is asked about it is waited if what keeps them passes by
    /// itself, and once they are agreed to it does not matter that more could go. With whether the plan is for them.
    /// `None` if there is nothing to remove.
    fn plan(
        &self,
        objects: &[Object],
        policy: &DrainPolicy,
        proposal: Option<&DrainStanding>,
    ) -> Result<Option<(ScaleDownPlan, bool)>, Said> {
        let wrong = |error: &dyn std::error::Error| Said::new("PlanRefused", chain(error));
        let model = Model::from_objects(objects).map_err(|error| wrong(&error))?;
        let wanted = i64::from(self.cluster.spec.worker_nodes.count);
        let plan = match model.plan_scale_down(&ScaleDown::to(wanted), policy, self.now) {
            Ok(plan) => plan,
            Err(PlanError::NotBelow { .. }) => return Ok(None),
            Err(error) => return Err(wrong(&error)),
        };
        if plan.asked == 0 {
            return Ok(None);
        }
        let manual = self.settings().approval == Approval::Manual;
        let stands = |proposal: &&DrainStanding| {
            let (before, now) = (proposal.nodes.len(), plan.remove.len());
            let agreed = self.agreed(&proposal.plan);
            before == now || manual && before <= plan.asked as usize && (before > now || agreed)
        };
        let again = proposal
            .filter(stands)
            .and_then(|proposal| {
                let request = ScaleDown::nodes(proposal.nodes.iter().cloned());
                model.plan_scale_down(&request, policy, self.now).ok()
            })
            .filter(|again| {
                let blockers = || again.skipped.iter().flat_map(|skipped| &skipped.blockers);
                let waits = manual && blockers().all(passes);
                waits || again.skipped.is_empty() && again.blocked_until.is_none()
            });
        let proposed_before = again.is_some();
        let plan = again.unwrap_or(plan);
        if objects.len() <= CHECKED {
            let notes = check::check(&plan, objects, self.now);
            if !notes.permits() {
                return Err(Said::new("PlanContradicted", notes.to_string()));
            }
        }
        Ok(Some((plan, proposed_before)))
    }

    /// Whether somebody has agreed to the plan of this name.
    fn agreed(&self, id: &str) -> bool {
        self.cluster.annotations().get(APPROVE).map(String::as_str) == Some(id)
    }

    /// Why the plan is not carried out now, in somebody else's opinion.
    async fn held(&self, plan: &ScaleDownPlan, id: &str) -> Option<Said> {
        match self.settings().approval {
            Approval::Automatic => {}
            Approval::DryRun => return Some(Said::new("DryRun", format!("a dry run: {}", summary(plan)))),
            Approval::Manual => {
                if !self.agreed(id) {
                    let name = self.cluster.name_any();
                    let message = format!(
                        "{}; agree with: kubectl annotate --overwrite clusters.cluster.kurator.dev {name} {APPROVE}={id}",
                        summary(plan)
                    );
                    return Some(Said::new("ApprovalPending", message));
                }
            }
        }
        for gate in &self.context.options.gates {
            if let Passage::Closed { message, .. } = gate.ask(self.member, &summary(plan)).await {
                return Some(Said::new("GateClosed", message));
            }
        }
        None
    }

    /// The rules of the host, with what the spec adds.
    fn policy(&self) -> Result<DrainPolicy, Said> {
        let settings = self.settings();
        let mut policy = self.context.options.policy.clone();
        policy.max_parallel = settings.max_parallel.unwrap_or(policy.max_parallel);
        policy.surge |= settings.surge;
        policy.evict_local_storage |= settings.delete_local_data;
        policy.evict_unreplicated |= settings.delete_unreplicated;
        for window in &settings.windows {
            let made = if window.closed {
                Window::closed(&window.schedule, Duration::from(window.duration))
            } else {
                Window::open(&window.schedule, Duration::from(window.duration))
            };
            policy
                .windows
                .push(made.map_err(|error| Said::new("WindowInvalid", chain(&error)))?);
        }
        Ok(policy)
    }

    fn executor(
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
    fn begin(
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

    /// The cluster's object is being deleted: whether everything of ours is off its nodes.
    pub(super) fn leave(&self, tended: &mut Tended) -> bool {
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

fn working(tended: &Tended) -> Doing {
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

fn rolling_back() -> Doing {
    let message = "more nodes are wanted than the plan leaves, so it is given up";
    Doing::Working(Said::new("RollingBack", message))
}

/// When the first of these nodes has nothing any more that keeps it, if that can be told.
fn soonest(passing: &[&Skipped]) -> Option<Timestamp> {
    let until = |blocker: &Blocker| match blocker {
        Blocker::BudgetExhausted { until, .. } => *until,
        _ => None,
    };
    let of_node = |node: &&Skipped| {
        node.blockers
            .iter()
            .map(until)
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .max()
    };
    passing.iter().filter_map(of_node).min()
}

/// Why a plan removes nothing, if so; or less than was `proposed`, which is not to be halved.
fn impossible(plan: &ScaleDownPlan, proposed: bool) -> Option<Said> {
    let proposed = proposed && !plan.skipped.is_empty();
    if !plan.remove.is_empty() && !proposed {
        return None;
    }
    let first = plan.skipped.first();
    let token = first
        .and_then(|skipped| skipped.blockers.first())
        .map_or("NothingToRemove", Reason::token);
    let detail = first.map_or_else(
        || "there is no node to choose from".to_owned(),
        |skipped| format!("{}: {}", skipped.node, skipped.detail()),
    );
    let others = plan.skipped.len().saturating_sub(1);
    let which = if proposed {
        "not every node of the proposed plan"
    } else {
        "no node"
    };
    let message = format!("{which} can go; {detail} (and {others} other nodes)");
    Some(Said::new(token, message))
}

fn summary(plan: &ScaleDownPlan) -> String {
    let mut names = plan
        .remove
        .iter()
        .take(10)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if plan.remove.len() > 10 {
        names.push_str(", ...");
    }
    format!(
        "remove {} of {} nodes asked for ({names}): {} pods move in {} waves, about {} s at best",
        plan.remove.len(),
        plan.asked,
        plan.moves().count(),
        plan.waves.len(),
        plan.bound.seconds,
    )
}

fn proposed(plan: &ScaleDownPlan, id: String) -> DrainStanding {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    DrainStanding {
        plan: id,
        nodes: plan.remove.iter().cloned().collect(),
        wave: 0,
        waves: count(plan.waves.len()),
        pods_moved: 0,
        pods_to_move: count(plan.moves().count()),
        expected_end: None,
        waiting: None,
    }
}
