//! What holds for every scale-down plan.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;

use jiff::Timestamp;
use kurator_fleet::scaling::{
    Blocker, DrainPolicy, Model, Object, ObjectName, PlanError, ScaleDown, ScaleDownPlan, Window, check,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: &str = "2026-11-23T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

#[derive(Clone, Debug)]
struct App {
    replicas: usize,
    cpu: u32,
    /// Kinds of rules, drawn.
    flavour: u8,
    budget: u8,
    unready: bool,
    first_node: usize,
}

fn app() -> impl Strategy<Value = App> {
    (
        1usize..6,
        1u32..9,
        0u8..20,
        0u8..12,
        prop::bool::weighted(0.1),
        0usize..12,
    )
        .prop_map(|(replicas, cpu, flavour, budget, unready, first_node)| App {
            replicas,
            cpu: cpu * 100,
            flavour,
            budget,
            unready,
            first_node,
        })
}

#[derive(Clone, Debug)]
struct Cluster {
    nodes: usize,
    odd: Vec<(usize, u8)>,
    apps: Vec<App>,
}

fn cluster() -> impl Strategy<Value = Cluster> {
    (
        3usize..12,
        prop::collection::vec((0usize..12, 0u8..8), 0..3),
        prop::collection::vec(app(), 1..14),
    )
        .prop_map(|(nodes, odd, apps)| Cluster { nodes, odd, apps })
}

fn worker(at: usize, odd: Option<u8>) -> Value {
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("n{at:02}"), "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {
            "kubernetes.io/hostname": format!("n{at:02}"),
            "topology.kubernetes.io/zone": format!("z{}", at % 3),
            "pool": if at.is_multiple_of(2) { "even" } else { "odd" },
        }, "annotations": {}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "4", "memory": "16Gi", "pods": "20"},
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-23T11:00:00Z"}],
        },
    });
    match odd {
        Some(0) => {
            node["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/scale-down-disabled"] =
                "true".into()
        }
        Some(1) => {
            node["spec"]["taints"] = json!([{"key": "dedicated", "value": "x", "effect": "NoSchedule"}])
        }
        Some(2) => node["spec"]["unschedulable"] = true.into(),
        Some(3) => node["status"]["conditions"][0]["status"] = "Unknown".into(),
        Some(4) => {
            node["status"]["conditions"][0]["status"] = "Unknown".into();
            node["metadata"]["labels"]["openyurt.io/is-edge-worker"] = "true".into();
        }
        Some(5) => node["metadata"]["annotations"]["cluster.x-k8s.io/delete-machine"] = "yes".into(),
        _ => {}
    }
    node
}

