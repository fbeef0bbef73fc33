//! What holds when clusters are lost and come back, whatever else happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Toleration;
use kurator_core::names::ClusterName;
use kurator_core::observe::{ClusterView, Health, ResourceSummary, Snapshot, Taint, TaintEffect};
use kurator_core::quantity::Quantity;
use kurator_policy::api::Placement;
use kurator_policy::failover::edge::LostEdge;
use kurator_policy::failover::{
    Action, AppFacts, AppInCluster, ClusterFacts, DisruptionGuard, FailoverRules, Planned, Purge, Request,
    TAINT_UNREACHABLE, check, plan,
};
use kurator_policy::placement::{self, FleetIndex, PlanOptions, Workload};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

fn at(seconds: i64) -> Timestamp {
    "2026-01-02T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn name(n: usize) -> ClusterName {
    format!("c{n}").parse().unwrap()
}

fn tainted(since: i64) -> ClusterFacts {
    let taint = Taint::new("unreachable", TaintEffect::NoExecute).with_time_added(at(since));
    ClusterFacts::new(Health::unknown("Timeout").since(at(since))).with_taint(taint)
}

/// Found to be out of reach by us.
fn unreachable(since: i64) -> ClusterFacts {
    let taint = Taint::new(TAINT_UNREACHABLE, TaintEffect::NoExecute).with_time_added(at(since));
    ClusterFacts::new(Health::unknown("Timeout").since(at(since))).with_taint(taint)
}

fn well(since: i64) -> ClusterFacts {
    ClusterFacts::new(Health::ready().since(at(since)))
}

fn decide(
    apps: &BTreeMap<String, AppFacts>,
    clusters: &BTreeMap<ClusterName, ClusterFacts>,
    now: i64,
) -> Planned {
    let request = Request {
        apps,
        clusters,
        pace: SignedDuration::ZERO,
        guard: DisruptionGuard::default(),
        last_eviction: None,
        now: at(now),
    };
    let planned = plan(&request);
    assert_eq!(check(&request, &planned), [], "{planned}");
    planned
}

fn one(app: AppFacts) -> BTreeMap<String, AppFacts> {
    BTreeMap::from([("app".to_owned(), app)])
}

fn printed(planned: &Planned) -> Vec<String> {
    planned.actions.iter().map(ToString::to_string).collect()
}

#[test]
fn a_taint_is_tolerated_for_the_seconds_that_are_given() {
    let toleration = |seconds: Option<i64>| Toleration {
        key: Some("unreachable".to_owned()),
        operator: Some("Exists".to_owned()),
        toleration_seconds: seconds,
        ..Toleration::default()
    };
    let clusters = BTreeMap::from([(name(0), tainted(0))]);
    let app = |seconds: &[Option<i64>]| {
        let app = AppFacts::new(1, FailoverRules::default()).with_cluster(name(0), AppInCluster::ready(1));
        one(seconds
            .iter()
            .fold(app, |app, seconds| app.with_toleration(toleration(*seconds))))
    };
    // Of several tolerations the shortest counts.
    let patient = app(&[Some(300), Some(60), None]);
    let planned = decide(&patient, &clusters, 59);
    assert_eq!((planned.actions.len(), planned.wake_at), (0, Some(at(60))));
    assert_eq!(
        planned.reasons.to_string(),
        "app in c0  Tolerated: the cluster has the taint unreachable:NoExecute; tolerated until 2026-01-02T00:01:00Z\n"
    );
    assert_eq!(decide(&patient, &clusters, 60).actions.len(), 1);
    assert_eq!(decide(&app(&[None]), &clusters, 100_000).actions, []);
    assert_eq!(decide(&app(&[]), &clusters, 0).actions.len(), 1);
}

