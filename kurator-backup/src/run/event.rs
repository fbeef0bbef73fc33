use kurator_core::condition::READY;

use crate::api::{BackupExecutionStatus, ExecutionPhase};

/// Something to tell people about a run: an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunEvent {
    /// Whether it is a warning.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: String,
    /// The same for people.
    pub note: String,
    /// What was done, in one word.
    pub action: &'static str,
}

impl RunEvent {
    /// Something to tell.
    #[must_use]
    pub fn new(warning: bool, reason: &str, note: String, action: &'static str) -> Self {
        Self {
            warning,
            reason: reason.to_owned(),
            note,
            action,
        }
    }
}

/// What is new in `after`: a change of the run's phase, and members that were given up. Each is told once.
#[must_use]
pub fn events(before: Option<&BackupExecutionStatus>, after: &BackupExecutionStatus) -> Vec<RunEvent> {
    let mut events = Vec::new();
    let old = before.map(|status| status.phase);
    if old != Some(after.phase) {
        let ready = after.conditions.iter().find(|it| it.type_ == READY);
        events.push(RunEvent {
            warning: matches!(
                after.phase,
                ExecutionPhase::Failed | ExecutionPhase::PartiallyFailed
            ),
            reason: after.phase.as_str().to_owned(),
            note: ready.map(|it| it.message.clone()).unwrap_or_default(),
            action: "BackUp",
        });
    }
    for entry in &after.clusters {
        let was = before
            .into_iter()
            .flat_map(|status| &status.clusters)
            .find(|it| it.cluster == entry.cluster);
        let gone_wrong = entry.phase == crate::api::ClusterPhase::Failed
            && was.is_none_or(|it| it.phase != crate::api::ClusterPhase::Failed);
        let obstacle = entry.obstacles == 1 && was.is_some_and(|it| it.obstacles == 0);
        if gone_wrong || obstacle {
            events.push(RunEvent {
                warning: true,
                reason: entry.reason.clone(),
                note: format!("{}: {}", entry.cluster, entry.message),
                action: "BackUp",
            });
        }
    }
    events
}
