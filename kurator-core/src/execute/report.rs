use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StepFailure;
use crate::names::ClusterName;

/// How far a member got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// A step cannot be done now; the later ones were not tried.
    Blocked {
        /// The step.
        step: String,
        /// CamelCase token of what is in the way.
        reason: String,
        /// The same as a sentence.
        message: String,
        /// When to try again at the earliest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// The run was cancelled before the member was done.
    Cancelled,
    /// Every step is done.
    Completed,
    /// The member's time was up in the middle of a step.
    DeadlineExceeded {
        /// The step.
        step: String,
        /// The time, in milliseconds.
        after_ms: u64,
    },
    /// A step failed; the later ones were not tried.
    Failed {
        /// The step.
        step: String,
        /// Why.
        failure: StepFailure,
    },
    /// A step is done and could not be recorded; the later ones were not tried.
    NotRecorded {
        /// The step.
        step: String,
        /// Why.
        message: String,
    },
    /// A step panicked: a defect of the step.
    Panicked {
        /// The step.
        step: String,
    },
}

impl Outcome {
    /// The reason as conditions, Events and metric labels carry it.
    pub fn reason(&self) -> &str {
        match self {
            Self::Blocked { reason, .. } => reason,
            Self::Cancelled => "Cancelled",
            Self::Completed => "Completed",
            Self::DeadlineExceeded { .. } => "DeadlineExceeded",
            Self::Failed { failure, .. } => &failure.reason,
            Self::NotRecorded { .. } => "NotRecorded",
            Self::Panicked { .. } => "Panicked",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked {
                step, message, until, ..
            } => {
                write!(f, "blocked at {step}: {message}")?;
                until.map_or(Ok(()), |until| write!(f, "; not before {until}"))
            }
            Self::Cancelled => f.write_str("cancelled"),
            Self::Completed => f.write_str("completed"),
            Self::DeadlineExceeded { step, after_ms } => {
                write!(f, "no time left in {step}, after {after_ms} ms")
            }
            Self::Failed { step, failure } => write!(f, "failed at {step}: {failure}"),
            Self::NotRecorded { step, message } => write!(f, "{step} is done and not recorded: {message}"),
            Self::Panicked { step } => write!(f, "panic in {step}"),
        }
    }
}

/// What became of a step that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StepResult {
    /// It did something.
    Changed,
    /// It was finished before this run began.
    Resumed,
    /// The member's outcome says why it is not done.
    Stopped,
    /// Nothing was to be done.
    Unchanged,
}

/// A step that was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepReport<T> {
    /// The step.
    pub step: String,
    /// What became of it.
    pub result: StepResult,
    /// What it returned, if it ran to its end here.
    pub output: Option<T>,
}

impl<T> StepReport<T> {
    pub(super) fn new(step: &str, result: StepResult, output: Option<T>) -> Self {
        Self {
            step: step.to_owned(),
            result,
            output,
        }
    }
}

/// A member after a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClusterReport<T> {
    /// How far it got.
    pub outcome: Outcome,
    /// The steps that were reached, in order.
    pub steps: Vec<StepReport<T>>,
}

impl<T> ClusterReport<T> {
    pub(super) fn new(outcome: Outcome, steps: Vec<StepReport<T>>) -> Self {
        Self { outcome, steps }
    }

    /// What the last step returned that ran to its end.
    pub fn output(&self) -> Option<&T> {
        self.steps.iter().rev().find_map(|step| step.output.as_ref())
    }
}

/// Every member after a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[must_use]
pub struct RunReport<T> {
    /// Identity of the run.
    pub run: String,
    /// Every member of the run, whatever became of it.
    pub clusters: BTreeMap<ClusterName, ClusterReport<T>>,
}

impl<T> RunReport<T> {
    pub(super) fn new(run: String) -> Self {
        Self {
            run,
            clusters: BTreeMap::new(),
        }
    }

    /// Whether every step of every member is done.
    pub fn is_completed(&self) -> bool {
        self.clusters
            .values()
            .all(|cluster| cluster.outcome == Outcome::Completed)
    }
}

impl<T> fmt::Display for RunReport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (cluster, report) in &self.clusters {
            writeln!(f, "{cluster}: {}", report.outcome)?;
        }
        Ok(())
    }
}
