//! Fleets and attached clusters as users write them, on real API servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt, runtime::wait};
use kurator_core::apply::{FIELD_MANAGER, LABEL_HUB, LABEL_OWNER};
use kurator_core::clock::SystemClock;
use kurator_core::health::HealthPolicy;
use kurator_core::membership::Membership;
use kurator_core::multicluster::MembersOptions;
use kurator_envtest::{Cut, Fleet as TestFleet};
use kurator_fleet::api::{AttachedCluster, Fleet, crds};
use kurator_fleet::controller::{FleetManager, FleetOptions};
use kurator_fleet::membership::FleetMembership;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const GRACE: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(90);

struct Rig {
    fleet: TestFleet,
    hub: Client,
    membership: Arc<FleetMembership>,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    async fn start(members: &[&str]) -> Self {
        let fleet = TestFleet::builder()
            .members(["hub"])
            .members(members.iter().copied())
            .start()
            .await
            .unwrap();
        let hub = fleet.member("hub").unwrap().client().unwrap();
        fleet.member("hub").unwrap().install(&crds()).await.unwrap();
        let members_options = MembersOptions::default().with_health(HealthPolicy::with_grace(GRACE));
        let options = FleetOptions::default().with_members(members_options);
        let manager = FleetManager::start(hub.clone(), "default", options, Arc::new(SystemClock::new()))
            .await
            .unwrap();
        let (membership, stop) = (manager.membership(), CancellationToken::new());
        tokio::spawn(manager.run(stop.clone().cancelled_owned()));
        Self {
            fleet,
            hub,
            membership,
            stop,
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.hub.clone(), "default")
    }

    fn direct(&self, member: &str) -> Client {
        self.fleet.member(member).unwrap().direct_client().unwrap()
    }

    async fn attach(&self, name: &str, member: &str, detach: Value) {
        let kubeconfig = self.fleet.member(member).unwrap().kubeconfig();
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            data: Some([("value".to_owned(), ByteString(kubeconfig.into_bytes()))].into()),
            ..Secret::default()
        };
        self.api::<Secret>()
            .create(&PostParams::default(), &secret)
            .await
            .unwrap();
        let mut cluster = json!({
            "apiVersion": "cluster.kurator.dev/v1alpha1", "kind": "AttachedCluster",
            "metadata": {"name": name, "labels": {"member-of": "selected"}},
            "spec": {"kubeconfig": {"name": name, "key": "value"}},
        });
        if !detach.is_null() {
            cluster["spec"]["detach"] = detach;
        }
        let cluster: AttachedCluster = serde_json::from_value(cluster).unwrap();
        self.api().create(&PostParams::default(), &cluster).await.unwrap();
    }

    async fn until<K>(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(Option<&K>) -> bool + Send + Sync,
    ) -> Option<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Send
            + serde::de::DeserializeOwned
            + 'static,
    {
        let waiting = wait::await_condition(self.api::<K>(), name, wanted);
        match timeout(PATIENCE, waiting).await {
            Ok(found) => found.unwrap(),
            Err(_) => panic!(
                "{name}: never {what}; it is {:?}",
                self.api::<K>().get_opt(name).await
            ),
        }
    }

    async fn ready(&self, cluster: &str, status: &str) -> AttachedCluster {
        let wanted = |it: Option<&AttachedCluster>| it.is_some_and(|it| ready(it).0 == status);
        self.until(cluster, &format!("Ready={status}"), wanted)
            .await
            .unwrap()
    }

    async fn gone(&self, cluster: &str) {
        self.until::<AttachedCluster>(cluster, "gone", |it| it.is_none())
            .await;
    }

    async fn place(&self, member: &str, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.hub.clone());
        let hub = namespaces.get("kube-system").await.unwrap().uid().unwrap();
        let placed = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {LABEL_HUB: hub, LABEL_OWNER: "policy"}},
        });
        let maps: Api<ConfigMap> = Api::namespaced(self.direct(member), "default");
        maps.patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(placed))
            .await
            .unwrap();
    }

    async fn has(&self, member: &str, name: &str) -> bool {
        let maps: Api<ConfigMap> = Api::namespaced(self.direct(member), "default");
        maps.get_opt(name).await.unwrap().is_some()
    }
}

