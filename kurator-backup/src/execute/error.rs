use kurator_core::plan::Notes;

/// Why a status was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else wrote it since it was read: what follows from the old one must not be done.
    #[error(
        "the status was written by somebody else since it was read; the pass is made again from what is there now"
    )]
    Conflict,
    /// It is gone.
    #[error("the execution is gone; nothing more is done for it")]
    Gone,
    /// The store does not take it now.
    #[error("the status could not be written; the pass is made again")]
    Unavailable {
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a pass was not finished. Nothing of it was done on any member that is not on record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// The status could not be written.
    #[error("run {run}")]
    Store {
        /// The run.
        run: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The step breaks a law: a defect of the planner. Nothing of it was written or done.
    #[error("the step of run {run} breaks a law and was not taken: {notes}")]
    Unsound {
        /// The run.
        run: String,
        /// The laws.
        notes: Notes,
    },
}

impl ExecuteError {
    /// The CamelCase token for metric labels.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Store {
                source: StoreError::Conflict,
                ..
            } => "StatusConflict",
            Self::Store { .. } => "StatusNotWritten",
            Self::Unsound { .. } => "StepUnsound",
        }
    }
}
