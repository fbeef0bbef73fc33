//! A hub, two members and the storefront of `examples/manifests/distribution.yaml`.
#![allow(dead_code, reason = "every test file uses another part of it")]

use std::{path::Path, sync::Arc, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{apps::v1::Deployment, core::v1::Secret, events::v1::Event},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use kurator::{
    core::{
        clock::SystemClock,
        connect::{ClusterConnector, SecretConnector},
        health::HealthPolicy,
        membership::Membership,
        multicluster::{
            Members, MembersOptions,
            shard::{ReplicaId, ShardOptions, Shards},
        },
    },
    fleet::{
        api::{AttachedCluster, AttachedClusterSpec, SecretKeyReference},
        membership::attached_clusters,
    },
    policy::{
        api::{ClusterDistribution, DistributionPolicy, DistributionPolicyStatus},
        controller::{Distribution, DistributionCounts, Settings},
    },
};
use kurator_envtest::{Controllers, Fleet, Member, MemberSpec, Nodes, Part};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub(crate) const PROD: &str = "cluster-prod";
pub(crate) const DR: &str = "cluster-dr";
pub(crate) const MANIFEST: &str = include_str!("../../examples/manifests/distribution.yaml");

/// A hub with the custom resources and two attached members. The controller runs until this is dropped.
pub(crate) struct Storefront {
    pub(crate) fleet: Fleet,
    pub(crate) hub: Client,
    /// The hub as the controller sees it.
    pub(crate) seen: Client,
    /// What the controllers that ran have counted.
    pub(crate) counts: DistributionCounts,
    controller: Option<JoinHandle<()>>,
}

impl Drop for Storefront {
    fn drop(&mut self) {
        if let Some(controller) = &self.controller {
            controller.abort();
        }
    }
}

impl Storefront {
    /// Members of an API server each: objects stay as they are applied, and nothing gets ready.
    pub(crate) async fn still() -> Self {
        let mut this = Self::idle().await;
        this.run();
        this
    }

    /// The same without a controller.
    pub(crate) async fn idle() -> Self {
        Self::of([MemberSpec::new(PROD), MemberSpec::new(DR)]).await
    }

    /// The controller has the rights of `deploy/rbac` and no others, on the hub and in the members. What it does is
    /// written down in `folder`, by the name of the member. It does not run yet.
    pub(crate) async fn restricted(folder: &Path) -> Self {
        let audited = |name: &str| {
            let policy = folder.join("policy.yaml");
            std::fs::write(&policy, AUDIT).unwrap();
            let log = folder.join(name);
            MemberSpec::new(name)
                .with_flag(
                    Part::ApiServer,
                    format!("--audit-policy-file={}", policy.display()),
                )
                .with_flag(Part::ApiServer, format!("--audit-log-path={}", log.display()))
        };
        let mut this = Self::of_hub(audited("hub"), [audited(PROD), audited(DR)]).await;
        let hub = this.member("hub");
        let account = hub
            .account("kurator-system", "kurator-distribution")
            .await
            .unwrap();
        hub.apply(include_str!("../../deploy/rbac/distribution.yaml"))
            .await
            .unwrap();
        for name in [PROD, DR] {
            let member = this.member(name);
            let account = member.account("kurator-system", "kurator-member").await.unwrap();
            for rules in [
                include_str!("../../deploy/rbac/member.yaml"),
                include_str!("../../deploy/rbac/member-namespaces.yaml"),
            ] {
                member.apply(rules).await.unwrap();
            }
            this.attach(name, account.kubeconfig().expose_secret()).await;
        }
        this.seen = account.client().unwrap();
        this
    }

    /// Members in which Deployments come to life.
    pub(crate) async fn alive() -> Self {
        let members = [PROD, DR].map(|name| {
            MemberSpec::new(name)
                .with_controllers(Controllers::Stock)
                .with_scheduler()
                .with_nodes(Nodes::new(2))
        });
        let mut this = Self::of(members).await;
        this.run();
        this
    }

    /// Any members, without a controller.
    pub(crate) async fn of(members: impl IntoIterator<Item = MemberSpec>) -> Self {
        Self::of_hub(MemberSpec::new("hub"), members).await
    }

    async fn of_hub(hub: MemberSpec, members: impl IntoIterator<Item = MemberSpec>) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let mut builder = Fleet::builder().member(hub);
        for member in members {
            builder = builder.member(member);
        }
        let fleet = builder.start().await.unwrap();
        let hub = fleet.member("hub").unwrap();
        hub.install(&kurator::fleet::api::crds()).await.unwrap();
        hub.install(&kurator::policy::api::crds()).await.unwrap();
        let client = hub.client().unwrap();
        let this = Self {
            seen: client.clone(),
            hub: client,
            fleet,
            counts: DistributionCounts::default(),
            controller: None,
        };
        for member in this
            .fleet
            .members()
            .iter()
            .filter(|member| member.name() != "hub")
        {
            this.attach(member.name(), &member.kubeconfig()).await;
        }
        this
    }

    /// Registers a member with this kubeconfig, or gives it another.
    pub(crate) async fn attach(&self, name: &str, kubeconfig: &str) {
        let secrets: Api<Secret> = Api::namespaced(self.hub.clone(), "default");
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(format!("{name}-kubeconfig")),
                ..ObjectMeta::default()
            },
            data: Some([("value".into(), ByteString(kubeconfig.into()))].into()),
            ..Secret::default()
        };
        apply(&secrets, &secret).await;
        let kubeconfig = SecretKeyReference {
            name: secret.name_any(),
            key: "value".into(),
        };
        let spec = AttachedClusterSpec {
            kubeconfig,
            ..AttachedClusterSpec::default()
        };
        apply(
            &Api::namespaced(self.hub.clone(), "default"),
            &AttachedCluster::new(name, spec),
        )
        .await;
    }

    /// Starts the controller.
    pub(crate) fn run(&mut self) {
        self.run_with(|_| {});
    }

    /// Starts the controller with other settings.
    pub(crate) fn run_with(&mut self, set: impl FnOnce(&mut Settings)) {
        let mut settings = settings();
        set(&mut settings);
        let controller = distribution(&self.seen, None)
            .with_settings(settings)
            .with_metrics(self.counts.clone());
        self.controller = Some(tokio::spawn(async move {
            controller.run(std::future::pending()).await.unwrap();
        }));
    }

    /// Stops the controller where it stands, as a crash would.
    pub(crate) async fn crash(&mut self) {
        if let Some(controller) = self.controller.take() {
            controller.abort();
            let _ = controller.await;
        }
    }

    pub(crate) fn member(&self, name: &str) -> &Member {
        self.fleet.member(name).unwrap()
    }

    /// The storefront's template on the hub.
    pub(crate) async fn template(&self, replicas: i32) {
        let template: Deployment = serde_json::from_value(deployment("storefront", replicas)).unwrap();
        apply(&Api::namespaced(self.hub.clone(), "default"), &template).await;
    }

    /// The two policies, as users write them.
    pub(crate) async fn policies(&self) {
        self.fleet.member("hub").unwrap().apply(MANIFEST).await.unwrap();
    }

    /// A Deployment, and a policy that copies it to every member.
    pub(crate) async fn another(&self, policy: &str, name: &str, replicas: i32) {
        let api: Api<Deployment> = Api::namespaced(self.hub.clone(), "default");
        let _: Deployment = create(&api, deployment(name, replicas)).await;
        let selector = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": name });
        let object = json!({ "metadata": { "name": policy }, "spec": { "resourceSelectors": [selector] } });
        let _: DistributionPolicy = create(&self.policy_api(), object).await;
    }

    /// Waits until a policy is gone from the hub.
    pub(crate) async fn policy_gone(&self, name: &str) {
        let hub = self.fleet.member("hub").unwrap();
        let gone = |policy: Option<&DistributionPolicy>| policy.is_none();
        tokio::time::timeout(PATIENCE, hub.wait_for(&self.policy_api(), name, gone))
            .await
            .unwrap()
            .unwrap();
    }

    pub(crate) fn policy_api(&self) -> Api<DistributionPolicy> {
        Api::namespaced(self.hub.clone(), "default")
    }

    /// Waits until the status of a policy is as wanted.
    pub(crate) async fn status(
        &self,
        policy: &str,
        what: &str,
        met: impl Fn(&DistributionPolicyStatus) -> bool + Send + Sync,
    ) -> DistributionPolicyStatus {
        let hub = self.fleet.member("hub").unwrap();
        let seen = std::sync::Mutex::new(None);
        let wanted = |policy: Option<&DistributionPolicy>| {
            let status: Option<DistributionPolicyStatus> = policy.and_then(|policy| policy.status.clone());
            *seen.lock().unwrap() = status.clone();
            status.is_some_and(|status| met(&status))
        };
        let waited = tokio::time::timeout(PATIENCE, hub.wait_for(&self.policy_api(), policy, wanted)).await;
        match waited {
            Ok(found) => found.unwrap().unwrap().status.unwrap(),
            Err(_) => panic!(
                "{policy}: {what}: not so; the status is {:#?}",
                seen.lock().unwrap()
            ),
        }
    }

    /// Waits until a Deployment of a member has this many replicas.
    pub(crate) async fn replicas(&self, member: &str, name: &str, replicas: i32) -> Deployment {
        let wanted =
            |deployment: Option<&Deployment>| deployment.and_then(|it| it.spec.replicas) == Some(replicas);
        self.deployment(member, name, &format!("{replicas} replicas"), wanted)
            .await
            .unwrap()
    }

    /// Waits until a Deployment of a member is as wanted.
    pub(crate) async fn deployment(
        &self,
        member: &str,
        name: &str,
        what: &str,
        wanted: impl Fn(Option<&Deployment>) -> bool + Send + Sync,
    ) -> Option<Deployment> {
        let member = self.member(member);
        let api = deployments(member);
        let waited = tokio::time::timeout(PATIENCE, member.wait_for(&api, name, wanted)).await;
        match waited {
            Ok(found) => found.unwrap(),
            Err(_) => {
                let now = api.get_opt(name).await.unwrap();
                let policies = self.policy_api().list(&ListParams::default()).await.unwrap();
                let statuses: Vec<_> = policies
                    .items
                    .iter()
                    .map(|it| (it.name_any(), &it.status))
                    .collect();
                panic!(
                    "{}/{name}: {what}: not so; it is {now:#?}\n{statuses:#?}",
                    member.name()
                )
            }
        }
    }

    /// Waits until a Deployment is gone from a member.
    pub(crate) async fn gone(&self, member: &str, name: &str) {
        self.deployment(member, name, "gone", |it| it.is_none()).await;
    }

    /// Waits for an Event about a policy.
    pub(crate) async fn event(&self, reason: &str) -> Event {
        let hub = self.fleet.member("hub").unwrap();
        let api: Api<Event> = Api::namespaced(self.hub.clone(), "default");
        let is = |event: &&Event| event.reason.as_deref() == Some(reason);
        let events = hub
            .wait_for_all(
                &api,
                &ListParams::default(),
                &format!("an Event {reason}"),
                |events| events.iter().any(&is),
            )
            .await
            .unwrap();
        events.into_iter().find(|event| is(&event)).unwrap()
    }
}

