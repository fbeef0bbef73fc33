//! What the server-side applier promises, held against a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use kurator_core::{
    apply::{
        Applier, ApplyFailure, ApplyOptions, ApplyReport, ConflictResolution, KindRef, ObjectKey,
        ObjectOutcome, ObjectSet, Owner, PruneScope, Pruning, Refusal, Removal, ServerSideApplier,
    },
    connect::StaticConnector,
    names::{ClusterName, NamespacedName},
};
use kurator_envtest::{Fleet, MemberSpec};
use serde_json::{Value, json};

/// One member for all tests of this file; each works in a namespace of its own.
fn fleet() -> &'static Fleet {
    static FLEET: OnceLock<Fleet> = OnceLock::new();
    FLEET.get_or_init(|| {
        Fleet::builder()
            .member(MemberSpec::new("member"))
            .start_blocking()
            .unwrap()
    })
}

/// A place to apply to, and what the tests do there.
struct Ground {
    client: Client,
    applier: ServerSideApplier,
    cluster: ClusterName,
    namespace: String,
    options: ApplyOptions,
}

impl Ground {
    fn over(client: Client) -> Self {
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

    fn new() -> Self {
        Self::over(fleet().member("member").unwrap().client().unwrap())
    }

    fn overwriting(mut self) -> Self {
        self.options = self
            .options
            .with_conflict_resolution(ConflictResolution::Overwrite);
        self
    }

    fn owner(&self) -> Owner {
        Owner::new(
            "hub",
            format!("uid-{}", self.namespace),
            format!("Policy {}", self.namespace),
        )
        .unwrap()
    }

    fn set(&self, objects: impl IntoIterator<Item = Value>) -> ObjectSet {
        let objects = objects
            .into_iter()
            .map(|object| serde_json::from_value(object).unwrap());
        ObjectSet::new(self.owner(), objects).unwrap()
    }

    async fn apply(&self, objects: impl IntoIterator<Item = Value>) -> ApplyReport {
        self.applier
            .apply(&self.cluster, &self.set(objects), &self.options)
            .await
            .unwrap()
    }

    /// Applies what is going to be in place.
    async fn place(&self, objects: impl IntoIterator<Item = Value>) {
        let report = self.apply(objects).await;
        assert!(report.is_complete(), "{report}");
    }

    fn config_map(&self, name: &str, value: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace}, "data": {"key": value},
        })
    }

    fn deployment(&self, replicas: u32) -> Value {
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

    fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    async fn get(&self, api_version: &str, kind: &str, name: &str) -> Option<DynamicObject> {
        self.api(api_version, kind).get_opt(name).await.unwrap()
    }

    /// Somebody's write, as `kubectl edit` or `kubectl apply --server-side` would do it.
    async fn write(&self, manager: &str, apply: bool, object: Value) -> DynamicObject {
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

    async fn create_namespace(&self) {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Namespace"));
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        api.create(&Default::default(), &serde_json::from_value(namespace).unwrap())
            .await
            .unwrap();
    }

    fn key(&self, group: &str, kind: &str, name: &str) -> ObjectKey {
        ObjectKey::new(group, kind, NamespacedName::new(&*self.namespace, name))
    }
}

fn outcomes(report: &ApplyReport) -> Vec<(&str, &str)> {
    report
        .objects
        .iter()
        .map(|it| (it.object.object.name.as_str(), it.outcome.reason()))
        .collect()
}

fn removed(report: &ApplyReport) -> Vec<&str> {
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

/// Requests that change something, as the server counted them.
async fn writes(client: &Client) -> u64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = client.request_text(request).await.unwrap();
    let verbs = ["APPLY", "PATCH", "POST", "PUT", "DELETE"].map(|verb| format!("verb=\"{verb}\""));
    metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter(|line| verbs.iter().any(|verb| line.contains(verb)))
        // The server writes a few objects of its own; these kinds only the test writes.
        .filter(|line| {
            KINDS
                .iter()
                .any(|(_, plural)| line.contains(&format!("resource=\"{plural}\"")))
        })
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() as u64)
        .sum()
}

