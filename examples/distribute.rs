//! The distribution controller, wired by hand: `KUBECONFIG=hub.kubeconfig cargo run --example distribute`
//!
//! The hub needs the definitions in `deploy/crds`, and an AttachedCluster with its kubeconfig Secret for each member.
//! Then `kubectl apply -f examples/manifests/distribution.yaml`, and a Deployment labelled `app=storefront` runs where
//! the policy says. Every change of a policy's status is printed; Ctrl-C ends it and leaves everything in place.

use std::{error::Error, pin::pin, sync::Arc, time::Duration};

use futures::TryStreamExt;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use kurator::{
    core::{
        apply::ServerSideApplier,
        clock::SystemClock,
        connect::SecretConnector,
        health::HealthPolicy,
        kubeconfig::KubeconfigPolicy,
        multicluster::{Facts, Members, MembersOptions},
    },
    fleet::membership::attached_clusters,
    policy::{
        api::DistributionPolicy,
        controller::{Distribution, Settings},
        propagate::BuiltinKinds,
    },
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = Client::try_default().await?;

    // Who the members are: every AttachedCluster on the hub, as they come and go.
    let membership = Arc::new(attached_clusters(&hub));
    // How they are reached: by the kubeconfig in a Secret, which may hold inline credentials and nothing else.
    let connector = Arc::new(
        SecretConnector::new(hub.clone(), Arc::clone(&membership)).with_policy(KubeconfigPolicy::default()),
    );
    // How they are looked after: lost after so much silence, and asked no more than so often.
    let options = MembersOptions::default()
        .with_health(HealthPolicy::with_grace(Duration::from_secs(40)))
        .with_rate(200, 400);
    let members = Members::start(membership, connector, None, None, options, &SystemClock::new());
    // What they have: nodes, what is free on them, and the kinds they serve.
    let facts = Arc::new(Facts::start(members.clone()));
    // How they are written to: server-side apply that takes over nothing and prunes only what it placed.
    let applier = Arc::new(ServerSideApplier::new(members.clone()));
    // How patient to be with them.
    let mut settings = Settings::default();
    settings.pass_deadline = Duration::from_secs(10);

    let controller = Distribution::new(hub.clone(), members)
        .with_facts(facts)
        .with_applier(applier)
        .with_interpreter(Arc::new(BuiltinKinds))
        .with_clock(Arc::new(SystemClock::new()))
        .with_settings(settings);
    let stop = async { drop(tokio::signal::ctrl_c().await) };

    println!("distributing until Ctrl-C");
    tokio::select! {
        ended = controller.run(stop) => ended?,
        broken = print_statuses(hub) => broken?,
    }
    Ok(())
}

async fn print_statuses(hub: Client) -> Result<(), watcher::Error> {
    let policies = Api::<DistributionPolicy>::all(hub);
    let changes = watcher(policies, watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let mut changes = pin!(changes);
    while let Some(policy) = changes.try_next().await? {
        let Some(status) = &policy.status else { continue };
        println!("{}/{}", policy.namespace().unwrap_or_default(), policy.name_any());
        for cluster in &status.clusters {
            println!(
                "  {:<20} planned {:>3}  applied {:>3}  ready {:>3}  {}: {}",
                cluster.cluster,
                cluster.planned_replicas,
                cluster.applied_replicas,
                cluster.ready_replicas,
                cluster.reason,
                cluster.message
            );
        }
        for condition in status.conditions.iter().filter(|it| it.type_ != "Progressing") {
            println!(
                "  {}={} {}: {}",
                condition.type_, condition.status, condition.reason, condition.message
            );
        }
    }
    Ok(())
}
