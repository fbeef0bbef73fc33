use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::reason::Reason;

use super::{
    Run,
    outcome::{conclude, refuse},
    reason::{ClusterReason, RunReason},
    size,
};
use crate::api::{BackupExecutionStatus, ClusterExecution, ClusterPhase};

/// The first status of a run: the members that are selected now are those of the run from here on.
///
/// A run of nobody, or of more members than a status can hold, has failed already.
#[must_use]
pub fn begin(run: &Run, now: Timestamp) -> BackupExecutionStatus {
    let mut status = BackupExecutionStatus {
        started_at: Some(Time(now)),
        ..BackupExecutionStatus::default()
    };
    let selection = &run.policy.clusters;
    let mut entries: Vec<ClusterExecution> = run
        .members
        .iter()
        .filter(|(cluster, labels)| selection.selects(cluster, labels))
        .map(|(cluster, _)| ClusterExecution::new(cluster.clone()))
        .collect();
    for name in &selection.names {
        if !run.members.contains_key(name.as_str()) && !entries.iter().any(|entry| entry.cluster == *name) {
            let mut entry = ClusterExecution::new(name.clone());
            entry.phase = ClusterPhase::Failed;
            entry.reason = ClusterReason::UnknownCluster.token().to_owned();
            entry.message = ClusterReason::UnknownCluster.to_string();
            entries.push(entry);
        }
    }
    entries.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    if entries.is_empty() {
        return refuse(run, status, &RunReason::NoClusters, now);
    }
    if !size::has_room(&entries) {
        let clusters = entries.len();
        return refuse(run, status, &RunReason::TooManyClusters { clusters }, now);
    }
    status.clusters = entries;
    conclude(run, status, now)
}
