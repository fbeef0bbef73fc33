//! A kind of your own, divided over the fleet like a Deployment:
//! `KUBECONFIG=hub.kubeconfig cargo run --example custom_kind`
//!
//! The hub needs the definitions in `deploy/crds`, and an AttachedCluster with its kubeconfig Secret for each member; the
//! definition of `Engine` is installed on it here. The members have it from the operator that runs engines there, or from
//! `cargo run --example custom_kind -- --definition | kubectl apply -f -`. Then
//! `kubectl apply -f examples/manifests/engine.yaml`: the workers of the engine are divided 3 to 1, and the policy is ready
//! when the engines are running. What is needed for that is the interpreter in `engines`; everything else is as in
//! `distribute.rs`.

use std::{error::Error, sync::Arc};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResource, CustomResourceExt, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{conditions, wait::await_condition},
};
use kurator::{
    core::{
        clock::SystemClock,
        connect::SecretConnector,
        multicluster::{Members, MembersOptions},
    },
    fleet::membership::attached_clusters,
    policy::{
        controller::Distribution,
        propagate::{CustomKind, Kinds, ObjectHealth, ObjectKind},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A model, served by workers.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ml.example.com",
    version = "v1",
    kind = "Engine",
    namespaced,
    status = "EngineStatus"
)]
#[serde(rename_all = "camelCase")]
struct EngineSpec {
    model: String,
    workers: u32,
    /// The volume with the weights; the operator in a cluster makes one and writes it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<String>,
}

/// What the operator of engines writes in the cluster that an engine is in.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
struct EngineStatus {
    ready_workers: u32,
    phase: String,
    reason: String,
}

/// How policies read engines, and write how many workers one is to have.
fn engines() -> Kinds {
    let engine = CustomKind::default()
        .with_replicas(
            |engine| Some(read(engine)?.spec.workers),
            |engine, workers| engine["spec"]["workers"] = workers.into(),
        )
        .with_ready_replicas(|engine| Some(status(engine).ready_workers))
        .with_health(|engine| match status(engine) {
            EngineStatus { phase, .. } if phase == "Running" => ObjectHealth::Healthy,
            EngineStatus { phase, reason, .. } if phase == "Failed" => {
                ObjectHealth::Unhealthy { why: reason }
            }
            EngineStatus { ready_workers, .. } => ObjectHealth::Progressing {
                why: format!("{ready_workers} workers are ready"),
            },
        })
        // Each cluster has a volume of its own.
        .with_strip(|engine| {
            drop(
                engine["spec"]
                    .as_object_mut()
                    .and_then(|spec| spec.remove("volume")),
            )
        })
        .with_member_owned("/spec/volume");
    let kind = ObjectKind::new(Engine::api_version(&()), Engine::kind(&()));
    Kinds::default().with(kind, engine)
}

fn read(engine: &Value) -> Option<Engine> {
    Engine::deserialize(engine).ok()
}

fn status(engine: &Value) -> EngineStatus {
    let status = engine
        .get("status")
        .and_then(|it| EngineStatus::deserialize(it).ok());
    status.unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|argument| argument == "--definition") {
        println!("{}", serde_json::to_string(&Engine::crd())?);
        return Ok(());
    }
    let hub = Client::try_default().await?;
    install(&hub, &Engine::crd()).await?;

    let membership = Arc::new(attached_clusters(&hub));
    let connector = Arc::new(SecretConnector::new(hub.clone(), Arc::clone(&membership)));
    let options = MembersOptions::default();
    let members = Members::start(membership, connector, None, None, options, &SystemClock::new());
    let controller = Distribution::new(hub, members).with_interpreter(Arc::new(engines()));

    println!("distributing engines until Ctrl-C");
    controller
        .run(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    Ok(())
}

/// On the hub, where engines are written.
async fn install(hub: &Client, definition: &CustomResourceDefinition) -> Result<(), Box<dyn Error>> {
    let definitions = Api::<CustomResourceDefinition>::all(hub.clone());
    let name = definition.name_any();
    let params = PatchParams::apply("custom-kind-example").force();
    definitions
        .patch(&name, &params, &Patch::Apply(definition))
        .await?;
    await_condition(definitions, &name, conditions::is_crd_established()).await?;
    Ok(())
}
