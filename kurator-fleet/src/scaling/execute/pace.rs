//! Which pod may be evicted now, and what its budget still has to hear of.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kurator_core::progress::Progress;

use super::{
    OnDeadline,
    evict::{Answer, delete, evict},
    live::{Key, LivePod},
    session::Session,
};

/// How long after an eviction the disruption controller stops to count it, whatever became of the pod.
const LEAK: SignedDuration = SignedDuration::from_secs(120);

/// An eviction of ours that a budget's status may not show yet.
#[derive(Debug)]
pub(super) struct Sent {
    uid: String,
    budget: Key,
    /// The version of the budget that was known when the answer came; `None` while there is none.
    answered: Option<u64>,
    at: Timestamp,
}

/// Whose turn a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its wave is open.
    Now {
        /// It should be empty by now.
        overdue: bool,
    },
    /// The nodes before it are empty and wait for replacements: pods may go whose controller misses none.
    Ahead,
}

/// Whether a pod may be evicted now.
enum Verdict {
    /// It takes one from this budget, if any.
    Go(Option<Key>),
    Wait,
    Stuck(String),
}

impl Session<'_> {
    /// Evicts what can go now. Whether something is left on the node.
    pub(super) fn work_on(
        &mut self,
        node: &str,
        turn: Turn,
        may_evict: bool,
        now: Timestamp,
        wake: &mut Timestamp,
    ) -> bool {
        // Marks were written before the watch began, so without one the node is not ours.
        let Some(mark) = self.mark(node).cloned() else {
            return false;
        };
        let place = |pod: &LivePod| mark.order.get(&pod.uid).copied().unwrap_or(i32::from(pod.system));
        let pods: Vec<(Key, LivePod)> = self
            .remaining(node)
            .map(|(key, pod)| (key.clone(), pod.clone()))
            .collect();
        let Some(first) = pods.iter().map(|(_, pod)| place(pod)).min() else {
            return false;
        };
        // Without its kubelet nobody would see them end.
        if !may_evict || self.live.is_unready(node) {
            return true;
        }
        let force = match self.executor.options.on_deadline {
            OnDeadline::Force { max_grace_seconds } if turn == (Turn::Now { overdue: true }) => {
                Some(max_grace_seconds.max(1))
            }
            _ => None,
        };
        let behind = match turn {
            Turn::Now { .. } => None,
            Turn::Ahead => Some(self.not_ready()),
        };
        for (key, pod) in &pods {
            if let Some(behind) = &behind {
                match &pod.controller {
                    Some(controller) if !behind.contains(controller) => {}
                    _ => continue,
                }
            }
            if pod.terminating {
                self.note_stuck(key, pod, now);
            }
            let waits =
                pod.terminating || force.is_none() && place(pod) > first || self.asked.contains_key(key);
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
                self.send(node, (key, pod), None, Some(limit), now);
                continue;
            }
            match self.verdict(key, pod) {
                Verdict::Go(budget) => {
                    if let Some(controller) = pod.controller.as_ref().filter(|_| turn == Turn::Ahead) {
                        self.ahead.insert(controller.clone());
                    }
                    self.send(node, (key, pod), budget, None, now);
                }
                Verdict::Wait => {}
                Verdict::Stuck(why) => {
                    self.report.stuck.insert(format!("{}/{}", key.0, key.1), why);
                }
            }
        }
        true
    }

    /// Says what keeps a pod that should have ended by now.
    fn note_stuck(&mut self, key: &Key, pod: &LivePod, now: Timestamp) {
        let Some(due) = pod.due.filter(|_| pod.is_overdue(now)) else {
            return;
        };
        let why = if pod.finalizers.is_empty() {
            format!("it should have ended at {due}; its kubelet has not said so")
        } else {
            format!(
                "it has ended, and finalizers keep it: {}",
                pod.finalizers.join(", ")
            )
        };
        self.report.stuck.insert(format!("{}/{}", key.0, key.1), why);
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

    fn send(
        &mut self,
        node: &str,
        (key, pod): (&Key, &LivePod),
        budget: Option<Key>,
        force: Option<u32>,
        now: Timestamp,
    ) {
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
        self.asked.insert(key.clone(), node.to_owned());
        self.emit(&format!("evict {}/{}", key.0, key.1), Progress::Started);
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

    pub(super) fn answered(&mut self, key: Key, uid: String, forced: bool, answer: Answer) {
        let now = self.executor.clock.now();
        self.asked.remove(&key);
        let text = format!("{}/{}", key.0, key.1);
        let again = |seconds| now + SignedDuration::from_secs(seconds);
        let (pause, charged) = match &answer {
            // Until the watch shows it Terminating it must not be evicted again.
            Answer::Granted => (Some(again(10)), true),
            // The budget may have been charged all the same; its status says so within the time of a leak.
            Answer::Gone | Answer::Unknown => (Some(again(2)), true),
            Answer::NamespaceTerminating => (Some(again(2)), false),
            Answer::NotNow => (Some(again(5)), false),
            Answer::BudgetUnknown => (Some(again(10)), false),
            Answer::Refused(_) => (Some(again(15)), false),
            Answer::Overloaded => (None, false),
        };
        match pause {
            Some(until) => drop(self.not_before.insert(uid, until)),
            None => self.quiet_until = Some(again(1)),
        }
        match &answer {
            Answer::Granted if forced => self.report.forced += 1,
            Answer::Granted => self.report.evicted += 1,
            Answer::NotNow | Answer::BudgetUnknown => self.report.refused += 1,
            Answer::Refused(why) => drop(self.report.stuck.insert(text.clone(), why.clone())),
            _ => {}
        }
        if answer == Answer::Granted {
            self.report.stuck.remove(&text);
            self.emit(&format!("evict {text}"), Progress::Succeeded);
        }
        if !charged {
            self.sent.remove(&key);
        } else if let Some(sent) = self.sent.get_mut(&key) {
            let known = self.live.budgets.get(&sent.budget);
            sent.answered = Some(known.map_or(0, |budget| budget.version));
        }
    }

    /// Forgets evictions that the status of their budget shows by now.
    pub(super) fn settle(&mut self, now: Timestamp) {
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
            // The entry is gone again if the controller has seen the pod go; it wrote the status anew for that, after
            // the pod was deleted.
            let pod = live.pods.get(key).filter(|pod| pod.uid == sent.uid);
            if pod.is_some_and(|pod| !pod.terminating) {
                return true;
            }
            match (live.ended.get(&sent.uid), budget.revision) {
                (Some(ended), Some(budget)) => budget < *ended,
                _ => budget.version <= answered,
            }
        });
    }

    /// Controllers with fewer Ready pods than before the first of theirs was evicted.
    pub(super) fn not_ready(&self) -> BTreeSet<String> {
        self.baseline
            .iter()
            .filter(|(controller, before)| {
                self.live.ready_of(controller) < **before && self.live.has_pods(controller)
            })
            .map(|(controller, _)| controller.clone())
            .collect()
    }
}
