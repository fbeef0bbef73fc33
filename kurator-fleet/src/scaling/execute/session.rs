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
use kube::Client;
use kurator_core::progress::Progress;
use tokio_util::sync::CancellationToken;

use super::{
    DrainError, DrainExecutor, DrainOutcome, DrainReport, DrainStanding, Left, OnDeadline, Waiting,
    evict::Answer,
    live::{Key, Live, LivePod, Seen},
    mark::{Course, Mark, Marks, Step},
    pace::{Sent, Turn},
    standing::expected_end,
};
use crate::scaling::{Hours, hours};

pub(super) struct Session<'e> {
    pub(super) executor: &'e DrainExecutor,
    pub(super) marks: Marks,
    pub(super) course: Course,
    events: BoxStream<'e, Seen>,
    pub(super) client: Client,
    pub(super) control: Client,
    pub(super) live: Live,
    pub(super) sent: BTreeMap<Key, Sent>,
    pub(super) requests: FuturesUnordered<BoxFuture<'e, (Key, String, bool, Answer)>>,
    /// Pods whose eviction is asked for and not answered yet, with their nodes.
    pub(super) asked: BTreeMap<Key, String>,
    /// Pods not to be tried before.
    pub(super) not_before: BTreeMap<String, Timestamp>,
    pub(super) quiet_until: Option<Timestamp>,
    /// Ready pods of each controller when its first pod was evicted.
    pub(super) baseline: BTreeMap<String, usize>,
    /// Controllers of pods of the next wave that have been evicted while the present one waits for others.
    pub(super) ahead: BTreeSet<String>,
    /// Since when nodes of the plan are not Ready.
    unready_since: BTreeMap<String, Timestamp>,
    /// Not to be planned again before.
    pub(super) replan_at: Option<Timestamp>,
    /// Deployments scaled up, and those scaled back.
    pub(super) surging: BTreeSet<Key>,
    pub(super) surges_ended: BTreeSet<Key>,
    wave: Option<WaveClock>,
    waiting: Option<Waiting>,
    pub(super) report: DrainReport,
}

/// When things began in the present wave.
#[derive(Debug)]
struct WaveClock {
    nodes: BTreeSet<String>,
    started: Timestamp,
    empty_since: Option<Timestamp>,
}

impl<'e> Session<'e> {
    pub(super) fn new(
        executor: &'e DrainExecutor,
        marks: Marks,
        course: Course,
        events: BoxStream<'e, Seen>,
        client: Client,
        control: Client,
    ) -> Self {
        let live = Live::with_leaving(course.nodes().cloned().collect());
        Self {
            report: DrainReport::new(&course.plan, executor.clock.now()),
            executor,
            marks,
            course,
            events,
            client,
            control,
            live,
            sent: BTreeMap::new(),
            requests: FuturesUnordered::new(),
            asked: BTreeMap::new(),
            ahead: BTreeSet::new(),
            not_before: BTreeMap::new(),
            quiet_until: None,
            baseline: BTreeMap::new(),
            unready_since: BTreeMap::new(),
            replan_at: None,
            surging: BTreeSet::new(),
            surges_ended: BTreeSet::new(),
            wave: None,
            waiting: None,
        }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) -> Result<DrainReport, DrainError> {
        loop {
            let now = self.executor.clock.now();
            let mut wake = now + SignedDuration::from_secs(30);
            if self.live.is_complete() {
                let stop = self.course.stop || cancel.is_cancelled();
                let end = if stop {
                    Some(DrainOutcome::Cancelled)
                } else {
                    self.pass(now, &mut wake).await?
                };
                if let Some(outcome) = end {
                    // A request that is dropped may have charged its budget and evict nobody, for two minutes.
                    while let Some((key, uid, forced, answer)) = self.requests.next().await {
                        self.answered(key, uid, forced, answer);
                    }
                    if outcome != DrainOutcome::Completed {
                        self.take_back().await?;
                    }
                    self.end_surges(|_| true).await?;
                    self.report.outcome = outcome;
                    self.report.finished = self.executor.clock.now();
                    return Ok(self.report);
                }
            }
            self.tell(now);
            self.wait(wake, now, &cancel).await;
        }
    }