/// Every request of a service account, with its verb and what became of it.
const AUDIT: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
  - level: None
"#;

/// How long a member may be silent before it is lost.
const GRACE: Duration = Duration::from_secs(4);

/// How long anything may take that should happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The controller as it is tested; one of several replicas if there are shards to share. Call within a runtime.
pub(crate) fn distribution(hub: &Client, shards: Option<&Shards>) -> Distribution {
    let membership = Arc::new(attached_clusters(hub));
    let connector = SecretConnector::new(hub.clone(), Arc::clone(&membership)).with_recheck(Duration::ZERO);
    distribution_over(hub, membership, connector, shards)
}

/// The same with another way to the members.
pub(crate) fn distribution_over(
    hub: &Client,
    membership: Arc<dyn Membership>,
    connector: impl ClusterConnector,
    shards: Option<&Shards>,
) -> Distribution {
    let options = MembersOptions::default().with_health(HealthPolicy::with_grace(GRACE));
    let members = Members::start(
        membership,
        Arc::new(connector),
        None,
        shards,
        options,
        &SystemClock::new(),
    );
    let controller = Distribution::new(hub.clone(), members).with_settings(settings());
    match shards {
        Some(shards) => controller.with_leadership(shards),
        None => controller,
    }
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.pass_deadline = Duration::from_secs(3);
    settings
}

