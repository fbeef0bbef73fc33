//! The controller under exactly the rules of `deploy/rbac`, on the hub and on the members: nothing it does is refused,
//! and nothing is granted that it does not do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use std::{collections::BTreeSet, fs, path::Path};

use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace},
    rbac::v1::ClusterRole,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, PostParams},
    discovery::pinned_kind,
    runtime::wait::await_condition,
};
use kurator::policy::{
    api::{DistributionPolicy, OverridePolicy, apps},
    propagate::CLAIMED_BY,
};
use serde_json::{Value, json};
use storefront::{DR, PROD, Storefront, condition, create, edit};

/// A verb on a resource (with its subresource) of a group.
type Call = (String, String, String);

/// What is granted, rule by rule; a rule for every resource of every group names none.
fn granted(documents: &[&str]) -> Vec<BTreeSet<Call>> {
    let mut rules = Vec::new();
    for text in documents.iter().flat_map(|document| document.split("\n---\n")) {
        let value: Value = serde_saphyr::from_str(text).unwrap();
        if value["kind"] != "ClusterRole" {
            continue;
        }
        let role: ClusterRole = serde_json::from_value(value).unwrap();
        for rule in role.rules.unwrap() {
            let (groups, resources) = (rule.api_groups.unwrap(), rule.resources.unwrap());
            let mut calls = BTreeSet::new();
            for group in &groups {
                for resource in &resources {
                    for verb in &rule.verbs {
                        calls.insert((group.clone(), resource.clone(), verb.clone()));
                    }
                }
            }
            rules.push(calls);
        }
    }
    rules
}

/// What was called by service accounts, and what of that was forbidden.
fn called(log: &Path) -> (BTreeSet<Call>, BTreeSet<Call>) {
    let (mut called, mut forbidden) = (BTreeSet::new(), BTreeSet::new());
    for line in fs::read_to_string(log).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let Some(object) = event.get("objectRef").filter(|it| !it["resource"].is_null()) else {
            continue;
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = match object.get("subresource") {
            Some(subresource) => format!("{}/{}", text(&object["resource"]), text(subresource)),
            None => text(&object["resource"]),
        };
        let call = |verb: &str| (text(&object["apiGroup"]), resource.clone(), verb.to_owned());
        let verb = text(&event["verb"]);
        if event["annotations"]["authorization.k8s.io/decision"] == "forbid" {
            forbidden.insert(call(&verb));
            continue;
        }
        // An apply that finds nothing asks for the right to create as well.
        if verb == "patch" && event["responseStatus"]["code"] == 201 {
            called.insert(call("create"));
        }
        called.insert(call(&verb));
    }
    (called, forbidden)
}

/// A verb or a resource that is granted and not used is too much.
fn unused(granted: &[BTreeSet<Call>], called: &BTreeSet<Call>) -> Vec<Call> {
    let is_used = |call: &&Call| {
        let (group, resource, verb) = call;
        called
            .iter()
            .any(|(g, r, v)| (group == "*" || group == g) && (resource == "*" || resource == r) && verb == v)
    };
    let all = granted.iter().flatten();
    all.filter(|call| !is_used(call)).cloned().collect()
}

