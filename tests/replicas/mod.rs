//! The example controller as processes, and an observer of who owns what.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{WatchStreamExt, wait};
use kube::{Api, Client, ResourceExt};
use kurator_envtest::Fleet;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

pub(crate) const LEASE: Duration = Duration::from_secs(15);
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A process that is killed when the test ends, however it ends.
pub(crate) struct Replica(Child);

impl Replica {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self(
            Command::new(crate::example::binary("multicluster_controller"))
                .args(arguments)
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// Sends a signal by its name, such as `STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([format!("-{signal}"), self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One kubeconfig with a context for each member.
pub(crate) fn write_kubeconfig(path: &Path, fleet: &Fleet, members: &[&str]) {
    let mut merged = json!({"apiVersion": "v1", "kind": "Config", "current-context": members[0]});
    for member in members {
        let text = fleet.member(member).unwrap().kubeconfig();
        let mut one: Value = serde_saphyr::from_str(&text).unwrap();
        for list in ["clusters", "users"] {
            one[list][0]["name"] = json!(member);
        }
        one["contexts"][0] = json!({"name": member, "context": {"cluster": member, "user": member}});
        for list in ["clusters", "contexts", "users"] {
            if merged.get(list).is_none() {
                merged[list] = json!([]);
            }
            merged[list].as_array_mut().unwrap().push(one[list][0].clone());
        }
    }
    let staged = path.with_extension("new");
    std::fs::write(&staged, merged.to_string()).unwrap();
    std::fs::rename(staged, path).unwrap();
}

pub(crate) async fn create(client: &Client, object: &str) {
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": object, "labels": {"greet": "true"}}})).unwrap();
    Api::namespaced(client.clone(), "default")
        .create(&PostParams::default(), &map)
        .await
        .unwrap();
}

pub(crate) async fn greeted(client: &Client, object: &str) -> String {
    let told = |map: Option<&ConfigMap>| map.and_then(|map| map.data.as_ref()?.get("cluster").cloned());
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map = timeout(
        PATIENCE,
        wait::await_condition(maps, object, |map: Option<&ConfigMap>| told(map).is_some()),
    );
    told(
        map.await
            .unwrap_or_else(|_| panic!("{object} was not greeted"))
            .unwrap()
            .as_ref(),
    )
    .unwrap()
}

/// Who holds each shard, by an observer that takes part in nothing. It panics when a shard changes hands directly
/// before the old holder's lease was over.
pub(crate) fn observe(
    hub: &Client,
) -> (
    watch::Receiver<BTreeMap<String, String>>,
    tokio::task::JoinHandle<()>,
) {
    let (sender, holders) = watch::channel(BTreeMap::new());
    let leases: Api<Lease> = Api::namespaced(hub.clone(), "default");
    let config = watcher::Config::default().labels("multicluster.kurator.dev/lease=shard");
    let observer = tokio::spawn(async move {
        let events = watcher(leases, config).default_backoff().applied_objects();
        futures::pin_mut!(events);
        let mut last: BTreeMap<String, (Option<String>, Instant)> = BTreeMap::new();
        while let Some(lease) = events.next().await {
            let Ok(lease) = lease else { continue };
            let name = lease.name_any();
            let holder = lease
                .spec
                .and_then(|spec| spec.holder_identity)
                .filter(|holder| !holder.is_empty());
            if let (Some((Some(before), renewed)), Some(now)) = (last.get(&name), &holder) {
                // The observer may see a renewal late, never early.
                let age = renewed.elapsed() + Duration::from_millis(500);
                assert!(
                    before == now || age >= LEASE,
                    "{name} went from {before} to {now} after {age:?}"
                );
            }
            sender.send_modify(|holders: &mut BTreeMap<String, String>| {
                match &holder {
                    Some(holder) => holders.insert(name.clone(), holder.clone()),
                    None => holders.remove(&name),
                };
            });
            last.insert(name, (holder, Instant::now()));
        }
    });
    (holders, observer)
}

pub(crate) fn holders(shards: &BTreeMap<String, String>) -> BTreeSet<&str> {
    shards.values().map(String::as_str).collect()
}
