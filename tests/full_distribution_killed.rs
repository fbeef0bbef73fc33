//! The controller dies at every write, in turns right before it is sent and right after the server has acted. A successor
//! goes on, and in the end everything is as if nobody had died.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::Method;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams},
    client::Body,
};
use kurator::{
    core::{apply::LABEL_HUB, connect::StaticConnector},
    fleet::{api::AttachedCluster, membership::attached_clusters},
    policy::api::{DistributionPolicy, DistributionPolicyStatus},
};
use serde_json::json;
use storefront::{DR, PROD, Storefront, create, deployment, edit};
use tokio::{runtime::Runtime, sync::Notify};

/// What one process writes goes through here; with the first write it dies.
#[derive(Clone)]
struct Mortal {
    client: Client,
    life: Arc<Life>,
}

struct Life {
    /// Whether the write that kills still reaches the server.
    reaches: bool,
    over: AtomicBool,
    died: Notify,
}

impl tower_service::Service<http::Request<Body>> for Mortal {
    type Response = http::Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (client, life) = (self.client.clone(), Arc::clone(&self.life));
        Box::pin(async move {
            if request.method() == Method::GET {
                return Ok(client.send(request).await?);
            }
            // What goes out at the same time is on its way, or is not: as with SIGKILL.
            let first = !life.over.swap(true, Ordering::SeqCst);
            if first && life.reaches {
                client.send(request).await?;
            }
            life.died.notify_one();
            pending().await
        })
    }
}

/// Lives, one after the other, until `met`; the last one is left to die of old age.
async fn live_until(fleet: &Storefront, lives: &mut usize, met: impl Future<Output = ()>) {
    let mut met = std::pin::pin!(met);
    loop {
        *lives += 1;
        let life = Arc::new(Life {
            reaches: lives.is_multiple_of(2),
            over: AtomicBool::new(false),
            died: Notify::new(),
        });
        let mortal = |client: Client| {
            let life = Arc::clone(&life);
            Client::new(Mortal { client, life }, "default")
        };
        let runtime = Runtime::new().unwrap();
        // Its connections die with it, and nobody else's do.
        let guard = runtime.enter();
        let mortal = |name| mortal(fleet.member(name).direct_client().unwrap());
        let hub = mortal("hub");
        let members = [PROD, DR].map(|name| (name.parse().unwrap(), mortal(name)));
        let connector = members
            .into_iter()
            .fold(StaticConnector::default(), |connector, (name, client)| {
                connector.with_client(name, client)
            });
        let membership = Arc::new(attached_clusters(&hub));
        let controller = storefront::distribution_over(&hub, membership, connector, None);
        runtime.spawn(async move { controller.run(pending()).await });
        drop(guard);
        let done = tokio::select! {
            () = &mut met => true,
            () = life.died.notified() => false,
        };
        runtime.shutdown_background();
        if done {
            return;
        }
        assert!(*lives < 400, "after 400 lives it is still not done");
    }
}

async fn status(
    fleet: &Storefront,
    policy: &str,
    met: impl Fn(&DistributionPolicyStatus) -> bool + Send + Sync,
) {
    fleet.status(policy, "after any number of lives", met).await;
}

/// Everything of this hub in a member, by kind and name, and how often it was changed.
async fn ours(fleet: &Storefront, member: &str) -> BTreeSet<(String, Option<i64>)> {
    let client = fleet.member(member).direct_client().unwrap();
    let params = ListParams::default().labels(LABEL_HUB);
    let deployments: Api<Deployment> = Api::all(client.clone());
    let maps: Api<ConfigMap> = Api::all(client);
    let mut found = BTreeSet::new();
    for it in deployments.list(&params).await.unwrap() {
        found.insert((format!("Deployment {}", it.name_any()), it.metadata.generation));
    }
    for it in maps.list(&params).await.unwrap() {
        let text = it.data.as_ref().and_then(|data| data.get("version")).cloned();
        found.insert((
            format!("ConfigMap {} {}", it.name_any(), text.unwrap_or_default()),
            None,
        ));
    }
    found
}

