//! What the hub's API server chose for an object by itself is chosen anew by every member.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use k8s_openapi::api::{batch::v1::Job, core::v1::Service};
use kube::{Api, ResourceExt};
use kurator::policy::api::DistributionPolicy;
use kurator_envtest::{Controllers, Member, MemberSpec};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use storefront::{DR, PATIENCE, PROD, Storefront, condition, create, entry};

fn service(name: &str, port: Value) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "type": "NodePort", "selector": { "app": name }, "ports": [port] },
    })
}

fn node_port(service: &Service) -> i32 {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref());
    ports.and_then(|ports| ports.first()?.node_port).unwrap()
}

async fn arrives<K>(member: &Member, name: &str) -> K
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let api: Api<K> = Api::namespaced(member.direct_client().unwrap(), "default");
    tokio::time::timeout(
        PATIENCE,
        member.wait_for(&api, name, |it: Option<&K>| it.is_some()),
    )
    .await
    .unwrap()
    .unwrap();
    api.get(name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_chooses_node_ports_for_itself_unless_the_author_did_and_names_its_own_jobs() {
    let member = |name: &str| MemberSpec::new(name).with_controllers(Controllers::Tuned);
    let mut fleet = Storefront::of([member(PROD), member(DR)]).await;
    let services: Api<Service> = Api::namespaced(fleet.hub.clone(), "default");
    let chosen: Service = create(&services, service("web", json!({ "port": 80 }))).await;
    let fixed = json!({ "port": 80, "nodePort": 30_123 });
    let _: Service = create(&services, service("fixed", fixed)).await;
    let job = json!({
        "metadata": { "name": "task" },
        "spec": { "completions": 2, "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "task", "image": "task:1" }],
        } } },
    });
    let _: Job = create(&Api::namespaced(fleet.hub.clone(), "default"), job).await;
    // Somebody has the hub's port there already.
    let taken: Api<Service> = Api::namespaced(fleet.member(PROD).direct_client().unwrap(), "default");
    let squatter = json!({ "port": 80, "nodePort": node_port(&chosen) });
    let _: Service = create(&taken, service("squatter", squatter)).await;

    fleet.run();
    let named =
        |kind: (&str, &str), name: &str| json!({ "apiVersion": kind.0, "kind": kind.1, "name": name });
    let policy = json!({
        "metadata": { "name": "copies" },
        "spec": { "resourceSelectors": [
            named(("v1", "Service"), "web"), named(("v1", "Service"), "fixed"), named(("batch/v1", "Job"), "task"),
        ]},
    });
    let _: DistributionPolicy = create(&fleet.policy_api(), policy).await;
    for cluster in [PROD, DR] {
        let here = fleet.member(cluster);
        let web: Service = arrives(here, "web").await;
        assert!((30_000..=32_767).contains(&node_port(&web)), "{cluster}: {web:?}");
        let fixed: Service = arrives(here, "fixed").await;
        assert_eq!(node_port(&fixed), 30_123, "{cluster}");
        let task: Job = arrives(here, "task").await;
        let uid = task.uid().unwrap();
        let spec = task.spec.unwrap();
        let selector = spec.selector.unwrap().match_labels.unwrap();
        assert_eq!(
            selector.get("batch.kubernetes.io/controller-uid"),
            Some(&uid),
            "{cluster}"
        );
        let pods = spec.template.metadata.unwrap().labels.unwrap();
        assert_eq!(pods.get("controller-uid"), Some(&uid), "{cluster}");
    }
    let web: Service = arrives(fleet.member(PROD), "web").await;
    assert_ne!(node_port(&web), node_port(&chosen), "that one is taken there");
    fleet
        .status("copies", "nothing refused", |it| {
            [PROD, DR]
                .iter()
                .all(|cluster| entry(it, cluster).is_some_and(|it| it.applied_objects == 3))
                && condition(it, "Degraded", "False").is_some()
        })
        .await;
    assert_eq!(fleet.counts.sum("objects_drifted"), 0.0);
}