#[test]
fn a_graceful_eviction_waits_for_what_replaces_it_or_for_its_grace() {
    let clusters = BTreeMap::from([(name(0), tainted(0)), (name(1), well(-9000))]);
    let mut app = AppFacts::new(4, FailoverRules::default()).with_cluster(name(0), AppInCluster::ready(4));
    let planned = decide(&one(app.clone()), &clusters, 0);
    assert_eq!(
        printed(&planned),
        ["app leaves c0: the cluster has the taint unreachable:NoExecute"]
    );
    app.evictions = planned.evictions["app"].clone();
    app.clusters.insert(name(1), AppInCluster::ready(3));
    let waiting = decide(&one(app.clone()), &clusters, 30);
    assert_eq!((waiting.actions.len(), waiting.wake_at), (0, Some(at(600))));
    assert_eq!(
        printed(&decide(&one(app.clone()), &clusters, 600)),
        ["app is taken out of c0"]
    );
    app.clusters.insert(name(1), AppInCluster::ready(4));
    assert_eq!(
        printed(&decide(&one(app.clone()), &clusters, 30)),
        ["app is taken out of c0"]
    );
    // Directly means first out, then in; never means when the user says so.
    app.evictions.clear();
    app.rules.cluster_purge = Purge::Directly;
    let direct = decide(&one(app.clone()), &clusters, 30);
    assert_eq!(printed(&direct)[1], "app is taken out of c0");
    app.rules.cluster_purge = Purge::Never;
    let kept = decide(&one(app.clone()), &clusters, 30);
    app.evictions = kept.evictions["app"].clone();
    assert_eq!(
        printed(&decide(&one(app.clone()), &clusters, 90_000)),
        Vec::<String>::new()
    );
    app.evictions.get_mut(&name(0)).unwrap().released = true;
    assert_eq!(
        printed(&decide(&one(app), &clusters, 90_001)),
        ["app is taken out of c0"]
    );
}

#[test]
fn an_unhealthy_workload_leaves_only_where_that_is_asked_for_and_returns_after_the_window() {
    let clusters = BTreeMap::from([(name(0), well(-9000))]);
    let mut app =
        AppFacts::new(2, FailoverRules::default()).with_cluster(name(0), AppInCluster::unhealthy(2, at(0)));
    assert_eq!(decide(&one(app.clone()), &clusters, 9000).actions, []);
    app.rules.application = true;
    assert_eq!(decide(&one(app.clone()), &clusters, 299).wake_at, Some(at(300)));
    let planned = decide(&one(app.clone()), &clusters, 300);
    assert_eq!(
        printed(&planned),
        ["app leaves c0: it has been unhealthy there since 2026-01-02T00:00:00Z"]
    );
    app.evictions = planned.evictions["app"].clone();
    app.clusters.clear();
    let away = decide(&one(app.clone()), &clusters, 899);
    assert_eq!((away.actions.len(), away.wake_at), (0, Some(at(900))));
    assert_eq!(
        printed(&decide(&one(app), &clusters, 900)),
        ["app may return to c0"]
    );
}

#[test]
fn when_most_clusters_are_out_of_reach_nothing_leaves_but_for_somebodys_word() {
    let app = |cluster: usize| {
        AppFacts::new(1, FailoverRules::default()).with_cluster(name(cluster), AppInCluster::ready(1))
    };
    let apps = BTreeMap::from([("a".to_owned(), app(0)), ("b".to_owned(), app(1))]);
    let mut clusters = BTreeMap::from([
        (name(0), unreachable(0)),
        (name(1), unreachable(0)),
        (name(2), unreachable(0)),
        (name(3), well(-9000)),
    ]);
    let planned = decide(&apps, &clusters, 90_000);
    assert_eq!((planned.actions.len(), planned.held), (0, 2));
    assert_eq!(
        planned.reasons.to_string().lines().next(),
        Some(
            "a in c0  FleetDisrupted: the cluster has the taint cluster.kurator.dev/unreachable:NoExecute, and 3 of 4 \
             clusters are not ready; it stays, as it may be us who are cut off: taint the cluster if it is lost"
        )
    );
    // Somebody knows that one of them is lost.
    let known = clusters[&name(0)]
        .clone()
        .with_taint(Taint::new("lost", TaintEffect::NoExecute));
    clusters.insert(name(0), known);
    let planned = decide(&apps, &clusters, 90_000);
    assert_eq!(
        printed(&planned),
        ["a leaves c0: the cluster has the taint lost:NoExecute"]
    );
    // Half of the fleet is no disruption.
    clusters.insert(name(2), well(0));
    assert_eq!(decide(&apps, &clusters, 90_000).actions.len(), 2);
    // Nowhere is anybody left.
    let last = BTreeMap::from([(name(1), unreachable(0))]);
    assert_eq!(decide(&one(app(1)), &last, 90_000).held, 1);
}