fn objects(cluster: &Cluster) -> Vec<Value> {
    let mut items: Vec<Value> = (0..cluster.nodes)
        .map(|at| {
            let odd = cluster
                .odd
                .iter()
                .find(|(place, _)| *place == at)
                .map(|(_, odd)| *odd);
            worker(at, odd)
        })
        .collect();
    let mut cpu = vec![0; cluster.nodes];
    for (number, app) in cluster.apps.iter().enumerate() {
        let name = format!("app{number:02}");
        let labels = json!({"app": name});
        let selector = json!({"matchLabels": {"app": name}});
        items.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
            "spec": {"replicas": app.replicas, "selector": selector, "template": {}},
        }));
        items.push(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": format!("{name}-rs"), "namespace": "default", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": "d", "controller": true}]},
            "spec": {"replicas": app.replicas, "selector": selector},
        }));
        for replica in 0..app.replicas {
            let Some(on) = (0..cluster.nodes)
                .map(|step| (app.first_node + replica * (1 + number % 3) + step) % cluster.nodes)
                .find(|on| cpu[*on] + app.cpu <= 4000)
            else {
                continue;
            };
            cpu[on] += app.cpu;
            let mut pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": format!("{name}-{replica}"), "namespace": "default", "uid": format!("{name}-{replica}-uid"),
                    "labels": labels, "annotations": {}, "ownerReferences": [
                        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{name}-rs"), "uid": "r", "controller": true}],
                },
                "spec": {
                    "nodeName": format!("n{on:02}"),
                    "containers": [{"name": "c", "resources": {"requests": {"cpu": format!("{}m", app.cpu), "memory": "256Mi"}}}],
                },
                "status": {"phase": "Running", "conditions": [
                    {"type": "Ready", "status": if app.unready && replica == 0 { "False" } else { "True" }}]},
            });
            let spread = |key: &str, skew: u32| {
                json!([{
                "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}])
            };
            match app.flavour {
                0 => pod["spec"]["nodeSelector"] = json!({"pool": "even"}),
                1 => {
                    pod["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}]}})
                }
                2 => pod["spec"]["topologySpreadConstraints"] = spread("topology.kubernetes.io/zone", 1),
                3 => pod["spec"]["topologySpreadConstraints"] = spread("kubernetes.io/hostname", 2),
                4 => pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8080}]),
                5 => drop(pod["metadata"].as_object_mut().unwrap().remove("ownerReferences")),
                6 => pod["spec"]["volumes"] = json!([{"name": "scratch", "emptyDir": {}}]),
                7 => pod["metadata"]["ownerReferences"][0]["kind"] = "DaemonSet".into(),
                8 => {
                    pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] =
                        "false".into()
                }
                9 => {
                    pod["spec"]["affinity"] = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"labelSelector": selector, "topologyKey": "topology.kubernetes.io/zone"}]}})
                }
                10 => pod["spec"]["tolerations"] = json!([{"key": "dedicated", "operator": "Exists"}]),
                11 => pod["status"]["phase"] = "Succeeded".into(),
                12 => {
                    pod["spec"]["volumes"] =
                        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "lost"}}])
                }
                13 => {
                    pod["spec"]["topologySpreadConstraints"] = spread("kubernetes.io/hostname", 1);
                    pod["spec"]["topologySpreadConstraints"][0]["nodeTaintsPolicy"] = "Honor".into();
                }
                14 => pod["spec"]["tolerations"] = json!([{"operator": "Exists"}]),
                _ => {}
            }
            items.push(pod);
        }
        let mut budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"selector": selector},
        });
        match app.budget {
            0..=2 => budget["spec"]["maxUnavailable"] = 1.into(),
            3 => budget["spec"]["maxUnavailable"] = "50%".into(),
            4 => budget["spec"]["minAvailable"] = 1.into(),
            5 => budget["spec"]["minAvailable"] = "60%".into(),
            6 => budget["spec"]["maxUnavailable"] = 0.into(),
            7 => {
                budget["spec"]["maxUnavailable"] = 2.into();
                budget["spec"]["unhealthyPodEvictionPolicy"] = "AlwaysAllow".into();
            }
            8 => {
                budget["spec"]["maxUnavailable"] = 1.into();
                let mut second = budget.clone();
                second["metadata"]["name"] = format!("{name}-second").into();
                items.push(second);
            }
            _ => continue,
        }
        items.push(budget);
    }
    items
}

fn read(items: &[Value]) -> Vec<Object> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    Object::from_json(list.to_string().as_bytes()).unwrap()
}

fn plan(objects: &[Object], request: &ScaleDown) -> ScaleDownPlan {
    let policy = DrainPolicy::default().with_max_parallel(3);
    Model::from_objects(objects)
        .unwrap()
        .plan_scale_down(request, &policy, now())
        .unwrap()
}

fn workers(items: &[Value]) -> i64 {
    i64::try_from(items.iter().filter(|item| item["kind"] == "Node").count()).unwrap()
}

fn request(items: &[Value], share: u8) -> ScaleDown {
    ScaleDown::remove(workers(items) * i64::from(share) / 10)
}

fn find<'a>(items: &'a mut [Value], kind: &str, name: &str) -> &'a mut Value {
    items
        .iter_mut()
        .find(|item| item["kind"] == kind && item["metadata"]["name"] == name)
        .unwrap()
}