/// The right to distribute, shared between replicas.
pub(crate) fn shards(hub: &Client, replica: &str) -> Shards {
    let options = ShardOptions::default().with_shards(1).with_lease_seconds(3);
    let replica = ReplicaId::new(replica);
    Shards::join(
        hub.clone(),
        "kurator-system",
        "kurator-distribution",
        replica,
        options,
        SystemClock::new(),
    )
    .unwrap()
}

pub(crate) fn deployments(member: &Member) -> Api<Deployment> {
    Api::namespaced(member.direct_client().unwrap(), "default")
}

pub(crate) fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": name } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "web", "image": "registry.example/web:1" }] },
            },
        },
    })
}

/// Applies an object by a manager of its own, as `kubectl apply --server-side` does.
pub(crate) async fn apply<K>(api: &Api<K>, object: &K) -> K
where
    K: Resource<DynamicType = ()>
        + Send
        + Sync
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let mut value = serde_json::to_value(object).unwrap();
    value["apiVersion"] = json!(K::api_version(&()));
    value["kind"] = json!(K::kind(&()));
    let params = PatchParams::apply("a-user").force();
    api.patch(&object.name_any(), &params, &Patch::Apply(&value))
        .await
        .unwrap()
}

/// A merge patch, as `kubectl edit` would send it.
pub(crate) async fn edit<K>(api: &Api<K>, name: &str, patch: Value) -> K
where
    K: Resource + Send + Sync + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap()
}

pub(crate) async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource<DynamicType = ()>
        + Send
        + Sync
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

pub(crate) fn entry<'a>(
    status: &'a DistributionPolicyStatus,
    cluster: &str,
) -> Option<&'a ClusterDistribution> {
    status.clusters.iter().find(|entry| entry.cluster == cluster)
}

pub(crate) fn reason(status: &DistributionPolicyStatus, cluster: &str) -> String {
    entry(status, cluster)
        .map(|entry| entry.reason.clone())
        .unwrap_or_default()
}

/// Reason and message of a condition, if it has this status.
pub(crate) fn condition(
    status: &DistributionPolicyStatus,
    type_: &str,
    is: &str,
) -> Option<(String, String)> {
    let found = status
        .conditions
        .iter()
        .find(|it| it.type_ == type_ && it.status == is)?;
    Some((found.reason.clone(), found.message.clone()))
}
