use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kurator_core::names::ClusterName;

use super::{error::ExecuteError, executor::Executor, store::RestoreStore};
use crate::{
    api::RestoreExecutionStatus,
    driver::{BackupName, ResourceKind},
    restore::{Restore, RestoreAsk, SeenTarget, TargetView, absorb, asks, step},
    run::Obstacle,
};

/// What became of a pass over a restore.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RestorePass {
    /// The status as it is in the store now.
    pub status: RestoreExecutionStatus,
    /// When the next pass is due; `None` when nothing is left to do.
    pub wake_at: Option<Timestamp>,
}

impl Executor {
    /// One pass over a restore: looks, decides, writes the decision down, and only then does it.
    ///
    /// # Errors
    /// [`ExecuteError`]: the status could not be written, and nothing that follows from it was done.
    pub async fn restore_pass(
        &self,
        restore: &Restore,
        status: &RestoreExecutionStatus,
        store: &dyn RestoreStore,
        now: Timestamp,
    ) -> Result<RestorePass, ExecuteError> {
        let seen: BTreeMap<ClusterName, SeenTarget> = stream::iter(asks(status, now))
            .map(|ask| async move { (ask.cluster().clone(), self.ask_target(ask).await) })
            .buffer_unordered(self.options.concurrency.max(1))
            .collect()
            .await;
        let next = step(restore, status, &seen, now);
        if next.status != *status {
            save(restore, store, &next.status).await?;
        }
        let mut results: Vec<_> = stream::iter(next.actions)
            .map(|action| async move {
                let created = self.driver.create_restore(&action.target, &action.request);
                let result = self.patiently(created).await.map(drop);
                (action, result)
            })
            .buffer_unordered(self.options.concurrency.max(1))
            .collect()
            .await;
        results.sort_by(|(a, _), (b, _)| a.cluster.cmp(&b.cluster));
        let after = absorb(restore, &next.status, &results, now);
        if after != next.status {
            save(restore, store, &after).await?;
        }
        Ok(RestorePass {
            status: after,
            wake_at: next.wake_at,
        })
    }

    async fn ask_target(&self, ask: RestoreAsk) -> SeenTarget {
        match ask {
            RestoreAsk::Target {
                target,
                backup,
                claims,
                ..
            } => {
                // Several calls, each of which may take as long as a member may.
                SeenTarget::Target(self.target(&target, &backup, claims).await)
            }
            RestoreAsk::Restore { target, restore, .. } => {
                let found = self.patiently(self.driver.restore(&target, &restore)).await;
                SeenTarget::Restore(Box::new(found))
            }
        }
    }

    async fn target(
        &self,
        target: &ClusterName,
        backup: &BackupName,
        claims: bool,
    ) -> Result<Box<TargetView>, Obstacle> {
        let mut view = TargetView::without_backup();
        view.backup = self.patiently(self.driver.backup(target, backup)).await?;
        if view
            .backup
            .as_ref()
            .is_some_and(|backup| backup.phase.is_restorable())
        {
            view.contents = self.patiently(self.driver.contents(target, backup)).await?;
            let kinds = view.contents.keys().cloned().collect();
            let (present, capabilities) = futures::future::join(
                self.patiently(self.driver.inventory(target, &kinds)),
                self.patiently(self.driver.capabilities(target)),
            )
            .await;
            (view.present, view.capabilities) = (present?, capabilities?);
            let claimed = view
                .contents
                .get(&ResourceKind::new("v1", "PersistentVolumeClaim"));
            if claims && claimed.is_some_and(|claims| !claims.is_empty()) {
                view.claims = self.patiently(self.driver.claims(target, backup)).await?;
            }
        }
        Ok(Box::new(view))
    }
}

async fn save(
    restore: &Restore,
    store: &dyn RestoreStore,
    status: &RestoreExecutionStatus,
) -> Result<(), ExecuteError> {
    store.save(status).await.map_err(|source| ExecuteError::Store {
        run: restore.id.name.clone(),
        source,
    })
}
