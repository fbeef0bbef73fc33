use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kube::Client;
use serde_json::{Value, json};

use super::*;
use crate::{
    apply::{ConflictResolution, Owner, Refusal, Removal},
    connect::ConnectError,
    wire::{Log, Seen, failure, server},
};

fn owner() -> Owner {
    Owner::new("hub", "uid", "Policy a/b").unwrap()
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "apps"}, "data": {"a": "b"}})
}

fn set(names: &[&str]) -> ObjectSet {
    let objects = names
        .iter()
        .map(|name| serde_json::from_value(config_map(name)).unwrap());
    ObjectSet::new(owner(), objects).unwrap()
}

/// What the server stores of `config_map`.
fn stored(name: &str, uid: &str, version: &str) -> Value {
    let mut object = config_map(name);
    object["metadata"]["uid"] = uid.into();
    object["metadata"]["resourceVersion"] = version.into();
    object["metadata"]["labels"] = serde_json::to_value(owner().labels()).unwrap();
    object["metadata"]["managedFields"] =
        json!([{"manager": "kurator", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {}}]);
    object
}

fn list(items: impl IntoIterator<Item = Value>) -> (u16, Value) {
    let items: Vec<_> = items.into_iter().collect();
    (
        200,
        json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "9"}, "items": items}),
    )
}

fn not_found() -> (u16, Value) {
    failure(404, "NotFound", "not found")
}

/// A member that serves ConfigMaps; everything but discovery is answered by `answer`.
fn member(answer: impl Fn(&Seen) -> (u16, Value) + Send + 'static) -> (Recorded, Log) {
    let (client, log) = server(move |seen| {
        if seen.path == "/api/v1" {
            let resource = json!({
                "name": "configmaps", "singularName": "configmap", "namespaced": true, "kind": "ConfigMap",
                "verbs": ["list", "delete"],
            });
            return (
                200,
                json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource]}),
            );
        }
        answer(seen)
    });
    (
        Recorded {
            client,
            invalidated: Arc::default(),
        },
        log,
    )
}

/// A connector that remembers what it was told to forget.
#[derive(Clone)]
struct Recorded {
    client: Client,
    invalidated: Arc<Mutex<Vec<ClusterName>>>,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorded")
    }
}

#[async_trait]
impl ClusterConnector for Recorded {
    async fn client(&self, _: &ClusterName, purpose: ClientPurpose) -> Result<Client, ConnectError> {
        assert!(!purpose.policy().retry, "a 429 is an answer");
        Ok(self.client.clone())
    }

    async fn invalidate(&self, cluster: &ClusterName) {
        self.invalidated.lock().unwrap().push(cluster.clone());
    }
}

async fn apply(connector: &Recorded, names: &[&str], options: ApplyOptions) -> ApplyReport {
    let applier = ServerSideApplier::new(connector.clone());
    applier.apply(&cluster(), &set(names), &options).await.unwrap()
}

fn cluster() -> ClusterName {
    "member".parse().unwrap()
}

fn without_prune() -> ApplyOptions {
    ApplyOptions::default().with_prune(PruneScope::Nothing)
}

fn reasons(report: &ApplyReport) -> Vec<&'static str> {
    report.objects.iter().map(|it| it.outcome.reason()).collect()
}

#[tokio::test]
async fn an_absent_object_is_applied_as_our_manager_without_force() {
    let (connector, log) = member(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/api/v1/configmaps") => list([]),
        ("PATCH", _) => (201, stored("a", "1", "1")),
        _ => not_found(),
    });
    let report = apply(&connector, &["a"], without_prune()).await;
    assert_eq!(reasons(&report), ["Created"]);
    let seen = log.take();
    let lines: Vec<_> = seen
        .iter()
        .map(|it| format!("{} {}", it.method, it.path))
        .collect();
    assert_eq!(
        lines,
        [
            "GET /api/v1",
            "GET /api/v1/configmaps",
            "GET /api/v1/namespaces/apps/configmaps/a",
            "PATCH /api/v1/namespaces/apps/configmaps/a",
        ]
    );
    assert_eq!(
        seen[1].query,
        "&labelSelector=kurator.dev%2Fhub%3Dhub%2Ckurator.dev%2Fowner%3Duid&limit=500"
    );
    let patch = &seen[3];
    assert_eq!(patch.content_type, "application/apply-patch+yaml");
    assert!(patch.query.contains("fieldManager=kurator"), "{}", patch.query);
    assert!(patch.query.contains("fieldValidation=Ignore"), "{}", patch.query);
    assert!(!patch.query.contains("force=true"), "{}", patch.query);
    assert_eq!(patch.body["data"], json!({"a": "b"}));
    assert_eq!(patch.body["metadata"].get("uid"), None);
    assert_eq!(
        patch.body["metadata"]["annotations"][ANNOTATION_APPLIED_HASH]
            .as_str()
            .unwrap()
            .len(),
        64
    );
}

