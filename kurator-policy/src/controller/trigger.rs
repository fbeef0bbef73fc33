//! Asking for a policy to be looked at again.

use std::collections::BTreeMap;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::{api::DynamicObject, runtime::reflector::ObjectRef};

use super::PolicyGroup;
use crate::propagate::PolicyKey;

/// The ways into the queues of the controllers, one for each group. Cheap to clone; firing never waits, and the
/// queue behind it takes several in a row for one.
#[derive(Clone, Debug, Default)]
pub(super) struct Triggers {
    senders: BTreeMap<&'static str, (PolicyGroup, UnboundedSender<ObjectRef<DynamicObject>>)>,
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
        (Self { senders }, receivers)
    }

    /// Asks for `policy` to be looked at.
    pub(super) fn fire(&self, policy: &PolicyKey) {
        let Some((group, sender)) = self.senders.get(policy.group.as_str()) else {
            return;
        };
        let object = ObjectRef::new_with(&policy.name.name, group.resource()).within(&policy.name.namespace);
        // A queue that is gone belongs to a controller that has ended.
        let _ = sender.unbounded_send(object);
    }
}
