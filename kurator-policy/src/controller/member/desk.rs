//! Where the hub side leaves work for a member's worker, and finds what the worker has seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kurator_core::apply::{ConflictResolution, KindRef, ObjectSet, Owner};
use tokio::sync::Notify;

use super::{phase, watches::Sight};
use crate::{
    api::RolloutPhase,
    failover::StateRules,
    propagate::{MemberObserved, ObjectKey, ObjectKind, PolicyKey, Trouble},
};

/// What one member is to hold of one policy.
#[derive(Clone, Debug)]
pub(in super::super) struct Assignment {
    /// The objects, complete.
    pub(in super::super) set: Arc<ObjectSet>,
    /// What the set was made of; equal for equal sets.
    pub(in super::super) revisions: BTreeMap<ObjectKey, Wanted>,
    /// Where leftovers may be.
    pub(in super::super) kinds: BTreeSet<ObjectKind>,
    /// Whether leftovers are removed; not while it is unknown what belongs there.
    pub(in super::super) prune: bool,
    /// What to do about objects of others.
    pub(in super::super) conflicts: ConflictResolution,
    /// Whether nothing is to be done about it for now.
    pub(in super::super) suspended: bool,
    /// Whether nothing is to be written, but reported what would be.
    pub(in super::super) report_only: bool,
    /// Whether it is there because others refer to it: then it is enough that it is there by the word of any policy,
    /// and a definition by anybody's.
    pub(in super::super) shared: bool,
    /// What is to be looked for in the status of its objects.
    pub(in super::super) preserve: Option<Arc<StateRules>>,
    /// Whether some object of it could not be made, so that the set is not all there should be.
    pub(in super::super) refused: bool,
}

/// One object of an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Wanted {
    pub(in super::super) revision: String,
    pub(in super::super) replicas: Option<u32>,
}

impl Assignment {
    /// Whether doing one is doing the other.
    fn same(&self, other: &Self) -> bool {
        self.revisions == other.revisions
            && self.kinds == other.kinds
            && self.prune == other.prune
            && self.conflicts == other.conflicts
            && self.suspended == other.suspended
            && self.refused == other.refused
            && self.report_only == other.report_only
            && self.preserve == other.preserve
            && self.set.owner() == other.set.owner()
    }

    /// Whether some of it has replicas, which an autoscaler may set.
    pub(super) fn scales(&self) -> bool {
        self.revisions.values().any(|wanted| wanted.replicas.is_some())
    }

    pub(super) fn kind_refs(&self) -> BTreeSet<KindRef> {
        self.kinds
            .iter()
            .map(|kind| KindRef::new(&kind.api_version, &kind.kind))
            .collect()
    }
}

/// The desk of one member.
#[derive(Debug, Default)]
pub(in super::super) struct Desk {
    inbox: Mutex<Inbox>,
    /// Shared with whoever reads it: what a policy has in a member may be a thousand objects.
    observed: Mutex<BTreeMap<PolicyKey, Arc<MemberObserved>>>,
    /// Why nothing can be done in the member, if so.
    trouble: Mutex<Option<Trouble>>,
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct Inbox {
    assignments: BTreeMap<PolicyKey, Arc<Assignment>>,
    fresh: BTreeSet<PolicyKey>,
    look_again: bool,
}

impl Desk {
    /// Leaves work; nothing happens if it is the work that is there already.
    pub(in super::super) fn assign(&self, policy: &PolicyKey, assignment: Assignment) {
        let mut inbox = lock(&self.inbox);
        if inbox
            .assignments
            .get(policy)
            .is_some_and(|before| before.same(&assignment))
        {
            return;
        }
        inbox.assignments.insert(policy.clone(), Arc::new(assignment));
        inbox.fresh.insert(policy.clone());
        drop(inbox);
        // What was certain of other work is not certain of this.
        if let Some(known) = lock(&self.observed).get_mut(policy) {
            Arc::make_mut(known).complete = false;
        }
        self.wake.notify_one();
    }

    /// The set that the member was told last, if it is of this owner and was made of the same.
    pub(in super::super) fn told(
        &self,
        policy: &PolicyKey,
        owner: &Owner,
        revisions: &BTreeMap<ObjectKey, Wanted>,
    ) -> Option<Arc<ObjectSet>> {
        let inbox = lock(&self.inbox);
        let told = inbox.assignments.get(policy)?;
        let same = told.set.owner() == owner && told.revisions == *revisions;
        same.then(|| Arc::clone(&told.set))
    }

    /// The policy is gone, and nothing of it is in the member.
    pub(in super::super) fn dismiss(&self, policy: &PolicyKey) {
        lock(&self.inbox).assignments.remove(policy);
        lock(&self.observed).remove(policy);
        self.wake.notify_one();
    }

