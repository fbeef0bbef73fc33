//! What the executor writes on nodes, so that another process can continue.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::DrainError;
use crate::scaling::{NodeDrain, ScaleDownPlan, StayReason, Surge, Wave};

/// State of one node of a plan: plan, wave, step, and whether the cordon is ours.
pub const MARK: &str = "scaling.kurator.dev/drain";
/// The waves of the plan, on the node that goes last.
pub const PLAN: &str = "scaling.kurator.dev/drain-plan";

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Step {
    /// Cordoned and, in its wave, being drained.
    Cordoned,
    /// Empty; its removal has been, or is about to be, asked for.
    Removing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mark {
    pub(super) plan: String,
    pub(super) wave: usize,
    pub(super) step: Step,
    /// It was schedulable before, so the cordon is ours to take back.
    pub(super) owned: bool,
    /// UIDs of pods a drain rule leaves.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) leave: BTreeSet<String>,
    /// Places in the order other than 0, by UID.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) order: BTreeMap<String, i32>,
}

impl Mark {
    pub(super) fn of(node: &Node) -> Option<Self> {
        serde_json::from_str(node.metadata.annotations.as_ref()?.get(MARK)?).ok()
    }
}

/// A plan as the nodes hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Course {
    pub(super) plan: String,
    pub(super) waves: Vec<Vec<String>>,
    /// Goes up with every change of the waves, so that of two copies the newer one is known.
    #[serde(default)]
    pub(super) revision: u32,
    /// It is being given up: what is left of it is only to be taken back.
    #[serde(default)]
    pub(super) stop: bool,
    /// Pods that move in all.
    #[serde(default)]
    pub(super) pods: u32,
    /// Seconds the plan estimates.
    #[serde(default)]
    pub(super) seconds: u64,
    #[serde(default)]
    pub(super) began: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) surges: Vec<Surge>,
}

impl Course {
    fn of(node: &Node) -> Option<Self> {
        serde_json::from_str(node.metadata.annotations.as_ref()?.get(PLAN)?).ok()
    }

