//! Members with real Velero servers, and what the tests ask of them.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::{Discovery, verbs},
};
use kurator_backup::{
    driver::{
        BackupDriver, BackupName, BackupObservation, BackupRequest, OwnerToken, RestoreName,
        RestoreObservation,
    },
    velero::VeleroDriver,
};
use kurator_core::{connect::StaticConnector, names::ClusterName};
use kurator_envtest::{Fleet, Member, Velero};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks of the driver, which has no watch.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

pub(crate) fn backup_name(name: &str) -> BackupName {
    BackupName::new(name).unwrap()
}

pub(crate) fn restore_name(name: &str) -> RestoreName {
    RestoreName::new(name).unwrap()
}

pub(crate) fn owner(name: &str) -> OwnerToken {
    OwnerToken::bounded([name])
}

/// A backup of these namespaces.
pub(crate) fn request(name: &str, namespaces: &[&str]) -> BackupRequest {
    let mut request = BackupRequest::new(backup_name(name), owner(name));
    request.scope.included_namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
    request
}

/// A driver that reaches every member of the fleet through its link, impatiently.
pub(crate) fn driver(fleet: &Fleet) -> VeleroDriver {
    let mut connector = StaticConnector::default();
    for member in fleet.members() {
        let mut config = member.config();
        // For 429: a kind that is new to its API server is "(re)initializing" for a moment.
        config.default_retry = true;
        config.connect_timeout = Some(Duration::from_secs(3));
        config.read_timeout = Some(Duration::from_secs(20));
        let client = kube::Client::try_from(config).unwrap();
        connector = connector.with_client(cluster(member.name()), client);
    }
    VeleroDriver::new(Arc::new(connector)).allowing_plain_http()
}

pub(crate) fn velero(member: &Member, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("velero.io", "v1", kind));
    Api::namespaced_with(member.direct_client().unwrap(), Velero::NAMESPACE, &resource)
}

/// Asks the driver until the backup is as wanted.
pub(crate) async fn backup_is(
    driver: &dyn BackupDriver,
    member: &str,
    name: &str,
    met: impl Fn(&BackupObservation) -> bool + Send + Sync,
) -> BackupObservation {
    let mut last = None;
    let looks = async {
        loop {
            let seen = driver.backup(&cluster(member), &backup_name(name)).await.unwrap();
            if let Some(seen) = seen {
                if met(&seen) {
                    return seen;
                }
                last = Some(seen);
            }
            sleep(LOOK).await;
        }
    };
    let met = timeout(PATIENCE, looks).await;
    met.unwrap_or_else(|_| panic!("backup {name} on {member} is {last:?}"))
}

pub(crate) async fn backup_ends(driver: &dyn BackupDriver, member: &str, name: &str) -> BackupObservation {
    backup_is(driver, member, name, |seen| seen.phase.has_ended()).await
}