    /// Nothing can be done in the member, and why. Gives the policies for which that is news.
    pub(super) fn close(&self, trouble: Trouble) -> Vec<PolicyKey> {
        let policies: Vec<_> = self.assignments().into_keys().collect();
        let blocked =
            |policy: &PolicyKey| self.observe(policy, |known| known.blocked = Some(trouble.clone()));
        let news = policies.into_iter().filter(blocked).collect();
        *lock(&self.trouble) = Some(trouble);
        news
    }

    /// The member can be worked with; what was said before stands until it has been looked at.
    pub(super) fn reopen(&self) {
        *lock(&self.trouble) = None;
    }

    /// The member answers again: do not wait for the next try.
    pub(super) fn look_again(&self) {
        lock(&self.inbox).look_again = true;
        self.wake.notify_one();
    }

    /// What the worker has seen of a policy, nothing if it was never asked; why nothing can be done in the member
    /// holds for newcomers too.
    pub(in super::super) fn observed(&self, policy: &PolicyKey) -> Arc<MemberObserved> {
        let known = lock(&self.observed).get(policy).cloned();
        known.unwrap_or_else(|| {
            Arc::new(MemberObserved {
                blocked: lock(&self.trouble).clone(),
                ..MemberObserved::default()
            })
        })
    }

    /// Whether something is on its way to the member, and nothing is known to hold it up.
    pub(in super::super) fn is_at_work(&self) -> bool {
        let inbox = lock(&self.inbox);
        if lock(&self.trouble).is_some() {
            return false;
        }
        let observed = lock(&self.observed);
        let mut work = inbox.assignments.iter().filter(|(_, work)| !work.suspended);
        work.any(|(policy, _)| {
            observed.get(policy).is_none_or(|seen| {
                let stuck = seen.blocked.is_some() || seen.objects.values().any(|it| it.trouble.is_some());
                !seen.complete && !stuck
            })
        })
    }

    /// How far the member has come with what it was told of a policy; `None` while that cannot be told.
    pub(in super::super) fn phase(&self, policy: &PolicyKey) -> Option<RolloutPhase> {
        let assignment = self.assignment(policy)?;
        let observed = lock(&self.observed);
        phase::phase(&assignment, observed.get(policy)?)
    }

    /// Whether what was seen of an object is what the member was last told of it.
    pub(in super::super) fn is_current(
        &self,
        policy: &PolicyKey,
        object: &ObjectKey,
        revision: &str,
    ) -> bool {
        let inbox = lock(&self.inbox);
        let wanted = inbox
            .assignments
            .get(policy)
            .and_then(|it| it.revisions.get(object));
        wanted.is_some_and(|wanted| wanted.revision == revision)
    }

    /// How many replicas of an object the member shows.
    pub(super) fn created(&self, policy: &PolicyKey, object: &ObjectKey) -> Option<u32> {
        lock(&self.observed).get(policy)?.objects.get(object)?.created
    }

    pub(super) fn assignments(&self) -> BTreeMap<PolicyKey, Arc<Assignment>> {
        lock(&self.inbox).assignments.clone()
    }

    pub(super) fn assignment(&self, policy: &PolicyKey) -> Option<Arc<Assignment>> {
        lock(&self.inbox).assignments.get(policy).cloned()
    }

    /// Takes the policies with new work, and whether to look again.
    pub(super) fn take(&self) -> (BTreeSet<PolicyKey>, bool) {
        let mut inbox = lock(&self.inbox);
        (
            std::mem::take(&mut inbox.fresh),
            std::mem::take(&mut inbox.look_again),
        )
    }

    /// Takes down how an object looks; tells whether that made a difference.
    pub(super) fn sight(&self, policy: &PolicyKey, sight: Sight) -> bool {
        let mut observed = lock(&self.observed);
        let Some(known) = observed.get_mut(policy) else {
            return false;
        };
        let Some(mut object) = known.objects.get(&sight.key).cloned() else {
            return false;
        };
        sight.glance.tell(&mut object);
        let changed = known.objects.get(&sight.key) != Some(&object);
        if changed {
            Arc::make_mut(known).objects.insert(sight.key, object);
        }
        changed
    }

    /// Changes what is known of a policy; tells whether that made a difference.
    pub(super) fn observe(&self, policy: &PolicyKey, change: impl FnOnce(&mut MemberObserved)) -> bool {
        if !lock(&self.inbox).assignments.contains_key(policy) {
            return false;
        }
        let mut observed = lock(&self.observed);
        let known = observed.entry(policy.clone()).or_default();
        let before = Arc::clone(known);
        change(Arc::make_mut(known));
        *known != before
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
