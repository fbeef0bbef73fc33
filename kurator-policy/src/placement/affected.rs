//! Which workloads a change of a cluster can concern.

use std::collections::BTreeMap;

use super::index::FleetIndex;
use super::policy::Prepared;
use super::workload::{Running, Workload};

/// Which policies a change of one cluster can concern, so that only their workloads are planned again.
///
/// Ask once with what was known before the change and once with what is known after it; a workload that neither
/// answer names, and that does not run in the cluster, gets the same placement as before.
///
/// ```
/// use std::collections::BTreeMap;
/// use kurator_core::observe::{ClusterView, Snapshot};
/// use kurator_policy::api::{ClusterAffinity, Placement};
/// use kurator_policy::placement::{Dialect, FleetIndex, Prepared, Running, Workload, affected};
///
/// let fleet = Snapshot::new("2026-01-02T03:04:05Z".parse()?)
///     .with_cluster(ClusterView::new("a".parse()?))
///     .with_cluster(ClusterView::new("b".parse()?));
/// let index = FleetIndex::new(&fleet);
/// let mut only_a = Placement::default();
/// only_a.cluster_affinity = Some(ClusterAffinity::names(["a"]));
/// let policies = BTreeMap::from([("only-a".to_owned(), Prepared::new(&only_a, &index, Dialect::Kurator)?)]);
/// let web = [Workload::new("web", "apps/v1", "Deployment").with_policy("only-a")];
///
/// assert!(affected(&index, "b", &web, &policies, &BTreeMap::new()).is_empty());
/// assert_eq!(affected(&index, "a", &web, &policies, &BTreeMap::new()), [&web[0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn affected<'w>(
    fleet: &FleetIndex,
    cluster: &str,
    workloads: &'w [Workload],
    policies: &BTreeMap<String, Prepared>,
    running: &BTreeMap<String, Running>,
) -> Vec<&'w Workload> {
    let at = fleet.position(cluster).ok();
    let concerned: BTreeMap<&str, bool> = policies
        .iter()
        .map(|(name, policy)| {
            let mentions = at.is_some_and(|at| policy.groups.iter().any(|group| group.any.has(at)));
            (name.as_str(), mentions)
        })
        .collect();
    let mut last: Option<(&str, bool)> = None;
    let found = workloads.iter().filter(|workload| {
        let policy = workload.policy.as_str();
        // Workloads of one policy often stand together.
        let concerned = match last {
            Some((name, known)) if name == policy => known,
            _ => concerned.get(policy).copied().unwrap_or(true),
        };
        last = Some((policy, concerned));
        concerned
            || running.get(&workload.name).is_some_and(|running| {
                running.clusters.iter().any(|(name, _)| name == cluster)
                    || running.evicting.iter().any(|name| name == cluster)
            })
    });
    found.collect()
}
