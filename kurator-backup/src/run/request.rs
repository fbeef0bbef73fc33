use std::collections::BTreeMap;

use kurator_core::names::ClusterName;

use super::{Run, policy::signed};
use crate::{api::labels, driver::BackupRequest};

/// The backup that the run asks of a member in an attempt: the policy, with the member's overrides in order.
#[must_use]
pub fn backup_request(run: &Run, cluster: &ClusterName, attempt: u32) -> BackupRequest {
    let none = BTreeMap::new();
    let cluster_labels = run.members.get(cluster.as_str()).unwrap_or(&none);
    let policy = &run.policy.source;
    let mut request = BackupRequest::new(
        run.id.backup_name(cluster, attempt),
        run.id.owner(cluster, attempt),
    );
    request.scope.clone_from(&policy.scope);
    request.location.clone_from(&policy.storage_location);
    request.ttl = policy.ttl.and_then(signed);
    request.snapshot_volumes = policy.snapshot_volumes;
    request.file_system_backup = policy.file_system_backup;
    request.snapshot_locations.clone_from(&policy.snapshot_locations);
    request.resource_policy.clone_from(&policy.resource_policy);
    request.hooks.clone_from(&policy.hooks);
    for (selection, change) in &run.policy.overrides {
        if !selection.selects(cluster, cluster_labels) {
            continue;
        }
        if let Some(scope) = &change.scope {
            request.scope.clone_from(scope);
        }
        if change.storage_location.is_some() {
            request.location.clone_from(&change.storage_location);
        }
        if let Some(hooks) = &change.hooks {
            request.hooks.clone_from(hooks);
        }
        request.ttl = change.ttl.and_then(signed).or(request.ttl);
        request.snapshot_volumes = change.snapshot_volumes.or(request.snapshot_volumes);
        request.file_system_backup = change.file_system_backup.or(request.file_system_backup);
    }
    request.labels = BTreeMap::from([
        (labels::FLEET.to_owned(), policy.fleet.to_string()),
        (labels::CLUSTER.to_owned(), cluster.to_string()),
        (labels::EXECUTION_UID.to_owned(), run.id.uid.clone()),
        (labels::ATTEMPT.to_owned(), attempt.to_string()),
    ]);
    request.annotations.insert(
        labels::EXECUTION.to_owned(),
        format!("{}/{}", run.id.namespace, run.id.name),
    );
    request
}
