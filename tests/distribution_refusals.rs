//! What a member refuses is told with a typed reason, of just that object in just that cluster; everything else goes
//! on, and the object arrives when the cause is gone, without anybody touching the policy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use std::{collections::BTreeMap, net::TcpListener};

use k8s_openapi::api::{
    admissionregistration::v1::{
        ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
    },
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, ResourceQuota, Secret, Service},
    flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration},
    rbac::v1::PolicyRule,
};
use kube::{
    Api, Client, Resource,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
        PostParams,
    },
};
use kurator::policy::api::{DistributionPolicy, DistributionPolicyStatus, OverridePolicy};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use storefront::{DR, PATIENCE, PROD, Storefront, condition, create, deployment, edit, entry};
use tokio::task::JoinHandle;

/// Kind, name and reason of the objects that something is wrong with in a cluster.
fn wrong(status: &DistributionPolicyStatus, cluster: &str) -> BTreeMap<(String, String), String> {
    let objects = entry(status, cluster)
        .map(|it| it.objects.clone())
        .unwrap_or_default();
    objects
        .into_iter()
        .map(|it| ((it.kind, it.name), it.reason))
        .collect()
}

fn expected(objects: &[(&str, &str, &str)]) -> BTreeMap<(String, String), String> {
    objects
        .iter()
        .map(|(kind, name, reason)| (((*kind).to_owned(), (*name).to_owned()), (*reason).to_owned()))
        .collect()
}

/// Whether everything is in place everywhere.
fn well(status: &DistributionPolicyStatus, objects: i64) -> bool {
    [PROD, DR].iter().all(|cluster| {
        entry(status, cluster).is_some_and(|it| it.applied_objects == objects && it.objects.is_empty())
    }) && condition(status, "Degraded", "False").is_some()
}

fn of<K>(client: &Client) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), "default")
}

fn member_of<K>(fleet: &Storefront, member: &str) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    of(&fleet.member(member).direct_client().unwrap())
}

fn policy(name: &str, kinds: &[(&str, &str)]) -> Value {
    let selectors: Vec<Value> = kinds
        .iter()
        .map(|(api_version, kind)| {
            json!({ "apiVersion": api_version, "kind": kind, "labelSelector": { "matchLabels": { "app": "shop" } } })
        })
        .collect();
    json!({ "metadata": { "name": name }, "spec": { "resourceSelectors": selectors } })
}

/// What is different in the one cluster.
async fn in_dr(fleet: &Storefront, name: &str, kind: (&str, &str), paths: &[(&str, Value)]) {
    let overrides: Vec<Value> = paths
        .iter()
        .map(|(path, value)| json!({ "path": path, "value": value }))
        .collect();
    let object = json!({ "metadata": { "name": name }, "spec": {
        "resourceSelectors": [{ "apiVersion": kind.0, "kind": kind.1 }],
        "overrideRules": [{ "targetClusters": { "clusterNames": [DR] }, "overrides": overrides }],
    } });
    let _: OverridePolicy = create(&of(&fleet.hub), object).await;
}