/// Kinds whose values the server completes or rewrites, and their resources.
const KINDS: [(&str, &str); 9] = [
    ("Deployment", "deployments"),
    ("StatefulSet", "statefulsets"),
    ("Job", "jobs"),
    ("CronJob", "cronjobs"),
    ("Secret", "secrets"),
    ("Ingress", "ingresses"),
    ("NetworkPolicy", "networkpolicies"),
    ("HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("PodDisruptionBudget", "poddisruptionbudgets"),
];

fn one_of_each(ground: &Ground) -> Vec<Value> {
    let template = ground.deployment(1)["spec"]["template"].clone();
    let mut job = template.clone();
    job["spec"]["restartPolicy"] = "Never".into();
    let selector = json!({"matchLabels": {"app": "web"}});
    let object = |api_version: &str, kind: &str, spec: Value| {
        json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {"name": "web", "namespace": ground.namespace}, "spec": spec,
        })
    };
    vec![
        ground.deployment(2),
        object(
            "apps/v1",
            "StatefulSet",
            json!({
                "selector": selector, "template": template, "serviceName": "web",
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}},
                }}],
            }),
        ),
        object("batch/v1", "Job", json!({"template": job})),
        object(
            "batch/v1",
            "CronJob",
            json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": job}}}),
        ),
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "web", "namespace": ground.namespace}, "stringData": {"a": "b"},
        }),
        object(
            "networking.k8s.io/v1",
            "Ingress",
            json!({"rules": [{"host": "a.example", "http": {"paths": [{
                "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}},
            }]}}]}),
        ),
        object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}], "from": [{"podSelector": {}}]}]}),
        ),
        object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({
                "maxReplicas": 3,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
                }}],
            }),
        ),
        object(
            "policy/v1",
            "PodDisruptionBudget",
            json!({"selector": selector, "minAvailable": "50%"}),
        ),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": ground.namespace},
            "spec": {"selector": {"app": "web"}, "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}, {"name": "http", "port": 80},
            ]},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "web", "namespace": ground.namespace},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        }),
    ]
}

#[tokio::test]
async fn a_second_pass_over_what_is_in_place_writes_nothing() {
    let fleet = Fleet::builder()
        .member(MemberSpec::new("member"))
        .start()
        .await
        .unwrap();
    let client = fleet.member("member").unwrap().client().unwrap();
    let mut ground = Ground::over(client.clone());
    let objects = one_of_each(&ground);
    let report = ground.apply(objects.clone()).await;
    assert!(report.is_complete(), "{report}");
    assert!(
        report
            .objects
            .iter()
            .all(|it| it.outcome == ObjectOutcome::Created),
        "{report}"
    );

    let before = writes(&client).await;
    assert!(before >= KINDS.len() as u64, "{before} writes counted");
    let second = ground.apply(objects.clone()).await;
    assert!(second.is_unchanged() && second.is_complete(), "{second}");
    // Another process, with nothing in its memory.
    ground = Ground {
        namespace: ground.namespace,
        ..Ground::over(client.clone())
    };
    let third = ground.apply(objects).await;
    assert!(third.is_unchanged() && third.is_complete(), "{third}");
    assert_eq!(writes(&client).await, before);
}

