//! A thousand members in one process, each with a simulated API server of its own.
//!
//! `cargo test -p kurator-core --features client --test scale_multicluster -- --nocapture` prints the figures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[allow(dead_code, reason = "shared with the tests that change servers")]
mod simulated;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kurator_core::clock::SystemClock;
use kurator_core::connect::StaticConnector;
use kurator_core::membership::{Member, StaticMembership};
use kurator_core::multicluster::{Members, MembersOptions, ReconcileContext, UniformController};
use simulated::Server;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const MEMBERS: usize = 1000;
const EVENTS: usize = 2000;

type Seen = mpsc::UnboundedSender<(String, Instant)>;

async fn note(object: Arc<ConfigMap>, context: Arc<ReconcileContext<Seen>>) -> Result<Action, Infallible> {
    let _ = context.data().send((
        format!("{}/{}", context.member().name(), object.name_any()),
        Instant::now(),
    ));
    Ok(Action::await_change())
}

/// Resident memory of this process in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_members() {
    let servers: Vec<(String, Server)> = (0..MEMBERS)
        .map(|index| (format!("member-{index}"), Server::new(&format!("uid-{index}"))))
        .collect();
    servers.iter().for_each(|(_, server)| server.touch("first"));
    let membership = Arc::new(StaticMembership::default());
    let before = resident();
    let connector = servers
        .iter()
        .fold(StaticConnector::default(), |connector, (name, server)| {
            connector.with_client(name.parse().unwrap(), server.client())
        });
    let (seen, mut reconciled) = mpsc::unbounded_channel();
    let members = Members::start(
        Arc::clone(&membership) as _,
        Arc::new(connector),
        None,
        None,
        MembersOptions::default(),
        &SystemClock::new(),
    );
    let controller = UniformController::<ConfigMap>::new(members.clone());
    let stop = CancellationToken::new();
    let running = tokio::spawn(controller.run(note, Arc::new(seen), stop.clone().cancelled_owned()));

    let start = Instant::now();
    servers
        .iter()
        .for_each(|(name, _)| membership.join(Member::new(name.parse().unwrap())));
    for _ in 0..MEMBERS {
        reconciled.recv().await.unwrap();
    }
    let cold = start.elapsed();
    let each = resident().saturating_sub(before) / MEMBERS;
    println!(
        "cold start of {MEMBERS} members to a reconcile on each: {:.2} s",
        cold.as_secs_f64()
    );
    println!("memory of a member: {each} KiB (no TLS: the servers are in this process)");

    let mut waits = Vec::with_capacity(EVENTS);
    for event in 0..EVENTS {
        let (name, server) = &servers[(event * 7919) % MEMBERS];
        let object = format!("object-{}", event % 3);
        let sent = Instant::now();
        server.touch(&object);
        let expected = format!("{name}/{object}");
        loop {
            let (found, at) = reconciled.recv().await.unwrap();
            if found == expected {
                waits.push(at - sent);
                break;
            }
        }
    }
    waits.sort_unstable();
    let (median, p99) = (waits[EVENTS / 2], waits[EVENTS * 99 / 100]);
    println!("event to reconcile at {MEMBERS} members: median {median:?}, p99 {p99:?}");

    // Everyone leaves and joins again, five times: what a member held is released.
    let settled = resident();
    for round in 1..=5 {
        servers
            .iter()
            .for_each(|(name, _)| membership.leave(&name.parse().unwrap()));
        members
            .engaged()
            .wait_for(|engaged| engaged.is_empty())
            .await
            .unwrap();
        let mut left = members.changes();
        while !members.statuses().is_empty() {
            left.changed().await.unwrap();
        }
        assert!(
            servers.iter().all(|(_, server)| server.watches() == 0),
            "a watch outlived its member"
        );
        servers
            .iter()
            .for_each(|(name, _)| membership.join(Member::new(name.parse().unwrap())));
        members
            .engaged()
            .wait_for(|engaged| engaged.len() == MEMBERS)
            .await
            .unwrap();
        println!(
            "resident after {round} rounds of leaving and joining: {} KiB more",
            resident().saturating_sub(settled)
        );
    }
    stop.cancel();
    running.await.unwrap();
    let grown = resident().saturating_sub(settled) / MEMBERS;

    assert!(cold < Duration::from_secs(60), "cold start took {cold:?}");
    assert!(each <= 256, "a member takes {each} KiB");
    assert!(grown <= 64, "a member leaves {grown} KiB behind");
    assert!(
        median <= Duration::from_millis(5) && p99 <= Duration::from_millis(20),
        "{median:?}, p99 {p99:?}"
    );
}
