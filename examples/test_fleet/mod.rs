//! A hub and some members on this machine, with real control planes and simulated nodes, and the distribution
//! controller over them. The first start builds the control planes, which takes some minutes.
#![allow(dead_code, reason = "every example uses another part of it")]

use std::{error::Error, sync::Arc, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{apps::v1::Deployment, core::v1::Secret},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use kurator::{
    core::{
        clock::SystemClock,
        connect::SecretConnector,
        multicluster::{Members, MembersOptions},
    },
    fleet::{
        api::{AttachedCluster, AttachedClusterSpec, SecretKeyReference},
        membership::attached_clusters,
    },
    policy::{
        api::{DistributionPolicy, DistributionPolicyStatus},
        controller::Distribution,
    },
};
use kurator_envtest::{Controllers, Fleet, MemberSpec, Nodes};
use serde_json::{Value, json};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What an example waits for takes seconds; a minute means that something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct TestFleet {
    fleet: Fleet,
    pub(crate) hub: Client,
}

impl TestFleet {
    /// Starts a hub and members with these names and labels, and the controller, which runs as long as the process.
    pub(crate) async fn start(members: &[(&str, &[(&str, &str)])]) -> Outcome<Self> {
        println!("starting a hub and {} members", members.len());
        let mut builder = Fleet::builder().member(MemberSpec::new("hub"));
        for (name, _) in members {
            let member = MemberSpec::new(*name)
                .with_controllers(Controllers::Stock)
                .with_scheduler();
            builder = builder.member(member.with_nodes(Nodes::new(2)));
        }
        let fleet = builder.start().await?;
        let hub = fleet.member("hub")?;
        hub.install(&kurator::fleet::api::crds()).await?;
        hub.install(&kurator::policy::api::crds()).await?;
        let this = Self {
            hub: hub.client()?,
            fleet,
        };
        for (name, labels) in members {
            this.attach(name, labels).await?;
        }
        let membership = Arc::new(attached_clusters(&this.hub));
        let connector = SecretConnector::new(this.hub.clone(), Arc::clone(&membership));
        let (options, clock) = (MembersOptions::default(), SystemClock::new());
        let members = Members::start(membership, Arc::new(connector), None, None, options, &clock);
        let controller = Distribution::new(this.hub.clone(), members);
        tokio::spawn(async move {
            if let Err(error) = controller.run(std::future::pending()).await {
                eprintln!("the controller ended: {error}");
            }
        });
        Ok(this)
    }

    async fn attach(&self, name: &str, labels: &[(&str, &str)]) -> Outcome<()> {
        let member = self.fleet.member(name)?;
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(format!("{name}-kubeconfig")),
                ..ObjectMeta::default()
            },
            data: Some([("value".to_owned(), ByteString(member.kubeconfig().into()))].into()),
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.hub.clone(), "default");
        secrets.create(&PostParams::default(), &secret).await?;
        let spec = AttachedClusterSpec {
            kubeconfig: SecretKeyReference {
                name: format!("{name}-kubeconfig"),
                key: "value".to_owned(),
            },
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..AttachedClusterSpec::default()
        };
        let clusters: Api<AttachedCluster> = Api::namespaced(self.hub.clone(), "default");
        clusters
            .create(&PostParams::default(), &AttachedCluster::new(name, spec))
            .await?;
        Ok(())
    }

    /// Applies manifests to the hub, as `kubectl apply -f` does.
    pub(crate) async fn apply(&self, manifests: &str) -> Outcome<()> {
        let hub = self.fleet.member("hub")?;
        hub.apply(manifests).await?;
        Ok(())
    }

    /// Changes an object of the hub, as `kubectl patch --type merge` does.
    pub(crate) async fn patch<K>(&self, name: &str, patch: Value) -> Outcome<()>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.hub.clone(), "default");
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Waits until the status of a policy is as wanted, and prints what it says of each cluster.
    pub(crate) async fn until(
        &self,
        policy: &str,
        met: impl Fn(&DistributionPolicyStatus) -> bool + Send + Sync,
    ) -> Outcome<DistributionPolicyStatus> {
        let api: Api<DistributionPolicy> = Api::namespaced(self.hub.clone(), "default");
        let hub = self.fleet.member("hub")?;
        let wanted =
            |policy: Option<&DistributionPolicy>| policy.and_then(|it| it.status.as_ref()).is_some_and(&met);
        let found = tokio::time::timeout(PATIENCE, hub.wait_for(&api, policy, wanted)).await??;
        let status = found.and_then(|policy| policy.status).unwrap_or_default();
        for entry in &status.clusters {
            println!(
                "  {}: {} of {} replicas ready, {}",
                entry.cluster, entry.ready_replicas, entry.applied_replicas, entry.reason
            );
        }
        Ok(status)
    }

    /// The Deployments of a member.
    pub(crate) fn deployments(&self, member: &str) -> Outcome<Api<Deployment>> {
        let member = self.fleet.member(member)?;
        Ok(Api::namespaced(member.client()?, "default"))
    }
}

/// A Deployment of a web server.
pub(crate) fn web(replicas: u32, image: &str) -> String {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": image }] },
            },
        },
    })
    .to_string()
}
