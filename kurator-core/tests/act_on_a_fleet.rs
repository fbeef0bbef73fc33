//! Connectors, applier and executor together, on a hub and two members that are real API servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Pod, Secret},
};
use kube::{
    Api, Client,
    api::{EvictParams, Patch, PatchParams},
    core::ObjectMeta,
};
use kurator_core::{
    apply::{Applier, ApplyOptions, ApplyReport, ObjectOutcome, ObjectSet, Owner, ServerSideApplier},
    clock::SystemClock,
    connect::{ClientPurpose, ClusterConnector, SecretConnector},
    execute::{Executor, Outcome, RunReport, StepFailure},
    kubeconfig::KubeconfigRef,
    membership::{Member, StaticMembership},
    names::{ClusterName, NamespacedName},
};
use kurator_envtest::{Fleet, Part};
use serde_json::json;
use tokio_util::sync::CancellationToken;

fn name(name: &str) -> ClusterName {
    name.parse().unwrap()
}

struct Ground {
    fleet: Fleet,
    hub: Client,
    connector: Arc<SecretConnector>,
}

impl Ground {
    async fn start() -> Self {
        let fleet = Fleet::builder().members(["hub", "a", "b"]).start().await.unwrap();
        let hub = fleet.member("hub").unwrap().client().unwrap();
        let membership: StaticMembership = ["a", "b"]
            .map(|member| {
                let at = KubeconfigRef::new(NamespacedName::new("default", format!("{member}-kubeconfig")));
                Member::new(name(member)).with_kubeconfig(at)
            })
            .into_iter()
            .collect();
        let connector = SecretConnector::new(hub.clone(), membership).with_recheck(Duration::ZERO);
        let ground = Self {
            fleet,
            hub,
            connector: Arc::new(connector),
        };
        for member in ["a", "b"] {
            ground.write_secret(member, &ground.kubeconfig(member)).await;
        }
        ground
    }

    fn kubeconfig(&self, member: &str) -> String {
        self.fleet.member(member).unwrap().kubeconfig()
    }

    async fn write_secret(&self, member: &str, kubeconfig: &str) {
        let secret_name = format!("{member}-kubeconfig");
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(secret_name.clone()),
                ..ObjectMeta::default()
            },
            data: Some([("value".to_owned(), ByteString(kubeconfig.as_bytes().to_vec()))].into()),
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.hub.clone(), "default");
        let params = PatchParams::apply("test").force();
        secrets
            .patch(&secret_name, &params, &Patch::Apply(secret))
            .await
            .unwrap();
    }

    /// UID of the cluster that `member` leads to, which tells clusters apart.
    async fn uid(&self, member: &str) -> Result<String, kube::Error> {
        let client = self
            .connector
            .client(&name(member), ClientPurpose::Control)
            .await
            .unwrap();
        let namespaces: Api<Namespace> = Api::all(client);
        Ok(namespaces.get("kube-system").await?.metadata.uid.unwrap())
    }

    /// One pass over both members, as a controller makes it.
    async fn pass(&self, set: &ObjectSet) -> RunReport<ApplyReport> {
        let applier = Arc::new(ServerSideApplier::new(Arc::clone(&self.connector)));
        let set = Arc::new(set.clone());
        Executor::new(SystemClock::new())
            .with_deadline(Duration::from_secs(10))
            .each([name("a"), name("b")], CancellationToken::new(), move |context| {
                let (applier, set) = (Arc::clone(&applier), Arc::clone(&set));
                async move {
                    let report = applier
                        .apply(&context.cluster, &set, &ApplyOptions::default())
                        .await;
                    report.map_err(|error| StepFailure::of(error.reason(), &error))
                }
            })
            .await
    }
}

fn set() -> ObjectSet {
    let object = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "default"}, "data": {"a": "b"},
    }));
    let owner = Owner::new("hub", "policy", "Policy default/settings").unwrap();
    ObjectSet::new(owner, [object.unwrap()]).unwrap()
}

