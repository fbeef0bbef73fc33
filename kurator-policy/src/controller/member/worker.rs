//! The work on one member: apply what is assigned, notice what drifts, and come back when the member does.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use kurator_core::{
    apply::{Applier, ApplyError, ApplyFailure, ApplyOptions, ApplyReport, ObjectOutcome, PruneScope},
    connect::{ClientPurpose, ClusterConnector},
    names::ClusterName,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep_until, timeout},
};

use super::{
    desk::{Assignment, Desk},
    pass,
    watches::{Mark, Seen, Sight, Watches},
};
use crate::{
    controller::{Settings, trigger::Triggers},
    propagate::{
        MemberReason, ObjectKey, ObjectKind, PolicyKey, ResourceInterpreter, TIMED_OUT, Trouble, chain,
    },
};

/// Between a member that went away and the first look whether it is back; doubles up to [`SLOWEST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_millis(500);
const SLOWEST_LOOK: Duration = Duration::from_secs(10);
/// Between two tries of a policy that did not get through; doubles up to [`SLOWEST_TRY`].
const FIRST_TRY: Duration = Duration::from_secs(1);
const SLOWEST_TRY: Duration = Duration::from_secs(60);

/// What every worker shares.
#[derive(Clone, Debug)]
pub(in super::super) struct Tools {
    pub(in super::super) applier: Arc<dyn Applier>,
    pub(in super::super) connector: Arc<dyn ClusterConnector>,
    pub(in super::super) interpreter: Arc<dyn ResourceInterpreter>,
    pub(in super::super) triggers: Triggers,
    pub(in super::super) settings: Settings,
    pub(in super::super) hub: String,
}

pub(super) struct Worker {
    cluster: ClusterName,
    desk: Arc<Desk>,
    tools: Tools,
    link: Link,
    watches: Watches,
    sender: UnboundedSender<Seen>,
    seen: UnboundedReceiver<Seen>,
    jobs: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    probing: bool,
    running: BTreeSet<PolicyKey>,
    dirty: BTreeSet<PolicyKey>,
    tries: BTreeMap<PolicyKey, Try>,
    marks: BTreeMap<PolicyKey, BTreeMap<ObjectKey, Mark>>,
    /// By the UID that its objects are labelled with.
    owners: BTreeMap<String, PolicyKey>,
    kinds: BTreeSet<ObjectKind>,
}

/// Whether the member answers.
enum Link {
    Up { probe_at: Instant, doubts: u32 },
    Down { looks: u32, look_at: Instant },
}

/// A policy that did not get through.
struct Try {
    tries: u32,
    at: Instant,
}

enum Done {
    Pass {
        policy: PolicyKey,
        assignment: Arc<Assignment>,
        result: Result<ApplyReport, Trouble>,
    },
    Probe(Result<(), Trouble>),
}

impl Worker {
    pub(super) fn new(cluster: ClusterName, desk: Arc<Desk>, tools: Tools) -> Self {
        let (sender, seen) = unbounded_channel();
        Self {
            cluster,
            desk,
            tools,
            link: Link::Down {
                looks: 0,
                look_at: Instant::now(),
            },
            watches: Watches::default(),
            sender,
            seen,
            jobs: FuturesUnordered::new(),
            probing: false,
            running: BTreeSet::new(),
            dirty: BTreeSet::new(),
            tries: BTreeMap::new(),
            marks: BTreeMap::new(),
            owners: BTreeMap::new(),
            kinds: BTreeSet::new(),
        }
    }

    /// Works until the task is aborted.
    pub(super) async fn run(mut self) {
        loop {
            self.start_jobs().await;
            let timer = self.next_timer();
            tokio::select! {
                () = self.desk.wake.notified() => self.take_work(),
                Some(seen) = self.seen.recv() => self.look_at(seen),
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.finish(done),
                () = sleep_until(timer) => {}
            }
        }
    }

