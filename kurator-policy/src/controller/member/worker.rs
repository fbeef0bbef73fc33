//! The work on one engaged member: apply what is assigned, and notice what drifts.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use kurator_core::{
    apply::{
        self, Applier, ApplyError, ApplyOptions, ApplyReport, ObjectOutcome, ObjectReport, PruneScope,
        Pruning,
    },
    multicluster::EngagedMember,
    names::ClusterName,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep_until, timeout},
};

use super::{
    autoscalers::{self, Autoscalers, Scaled},
    desk::{Assignment, Desk},
    pass,
    watches::{Mark, Seen, Sight, Watches},
};
use crate::{
    controller::{DistributionMetric, DistributionMetrics, Settings, carried::StateBook, trigger::Triggers},
    propagate::{
        MemberReason, ObjectKey, ObjectKind, PolicyKey, ResourceInterpreter, TIMED_OUT, Trouble, chain,
        replica_fields, scale_target,
    },
};

/// Between two tries of a policy that did not get through; doubles up to [`SLOWEST_TRY`].
const FIRST_TRY: Duration = Duration::from_secs(1);
const SLOWEST_TRY: Duration = Duration::from_secs(60);

/// What every worker shares.
#[derive(Clone, Debug)]
pub(in super::super) struct Tools {
    pub(in super::super) applier: Arc<dyn Applier>,
    pub(in super::super) interpreter: Arc<dyn ResourceInterpreter>,
    pub(in super::super) triggers: Triggers,
    pub(in super::super) settings: Settings,
    pub(in super::super) hub: String,
    pub(in super::super) states: Arc<StateBook>,
    pub(in super::super) metrics: Arc<dyn DistributionMetrics>,
}

pub(super) struct Worker {
    member: Arc<EngagedMember>,
    desk: Arc<Desk>,
    tools: Tools,
    watches: Watches,
    sender: UnboundedSender<Seen>,
    seen: UnboundedReceiver<Seen>,
    jobs: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    running: BTreeSet<PolicyKey>,
    dirty: BTreeSet<PolicyKey>,
    tries: BTreeMap<PolicyKey, Try>,
    marks: BTreeMap<PolicyKey, BTreeMap<ObjectKey, Mark>>,
    /// What was seen while a pass was under way, which may be newer or older than what the pass finds.
    held: BTreeMap<PolicyKey, BTreeMap<ObjectKey, Sight>>,
    /// By the UID that its objects are labelled with.
    owners: BTreeMap<String, PolicyKey>,
    kinds: BTreeSet<ObjectKind>,
    /// What is scaled here; looked at from the first workload on.
    autoscalers: Option<Autoscalers>,
    scaled: Scaled,
    tidying: Tidying,
}

/// A policy that did not get through.
struct Try {
    tries: u32,
    at: Instant,
}

/// Something that has ended.
enum Done {
    Pass {
        policy: PolicyKey,
        assignment: Arc<Assignment>,
        result: Result<ApplyReport, Trouble>,
        took: Duration,
    },
    /// Whether another look at the namespaces may find more of them empty.
    Tidied(bool),
}

/// Looks at the namespaces that were created here, whether they are empty by now.
struct Tidying {
    /// How many more looks; what is left then belongs to somebody.
    looks: u32,
    at: Instant,
    running: bool,
    /// Something else went while a look was under way.
    again: bool,
}

impl Tidying {
    const LOOKS: u32 = 7;

    fn due() -> Self {
        Self {
            looks: Self::LOOKS,
            at: Instant::now(),
            running: false,
            again: false,
        }
    }

    /// The time of the next look, twice as far off as the last one was.
    fn next(&mut self) {
        self.looks = self.looks.saturating_sub(1);
        self.at = Instant::now() + FIRST_TRY.saturating_mul(1 << (Self::LOOKS - self.looks).min(10));
    }

    fn timer(&self) -> Option<Instant> {
        (self.looks > 0 && !self.running).then_some(self.at)
    }
}

