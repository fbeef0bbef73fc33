//! A desk for every member, and a worker for every one that is engaged.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kurator_core::{
    multicluster::{Engaged, MemberStatus, Members, Roster},
    names::ClusterName,
};
use tokio::task::{AbortHandle, JoinSet};

use super::{
    desk::Desk,
    worker::{Tools, Worker},
};
use crate::propagate::{MemberReason, ObjectKey, PolicyKey, Trouble};

/// The desks, and the workers at them; they end when this is dropped.
#[derive(Debug)]
pub(in super::super) struct Desks {
    desks: Arc<Mutex<BTreeMap<ClusterName, Arc<Desk>>>>,
    task: AbortHandle,
}

impl Drop for Desks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Desks {
    /// Sets up a desk for whoever is registered and works for whoever is engaged, from now on.
    pub(in super::super) fn follow(members: Members, tools: Tools) -> Self {
        let desks = Arc::default();
        let task = tokio::spawn(follow(members, tools, Arc::clone(&desks)));
        Self {
            desks,
            task: task.abort_handle(),
        }
    }

    /// How many replicas of an object a member shows.
    pub(in super::super) fn created(
        &self,
        policy: &PolicyKey,
        cluster: &ClusterName,
        object: &ObjectKey,
    ) -> u32 {
        let desk = lock(&self.desks).get(cluster).map(Arc::clone);
        desk.and_then(|desk| desk.created(policy, object)).unwrap_or(0)
    }

    /// The desk of a member that is in the roster, even if nobody has sat down there yet.
    pub(in super::super) fn open(&self, cluster: &ClusterName) -> Arc<Desk> {
        let mut desks = lock(&self.desks);
        Arc::clone(desks.entry(cluster.clone()).or_default())
    }

    /// The desks of all members.
    pub(in super::super) fn all(&self) -> Vec<Arc<Desk>> {
        lock(&self.desks).values().map(Arc::clone).collect()
    }
}

async fn follow(members: Members, tools: Tools, desks: Arc<Mutex<BTreeMap<ClusterName, Arc<Desk>>>>) {
    let (mut roster, mut engaged, mut health) = (members.roster(), members.engaged(), members.changes());
    let mut workers: JoinSet<ClusterName> = JoinSet::new();
    let mut working = BTreeMap::new();
    let mut known: BTreeMap<ClusterName, MemberStatus> = BTreeMap::new();
    loop {
        let registered: Option<Roster> = roster.borrow_and_update().clone();
        let now: Engaged = Arc::clone(&engaged.borrow_and_update());
        health.mark_unchanged();
        if let Some(registered) = registered {
            lock(&desks).retain(|name, _| registered.contains_key(name));
            let statuses = members.statuses();
            for name in registered.keys() {
                let desk = Arc::clone(lock(&desks).entry(name.clone()).or_default());
                if let Some(status) = statuses.get(name) {
                    let was_failing = known.get(name).is_some_and(|before| before.failure.is_some());
                    match trouble(status) {
                        Some(trouble) if !now.contains_key(name) => {
                            for policy in desk.close(trouble) {
                                tools.triggers.tell(&policy);
                            }
                        }
                        _ if was_failing && status.failure.is_none() => desk.look_again(),
                        _ => {}
                    }
                }
            }
            known = statuses;
        }
        for (name, member) in now
            .iter()
            .filter(|(name, _)| !working.contains_key(*name))
            .collect::<Vec<_>>()
        {
            let desk = Arc::clone(lock(&desks).entry(name.clone()).or_default());
            desk.reopen();
            let worker = Worker::new(Arc::clone(member), desk, tools.clone());
            let (work, name) = (member.while_engaged(worker.run()), name.clone());
            working.insert(name.clone(), ());
            workers.spawn(async move {
                work.await;
                name
            });
        }
        tokio::select! {
            still = roster.changed() => if still.is_err() { return },
            still = engaged.changed() => if still.is_err() { return },
            still = health.changed() => if still.is_err() { return },
            Some(ended) = workers.join_next() => {
                if let Ok(name) = ended {
                    working.remove(&name);
                }
            }
        }
    }
}

/// Why nothing can be done in a member, if the probes say so.
fn trouble(status: &MemberStatus) -> Option<Trouble> {
    let failure = status.failure.as_ref()?;
    Some(Trouble::new(
        MemberReason::Cluster(failure.token),
        failure.message.clone(),
    ))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
