//! What is proposed to be removed, and who agrees.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::events::EventType;
use kurator_core::connect::ClientPurpose;
use kurator_core::gate::Passage;
use kurator_core::reason::Reason;
use tokio::time::Instant;

use super::drain::working;
use super::{Done, Pass};
use crate::api::Approval;
use crate::controller::cluster::APPROVE;
use crate::controller::cluster::decide::Under;
use crate::controller::cluster::identity::chain;
use crate::controller::cluster::metrics::ScalingMetric;
use crate::controller::cluster::status::Doing;
use crate::controller::cluster::tended::Tended;
use crate::controller::status::Said;
use crate::scaling::execute::{DrainStanding, InfrastructureProvider, observe, passes, plan_id};
use crate::scaling::{
    Blocker, DrainPolicy, Model, Object, PlanError, ScaleDown, ScaleDownPlan, Skipped, Window, check,
};

/// Plans over more objects than that are not read again by the checker: that takes longer than the planning.
const CHECKED: usize = 50_000;

impl Pass<'_> {
    pub(super) async fn scale_down(
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
    pub(super) fn policy(&self) -> Result<DrainPolicy, Said> {
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
