use std::collections::BTreeMap;

use jiff::Timestamp;
use kurator_core::{names::ClusterName, reason::Reason};

use crate::{
    api::{ExecutionPhase, RestoreSource},
    driver::BackupName,
};

/// A run, as far as a restore must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunView {
    /// Name of the execution.
    pub name: String,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// Where it is.
    pub phase: ExecutionPhase,
    /// The restorable backups, and whether each is complete.
    pub backups: BTreeMap<ClusterName, (BackupName, bool)>,
}

impl RunView {
    /// A run without backups.
    pub fn new(name: impl Into<String>, started_at: Timestamp, phase: ExecutionPhase) -> Self {
        Self {
            name: name.into(),
            schedule: None,
            started_at,
            phase,
            backups: BTreeMap::new(),
        }
    }

    /// Says which schedule made it.
    #[must_use]
    pub fn of_schedule(mut self, schedule: impl Into<String>) -> Self {
        self.schedule = Some(schedule.into());
        self
    }

    /// Adds a backup.
    #[must_use]
    pub fn with_backup(mut self, cluster: ClusterName, backup: BackupName, complete: bool) -> Self {
        self.backups.insert(cluster, (backup, complete));
        self
    }
}

/// Why no run is restored from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// There is no such execution.
    #[error("there is no backup execution {name}; name one that exists")]
    NoExecution {
        /// Its name.
        name: String,
    },
    /// The execution has not ended, or is being deleted.
    #[error(
        "backup execution {name} is {phase} and cannot be restored from; wait for its end or name another"
    )]
    NotEnded {
        /// Its name.
        name: String,
        /// Its phase.
        phase: ExecutionPhase,
    },
    /// The run has no backup that can be restored from.
    #[error("backup execution {name} has no backup that can be restored from; name another")]
    NothingThere {
        /// Its name.
        name: String,
    },
    /// The schedule has no run that can be restored from, at that time or at all.
    #[error("schedule {schedule} has no run that can be restored from{}", at.map(|at| format!(" at {at} or before")).unwrap_or_default())]
    NoRun {
        /// The schedule.
        schedule: String,
        /// The time.
        at: Option<Timestamp>,
    },
    /// Neither an execution nor a schedule is named.
    #[error("the restore names neither an execution nor a schedule; name one")]
    NoSource,
}

impl Reason for SelectError {
    fn token(&self) -> &'static str {
        match self {
            Self::NoExecution { .. } => "ExecutionNotFound",
            Self::NotEnded { .. } => "ExecutionNotEnded",
            Self::NothingThere { .. } => "NothingRestorable",
            Self::NoRun { .. } => "NoRestorableRun",
            Self::NoSource => "NoSource",
        }
    }
}

/// The run that is restored from, whatever the order of `runs`.
///
/// A point in time means the newest run that began then or before and has anything to restore from: every member goes
/// back to the same run, never to runs of different times.
///
/// # Errors
/// [`SelectError`].
pub fn select<'a>(source: &RestoreSource, runs: &'a [RunView]) -> Result<&'a RunView, SelectError> {
    match (&source.execution, &source.schedule) {
        (Some(name), _) => {
            let name = name.clone();
            match runs.iter().find(|run| run.name == name) {
                None => Err(SelectError::NoExecution { name }),
                Some(run) if !run.phase.has_ended() => Err(SelectError::NotEnded {
                    name,
                    phase: run.phase,
                }),
                Some(run) if run.backups.is_empty() => Err(SelectError::NothingThere { name }),
                Some(run) => Ok(run),
            }
        }
        (None, Some(schedule)) => {
            let at = source.at.as_ref().map(|at| at.0);
            runs.iter()
                .filter(|run| run.schedule.as_ref() == Some(schedule))
                .filter(|run| run.phase.has_ended() && !run.backups.is_empty())
                .filter(|run| at.is_none_or(|at| run.started_at <= at))
                .max_by_key(|run| (run.started_at, &run.name))
                .ok_or_else(|| SelectError::NoRun {
                    schedule: schedule.clone(),
                    at,
                })
        }
        (None, None) => Err(SelectError::NoSource),
    }
}
