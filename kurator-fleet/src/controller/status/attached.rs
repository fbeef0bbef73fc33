use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::condition::{ConditionSet, READY};
use kurator_core::multicluster::MemberStatus;

use super::{Said, broken_way, readiness};
use crate::api::{AttachedCluster, AttachedClusterStatus};

/// The status of an attached cluster. The identity, once on record, stays.
pub(in super::super) fn attached_status(
    cluster: &AttachedCluster,
    known: &MemberStatus,
    version: Option<String>,
    now: Timestamp,
) -> AttachedClusterStatus {
    let before = cluster.status.clone().unwrap_or_default();
    let (status, said) = readiness(known);
    let mut conditions = ConditionSet::new(before.conditions, cluster.metadata.generation, now);
    let turned = conditions.get(READY).map(|condition| condition.status.as_str()) != Some(status.as_str());
    conditions.ready(status, &said);
    match broken_way(known) {
        Some(broken) => conditions.degraded(true, &broken),
        None => conditions.degraded(
            false,
            &Said::new("CredentialsAccepted", "the way to the cluster is in order"),
        ),
    };
    // A member that has not answered yet was last seen by whoever looked after it before.
    let answered = known.uid.as_ref();
    let last_seen = known.health.last_seen.filter(|_| answered.is_some()).map(Time);
    AttachedClusterStatus {
        observed_generation: cluster.metadata.generation,
        conditions: conditions.into_vec(),
        kubernetes_version: version.or(before.kubernetes_version),
        cluster_uid: before.cluster_uid.or_else(|| answered.map(ToString::to_string)),
        // Not with every probe: a status that changes all the time is written all the time.
        last_seen_time: if turned {
            last_seen.or(before.last_seen_time)
        } else {
            before.last_seen_time
        },
    }
}
