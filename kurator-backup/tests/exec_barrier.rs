//! Applications held still by commands in their pods, on a real API server whose pods run commands, under the rules of
//! `deploy/rbac`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![cfg(feature = "client")]

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
    runtime::wait::conditions::is_pod_running,
};
use kurator_backup::{
    driver::{BackupHook, ConsistencyBarrier as _, DriverError, OwnerToken, QuiesceRequest, QuiesceState},
    exec_barrier::ExecBarrier,
};
use kurator_core::{
    clock::{Clock as _, SystemClock},
    connect::StaticConnector,
    names::ClusterName,
};
use kurator_envtest::{Cut, Fleet, Member, MemberSpec, Nodes, Part};
use serde_json::json;

/// Pods of a member share one folder: each container has a name of its own there.
const FREEZE: &str = "echo frozen >>";

fn east() -> ClusterName {
    "east".parse().unwrap()
}

fn owner(name: &str) -> OwnerToken {
    OwnerToken::bounded([name])
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

/// Freezes and thaws two containers of the pods with the label `app: db`.
fn hooks() -> Vec<BackupHook> {
    let command =
        |container: &str, script: String| json!({ "container": container, "command": ["sh", "-c", script] });
    let both = |script: &dyn Fn(&str) -> String| [command("db", script("db")), command("log", script("log"))];
    serde_json::from_value(json!([{
        "name": "orders",
        "includedNamespaces": ["shop"],
        "labelSelector": { "matchLabels": { "app": "db" } },
        "pre": both(&|name| format!("{FREEZE} {name}")),
        "post": both(&|name| format!("rm -f {name}")),
    }]))
    .unwrap()
}

fn request(name: &str, seconds: i64) -> QuiesceRequest {
    QuiesceRequest::new(owner(name), hooks(), now() + SignedDuration::from_secs(seconds))
}

async fn start() -> Fleet {
    // The pod `bare` has no programs.
    let bare = "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: Exec\nmetadata: {name: bare, namespace: shop}\n\
                spec: {execs: [{local: {envs: [{name: PATH, value: /nowhere}]}}]}";
    let spec = MemberSpec::new("east")
        .with_nodes(Nodes::new(1))
        .with_exec()
        .with_kwok_config(bare);
    let fleet = Fleet::builder().member(spec).start().await.unwrap();
    let member = fleet.member("east").unwrap();
    for namespace in ["shop", "velero"] {
        member
            .apply(&format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}"
            ))
            .await
            .unwrap();
    }
    let rules = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/rbac/backup-barrier-member.yaml"
    );
    member.apply(&fs::read_to_string(rules).unwrap()).await.unwrap();
    fleet
}

fn pods(member: &Member) -> Api<Pod> {
    Api::namespaced(member.direct_client().unwrap(), "shop")
}

async fn run(member: &Member, name: &str) {
    let pod = serde_json::from_value::<Pod>(json!({
        "metadata": { "name": name, "namespace": "shop", "labels": { "app": "db" } },
        "spec": { "nodeName": "node-0",
                  "containers": [{ "name": "db", "image": "db" }, { "name": "log", "image": "log" }] },
    }));
    let pods = pods(member);
    pods.create(&PostParams::default(), &pod.unwrap()).await.unwrap();
    member.wait_for(&pods, name, is_pod_running()).await.unwrap();
}

async fn remove(member: &Member, name: &str) {
    let pods = pods(member);
    let now = DeleteParams::default().grace_period(0);
    pods.delete(name, &now).await.unwrap();
    member
        .wait_for(&pods, name, |pod: Option<&Pod>| pod.is_none())
        .await
        .unwrap();
}

fn barrier(client: Client) -> ExecBarrier {
    let connector = StaticConnector::default().with_client(east(), client);
    ExecBarrier::new(Arc::new(connector)).keeping_state_in(".")
}

