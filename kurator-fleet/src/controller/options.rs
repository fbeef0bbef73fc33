use std::sync::Arc;

use kurator_core::kubeconfig::KubeconfigPolicy;
use kurator_core::multicluster::MembersOptions;
use kurator_core::multicluster::shard::ReplicaId;

use super::MemberCleaner;

/// How a fleet is managed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FleetOptions {
    /// How members are probed and bounded.
    pub members: MembersOptions,
    /// What kubeconfigs may ask for.
    pub kubeconfigs: KubeconfigPolicy,
    /// How members are cleaned when they leave; [`PlacedObjects`](super::PlacedObjects) unless it is set.
    pub cleaner: Option<Arc<dyn MemberCleaner>>,
    /// The name of this process among several that manage the same namespace; alone unless it is set.
    pub replica: Option<ReplicaId>,
    /// How long after its last sign of life the leading replica is replaced, in seconds. Default 15.
    pub lease_seconds: u32,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            members: MembersOptions::default(),
            kubeconfigs: KubeconfigPolicy::default(),
            cleaner: None,
            replica: None,
            lease_seconds: 15,
        }
    }
}

impl FleetOptions {
    /// Sets how members are probed and bounded.
    #[must_use]
    pub fn with_members(mut self, members: MembersOptions) -> Self {
        self.members = members;
        self
    }

    /// Sets what kubeconfigs may ask for.
    #[must_use]
    pub fn with_kubeconfigs(mut self, policy: KubeconfigPolicy) -> Self {
        self.kubeconfigs = policy;
        self
    }

    /// Sets how members are cleaned when they leave.
    #[must_use]
    pub fn with_cleaner(mut self, cleaner: Arc<dyn MemberCleaner>) -> Self {
        self.cleaner = Some(cleaner);
        self
    }

    /// Makes this process one of several that may manage the same namespace: one of them leads, by a Lease of the name
    /// `kurator-fleet-shard-0`, and the others wait. Names must be unique to a process; a pod's name will do.
    ///
    /// Only the leader probes and engages members, and nothing it does on the hub or on a member is sent any more once
    /// it does not lead. A leader that ends in an orderly way hands over at once, one that dies is replaced within the
    /// lease time.
    #[must_use]
    pub fn with_replica(mut self, replica: ReplicaId) -> Self {
        self.replica = Some(replica);
        self
    }

    /// Sets after how many seconds without a sign of life the leading replica is replaced, at least 1. Every replica must
    /// be given the same.
    #[must_use]
    pub fn with_lease_seconds(mut self, seconds: u32) -> Self {
        self.lease_seconds = seconds.max(1);
        self
    }
}