/// Waits until a ConfigMap of a member says so.
async fn says(fleet: &Storefront, member: &str, name: &str, mode: &str) {
    let is = |map: Option<&ConfigMap>| {
        map.and_then(|it| it.data.as_ref()?.get("mode").cloned())
            .as_deref()
            == Some(mode)
    };
    let api = member_of(fleet, member);
    let waited = fleet.member(member).wait_for(&api, name, is);
    tokio::time::timeout(PATIENCE, waited).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_cannot_change_is_named_and_the_object_is_made_anew_once_it_is_deleted() {
    let fleet = Storefront::still().await;
    let labels = json!({ "app": "shop" });
    let mut web = deployment("web", 2);
    web["metadata"]["labels"] = labels.clone();
    let _: Deployment = create(&of(&fleet.hub), web).await;
    let _: Service = create(
        &of(&fleet.hub),
        json!({ "metadata": { "name": "db", "labels": labels }, "spec": { "ports": [{ "port": 5432 }] } }),
    )
    .await;
    let containers = json!([{ "name": "main", "image": "registry.example/main:1" }]);
    let _: Job = create(
        &of(&fleet.hub),
        json!({ "metadata": { "name": "count", "labels": labels }, "spec": {
            "completions": 2, "template": { "spec": { "restartPolicy": "Never", "containers": containers } },
        } }),
    )
    .await;
    let _: ConfigMap = create(
        &of(&fleet.hub),
        json!({ "metadata": { "name": "plain", "labels": labels }, "data": { "mode": "first" } }),
    )
    .await;
    let kinds = [
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
        ("batch/v1", "Job"),
        ("v1", "ConfigMap"),
    ];
    let _: DistributionPolicy = create(&fleet.policy_api(), policy("shop", &kinds)).await;
    fleet.status("shop", "in place", |it| well(it, 4)).await;

    let other = json!({ "app": "other" });
    let selector = [
        ("/spec/selector/matchLabels", other.clone()),
        ("/spec/template/metadata/labels", other.clone()),
    ];
    in_dr(&fleet, "selector", kinds[0], &selector).await;
    in_dr(
        &fleet,
        "headless",
        kinds[1],
        &[("/spec/clusterIP", json!("None"))],
    )
    .await;
    let image = [(
        "/spec/template/spec/containers/0/image",
        json!("registry.example/main:2"),
    )];
    in_dr(&fleet, "image", kinds[2], &image).await;
    edit(
        &of::<ConfigMap>(&fleet.hub),
        "plain",
        json!({ "data": { "mode": "second" } }),
    )
    .await;
    let refused = expected(&[
        ("Deployment", "web", "FieldImmutable"),
        ("Service", "db", "FieldImmutable"),
        ("Job", "count", "FieldImmutable"),
    ]);
    let status = fleet
        .status("shop", "the three are named", |it| wrong(it, DR) == refused)
        .await;
    let row = entry(&status, DR).unwrap();
    assert_eq!((row.applied_objects, row.reason.as_str()), (1, "FieldImmutable"));
    let said = |name: &str| {
        row.objects
            .iter()
            .find(|it| it.name == name)
            .unwrap()
            .message
            .clone()
    };
    assert!(said("web").contains("spec.selector"), "{}", said("web"));
    assert!(said("db").contains("spec.clusterIP"), "{}", said("db"));
    assert!(said("count").contains("spec.template"), "{}", said("count"));
    assert!(said("count").contains("delete the object on the member"));
    assert!(wrong(&status, PROD).is_empty());
    assert_eq!(entry(&status, PROD).unwrap().applied_objects, 4);
    // What can be changed is.
    for member in [PROD, DR] {
        says(&fleet, member, "plain", "second").await;
    }

    // The remedy that is named: the object is deleted there. Or what asked for the change goes.
    let now = DeleteParams::background();
    member_of::<Deployment>(&fleet, DR)
        .delete("web", &now)
        .await
        .unwrap();
    member_of::<Service>(&fleet, DR).delete("db", &now).await.unwrap();
    of::<OverridePolicy>(&fleet.hub)
        .delete("image", &DeleteParams::default())
        .await
        .unwrap();
    fleet.status("shop", "in place again", |it| well(it, 4)).await;
    let web = member_of::<Deployment>(&fleet, DR).get("web").await.unwrap();
    assert_eq!(json!(web.spec.selector.match_labels), other);
    let db = member_of::<Service>(&fleet, DR).get("db").await.unwrap();
    assert_eq!(db.spec.unwrap().cluster_ip.as_deref(), Some("None"));
}

/// Kinds of our own, one of which the second member does not have.
fn definition(kind: &str) -> Value {
    let singular = kind.to_lowercase();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{singular}s.ml.example.com") },
        "spec": {
            "group": "ml.example.com", "scope": "Namespaced",
            "names": { "kind": kind, "plural": format!("{singular}s"), "singular": singular },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object",
                "properties": { "spec": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            } } }],
        },
    })
}

fn custom(client: &Client, kind: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("ml.example.com", "v1", kind);
    Api::namespaced_with(client.clone(), "default", &ApiResource::from_gvk(&kind))
}

