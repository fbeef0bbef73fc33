//! One drain, from the first eviction to the last removal.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Client,
    api::{DeleteParams, Preconditions},
};
use tokio_util::sync::CancellationToken;

use super::{
    DrainError, DrainExecutor, DrainOutcome, DrainReport, Machine, OnDeadline,
    evict::{Answer, delete, evict},
    live::{Key, Live, LivePod, Seen},
    mark::{Course, Mark, Marks, Step},
};

/// How long after an eviction the disruption controller stops to count it, whatever became of the pod.
const LEAK: SignedDuration = SignedDuration::from_secs(120);

/// An eviction of ours that a budget's status may not show yet.
#[derive(Debug)]
struct Sent {
    uid: String,
    budget: Key,
    /// The version of the budget that was known when the answer came; `None` while there is none.
    answered: Option<u64>,
    at: Timestamp,
}

/// Whether a pod may be evicted now.
enum Verdict {
    /// It takes one from this budget, if any.
    Go(Option<Key>),
    Wait,
    Stuck(String),
}

pub(super) struct Session<'e> {
    executor: &'e DrainExecutor,
    marks: Marks,
    course: Course,
    events: BoxStream<'e, Seen>,
    client: Client,
    live: Live,
    sent: BTreeMap<Key, Sent>,
    requests: FuturesUnordered<BoxFuture<'e, (Key, String, bool, Answer)>>,
    asked: BTreeSet<Key>,
    /// Pods not to be tried before.
    not_before: BTreeMap<String, Timestamp>,
    quiet_until: Option<Timestamp>,
    /// Ready pods of each controller when its first pod was evicted.
    baseline: BTreeMap<String, usize>,
    report: DrainReport,
}

impl<'e> Session<'e> {
    pub(super) fn new(
        executor: &'e DrainExecutor,
        marks: Marks,
        course: Course,
        events: BoxStream<'e, Seen>,
        client: Client,
    ) -> Self {
        let started = executor.clock.now();
        Self {
            report: DrainReport {
                plan: course.plan.clone(),
                outcome: DrainOutcome::Completed,
                removed: BTreeSet::new(),
                rolled_back: BTreeSet::new(),
                withdrawn: BTreeSet::new(),
                evicted: 0,
                refused: 0,
                forced: 0,
                stuck: BTreeMap::new(),
                started,
                finished: started,
            },
            executor,
            marks,
            course,
            events,
            client,
            live: Live::default(),
            sent: BTreeMap::new(),
            requests: FuturesUnordered::new(),
            asked: BTreeSet::new(),
            not_before: BTreeMap::new(),
            quiet_until: None,
            baseline: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) -> Result<DrainReport, DrainError> {
        let waves = self.course.waves.clone();
        for wave in &waves {
            let outcome = self.wave(wave, &cancel).await?;
            if outcome != DrainOutcome::Completed {
                self.report.outcome = outcome;
                self.take_back(&waves).await?;
                break;
            }
        }
        self.report.finished = self.executor.clock.now();
        Ok(self.report)
    }

    /// Takes marks and own cordons off every node that is still there.
    async fn take_back(&mut self, waves: &[Vec<String>]) -> Result<(), DrainError> {
        for node in waves.iter().flatten() {
            if !self.report.removed.contains(node) && !self.report.withdrawn.contains(node) {
                self.marks.roll_back(node).await?;
                self.report.rolled_back.insert(node.clone());
            }
        }
        Ok(())
    }

    async fn wave(
        &mut self,
        wave: &[String],
        cancel: &CancellationToken,
    ) -> Result<DrainOutcome, DrainError> {
        let started = self.executor.clock.now();
        let mut empty_since: Option<Timestamp> = None;
        loop {
            if cancel.is_cancelled() {
                return Ok(DrainOutcome::Cancelled);
            }
            let now = self.executor.clock.now();
            let mut wake = now + SignedDuration::from_secs(30);
            if self.live.is_complete() {
                self.withdraw().await?;
                self.settle(now);
                let open: Vec<String> = wave.iter().filter(|node| self.is_open(node)).cloned().collect();
                let late = self
                    .executor
                    .options
                    .node_deadline
                    .map(|limit| later(started, limit));
                if let Some(late) = late {
                    wake = wake.min(late.max(now));
                }
                let overdue = late.is_some_and(|late| late <= now);
                let mut left = BTreeSet::new();
                for node in &open {
                    if self.work_on(node, overdue, now, &mut wake) {
                        left.insert(node.clone());
                    }
                }
                if left.is_empty() && self.requests.is_empty() {
                    let since = *empty_since.get_or_insert(now);
                    let waiting = self.not_ready();
                    let attached = open
                        .iter()
                        .any(|node| self.live.attachments.values().any(|on| on == node));
                    let volumes_late = later(since, self.executor.options.volume_deadline);
                    let replacements_late = later(since, self.executor.options.replacement_deadline);
                    if waiting.is_empty() && (!attached || volumes_late <= now) {
                        self.remove(&open).await?;
                        return Ok(DrainOutcome::Completed);
                    }
                    if !waiting.is_empty() && replacements_late <= now {
                        return Ok(DrainOutcome::ReplacementsNotReady { controllers: waiting });
                    }
                    wake = wake.min(if waiting.is_empty() {
                        volumes_late
                    } else {
                        replacements_late
                    });
                } else {
                    empty_since = None;
                    if overdue && self.executor.options.on_deadline == OnDeadline::Stop {
                        return Ok(DrainOutcome::DeadlineExceeded { nodes: left });
                    }
                }
            }
            self.wait(wake, now, cancel).await;
        }
    }

    /// Waits for something to happen, and takes in all that has.
    async fn wait(&mut self, wake: Timestamp, now: Timestamp, cancel: &CancellationToken) {
        let pause = Duration::try_from(wake.duration_since(now))
            .unwrap_or_default()
            .max(Duration::from_millis(10));
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            Some((key, uid, forced, answer)) = self.requests.next() => self.answered(key, uid, forced, answer),
            Some(seen) = self.events.next() => self.live.take(seen),
        }
        while let Some(Some(seen)) = self.events.next().now_or_never() {
            self.live.take(seen);
        }
    }