    fn take_work(&mut self) {
        let (fresh, look_again) = self.desk.take();
        for policy in &fresh {
            self.tries.remove(policy);
        }
        self.dirty.extend(fresh);
        if look_again {
            match &mut self.link {
                Link::Down { look_at, .. } => *look_at = Instant::now(),
                Link::Up { probe_at, .. } => *probe_at = Instant::now(),
            }
        }
        let assigned = self.desk.assignments();
        self.dirty.retain(|policy| assigned.contains_key(policy));
        self.tries.retain(|policy, _| assigned.contains_key(policy));
        self.marks.retain(|policy, _| assigned.contains_key(policy));
        let uid = |assignment: &Assignment| assignment.set.owner().uid().to_owned();
        self.owners = assigned
            .iter()
            .map(|(policy, assignment)| (uid(assignment), policy.clone()))
            .collect();
        self.kinds = assigned
            .values()
            .flat_map(|assignment| assignment.kinds.iter().cloned())
            .collect();
        if let Link::Down { looks: 1.., .. } = self.link {
            // What is known of the member holds for the newcomers too.
            let trouble = self.desk.trouble();
            for policy in assigned.keys() {
                self.block(policy, trouble.clone());
            }
        }
    }

    fn next_timer(&self) -> Instant {
        let link = match &self.link {
            Link::Up { probe_at, .. } => *probe_at,
            Link::Down { look_at, .. } => *look_at,
        };
        let far = Instant::now() + SLOWEST_TRY;
        let link = if self.probing { far } else { link };
        let tries = match self.link {
            Link::Up { .. } => self
                .tries
                .iter()
                .filter(|(policy, _)| !self.running.contains(policy))
                .map(|(_, a_try)| a_try.at)
                .min(),
            Link::Down { .. } => None,
        };
        tries.unwrap_or(far).min(link)
    }

    /// Starts what is due: a look at the member, and, while it answers, the policies with something to do.
    async fn start_jobs(&mut self) {
        let now = Instant::now();
        let due = match &self.link {
            Link::Up { probe_at, .. } => *probe_at <= now,
            Link::Down { look_at, .. } => *look_at <= now,
        };
        if due && !self.probing {
            self.probing = true;
            let (cluster, tools) = (self.cluster.clone(), self.tools.clone());
            self.jobs.push(Box::pin(
                async move { Done::Probe(probe(&cluster, &tools).await) },
            ));
        }
        if matches!(self.link, Link::Down { .. }) {
            return;
        }
        self.watch().await;
        let tried: Vec<_> = self
            .tries
            .iter()
            .filter(|(_, a_try)| a_try.at <= now)
            .map(|(policy, _)| policy.clone())
            .collect();
        self.dirty.extend(tried);
        let room = self
            .tools
            .settings
            .passes_per_member
            .saturating_sub(self.running.len());
        let next: Vec<_> = self
            .dirty
            .iter()
            .filter(|policy| !self.running.contains(*policy))
            .take(room)
            .cloned()
            .collect();
        for policy in next {
            self.dirty.remove(&policy);
            self.tries
                .entry(policy.clone())
                .and_modify(|a_try| a_try.at = now + SLOWEST_TRY);
            let Some(assignment) = self.desk.assignment(&policy) else {
                continue;
            };
            self.running.insert(policy.clone());
            let (cluster, tools) = (self.cluster.clone(), self.tools.clone());
            self.jobs.push(Box::pin(async move {
                let result = apply(&cluster, &tools, &assignment).await;
                Done::Pass {
                    policy,
                    assignment,
                    result,
                }
            }));
        }
    }

    /// Keeps a watch on every kind that is assigned.
    async fn watch(&mut self) {
        if self.watches.covers(&self.kinds) {
            return;
        }
        // The connector has just made a client for the probe, so this answers from its cache.
        if let Ok(client) = self
            .tools
            .connector
            .client(&self.cluster, ClientPurpose::Watch)
            .await
        {
            self.watches.keep(
                &self.kinds,
                &client,
                &self.tools.hub,
                &self.tools.interpreter,
                &self.sender,
            );
        }
    }

