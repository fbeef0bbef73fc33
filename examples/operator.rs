//! The reference operator: every controller there is, on the hub that `KUBECONFIG` (or the pod it runs in) names.
//! `cargo run --example operator -- --install-crds`
//!
//! So far that is the distribution controller; what comes later is a few lines more, because the work is in the crates.
//! Logs go to standard error and follow `RUST_LOG`; SIGTERM and Ctrl-C end it in order.

use std::{error::Error, sync::Arc};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{conditions, wait::await_condition},
};
use kurator::{
    core::{
        clock::SystemClock,
        connect::SecretConnector,
        multicluster::{Members, MembersOptions},
    },
    fleet::{self, membership::attached_clusters},
    policy::{self, controller::Distribution},
};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let logs = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(logs)
        .with_writer(std::io::stderr)
        .init();
    let hub = Client::try_default().await?;
    if std::env::args().any(|argument| argument == "--install-crds") {
        install_crds(&hub).await?;
    }

    let membership = Arc::new(attached_clusters(&hub));
    let connector = Arc::new(SecretConnector::new(hub.clone(), Arc::clone(&membership)));
    let options = MembersOptions::default();
    let members = Members::start(membership, connector, None, None, options, &SystemClock::new());
    let distribution = Distribution::new(hub, members);

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    distribution.run(stop).await?;
    Ok(())
}

async fn install_crds(hub: &Client) -> Result<(), Box<dyn Error>> {
    let api = Api::<CustomResourceDefinition>::all(hub.clone());
    let params = PatchParams::apply("kurator-operator").force();
    for crd in fleet::api::crds().into_iter().chain(policy::api::crds()) {
        api.patch(&crd.name_any(), &params, &Patch::Apply(&crd)).await?;
        await_condition(api.clone(), &crd.name_any(), conditions::is_crd_established()).await?;
    }
    Ok(())
}
