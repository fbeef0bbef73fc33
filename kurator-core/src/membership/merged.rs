//! One counter of changes over several.

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A counter that grows whenever one of several does: for a [`Membership`](super::Membership) made of several sources.
#[derive(Debug)]
pub struct MergedChanges {
    merged: watch::Sender<u64>,
    forwarding: Vec<DropGuard>,
}

impl Default for MergedChanges {
    fn default() -> Self {
        Self {
            merged: watch::Sender::new(0),
            forwarding: Vec::new(),
        }
    }
}

impl MergedChanges {
    /// Over these. Call within a tokio runtime; dropping the value ends it.
    pub fn of(sources: impl IntoIterator<Item = watch::Receiver<u64>>) -> Self {
        let mut merged = Self::default();
        sources.into_iter().for_each(|source| merged.add(source));
        merged
    }

    /// Adds one. Call within a tokio runtime.
    pub fn add(&mut self, mut source: watch::Receiver<u64>) {
        let (merged, stop) = (self.merged.clone(), CancellationToken::new());
        let stopped = stop.clone();
        tokio::spawn(async move {
            while let Some(Ok(())) = stopped.run_until_cancelled(source.changed()).await {
                merged.send_modify(|revision| *revision += 1);
            }
        });
        self.forwarding.push(stop.drop_guard());
    }

    /// The counter.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.merged.subscribe()
    }
}