    fn look_at(&mut self, seen: Seen) {
        match seen {
            Seen::Broken => {
                if let Link::Up { probe_at, .. } = &mut self.link {
                    *probe_at = Instant::now();
                }
            }
            Seen::Gone { owner, key } => {
                self.dirty.extend(self.policy_of(&owner));
                // Another policy may have waited for the place.
                let waiting = self.desk.assignments().into_iter();
                let waiting = waiting.filter(|(_, assignment)| assignment.revisions.contains_key(&key));
                self.dirty.extend(waiting.map(|(policy, _)| policy));
            }
            Seen::There(sight) => self.compare(*sight),
        }
    }

    fn compare(&mut self, sight: Sight) {
        let Some(policy) = self.policy_of(&sight.owner) else {
            return;
        };
        let Some(assignment) = self.desk.assignment(&policy) else {
            return;
        };
        if !assignment.revisions.contains_key(&sight.key) {
            // Something to be taken away, unless that has begun.
            if !sight.deleting {
                self.dirty.insert(policy);
            }
            return;
        }
        let Some(mark) = self.marks.get(&policy).and_then(|marks| marks.get(&sight.key)) else {
            return;
        };
        if *mark != sight.mark {
            self.dirty.insert(policy);
            return;
        }
        let changed = self.desk.observe(&policy, |known| {
            if let Some(object) = known.objects.get_mut(&sight.key) {
                object.ready = sight.ready;
            }
        });
        if changed {
            self.tools.triggers.fire(&policy);
        }
    }

    fn policy_of(&self, owner: &str) -> Option<PolicyKey> {
        self.owners.get(owner).cloned()
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Probe(result) => {
                self.probing = false;
                self.probed(result);
            }
            Done::Pass {
                policy,
                assignment,
                result,
            } => {
                self.running.remove(&policy);
                match result {
                    Ok(report) => self.passed(&policy, &assignment, &report),
                    Err(trouble) => {
                        self.dirty.insert(policy);
                        self.lost(trouble);
                    }
                }
            }
        }
    }

    fn probed(&mut self, result: Result<(), Trouble>) {
        let now = Instant::now();
        match (result, &mut self.link) {
            (Ok(()), Link::Up { probe_at, doubts }) => {
                *probe_at = now + self.tools.settings.probe_interval;
                *doubts = 0;
            }
            (Ok(()), Link::Down { .. }) => {
                tracing::info!(cluster = %self.cluster, "member answers");
                self.link = Link::Up {
                    probe_at: now + self.tools.settings.probe_interval,
                    doubts: 0,
                };
                self.dirty.extend(self.desk.assignments().into_keys());
            }
            // One lost answer is no verdict.
            (
                Err(_),
                Link::Up {
                    probe_at,
                    doubts: doubts @ 0,
                },
            ) => {
                *probe_at = now;
                *doubts += 1;
            }
            (Err(trouble), _) => self.lost(trouble),
        }
    }

    /// The member is out of reach; every policy is told why.
    fn lost(&mut self, trouble: Trouble) {
        let looks = match &self.link {
            Link::Up { .. } => {
                tracing::warn!(cluster = %self.cluster, reason = %trouble.reason, "member lost: {}", trouble.message);
                0
            }
            Link::Down { looks, .. } => *looks,
        };
        let pause = FIRST_LOOK.saturating_mul(1 << looks.min(10)).min(SLOWEST_LOOK);
        self.link = Link::Down {
            looks: looks + 1,
            look_at: Instant::now() + pause,
        };
        self.watches.end();
        self.desk.set_trouble(&trouble);
        for policy in self.desk.assignments().into_keys() {
            self.block(&policy, Some(trouble.clone()));
        }
    }

    fn block(&self, policy: &PolicyKey, trouble: Option<Trouble>) {
        if self.desk.observe(policy, |known| known.blocked = trouble) {
            self.tools.triggers.fire(policy);
        }
    }

    fn passed(&mut self, policy: &PolicyKey, assignment: &Assignment, report: &ApplyReport) {
        let marks = self.marks.entry(policy.clone()).or_default();
        marks.clear();
        for entry in &report.objects {
            let key = assignment
                .revisions
                .keys()
                .find(|key| pass::same(key, &entry.object));
            if let (Some(key), Some(live)) = (key, &entry.live) {
                marks.insert(key.clone(), Mark::of(live));
            }
        }
        let interpreter = Arc::clone(&self.tools.interpreter);
        let changed = self.desk.observe(policy, |known| {
            *known = pass::observed(known, assignment, report, &*interpreter);
        });
        if changed {
            self.tools.triggers.fire(policy);
        }
        if report.is_complete() {
            self.tries.remove(policy);
        } else {
            let tries = self.tries.get(policy).map_or(0, |a_try| a_try.tries);
            let pause = FIRST_TRY.saturating_mul(1 << tries.min(10)).min(SLOWEST_TRY);
            self.tries.insert(
                policy.clone(),
                Try {
                    tries: tries + 1,
                    at: Instant::now() + pause,
                },
            );
        }
        if let Some(failure) = lost_on_the_way(report) {
            self.lost(Trouble::new(
                MemberReason::Cluster(failure.reason()),
                failure.to_string(),
            ));
        }
    }
}