fn outcome(report: &RunReport<ApplyReport>, member: &str) -> String {
    let member = &report.clusters[member];
    match (&member.outcome, member.output()) {
        (Outcome::Completed, Some(report)) => report.objects[0].outcome.reason().to_owned(),
        (outcome, _) => outcome.reason().to_owned(),
    }
}

#[tokio::test]
async fn a_member_that_is_down_or_silent_stops_nobody_and_catches_up() {
    let ground = Ground::start().await;
    let b = ground.fleet.member("b").unwrap();

    b.kill(Part::ApiServer).unwrap();
    let report = ground.pass(&set()).await;
    assert_eq!(
        (outcome(&report, "a"), outcome(&report, "b")),
        ("Created".into(), "MemberUnreachable".into())
    );
    b.restart(Part::ApiServer).await.unwrap();

    // The process stands still: connections are accepted and nothing is answered.
    b.pause(Part::ApiServer).unwrap();
    let report = ground.pass(&set()).await;
    assert_eq!(
        (outcome(&report, "a"), outcome(&report, "b")),
        ("Unchanged".into(), "DeadlineExceeded".into())
    );
    b.resume(Part::ApiServer).unwrap();

    let report = ground.pass(&set()).await;
    assert_eq!(
        (outcome(&report, "a"), outcome(&report, "b")),
        ("Unchanged".into(), "Created".into())
    );
    let live = &report.clusters["b"].output().unwrap().objects[0];
    assert_eq!(live.outcome, ObjectOutcome::Created);
    assert_eq!(live.live.as_ref().unwrap().data["data"], json!({"a": "b"}));
}

#[tokio::test]
async fn a_rotated_kubeconfig_is_followed_and_a_wrong_token_is_named() {
    let ground = Ground::start().await;
    let (a, b) = (ground.uid("a").await.unwrap(), ground.uid("b").await.unwrap());
    assert_ne!(a, b);

    let kubeconfig = ground.kubeconfig("a");
    let token = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix("token:"))
        .unwrap()
        .trim();
    ground
        .write_secret("a", &kubeconfig.replace(token, "c4n4ry"))
        .await;
    let report = ground.pass(&set()).await;
    assert_eq!(
        (outcome(&report, "a"), outcome(&report, "b")),
        ("Unauthorized".into(), "Created".into())
    );
    assert!(!format!("{report:?} {report} {:?}", ground.connector).contains("c4n4ry"));

    ground.write_secret("a", &kubeconfig).await;
    assert_eq!(ground.uid("a").await.unwrap(), a);
    assert_eq!(outcome(&ground.pass(&set()).await, "a"), "Created");
    ground.write_secret("a", &ground.kubeconfig("b")).await;
    assert_eq!(ground.uid("a").await.unwrap(), b);
}

#[tokio::test]
async fn an_eviction_that_a_budget_blocks_is_answered_at_once() {
    let ground = Ground::start().await;
    let client = ground
        .connector
        .client(&name("a"), ClientPurpose::Evict)
        .await
        .unwrap();
    let metadata = json!({"name": "web", "labels": {"app": "web"}});
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod = json!({"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pods.create(&Default::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    // A pod that is not running has no budget.
    let running =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    pods.patch_status("web", &PatchParams::default(), &Patch::Merge(running))
        .await
        .unwrap();
    let budgets: Api<k8s_openapi::api::policy::v1::PodDisruptionBudget> = Api::namespaced(client, "default");
    let budget = json!({"metadata": metadata, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    budgets
        .create(&Default::default(), &serde_json::from_value(budget).unwrap())
        .await
        .unwrap();

    let params = EvictParams::default();
    let eviction = pods.evict("web", &params);
    let answer = tokio::time::timeout(Duration::from_secs(10), eviction)
        .await
        .expect("not hidden by retries");
    match answer.unwrap_err() {
        kube::Error::Api(status) => assert_eq!(status.code, 429, "{status:?}"),
        other => panic!("{other}"),
    }
}
