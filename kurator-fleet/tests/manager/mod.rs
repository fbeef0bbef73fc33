//! A fleet manager over real members, for the tests of this crate.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt, runtime::wait};
use kurator_core::apply::{FIELD_MANAGER, LABEL_HUB, LABEL_OWNER};
use kurator_core::clock::SystemClock;
use kurator_core::health::HealthPolicy;
use kurator_core::multicluster::{Members, MembersOptions};
use kurator_envtest::{Account, Fleet as TestFleet};
use kurator_fleet::api::{AttachedCluster, Fleet, crds};
use kurator_fleet::controller::{FleetManager, FleetOptions};
use kurator_fleet::membership::FleetMembership;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) const GRACE: Duration = Duration::from_secs(8);
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A hub with a fleet manager under exactly the shipped rules, and members that it reaches under theirs.
pub(crate) struct Rig {
    pub(crate) fleet: TestFleet,
    /// With all rights.
    pub(crate) hub: Client,
    pub(crate) members: Members,
    pub(crate) membership: Arc<FleetMembership>,
    pub(crate) stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    pub(crate) async fn start(members: &[&str]) -> Self {
        let (fleet, hub) = Self::servers(members).await;
        let account = Self::account(&fleet).await;
        let manager = manage(account.client().unwrap(), FleetOptions::default()).await;
        let (membership, stop) = (manager.membership(), CancellationToken::new());
        let members = manager.members();
        tokio::spawn(manager.run(stop.clone().cancelled_owned()));
        Self {
            fleet,
            hub,
            members,
            membership,
            stop,
        }
    }

    /// The servers alone, and a client of the hub.
    pub(crate) async fn servers(members: &[&str]) -> (TestFleet, Client) {
        let fleet = TestFleet::builder()
            .members(["hub"])
            .members(members.iter().copied())
            .patience(Duration::from_secs(240))
            .start()
            .await
            .unwrap();
        let hub = fleet.member("hub").unwrap();
        hub.install(&crds()).await.unwrap();
        let client = hub.direct_client().unwrap();
        (fleet, client)
    }

    /// The account of the fleet manager on the hub.
    pub(crate) async fn account(fleet: &TestFleet) -> Account {
        let hub = fleet.member("hub").unwrap();
        let account = hub.account("kurator-system", "kurator-fleet").await.unwrap();
        hub.apply(include_str!("../../../deploy/rbac/fleet.yaml"))
            .await
            .unwrap();
        account
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.hub.clone(), "default")
    }

    pub(crate) fn direct(&self, member: &str) -> Client {
        self.fleet.member(member).unwrap().direct_client().unwrap()
    }

    /// A kubeconfig of the account that the fleet manager has on a member.
    pub(crate) async fn kubeconfig(&self, member: &str) -> String {
        let member = self.fleet.member(member).unwrap();
        let account = member
            .account("kurator-system", "kurator-fleet-member")
            .await
            .unwrap();
        member
            .apply(include_str!("../../../deploy/rbac/fleet-member.yaml"))
            .await
            .unwrap();
        account.kubeconfig().expose_secret().to_owned()
    }

    pub(crate) async fn write_secret(&self, name: &str, key: &str, kubeconfig: &str) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "data": {key: ByteString(kubeconfig.as_bytes().to_vec())},
        });
        let params = PatchParams::apply("test").force();
        self.api::<Secret>()
            .patch(name, &params, &Patch::Apply(secret))
            .await
            .unwrap();
    }

    pub(crate) async fn attach(&self, name: &str, member: &str, detach: Value) {
        let kubeconfig = self.kubeconfig(member).await;
        self.write_secret(name, "value", &kubeconfig).await;
        self.register(name, name, detach).await;
    }

    pub(crate) async fn register(&self, name: &str, secret: &str, detach: Value) {
        let mut cluster = json!({
            "apiVersion": "cluster.kurator.dev/v1alpha1", "kind": "AttachedCluster",
            "metadata": {"name": name, "labels": {"member-of": "selected"}},
            "spec": {"kubeconfig": {"name": secret, "key": "value"}},
        });
        if !detach.is_null() {
            cluster["spec"]["detach"] = detach;
        }
        let cluster: AttachedCluster = serde_json::from_value(cluster).unwrap();
        self.api().create(&PostParams::default(), &cluster).await.unwrap();
    }

    pub(crate) async fn fleet(&self, name: &str, spec: Value) {
        let fleet = json!({
            "apiVersion": "fleet.kurator.dev/v1alpha1", "kind": "Fleet", "metadata": {"name": name}, "spec": spec,
        });
        let fleet: Fleet = serde_json::from_value(fleet).unwrap();
        self.api().create(&PostParams::default(), &fleet).await.unwrap();
    }

    pub(crate) async fn until<K>(
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

    pub(crate) async fn ready(&self, cluster: &str, status: &str) -> AttachedCluster {
        let wanted = |it: Option<&AttachedCluster>| it.is_some_and(|it| ready(it).0 == status);
        self.until(cluster, &format!("Ready={status}"), wanted)
            .await
            .unwrap()
    }

    pub(crate) async fn gone(&self, cluster: &str) {
        self.until::<AttachedCluster>(cluster, "gone", |it| it.is_none())
            .await;
    }

    pub(crate) async fn place(&self, member: &str, name: &str) {
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

    pub(crate) async fn has(&self, member: &str, name: &str) -> bool {
        let maps: Api<ConfigMap> = Api::namespaced(self.direct(member), "default");
        maps.get_opt(name).await.unwrap().is_some()
    }
}

pub(crate) fn ready(cluster: &AttachedCluster) -> (String, String) {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.into_iter().find(|it| it.type_ == "Ready");
    found
        .map(|it| (it.status.clone(), it.reason.clone()))
        .unwrap_or_default()
}

pub(crate) async fn manage(hub: Client, options: FleetOptions) -> FleetManager {
    let members = MembersOptions::default().with_health(HealthPolicy::with_grace(GRACE));
    let options = options.with_members(members).with_lease_seconds(3);
    FleetManager::start(hub, "default", options, Arc::new(SystemClock::new()))
        .await
        .unwrap()
}

/// The status of the `Ready` condition, and its reason.
pub(crate) fn fleet_ready(fleet: &Fleet) -> (String, String) {
    let conditions = fleet.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.into_iter().find(|it| it.type_ == "Ready");
    found
        .map(|it| (it.status.clone(), it.reason.clone()))
        .unwrap_or_default()
}

/// What a fleet says about its members: name and reason.
pub(crate) fn reasons(fleet: &Fleet) -> BTreeMap<String, String> {
    let members = fleet.status.iter().flat_map(|status| &status.clusters);
    members
        .map(|member| (member.name.clone(), member.reason.clone()))
        .collect()
}
