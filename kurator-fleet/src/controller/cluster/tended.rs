//! What is kept of a cluster between passes. What has to survive the process is on its nodes and in its status.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::identity::Setup;
use super::nodes::NodeWatch;
use super::work::Drain;
use crate::api::Cluster;
use crate::controller::status::Said;
use crate::scaling::execute::DrainStanding;

/// The first pause after a failure; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What should pass by itself may fail so often, 35 seconds in all, before it is called trouble.
const PATIENT: u32 = 3;

/// One cluster that is looked after.
#[derive(Debug)]
pub(super) struct Tended {
    /// Of the object: another one of its name is another cluster.
    pub(super) uid: Option<String>,
    pub(super) nodes: NodeWatch,
    pub(super) drain: Option<Drain>,
    pub(super) setup: Option<Setup>,
    /// A plan that is not carried out yet: somebody has to agree, or it is a dry run. Kept here too, as the status that is
    /// read may be older than the one that was written.
    pub(super) proposal: Option<DrainStanding>,
    /// What is wrong, until something has gone well.
    pub(super) trouble: Option<Said>,
    failures: u32,
    /// Nothing is begun before, for this reason.
    pub(super) not_before: Option<Timestamp>,
    pub(super) held: Option<Said>,
    /// The spec the pause is about.
    generation: Option<i64>,
    /// Since when nodes are expected to join.
    pub(super) joining: Option<Timestamp>,
}

impl Tended {
    /// With the proposal of a process before this one, if the status shows one.
    pub(super) fn new(cluster: &Cluster, nodes: NodeWatch) -> Self {
        Self {
            uid: cluster.uid(),
            nodes,
            proposal: proposal(cluster),
            drain: None,
            setup: None,
            trouble: None,
            failures: 0,
            not_before: None,
            held: None,
            generation: None,
            joining: None,
        }
    }

    /// Forgets pauses that an older spec has earned.
    pub(super) fn look_at(&mut self, generation: Option<i64>) {
        if self.generation != generation {
            self.generation = generation;
            self.well();
        }
    }

    pub(super) fn well(&mut self) {
        self.trouble = None;
        self.failures = 0;
        self.not_before = None;
        self.held = None;
    }

    /// It failed, and is tried again after a pause that grows.
    pub(super) fn failed(&mut self, why: Said, now: Timestamp) {
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.failures.min(6))
            .min(LONGEST_PAUSE);
        self.failures += 1;
        let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::ZERO);
        self.trouble_until(why, now.saturating_add(pause).unwrap_or(now));
    }

    /// It is not possible now, which should pass; only if it does not is something wrong.
    pub(super) fn waits(&mut self, why: &Said, now: Timestamp) {
        let patient = self.failures < PATIENT;
        self.failed(why.clone(), now);
        if patient {
            self.trouble = None;
        }
    }

    /// Something is wrong, and will be for a while.
    pub(super) fn trouble_until(&mut self, why: Said, until: Timestamp) {
        self.trouble = Some(why.clone());
        self.held_until(why, until);
    }

    /// Nothing is wrong, and nothing is to be begun for a while.
    pub(super) fn held_until(&mut self, why: Said, until: Timestamp) {
        self.held = Some(why);
        self.not_before = Some(until);
    }
}

fn proposal(cluster: &Cluster) -> Option<DrainStanding> {
    let drain = cluster.status.as_ref()?.drain.as_ref()?;
    (drain.wave == 0 && !drain.nodes.is_empty()).then(|| DrainStanding {
        plan: drain.plan.clone(),
        nodes: drain.nodes.iter().cloned().collect(),
        wave: 0,
        waves: drain.waves,
        pods_moved: drain.pods_moved,
        pods_to_move: drain.pods_to_move,
        expected_end: None,
        waiting: None,
    })
}
