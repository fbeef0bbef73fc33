//! The members, each with its worker, as the membership says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kurator_core::{
    membership::{Member, Membership},
    names::ClusterName,
    observe::{ClusterView, Snapshot},
};
use tokio::task::AbortHandle;

use super::{
    desk::Desk,
    worker::{Tools, Worker},
};

/// How long until a membership that could not be read is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The members and their workers; they end when this is dropped.
#[derive(Debug)]
pub(in super::super) struct Members {
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct State {
    known: bool,
    members: BTreeMap<ClusterName, Engaged>,
}

#[derive(Debug)]
struct Engaged {
    member: Member,
    desk: Arc<Desk>,
    task: AbortHandle,
}

impl Drop for Engaged {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Members {
    /// Engages whoever is a member, from now on. `changed` is called whenever the list is another.
    pub(in super::super) fn start(
        membership: Arc<dyn Membership>,
        tools: Tools,
        changed: impl Fn() + Send + 'static,
    ) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let task = tokio::spawn(follow(membership, tools, Arc::clone(&state), changed));
        Self {
            state,
            task: task.abort_handle(),
        }
    }

    /// The members as planners see them; `None` while nobody knows who they are.
    pub(in super::super) fn snapshot(&self, now: Timestamp) -> Option<Snapshot> {
        let state = lock(&self.state);
        state.known.then(|| {
            let mut snapshot = Snapshot::new(now);
            for engaged in state.members.values() {
                let mut view = ClusterView::new(engaged.member.name.clone());
                for (key, value) in &engaged.member.labels {
                    view = view.with_label(key, value);
                }
                snapshot.insert(view);
            }
            snapshot
        })
    }

    /// The desk of a member.
    pub(in super::super) fn desk(&self, cluster: &ClusterName) -> Option<Arc<Desk>> {
        lock(&self.state)
            .members
            .get(cluster)
            .map(|engaged| Arc::clone(&engaged.desk))
    }

    /// The desks of all members.
    pub(in super::super) fn desks(&self) -> Vec<Arc<Desk>> {
        lock(&self.state)
            .members
            .values()
            .map(|engaged| Arc::clone(&engaged.desk))
            .collect()
    }
}

async fn follow(
    membership: Arc<dyn Membership>,
    tools: Tools,
    state: Arc<Mutex<State>>,
    changed: impl Fn() + Send,
) {
    let mut changes = membership.changes();
    loop {
        changes.mark_unchanged();
        match membership.members(None).await {
            Ok(members) => {
                if engage(&mut lock(&state), members, &tools) {
                    changed();
                }
                if changes.changed().await.is_err() {
                    // Whoever kept the members has ended; so they stay as they are.
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "members cannot be read; those known stay");
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

/// Makes the workers those of `members`; tells whether the list is another.
fn engage(state: &mut State, members: Vec<Member>, tools: &Tools) -> bool {
    let mut changed = !state.known;
    state.known = true;
    let listed: BTreeMap<_, _> = members
        .into_iter()
        .map(|member| (member.name.clone(), member))
        .collect();
    let before = state.members.len();
    state.members.retain(|name, _| listed.contains_key(name));
    changed |= state.members.len() != before;
    for (name, member) in listed {
        if let Some(engaged) = state.members.get_mut(&name) {
            changed |= engaged.member != member;
            engaged.member = member;
            // Something about some member has changed, perhaps the credentials of this one.
            engaged.desk.look_again();
            continue;
        }
        changed = true;
        let desk = Arc::new(Desk::default());
        let worker = Worker::new(name.clone(), Arc::clone(&desk), tools.clone());
        let task = tokio::spawn(worker.run()).abort_handle();
        state.members.insert(name, Engaged { member, desk, task });
    }
    changed
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