#[tokio::test]
async fn what_was_edited_is_set_back_and_what_others_added_stays() {
    let ground = Ground::new();
    ground.place([ground.deployment(2)]).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
    for (drift, path) in [
        (json!({"spec": {"replicas": 7}}), "/spec/replicas"),
        (json!({"spec": {"replicas": null}}), "/spec/replicas"),
        (
            json!({"metadata": {"labels": {"app": "other"}}}),
            "/metadata/labels/app",
        ),
        (
            json!({"metadata": {"labels": {"kurator.dev/owner": null}}}),
            "/metadata/labels/kurator.dev~1owner",
        ),
        (
            json!({"metadata": {"annotations": {"kurator.dev/applied-hash": "0"}}}),
            "/metadata/annotations",
        ),
    ] {
        let before = ground.get("apps/v1", "Deployment", "web").await.unwrap();
        let mut edit = target.clone();
        for (key, value) in drift.as_object().unwrap() {
            if key == "metadata" {
                edit["metadata"]
                    .as_object_mut()
                    .unwrap()
                    .extend(value.as_object().unwrap().clone());
            } else {
                edit[key] = value.clone();
            }
        }
        ground.write("kubectl-edit", false, edit).await;
        let report = ground.apply([ground.deployment(2)]).await;
        assert_eq!(outcomes(&report), [("web", "Updated")], "{drift}");
        let after = ground.get("apps/v1", "Deployment", "web").await.unwrap();
        let at = |object: &DynamicObject| serde_json::to_value(object).unwrap().pointer(path).cloned();
        assert_eq!(at(&after), at(&before), "{drift}");
    }
    // A label of somebody else, and a sidecar, are none of our business.
    let mut edit = target;
    edit["metadata"]["labels"] = json!({"team": "a"});
    ground.write("kubectl-edit", false, edit).await;
    let report = ground.apply([ground.deployment(2)]).await;
    assert_eq!(outcomes(&report), [("web", "Unchanged")]);
}

#[tokio::test]
async fn a_changed_set_is_followed_and_a_dropped_field_goes() {
    let ground = Ground::new();
    ground.place([ground.config_map("a", "1")]).await;
    let mut changed = ground.config_map("a", "2");
    changed["data"] = json!({"other": "3"});
    let report = ground.apply([changed]).await;
    assert_eq!(outcomes(&report), [("a", "Updated")]);
    let live = ground.get("v1", "ConfigMap", "a").await.unwrap();
    assert_eq!(live.data["data"], json!({"other": "3"}));
}

#[tokio::test]
async fn an_object_of_somebody_else_is_not_taken_over_unless_told_to() {
    let ground = Ground::new();
    ground.create_namespace().await;
    let theirs = ground.write("helm", true, ground.config_map("a", "theirs")).await;
    let report = ground.apply([ground.config_map("a", "ours")]).await;
    let refused = Refusal::OwnedByOther {
        manager: "helm".to_owned(),
    };
    assert_eq!(
        report.outcome(&ground.key("", "ConfigMap", "a")),
        Some(&ObjectOutcome::Refused { refusal: refused })
    );
    let live = ground.get("v1", "ConfigMap", "a").await.unwrap();
    assert_eq!(live.resource_version(), theirs.resource_version());

    let ground = ground.overwriting();
    assert_eq!(
        outcomes(&ground.apply([ground.config_map("a", "ours")]).await),
        [("a", "Updated")]
    );
    assert_eq!(
        ground.get("v1", "ConfigMap", "a").await.unwrap().data["data"]["key"],
        "ours"
    );
    assert_eq!(
        outcomes(&ground.apply([ground.config_map("a", "ours")]).await),
        [("a", "Unchanged")]
    );
}

#[tokio::test]
async fn an_object_of_another_owner_is_refused_even_when_overwriting() {
    let ground = Ground::new().overwriting();
    ground.place([ground.config_map("a", "first")]).await;
    let object = serde_json::from_value(ground.config_map("a", "second")).unwrap();
    let other = Owner::new("hub", "another", "Policy another").unwrap();
    let set = ObjectSet::new(other, [object]).unwrap();
    let report = ground
        .applier
        .apply(&ground.cluster, &set, &ground.options)
        .await
        .unwrap();
    let refusal = Refusal::ClaimedByOther {
        owner: ground.owner().name().to_owned(),
        hub: "hub".to_owned(),
    };
    assert_eq!(
        report.outcome(&ground.key("", "ConfigMap", "a")),
        Some(&ObjectOutcome::Refused { refusal })
    );
    assert_eq!(
        ground.get("v1", "ConfigMap", "a").await.unwrap().data["data"]["key"],
        "first"
    );
}