fn ready(cluster: &AttachedCluster) -> (String, String) {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.into_iter().find(|it| it.type_ == "Ready");
    found
        .map(|it| (it.status.clone(), it.reason.clone()))
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_shows_who_is_in_it_how_they_are_and_since_when() {
    let rig = Rig::start(&["a", "b"]).await;
    rig.attach("a", "a", Value::Null).await;
    rig.attach("b", "b", Value::Null).await;
    rig.attach("b-again", "b", Value::Null).await;
    rig.attach("no.member-name", "b", Value::Null).await;
    let fleet: Fleet = serde_json::from_value(json!({
        "apiVersion": "fleet.kurator.dev/v1alpha1", "kind": "Fleet", "metadata": {"name": "shop"},
        "spec": {
            "clusters": [{"name": "a", "kind": "AttachedCluster"}, {"name": "ghost", "kind": "AttachedCluster"}],
            "clusterSelector": {"matchLabels": {"member-of": "selected"}},
        },
    }))
    .unwrap();
    rig.api().create(&PostParams::default(), &fleet).await.unwrap();

    let a = rig.ready("a", "True").await;
    let status = a.status.unwrap();
    assert_eq!(status.kubernetes_version.as_deref(), Some("v1.37.2"));
    assert!(status.cluster_uid.is_some());
    let seen = |fleet: Option<&Fleet>| {
        let status = fleet.and_then(|fleet| fleet.status.as_ref());
        status.is_some_and(|status| (status.total_clusters, status.ready_clusters) == (Some(5), Some(2)))
    };
    let fleet = rig.until("shop", "2 of 5 ready", seen).await.unwrap();
    let reasons: Vec<String> = fleet
        .status
        .unwrap()
        .clusters
        .into_iter()
        .map(|it| format!("{} {}", it.name, it.reason))
        .collect();
    assert!(
        reasons.contains(&"ghost ClusterNotFound".to_owned()),
        "{reasons:?}"
    );
    let doubles = reasons
        .iter()
        .filter(|reason| reason.ends_with("DuplicateRegistration"))
        .count();
    assert_eq!(doubles, 1, "two entries for one cluster: {reasons:?}");
    let members = rig
        .membership
        .members(Some(&"shop".parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(members.len(), 3, "by name and by selector, each once");

    rig.fleet.member("a").unwrap().link().cut(Cut::Refuse);
    let lost = rig.ready("a", "Unknown").await;
    assert_eq!(ready(&lost).1, "Unreachable");
    let seen = |fleet: Option<&Fleet>| {
        let members = fleet
            .and_then(|fleet| fleet.status.as_ref())
            .map(|status| &status.clusters);
        members.is_some_and(|members| {
            members
                .iter()
                .any(|it| it.name == "a" && !it.ready && it.reason == "Unreachable" && it.last_seen.is_some())
        })
    };
    rig.until::<Fleet>("shop", "a lost", seen).await;
    rig.fleet.member("a").unwrap().link().heal();
    rig.ready("a", "True").await;

    let events: Api<Event> = rig.api();
    let told = events.list(&ListParams::default()).await.unwrap();
    let told: Vec<(String, String)> = told
        .into_iter()
        .map(|event| {
            (
                event.regarding.and_then(|it| it.name).unwrap_or_default(),
                event.reason.unwrap_or_default(),
            )
        })
        .collect();
    for expected in [
        ("a", "ApiServerReady"),
        ("a", "Unreachable"),
        ("shop", "MembersNotReady"),
    ] {
        assert!(
            told.iter()
                .any(|(name, reason)| (name.as_str(), reason.as_str()) == expected),
            "{expected:?} in {told:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_leave_drained_orphaned_or_by_force_and_are_cleaned_when_they_return() {
    let rig = Rig::start(&["drained", "orphaned", "forced"]).await;
    rig.attach("drained", "drained", Value::Null).await;
    rig.attach("orphaned", "orphaned", json!({"mode": "Orphan"}))
        .await;
    rig.attach("forced", "forced", json!({"mode": "Force", "timeout": "3s"}))
        .await;
    for member in ["drained", "orphaned", "forced"] {
        rig.ready(member, "True").await;
        rig.place(member, "placed").await;
        let foreign: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "foreign"}})).unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(rig.direct(member), "default");
        maps.create(&PostParams::default(), &foreign).await.unwrap();
    }
    let clusters: Api<AttachedCluster> = rig.api();
    let cut = |member: &str| rig.fleet.member(member).unwrap().link().cut(Cut::Refuse);
    cut("forced");
    rig.ready("forced", "Unknown").await;
    for member in ["drained", "orphaned", "forced"] {
        clusters.delete(member, &DeleteParams::default()).await.unwrap();
    }
    for member in ["drained", "orphaned", "forced"] {
        rig.gone(member).await;
    }
    assert!(!rig.has("drained", "placed").await && rig.has("drained", "foreign").await);
    assert!(rig.has("orphaned", "placed").await, "everything goes on running");
    assert!(rig.has("forced", "placed").await, "nobody could reach it");

    let graves = ListParams::default().labels("fleet.kurator.dev/tombstone=true");
    assert_eq!(rig.api::<ConfigMap>().list(&graves).await.unwrap().items.len(), 1);
    rig.fleet.member("forced").unwrap().link().heal();
    let maps: Api<ConfigMap> = Api::namespaced(rig.direct("forced"), "default");
    let cleaned = wait::await_condition(maps, "placed", |map: Option<&ConfigMap>| map.is_none());
    timeout(PATIENCE, cleaned)
        .await
        .expect("cleaned when it returns")
        .unwrap();
    assert!(rig.has("forced", "foreign").await);
    let grave = rig
        .api::<ConfigMap>()
        .list(&graves)
        .await
        .unwrap()
        .items
        .into_iter()
        .next();
    if let Some(grave) = grave {
        rig.until::<ConfigMap>(&grave.name_any(), "gone", |it| it.is_none())
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_member_is_not_let_go_undrained_until_its_owner_says_force() {
    let rig = Rig::start(&["a"]).await;
    rig.attach("a", "a", Value::Null).await;
    rig.ready("a", "True").await;
    rig.fleet.member("a").unwrap().link().cut(Cut::Refuse);
    rig.ready("a", "Unknown").await;
    let clusters: Api<AttachedCluster> = rig.api();
    clusters.delete("a", &DeleteParams::default()).await.unwrap();
    let blocked = |it: Option<&AttachedCluster>| it.is_some_and(|it| ready(it).1 == "MemberUnreachable");
    rig.until::<AttachedCluster>("a", "blocked", blocked).await;
    let force = json!({"spec": {"detach": {"mode": "Force", "timeout": "1s"}}});
    clusters
        .patch("a", &PatchParams::default(), &Patch::Merge(force))
        .await
        .unwrap();
    rig.gone("a").await;
}