#[tokio::test]
async fn an_update_names_the_uid_so_that_a_namesake_is_a_conflict() {
    let (connector, log) = member(|seen| match seen.method.as_str() {
        "GET" => list([stored("a", "7", "1")]),
        _ => failure(409, "Conflict", "uid mismatch"),
    });
    let report = apply(&connector, &["a"], without_prune()).await;
    assert_eq!(reasons(&report), ["Changed"]);
    let patch = log.take().pop().unwrap();
    assert_eq!(patch.body["metadata"]["uid"], "7");
}

#[tokio::test]
async fn who_loses_the_race_to_create_an_object_gives_up_what_it_applied() {
    let (connector, log) = member(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/api/v1/configmaps") => list([]),
        ("PATCH", _) => {
            let mut theirs = stored("a", "1", "1");
            theirs["metadata"]["managedFields"][0]["manager"] = "helm".into();
            (200, theirs)
        }
        _ => not_found(),
    });
    let report = apply(&connector, &["a"], without_prune()).await;
    let refusal = Refusal::OwnedByOther {
        manager: "helm".to_owned(),
    };
    assert_eq!(report.objects[0].outcome, ObjectOutcome::Refused { refusal });
    let last = log.take().pop().unwrap();
    assert_eq!(
        last.body,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"uid": "1"}}),
        "an apply of nothing"
    );
}

/// A webhook may rewrite what was applied: then the book of owners never shows it as ours.
#[tokio::test]
async fn a_write_that_changes_nothing_is_not_repeated_until_the_object_changes() {
    let live = Arc::new(Mutex::new(stored("a", "1", "5")));
    let state = Arc::clone(&live);
    let (connector, log) = member(move |seen| {
        let mut live = state.lock().unwrap();
        if seen.method == "PATCH" {
            live["metadata"]["annotations"] = seen.body["metadata"]["annotations"].clone();
            return (200, live.clone());
        }
        list([live.clone()])
    });
    let applier = ServerSideApplier::new(connector);
    let mut requests = Vec::new();
    for version in ["5", "5", "5", "6", "6"] {
        live.lock().unwrap()["metadata"]["resourceVersion"] = version.into();
        let report = applier
            .apply(&cluster(), &set(&["a"]), &ApplyOptions::default())
            .await
            .unwrap();
        assert_eq!(reasons(&report), ["Unchanged"]);
        assert!(report.is_complete());
        let seen = log.take();
        requests.push(
            seen.iter()
                .map(|it| it.method.chars().next().unwrap())
                .collect::<String>(),
        );
    }
    // Discovery once, then one list a pass, which serves pruning too.
    assert_eq!(requests, ["GGP", "G", "G", "GP", "G"]);
}

