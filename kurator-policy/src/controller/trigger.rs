//! Asking for a policy to be looked at again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::{api::DynamicObject, runtime::reflector::ObjectRef};

use super::PolicyGroup;
use crate::propagate::PolicyKey;

/// The ways into the queues of the controllers, one for each group. Cheap to clone; firing never waits, and the
/// queue behind it takes several in a row for one.
#[derive(Clone, Debug, Default)]
pub(super) struct Triggers {
    senders: BTreeMap<&'static str, (PolicyGroup, UnboundedSender<ObjectRef<DynamicObject>>)>,
    /// Who is triggered instead of what is no policy.
    followers: Arc<Mutex<BTreeMap<PolicyKey, BTreeSet<PolicyKey>>>>,
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
        };
        (triggers, receivers)
    }

    /// Asks for these policies to be looked at instead of `name`, which is none.
    pub(super) fn follow(&self, name: &PolicyKey, policies: BTreeSet<PolicyKey>) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if policies.is_empty() {
            followers.remove(name);
        } else {
            followers.insert(name.clone(), policies);
        }
    }

    /// Asks for `policy` to be looked at.
    pub(super) fn fire(&self, policy: &PolicyKey) {
        if self.senders.contains_key(policy.group.as_str()) {
            return self.send(policy);
        }
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers
            .get(policy)
            .into_iter()
            .flatten()
            .for_each(|policy| self.send(policy));
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
