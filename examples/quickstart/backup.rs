//! A backup of the whole fleet at one instant, a loss, and the restore: on backup servers in memory.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use jiff::SignedDuration;
use kurator::backup::{
    api::{BackupPolicy, ExecutionPhase, RestoreExecutionSpec, RestorePhase, RestoreSource},
    driver::{ResourceKind, memory::InMemoryBackups},
    execute::{Executor, MemoryStore},
    restore::{self, Restore, RunView},
    run::{self, Prepared, Run, RunId, SeenMembers},
};
use kurator::core::names::{ClusterName, NamespacedName};
use serde_json::json;

/// Backs up, loses a Deployment, restores.
pub(crate) async fn show(
    clusters: &[ClusterName],
    storefront: &serde_json::Value,
) -> Result<(), Box<dyn Error>> {
    let fleet = InMemoryBackups::new("2026-11-23T12:00:00Z".parse()?);
    for cluster in clusters {
        fleet.add_member(cluster);
        fleet.put_object(cluster, storefront.clone());
    }
    let members: SeenMembers = clusters
        .iter()
        .map(|name| (name.clone(), BTreeMap::new()))
        .collect();
    let executor = Executor::new(Arc::new(fleet.clone()), Arc::new(fleet.clone()));
    let store = MemoryStore::default();

    // Every member holds still before the first backup starts.
    let policy: BackupPolicy = serde_json::from_value(json!({
        "fleet": "production",
        "consistency": "Fleet",
        "quiesce": { "hooks": [{ "name": "freeze", "pre": [{ "command": ["freeze"] }], "post": [{ "command": ["thaw"] }] }] },
    }))?;
    let id = RunId::new("default", "before-upgrade", "run-uid", fleet.now());
    let run = Run::new(id, Prepared::new(&policy)?).with_members(members.clone());
    let mut status = run::begin(&run, fleet.now());
    while !(status.phase.has_ended() && fleet.held_by(&clusters[0]).is_empty()) {
        status = executor.pass(&run, &status, &store, fleet.now()).await?.status;
        fleet.advance(SignedDuration::from_secs(1));
    }
    for entry in fleet.journal() {
        println!(
            "  {} {}: {}",
            entry.at.strftime("%H:%M:%S"),
            entry.cluster,
            entry.what
        );
    }
    for condition in status.conditions.iter().filter(|it| it.type_ != "Progressing") {
        println!(
            "  {}={} {}: {}",
            condition.type_, condition.status, condition.reason, condition.message
        );
    }
    assert_eq!(status.phase, ExecutionPhase::Completed);

    let lost = &clusters[0];
    let kind = ResourceKind::new("apps/v1", "Deployment");
    fleet.remove_object(lost, &kind, &NamespacedName::new("default", "storefront"));
    println!("\nDeployment storefront is lost on {lost}; the restore");
    let mut view = RunView::new("before-upgrade", fleet.now(), status.phase);
    for entry in &status.clusters {
        if let Some(backup) = &entry.backup {
            view = view.with_backup(entry.cluster.clone(), backup.clone(), true);
        }
    }
    let spec = RestoreExecutionSpec::new("production".parse()?, RestoreSource::execution("before-upgrade"));
    let restore = Restore::new(RunId::new("default", "back", "restore-uid", fleet.now()), &spec)?;
    let mut status = restore::begin(&restore, &view, &members, fleet.now());
    while !status.phase.has_ended() {
        status = executor
            .restore_pass(&restore, &status, &store, fleet.now())
            .await?
            .status;
        fleet.advance(SignedDuration::from_secs(1));
    }
    for entry in &status.clusters {
        let planned = entry.planned.unwrap_or_default();
        println!(
            "  {:<13} create {}, skip {}  {}: {}",
            entry.cluster, planned.create, planned.skip, entry.reason, entry.message
        );
    }
    assert_eq!(status.phase, RestorePhase::Completed);
    Ok(())
}