#[tokio::test]
async fn after_an_answer_of_401_the_rest_is_not_tried_and_the_client_is_forgotten() {
    let (connector, log) = member(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/api/v1/configmaps") => list((0..40).map(|it| stored(&format!("a{it}"), "1", "1"))),
        _ => failure(401, "Unauthorized", "Unauthorized"),
    });
    let names: Vec<String> = (0..40).map(|it| format!("a{it}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let report = apply(&connector, &names, ApplyOptions::default()).await;
    let tried = log.take().iter().filter(|seen| seen.method == "PATCH").count();
    assert!(tried <= CONCURRENCY, "{tried}");
    assert_eq!(report.objects.len(), 40);
    assert_eq!(report.pruning, Pruning::SetIncomplete);
    assert_eq!(*connector.invalidated.lock().unwrap(), [cluster()]);
}

#[tokio::test]
async fn a_deletion_has_uid_and_resource_version_as_preconditions() {
    let (connector, log) = member(|seen| match seen.method.as_str() {
        "GET" => list([stored("old", "1", "3")]),
        _ => (200, json!({"kind": "Status", "status": "Success"})),
    });
    let options = ApplyOptions::default().with_prune(PruneScope::Kinds(
        [crate::apply::KindRef::new("v1", "ConfigMap")].into(),
    ));
    let report = apply(&connector, &[], options).await;
    let Pruning::Done { removals } = &report.pruning else {
        panic!("{report}")
    };
    assert_eq!(removals[0].removal, Removal::Removed);
    let delete = log.take().pop().unwrap();
    assert_eq!(
        (delete.method.as_str(), delete.path.as_str()),
        ("DELETE", "/api/v1/namespaces/apps/configmaps/old")
    );
    assert_eq!(
        delete.body["preconditions"],
        json!({"resourceVersion": "3", "uid": "1"})
    );
    assert_eq!(delete.body["propagationPolicy"], "Background");
}

#[tokio::test]
async fn a_namesake_of_what_was_to_be_deleted_is_spared() {
    let (connector, log) = member(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/api/v1/configmaps") => list([stored("old", "1", "3")]),
        ("GET", _) => (200, stored("old", "2", "9")),
        _ => failure(409, "Conflict", "the UID in the precondition does not match"),
    });
    let options = ApplyOptions::default().with_prune(PruneScope::Kinds(
        [crate::apply::KindRef::new("v1", "ConfigMap")].into(),
    ));
    let report = apply(&connector, &[], options).await;
    assert!(report.is_complete(), "{report}");
    assert_eq!(
        log.take().iter().filter(|seen| seen.method == "DELETE").count(),
        1
    );
}

#[tokio::test]
async fn overwriting_takes_an_object_over_by_force() {
    let (connector, log) = member(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/api/v1/configmaps") => list([]),
        ("GET", _) => (
            200,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "4"}}),
        ),
        _ => (200, stored("a", "4", "2")),
    });
    let options = without_prune().with_conflict_resolution(ConflictResolution::Overwrite);
    assert_eq!(reasons(&apply(&connector, &["a"], options).await), ["Updated"]);
    let patch = log.take().pop().unwrap();
    assert!(patch.query.contains("force=true"), "{}", patch.query);
    assert_eq!(patch.body["metadata"]["uid"], "4");
}

const TEN: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

/// A table of names, as an API server makes it where objects are left out.
fn table(names: &[&str], more: &str) -> (u16, Value) {
    let rows: Vec<_> = names
        .iter()
        .map(|name| json!({"cells": [name, 1, "5m"], "object": null}))
        .collect();
    let column = |name: &str, format: &str| json!({"name": name, "type": "string", "format": format});
    let columns = [column("Name", "name"), column("Data", ""), column("Age", "")];
    let metadata = json!({"resourceVersion": "9", "continue": more});
    let kind = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1"});
    let mut table = json!({"metadata": metadata, "columnDefinitions": columns, "rows": rows});
    table
        .as_object_mut()
        .unwrap()
        .extend(kind.as_object().unwrap().clone());
    (200, table)
}

fn name(seen: &Seen) -> &str {
    seen.path.rsplit('/').next().unwrap()
}

#[tokio::test]
async fn many_absent_objects_cost_one_look_and_a_write_each() {
    let (connector, log) = member(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/api/v1/configmaps") => list([]),
        ("GET", "/api/v1/namespaces/apps/configmaps") if seen.query.contains("continue=more") => {
            table(&["i"], "")
        }
        ("GET", "/api/v1/namespaces/apps/configmaps") => table(&["z"], "more"),
        ("GET", _) => (
            200,
            json!({"metadata": {"name": "i", "managedFields": [{"manager": "helm"}]}}),
        ),
        _ => (201, stored(name(seen), "1", "1")),
    });
    let report = apply(&connector, &TEN, without_prune()).await;
    for entry in &report.objects {
        let reason = if entry.object.object.name == "i" {
            "OwnedByOther"
        } else {
            "Created"
        };
        assert_eq!(entry.outcome.reason(), reason, "{}", entry.object);
    }
    let seen = log.take();
    let queries = seen.iter().filter(|it| it.path.ends_with("apps/configmaps"));
    assert!(
        queries
            .map(|it| &it.query)
            .all(|it| it.contains("includeObject=None"))
    );
    // Discovery, the list, the table in two pages, and somebody else's.
    assert_eq!(seen.iter().filter(|it| it.method == "GET").count(), 5);
    assert_eq!(seen.iter().filter(|it| it.method == "PATCH").count(), 9);
}