#[tokio::test]
async fn an_owner_made_anew_under_its_name_gets_its_objects_back_when_overwriting() {
    let ground = Ground::new();
    ground.place([ground.config_map("a", "1")]).await;
    let anew = Owner::new("hub", "made-anew", ground.owner().name()).unwrap();
    let object = || serde_json::from_value(ground.config_map("a", "1")).unwrap();
    let set = ObjectSet::new(anew.clone(), [object()]).unwrap();
    let report = ground
        .applier
        .apply(&ground.cluster, &set, &ground.options)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), [("a", "ClaimedByOther")]);
    let options = ground
        .options
        .clone()
        .with_conflict_resolution(ConflictResolution::Overwrite);
    let report = ground
        .applier
        .apply(&ground.cluster, &set, &options)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), [("a", "Updated")]);
    let live = ground.get("v1", "ConfigMap", "a").await.unwrap();
    assert!(anew.labelled(&live.metadata));
}

#[tokio::test]
async fn a_field_that_another_manager_applied_is_a_conflict_with_its_name_and_path() {
    let ground = Ground::new();
    ground.place([ground.deployment(2)]).await;
    let theirs = ground
        .write(
            "autoscaler",
            true,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web"}, "spec": {"replicas": 9},
            }),
        )
        .await;
    let report = ground.apply([ground.deployment(2)]).await;
    match report.outcome(&ground.key("apps", "Deployment", "web")) {
        Some(ObjectOutcome::Conflict { conflicts }) => {
            assert_eq!(conflicts.len(), 1);
            assert_eq!(
                (conflicts[0].manager.as_str(), conflicts[0].field.as_str()),
                ("autoscaler", ".spec.replicas")
            );
        }
        other => panic!("{other:?}"),
    }
    let live = ground.get("apps/v1", "Deployment", "web").await.unwrap();
    assert_eq!(live.resource_version(), theirs.resource_version());

    let ground = ground.overwriting();
    assert_eq!(
        outcomes(&ground.apply([ground.deployment(2)]).await),
        [("web", "Updated")]
    );
    assert_eq!(
        ground.get("apps/v1", "Deployment", "web").await.unwrap().data["spec"]["replicas"],
        2
    );
}

#[tokio::test]
async fn nothing_is_pruned_until_everything_wanted_is_in_place() {
    let ground = Ground::new();
    ground
        .place([ground.config_map("a", "1"), ground.config_map("b", "1")])
        .await;
    ground.write("helm", true, ground.config_map("c", "theirs")).await;

    let wanted = || [ground.config_map("a", "2"), ground.config_map("c", "1")];
    let report = ground.apply(wanted()).await;
    assert_eq!(outcomes(&report), [("a", "Updated"), ("c", "OwnedByOther")]);
    assert_eq!(report.pruning, Pruning::SetIncomplete);
    assert!(ground.get("v1", "ConfigMap", "b").await.is_some());

    ground
        .api("v1", "ConfigMap")
        .delete("c", &Default::default())
        .await
        .unwrap();
    let report = ground.apply(wanted()).await;
    assert_eq!(outcomes(&report), [("a", "Unchanged"), ("c", "Created")]);
    assert_eq!(removed(&report), ["b"]);
    assert!(ground.get("v1", "ConfigMap", "b").await.is_none());
}