impl Worker {
    pub(super) fn new(member: Arc<EngagedMember>, desk: Arc<Desk>, tools: Tools) -> Self {
        let (sender, seen) = unbounded_channel();
        let dirty = desk.assignments().into_keys().collect();
        Self {
            member,
            desk,
            tools,
            watches: Watches::default(),
            sender,
            seen,
            jobs: FuturesUnordered::new(),
            running: BTreeSet::new(),
            dirty,
            tries: BTreeMap::new(),
            marks: BTreeMap::new(),
            held: BTreeMap::new(),
            owners: BTreeMap::new(),
            kinds: BTreeSet::new(),
            autoscalers: None,
            scaled: Scaled::NotYet,
            // A predecessor may not have come to it.
            tidying: Tidying::due(),
        }
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self) {
        self.take_work();
        loop {
            self.start_passes();
            self.start_tidying();
            let timer = self.next_timer();
            tokio::select! {
                () = self.desk.wake.notified() => self.take_work(),
                Some(seen) = self.seen.recv() => self.look_at(seen),
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.finish(done),
                () = changed(self.autoscalers.as_mut()) => self.look_at_scaled(),
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
            self.try_again();
        }
        let assigned = self.desk.assignments();
        self.dirty.retain(|policy| assigned.contains_key(policy));
        self.tries.retain(|policy, _| assigned.contains_key(policy));
        self.marks.retain(|policy, _| assigned.contains_key(policy));
        self.held.retain(|policy, _| assigned.contains_key(policy));
        let uid = |assignment: &Assignment| assignment.set.owner().uid().to_owned();
        self.owners = assigned
            .iter()
            .map(|(policy, assignment)| (uid(assignment), policy.clone()))
            .collect();
        let kinds: BTreeSet<_> = assigned
            .values()
            .flat_map(|assignment| assignment.kinds.iter().cloned())
            .collect();
        if self.autoscalers.is_none() && assigned.values().any(|assignment| assignment.scales()) {
            self.autoscalers = Some(Autoscalers::watch(self.member.client()));
        }
        if kinds != self.kinds {
            self.watches
                .keep(&kinds, &self.member.client(), &self.tools, &self.sender);
            self.kinds = kinds;
        }
    }

    /// What came under an autoscaler, and what is no longer under one, is applied differently from now on.
    fn look_at_scaled(&mut self) {
        let Some(autoscalers) = &self.autoscalers else {
            return;
        };
        let before = std::mem::replace(&mut self.scaled, autoscalers.scaled());
        for (policy, assignment) in self.desk.assignments() {
            let mut objects = assignment.revisions.keys();
            let affected = match before {
                Scaled::Known(_) => objects.any(|it| before.contains(it) != self.scaled.contains(it)),
                // It waited for that.
                Scaled::NotYet | Scaled::Unanswered(_) => assignment.scales(),
            };
            if affected {
                self.dirty.insert(policy);
            }
        }
    }

    /// Whether a pass has to wait until it is known what is scaled here: it would set back what an autoscaler has set.
    fn must_wait(&self, assignment: &Assignment) -> bool {
        assignment.scales() && !matches!(self.scaled, Scaled::Known(_))
    }

    /// The member answers again, so what did not get through is tried at once.
    fn try_again(&mut self) {
        self.dirty.extend(std::mem::take(&mut self.tries).into_keys());
    }

    fn next_timer(&self) -> Instant {
        let idle = self
            .tries
            .iter()
            .filter(|(policy, _)| !self.running.contains(*policy));
        let next = idle.map(|(_, a_try)| a_try.at).chain(self.tidying.timer()).min();
        next.unwrap_or_else(|| Instant::now() + SLOWEST_TRY)
    }

    /// Starts passes for the policies with something to do.
    fn start_passes(&mut self) {
        let now = Instant::now();
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
            let assignment = self.desk.assignment(&policy);
            let Some(assignment) = assignment.filter(|assignment| !assignment.suspended) else {
                self.tries.remove(&policy);
                continue;
            };
            if self.must_wait(&assignment) {
                if let Scaled::Unanswered(why) = &self.scaled {
                    let message = format!("its autoscalers cannot be listed: {why}");
                    let reason = MemberReason::Cluster("AutoscalersUnknown");
                    self.failed(&policy, Trouble::new(reason, message));
                }
                continue;
            }
            self.running.insert(policy.clone());
            let (cluster, tools) = (self.member.name().clone(), self.tools.clone());
            let scaled = self.scaled.clone();
            self.jobs.push(Box::pin(async move {
                let begun = Instant::now();
                let result = apply(&cluster, &tools, &assignment, &scaled).await;
                Done::Pass {
                    policy,
                    assignment,
                    result,
                    took: begun.elapsed(),
                }
            }));
        }
    }