    fn mark(&self, node: &str) -> Option<Mark> {
        self.live.nodes.get(node).and_then(Mark::of)
    }

    /// Whether the node is still there and ours to drain.
    fn is_open(&self, node: &str) -> bool {
        self.live.nodes.contains_key(node) && !self.report.withdrawn.contains(node)
    }

    /// Lets go of nodes somebody has uncordoned, or taken the mark from.
    async fn withdraw(&mut self) -> Result<(), DrainError> {
        let nodes: Vec<String> = self.course.waves.iter().flatten().cloned().collect();
        for node in &nodes {
            let Some(cordoned) = self.live.is_cordoned(node) else {
                continue;
            };
            let mark = self.mark(node).filter(|mark| mark.plan == self.course.plan);
            let keeps = mark
                .as_ref()
                .is_some_and(|mark| cordoned || mark.step == Step::Removing);
            if !keeps && self.report.withdrawn.insert(node.clone()) {
                tracing::info!(
                    node,
                    plan = self.course.plan,
                    "the node was taken out of the plan by somebody else"
                );
                if mark.is_some() {
                    self.marks.roll_back(node).await?;
                }
            }
        }
        Ok(())
    }

    /// Evicts what can go now. Whether something is left on the node.
    fn work_on(&mut self, node: &str, overdue: bool, now: Timestamp, wake: &mut Timestamp) -> bool {
        // Marks were written before the watch began, so without one the node is not ours.
        let Some(mark) = self.mark(node) else { return false };
        let place = |pod: &LivePod| mark.order.get(&pod.uid).copied().unwrap_or(i32::from(pod.system));
        let pods: Vec<(Key, LivePod)> = self
            .live
            .pods_on(node)
            .filter(|(_, pod)| !pod.bound_to_node && !pod.finished && !mark.leave.contains(&pod.uid))
            .map(|(key, pod)| (key.clone(), pod.clone()))
            .collect();
        if self.live.is_edge_away(node) {
            for ((namespace, name), _) in &pods {
                let why = "its edge node is out of reach and runs on".to_owned();
                self.report.stuck.insert(format!("{namespace}/{name}"), why);
            }
            return true;
        }
        let Some(first) = pods.iter().map(|(_, pod)| place(pod)).min() else {
            return false;
        };
        let force = match self.executor.options.on_deadline {
            OnDeadline::Force { max_grace_seconds } if overdue => Some(max_grace_seconds.max(1)),
            _ => None,
        };
        for (key, pod) in &pods {
            let waits = pod.terminating || force.is_none() && place(pod) > first || self.asked.contains(key);
            if waits || self.requests.len() >= self.executor.options.requests.max(1) {
                continue;
            }
            let blocked = self
                .not_before
                .get(&pod.uid)
                .copied()
                .max(self.quiet_until)
                .filter(|until| *until > now);
            if let Some(until) = blocked {
                *wake = (*wake).min(until);
                continue;
            }
            if let Some(limit) = force {
                self.send(key, pod, None, Some(limit), now);
                continue;
            }
            match self.verdict(key, pod) {
                Verdict::Go(budget) => self.send(key, pod, budget, None, now),
                Verdict::Wait => {}
                Verdict::Stuck(why) => {
                    self.report.stuck.insert(format!("{}/{}", key.0, key.1), why);
                }
            }
        }
        true
    }

