//! Which backup is verified next.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kurator_core::names::ClusterName;

use super::policy::Rules;
use crate::{
    api::{MemberVerification, VerificationStatus},
    restore::RunView,
    run::SeenMembers,
};

/// The run and the members of it to verify: for each member its newest complete backup counts, and only if it was not
/// verified yet. Whoever was verified longest ago comes first, and brings others of the same run along.
pub(super) fn pick<'a>(
    rules: &Rules,
    status: &VerificationStatus,
    runs: &'a [RunView],
    members: &SeenMembers,
) -> Option<(&'a RunView, Vec<ClusterName>)> {
    let last: BTreeMap<&ClusterName, &MemberVerification> =
        status.members.iter().map(|it| (&it.cluster, it)).collect();
    let mut wanted: Vec<(Option<Timestamp>, &ClusterName, &RunView)> = Vec::new();
    for (cluster, labels) in members {
        if !rules.clusters.selects(cluster, labels) {
            continue;
        }
        let complete = |run: &&RunView| {
            run.phase.has_ended() && run.backups.get(cluster).is_some_and(|(_, complete)| *complete)
        };
        let newest = runs
            .iter()
            .filter(complete)
            .max_by_key(|run| (run.started_at, &run.name));
        let Some(newest) = newest else { continue };
        match last.get(cluster) {
            Some(verified) if verified.tried && verified.execution == newest.name => {}
            verified => wanted.push((verified.map(|it| it.verified_at.0), cluster, newest)),
        }
    }
    wanted.sort_by_key(|(at, cluster, _)| (*at, *cluster));
    let (_, _, run) = *wanted.first()?;
    let of_run = wanted.iter().filter(|(_, _, it)| it.name == run.name);
    let clusters = of_run
        .take(rules.members)
        .map(|(_, cluster, _)| (*cluster).clone());
    Some((run, clusters.collect()))
}
