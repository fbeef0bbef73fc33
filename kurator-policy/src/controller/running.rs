//! Where the objects of a policy run, by what was written down.

use std::collections::BTreeMap;

use kurator_core::{names::ClusterName, observe::Snapshot};

use crate::{
    api::{DistributionPolicyStatus, ObjectPlacement},
    placement::Running,
    propagate::{ObjectKey, Template},
};

/// What was written down of where the objects are, by what [`ObjectPlacement::named`] says of them.
pub(super) fn written(
    previous: Option<&DistributionPolicyStatus>,
) -> BTreeMap<(&str, &str, &str), &ObjectPlacement> {
    let placements = previous.into_iter().flat_map(|status| &status.placements);
    placements
        .map(|placement| (placement.named(), placement))
        .collect()
}

/// Where the objects run: as it was last decided, which the status on the hub says whether or not a member can be
/// asked. What has no replicas is wherever the policy has something.
pub(super) fn running(
    previous: Option<&DistributionPolicyStatus>,
    templates: &[Template],
    fleet: &Snapshot,
) -> BTreeMap<ObjectKey, Running> {
    let member = |name: &str| {
        let name = name.parse::<ClusterName>().ok()?;
        fleet.get(&name).map(|_| name.to_string())
    };
    let written = written(previous);
    let everywhere: Vec<_> = previous
        .iter()
        .flat_map(|status| &status.clusters)
        .filter_map(|entry| Some((member(&entry.cluster)?, 0)))
        .collect();
    let mut running = BTreeMap::new();
    for template in templates {
        let key = &template.key;
        let found = written.get(&key.named());
        let today = match (found, template.replicas) {
            (Some(placement), _) => {
                let clusters = placement.clusters.iter().filter_map(|(cluster, replicas)| {
                    Some((member(cluster)?, u32::try_from(*replicas).unwrap_or(0)))
                });
                let mut today = Running::new(clusters);
                today.affinity.clone_from(&placement.affinity);
                today
            }
            (None, None) => Running::new(everywhere.clone()),
            (None, Some(_)) => continue,
        };
        running.insert(key.clone(), today);
    }
    running
}
