//! `examples/distribute.rs`, `examples/operator.rs` and `examples/custom_kind.rs`, run as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod example;
mod storefront;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
    runtime::conditions::is_crd_established,
};
use serde_json::json;
use storefront::{DR, PROD, Storefront, condition, edit, entry, reason};

/// A running example; it ends with this value whatever ends the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(name: &str, arguments: &[&str], fleet: &Storefront) -> Self {
        let hub = fleet.member("hub").kubeconfig_file();
        let mut command = Command::new(example::binary(name));
        command
            .args(arguments)
            .env("KUBECONFIG", hub)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Asks it to end, as a kubelet or Ctrl-C would, and waits until it has.
    fn end(mut self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        assert!(self.0.wait().unwrap().success());
    }
}

async fn eighteen_and_one(fleet: &Storefront) {
    fleet.template(20).await;
    fleet.policies().await;
    fleet.replicas(PROD, "storefront", 18).await;
    fleet.replicas(DR, "storefront", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_distribute_and_end_in_order() {
    let fleet = Storefront::idle().await;

    let mut distribute = Running::start("distribute", &[], &fleet);
    let printed = BufReader::new(distribute.0.stdout.take().unwrap());
    let (told, hears) = std::sync::mpsc::channel();
    // Reads to the end: a program must not be ended by a pipe that nobody empties.
    let reader = std::thread::spawn(move || {
        for line in printed.lines().map_while(Result::ok) {
            if line.contains("the total becomes 19 of 20") {
                let _ = told.send(line);
            }
        }
    });
    eighteen_and_one(&fleet).await;
    tokio::task::spawn_blocking(move || hears.recv_timeout(storefront::PATIENCE).unwrap())
        .await
        .unwrap();
    distribute.end("-INT");
    reader.join().unwrap();

    // Its successor finds everything as it was left, and follows on.
    let operator = Running::start("operator", &["--install-crds"], &fleet);
    fleet.template(40).await;
    fleet.replicas(PROD, "storefront", 36).await;
    fleet
        .policy_api()
        .delete("storefront", &DeleteParams::default())
        .await
        .unwrap();
    fleet.gone(PROD, "storefront").await;
    fleet.gone(DR, "storefront").await;
    fleet.policy_gone("storefront").await;
    operator.end("-TERM");
}

/// Runs an example that brings its own fleet and ends by itself; gives what it printed.
fn shown(name: &str) -> String {
    let done = Command::new(example::binary(name))
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(
        done.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    text
}

#[test]
fn the_failover_example_empties_a_cluster_and_brings_everything_home() {
    let text = shown("failover");
    assert!(
        text.contains("Deployment web left paris: Tainted maintenance:NoExecute"),
        "{text}"
    );
    let last: Vec<&str> = text.lines().rev().take(2).collect();
    assert!(
        last.iter().all(|line| line.contains("3 of 3 replicas ready")),
        "{text}"
    );
}

#[test]
fn the_rollout_example_takes_a_bad_change_back() {
    let text = shown("rollout");
    assert!(text.contains("waits for an approval"), "{text}");
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    assert!(
        last.iter()
            .all(|line| line.ends_with("has registry.example/web:2")),
        "{text}"
    );
}

fn engines(client: kube::Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("ml.example.com", "v1", "Engine");
    Api::namespaced_with(client, "default", &ApiResource::from_gvk(&kind))
}

async fn engine(
    fleet: &Storefront,
    member: &str,
    what: &str,
    met: impl Fn(Option<&DynamicObject>) -> bool + Send + Sync,
) {
    let member = fleet.member(member);
    let api = engines(member.direct_client().unwrap());
    let waited = tokio::time::timeout(storefront::PATIENCE, member.wait_for(&api, "chat", met)).await;
    waited
        .unwrap_or_else(|_| panic!("{}: the engine is not {what}", member.name()))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_divides_a_kind_of_its_own_and_is_told_how_it_is_doing() {
    let fleet = Storefront::idle().await;
    let hub = fleet.member("hub");
    // As the operator of engines brings it.
    let printed = Command::new(example::binary("custom_kind"))
        .arg("--definition")
        .output()
        .unwrap();
    let definition = String::from_utf8(printed.stdout).unwrap();
    for member in [PROD, DR] {
        fleet.member(member).apply(&definition).await.unwrap();
    }
    let example = Running::start("custom_kind", &[], &fleet);
    let definitions = Api::<CustomResourceDefinition>::all(fleet.hub.clone());
    let installed = hub.wait_for(&definitions, "engines.ml.example.com", is_crd_established());
    tokio::time::timeout(storefront::PATIENCE, installed)
        .await
        .unwrap()
        .unwrap();
    hub.apply(include_str!("../examples/manifests/engine.yaml"))
        .await
        .unwrap();
    let in_place = |it: &_| {
        [PROD, DR]
            .iter()
            .all(|cluster| entry(it, cluster).is_some_and(|it| it.applied_objects == 1))
    };
    fleet.status("engines", "in place", in_place).await;
    for (member, workers) in [(PROD, 9), (DR, 3)] {
        let has = |it: Option<&DynamicObject>| it.is_some_and(|it| it.data["spec"]["workers"] == workers);
        engine(&fleet, member, "divided", has).await;
    }

    // What the operator in a member writes: a field of its own, and how the engine is doing.
    let dr = engines(fleet.member(DR).direct_client().unwrap());
    edit(&dr, "chat", json!({ "spec": { "volume": "weights-1" } })).await;
    let tell = async |member: &str, status: serde_json::Value| {
        let api = engines(fleet.member(member).direct_client().unwrap());
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status("chat", &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    tell(
        PROD,
        json!({ "phase": "Running", "readyWorkers": 9, "reason": "" }),
    )
    .await;
    tell(
        DR,
        json!({ "phase": "Failed", "readyWorkers": 0, "reason": "no weights" }),
    )
    .await;
    fleet
        .status("engines", "broken in one", |it| {
            reason(it, PROD) == "Applied" && entry(it, DR).is_some_and(|it| it.message.contains("no weights"))
        })
        .await;
    tell(DR, json!({ "phase": "Running", "readyWorkers": 3, "reason": "" })).await;
    let status = fleet
        .status("engines", "ready", |it| condition(it, "Ready", "True").is_some())
        .await;
    assert_eq!(status.totals.unwrap().ready_replicas, 12);

    // More workers, and nothing else: the field of the member stays.
    edit(
        &engines(fleet.hub.clone()),
        "chat",
        json!({ "spec": { "workers": 16 } }),
    )
    .await;
    let grown = |it: Option<&DynamicObject>| {
        it.is_some_and(|it| it.data["spec"]["workers"] == 4 && it.data["spec"]["volume"] == "weights-1")
    };
    engine(&fleet, DR, "grown", grown).await;

    fleet
        .policy_api()
        .delete("engines", &DeleteParams::default())
        .await
        .unwrap();
    fleet.policy_gone("engines").await;
    // What is somebody else's stays, and no engine does.
    for member in [PROD, DR] {
        let client = fleet.member(member).direct_client().unwrap();
        assert!(
            engines(client)
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .is_empty()
        );
    }
    example.end("-INT");
}