pub(crate) async fn restore_ends(driver: &dyn BackupDriver, member: &str, name: &str) -> RestoreObservation {
    let looks = async {
        loop {
            let seen = driver
                .restore(&cluster(member), &restore_name(name))
                .await
                .unwrap();
            if let Some(seen) = seen.filter(|seen| seen.phase.has_ended()) {
                return seen;
            }
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, looks)
        .await
        .unwrap_or_else(|_| panic!("restore {name} on {member} does not end"))
}

/// Asks until it is so. For states that no object shows.
pub(crate) async fn eventually(what: &str, mut met: impl AsyncFnMut() -> bool) {
    let looks = async {
        while !met().await {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, looks)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Restarts the server until it has synced with the store so many times: it does so when it starts.
pub(crate) async fn syncs(member: &Member, times: usize) {
    let locations = velero(member, "BackupStorageLocation");
    for _ in 0..times {
        let location = locations.get("default").await.unwrap();
        let before = location.data["status"]["lastSyncedTime"].clone();
        member.restart_velero().await.unwrap();
        eventually("the server syncs", async || {
            let location = locations.get("default").await.unwrap();
            location.data["status"]["lastSyncedTime"] != before
        })
        .await;
    }
}

/// Leaves an object of a server that is dead in this phase, as a crash at another instant would have.
pub(crate) async fn set_phase(member: &Member, kind: &str, name: &str, phase: &str) {
    let patch = Patch::Merge(json!({"status": {"phase": phase}}));
    velero(member, kind)
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Every object of a namespace that somebody made, by kind and name, without what a server or a restore writes.
pub(crate) async fn objects(member: &Member, namespace: &str) -> BTreeMap<String, Value> {
    let client = member.direct_client().unwrap();
    let discovery = Discovery::new(client.clone()).run_aggregated().await.unwrap();
    let mut found = BTreeMap::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let listed = capabilities.scope == kube::discovery::Scope::Namespaced
                && capabilities.supports_operation(verbs::LIST)
                && !["Event", "Lease"].contains(&resource.kind.as_str());
            if !listed {
                continue;
            }
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
            for object in api.list(&ListParams::default()).await.unwrap() {
                let key = format!("{}/{} {}", resource.group, resource.kind, object.name_any());
                found.insert(key, what_was_meant(object));
            }
        }
    }
    found
}

fn what_was_meant(object: DynamicObject) -> Value {
    let mut labels = object.labels().clone();
    labels.retain(|key, _| !key.starts_with("velero.io/"));
    let mut annotations = object.annotations().clone();
    annotations.retain(|key, _| !key.starts_with("velero.io/"));
    let metadata = ObjectMeta {
        name: object.metadata.name.clone(),
        labels: Some(labels).filter(|labels| !labels.is_empty()),
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        ..ObjectMeta::default()
    };
    let mut data = object.data;
    if let Some(fields) = data.as_object_mut() {
        fields.remove("status");
        fields.insert("metadata".into(), serde_json::to_value(metadata).unwrap());
        // Given by each cluster anew.
        if let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut) {
            for given in ["clusterIP", "clusterIPs"] {
                spec.remove(given);
            }
        }
    }
    data
}

/// A namespace with objects of several kinds, `count` of them ConfigMaps.
pub(crate) fn shop(namespace: &str, count: usize) -> String {
    let mut documents = vec![
        format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: {{team: shop}}}}}}"
        ),
        format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: till, namespace: {namespace}}}, \
             stringData: {{pin: '1234'}}, type: Opaque}}"
        ),
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: {namespace}}}, \
             spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}}}"
        ),
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: {namespace}, \
             annotations: {{note: 'as it was'}}}}, spec: {{replicas: 3, selector: {{matchLabels: {{app: web}}}}, \
             template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: web, image: 'web:1', \
             env: [{{name: MODE, value: live}}]}}]}}}}}}}}"
        ),
        format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: clerk, namespace: {namespace}}}, \
             rules: [{{apiGroups: [''], resources: [configmaps], verbs: [get, list]}}]}}"
        ),
    ];
    documents.extend((0..count).map(|number| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: item-{number}, namespace: {namespace}, \
             labels: {{shelf: 's{}'}}}}, data: {{price: '{number}'}}}}",
            number % 7
        )
    }));
    documents.join("\n---\n")
}

/// A pod on the first node that KWOK plays.
pub(crate) async fn run_pod(member: &Member, namespace: &str, name: &str) {
    let pods = Api::<Pod>::namespaced(member.direct_client().unwrap(), namespace);
    let pod = serde_json::from_value::<Pod>(serde_json::json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "db"}},
        "spec": {"nodeName": "node-0", "containers": [{"name": "db", "image": "db"}]},
    }));
    pods.create(&PostParams::default(), &pod.unwrap()).await.unwrap();
    member
        .wait_for(&pods, name, kube::runtime::wait::conditions::is_pod_running())
        .await
        .unwrap();
}
