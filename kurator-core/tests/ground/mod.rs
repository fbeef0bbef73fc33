//! A real member to apply to, and what the tests of the applier do there.
#![allow(dead_code)]

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use kurator_core::{
    apply::{
        Applier, ApplyOptions, ApplyReport, ConflictResolution, ObjectKey, ObjectSet, Owner, Pruning,
        Removal, ServerSideApplier,
    },
    connect::StaticConnector,
    names::{ClusterName, NamespacedName},
};
use kurator_envtest::{Fleet, MemberSpec};
use serde_json::{Value, json};

/// One member for all tests of a file; each works in a namespace of its own.
pub(crate) fn fleet() -> &'static Fleet {
    static FLEET: OnceLock<Fleet> = OnceLock::new();
    FLEET.get_or_init(|| {
        Fleet::builder()
            .member(MemberSpec::new("member"))
            .start_blocking()
            .unwrap()
    })
}

/// A place to apply to, and what the tests do there.
pub(crate) struct Ground {
    pub(crate) client: Client,
    pub(crate) applier: ServerSideApplier,
    pub(crate) cluster: ClusterName,
    pub(crate) namespace: String,
    pub(crate) options: ApplyOptions,
}

impl Ground {
    pub(crate) fn over(client: Client) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let cluster: ClusterName = "member".parse().unwrap();
        let connector = StaticConnector::default().with_client(cluster.clone(), client.clone());
        Self {
            client,
            applier: ServerSideApplier::new(connector),
            cluster,
            namespace: format!("ground-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            options: ApplyOptions::default(),
        }
    }

    pub(crate) fn new() -> Self {
        Self::over(fleet().member("member").unwrap().client().unwrap())
    }

    pub(crate) fn overwriting(mut self) -> Self {
        self.options = self
            .options
            .with_conflict_resolution(ConflictResolution::Overwrite);
        self
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner::new(
            "hub",
            format!("uid-{}", self.namespace),
            format!("Policy {}", self.namespace),
        )
        .unwrap()
    }

    pub(crate) fn set(&self, objects: impl IntoIterator<Item = Value>) -> ObjectSet {
        let objects = objects
            .into_iter()
            .map(|object| serde_json::from_value(object).unwrap());
        ObjectSet::new(self.owner(), objects).unwrap()
    }

    pub(crate) async fn apply(&self, objects: impl IntoIterator<Item = Value>) -> ApplyReport {
        self.applier
            .apply(&self.cluster, &self.set(objects), &self.options)
            .await
            .unwrap()
    }

    /// Applies what is going to be in place.
    pub(crate) async fn place(&self, objects: impl IntoIterator<Item = Value>) {
        let report = self.apply(objects).await;
        assert!(report.is_complete(), "{report}");
    }

    pub(crate) fn config_map(&self, name: &str, value: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace}, "data": {"key": value},
        })
    }

    pub(crate) fn deployment(&self, replicas: u32) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": self.namespace, "labels": {"app": "web"}},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{
                        "name": "web", "image": "web:1", "ports": [{"containerPort": 80}],
                        "resources": {"requests": {"cpu": "1000m", "memory": "0.5Gi"}},
                    }]},
                },
            },
        })
    }

    pub(crate) fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    pub(crate) async fn get(&self, api_version: &str, kind: &str, name: &str) -> Option<DynamicObject> {
        self.api(api_version, kind).get_opt(name).await.unwrap()
    }

    /// Somebody's write, as `kubectl edit` or `kubectl apply --server-side` would do it.
    pub(crate) async fn write(&self, manager: &str, apply: bool, object: Value) -> DynamicObject {
        let api = self.api(
            object["apiVersion"].as_str().unwrap(),
            object["kind"].as_str().unwrap(),
        );
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut params = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        if apply {
            params.force = true;
            api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap()
        } else {
            api.patch(&name, &params, &Patch::Merge(&object)).await.unwrap()
        }
    }

    pub(crate) async fn create_namespace(&self) {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Namespace"));
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        api.create(&Default::default(), &serde_json::from_value(namespace).unwrap())
            .await
            .unwrap();
    }

    pub(crate) fn key(&self, group: &str, kind: &str, name: &str) -> ObjectKey {
        ObjectKey::new(group, kind, NamespacedName::new(&*self.namespace, name))
    }
}

pub(crate) fn outcomes(report: &ApplyReport) -> Vec<(&str, &str)> {
    report
        .objects
        .iter()
        .map(|it| (it.object.object.name.as_str(), it.outcome.reason()))
        .collect()
}

pub(crate) fn removed(report: &ApplyReport) -> Vec<&str> {
    match &report.pruning {
        Pruning::Done { removals } => {
            assert!(
                removals.iter().all(|it| it.removal == Removal::Removed),
                "{removals:?}"
            );
            removals.iter().map(|it| it.object.object.name.as_str()).collect()
        }
        other => panic!("nothing pruned: {other:?}"),
    }
}