#[test]
fn nothing_touches_replicas_on_edge_nodes_that_run_on() {
    let clusters = BTreeMap::from([(name(0), tainted(0))]);
    let edge = |lost: LostEdge| {
        let mut app = AppFacts::new(3, FailoverRules::default());
        app.rules.lost_edge = lost;
        app.rules.application = true;
        let mut there = AppInCluster::ready(3).presuming(3, at(0));
        there.unhealthy_since = Some(at(0));
        one(app.with_cluster(name(0), there))
    };
    assert_eq!(decide(&edge(LostEdge::Wait), &clusters, 90_000).actions, []);
    assert_eq!(
        decide(&edge(LostEdge::ReplaceAfterSeconds(60)), &clusters, 59).wake_at,
        Some(at(60))
    );
    let mut apps = edge(LostEdge::ReplaceAfterSeconds(60));
    let planned = decide(&apps, &clusters, 60);
    assert_eq!(
        printed(&planned),
        ["app leaves c0: its edge nodes have been cut off since 2026-01-02T00:00:00Z"]
    );
    // It is replaced, and taken out there only once the nodes are back.
    apps.get_mut("app").unwrap().evictions = planned.evictions["app"].clone();
    let later = decide(&apps, &clusters, 90_000);
    assert_eq!(later.actions, []);
    assert!(
        later
            .reasons
            .to_string()
            .contains("DeferredAtEdge: 3 replicas are presumed to run"),
        "{later}"
    );
    let app = apps.get_mut("app").unwrap();
    app.clusters.insert(name(0), AppInCluster::ready(3));
    assert_eq!(
        printed(&decide(&apps, &clusters, 90_000)),
        ["app is taken out of c0"]
    );
}

#[test]
fn evictions_are_paced_and_the_longest_due_comes_first() {
    let clusters = BTreeMap::from([(name(0), tainted(0)), (name(1), tainted(-50))]);
    let app = |cluster: usize| {
        AppFacts::new(1, FailoverRules::default()).with_cluster(name(cluster), AppInCluster::ready(1))
    };
    let apps = BTreeMap::from([
        ("a".to_owned(), app(0)),
        ("b".to_owned(), app(1)),
        ("c".to_owned(), app(0)),
    ]);
    let request = Request {
        apps: &apps,
        clusters: &clusters,
        pace: SignedDuration::from_secs(2),
        guard: DisruptionGuard::default(),
        last_eviction: Some(at(9)),
        now: at(11),
    };
    let planned = plan(&request);
    assert_eq!(check(&request, &planned), []);
    assert_eq!(
        printed(&planned),
        ["b leaves c1: the cluster has the taint unreachable:NoExecute"]
    );
    assert_eq!(planned.wake_at, Some(at(13)));
    let early = Request {
        now: at(10),
        ..request
    };
    assert_eq!(
        (plan(&early).actions.len(), plan(&early).wake_at),
        (0, Some(at(11)))
    );
}