#[tokio::test]
async fn only_what_was_placed_is_withdrawn() {
    let ground = Ground::new();
    ground
        .place([ground.config_map("a", "1"), ground.deployment(1)])
        .await;
    // Copied labels, as the endpoint controllers do: not ours.
    let mut copy = ground.config_map("copy", "1");
    copy["metadata"]["labels"] = serde_json::to_value(ground.owner().labels()).unwrap();
    let copy = serde_json::from_value(copy).unwrap();
    ground
        .api("v1", "ConfigMap")
        .create(&Default::default(), &copy)
        .await
        .unwrap();
    ground.write("helm", true, ground.config_map("theirs", "1")).await;

    let empty = ObjectSet::empty(ground.owner());
    let narrow = ground
        .options
        .clone()
        .with_prune(PruneScope::Kinds([KindRef::new("v1", "ConfigMap")].into()));
    let report = ground
        .applier
        .apply(&ground.cluster, &empty, &narrow)
        .await
        .unwrap();
    assert_eq!(removed(&report), ["a"]);
    let report = ground
        .applier
        .apply(&ground.cluster, &empty, &ground.options)
        .await
        .unwrap();
    assert_eq!(removed(&report), ["web"]);
    let wide = ground.options.clone().with_prune(PruneScope::EveryKind);
    let report = ground
        .applier
        .apply(&ground.cluster, &empty, &wide)
        .await
        .unwrap();
    assert_eq!(removed(&report), Vec::<&str>::new());
    for name in ["copy", "theirs"] {
        assert!(ground.get("v1", "ConfigMap", name).await.is_some(), "{name}");
    }
}

#[tokio::test]
async fn what_is_being_deleted_is_reported_and_not_applied_to() {
    let ground = Ground::new();
    ground.place([ground.config_map("a", "1")]).await;
    let finalizer = |finalizers: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": finalizers}});
    ground
        .write("somebody", false, finalizer(json!(["example.com/wait"])))
        .await;
    let empty = ObjectSet::empty(ground.owner());
    let options = ground
        .options
        .clone()
        .with_prune(PruneScope::Kinds([KindRef::new("v1", "ConfigMap")].into()));
    for _ in 0..2 {
        let report = ground
            .applier
            .apply(&ground.cluster, &empty, &options)
            .await
            .unwrap();
        match &report.pruning {
            Pruning::Done { removals } => assert_eq!(removals[0].removal, Removal::Deleting),
            other => panic!("{other:?}"),
        }
        assert!(!report.is_complete());
    }
    let report = ground.apply([ground.config_map("a", "1")]).await;
    assert_eq!(outcomes(&report), [("a", "BeingDeleted")]);
    ground.write("somebody", false, finalizer(json!(null))).await;
    assert_eq!(
        outcomes(&ground.apply([ground.config_map("a", "1")]).await),
        [("a", "Created")]
    );
}

#[tokio::test]
async fn a_namespace_is_created_only_when_it_is_missing_and_wanted() {
    let mut ground = Ground::new();
    ground.options = ground.options.clone().without_namespace_creation();
    let report = ground.apply([ground.config_map("a", "1")]).await;
    assert_eq!(outcomes(&report), [("a", "NamespaceMissing")]);
    ground.options = ApplyOptions::default();
    assert_eq!(
        outcomes(&ground.apply([ground.config_map("a", "1")]).await),
        [("a", "Created")]
    );

    // Without a controller manager it stays on its way out.
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Namespace"));
    let namespaces: Api<DynamicObject> = Api::all_with(ground.client.clone(), &resource);
    namespaces
        .delete(&ground.namespace, &Default::default())
        .await
        .unwrap();
    let report = ground
        .apply([ground.config_map("a", "1"), ground.config_map("b", "1")])
        .await;
    assert_eq!(
        outcomes(&report),
        [("a", "Unchanged"), ("b", "NamespaceTerminating")]
    );
}