/// The failure of an object that is one of the member as a whole.
fn lost_on_the_way(report: &ApplyReport) -> Option<&ApplyFailure> {
    report.objects.iter().find_map(|entry| match &entry.outcome {
        ObjectOutcome::Failed { failure } if failure.concerns_member() => Some(failure),
        _ => None,
    })
}

async fn probe(cluster: &ClusterName, tools: &Tools) -> Result<(), Trouble> {
    let answer = async {
        let client = tools
            .connector
            .client(cluster, ClientPurpose::Probe)
            .await
            .map_err(|error| Trouble::new(MemberReason::Cluster(error.reason()), chain(&error)))?;
        match client.apiserver_version().await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 401 => {
                tools.connector.invalidate(cluster).await;
                let failure = ApplyFailure::Unauthorized;
                Err(Trouble::new(
                    MemberReason::Cluster(failure.reason()),
                    failure.to_string(),
                ))
            }
            // It answers; whether it lets us read its version is another matter.
            Err(kube::Error::Api(status)) if status.code < 500 => Ok(()),
            Err(error) => Err(Trouble::new(
                MemberReason::Cluster("MemberUnreachable"),
                innermost(&error),
            )),
        }
    };
    let deadline = tools.settings.probe_deadline;
    timeout(deadline, answer)
        .await
        .unwrap_or_else(|_| Err(timed_out(deadline)))
}

async fn apply(
    cluster: &ClusterName,
    tools: &Tools,
    assignment: &Assignment,
) -> Result<ApplyReport, Trouble> {
    let prune = if assignment.prune {
        PruneScope::Kinds(assignment.kind_refs())
    } else {
        PruneScope::Nothing
    };
    let options = ApplyOptions::default()
        .with_conflict_resolution(assignment.conflicts)
        .with_prune(prune);
    let objects = u32::try_from(assignment.set.len()).unwrap_or(u32::MAX);
    let deadline = tools.settings.pass_deadline + tools.settings.object_allowance.saturating_mul(objects);
    match timeout(deadline, tools.applier.apply(cluster, &assignment.set, &options)).await {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => {
            let message = match &error {
                ApplyError::Connect { source, .. } => chain(source.as_ref()),
                _ => chain(&error),
            };
            Err(Trouble::new(MemberReason::Cluster(error.reason()), message))
        }
        Err(_) => Err(timed_out(deadline)),
    }
}

fn timed_out(deadline: Duration) -> Trouble {
    Trouble::new(
        TIMED_OUT,
        format!("the member did not answer within {} s", deadline.as_secs_f32()),
    )
}

/// The last of a chain of errors: kube's own repeat one another.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