/// A fleet of clusters with room, of which some are lost.
fn fleet(rooms: &[i64], lost: &[bool]) -> Snapshot {
    rooms
        .iter()
        .zip(lost)
        .enumerate()
        .fold(Snapshot::new(at(0)), |fleet, (n, (&room, &lost))| {
            let sums = ResourceSummary::default().with_allocatable("pods", Quantity::from_units(room));
            let view = ClusterView::new(name(n))
                .with_resources(sums)
                .with_health(Health::ready());
            fleet.with_cluster(if lost {
                view.with_taint(Taint::new("unreachable", TaintEffect::NoExecute))
            } else {
                view
            })
        })
}

fn packed() -> BTreeMap<String, Placement> {
    let policy = json!({ "replicaScheduling": { "replicaDivisionPreference": "Aggregated" } });
    BTreeMap::from([("p".to_owned(), serde_json::from_value(policy).unwrap())])
}

/// Evicts, and places anew together.
fn fail_over(apps: &BTreeMap<String, AppFacts>, planned: &Planned, fleet: &Snapshot) -> placement::Planned {
    let workloads: Vec<Workload> = apps
        .iter()
        .map(|(name, app)| {
            Workload::new(name, "apps/v1", "Deployment")
                .with_policy("p")
                .with_replicas(app.wanted)
        })
        .collect();
    let running = apps
        .iter()
        .map(|(name, app)| (name.clone(), planned.running(name, app)))
        .collect();
    placement::plan(
        &FleetIndex::new(fleet),
        &workloads,
        &packed(),
        &running,
        at(0),
        &PlanOptions::default(),
    )
}

#[test]
fn fifteen_workloads_fail_over_into_the_room_there_is() {
    let app = || AppFacts::new(1, FailoverRules::default()).with_cluster(name(0), AppInCluster::ready(1));
    let apps: BTreeMap<String, AppFacts> = (0..15).map(|n| (format!("app-{n:02}"), app())).collect();
    let clusters = BTreeMap::from([(name(0), tainted(0)), (name(1), well(0)), (name(2), well(0))]);
    let planned = decide(&apps, &clusters, 0);
    assert_eq!(planned.actions.len(), 15);
    let placed = fail_over(&apps, &planned, &fleet(&[100, 10, 5], &[true, false, false]));
    let on = |cluster: &str| -> u32 {
        placed
            .placements
            .values()
            .flatten()
            .map(|placed| placed.replicas_in(cluster))
            .sum()
    };
    assert_eq!((on("c0"), on("c1"), on("c2")), (0, 10, 5));
}

#[derive(Clone, Debug)]
struct Drawn {
    wanted: u32,
    purge: u8,
    seconds: Option<i64>,
    there: Vec<(u8, u32, u32, bool)>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let there = vec((0..4_u8, 0..5_u32, 0..5_u32, any::<bool>()), 0..3);
    (0..8_u32, 0..3_u8, prop::option::of(-5..200_i64), there).prop_map(|(wanted, purge, seconds, there)| {
        Drawn {
            wanted,
            purge,
            seconds,
            there,
        }
    })
}

fn facts(drawn: &Drawn) -> AppFacts {
    let mut rules = FailoverRules::default();
    rules.cluster_purge = [Purge::Directly, Purge::Gracefully, Purge::Never][usize::from(drawn.purge)];
    rules.application = drawn.wanted.is_multiple_of(2);
    let mut app = AppFacts::new(drawn.wanted, rules);
    if let Some(seconds) = drawn.seconds {
        app = app.with_toleration(Toleration {
            operator: Some("Exists".to_owned()),
            toleration_seconds: Some(seconds),
            ..Toleration::default()
        });
    }
    for &(cluster, ready, presumed, unhealthy) in &drawn.there {
        let mut there = AppInCluster::ready(ready + presumed);
        if presumed > 0 {
            there = there.presuming(presumed, at(-100));
        }
        if unhealthy {
            there.ready /= 2;
            there.unhealthy_since = Some(at(-200));
        }
        app = app.with_cluster(name(usize::from(cluster)), there);
    }
    app
}

