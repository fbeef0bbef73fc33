//! What the server-side applier writes, and what it leaves alone, held against a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod ground;

use ground::{Ground, outcomes};
use kube::{
    Client,
    api::{DynamicObject, Patch, PatchParams},
};
use kurator_core::apply::ObjectOutcome;
use kurator_envtest::{Fleet, MemberSpec};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};

/// Requests that change something, as the server counted them.
async fn writes(client: &Client) -> u64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = client.request_text(request).await.unwrap();
    let verbs = ["APPLY", "PATCH", "POST", "PUT", "DELETE"].map(|verb| format!("verb=\"{verb}\""));
    metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter(|line| verbs.iter().any(|verb| line.contains(verb)))
        // The server writes a few objects of its own; these kinds only the test writes.
        .filter(|line| {
            KINDS
                .iter()
                .any(|(_, plural)| line.contains(&format!("resource=\"{plural}\"")))
        })
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() as u64)
        .sum()
}

/// Kinds whose values the server completes or rewrites, and their resources.
const KINDS: [(&str, &str); 9] = [
    ("Deployment", "deployments"),
    ("StatefulSet", "statefulsets"),
    ("Job", "jobs"),
    ("CronJob", "cronjobs"),
    ("Secret", "secrets"),
    ("Ingress", "ingresses"),
    ("NetworkPolicy", "networkpolicies"),
    ("HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("PodDisruptionBudget", "poddisruptionbudgets"),
];

fn one_of_each(ground: &Ground) -> Vec<Value> {
    let template = ground.deployment(1)["spec"]["template"].clone();
    let mut job = template.clone();
    job["spec"]["restartPolicy"] = "Never".into();
    let selector = json!({"matchLabels": {"app": "web"}});
    let object = |api_version: &str, kind: &str, spec: Value| {
        json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {"name": "web", "namespace": ground.namespace}, "spec": spec,
        })
    };
    vec![
        ground.deployment(2),
        object(
            "apps/v1",
            "StatefulSet",
            json!({
                "selector": selector, "template": template, "serviceName": "web",
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}},
                }}],
            }),
        ),
        object("batch/v1", "Job", json!({"template": job})),
        object(
            "batch/v1",
            "CronJob",
            json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": job}}}),
        ),
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "web", "namespace": ground.namespace}, "stringData": {"a": "b"},
        }),
        object(
            "networking.k8s.io/v1",
            "Ingress",
            json!({"rules": [{"host": "a.example", "http": {"paths": [{
                "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}},
            }]}}]}),
        ),
        object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}], "from": [{"podSelector": {}}]}]}),
        ),
        object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({
                "maxReplicas": 3,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
                }}],
            }),
        ),
        object(
            "policy/v1",
            "PodDisruptionBudget",
            json!({"selector": selector, "minAvailable": "50%"}),
        ),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": ground.namespace},
            "spec": {"selector": {"app": "web"}, "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}, {"name": "http", "port": 80},
            ]},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "web", "namespace": ground.namespace},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        }),
    ]
}

#[tokio::test]
async fn a_second_pass_over_what_is_in_place_writes_nothing() {
    let fleet = Fleet::builder()
        .member(MemberSpec::new("member"))
        .start()
        .await
        .unwrap();
    let client = fleet.member("member").unwrap().client().unwrap();
    let mut ground = Ground::over(client.clone());
    let objects = one_of_each(&ground);
    let report = ground.apply(objects.clone()).await;
    assert!(report.is_complete(), "{report}");
    assert!(
        report
            .objects
            .iter()
            .all(|it| it.outcome == ObjectOutcome::Created),
        "{report}"
    );

    let before = writes(&client).await;
    assert!(before >= KINDS.len() as u64, "{before} writes counted");
    let second = ground.apply(objects.clone()).await;
    assert!(second.is_unchanged() && second.is_complete(), "{second}");
    // Another process, with nothing in its memory.
    ground = Ground {
        namespace: ground.namespace,
        ..Ground::over(client.clone())
    };
    let third = ground.apply(objects).await;
    assert!(third.is_unchanged() && third.is_complete(), "{third}");
    assert_eq!(writes(&client).await, before);
}

#[tokio::test]
async fn what_was_edited_is_set_back_and_what_others_added_stays() {
    let ground = Ground::new();
    ground.place([ground.deployment(2)]).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
    for (drift, path) in [
        (json!({"spec": {"replicas": 7}}), "/spec/replicas"),
        (json!({"spec": {"replicas": null}}), "/spec/replicas"),
        (
            json!({"metadata": {"labels": {"app": "other"}}}),
            "/metadata/labels/app",
        ),
        (
            json!({"metadata": {"labels": {"kurator.dev/owner": null}}}),
            "/metadata/labels/kurator.dev~1owner",
        ),
        (
            json!({"metadata": {"annotations": {"kurator.dev/applied-hash": "0"}}}),
            "/metadata/annotations",
        ),
    ] {
        let before = ground.get("apps/v1", "Deployment", "web").await.unwrap();
        let mut edit = target.clone();
        for (key, value) in drift.as_object().unwrap() {
            if key == "metadata" {
                edit["metadata"]
                    .as_object_mut()
                    .unwrap()
                    .extend(value.as_object().unwrap().clone());
            } else {
                edit[key] = value.clone();
            }
        }
        ground.write("kubectl-edit", false, edit).await;
        let report = ground.apply([ground.deployment(2)]).await;
        assert_eq!(outcomes(&report), [("web", "Updated")], "{drift}");
        let after = ground.get("apps/v1", "Deployment", "web").await.unwrap();
        let at = |object: &DynamicObject| serde_json::to_value(object).unwrap().pointer(path).cloned();
        assert_eq!(at(&after), at(&before), "{drift}");
    }
    // A label of somebody else, and a sidecar, are none of our business.
    let mut edit = target;
    edit["metadata"]["labels"] = json!({"team": "a"});
    ground.write("kubectl-edit", false, edit).await;
    let report = ground.apply([ground.deployment(2)]).await;
    assert_eq!(outcomes(&report), [("web", "Unchanged")]);
}

