//! What the pure parts of fleet backup cost: `cargo bench --bench backup`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use divan::{AllocProfiler, Bencher, black_box};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use kurator::backup::{
    api::{BackupPolicy, ExecutionPhase, RetentionPolicy},
    recovery::{self, Application, Objectives, ScopedRun},
    retention::{self, RunRecord},
    run::{Prepared, Run, RunId, Seen, SeenMembers, asks, begin, step},
};
use kurator::{
    backup::driver::{BackupScope, memory::InMemoryBackups},
    core::names::ClusterName,
};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn start() -> Timestamp {
    "2026-01-01T03:00:00Z".parse().unwrap()
}

fn names(count: usize) -> Vec<ClusterName> {
    (0..count)
        .map(|index| format!("cluster-{index:04}").parse().unwrap())
        .collect()
}

/// A run a day; every tenth misses some members.
fn runs(clusters: &[ClusterName], count: usize) -> Vec<RunRecord> {
    (0..count)
        .map(|day| {
            let at = start() + SignedDuration::from_hours(24 * i64::try_from(day).unwrap());
            let mut run = RunRecord::new(format!("run-{day:03}"), at, ExecutionPhase::Completed);
            let there = clusters
                .iter()
                .enumerate()
                .filter(|(index, _)| day % 10 != 0 || index % 7 != 0);
            run.complete = there.map(|(_, name)| name.clone()).collect();
            run
        })
        .collect()
}

/// The recovery report of 1000 clusters over 100 runs, records included: bound 50 ms and 64 MB.
#[divan::bench(args = [(100, 100), (1000, 100)])]
fn aggregate(bencher: Bencher<'_, '_>, (clusters, count): (usize, usize)) {
    let members = names(clusters);
    let now = start() + SignedDuration::from_hours(24 * 101);
    let objectives = Objectives::default().with_recovery_point(SignedDuration::from_hours(30));
    bencher.bench_local(|| {
        let runs = runs(&members, count);
        recovery::report(black_box(&members), black_box(&runs), &[], &objectives, now)
    });
}

/// The same of 100 applications in 100 clusters each, half of them in half of the runs only.
#[divan::bench(args = [(1000, 100)])]
fn by_application(bencher: Bencher<'_, '_>, (clusters, count): (usize, usize)) {
    let members = names(clusters);
    let runs = runs(&members, count);
    let now = start() + SignedDuration::from_hours(24 * 101);
    let objectives = Objectives::default().with_recovery_point(SignedDuration::from_hours(30));
    let (everything, mut part) = (BackupScope::default(), BackupScope::default());
    part.included_namespaces = vec!["odd-*".to_owned()];
    let scoped: Vec<ScopedRun<'_>> = runs
        .iter()
        .enumerate()
        .map(|(index, run)| ScopedRun::new(run, if index % 2 == 0 { &everything } else { &part }))
        .collect();
    let applications: Vec<Application> = (0..100)
        .map(|number| {
            let kind = if number % 2 == 0 { "even" } else { "odd" };
            let namespace = format!("{kind}-{number}");
            let there = members.iter().cycle().skip(number * 10).take(100).cloned();
            Application::new(namespace.clone(), [namespace], there)
        })
        .collect();
    bencher.bench_local(|| {
        recovery::by_application(
            black_box(&applications),
            black_box(&scoped),
            &[],
            &objectives,
            now,
        )
    });
}

/// Retention over the same.
#[divan::bench(args = [(1000, 100)])]
fn retain(bencher: Bencher<'_, '_>, (clusters, count): (usize, usize)) {
    let runs = runs(&names(clusters), count);
    let policy: RetentionPolicy =
        serde_json::from_value(serde_json::json!({ "last": 7, "daily": 14, "weekly": 8, "monthly": 12 }))
            .unwrap();
    bencher.bench_local(|| retention::plan(black_box(&policy), black_box(&runs), &TimeZone::UTC));
}

/// One step of a run of 250 members that all begin.
#[divan::bench]
fn begin_250(bencher: Bencher<'_, '_>) {
    let fleet = InMemoryBackups::new(start());
    let members: SeenMembers = names(250)
        .into_iter()
        .map(|name| (name, BTreeMap::new()))
        .collect();
    for name in members.keys() {
        fleet.add_member(name);
    }
    let mut policy = BackupPolicy::new("fleet".parse().unwrap());
    policy.limits.max_parallel = Some(1000);
    let id = RunId::new("default", "run", "uid", start());
    let run = Run::new(id, Prepared::new(&policy).unwrap()).with_members(members);
    let status = begin(&run, start());
    let seen: BTreeMap<ClusterName, Seen> = asks(&run, &status, start())
        .into_iter()
        .map(|ask| {
            let facts = fleet.facts(&ask.cluster);
            (ask.cluster, Seen::default().with_facts(facts))
        })
        .collect();
    bencher.bench_local(|| step(black_box(&run), black_box(&status), black_box(&seen), start()));
}