/// A barrier in a process of its own, so to say.
async fn a_barrier(member: &Member) -> ExecBarrier {
    let account = member
        .account("kurator-system", "kurator-backup-member")
        .await
        .unwrap();
    let mut config = account.config();
    config.connect_timeout = Some(Duration::from_secs(3));
    barrier(Client::try_from(config).unwrap())
}

/// How many times each container was frozen and not thawed since.
fn frozen(member: &Member) -> [usize; 2] {
    let lines = |name: &str| {
        let file: PathBuf = member.exec_folder().join(name);
        fs::read_to_string(file).map_or(0, |text| text.lines().count())
    };
    [lines("db"), lines("log")]
}

async fn eventually(what: &str, met: impl Fn() -> bool + Sync) {
    let looks = async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looks)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn held(barrier: &ExecBarrier, request: &QuiesceRequest, wanted: u32) -> Timestamp {
    match barrier.quiesce(&east(), request).await.unwrap() {
        QuiesceState::Held { pods, until } => {
            assert_eq!(pods, wanted);
            assert!(until <= request.until, "{until} is after {}", request.until);
            until
        }
        state => panic!("{state:?}"),
    }
}

async fn refused(barrier: &ExecBarrier, request: &QuiesceRequest) -> String {
    match barrier.quiesce(&east(), request).await.unwrap() {
        QuiesceState::Failed { message } => message,
        state => panic!("{state:?}"),
    }
}