    fn verdict(&self, key: &Key, pod: &LivePod) -> Verdict {
        let budgets = self.live.budgets_of(key, pod);
        if pod.pending {
            return Verdict::Go(None);
        }
        let (name, budget) = match budgets.as_slice() {
            [] => return Verdict::Go(None),
            [one] => one,
            several => {
                let names: Vec<&str> = several.iter().map(|((_, name), _)| name.as_str()).collect();
                return Verdict::Stuck(format!("several budgets select it: {}", names.join(", ")));
            }
        };
        if !budget.fresh {
            return Verdict::Wait;
        }
        let free = !pod.ready
            && (budget.always_allow_unhealthy || budget.healthy >= budget.desired && budget.desired > 0);
        if free {
            return Verdict::Go(None);
        }
        let unseen: Vec<&Sent> = self.sent.values().filter(|sent| sent.budget == **name).collect();
        // One request at a time: several on one budget contend for its status inside the server.
        if unseen.iter().any(|sent| sent.answered.is_none()) {
            return Verdict::Wait;
        }
        let pending = i64::try_from(unseen.len()).unwrap_or(i64::MAX);
        if budget.allowed - pending > 0 {
            Verdict::Go(Some((*name).clone()))
        } else {
            Verdict::Wait
        }
    }

    fn send(&mut self, key: &Key, pod: &LivePod, budget: Option<Key>, force: Option<u32>, now: Timestamp) {
        if let Some(controller) = &pod.controller
            && !self.baseline.contains_key(controller)
        {
            let ready = self.live.ready_of(controller);
            self.baseline.insert(controller.clone(), ready);
        }
        if let Some(budget) = budget {
            self.sent.insert(
                key.clone(),
                Sent {
                    uid: pod.uid.clone(),
                    budget,
                    answered: None,
                    at: now,
                },
            );
        }
        self.asked.insert(key.clone());
        let client = self.client.clone();
        let (name, uid) = (key.clone(), pod.uid.clone());
        let limit = self.executor.options.max_grace_seconds.map(i64::from);
        let grace = limit.map(|limit| pod.grace.min(limit).max(1));
        let own_grace = u32::try_from(pod.grace).unwrap_or(u32::MAX);
        self.requests.push(Box::pin(async move {
            let (namespace, pod) = name.clone();
            let answer = match force {
                Some(limit) => delete(client, namespace, pod, uid.clone(), own_grace.min(limit)).await,
                None => evict(client, namespace, pod, uid.clone(), grace).await,
            };
            (name, uid, force.is_some(), answer)
        }));
    }