/// Asks until the answer has this code: nothing else says when a rule of the server is in force.
async fn in_force<T, F>(code: u16, ask: impl Fn() -> F + Send + Sync)
where
    T: Send,
    F: Future<Output = Result<T, kube::Error>> + Send,
{
    let mut last = String::new();
    let asked = async {
        loop {
            match ask().await {
                Err(kube::Error::Api(status)) if status.code == code => return,
                Err(error) => last = error.to_string(),
                Ok(_) => last = "it was allowed".to_owned(),
            }
        }
    };
    let waited = tokio::time::timeout(PATIENCE, asked).await;
    assert!(waited.is_ok(), "not answered with {code}: {last}");
}

/// No ConfigMap named `denied` gets in.
async fn deny(client: &Client) {
    let rule = json!({ "metadata": { "name": "no-denied" }, "spec": {
        "matchConstraints": { "resourceRules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"],
        }] },
        "validations": [{ "expression": "object.metadata.name != 'denied'", "message": "not in this cluster" }],
    } });
    let _: ValidatingAdmissionPolicy = create(&Api::all(client.clone()), rule).await;
    let binding = json!({ "metadata": { "name": "no-denied" }, "spec": {
        "policyName": "no-denied", "validationActions": ["Deny"],
    } });
    let _: ValidatingAdmissionPolicyBinding = create(&Api::all(client.clone()), binding).await;
    let maps = of::<ConfigMap>(client);
    let denied: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "denied" } })).unwrap();
    in_force(422, || async { maps.create(&dry_run(), &denied).await }).await;
}

/// A request that its server keeps until it is dropped; meanwhile the server is busy.
struct Occupant {
    request: JoinHandle<()>,
    /// Connections to it stand, and nobody answers them.
    _webhook: TcpListener,
}

impl Drop for Occupant {
    fn drop(&mut self) {
        self.request.abort();
    }
}

/// What the account asks about Secrets is answered with 429. Of the requests of its level the server works on one at a
/// time, and that one waits for a webhook.
async fn turn_away(client: &Client, account: Client) -> Occupant {
    let level = json!({ "metadata": { "name": "nothing" }, "spec": { "type": "Limited", "limited": {
        "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
        "limitResponse": { "type": "Reject" },
    } } });
    let _: PriorityLevelConfiguration = create(&Api::all(client.clone()), level).await;
    let account_name = json!({ "namespace": "default", "name": "distributor" });
    let schema = json!({ "metadata": { "name": "a-busy" }, "spec": {
        "matchingPrecedence": 2, "priorityLevelConfiguration": { "name": "nothing" },
        "rules": [{
            "subjects": [{ "kind": "ServiceAccount", "serviceAccount": account_name }],
            "resourceRules": [{
                "apiGroups": [""], "resources": ["secrets"], "verbs": ["*"], "namespaces": ["*"], "clusterScope": true,
            }],
        }],
    } });
    let _: FlowSchema = create(&Api::all(client.clone()), schema).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let webhook = json!({ "metadata": { "name": "slow" }, "webhooks": [{
        "name": "slow.example.com", "clientConfig": { "url": url }, "timeoutSeconds": 30, "failurePolicy": "Ignore",
        "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"] }],
        "matchConditions": [{ "name": "occupant", "expression": "object.metadata.name == 'occupant'" }],
    }] });
    let _: ValidatingWebhookConfiguration = create(&Api::all(client.clone()), webhook).await;
    let secrets = of::<Secret>(&account);
    let request = tokio::spawn({
        let secrets = secrets.clone();
        async move {
            let occupant: Secret =
                serde_json::from_value(json!({ "metadata": { "name": "occupant" } })).unwrap();
            loop {
                let _ = secrets.create(&dry_run(), &occupant).await;
            }
        }
    });
    let occupant = Occupant {
        request,
        _webhook: listener,
    };
    in_force(429, || async { secrets.list(&ListParams::default()).await }).await;
    occupant
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

