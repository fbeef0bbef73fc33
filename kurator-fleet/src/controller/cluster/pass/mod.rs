//! One pass over a cluster.

mod drain;
mod proposal;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kurator_core::names::ClusterName;

use self::drain::{rolling_back, working};
use super::decide::{Facts, Step, Under, decide};
use super::identity::chain;
use super::metrics::ScalingMetric;
use super::nodes::Counts;
use super::status::{Doing, Identity, Known, cluster_status};
use super::tended::Tended;
use super::work::Drain;
use super::{ClusterError, Context};
use crate::api::{Approval, Cluster, DrainSettings};
use crate::controller::status::Said;
use crate::scaling::execute::{InfrastructureProvider, WorkerPool};

/// Without anything happening a cluster is looked at again after that long.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// When what the watch has not seen yet is asked for again.
const SOON: Duration = Duration::from_secs(1);

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
}
