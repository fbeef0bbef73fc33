//! Asking for a policy to be looked at again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::{api::DynamicObject, runtime::reflector::ObjectRef};
use tokio::time::{Instant, sleep_until};

use super::PolicyGroup;
use crate::propagate::PolicyKey;

/// News that keep coming make one pass in this time: while a policy arrives, every member has some all the time.
const GATHER: Duration = Duration::from_millis(500);

/// The ways into the queues of the controllers, one for each group. Cheap to clone; firing never waits, and the
/// queue behind it takes several in a row for one.
#[derive(Clone, Debug, Default)]
pub(super) struct Triggers {
    senders: BTreeMap<&'static str, (PolicyGroup, UnboundedSender<ObjectRef<DynamicObject>>)>,
    /// Who is triggered instead of what is no policy.
    followers: Arc<Mutex<BTreeMap<PolicyKey, BTreeSet<PolicyKey>>>>,
    /// When policies were told last, or will be next.
    told: Arc<Mutex<BTreeMap<PolicyKey, Instant>>>,
}

impl Triggers {
    /// The triggers for some groups, and where they come out.
    pub(super) fn new(
        groups: impl IntoIterator<Item = PolicyGroup>,
    ) -> (
        Self,
        BTreeMap<PolicyGroup, UnboundedReceiver<ObjectRef<DynamicObject>>>,
    ) {
        let mut receivers = BTreeMap::new();
        let mut senders = BTreeMap::new();
        for group in groups {
            let (sender, receiver) = unbounded();
            senders.insert(group.as_str(), (group, sender));
            receivers.insert(group, receiver);
        }
        let triggers = Self {
            senders,
            followers: Arc::default(),
            told: Arc::default(),
        };
        (triggers, receivers)
    }

    /// Asks for these policies to be looked at instead of `name`, which is none.
    pub(super) fn follow(&self, name: &PolicyKey, policies: BTreeSet<PolicyKey>) {
        let mut followers = lock(&self.followers);
        if policies.is_empty() {
            followers.remove(name);
        } else {
            followers.insert(name.clone(), policies);
        }
    }

    /// Asks for `policy` to be looked at, as soon as can be.
    pub(super) fn fire(&self, policy: &PolicyKey) {
        self.concerned(policy).iter().for_each(|policy| self.send(policy));
    }

    /// Asks for `policy` to be looked at because it may have got further: at once for the first news, and after that
    /// once for all that come within [`GATHER`].
    pub(super) fn tell(&self, policy: &PolicyKey) {
        for policy in self.concerned(policy) {
            let now = Instant::now();
            let mut told = lock(&self.told);
            match told.get(&policy) {
                // The pass that is coming will see it.
                Some(next) if *next > now => {}
                Some(last) if now < *last + GATHER => {
                    let next = *last + GATHER;
                    told.insert(policy.clone(), next);
                    let this = self.clone();
                    tokio::spawn(async move {
                        sleep_until(next).await;
                        this.send(&policy);
                    });
                }
                _ => {
                    told.insert(policy.clone(), now);
                    self.send(&policy);
                }
            }
        }
    }

    /// The policy is gone.
    pub(super) fn forget(&self, policy: &PolicyKey) {
        lock(&self.told).remove(policy);
    }

    /// The policy itself, or those that are looked at instead of what is none.
    fn concerned(&self, policy: &PolicyKey) -> BTreeSet<PolicyKey> {
        if self.senders.contains_key(policy.group.as_str()) {
            return BTreeSet::from([policy.clone()]);
        }
        lock(&self.followers).get(policy).cloned().unwrap_or_default()
    }

    fn send(&self, policy: &PolicyKey) {
        let Some((group, sender)) = self.senders.get(policy.group.as_str()) else {
            return;
        };
        let object = ObjectRef::new_with(&policy.name.name, group.resource()).within(&policy.name.namespace);
        // A queue that is gone belongs to a controller that has ended.
        let _ = sender.unbounded_send(object);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_news_are_told_at_once_and_what_follows_is_gathered() {
        let group = PolicyGroup::ALL[0];
        let (triggers, mut receivers) = Triggers::new([group]);
        let mut told = receivers.remove(&group).unwrap();
        let policy = PolicyKey::new(group.as_str(), "shop", "web");
        let begun = Instant::now();
        triggers.tell(&policy);
        told.next().await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..100 {
            triggers.tell(&policy);
        }
        told.next().await.unwrap();
        assert!(begun.elapsed() >= GATHER);
        assert!(told.try_recv().is_err(), "once for all of them");
        // What is fired waits for nobody.
        triggers.tell(&policy);
        triggers.fire(&policy);
        let gathered = begun.elapsed();
        told.next().await.unwrap();
        assert_eq!(begun.elapsed(), gathered);
    }
}
