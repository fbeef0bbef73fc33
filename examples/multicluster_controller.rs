//! One reconciler on every cluster of a kubeconfig, following the contexts that come and go:
//! `cargo run --example multicluster_controller -- ~/.kube/config`
//!
//! Every ConfigMap labelled `greet=true`, on whichever cluster, is told the cluster's name and by whom. Started twice with a hub
//! (`-- ~/.kube/config HUB-CONTEXT REPLICA-NAME`) the two share the clusters; end one and the other takes over.

use std::{error::Error, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::{controller::Action, watcher};
use kube::{Api, ResourceExt};
use kurator::core::clock::SystemClock;
use kurator::core::connect::{ClientPurpose, ClusterConnector};
use kurator::core::membership::KubeconfigContexts;
use kurator::core::multicluster::shard::{ReplicaId, ShardOptions, Shards};
use kurator::core::multicluster::{Members, MembersOptions, ReconcileContext, UniformController};
use serde_json::json;

async fn greet(map: Arc<ConfigMap>, context: Arc<ReconcileContext<String>>) -> Result<Action, kube::Error> {
    let cluster = context.member().name();
    let told = map.data.as_ref().and_then(|data| data.get("cluster"));
    if told.is_some_and(|told| *cluster == told.as_str()) {
        return Ok(Action::await_change());
    }
    let namespace = map.namespace().unwrap_or_default();
    let maps = Api::<ConfigMap>::namespaced(context.client(), &namespace);
    let told = json!({"cluster": cluster, "by": context.data()});
    let told = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": told});
    let params = PatchParams::apply("multicluster-example").force();
    maps.patch(&map.name_any(), &params, &Patch::Apply(told)).await?;
    println!("{cluster}: greeted {namespace}/{}", map.name_any());
    Ok(Action::requeue(Duration::from_secs(300)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .ok_or("usage: multicluster_controller KUBECONFIG [HUB-CONTEXT REPLICA-NAME]")?;
    let contexts = Arc::new(KubeconfigContexts::read(path)?);
    let clock = SystemClock::new();

    let (hub, replica) = (arguments.next(), arguments.next());
    let name = replica.clone().unwrap_or_else(|| "greeter".to_owned());
    let shards = match (hub, replica) {
        (Some(hub), Some(replica)) => {
            let hub = contexts.client(&hub.parse()?, ClientPurpose::Lease).await?;
            let (replica, options) = (ReplicaId::new(replica), ShardOptions::default());
            Some(Shards::join(hub, "default", "greeter", replica, options, clock)?)
        }
        _ => None,
    };
    let options = MembersOptions::default();
    let (membership, connector) = (Arc::clone(&contexts), contexts);
    let members = Members::start(membership, connector, None, shards.as_ref(), options, &clock);

    println!("greeting until Ctrl-C");
    UniformController::<ConfigMap>::new(members)
        .watcher(watcher::Config::default().labels("greet=true"))
        .run(greet, Arc::new(name), async {
            drop(tokio::signal::ctrl_c().await)
        })
        .await;
    if let Some(shards) = shards {
        shards.close().await;
    }
    Ok(())
}