    /// Does what can be done now. How it ends, if it does.
    async fn pass(
        &mut self,
        now: Timestamp,
        wake: &mut Timestamp,
    ) -> Result<Option<DrainOutcome>, DrainError> {
        self.waiting = None;
        self.withdraw().await?;
        self.settle(now);
        if self.is_unhealthy() {
            let open = self.open_wave(now);
            let stop = self.overdue(now, wake) && self.executor.options.on_deadline == OnDeadline::Stop;
            let nodes = open.into_iter().collect();
            return Ok(stop.then_some(DrainOutcome::DeadlineExceeded { nodes }));
        }
        self.defer(now, wake).await?;
        self.replan(now, wake).await?;
        let open = self.open_wave(now);
        if open.is_empty() {
            return Ok(Some(DrainOutcome::Completed));
        }
        let overdue = self.overdue(now, wake);
        let may_evict = self.is_in_window(now, wake);
        if may_evict {
            self.begin_surges(&open).await?;
        }
        let mut left = BTreeSet::new();
        for node in &open {
            if self.work_on(node, Turn::Now { overdue }, may_evict, now, wake) {
                left.insert(node.clone());
            }
        }
        let asked = self.asked.values().any(|node| open.contains(node));
        if !left.is_empty() || asked {
            if let Some(wave) = &mut self.wave {
                wave.empty_since = None;
            }
            if !overdue || left.is_empty() {
                return Ok(None);
            }
            let leave: BTreeSet<String> = match self.executor.options.on_deadline {
                OnDeadline::Stop => return Ok(Some(DrainOutcome::DeadlineExceeded { nodes: left })),
                OnDeadline::Leave => left,
                // What was deleted and stays all the same is beyond force.
                OnDeadline::Force { .. } => {
                    left.into_iter().filter(|node| self.is_stuck(node, now)).collect()
                }
            };
            for node in leave {
                let pods = self
                    .remaining(&node)
                    .map(|((space, name), _)| format!("{space}/{name}"));
                let why = Left::Deadline { pods: pods.collect() };
                self.let_go(&node, why).await?;
                *wake = now;
            }
            return Ok(None);
        }
        let end = self.finish_wave(&open, now, wake).await?;
        if end.is_none() && self.wave.is_some() {
            for node in self.next_wave(&open) {
                self.work_on(&node, Turn::Ahead, may_evict, now, wake);
            }
        }
        Ok(end)
    }

    /// The nodes are empty: waits for replacements and volumes, and removes them.
    async fn finish_wave(
        &mut self,
        open: &[String],
        now: Timestamp,
        wake: &mut Timestamp,
    ) -> Result<Option<DrainOutcome>, DrainError> {
        let since = match &mut self.wave {
            Some(wave) => *wave.empty_since.get_or_insert(now),
            None => now,
        };
        let mut waiting = self.not_ready();
        waiting.retain(|controller| !self.ahead.contains(controller));
        let mut attached = self.live.attachments.values();
        let attached = attached.any(|on| open.contains(on));
        let volumes_late = later(since, self.executor.options.volume_deadline);
        let replacements_late = later(since, self.executor.options.replacement_deadline);
        if !waiting.is_empty() {
            if replacements_late <= now {
                return Ok(Some(DrainOutcome::ReplacementsNotReady { controllers: waiting }));
            }
            *wake = (*wake).min(replacements_late);
            self.waiting = Some(Waiting::Replacements {
                controllers: waiting.len(),
            });
            return Ok(None);
        }
        if attached && volumes_late > now {
            *wake = (*wake).min(volumes_late);
            self.waiting = Some(Waiting::VolumesAttached);
            return Ok(None);
        }
        // The course goes with the last node, so what it says about surges is carried out before.
        self.end_unused_surges(open).await?;
        self.remove(open).await?;
        self.wave = None;
        *wake = now;
        Ok(None)
    }

    /// Waits for something to happen, and takes in all that has.
    async fn wait(&mut self, wake: Timestamp, now: Timestamp, cancel: &CancellationToken) {
        let pause = Duration::try_from(wake.duration_since(now))
            .unwrap_or_default()
            .max(Duration::from_millis(10));
        tokio::select! {
            // Once it is, there is still to be waited for the first lists.
            () = cancel.cancelled(), if !cancel.is_cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            Some((key, uid, forced, answer)) = self.requests.next() => self.answered(key, uid, forced, answer),
            Some(seen) = self.events.next() => self.live.take(seen),
        }
        while let Some(Some(seen)) = self.events.next().now_or_never() {
            self.live.take(seen);
        }
    }

    pub(super) fn mark(&self, node: &str) -> Option<&Mark> {
        let mark = self.live.nodes.get(node)?.mark.as_ref()?;
        (mark.plan == self.course.plan).then_some(mark)
    }

    /// The nodes of the first wave that has any left.
    fn open_wave(&mut self, now: Timestamp) -> Vec<String> {
        let here = |node: &&String| self.live.nodes.contains_key(*node);
        let waves = self.course.waves.iter();
        let mut open = waves.map(|wave| wave.iter().filter(here).cloned().collect::<Vec<_>>());
        let open = open.find(|wave| !wave.is_empty()).unwrap_or_default();
        let same = self
            .wave
            .as_ref()
            .is_some_and(|wave| open.iter().all(|node| wave.nodes.contains(node)));
        if !same {
            self.wave = Some(WaveClock {
                nodes: open.iter().cloned().collect(),
                started: now,
                empty_since: None,
            });
        }
        open
    }

    /// The nodes of the wave after the open one.
    fn next_wave(&self, open: &[String]) -> Vec<String> {
        let here = |node: &&String| self.live.nodes.contains_key(*node) && !open.contains(*node);
        let waves = self.course.waves.iter();
        let mut left = waves.map(|wave| wave.iter().filter(here).cloned().collect::<Vec<_>>());
        left.find(|wave| !wave.is_empty()).unwrap_or_default()
    }