/// Takes away what a blocker names, as its remedy says.
fn remove(blocker: &Blocker, node: &str, items: &mut Vec<Value>) {
    let drop_object = |items: &mut Vec<Value>, kind: &str, name: &ObjectName| {
        items.retain(|item| item["kind"] != kind || item["metadata"]["name"] != name.name.as_str());
    };
    let annotate = |items: &mut Vec<Value>, pod: &ObjectName, key: &str, value: Value| {
        find(items, "Pod", &pod.name)["metadata"]["annotations"][key] = value;
    };
    match blocker {
        Blocker::BudgetExhausted { budget, .. } | Blocker::BudgetSyncFailed { budget, .. } => {
            drop_object(items, "PodDisruptionBudget", budget);
        }
        Blocker::SeveralBudgets { budgets, .. } => {
            budgets
                .iter()
                .for_each(|budget| drop_object(items, "PodDisruptionBudget", budget));
        }
        // A node it fits on, without the rules that bind it to others.
        Blocker::NoRoom { pod, .. } => {
            let spec = find(items, "Pod", &pod.name)["spec"].as_object_mut().unwrap();
            spec.retain(|field, _| matches!(field.as_str(), "nodeName" | "containers"));
            let mut fresh = worker(items.len() + 100, None);
            fresh["metadata"]["labels"] = json!({});
            items.push(fresh);
        }
        Blocker::LocalStorage { pod, volume } => {
            let key = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
            annotate(items, pod, key, volume.as_str().into());
        }
        Blocker::Unreplicated { pod } => {
            annotate(
                items,
                pod,
                "cluster-autoscaler.kubernetes.io/safe-to-evict",
                "true".into(),
            );
        }
        Blocker::PodProtected { pod, annotation, .. } => annotate(items, pod, annotation, "".into()),
        // Of a toleration of everything, the only other taint there is stays tolerated.
        Blocker::ToleratesCordon { pod } => {
            let others = json!([{"key": "dedicated", "operator": "Exists"}]);
            find(items, "Pod", &pod.name)["spec"]["tolerations"] = others;
        }
        Blocker::VolumeUnknown { pod, .. } => find(items, "Pod", &pod.name)["spec"]["volumes"] = json!([]),
        Blocker::NodeKept { annotation } => {
            find(items, "Node", node)["metadata"]["annotations"][annotation] = "false".into();
        }
        Blocker::NodeNotReady { .. } | Blocker::EdgeDisconnected { .. } => {
            find(items, "Node", node)["status"]["conditions"][0]["status"] = "True".into();
        }
        Blocker::ClusterUnhealthy { .. } => {
            for item in items.iter_mut().filter(|item| item["kind"] == "Node") {
                item["status"]["conditions"][0]["status"] = "True".into();
            }
        }
        // The test names the node instead of asking for a number.
        Blocker::NotNeeded { .. } => {}
        other => panic!("not drawn: {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_checker_accepts_every_plan(cluster in cluster(), share in 1u8..9) {
        let items = objects(&cluster);
        let objects = read(&items);
        let plan = plan(&objects, &request(&items, share));
        let notes = check::check(&plan, &objects, now());
        prop_assert!(notes.permits(), "{notes}\n{plan}");
    }

    #[test]
    fn the_order_of_the_input_changes_no_byte(
        (items, shuffled) in cluster().prop_map(|cluster| objects(&cluster)).prop_flat_map(|items| {
            (Just(items.clone()), Just(items).prop_shuffle())
        }),
        share in 1u8..9,
    ) {
        let request = request(&items, share);
        let plans = [plan(&read(&items), &request), plan(&read(&shuffled), &request)];
        prop_assert_eq!(serde_json::to_string(&plans[0]).unwrap(), serde_json::to_string(&plans[1]).unwrap());
        prop_assert_eq!(plans[0].to_string(), plans[1].to_string());
    }

    #[test]
    fn a_model_kept_by_deltas_plans_as_a_new_one(cluster in cluster(), share in 1u8..9, gone in 0usize..40) {
        let items = objects(&cluster);
        let objects = read(&items);
        let mut model = Model::new();
        // Every object twice, and some come and go.
        for object in objects.iter().rev().chain(&objects) {
            model.upsert(object).unwrap();
        }
        let gone = gone % objects.len();
        model.remove(&objects[gone]);
        model.upsert(&objects[gone]).unwrap();
        let policy = DrainPolicy::default().with_max_parallel(3);
        let request = request(&items, share);
        prop_assert_eq!(model.plan_scale_down(&request, &policy, now()).unwrap(), plan(&objects, &request));
    }

    #[test]
    fn taking_away_what_keeps_a_node_frees_it(cluster in cluster(), share in 1u8..9) {
        let items = objects(&cluster);
        let plan_before = plan(&read(&items), &request(&items, share));
        for skipped in &plan_before.skipped {
            let mut items = items.clone();
            skipped.blockers.iter().for_each(|blocker| remove(blocker, &skipped.node, &mut items));
            let after = plan(&read(&items), &ScaleDown::nodes([skipped.node.clone()]));
            prop_assert_eq!(
                &after.remove, &vec![skipped.node.clone()],
                "{}: {}\nnow {}", skipped.node, skipped.detail(), after
            );
        }
    }

    #[test]
    fn every_considered_node_is_in_the_plan_once(cluster in cluster(), share in 1u8..9) {
        let items = objects(&cluster);
        let plan = plan(&read(&items), &request(&items, share));
        let all: Vec<&str> = plan.remove.iter().map(String::as_str).chain(plan.skipped.iter().map(|one| &*one.node)).collect();
        let distinct: BTreeSet<&str> = all.iter().copied().collect();
        prop_assert_eq!(all.len(), distinct.len());
        prop_assert_eq!(distinct.len() as i64, workers(&items));
        // What was packed is optimal for so few nodes; a node may still need a wave of its own to find room.
        prop_assert!(plan.waves.len() <= plan.bound.waves as usize + 1);
    }

    #[test]
    fn the_checker_refuses_what_was_tampered_with(cluster in cluster(), share in 3u8..9, which in 0usize..1000) {
        let items = objects(&cluster);
        let objects = read(&items);
        let plan = plan(&objects, &request(&items, share));
        let refused = |mutant: &ScaleDownPlan| !check::check(mutant, &objects, now()).permits();

        let mut mutant = plan.clone();
        mutant.bound.waves = u32::try_from(plan.waves.len() + 1).unwrap();
        prop_assert!(refused(&mutant));

        let moves = plan.moves().count();
        if moves == 0 {
            return Ok(());
        }
        let target = which % moves;
        let change = |edit: &dyn Fn(&mut ScaleDownPlan, usize, usize, usize)| {
            let mut mutant = plan.clone();
            let mut left = target;
            for wave in 0..plan.waves.len() {
                for node in 0..plan.waves[wave].nodes.len() {
                    let len = plan.waves[wave].nodes[node].moves.len();
                    if left < len {
                        edit(&mut mutant, wave, node, left);
                        return mutant;
                    }
                    left -= len;
                }
            }
            unreachable!()
        };
        let lost = change(&|plan, wave, node, at| drop(plan.waves[wave].nodes[node].moves.remove(at)));
        prop_assert!(refused(&lost), "a pod left behind");
        let twice = change(&|plan, wave, node, at| {
            let again = plan.waves[wave].nodes[node].moves[at].clone();
            plan.waves[wave].nodes[node].moves.push(again);
        });
        prop_assert!(refused(&twice), "a pod moved twice");
        let onto_victim = change(&|plan, wave, node, at| {
            let victim = plan.remove[0].clone();
            plan.waves[wave].nodes[node].moves[at].to = victim;
        });
        prop_assert!(refused(&onto_victim), "a pod sent to a node that goes");
        let nowhere = change(&|plan, wave, node, at| plan.waves[wave].nodes[node].moves[at].to = "nowhere".into());
        prop_assert!(refused(&nowhere), "a pod sent nowhere");
        let other_pod = change(&|plan, wave, node, at| plan.waves[wave].nodes[node].moves[at].uid = "other".into());
        prop_assert!(refused(&other_pod), "another pod of the name");
        let unlisted = change(&|plan, _, _, _| drop(plan.remove.remove(0)));
        prop_assert!(refused(&unlisted), "a node drained and not removed");
    }
}

/// Four empty nodes and a pod with a budget on each of two others.
fn quiet() -> Vec<Value> {
    let apps = vec![App {
        replicas: 2,
        cpu: 100,
        flavour: 19,
        budget: 0,
        unready: false,
        first_node: 0,
    }];
    objects(&Cluster {
        nodes: 6,
        odd: Vec::new(),
        apps,
    })
}

#[test]
fn outside_its_windows_nothing_is_planned_and_the_plan_says_when_to_look_again() {
    let six_hours = std::time::Duration::from_secs(6 * 3600);
    let policy = DrainPolicy::default().with_window(Window::open("0 22 * * *", six_hours).unwrap());
    let items = quiet();
    let model = Model::from_objects(&read(&items)).unwrap();
    let at = |time: &str| {
        model
            .plan_scale_down(&ScaleDown::remove(2), &policy, time.parse().unwrap())
            .unwrap()
    };
    let day = at("2026-11-23T12:00:00Z");
    assert!(day.remove.is_empty());
    assert_eq!(day.blocked_until, "2026-11-23T22:00:00Z".parse().ok());
    assert!(
        day.skipped
            .iter()
            .all(|skipped| skipped.reason() == "WindowClosed"),
        "{day}"
    );
    let night = at("2026-11-23T23:00:00Z");
    assert_eq!(night.remove.len(), 2);
    assert_eq!(night.blocked_until, None);
    assert_eq!(night.closes, "2026-11-24T04:00:00Z".parse().ok());
}

#[test]
fn only_waves_that_start_before_the_window_closes_are_planned() {
    let hour = std::time::Duration::from_secs(3600);
    let policy = DrainPolicy::default()
        .with_max_parallel(1)
        .with_window(Window::open("0 22 * * *", hour).unwrap());
    let objects = read(&quiet());
    let model = Model::from_objects(&objects).unwrap();
    // A round takes thirty seconds: two waves begin in the last forty-five.
    let now = "2026-11-23T22:59:15Z".parse().unwrap();
    let plan = model
        .plan_scale_down(&ScaleDown::remove(4), &policy, now)
        .unwrap();
    assert_eq!(
        (plan.waves.len(), plan.remove.len(), plan.bound.waves),
        (2, 2, 2),
        "{plan}"
    );
    let late = plan
        .skipped
        .iter()
        .filter(|skipped| skipped.reason() == "WindowTooShort")
        .count();
    assert_eq!(late, 2, "{plan}");
    assert!(check::check(&plan, &objects, now).permits());
}

#[test]
fn a_desired_number_is_held_against_the_quota() {
    let model = Model::from_objects(&read(&quiet())).unwrap();
    let policy = DrainPolicy::default();
    let ask = |request: ScaleDown| model.plan_scale_down(&request, &policy, now());
    assert_eq!(ask(ScaleDown::to(5).within(5)).unwrap().remove.len(), 1);
    assert_eq!(
        ask(ScaleDown::to(9).within(8)).unwrap_err(),
        PlanError::AboveQuota { desired: 9, quota: 8 }
    );
    assert_eq!(
        ask(ScaleDown::to(7).within(8)).unwrap_err(),
        PlanError::NotBelow { desired: 7, nodes: 6 }
    );
    assert_eq!(
        ask(ScaleDown::to(-1)).unwrap_err(),
        PlanError::Negative {
            field: "desired",
            value: -1
        }
    );
}
