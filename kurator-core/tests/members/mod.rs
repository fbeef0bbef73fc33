//! Real members, each with its kubeconfig in a Secret of a real hub, and a controller that runs on them.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use kurator_core::clock::SystemClock;
use kurator_core::connect::SecretConnector;
use kurator_core::health::{HealthPolicy, HealthReason};
use kurator_core::kubeconfig::KubeconfigRef;
use kurator_core::membership::{Member, StaticMembership};
use kurator_core::multicluster::{Members, MembersOptions, ReconcileContext, UniformController};
use kurator_core::names::{ClusterName, NamespacedName};
use kurator_core::observe::HealthStatus;
use kurator_envtest::Fleet;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

pub(crate) const GRACE: Duration = Duration::from_secs(8);
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn name(name: &str) -> ClusterName {
    name.parse().unwrap()
}

/// A hub with a Secret for each member, and a controller that answers every ConfigMap labelled `greet`.
pub(crate) struct Rig {
    pub(crate) fleet: Fleet,
    pub(crate) hub: Client,
    pub(crate) membership: Arc<StaticMembership>,
    pub(crate) connector: Arc<SecretConnector>,
    pub(crate) members: Members,
    pub(crate) stop: CancellationToken,
}

impl Rig {
    pub(crate) async fn start(names: &[&str]) -> Self {
        let fleet = Fleet::builder()
            .members(["hub"])
            .members(names.iter().copied())
            .start()
            .await
            .unwrap();
        let hub = fleet.member("hub").unwrap().client().unwrap();
        let membership = Arc::new(StaticMembership::default());
        // By the watch alone: what is not noticed by it is not noticed in time.
        let connector =
            SecretConnector::new(hub.clone(), Arc::clone(&membership)).with_recheck(Duration::from_secs(600));
        let connector = Arc::new(connector);
        let members = Members::start(
            Arc::clone(&membership) as _,
            Arc::clone(&connector) as _,
            None,
            None,
            MembersOptions::default().with_health(HealthPolicy::with_grace(GRACE)),
            &SystemClock::new(),
        );
        let stop = CancellationToken::new();
        let controller = UniformController::<ConfigMap>::new(members.clone())
            .watcher(watcher::Config::default().labels("greet=true"));
        tokio::spawn(controller.run(greet, Arc::new(()), stop.clone().cancelled_owned()));
        Self {
            fleet,
            hub,
            membership,
            connector,
            members,
            stop,
        }
    }

    pub(crate) async fn write_secret(&self, member: &str, kubeconfig: &str) {
        let secret = Secret {
            data: Some([("value".to_owned(), ByteString(kubeconfig.as_bytes().to_vec()))].into()),
            metadata: kube::core::ObjectMeta {
                name: Some(member.into()),
                ..Default::default()
            },
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.hub.clone(), "default");
        secrets
            .patch(member, &PatchParams::apply("test").force(), &Patch::Apply(secret))
            .await
            .unwrap();
    }

    pub(crate) async fn join(&self, member: &str, kubeconfig: &str) {
        self.write_secret(member, kubeconfig).await;
        let at = KubeconfigRef::new(NamespacedName::new("default", member)).with_key("value");
        self.membership
            .join(Member::new(name(member)).with_kubeconfig(at));
    }

    pub(crate) fn kubeconfig(&self, member: &str) -> String {
        self.fleet.member(member).unwrap().kubeconfig()
    }

    pub(crate) fn direct(&self, member: &str) -> Client {
        self.fleet.member(member).unwrap().direct_client().unwrap()
    }

    /// Waits for a health and says how long it took.
    pub(crate) async fn until(
        &self,
        member: &str,
        wanted: impl Fn(HealthStatus, HealthReason) -> bool + Send + Sync,
    ) -> Duration {
        let start = Instant::now();
        let mut changes = self.members.changes();
        let waiting = async {
            loop {
                let status = self.members.status(&name(member));
                if status.is_some_and(|status| wanted(status.health.health, status.health.reason)) {
                    return start.elapsed();
                }
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("{member}: {:?}", self.members.status(&name(member))))
    }

    pub(crate) async fn ready(&self, member: &str) -> Duration {
        self.until(member, |health, _| health == HealthStatus::Ready)
            .await
    }
}

async fn greet(map: Arc<ConfigMap>, context: Arc<ReconcileContext<()>>) -> Result<Action, kube::Error> {
    let cluster = context.member().name();
    let maps: Api<ConfigMap> = Api::namespaced(context.client(), "default");
    let told = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"cluster": cluster}});
    let params = PatchParams::apply("greeter").force();
    maps.patch(&map.name_any(), &params, &Patch::Apply(told)).await?;
    Ok(Action::await_change())
}

pub(crate) async fn create(client: &Client, object: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": object, "labels": {"greet": "true"}}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
}

/// Waits until the controller has answered, and says which cluster it took it for.
pub(crate) async fn answered(client: &Client, object: &str) -> String {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let answered = |map: Option<&ConfigMap>| cluster(map).is_some();
    let map = timeout(
        PATIENCE,
        kube::runtime::wait::await_condition(maps, object, answered),
    )
    .await;
    cluster(
        map.unwrap_or_else(|_| panic!("{object} is not answered"))
            .unwrap()
            .as_ref(),
    )
    .unwrap()
}

fn cluster(map: Option<&ConfigMap>) -> Option<String> {
    map?.data.as_ref()?.get("cluster").cloned()
}

pub(crate) async fn is_answered(client: &Client, object: &str) -> bool {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    cluster(Some(&maps.get(object).await.unwrap())).is_some()
}