/// An object of each kind that the shipped rules have, and a policy for all of them, in a namespace of their own.
async fn all_kinds(fleet: &Storefront) -> Vec<Api<DynamicObject>> {
    let namespaces: Api<Namespace> = Api::all(fleet.hub.clone());
    let _: Namespace = create(&namespaces, json!({ "metadata": { "name": "shop" } })).await;
    let pods = json!({
        "metadata": { "labels": { "app": "shop" } },
        "spec": { "containers": [{ "name": "web", "image": "registry.example/web:1" }] },
    });
    let workload = json!({ "selector": { "matchLabels": { "app": "shop" } }, "template": pods });
    let mut stateful = workload.clone();
    stateful["serviceName"] = json!("shop");
    let kinds = [
        ("apps/v1", "DaemonSet", json!({ "spec": workload })),
        ("apps/v1", "Deployment", json!({ "spec": workload })),
        ("apps/v1", "StatefulSet", json!({ "spec": stateful })),
        ("v1", "ConfigMap", json!({ "data": { "a": "b" } })),
        ("v1", "Service", json!({ "spec": { "ports": [{ "port": 80 }] } })),
    ];
    let (mut selectors, mut apis) = (Vec::new(), Vec::new());
    for (api_version, kind, mut object) in kinds {
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        object["metadata"] = json!({ "name": "shop", "namespace": "shop" });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
        let (resource, _) = pinned_kind(&fleet.hub, &gvk).await.unwrap();
        let api: Api<DynamicObject> = Api::namespaced_with(fleet.hub.clone(), "shop", &resource);
        api.create(&PostParams::default(), &object).await.unwrap();
        apis.push(api);
        selectors.push(json!({ "apiVersion": api_version, "kind": kind, "name": "shop" }));
    }
    let policies: Api<apps::DistributionPolicy> = Api::namespaced(fleet.hub.clone(), "shop");
    let policy = json!({ "metadata": { "name": "shop" }, "spec": { "resourceSelectors": selectors } });
    let _: apps::DistributionPolicy = create(&policies, policy).await;
    apis
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_rules_are_enough_and_none_of_them_is_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = Storefront::restricted(folder.path()).await;
    let shards = storefront::shards(&fleet.seen, "only");
    let controller =
        tokio::spawn(storefront::distribution(&fleet.seen, Some(&shards)).run(std::future::pending()));
    fleet.template(20).await;
    fleet.policies().await;
    fleet.replicas(PROD, "storefront", 18).await;
    fleet.replicas(DR, "storefront", 1).await;
    let templates = all_kinds(&fleet).await;
    fleet
        .status("storefront", "both in place", |it| {
            it.totals
                .as_ref()
                .is_some_and(|totals| totals.applied_replicas == 19)
                && condition(it, "Degraded", "False").is_some()
        })
        .await;
    fleet.event("TotalChanged").await;
    // The same Event once more becomes a series: a patch.
    let overrides: Api<OverridePolicy> = Api::namespaced(fleet.hub.clone(), "default");
    let other = json!([{ "targetClusters": { "clusterNames": [DR] }, "overrides": [{ "path": "/spec/replicas", "value": 0 }] }]);
    edit(
        &overrides,
        "storefront-dr",
        json!({ "spec": { "overrideRules": other } }),
    )
    .await;
    fleet.replicas(DR, "storefront", 0).await;
    // Drift is seen and set back.
    let api = storefront::deployments(fleet.member(PROD));
    edit(&api, "storefront", json!({ "spec": { "replicas": 7 } })).await;
    fleet
        .deployment(PROD, "storefront", "set back", |it| {
            it.is_some_and(|it| it.spec.replicas == Some(18) && it.metadata.generation >= Some(3))
        })
        .await;
    // Everything goes again, and with it the namespaces that had to be created.
    fleet
        .policy_api()
        .delete("storefront", &DeleteParams::default())
        .await
        .unwrap();
    let shop: Api<apps::DistributionPolicy> = Api::namespaced(fleet.hub.clone(), "shop");
    let in_place = |policy: Option<&apps::DistributionPolicy>| {
        let status = policy.and_then(|it| it.status.as_ref());
        status.is_some_and(|it| {
            it.clusters.iter().all(|entry| entry.applied_objects == 5) && it.clusters.len() == 2
        })
    };
    let hub = fleet.member("hub");
    hub.wait_for(&shop, "shop", in_place).await.unwrap();
    for api in templates {
        let is_marked =
            |it: Option<&DynamicObject>| it.is_some_and(|it| it.annotations().contains_key(CLAIMED_BY));
        let marked = await_condition(api, "shop", is_marked);
        tokio::time::timeout(storefront::PATIENCE, marked)
            .await
            .unwrap()
            .unwrap();
    }
    shop.delete("shop", &DeleteParams::default()).await.unwrap();
    fleet.gone(PROD, "storefront").await;
    fleet.gone(DR, "storefront").await;
    fleet.policy_gone("storefront").await;
    for name in [PROD, DR] {
        let member = fleet.member(name);
        let namespaces: Api<Namespace> = Api::all(member.direct_client().unwrap());
        let going = |it: Option<&Namespace>| it.is_none_or(|it| it.metadata.deletion_timestamp.is_some());
        member.wait_for(&namespaces, "shop", going).await.unwrap();
    }

    controller.abort();
    shards.close().await;

    let hub = called(&folder.path().join("hub"));
    let of_hub = granted(&[include_str!("../deploy/rbac/distribution.yaml")]);
    let of_members = granted(&[
        include_str!("../deploy/rbac/member.yaml"),
        include_str!("../deploy/rbac/member-namespaces.yaml"),
    ]);
    let nothing = BTreeSet::new();
    assert_eq!(hub.1, nothing, "the hub refused");
    assert_eq!(unused(&of_hub, &hub.0), [], "granted on the hub and not used");
    for name in [PROD, DR] {
        let (called, forbidden) = called(&folder.path().join(name));
        assert_eq!(forbidden, nothing, "{name} refused");
        assert_eq!(unused(&of_members, &called), [], "granted on {name} and not used");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_was_created_goes_when_nothing_is_left_in_it_and_no_other_does() {
    let fleet = Storefront::alive().await;
    let namespaces: Api<Namespace> = Api::all(fleet.hub.clone());
    for name in ["shop", "old"] {
        let _: Namespace = create(&namespaces, json!({ "metadata": { "name": name } })).await;
        let map = json!({ "metadata": { "name": "settings" }, "data": { "a": "b" } });
        let _: ConfigMap = create(&Api::namespaced(fleet.hub.clone(), name), map).await;
    }
    let of = |member: &str| -> Api<Namespace> { Api::all(fleet.member(member).direct_client().unwrap()) };
    let maps = |member: &str, namespace: &str| -> Api<ConfigMap> {
        Api::namespaced(fleet.member(member).direct_client().unwrap(), namespace)
    };
    // In one member one of the namespaces was there before; and in one somebody moves in.
    let _: Namespace = create(&of(PROD), json!({ "metadata": { "name": "old" } })).await;
    let selector = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "settings" });
    let policy = json!({ "metadata": { "name": "settings" }, "spec": { "resourceSelectors": [selector] } });
    let there = |it: Option<&ConfigMap>| it.is_some();
    for namespace in ["shop", "old"] {
        let api: Api<DistributionPolicy> = Api::namespaced(fleet.hub.clone(), namespace);
        let _: DistributionPolicy = create(&api, policy.clone()).await;
        for member in [PROD, DR] {
            let member_of = fleet.member(member);
            member_of
                .wait_for(&maps(member, namespace), "settings", there)
                .await
                .unwrap();
        }
    }
    let foreign = json!({ "metadata": { "name": "theirs" } });
    let _: ConfigMap = create(&maps(DR, "shop"), foreign).await;

    for namespace in ["shop", "old"] {
        let api: Api<DistributionPolicy> = Api::namespaced(fleet.hub.clone(), namespace);
        api.delete("settings", &DeleteParams::default()).await.unwrap();
    }
    let gone = |it: Option<&Namespace>| it.is_none();
    fleet
        .member(PROD)
        .wait_for(&of(PROD), "shop", gone)
        .await
        .unwrap();
    fleet.member(DR).wait_for(&of(DR), "old", gone).await.unwrap();
    assert!(
        of(PROD)
            .get("old")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_none()
    );
    assert!(
        of(DR)
            .get("shop")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_none()
    );
    // When they move out there is nothing left to stay for.
    maps(DR, "shop")
        .delete("theirs", &DeleteParams::default())
        .await
        .unwrap();
    fleet.member(DR).wait_for(&of(DR), "shop", gone).await.unwrap();
}
