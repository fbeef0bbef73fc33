//! The same background work on every engaged member.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::engaged::EngagedMember;
use super::members::Members;

/// Runs `work` on each member from when it engages until it is disengaged, and all of it until the guard is dropped.
pub(super) fn on_each(
    members: &Members,
    work: impl Fn(Arc<EngagedMember>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
) -> DropGuard {
    let (stop, mut engaged) = (CancellationToken::new(), members.engaged());
    let stopped = stop.clone();
    tokio::spawn(async move {
        let follow = async {
            let mut running = BTreeSet::new();
            let mut tasks = JoinSet::new();
            loop {
                let now = Arc::clone(&engaged.borrow_and_update());
                for (name, member) in now.iter() {
                    if !running.insert(name.clone()) {
                        continue;
                    }
                    let (name, left, work) = (name.clone(), Arc::clone(member), work(Arc::clone(member)));
                    tasks.spawn(member.work.track_future(async move {
                        tokio::select! {
                            biased;
                            () = left.left() => {}
                            () = async { work.await; left.left().await } => {}
                        }
                        name
                    }));
                }
                tokio::select! {
                    changed = engaged.changed() => if changed.is_err() { return },
                    Some(ended) = tasks.join_next() => {
                        if let Ok(name) = ended {
                            running.remove(&name);
                        }
                    }
                }
            }
        };
        stopped.run_until_cancelled(follow).await
    });
    stop.drop_guard()
}