proptest! {
    #[test]
    fn no_plan_breaks_a_promise_over_time(
        apps in vec(drawn(), 1..5), weather in vec(vec(prop::bool::weighted(0.7), 4), 1..12), pace in 0..40_i64,
        verdicts in any::<bool>(),
    ) {
        let mut apps: BTreeMap<String, AppFacts> =
            apps.iter().enumerate().map(|(n, drawn)| (format!("app{n}"), facts(drawn))).collect();
        let ill = if verdicts { unreachable } else { tainted };
        let mut since = [0_i64; 4];
        let mut before = vec![true; 4];
        let mut last = None;
        for (step, today) in weather.iter().enumerate() {
            let now = i64::try_from(step).unwrap() * 120;
            for (n, (&was, &is)) in before.iter().zip(today).enumerate() {
                if was != is {
                    since[n] = now;
                }
            }
            before.clone_from(today);
            let clusters: BTreeMap<ClusterName, ClusterFacts> = today
                .iter()
                .enumerate()
                .map(|(n, &fine)| (name(n), if fine { well(since[n]) } else { ill(since[n]) }))
                .collect();
            let request = Request { apps: &apps, clusters: &clusters, pace: SignedDuration::from_secs(pace), guard: DisruptionGuard::default(), last_eviction: last, now: at(now) };
            let planned = plan(&request);
            prop_assert_eq!(check(&request, &planned), vec![], "{}", planned);
            prop_assert!(planned.wake_at.is_none_or(|wake| wake > at(now)));
            let actions = planned.actions.clone();
            let evictions = planned.evictions.clone();
            for action in actions {
                match action {
                    Action::Evict { .. } => last = Some(at(now)),
                    Action::Purge { app, cluster } => {
                        prop_assert!(apps.get_mut(&app).unwrap().clusters.remove(&cluster).is_some());
                    }
                    Action::Forget { app, cluster } => {
                        // Nothing comes back to a cluster that was lost within the window.
                        let n = usize::from(cluster.as_str().as_bytes()[1] - b'0');
                        prop_assert!(today[n] && now - since[n] >= 600, "{app} to {cluster} at {now}");
                    }
                    _ => {}
                }
            }
            for (name, app) in &mut apps {
                app.evictions = evictions.get(name).cloned().unwrap_or_default();
            }
        }
    }

    #[test]
    fn what_fails_over_never_takes_more_room_than_there_is(
        wanted in vec(1..4_u32, 1..20), rooms in vec(0..12_i64, 4), lost in vec(any::<bool>(), 4),
    ) {
        let apps: BTreeMap<String, AppFacts> = wanted
            .iter()
            .enumerate()
            .map(|(n, &wanted)| {
                let app = AppFacts::new(wanted, FailoverRules::default()).with_cluster(name(n % 4), AppInCluster::ready(wanted));
                (format!("app{n:02}"), app)
            })
            .collect();
        let clusters = lost.iter().enumerate().map(|(n, &lost)| (name(n), if lost { tainted(0) } else { well(0) })).collect();
        let planned = decide(&apps, &clusters, 0);
        let placed = fail_over(&apps, &planned, &fleet(&rooms, &lost));
        for (n, (&room, &lost)) in rooms.iter().zip(&lost).enumerate() {
            let cluster = name(n);
            let fresh: u32 = placed
                .placements
                .iter()
                .filter_map(|(app, placed)| {
                    let here = placed.as_ref().ok()?.replicas_in(cluster.as_str());
                    let before = apps[app].clusters.get(&cluster).map_or(0, |there| there.replicas);
                    Some(if lost { here } else { here.saturating_sub(before) })
                })
                .sum();
            let most = if lost { 0 } else { room };
            prop_assert!(i64::from(fresh) <= most);
        }
    }
}