    /// The node that carries it: the first of the last wave, which goes last.
    pub(super) fn holder(&self) -> Option<&String> {
        self.waves.iter().rev().find_map(|wave| wave.first())
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &String> {
        self.waves.iter().flatten()
    }

    pub(super) fn forget(&mut self, node: &str) {
        for wave in &mut self.waves {
            wave.retain(|name| name != node);
        }
        self.waves.retain(|wave| !wave.is_empty());
        self.revision += 1;
    }
}

/// A name for the plan that only depends on what it does: the nodes it removes and the pods it moves. Marks, status and
/// reports carry it.
#[must_use]
pub fn plan_id(plan: &ScaleDownPlan) -> String {
    // FNV-1a: a name, not a secret.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let uids = plan.moves().map(|step| step.uid.as_str());
    for text in plan.remove.iter().map(String::as_str).chain(uids) {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// The course of a plan, and the first mark of each of its nodes.
pub(super) fn course(plan: &ScaleDownPlan, now: Timestamp) -> (Course, BTreeMap<String, Mark>) {
    let id = plan_id(plan);
    let mut marks = BTreeMap::new();
    for (wave, steps) in plan.waves.iter().enumerate() {
        for node in &steps.nodes {
            marks.insert(node.node.clone(), first_mark(&id, wave, node));
        }
    }
    let course = Course {
        plan: id,
        waves: waves(plan),
        revision: 0,
        stop: false,
        pods: u32::try_from(plan.moves().count()).unwrap_or(u32::MAX),
        seconds: plan.bound.seconds,
        began: Some(now),
        surges: plan.surges.clone(),
    };
    (course, marks)
}

pub(super) fn waves(plan: &ScaleDownPlan) -> Vec<Vec<String>> {
    let names = |wave: &Wave| wave.nodes.iter().map(|node| node.node.clone()).collect();
    plan.waves.iter().map(names).collect()
}

pub(super) fn first_mark(plan: &str, wave: usize, node: &NodeDrain) -> Mark {
    // Rules may name pods of a static name only by UID: another pod of the name is another pod.
    let orders = node.moves.iter().filter(|step| step.order != 0);
    Mark {
        plan: plan.to_owned(),
        wave,
        step: Step::Cordoned,
        owned: true,
        leave: node
            .stay
            .iter()
            .filter(|stay| stay.why == StayReason::Rule)
            .map(|stay| stay.uid.clone())
            .collect(),
        order: orders.map(|step| (step.uid.clone(), step.order)).collect(),
    }
}

/// The nodes of an API server, as far as marks go.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    pub(super) nodes: Api<Node>,
}

impl Marks {
    /// The plan under way, if there is one, and the marks of its nodes that still exist.
    pub(super) async fn read(&self) -> Result<Option<(Course, BTreeMap<String, Mark>)>, DrainError> {
        let listed = self.nodes.list(&ListParams::default()).await;
        let listed = listed.map_err(DrainError::api("list nodes"))?;
        let marks: BTreeMap<String, Mark> = listed
            .iter()
            .filter_map(|node| Some((node.name_any(), Mark::of(node)?)))
            .collect();
        let courses = listed.iter().filter_map(Course::of);
        if let Some(course) = courses.max_by_key(|course| course.revision) {
            return Ok(Some((course, marks)));
        }
        // The node with the waves is the last to go, so without it there is nothing to do but take back what is left.
        let Some(first) = marks.values().next() else {
            return Ok(None);
        };
        let plan = first.plan.clone();
        let last = marks.values().map(|mark| mark.wave).max().unwrap_or(0);
        let mut waves = vec![Vec::new(); last + 1];
        for (node, mark) in &marks {
            if let Some(wave) = waves.get_mut(mark.wave) {
                wave.push(node.clone());
            }
        }
        let course = Course {
            plan,
            waves,
            revision: 0,
            stop: false,
            pods: 0,
            seconds: 0,
            began: None,
            surges: Vec::new(),
        };
        Ok(Some((course, marks)))
    }

    /// The first mark of a node, if the plan that made the course is no longer known.
    pub(super) fn plain(course: &Course, name: &str) -> Mark {
        let here = |wave: &Vec<String>| wave.iter().any(|node| node == name);
        Mark {
            plan: course.plan.clone(),
            wave: course.waves.iter().position(here).unwrap_or(0),
            step: Step::Cordoned,
            owned: true,
            leave: BTreeSet::new(),
            order: BTreeMap::new(),
        }
    }

    /// Writes a changed course to the node that carries it now, and then takes it from the one that did.
    pub(super) async fn carry(&self, course: &Course, before: Option<&String>) -> Result<(), DrainError> {
        let holder = course.holder();
        if let Some(name) = holder {
            self.edit(name, |node| {
                Mark::of(node).filter(|mark| mark.plan == course.plan)?;
                Some(json!({"metadata": {"annotations": {PLAN: text(course)}}}))
            })
            .await?;
        }
        match before {
            Some(name) if Some(name) != holder => {
                self.edit(name, |node| {
                    Course::of(node)?;
                    Some(json!({"metadata": {"annotations": {PLAN: null}}}))
                })
                .await
            }
            _ => Ok(()),
        }
    }

    /// Which pods a drain rule leaves, and in which order the others go, by a newer plan.
    pub(super) async fn remark(&self, name: &str, newer: &Mark) -> Result<(), DrainError> {
        self.edit(name, |node| {
            let mark = Mark::of(node).filter(|mark| mark.plan == newer.plan)?;
            let after = Mark {
                wave: newer.wave,
                leave: newer.leave.clone(),
                order: newer.order.clone(),
                ..mark.clone()
            };
            (after != mark).then(|| json!({"metadata": {"annotations": {MARK: text(&after)}}}))
        })
        .await
    }

    /// Cordons and marks a node unless it is marked already; the one that holds the course gets that too.
    pub(super) async fn cordon(
        &self,
        name: &str,
        mark: Mark,
        course: Option<&Course>,
    ) -> Result<(), DrainError> {
        self.edit(name, |node| {
            if Mark::of(node).is_some_and(|own| own.plan == mark.plan) {
                return None;
            }
            let cordoned = node
                .spec
                .as_ref()
                .and_then(|spec| spec.unschedulable)
                .unwrap_or(false);
            let mark = Mark {
                owned: !cordoned,
                ..mark.clone()
            };
            let mut annotations = json!({ MARK: text(&mark) });
            if let Some(course) = course {
                annotations[PLAN] = text(course).into();
            }
            Some(json!({"metadata": {"annotations": annotations}, "spec": {"unschedulable": true}}))
        })
        .await
    }

    pub(super) async fn step(&self, name: &str, step: Step) -> Result<(), DrainError> {
        self.edit(name, |node| {
            let mark = Mark::of(node).filter(|mark| mark.step != step)?;
            Some(json!({"metadata": {"annotations": {MARK: text(&Mark { step, ..mark })}}}))
        })
        .await
    }

    /// Takes back the mark, and the cordon if it is ours.
    pub(super) async fn roll_back(&self, name: &str) -> Result<(), DrainError> {
        self.edit(name, |node| {
            let mark = Mark::of(node)?;
            let mut patch = json!({"metadata": {"annotations": {MARK: null, PLAN: null}}});
            if mark.owned {
                patch["spec"] = json!({"unschedulable": null});
            }
            Some(patch)
        })
        .await
    }

    /// Patches a node as it is; again if somebody else was faster. A node that is gone needs no edit.
    async fn edit(
        &self,
        name: &str,
        change: impl Fn(&Node) -> Option<Value> + Send + Sync,
    ) -> Result<(), DrainError> {
        let mut tries = 0;
        loop {
            let node = self
                .nodes
                .get_opt(name)
                .await
                .map_err(DrainError::api("read a node"))?;
            let Some(node) = node else { return Ok(()) };
            let Some(mut patch) = change(&node) else {
                return Ok(());
            };
            patch["metadata"]["resourceVersion"] = node.metadata.resource_version.clone().into();
            match self
                .nodes
                .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
            {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 && tries < 20 => tries += 1,
                Err(error) => return Err(DrainError::api("patch a node")(error)),
            }
        }
    }
}

fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