    fn overdue(&self, now: Timestamp, wake: &mut Timestamp) -> bool {
        let (Some(limit), Some(wave)) = (self.executor.options.node_deadline, &self.wave) else {
            return false;
        };
        let late = later(wave.started, limit);
        if late > now {
            *wake = (*wake).min(late);
        }
        late <= now
    }

    /// Whether too many nodes are not Ready to go on.
    fn is_unhealthy(&mut self) -> bool {
        let (unready, total) = self.live.unready();
        let most = self
            .executor
            .policy
            .as_ref()
            .map_or(25, |policy| policy.max_unready_percent);
        let over = u64::from(unready) * 100 > u64::from(total) * u64::from(most);
        if over {
            self.waiting = Some(Waiting::ClusterUnhealthy { unready, total });
        }
        over
    }

    /// Whether pods may be evicted at this time.
    fn is_in_window(&mut self, now: Timestamp, wake: &mut Timestamp) -> bool {
        let (open, until) = match hours(&self.executor.windows, now) {
            Hours::Open { until } => (true, until),
            Hours::Closed { until } => (false, until),
        };
        if let Some(until) = until {
            *wake = (*wake).min(until);
        }
        if !open {
            self.waiting = Some(Waiting::WindowClosed { until });
        }
        open
    }

    /// Lets go of nodes somebody has uncordoned, or taken the mark from.
    async fn withdraw(&mut self) -> Result<(), DrainError> {
        let nodes: Vec<String> = self.course.nodes().cloned().collect();
        for node in &nodes {
            let Some(seen) = self.live.nodes.get(node) else {
                continue;
            };
            let cordoned = seen.cordoned;
            let mark = self.mark(node);
            let keeps = mark.is_some_and(|mark| cordoned || mark.step == Step::Removing);
            if !keeps {
                self.let_go(node, Left::TakenBack).await?;
            }
        }
        Ok(())
    }

    /// Lets go of nodes whose kubelet is out of reach: nobody would see their pods end.
    async fn defer(&mut self, now: Timestamp, wake: &mut Timestamp) -> Result<(), DrainError> {
        let nodes: Vec<String> = self.course.nodes().cloned().collect();
        for node in &nodes {
            let removing = self.mark(node).is_some_and(|mark| mark.step == Step::Removing);
            if removing || !self.live.is_unready(node) {
                self.unready_since.remove(node);
                continue;
            }
            let since = *self.unready_since.entry(node.clone()).or_insert(now);
            let patience = later(since, self.executor.options.unready_patience);
            if self.live.is_edge_away(node) {
                self.let_go(node, Left::EdgeDisconnected).await?;
            } else if patience <= now {
                self.let_go(node, Left::NodeNotReady { since }).await?;
            } else {
                *wake = (*wake).min(patience);
            }
        }
        Ok(())
    }

    /// Pods that are still to leave a node.
    pub(super) fn remaining(&self, node: &str) -> impl Iterator<Item = (&Key, &LivePod)> {
        let leave = self.mark(node).map(|mark| &mark.leave);
        self.live.pods_on(node).filter(move |(_, pod)| {
            !pod.bound_to_node && !pod.finished && !leave.is_some_and(|leave| leave.contains(&pod.uid))
        })
    }

    /// Whether all that is left on a node should have ended long ago.
    fn is_stuck(&self, node: &str, now: Timestamp) -> bool {
        self.remaining(node).all(|(_, pod)| pod.is_overdue(now))
    }

    /// Pods that are still to leave the nodes of the plan.
    fn pods_left(&self) -> u32 {
        let pods = self.course.nodes().flat_map(|node| self.remaining(node));
        u32::try_from(pods.count()).unwrap_or(u32::MAX)
    }

    /// Tells whoever listens how far it is.
    fn tell(&self, now: Timestamp) {
        let Some(sender) = &self.executor.standing else {
            return;
        };
        if !self.live.is_complete() {
            return;
        }
        let left = self.pods_left();
        let total = self.course.pods.max(left);
        let here = |node: &String| self.live.nodes.contains_key(node);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let done = self
            .course
            .waves
            .iter()
            .take_while(|wave| !wave.iter().any(here))
            .count();
        let standing = DrainStanding {
            plan: self.course.plan.clone(),
            nodes: self.course.nodes().filter(|node| here(node)).cloned().collect(),
            wave: count((done + 1).min(self.course.waves.len())),
            waves: count(self.course.waves.len()),
            pods_moved: total - left,
            pods_to_move: total,
            expected_end: expected_end(self.course.began, now, self.course.seconds, total - left, left),
            waiting: self.waiting.clone(),
        };
        sender.send_if_modified(|before| {
            // The end moves with every second; alone it is no news.
            let same = before.as_ref().is_some_and(|before| {
                DrainStanding {
                    expected_end: standing.expected_end,
                    ..before.clone()
                } == standing
            });
            if !same {
                *before = Some(standing);
            }
            !same
        });
    }

    pub(super) fn emit(&self, step: &str, progress: Progress) {
        self.executor.emit(step, progress);
    }
}

pub(super) fn later(from: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}
