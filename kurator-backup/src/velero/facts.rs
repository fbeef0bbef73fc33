//! The server of a member, asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams, ObjectMeta, PostParams},
    runtime::wait::await_condition,
};
use kurator_core::names::ClusterName;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{look, policy, wire};
use crate::{
    api::labels,
    driver::{LocationName, MemberFacts, StoreWriter},
};

/// Which location a server takes that was told of none.
const DEFAULT_LOCATION: &str = "default";
/// How long a server may take to say its version: one that works does so within a second.
const VERSION_PATIENCE: Duration = Duration::from_secs(3);
/// How long the version of a server is believed.
const VERSION_AGE: Duration = Duration::from_secs(600);
/// Which location a backup is in.
const LOCATION: &str = "velero.io/storage-location";
/// Objects that are asked for at once.
const PAGE: u32 = 500;
/// Namespaces that no backup takes, by this label.
const LEFT_OUT: &str = "velero.io/exclude-from-backup=true";

/// What is known of a server beyond its locations.
#[derive(Debug, Default)]
pub(super) struct Server {
    flags: look::ServerFlags,
    policies: BTreeSet<String>,
    left_out: BTreeSet<String>,
}

/// The backups of fleets by the location that is on them as a label; the server puts it there, synced ones included.
#[derive(Debug, Default)]
pub(super) struct Writers(BTreeMap<String, Vec<StoreWriter>>);

impl Writers {
    /// Reads names and labels only.
    pub(super) async fn read(backups: &Api<DynamicObject>) -> Result<Self, kube::Error> {
        let mut params = ListParams::default().labels(labels::FLEET).limit(PAGE);
        let mut writers = BTreeMap::<String, Vec<StoreWriter>>::new();
        loop {
            let page = backups.list_metadata(&params).await?;
            for backup in &page.items {
                if let Some(location) = backup.labels().get(LOCATION) {
                    let of_location = writers.entry(location.clone()).or_default();
                    StoreWriter::note(of_location, &backup.name_any(), backup.labels());
                }
            }
            match page.metadata.continue_.filter(|more| !more.is_empty()) {
                Some(more) => params.continue_token = Some(more),
                None => return Ok(Self(writers)),
            }
        }
    }
}

/// Reads what a request may refer to, and the flags of the server where its Deployment says them.
pub(super) async fn server(client: &Client, namespace: &str) -> Result<Server, kube::Error> {
    let deployments = Api::<Deployment>::namespaced(client.clone(), namespace);
    let deployment = deployments.get_opt("velero").await?;
    let spec = deployment.and_then(|deployment| deployment.spec.template.spec);
    let containers = spec
        .into_iter()
        .flat_map(|spec| spec.containers)
        .collect::<Vec<_>>();
    let words = containers.iter().flat_map(|container| {
        let lists = [&container.command, &container.args];
        lists.into_iter().flatten().flatten().map(String::as_str)
    });
    let params = ListParams::default().labels(LEFT_OUT);
    let left_out = Api::<Namespace>::all(client.clone()).list(&params).await?;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let maps = maps.list(&ListParams::default()).await?;
    Ok(Server {
        flags: look::flags(words),
        policies: maps
            .iter()
            .filter(|map| policy::objection(map.data.as_ref()).is_none())
            .map(ResourceExt::name_any)
            .collect(),
        left_out: left_out.iter().map(ResourceExt::name_any).collect(),
    })
}

pub(super) fn of_member(
    locations: &[DynamicObject],
    snapshots: &[DynamicObject],
    server: Server,
    writers: &Writers,
    version: Option<String>,
) -> MemberFacts {
    let mut facts = MemberFacts {
        server_version: version,
        ..MemberFacts::default()
    };
    for object in locations {
        let Ok(name) = LocationName::new(object.name_any()) else {
            continue;
        };
        if look::is_default(object) && facts.default_location.is_none() {
            facts.default_location = Some(name.clone());
        }
        if let Some(writers) = writers.0.get(&wire::label_value(name.as_str())) {
            facts.writers.insert(name.clone(), writers.clone());
        }
        facts.locations.insert(name, look::location(object));
    }
    if facts.default_location.is_none() {
        let named = server
            .flags
            .default_location
            .as_deref()
            .unwrap_or(DEFAULT_LOCATION);
        let known = facts.locations.get_key_value(named);
        facts.default_location = known.map(|(name, _)| name.clone());
    }
    for object in snapshots {
        let provider = object
            .data
            .pointer("/spec/provider")
            .and_then(|provider| provider.as_str());
        let provider = provider.unwrap_or_default().to_owned();
        facts.snapshot_locations.insert(object.name_any(), provider);
    }
    facts.default_snapshot_providers = server.flags.snapshot_providers;
    facts.resource_policies = server.policies;
    facts.left_out_namespaces = server.left_out;
    facts
}

/// Versions of servers, for a while.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions(Arc<Mutex<BTreeMap<ClusterName, (Instant, String)>>>);

impl Versions {
    /// What the server says its version is; `None` if it does not answer: it is down, or has other things to do.
    pub(super) async fn of(
        &self,
        cluster: &ClusterName,
        requests: &Api<DynamicObject>,
    ) -> Result<Option<String>, kube::Error> {
        let known = self.known().get(cluster).cloned();
        if let Some((at, version)) = known
            && at.elapsed() < VERSION_AGE
        {
            return Ok(Some(version));
        }
        let Some(version) = ask(requests).await? else {
            return Ok(None);
        };
        self.known()
            .insert(cluster.clone(), (Instant::now(), version.clone()));
        Ok(Some(version))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<ClusterName, (Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server answers in the object, and removes it a minute later.
async fn ask(requests: &Api<DynamicObject>) -> Result<Option<String>, kube::Error> {
    let mut request = DynamicObject::new("", &wire::kind("ServerStatusRequest"));
    request.metadata = ObjectMeta {
        generate_name: Some("kurator-".into()),
        ..ObjectMeta::default()
    };
    request.data = json!({"spec": {}});
    let name = requests
        .create(&PostParams::default(), &request)
        .await?
        .name_any();
    let processed = |object: Option<&DynamicObject>| {
        let phase = object.and_then(|object| object.data.pointer("/status/phase"));
        phase.and_then(|phase| phase.as_str()) == Some("Processed")
    };
    let answered = match timeout(
        VERSION_PATIENCE,
        await_condition(requests.clone(), &name, processed),
    )
    .await
    {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) | Err(_) => None,
    };
    let version = answered
        .as_ref()
        .and_then(|object| object.data.pointer("/status/serverVersion"))
        .and_then(|version| version.as_str());
    let version = version.filter(|version| !version.is_empty()).map(str::to_owned);
    if answered.is_none() {
        // A server that comes back has no use for it.
        let _ = requests.delete(&name, &kube::api::DeleteParams::default()).await;
    }
    Ok(version)
}