    /// Looks for namespaces that are empty, if that is due.
    fn start_tidying(&mut self) {
        if self.tidying.timer().is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.tidying.running = true;
        let (cluster, tools) = (self.member.name().clone(), self.tools.clone());
        let assigned = self.desk.assignments();
        let objects = assigned
            .values()
            .flat_map(|assignment| assignment.revisions.keys());
        let keep: BTreeSet<String> = objects.map(|object| object.name.namespace.clone()).collect();
        self.jobs.push(Box::pin(async move {
            let look = tools.applier.remove_empty_namespaces(&cluster, &tools.hub, &keep);
            let more = match timeout(tools.settings.pass_deadline, look).await {
                Ok(Ok(left)) => left > 0,
                Ok(Err(error)) => {
                    tracing::debug!(%cluster, reason = error.reason(), "namespaces stay: {}", chain(&error));
                    true
                }
                Err(_) => true,
            };
            Done::Tidied(more)
        }));
    }

    fn look_at(&mut self, seen: Seen) {
        match seen {
            Seen::Complete { kind, there, back } => {
                // What went while the watch was broken is told by nobody.
                let missing = |marks: &BTreeMap<ObjectKey, Mark>| {
                    let mut marked = marks.keys().filter(|key| key.kind == kind);
                    marked.any(|key| !there.contains(key))
                };
                let affected = self.marks.iter().filter(|(_, marks)| missing(marks));
                self.dirty.extend(affected.map(|(policy, _)| policy.clone()));
                if back {
                    self.try_again();
                }
            }
            Seen::Gone { owner, key } => {
                if let Some(policy) = self.policy_of(&owner) {
                    if let Some(held) = self.held.get_mut(&policy) {
                        held.remove(&key);
                    }
                    self.dirty.insert(policy);
                }
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
        let mark = self.marks.get(&policy).and_then(|marks| marks.get(&sight.key));
        let Some(mark) = mark.filter(|_| !self.running.contains(&policy)) else {
            let held = self.held.entry(policy).or_default();
            held.insert(sight.key.clone(), sight);
            return;
        };
        if *mark != sight.mark {
            self.dirty.insert(policy);
            return;
        }
        if self.desk.sight(&policy, sight) {
            self.tools.triggers.tell(&policy);
        }
    }

    fn policy_of(&self, owner: &str) -> Option<PolicyKey> {
        self.owners.get(owner).cloned()
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Pass {
                policy,
                assignment,
                result,
                took,
            } => {
                self.running.remove(&policy);
                self.count(&policy, &assignment, &result, took);
                match result {
                    Ok(report) => self.passed(&policy, &assignment, &report),
                    Err(trouble) => self.failed(&policy, trouble),
                }
            }
            Done::Tidied(more) => {
                self.tidying.running = false;
                if std::mem::take(&mut self.tidying.again) {
                    // Due since then.
                } else if more {
                    self.tidying.next();
                } else {
                    self.tidying.looks = 0;
                }
            }
        }
    }

    fn count(
        &self,
        policy: &PolicyKey,
        assignment: &Assignment,
        result: &Result<ApplyReport, Trouble>,
        took: Duration,
    ) {
        let cluster = self.member.name();
        let metrics = &self.tools.metrics;
        let report = match result {
            Ok(report) => report,
            Err(trouble) => {
                let reason = trouble.reason.as_str();
                return metrics.record(policy, &DistributionMetric::MemberFailed { cluster, reason });
            }
        };
        let before = self.desk.observed(policy);
        // What was in place with this very manifest, and had to be written again.
        let names = pass::Names::of(assignment);
        let drifted = |object: &ObjectReport| {
            names.find(&object.object).is_some_and(|key| {
                let wanted = assignment
                    .revisions
                    .get(key)
                    .map(|wanted| wanted.revision.as_str());
                let known = before.objects.get(key);
                known.is_some_and(|known| known.revision.is_some() && known.revision.as_deref() == wanted)
            })
        };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let written = report
            .objects
            .iter()
            .filter(|object| matches!(object.outcome, ObjectOutcome::Created | ObjectOutcome::Updated));
        let (drifted, written): (Vec<_>, Vec<_>) = written.partition(|object| drifted(object));
        let removed = match &report.pruning {
            Pruning::Done { removals } => removals.len(),
            _ => 0,
        };
        let failed = report
            .objects
            .iter()
            .filter(|object| !object.outcome.is_in_place());
        let metric = DistributionMetric::Applied {
            cluster,
            written: count(written.len()),
            drifted: count(drifted.len()),
            removed: count(removed),
            failed: count(failed.count()),
            took,
        };
        metrics.record(policy, &metric);
    }

    /// Nothing could be done for the policy. Whether the member as a whole is lost, its probes will tell.
    fn failed(&mut self, policy: &PolicyKey, trouble: Trouble) {
        tracing::debug!(cluster = %self.member.name(), %policy, reason = %trouble.reason, "{}", trouble.message);
        if self.desk.observe(policy, |known| known.blocked = Some(trouble)) {
            self.tools.triggers.tell(policy);
        }
        self.put_off(policy, Duration::ZERO);
    }

    /// Tries again later, and not before what the member asked for.
    fn put_off(&mut self, policy: &PolicyKey, at_least: Duration) {
        let tries = self.tries.get(policy).map_or(0, |a_try| a_try.tries);
        let pause = FIRST_TRY.saturating_mul(1 << tries.min(10)).max(at_least);
        let pause = pause.min(SLOWEST_TRY);
        self.tries.insert(
            policy.clone(),
            Try {
                tries: tries + 1,
                at: Instant::now() + pause,
            },
        );
    }

    fn passed(&mut self, policy: &PolicyKey, assignment: &Assignment, report: &ApplyReport) {
        let marks = self.marks.entry(policy.clone()).or_default();
        marks.clear();
        let names = pass::Names::of(assignment);
        for entry in &report.objects {
            if let (Some(key), Some(live)) = (names.find(&entry.object), &entry.live) {
                marks.insert(key.clone(), Mark::of(live));
            }
        }
        let tools = &self.tools;
        // Other work may have come meanwhile.
        let newest = self.desk.assignment(policy);
        let current = newest.is_some_and(|newest| std::ptr::eq(&*newest, assignment));
        let changed = self.desk.observe(policy, |known| {
            *known = pass::observed(known, assignment, report, tools);
            known.complete &= current;
        });
        if changed {
            self.tools.triggers.tell(policy);
        }
        for sight in self.held.remove(policy).unwrap_or_default().into_values() {
            self.compare(sight);
        }
        if matches!(&report.pruning, Pruning::Done { removals } if !removals.is_empty()) {
            let running = self.tidying.running;
            self.tidying = Tidying {
                running,
                again: running,
                ..Tidying::due()
            };
        }
        if report.is_complete() {
            self.tries.remove(policy);
        } else {
            self.put_off(policy, pass::asked_to_wait(report));
        }
    }
}

async fn apply(
    cluster: &ClusterName,
    tools: &Tools,
    assignment: &Assignment,
    scaled: &Scaled,
) -> Result<ApplyReport, Trouble> {
    let prune = if assignment.prune {
        PruneScope::Kinds(assignment.kind_refs())
    } else {
        PruneScope::Nothing
    };
    let options = if assignment.report_only {
        ApplyOptions::default().with_dry_run()
    } else {
        ApplyOptions::default()
    };
    let options = options
        .with_conflict_resolution(assignment.conflicts)
        .with_member_owned(member_owned(assignment, scaled, &*tools.interpreter))
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

/// Which fields of which objects are the member's own: what its kind says, and the replicas of what is scaled there, or
/// will be by an autoscaler that comes with it.
fn member_owned(
    assignment: &Assignment,
    scaled: &Scaled,
    interpreter: &dyn ResourceInterpreter,
) -> BTreeMap<apply::ObjectKey, Vec<String>> {
    let coming: BTreeSet<_> = assignment
        .set
        .objects()
        .filter_map(|object| scale_target(object.body()))
        .map(|object| autoscalers::target(&object))
        .collect();
    let mut all = BTreeMap::new();
    for object in assignment.set.objects() {
        let Some(key) = ObjectKey::of(object.body()) else {
            continue;
        };
        let mut fields = interpreter.member_owned(&key.kind, object.body());
        if scaled.contains(&key) || coming.contains(&autoscalers::target(&key)) {
            fields.extend(replica_fields(interpreter, &key.kind, object.body()));
        }
        if !fields.is_empty() {
            all.insert(object.key().clone(), fields);
        }
    }
    all
}

/// Waits for the autoscalers to change, if they are looked at.
async fn changed(autoscalers: Option<&mut Autoscalers>) {
    match autoscalers {
        Some(autoscalers) => autoscalers.changed().await,
        None => std::future::pending().await,
    }
}

fn timed_out(deadline: Duration) -> Trouble {
    Trouble::new(
        TIMED_OUT,
        format!("the member did not answer within {} s", deadline.as_secs_f32()),
    )
}
