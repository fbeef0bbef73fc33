//! A member that is being worked with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::link::Link;
use super::shard::Fence;
use crate::health::{ClusterUid, Probe};
use crate::membership::Member;
use crate::names::ClusterName;

/// A member that answers, is the cluster that was registered, and is this replica's to act for.
///
/// It ends when any of these ends: [`left`](Self::left) resolves, and its client refuses to send. The same member
/// may be engaged again later, as another value.
pub struct EngagedMember {
    pub(super) name: ClusterName,
    pub(super) uid: ClusterUid,
    pub(super) client: Client,
    pub(super) link: Arc<Link>,
    pub(super) fence: Option<Arc<Fence>>,
    pub(super) registration: Arc<Mutex<Member>>,
    /// What the nodes have to say about the health, if anyone looks at them.
    pub(super) nodes: Mutex<Probe>,
    pub(super) left: CancellationToken,
    pub(super) work: TaskTracker,
}

impl fmt::Debug for EngagedMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngagedMember")
            .field("name", &self.name)
            .field("uid", &self.uid)
            .finish_non_exhaustive()
    }
}

impl EngagedMember {
    /// The member's name.
    #[must_use]
    pub const fn name(&self) -> &ClusterName {
        &self.name
    }

    /// Which cluster it is.
    #[must_use]
    pub const fn uid(&self) -> &ClusterUid {
        &self.uid
    }

    /// A client of the member. It may be kept for as long as the member is engaged: rotated credentials are followed
    /// behind it, and it sends nothing any more once the member is not this replica's.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The labels of the registration, as they are now.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.registration
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .labels
            .clone()
    }

    /// Of two replicas that held the member the later has the greater number. `None` when members are not shared.
    #[must_use]
    pub fn epoch(&self) -> Option<u32> {
        self.fence.as_ref().map(|fence| fence.epoch())
    }

    pub(super) fn nodes(&self) -> Probe {
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what the nodes mean for the health, as [`cloud_nodes`](crate::health::cloud_nodes) has it: counted with the
    /// next probe. [`Facts`](super::Facts) does this.
    pub fn report_nodes(&self, nodes: Probe) {
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// Does work on the member until it is disengaged, which waits for the work to be dropped; `None` if that came
    /// first. So nothing is under way any more when another replica may begin.
    pub fn while_engaged<F: Future>(
        self: &Arc<Self>,
        work: F,
    ) -> impl Future<Output = Option<F::Output>> + use<F> {
        let member = Arc::clone(self);
        self.work.track_future(async move {
            tokio::select! {
                biased;
                () = member.left() => None,
                done = work => Some(done),
            }
        })
    }

    /// Resolves when the member is disengaged.
    pub async fn left(&self) {
        self.left.cancelled().await;
    }
}