    fn answered(&mut self, key: Key, uid: String, forced: bool, answer: Answer) {
        let now = self.executor.clock.now();
        self.asked.remove(&key);
        let text = format!("{}/{}", key.0, key.1);
        let mut again = |seconds| {
            self.not_before
                .insert(uid.clone(), now + SignedDuration::from_secs(seconds))
        };
        match &answer {
            Answer::Granted => {
                if forced {
                    self.report.forced += 1;
                } else {
                    self.report.evicted += 1;
                }
                self.report.stuck.remove(&text);
                // Until the watch shows it Terminating it must not be evicted again.
                again(10);
                if let Some(sent) = self.sent.get_mut(&key) {
                    sent.answered = Some(
                        self.live
                            .budgets
                            .get(&sent.budget)
                            .map_or(0, |budget| budget.version),
                    );
                }
                return;
            }
            // The budget may have been charged all the same; its status says so within the time of a leak.
            Answer::Gone | Answer::Unknown => {
                again(2);
                if let Some(sent) = self.sent.get_mut(&key) {
                    sent.answered = Some(
                        self.live
                            .budgets
                            .get(&sent.budget)
                            .map_or(0, |budget| budget.version),
                    );
                }
                return;
            }
            Answer::NotNow => {
                self.report.refused += 1;
                again(5);
            }
            Answer::BudgetUnknown => {
                self.report.refused += 1;
                again(10);
            }
            Answer::NamespaceTerminating => drop(again(2)),
            Answer::Overloaded => self.quiet_until = Some(now + SignedDuration::from_secs(1)),
            Answer::Refused(why) => {
                self.report.stuck.insert(text, why.clone());
                again(15);
            }
        }
        self.sent.remove(&key);
    }

    /// Forgets evictions that the status of their budget shows by now.
    fn settle(&mut self, now: Timestamp) {
        let live = &self.live;
        self.sent.retain(|key, sent| {
            let Some(answered) = sent.answered else {
                return true;
            };
            let Some(budget) = live.budgets.get(&sent.budget) else {
                return false;
            };
            if budget.disrupted.contains(&key.1) || sent.at + LEAK < now {
                return false;
            }
            // The entry is gone again if the controller has seen the pod go; it wrote the status anew for that.
            let going = live
                .pods
                .get(key)
                .is_none_or(|pod| pod.uid != sent.uid || pod.terminating);
            !(going && budget.version > answered)
        });
    }

    /// Controllers with fewer Ready pods than before the first of theirs was evicted.
    fn not_ready(&self) -> BTreeSet<String> {
        self.baseline
            .iter()
            .filter(|(controller, before)| {
                self.live.ready_of(controller) < **before && self.is_known(controller)
            })
            .map(|(controller, _)| controller.clone())
            .collect()
    }

    /// Whether a controller still has pods: one that was deleted or rolled over is not waited for.
    fn is_known(&self, controller: &str) -> bool {
        self.live
            .pods
            .values()
            .any(|pod| pod.controller.as_deref() == Some(controller))
    }

    async fn remove(&mut self, nodes: &[String]) -> Result<(), DrainError> {
        for name in nodes {
            let Some(node) = self.live.nodes.get(name) else {
                continue;
            };
            let machine = Machine::new(
                name.clone(),
                node.spec.as_ref().and_then(|spec| spec.provider_id.clone()),
            );
            let uid = node.metadata.uid.clone();
            self.marks.step(name, Step::Removing).await?;
            let infrastructure = &self.executor.infrastructure;
            let fault = |error| DrainError::Infrastructure(Box::new(error));
            // A process before this one may have asked already.
            if infrastructure.exists(&machine).await.map_err(fault)? {
                infrastructure.remove(&machine).await.map_err(fault)?;
            }
            let params = DeleteParams {
                preconditions: uid.map(|uid| Preconditions {
                    uid: Some(uid),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            match self.marks.nodes.delete(name, &params).await {
                Ok(_) => {}
                // The infrastructure may have deleted it, or a new machine may have its name.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(DrainError::api("delete a node")(error)),
            }
            self.report.removed.insert(name.clone());
        }
        self.baseline.clear();
        Ok(())
    }
}

fn later(from: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}
