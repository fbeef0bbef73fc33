use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where a backup or a restore is on its server, in Velero's words.
///
/// A phase that this version does not know is kept as [`Other`](Self::Other) and is neither an end nor usable: its
/// object is watched until it says something known or its deadline passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Phase {
    /// Created, and not looked at by the server yet.
    #[default]
    New,
    /// In the server's queue (Velero 1.18 and later).
    Queued,
    /// Taken out of the queue (Velero 1.18 and later). A server that restarts here forgets it until it is poked.
    ReadyToStart,
    /// Items are being read or written.
    InProgress,
    /// Waiting for volume data.
    WaitingForPluginOperations,
    /// Waiting for volume data; some items failed already.
    WaitingForPluginOperationsPartiallyFailed,
    /// Everything is there; the last files are written.
    Finalizing,
    /// The last files are written; some items failed.
    FinalizingPartiallyFailed,
    /// Ended well.
    Completed,
    /// Ended with items that failed.
    PartiallyFailed,
    /// Ended badly.
    Failed,
    /// Refused; never changes.
    FailedValidation,
    /// Being deleted.
    Deleting,
    /// A phase this version does not know.
    Other(String),
}

/// What a [`Phase`] means to whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The server has not begun: nothing has been read or written.
    Waiting,
    /// The server is at work.
    Running,
    /// All items are done; data or files are still being written.
    Finalizing,
    /// It will not change any more.
    Ended,
    /// It is going away.
    Leaving,
    /// Nobody can tell.
    Unknown,
}

impl Phase {
    /// Every known phase, in the order a backup goes through them.
    pub const KNOWN: [Self; 13] = [
        Self::New,
        Self::Queued,
        Self::ReadyToStart,
        Self::InProgress,
        Self::WaitingForPluginOperations,
        Self::WaitingForPluginOperationsPartiallyFailed,
        Self::Finalizing,
        Self::FinalizingPartiallyFailed,
        Self::Completed,
        Self::PartiallyFailed,
        Self::Failed,
        Self::FailedValidation,
        Self::Deleting,
    ];

    /// As the server spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::New => "New",
            Self::Queued => "Queued",
            Self::ReadyToStart => "ReadyToStart",
            Self::InProgress => "InProgress",
            Self::WaitingForPluginOperations => "WaitingForPluginOperations",
            Self::WaitingForPluginOperationsPartiallyFailed => "WaitingForPluginOperationsPartiallyFailed",
            Self::Finalizing => "Finalizing",
            Self::FinalizingPartiallyFailed => "FinalizingPartiallyFailed",
            Self::Completed => "Completed",
            Self::PartiallyFailed => "PartiallyFailed",
            Self::Failed => "Failed",
            Self::FailedValidation => "FailedValidation",
            Self::Deleting => "Deleting",
            Self::Other(phase) => phase,
        }
    }

    /// What it means.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self {
            Self::New | Self::Queued | Self::ReadyToStart => Stage::Waiting,
            Self::InProgress => Stage::Running,
            Self::WaitingForPluginOperations
            | Self::WaitingForPluginOperationsPartiallyFailed
            | Self::Finalizing
            | Self::FinalizingPartiallyFailed => Stage::Finalizing,
            Self::Completed | Self::PartiallyFailed | Self::Failed | Self::FailedValidation => Stage::Ended,
            Self::Deleting => Stage::Leaving,
            Self::Other(_) => Stage::Unknown,
        }
    }

    /// Whether it will not change any more.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.stage(), Stage::Ended)
    }

    /// Whether something can be restored from a backup in this phase.
    #[must_use]
    pub const fn is_restorable(&self) -> bool {
        matches!(self, Self::Completed | Self::PartiallyFailed)
    }

    /// Whether items have failed already.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        matches!(
            self,
            Self::PartiallyFailed
                | Self::FinalizingPartiallyFailed
                | Self::WaitingForPluginOperationsPartiallyFailed
        )
    }
}

impl From<String> for Phase {
    fn from(text: String) -> Self {
        if text.is_empty() {
            return Self::New;
        }
        Self::KNOWN
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .unwrap_or(Self::Other(text))
    }
}

impl From<&str> for Phase {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<Phase> for String {
    fn from(phase: Phase) -> Self {
        phase.as_str().to_owned()
    }
}

impl FromStr for Phase {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(text))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_reads_back_and_a_future_one_is_kept() {
        for phase in Phase::KNOWN {
            assert_eq!(Phase::from(phase.as_str()), phase);
        }
        assert_eq!(Phase::from(""), Phase::New);
        let future = Phase::from("Compacting");
        assert_eq!((future.as_str(), future.stage()), ("Compacting", Stage::Unknown));
        assert!(!future.has_ended() && !future.is_restorable());
    }
}