fn set<const N: usize>(objects: [(&str, Option<i64>); N]) -> BTreeSet<(String, Option<i64>)> {
    objects
        .map(|(name, generation)| (name.to_owned(), generation))
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_at_any_write_leaves_nothing_twice_and_nothing_behind() {
    let fleet = Storefront::idle().await;
    let mut lives = 0;
    let maps: Api<ConfigMap> = Api::namespaced(fleet.hub.clone(), "default");
    let _: ConfigMap = create(
        &maps,
        json!({ "metadata": { "name": "settings" }, "data": { "version": "1" } }),
    )
    .await;
    let deployments: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    let _: Deployment = create(&deployments, deployment("web", 20)).await;
    let staged = json!({
        "metadata": { "name": "staged" },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": "settings" }],
            "rollout": { "maxConcurrency": 1 },
        },
    });
    let divided = json!({
        "metadata": { "name": "divided" },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" }],
            "placement": { "replicaScheduling": { "replicaDivisionPreference": "Weighted" } },
            "failover": { "cluster": { "purgeMode": "Directly" } },
        },
    });
    let _: DistributionPolicy = create(&fleet.policy_api(), staged).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), divided).await;

    let completed = |revision: Option<String>| {
        let fleet = &fleet;
        async move {
            status(fleet, "staged", |it| {
                it.rollout.as_ref().is_some_and(|rollout| {
                    rollout.reason == "RolloutCompleted" && Some(&rollout.revision) != revision.as_ref()
                }) && it.clusters.iter().all(|entry| entry.reason == "Applied")
            })
            .await;
        }
    };
    let arrived = async {
        completed(None).await;
        status(&fleet, "divided", |it| {
            it.clusters
                .iter()
                .filter(|entry| entry.applied_replicas == 10)
                .count()
                == 2
        })
        .await;
    };
    live_until(&fleet, &mut lives, arrived).await;
    for member in [PROD, DR] {
        let there = set([("ConfigMap settings 1", None), ("Deployment web", Some(1))]);
        assert_eq!(ours(&fleet, member).await, there, "{member}");
    }
    let begun = lives;

    let first = fleet
        .policy_api()
        .get("staged")
        .await
        .unwrap()
        .status
        .unwrap()
        .rollout
        .unwrap()
        .revision;
    edit(&maps, "settings", json!({ "data": { "version": "2" } })).await;
    live_until(&fleet, &mut lives, completed(Some(first))).await;
    let changed = lives;

    let clusters: Api<AttachedCluster> = Api::namespaced(fleet.hub.clone(), "default");
    let taints = json!({ "spec": { "taints": [{ "key": "fire", "effect": "NoExecute" }] } });
    edit(&clusters, PROD, taints).await;
    let moved = async {
        fleet.replicas(DR, "web", 20).await;
        fleet.gone(PROD, "web").await;
        status(&fleet, "divided", |it| {
            it.clusters.len() == 1 && it.failovers.iter().all(|it| it.purged)
        })
        .await;
    };
    live_until(&fleet, &mut lives, moved).await;
    assert_eq!(ours(&fleet, PROD).await, set([("ConfigMap settings 2", None)]));
    let there = set([("ConfigMap settings 2", None), ("Deployment web", Some(2))]);
    assert_eq!(ours(&fleet, DR).await, there, "created, and changed once");
    let secrets: Api<Secret> = Api::namespaced(fleet.hub.clone(), "default");
    let of_type = ListParams::default().fields("type=policy.kurator.dev/revision");
    assert_eq!(
        secrets.list(&of_type).await.unwrap().items.len(),
        2,
        "one for each revision"
    );
    let failed_over = lives;

    for policy in ["staged", "divided"] {
        fleet
            .policy_api()
            .delete(policy, &DeleteParams::default())
            .await
            .unwrap();
    }
    let gone = async {
        fleet.policy_gone("staged").await;
        fleet.policy_gone("divided").await;
    };
    live_until(&fleet, &mut lives, gone).await;
    for member in [PROD, DR] {
        assert_eq!(ours(&fleet, member).await, BTreeSet::new(), "{member}");
    }
    println!(
        "{lives} lives, each ended by its first write: {begun} to arrive, {} to change in stages, {} to fail over, {} to go",
        changed - begun,
        failed_over - changed,
        lives - failed_over
    );
}
