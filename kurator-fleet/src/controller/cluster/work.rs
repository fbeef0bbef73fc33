//! What runs beside the passes over a cluster: drains, and the setting up of identities.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::decide::Under;
use super::task::Task;
use crate::scaling::execute::{DrainError, DrainReport, DrainStanding};

/// Progress is told at most that often.
const GATHER: Duration = Duration::from_millis(500);

/// How a drain ended; `None` if there was nothing to do.
pub(super) type Ended = Result<Option<DrainReport>, DrainError>;

/// Asks for another pass over a cluster.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// A future whose result is kept until somebody takes it.
#[derive(Debug)]
pub(super) struct Running<T> {
    result: Arc<Mutex<Option<T>>>,
    _task: Task,
}

impl<T: Send + 'static> Running<T> {
    pub(super) fn start(work: impl Future<Output = T> + Send + 'static, wake: Wake) -> Self {
        let result = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&result);
        let task = Task::spawn(async move {
            let done = work.await;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
            wake();
        });
        Self { result, _task: task }
    }

    pub(super) fn take(&self) -> Option<T> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A drain, or the taking back of one.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) under: Under,
    cancel: CancellationToken,
    standing: watch::Receiver<Option<DrainStanding>>,
    running: Running<Ended>,
}

impl Drain {
    pub(super) fn start<F>(
        under: Under,
        standing: watch::Receiver<Option<DrainStanding>>,
        wake: &Wake,
        work: impl FnOnce(CancellationToken) -> F,
    ) -> Self
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        let work = work(cancel.clone());
        let mut changes = standing.clone();
        let tell = Arc::clone(wake);
        let telling = async move {
            while changes.changed().await.is_ok() {
                tell();
                tokio::time::sleep(GATHER).await;
            }
            // The drain is over; its end is told apart.
            std::future::pending::<()>().await;
        };
        let both = async move {
            tokio::select! {
                ended = work.fuse() => ended,
                () = telling => Ok(None),
            }
        };
        Self {
            under,
            cancel,
            standing,
            running: Running::start(both, Arc::clone(wake)),
        }
    }

    pub(super) fn call_off(&self) {
        self.cancel.cancel();
    }

    pub(super) fn standing(&self) -> Option<DrainStanding> {
        self.standing.borrow().clone()
    }

    pub(super) fn take_end(&self) -> Option<Ended> {
        self.running.take()
    }
}