#[tokio::test]
async fn what_the_server_refuses_has_a_reason_each_and_the_rest_goes_on() {
    let ground = Ground::new();
    ground
        .place([ground.config_map("good", "1"), ground.deployment(1)])
        .await;
    let mut moved = ground.deployment(1);
    moved["spec"]["selector"]["matchLabels"]["tier"] = "x".into();
    moved["spec"]["template"]["metadata"]["labels"]["tier"] = "x".into();
    let mut large = ground.deployment(1);
    large["metadata"]["name"] = "large".into();
    large["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "value": "x".repeat(2_000_000)}]);
    let mut misspelt = ground.deployment(1);
    misspelt["metadata"]["name"] = "misspelt".into();
    misspelt["spec"]["replica"] = 2.into();
    let report = ground
        .apply([
            json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": ground.namespace}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nowhere"}}),
            ground.config_map("good", "2"),
            ground.config_map("heavy", &"x".repeat(1_100_000)),
            ground.config_map("huge", &"x".repeat(3_200_000)),
            large,
            misspelt,
            moved,
        ])
        .await;
    let mut found = outcomes(&report);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("good", "Updated"),
            ("heavy", "Invalid"),
            ("huge", "TooLarge"),
            ("large", "TooLarge"),
            ("misspelt", "Invalid"),
            ("nowhere", "Invalid"),
            ("w", "KindMissing"),
            ("web", "FieldImmutable"),
        ]
    );
    assert_eq!(report.pruning, Pruning::SetIncomplete);
}

#[tokio::test]
async fn a_used_up_quota_is_named() {
    let ground = Ground::new();
    ground.create_namespace().await;
    let mut quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "none"}, "spec": {"hard": {"count/configmaps": "0"}},
    });
    ground.write("admin", true, quota.clone()).await;
    // The controller manager would fill this in.
    quota["status"] = json!({"hard": {"count/configmaps": "0"}, "used": {"count/configmaps": "0"}});
    let params = PatchParams::default();
    let api = ground.api("v1", "ResourceQuota");
    api.patch_status("none", &params, &Patch::Merge(&quota))
        .await
        .unwrap();
    assert_eq!(until(&ground, "QuotaExceeded").await, "QuotaExceeded");
}

#[tokio::test]
async fn a_refusal_by_an_admission_policy_is_named() {
    let ground = Ground::new();
    ground.create_namespace().await;
    let name = ground.namespace.clone();
    for object in [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"],
                }]},
                "validations": [{"expression": "false", "message": "not today"}],
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}},
            },
        }),
    ] {
        let kind = GroupVersionKind::gvk(
            "admissionregistration.k8s.io",
            "v1",
            object["kind"].as_str().unwrap(),
        );
        let mut resource = ApiResource::from_gvk(&kind);
        if kind.kind.ends_with("Policy") {
            resource.plural = "validatingadmissionpolicies".to_owned();
        }
        let api: Api<DynamicObject> = Api::all_with(ground.client.clone(), &resource);
        api.create(&Default::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
    }
    assert_eq!(until(&ground, "AdmissionDenied").await, "AdmissionDenied");
}

/// The server takes a moment to act on quotas and policies: new objects, until one is answered so.
async fn until(ground: &Ground, reason: &'static str) -> &'static str {
    let mut last = "";
    for attempt in 0..300 {
        let report = ground
            .apply([ground.config_map(&format!("a-{attempt}"), "1")])
            .await;
        last = report.objects[0].outcome.reason();
        if last == reason {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    last
}

#[tokio::test]
async fn without_rights_the_kind_is_forbidden_and_nothing_is_pruned() {
    let mut config = fleet().member("member").unwrap().config();
    config.auth_info.impersonate = Some("nobody".to_owned());
    let ground = Ground::over(Client::try_from(config).unwrap());
    let report = ground.apply([ground.config_map("a", "1")]).await;
    assert_eq!(outcomes(&report), [("a", "Forbidden")]);
    let empty = ObjectSet::empty(ground.owner());
    let options = ground.options.clone().with_prune(PruneScope::EveryKind);
    let report = ground
        .applier
        .apply(&ground.cluster, &empty, &options)
        .await
        .unwrap();
    assert!(
        matches!(
            report.pruning,
            Pruning::ScopeUnknown {
                failure: ApplyFailure::Forbidden { .. }
            }
        ),
        "{report}"
    );
}