/// One Service at the most; nobody counts them but the server itself.
async fn limit(client: &Client) {
    let quotas = of::<ResourceQuota>(client);
    let hard = json!({ "services": "1" });
    let quota = json!({ "metadata": { "name": "few" }, "spec": { "hard": hard } });
    let _: ResourceQuota = create(&quotas, quota).await;
    // The part of the controller that counts. `kubernetes` is there.
    let counted = json!({ "status": { "hard": hard, "used": { "services": "1" } } });
    quotas
        .patch_status("few", &PatchParams::default(), &Patch::Merge(counted))
        .await
        .unwrap();
    let service: Service = serde_json::from_value(
        json!({ "metadata": { "name": "one" }, "spec": { "ports": [{ "port": 1 }] } }),
    )
    .unwrap();
    let services = of::<Service>(client);
    in_force(403, || async { services.create(&dry_run(), &service).await }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_is_told_of_its_object_in_its_cluster_and_ends_with_its_cause() {
    let fleet = Storefront::still().await;
    let dr = fleet.member(DR);
    let client = dr.direct_client().unwrap();
    let everything = |urls: bool| PolicyRule {
        api_groups: (!urls).then(|| vec!["*".into()]),
        resources: (!urls).then(|| vec!["*".into()]),
        non_resource_urls: urls.then(|| vec!["*".into()]),
        verbs: vec!["*".into()],
        ..PolicyRule::default()
    };
    let account = dr
        .account_with("distributor", vec![everything(false), everything(true)])
        .await
        .unwrap();
    fleet.attach(DR, account.kubeconfig().expose_secret()).await;
    let mut config = account.config();
    config.default_retry = false;
    deny(&client).await;
    limit(&client).await;
    for (member, kinds) in [
        ("hub", &["Engine", "Blob"][..]),
        (PROD, &["Engine", "Blob"]),
        (DR, &["Blob"]),
    ] {
        for kind in kinds {
            fleet
                .member(member)
                .apply(&definition(kind).to_string())
                .await
                .unwrap();
        }
    }

    let labels = json!({ "app": "shop" });
    for name in ["denied", "plain"] {
        let map = json!({ "metadata": { "name": name, "labels": labels }, "data": { "mode": "first" } });
        let _: ConfigMap = create(&of(&fleet.hub), map).await;
    }
    let counted =
        json!({ "metadata": { "name": "counted", "labels": labels }, "spec": { "ports": [{ "port": 80 }] } });
    let _: Service = create(&of(&fleet.hub), counted).await;
    let busy = json!({ "metadata": { "name": "busy", "labels": labels }, "stringData": { "key": "c4n4ry" } });
    let _: Secret = create(&of(&fleet.hub), busy).await;
    for (kind, name) in [("Engine", "small"), ("Blob", "large")] {
        let object = json!({
            "apiVersion": "ml.example.com/v1", "kind": kind,
            "metadata": { "name": name, "labels": labels }, "spec": { "a": "x" },
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        custom(&fleet.hub, kind)
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    }
    // Together more than a server stores, each by itself less.
    let blob = ("ml.example.com/v1", "Blob");
    for part in ["b", "c"] {
        let path = format!("/spec/{part}");
        in_dr(&fleet, part, blob, &[(&path, json!("x".repeat(900_000)))]).await;
    }
    let kinds = [
        ("v1", "ConfigMap"),
        ("v1", "Service"),
        ("v1", "Secret"),
        ("ml.example.com/v1", "Engine"),
        blob,
    ];
    let occupant = turn_away(&client, Client::try_from(config).unwrap()).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), policy("shop", &kinds)).await;

    let refused = expected(&[
        ("ConfigMap", "denied", "AdmissionDenied"),
        ("Service", "counted", "QuotaExceeded"),
        ("Secret", "busy", "Throttled"),
        ("Engine", "small", "KindMissing"),
        ("Blob", "large", "TooLarge"),
    ]);
    let status = fleet
        .status("shop", "all five are named", |it| {
            wrong(it, DR) == refused && entry(it, PROD).is_some_and(|it| it.applied_objects == 6)
        })
        .await;
    assert!(wrong(&status, PROD).is_empty(), "{status:#?}");
    assert_eq!(entry(&status, DR).unwrap().applied_objects, 1);
    assert!(entry(&status, DR).unwrap().message.contains("and 4 more"));
    let text = serde_json::to_string(&status).unwrap();
    assert!(
        text.contains("not in this cluster") && text.contains("install its CustomResourceDefinition"),
        "{text}"
    );
    assert!(!text.contains("xxxxxxxx") && !text.contains("c4n4ry"), "{text}");

    // The rest goes on.
    edit(
        &of::<ConfigMap>(&fleet.hub),
        "plain",
        json!({ "data": { "mode": "second" } }),
    )
    .await;
    for member in [PROD, DR] {
        says(&fleet, member, "plain", "second").await;
    }
    fleet.another("other", "other", 2).await;
    fleet.replicas(DR, "other", 2).await;

    // Each cause is taken away; the policy is not touched.
    let now = DeleteParams::default();
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    bindings.delete("no-denied", &now).await.unwrap();
    of::<ResourceQuota>(&client).delete("few", &now).await.unwrap();
    drop(occupant);
    Api::<FlowSchema>::all(client.clone())
        .delete("a-busy", &now)
        .await
        .unwrap();
    dr.apply(&definition("Engine").to_string()).await.unwrap();
    of::<OverridePolicy>(&fleet.hub).delete("c", &now).await.unwrap();
    fleet.status("shop", "in place", |it| well(it, 6)).await;
    for (kind, name) in [("Engine", "small"), ("Blob", "large")] {
        custom(&client, kind).get(name).await.unwrap();
    }
    let busy = of::<Secret>(&client).get("busy").await.unwrap();
    assert_eq!(busy.data.unwrap()["key"].0, b"c4n4ry");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_on_its_way_out_is_waited_for_and_made_anew() {
    let fleet = Storefront::still().await;
    let spaces = |member: &str| Api::<Namespace>::all(fleet.member(member).direct_client().unwrap());
    for member in ["hub", DR] {
        let _: Namespace = create(&spaces(member), json!({ "metadata": { "name": "shop" } })).await;
    }
    // Nobody finishes this there until the end of the test does.
    spaces(DR).delete("shop", &DeleteParams::default()).await.unwrap();
    let within = |client: &Client| Api::<ConfigMap>::namespaced(client.clone(), "shop");
    let map =
        json!({ "metadata": { "name": "plain", "labels": { "app": "shop" } }, "data": { "mode": "first" } });
    let _: ConfigMap = create(&within(&fleet.hub), map).await;
    let policies = Api::<DistributionPolicy>::namespaced(fleet.hub.clone(), "shop");
    let _: DistributionPolicy = create(&policies, policy("shop", &[("v1", "ConfigMap")])).await;
    let hub = fleet.member("hub");
    let told = |policy: Option<&DistributionPolicy>| {
        let status = policy.and_then(|it| it.status.as_ref());
        status.is_some_and(|it| {
            wrong(it, DR) == expected(&[("ConfigMap", "plain", "NamespaceTerminating")])
                && entry(it, PROD).is_some_and(|it| it.applied_objects == 1)
        })
    };
    tokio::time::timeout(PATIENCE, hub.wait_for(&policies, "shop", told))
        .await
        .unwrap()
        .unwrap();
    within(&fleet.member(PROD).direct_client().unwrap())
        .get("plain")
        .await
        .unwrap();

    let mut going = spaces(DR).get("shop").await.unwrap();
    let uid = going.metadata.uid.clone();
    going.spec = Some(k8s_openapi::api::core::v1::NamespaceSpec::default());
    spaces(DR)
        .replace_subresource("finalize", "shop", &PostParams::default(), &going)
        .await
        .unwrap();
    let there = |policy: Option<&DistributionPolicy>| {
        policy
            .and_then(|it| it.status.as_ref())
            .is_some_and(|it| well(it, 1))
    };
    tokio::time::timeout(PATIENCE, hub.wait_for(&policies, "shop", there))
        .await
        .unwrap()
        .unwrap();
    assert_ne!(spaces(DR).get("shop").await.unwrap().metadata.uid, uid);
    within(&fleet.member(DR).direct_client().unwrap())
        .get("plain")
        .await
        .unwrap();
}