#[tokio::test]
async fn what_somebody_places_after_the_look_is_left_alone() {
    for overwrite in [false, true] {
        let (connector, log) = member(|seen| match (seen.method.as_str(), seen.path.as_str()) {
            ("GET", "/api/v1/configmaps") => list([]),
            ("GET", "/api/v1/namespaces/apps/configmaps") => table(&[], ""),
            ("GET", _) => {
                let mut theirs = stored(name(seen), "1", "1");
                theirs["metadata"]["labels"]["kurator.dev/owner"] = "another".into();
                (200, theirs)
            }
            ("PATCH", "/api/v1/namespaces/apps/configmaps/c") => {
                failure(409, "Conflict", "Apply failed with 1 conflict")
            }
            _ => (201, stored(name(seen), "1", "1")),
        });
        let options = if overwrite {
            without_prune().with_conflict_resolution(ConflictResolution::Overwrite)
        } else {
            without_prune()
        };
        let report = apply(&connector, &TEN, options).await;
        for entry in &report.objects {
            let reason = if entry.object.object.name == "c" {
                "ClaimedByOther"
            } else {
                "Created"
            };
            assert_eq!(entry.outcome.reason(), reason, "{}", entry.object);
        }
        let forced = log
            .take()
            .into_iter()
            .filter(|it| it.query.contains("force=true"));
        assert_eq!(forced.count(), 0);
    }
}

#[tokio::test]
async fn a_server_that_gives_no_names_is_asked_for_each_object() {
    for without in [failure(406, "NotAcceptable", "no tables"), list([])] {
        let (connector, log) = member(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
            ("GET", "/api/v1/configmaps") => list([]),
            ("GET", "/api/v1/namespaces/apps/configmaps") => without.clone(),
            ("GET", _) => not_found(),
            _ => (201, stored(name(seen), "1", "1")),
        });
        let report = apply(&connector, &TEN, without_prune()).await;
        assert!(reasons(&report).iter().all(|it| *it == "Created"), "{report}");
        let seen = log.take();
        assert_eq!(seen.iter().filter(|it| it.method == "GET").count(), 13);
    }
}

#[tokio::test]
async fn a_namespace_with_more_in_it_than_is_wanted_is_not_read_to_the_end() {
    let crowd: Vec<String> = (0..500).map(|it| format!("z{it}")).collect();
    let (connector, log) = member(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/api/v1/configmaps") => list([]),
        ("GET", "/api/v1/namespaces/apps/configmaps") => {
            let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
            table(&crowd, "more")
        }
        ("GET", _) => not_found(),
        _ => (201, stored(name(seen), "1", "1")),
    });
    let report = apply(&connector, &TEN, without_prune()).await;
    assert!(reasons(&report).iter().all(|it| *it == "Created"), "{report}");
    let seen = log.take();
    assert_eq!(
        seen.iter()
            .filter(|it| it.path.ends_with("apps/configmaps"))
            .count(),
        1
    );
    assert_eq!(seen.iter().filter(|it| it.method == "GET").count(), 13);
}

#[tokio::test]
async fn a_missing_namespace_is_made_by_one_of_many() {
    let made = Arc::new(Mutex::new(false));
    let (connector, log) = member(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/api/v1/configmaps") => list([]),
        ("GET", _) => table(&[], ""),
        ("POST", _) => {
            *made.lock().unwrap() = true;
            (201, json!({"metadata": {"name": "apps"}}))
        }
        _ if *made.lock().unwrap() => (201, stored(name(seen), "1", "1")),
        _ => {
            let mut missing = failure(404, "NotFound", "namespaces \"apps\" not found");
            missing.1["details"] = json!({"name": "apps", "kind": "namespaces"});
            missing
        }
    });
    let report = apply(&connector, &TEN, without_prune()).await;
    assert!(reasons(&report).iter().all(|it| *it == "Created"), "{report}");
    let seen = log.take();
    assert_eq!(seen.iter().filter(|it| it.method == "POST").count(), 1);
    assert_eq!(seen.iter().filter(|it| it.method == "PATCH").count(), 11);
}