#[tokio::test]
async fn a_changed_set_is_followed_and_a_dropped_field_goes() {
    let ground = Ground::new();
    ground.place([ground.config_map("a", "1")]).await;
    let mut changed = ground.config_map("a", "2");
    changed["data"] = json!({"other": "3"});
    let report = ground.apply([changed]).await;
    assert_eq!(outcomes(&report), [("a", "Updated")]);
    let live = ground.get("v1", "ConfigMap", "a").await.unwrap();
    assert_eq!(live.data["data"], json!({"other": "3"}));
}

/// Edits that people and controllers make, each of some field that is wanted or of none.
fn edits() -> Vec<Value> {
    let container = |fields: Value| {
        let mut container = json!({"name": "web"});
        container
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({"spec": {"template": {"spec": {"containers": [container]}}}})
    };
    vec![
        json!({"spec": {"replicas": 5}}),
        json!({"spec": {"replicas": null}}),
        json!({"spec": {"paused": true}}),
        json!({"spec": {"minReadySeconds": 3}}),
        json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}),
        json!({"metadata": {"labels": {"app": "other"}}}),
        json!({"metadata": {"labels": {"app": null}}}),
        json!({"metadata": {"labels": {"kurator.dev/owner": null, "kurator.dev/hub": null}}}),
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"annotations": {"note": "x"}}}),
        json!({"metadata": {"annotations": {"kurator.dev/applied-hash": null}}}),
        container(json!({"image": "web:2"})),
        container(json!({"args": ["--debug"]})),
        container(json!({"env": [{"name": "A", "value": "b"}]})),
        container(json!({"ports": [{"containerPort": 80, "hostPort": 8080}]})),
        container(json!({"ports": [{"containerPort": 80, "$patch": "delete"}]})),
        container(json!({"ports": [{"containerPort": 81}]})),
        container(json!({"resources": {"requests": {"cpu": "2"}}})),
        container(json!({"resources": {"requests": {"cpu": null}}})),
        container(json!({"resources": {"limits": {"cpu": "4"}}})),
        json!({"spec": {"template": {"spec": {"containers": [{"name": "sidecar", "image": "s"}]}}}}),
        json!({"spec": {"template": {"spec": {"containers": [
            {"name": "other", "image": "o"}, {"name": "web", "$patch": "delete"},
        ]}}}}),
        json!({"spec": {"template": {"metadata": {"labels": {"more": "x"}}}}}),
    ]
}

/// Whether everything wanted is in the object: lists by name or port, the rest by value.
fn holds(live: &Value, wanted: &Value) -> bool {
    let key = |item: &Value| item.get("name").or_else(|| item.get("containerPort")).cloned();
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, value)| live.get(name).is_some_and(|it| holds(it, value))),
        (Value::Array(live), Value::Array(wanted)) => wanted
            .iter()
            .all(|item| live.iter().any(|it| key(it) == key(item) && holds(it, item))),
        (live, wanted) => live == wanted,
    }
}

/// The book of field owners is trusted not to hide drift: this is what that trust rests on.
#[tokio::test]
async fn no_edit_is_missed_whatever_was_edited() {
    let ground = Ground::new();
    ground.place([ground.deployment(2)]).await;
    let pristine = serde_json::to_value(ground.get("apps/v1", "Deployment", "web").await.unwrap()).unwrap();
    let mut wanted = ground.deployment(2);
    wanted["metadata"]["labels"].as_object_mut().unwrap().extend(
        serde_json::to_value(ground.owner().labels())
            .unwrap()
            .as_object()
            .unwrap()
            .clone(),
    );
    // As the server writes these quantities.
    let requests = pristine
        .pointer("/spec/template/spec/containers/0/resources/requests")
        .unwrap();
    wanted["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = requests.clone();
    assert!(holds(&pristine, &wanted));

    let api = ground.api("apps/v1", "Deployment");
    let mut runner = TestRunner::deterministic();
    let cases = prop::collection::vec(prop::sample::select(edits()), 1..4);
    let (mut drifted, mut seen) = (0, 0);
    for _ in 0..80 {
        for edit in cases.new_tree(&mut runner).unwrap().current() {
            let params = PatchParams {
                field_manager: Some("somebody".to_owned()),
                ..PatchParams::default()
            };
            // What the server refuses is no edit.
            let _ = api.patch("web", &params, &Patch::Strategic(&edit)).await;
        }
        let edited = serde_json::to_value(ground.get("apps/v1", "Deployment", "web").await.unwrap()).unwrap();
        let drift = !holds(&edited, &wanted);
        let report = ground.apply([ground.deployment(2)]).await;
        assert!(report.is_in_place(), "{report}");
        let after = serde_json::to_value(ground.get("apps/v1", "Deployment", "web").await.unwrap()).unwrap();
        assert!(holds(&after, &wanted), "{after:#}");
        drifted += usize::from(drift);
        seen += usize::from(report.objects[0].outcome == ObjectOutcome::Updated);
    }
    assert!(
        drifted > 40 && seen >= drifted,
        "{drifted} drifted, {seen} corrected"
    );
    assert!(seen < 80, "some edits are none of our business");
}
