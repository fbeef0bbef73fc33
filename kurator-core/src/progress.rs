//! A stream of what is being done, for a progress bar, a log or a server-sent event.
//!
//! ```
//! use kurator_core::progress::{CollectingSink, Progress, ProgressEvent, ProgressSink};
//!
//! let sink = CollectingSink::default();
//! let at = "2026-01-02T03:04:05Z".parse()?;
//! sink.emit(ProgressEvent::new(at, "apply", Progress::Started).with_cluster("cluster-a".parse()?));
//! assert_eq!(sink.events()[0].to_string(), "2026-01-02T03:04:05Z cluster-a apply: started");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::ClusterName;

/// One thing that happened during a run. Holds names and reasons, never credentials or the content of objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ProgressEvent {
    /// When.
    pub at: Timestamp,
    /// On which member; `None` for the run as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Which step, in the words of the plan.
    pub step: String,
    /// What became of it.
    pub progress: Progress,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Progress {
    /// It cannot go on now.
    #[serde(rename_all = "camelCase")]
    Blocked {
        /// CamelCase token of what is in the way.
        reason: String,
        /// The same as a sentence.
        message: String,
        /// When it is tried again at the earliest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// It was given up before its end because the run was.
    Cancelled,
    /// It failed.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// CamelCase token of the failure.
        reason: String,
        /// The same as a sentence.
        message: String,
    },
    /// It was not needed: things were as they should be.
    Skipped,
    /// It began.
    Started,
    /// It is done.
    Succeeded,
}

impl ProgressEvent {
    /// An event of the run as a whole.
    pub fn new(at: Timestamp, step: impl Into<String>, progress: Progress) -> Self {
        Self {
            at,
            cluster: None,
            step: step.into(),
            progress,
        }
    }

    /// Says on which member it happened.
    #[must_use]
    pub fn with_cluster(mut self, cluster: ClusterName) -> Self {
        self.cluster = Some(cluster);
        self
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked {
                reason,
                message,
                until,
            } => {
                write!(f, "blocked, {reason}: {message}")?;
                until.map_or(Ok(()), |until| write!(f, "; not before {until}"))
            }
            Self::Cancelled => f.write_str("cancelled"),
            Self::Failed { reason, message } => write!(f, "failed, {reason}: {message}"),
            Self::Skipped => f.write_str("skipped"),
            Self::Started => f.write_str("started"),
            Self::Succeeded => f.write_str("succeeded"),
        }
    }
}

impl fmt::Display for ProgressEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.at)?;
        if let Some(cluster) = &self.cluster {
            write!(f, "{cluster} ")?;
        }
        write!(f, "{}: {}", self.step, self.progress)
    }
}

/// Where the events of a run go.
///
/// Called from within the run, possibly from several tasks at once: it must return at once and cannot fail. Who
/// has to wait hands the event to a channel.
pub trait ProgressSink: fmt::Debug + Send + Sync + 'static {
    /// Takes one event.
    fn emit(&self, event: ProgressEvent);
}

impl<S: ProgressSink + ?Sized> ProgressSink for Arc<S> {
    fn emit(&self, event: ProgressEvent) {
        (**self).emit(event);
    }
}

impl<S: ProgressSink + ?Sized> ProgressSink for Box<S> {
    fn emit(&self, event: ProgressEvent) {
        (**self).emit(event);
    }
}

/// Nobody is looking.
impl ProgressSink for () {
    fn emit(&self, _: ProgressEvent) {}
}

/// Keeps the events in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct CollectingSink(Arc<Mutex<Vec<ProgressEvent>>>);

impl CollectingSink {
    /// The events so far, in the order they came.
    pub fn events(&self) -> Vec<ProgressEvent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ProgressSink for CollectingSink {
    fn emit(&self, event: ProgressEvent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// A sink that calls `emit`, for example to send into a channel or to print.
///
/// ```
/// use kurator_core::progress::{Progress, ProgressEvent, ProgressSink, sink_fn};
///
/// let (sender, receiver) = std::sync::mpsc::channel();
/// let sink = sink_fn(move |event| drop(sender.send(event)));
/// sink.emit(ProgressEvent::new("2026-01-02T03:04:05Z".parse()?, "apply", Progress::Succeeded));
/// assert_eq!(receiver.recv()?.progress, Progress::Succeeded);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sink_fn(emit: impl Fn(ProgressEvent) + Send + Sync + 'static) -> impl ProgressSink {
    SinkFn(emit)
}

struct SinkFn<F>(F);

impl<F> fmt::Debug for SinkFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sink_fn")
    }
}

impl<F: Fn(ProgressEvent) + Send + Sync + 'static> ProgressSink for SinkFn<F> {
    fn emit(&self, event: ProgressEvent) {
        (self.0)(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_json_and_reads_as_a_line() {
        let blocked = Progress::Blocked {
            reason: "BudgetExhausted".into(),
            message: "1 of 3 allowed".into(),
            until: Some(Timestamp::UNIX_EPOCH),
        };
        let event =
            ProgressEvent::new(Timestamp::UNIX_EPOCH, "drain n1", blocked).with_cluster("a".parse().unwrap());
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<ProgressEvent>(&json).unwrap(), event);
        assert_eq!(
            event.to_string(),
            "1970-01-01T00:00:00Z a drain n1: blocked, BudgetExhausted: 1 of 3 allowed; not before 1970-01-01T00:00:00Z"
        );
    }
}
