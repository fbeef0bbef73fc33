//! The members as planners see them, kept in memory, and who is told when they change.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kurator_core::{
    health::HealthReason,
    multicluster::{Facts, Members, Roster},
    names::ClusterName,
    observe::{ClusterView, HealthStatus, ResourceSummary, Snapshot},
};
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::promises::Settled;

/// Changes that come close together are looked at together.
const GATHER: Duration = Duration::from_millis(200);
/// The same while everybody waits for the fleet to be known.
const GATHER_FIRST: Duration = Duration::from_millis(20);
/// How long a member may take to tell what it has before it is planned for without that.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is another about the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FleetChange {
    /// How much room there is: of interest to what waits for room.
    Room,
    /// Anything else: of interest to everybody.
    Members,
}

/// The members, followed; that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Fleet {
    state: Arc<Mutex<State>>,
    again: Arc<Notify>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct State {
    /// `None` until enough is known to plan by.
    snapshot: Option<Arc<Snapshot>>,
    /// When each member was first found engaged without having told what it has.
    waited: BTreeMap<ClusterName, Instant>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fleet {
    /// Follows the members from now on; `changed` is called with whatever is another. Looking at them goes through
    /// `look`, which calls what it is given, and tells whether there is more room for another reason.
    pub(super) fn follow(
        members: Members,
        facts: Arc<Facts>,
        look: impl Fn(&mut dyn FnMut()) -> Settled + Send + 'static,
        changed: impl Fn(FleetChange) + Send + 'static,
    ) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let again = Arc::new(Notify::new());
        let task = tokio::spawn(follow(
            members,
            facts,
            Arc::clone(&state),
            Arc::clone(&again),
            look,
            changed,
        ));
        Self {
            state,
            again,
            task: task.abort_handle(),
        }
    }

    /// Looks at the members again soon, although none of them has changed.
    pub(super) fn look_again(&self) {
        self.again.notify_one();
    }

    /// The fleet; `None` while it is not known who is in it.
    pub(super) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        lock(&self.state).snapshot.clone()
    }
}

async fn follow(
    members: Members,
    facts: Arc<Facts>,
    state: Arc<Mutex<State>>,
    again: Arc<Notify>,
    look: impl Fn(&mut dyn FnMut()) -> Settled + Send,
    changed: impl Fn(FleetChange) + Send,
) {
    let (mut roster, mut health, mut seen) = (members.roster(), members.changes(), facts.changes());
    let start = Instant::now();
    loop {
        roster.mark_unchanged();
        health.mark_unchanged();
        seen.mark_unchanged();
        let known = roster.borrow().clone();
        let waiting = match known {
            Some(roster) => {
                let patient = start.elapsed() < PATIENCE;
                let (mut change, mut waiting) = (None, false);
                let settled = look(&mut || {
                    (change, waiting) = refresh(&mut lock(&state), &roster, &members, &facts, patient);
                });
                let freed = settled.freed.then_some(FleetChange::Room);
                change.max(freed).into_iter().for_each(&changed);
                waiting || settled.pending
            }
            None => false,
        };
        tokio::select! {
            still = roster.changed() => if still.is_err() { return },
            still = health.changed() => if still.is_err() { return },
            still = seen.changed() => if still.is_err() { return },
            () = again.notified() => {}
            () = tokio::time::sleep(PATIENCE / 10), if waiting => {}
        }
        let known = lock(&state).snapshot.is_some();
        tokio::time::sleep(if known { GATHER } else { GATHER_FIRST }).await;
    }
}

/// Looks at every member again. Tells what is another, and whether a member is waited for.
fn refresh(
    state: &mut State,
    roster: &Roster,
    members: &Members,
    facts: &Facts,
    patient: bool,
) -> (Option<FleetChange>, bool) {
    let before = state.snapshot.clone();
    let mut next = Snapshot::new(Timestamp::UNIX_EPOCH);
    let (mut strange, mut waiting) = (false, false);
    state.waited.retain(|name, _| roster.contains_key(name));
    for (name, member) in roster.iter() {
        let last = before.as_ref().and_then(|snapshot| snapshot.get(name));
        let mut unsure = false;
        let mut view = match facts.view(name) {
            Ok(Some(view)) => view,
            Ok(None) => member.view(),
            Err(error) => {
                tracing::warn!(cluster = %name, %error, "what is free in a member cannot be read");
                unsure = true;
                member.view()
            }
        };
        strange |= members
            .status(name)
            .is_none_or(|status| status.health.reason == HealthReason::NeverSeen);
        let told = view.nodes.is_some() && view.apis.complete;
        if members.get(name).is_some() && !told {
            let since = *state.waited.entry(name.clone()).or_insert_with(Instant::now);
            if since.elapsed() < PATIENCE {
                waiting = true;
                unsure = true;
            }
        } else if told {
            state.waited.remove(name);
        }
        if !told && let Some(last) = last {
            remember(&mut view, last);
        }
        if unsure || view.health.status == HealthStatus::Unknown {
            no_room(&mut view);
        }
        next.insert(view);
    }
    if before.is_none() && patient && (strange || waiting) {
        return (None, true);
    }
    let change = before
        .as_ref()
        .map_or(Some(FleetChange::Members), |before| compare(before, &next));
    if change.is_some() {
        state.snapshot = Some(Arc::new(next));
    }
    (change, waiting)
}

/// Fills in what a member said before it fell silent.
fn remember(view: &mut ClusterView, last: &ClusterView) {
    if view.nodes.is_none() && last.nodes.is_some() {
        view.nodes.clone_from(&last.nodes);
        view.resources.clone_from(&last.resources);
        view.zones.clone_from(&last.zones);
        view.region.clone_from(&last.region);
    }
    if !view.apis.complete {
        view.apis = last.apis.clone();
        view.version.clone_from(&last.version);
    }
}

/// What is there stays, and nothing goes there because there was room once: that is not known any more.
fn no_room(view: &mut ClusterView) {
    view.resources = Some(ResourceSummary::default());
    for node in view.nodes.iter_mut().flatten() {
        node.ready = false;
    }
}

fn compare(before: &Snapshot, after: &Snapshot) -> Option<FleetChange> {
    if before.clusters().len() != after.clusters().len() {
        return Some(FleetChange::Members);
    }
    let changes = after.clusters().filter_map(|now| match before.get(&now.name) {
        None => Some(FleetChange::Members),
        Some(then) if then == now => None,
        Some(then) => {
            let mut then = then.clone();
            then.resources.clone_from(&now.resources);
            then.nodes.clone_from(&now.nodes);
            Some(if then == *now {
                FleetChange::Room
            } else {
                FleetChange::Members
            })
        }
    });
    changes.max()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
