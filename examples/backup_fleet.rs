//! Ten members backed up as one, three of them down at first: `cargo run --example backup_fleet`
//!
//! Everything runs in memory, and time goes by as fast as it can. What is printed is what the status of a
//! `BackupExecution` would say: who is done, who is not and why, what the success rule makes of it, what retention would
//! keep, and how much would be lost.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use jiff::{SignedDuration, tz::TimeZone};
use kurator::{
    backup::{
        api::{BackupExecutionStatus, BackupPolicy, ClusterPhase, RetentionPolicy},
        driver::{
            BackupScope,
            memory::{Fault, InMemoryBackups},
        },
        execute::{Executor, MemoryStore},
        recovery::{self, Application, Objectives, ScopedRun},
        retention::{self, RunRecord},
        run::{Prepared, Run, RunId, SeenMembers, begin},
    },
    core::names::ClusterName,
};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let fleet = InMemoryBackups::new("2026-11-23T03:00:00Z".parse()?);
    let mut names: Vec<ClusterName> = Vec::new();
    for number in 0..10 {
        let name: ClusterName = format!("cluster-{number}").parse()?;
        fleet.add_member(&name);
        for object in 0..500 {
            fleet.put_object(
                &name,
                json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "namespace": "shop", "name": format!("object-{object}") },
                }),
            );
        }
        names.push(name);
    }
    for name in names.iter().take(3) {
        fleet.set_reachable(name, false);
    }
    fleet.inject(&names[5], Fault::Forgotten);
    fleet.inject(&names[7], Fault::Fails("disk full".to_owned()));

    let policy = BackupPolicy::new("production".parse()?);
    let members: SeenMembers = names.iter().map(|name| (name.clone(), BTreeMap::new())).collect();
    let id = RunId::new("default", "nightly-1", "uid-1", fleet.now());
    let run = Run::new(id, Prepared::new(&policy)?).with_members(members);
    let executor = Executor::new(Arc::new(fleet.clone()), Arc::new(fleet.clone()));
    let store = MemoryStore::default();

    let mut status = begin(&run, fleet.now());
    for second in 0.. {
        if second == 20 {
            println!("after {second} s, three members down");
            print(&status);
        }
        if second == 90 {
            for name in names.iter().take(3) {
                fleet.set_reachable(name, true);
            }
            println!("\nafter {second} s they return");
        }
        status = executor.pass(&run, &status, &store, fleet.now()).await?.status;
        if status.phase.has_ended() {
            println!("\nafter {second} s, ended");
            print(&status);
            break;
        }
        fleet.advance(SignedDuration::from_secs(1));
    }

    println!("\nwhat retention keeps of this run and two before it (the last one only)");
    let mut records = vec![record("nightly-1", "2026-11-23T03:00:00Z", &status)?];
    for (name, at, without) in [
        ("nightly-0", "2026-11-22T03:00:00Z", 0),
        ("nightly-before", "2026-11-21T03:00:00Z", 3),
    ] {
        let mut run = record(name, at, &status)?;
        run.complete = run.complete.into_iter().skip(without).collect();
        records.push(run);
    }
    let keep: RetentionPolicy = serde_json::from_value(json!({ "last": 1 }))?;
    print!(
        "{}",
        indented(
            &retention::plan(&keep, &records, &TimeZone::UTC)
                .report
                .to_string()
        )
    );

    println!("\nhow much would be lost");
    let objectives = Objectives::default().with_recovery_point(SignedDuration::from_hours(24));
    let now = fleet.now() + SignedDuration::from_hours(8);
    let report = recovery::report(&names, &records, &[], &objectives, now);
    print!("{}", indented(&report.to_string()));

    let everything = BackupScope::default();
    let runs: Vec<ScopedRun<'_>> = records
        .iter()
        .map(|record| ScopedRun::new(record, &everything))
        .collect();
    let shop = Application::new("shop", ["shop"], names.iter().cloned());
    let report = recovery::by_application(&[shop], &runs, &[], &objectives, now);
    print!("{}", indented(&report.to_string()));
    Ok(())
}

fn record(name: &str, at: &str, status: &BackupExecutionStatus) -> Result<RunRecord, Box<dyn Error>> {
    let mut record = RunRecord::new(name, at.parse()?, status.phase);
    let complete = status
        .clusters
        .iter()
        .filter(|it| it.phase == ClusterPhase::Completed);
    record.complete = complete.map(|it| it.cluster.clone()).collect();
    Ok(record)
}

fn print(status: &BackupExecutionStatus) {
    for entry in &status.clusters {
        let items = entry
            .progress
            .map_or_else(|| "-".to_owned(), |progress| progress.to_string());
        println!(
            "  {}  attempt {}  {:>7} items  {}: {}",
            entry.cluster, entry.attempt, items, entry.reason, entry.message
        );
    }
    if let Some(ready) = status.conditions.iter().find(|it| it.type_ == "Ready") {
        println!("  {}: {}", status.phase, ready.message);
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