async fn records(member: &Member) -> usize {
    let leases = Api::<Lease>::namespaced(member.direct_client().unwrap(), "velero");
    leases.list(&ListParams::default()).await.unwrap().items.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_hold_still_until_they_are_released_or_their_lease_ends_whatever_became_of_us() {
    let fleet = start().await;
    let member = fleet.member("east").unwrap();
    run(member, "db-0").await;
    run(member, "db-1").await;
    let first = a_barrier(member).await;

    // Held, renewed, and released by another process.
    let until = held(&first, &request("a", 60), 2).await;
    assert!(until > now() + SignedDuration::from_secs(50));
    assert_eq!(frozen(member), [2, 2]);
    assert_eq!(first.holders(&east()).await.unwrap(), [owner("a")].into());
    let renewed = held(&first, &request("a", 120).renewing(), 2).await;
    assert!(renewed > until + SignedDuration::from_secs(50));
    assert_eq!(frozen(member), [2, 2], "renewing freezes nothing");
    let message = refused(&first, &request("b", 60)).await;
    assert!(message.contains("is held still for a-"), "{message}");
    assert_eq!(frozen(member), [2, 2]);
    let second = a_barrier(member).await;
    second.release(&east(), &request("a", 60)).await.unwrap();
    second.release(&east(), &request("a", 60)).await.unwrap();
    assert_eq!(frozen(member), [0, 0]);
    assert_eq!(
        (
            second.holders(&east()).await.unwrap().len(),
            records(member).await
        ),
        (0, 0)
    );
    let message = refused(&second, &request("a", 60)).await;
    assert!(message.contains("is not taken again"), "{message}");
    let message = refused(&second, &request("c", 60).renewing()).await;
    assert_eq!(message, "there is no lease to renew");
    assert_eq!((frozen(member), records(member).await), ([0, 0], 0));

    // Cut off: nobody can reach the pods, not even through the API server.
    held(&second, &request("d", 6), 2).await;
    member.link().cut(Cut::Refuse);
    let error = second
        .quiesce(&east(), &request("d", 60).renewing())
        .await
        .unwrap_err();
    assert!(matches!(error, DriverError::Unreachable { .. }), "{error:?}");
    member.kill(Part::ApiServer).unwrap();
    eventually("the pods let go by themselves", || frozen(member) == [0, 0]).await;
    member.restart(Part::ApiServer).await.unwrap();
    member.link().heal();
    assert_eq!(second.holders(&east()).await.unwrap().len(), 0);
    let message = refused(&second, &request("d", 60).renewing()).await;
    assert!(message.contains("is not taken again"), "{message}");
    assert_eq!((frozen(member), records(member).await), ([0, 0], 0));

    // A pod that starts meanwhile breaks the hold, one that is gone too.
    held(&second, &request("e", 60), 2).await;
    run(member, "db-2").await;
    let message = refused(&second, &request("e", 60).renewing()).await;
    assert!(message.contains("pod shop/db-2 started meanwhile"), "{message}");
    assert_eq!((frozen(member), records(member).await), ([0, 0], 0));
    held(&second, &request("f", 60), 3).await;
    remove(member, "db-2").await;
    let message = refused(&second, &request("f", 60).renewing()).await;
    assert!(message.contains("pod shop/db-2 is gone"), "{message}");
    assert_eq!(records(member).await, 0);

    // One pod that cannot let go by itself, and nothing is frozen anywhere.
    let before = frozen(member);
    run(member, "bare").await;
    let message = refused(&second, &request("g", 60)).await;
    assert!(message.contains("pod shop/bare lacks sleep"), "{message}");
    assert_eq!((frozen(member), records(member).await), (before, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_held_is_said_and_what_was_held_is_released() {
    let fleet = start().await;
    let member = fleet.member("east").unwrap();
    run(member, "db-0").await;
    let barrier = a_barrier(member).await;

    let mut failing = request("a", 60);
    failing.hooks[0].pre[1].command = vec!["sh".into(), "-c".into(), "exit 3 # secret".into()];
    let message = refused(&barrier, &failing).await;
    assert_eq!(
        message,
        "a command of pre of hook orders ended with 3 in container log of pod shop/db-0"
    );
    assert_eq!((frozen(member), records(member).await), ([0, 0], 0));

    // One that takes its time is waited for.
    let mut slow = request("b", 60);
    slow.hooks[0].pre[0].command = vec![
        "sh".into(),
        "-c".into(),
        "touch db; until [ -e go-on ]; do sleep 0.1; done".into(),
    ];
    let state = barrier.quiesce(&east(), &slow).await.unwrap();
    assert_eq!(state, QuiesceState::Pending { held: 0, wanted: 1 });
    fs::write(member.exec_folder().join("go-on"), "").unwrap();
    held(&barrier, &slow, 1).await;
    barrier.release(&east(), &slow).await.unwrap();
    assert_eq!((frozen(member), records(member).await), ([0, 0], 0));

    // A post that fails is no release, until it works.
    let mut stuck = request("c", 60);
    let cured = "[ -e cured ] && rm -f db";
    stuck.hooks[0].post[0].command = vec!["sh".into(), "-c".into(), cured.into()];
    held(&barrier, &stuck, 1).await;
    barrier.release(&east(), &stuck).await.unwrap_err();
    let error = barrier.release(&east(), &stuck).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a command of post of hook orders ended with 1"),
        "{error}"
    );
    assert_eq!(barrier.holders(&east()).await.unwrap(), [owner("c")].into());
    fs::write(member.exec_folder().join("cured"), "").unwrap();
    barrier.release(&east(), &stuck).await.unwrap();
    assert_eq!((frozen(member), records(member).await), ([0, 0], 0));

    let mut boundless = request("d", 60);
    boundless.hooks[0].included_namespaces.clear();
    boundless.hooks[0].label_selector = None;
    let message = refused(&barrier, &boundless).await;
    assert!(message.contains("selects every pod of the cluster"), "{message}");

    // Nobody to hold still.
    let mut nobody = request("e", 60);
    nobody.hooks[0].label_selector =
        serde_json::from_value(json!({ "matchLabels": { "app": "none" } })).unwrap();
    held(&barrier, &nobody, 0).await;
    barrier.release(&east(), &nobody).await.unwrap();
    assert_eq!(records(member).await, 0);
}
