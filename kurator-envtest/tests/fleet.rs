//! A fleet is usable, steerable and gone afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Node, Pod, ServiceAccount},
    rbac::v1::PolicyRule,
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::conditions,
};
use kurator_envtest::{Controllers, Error, Fleet, MemberSpec, Nodes, Part, Pods};
use serde_json::json;

fn full(name: &str, controllers: Controllers) -> MemberSpec {
    MemberSpec::new(name)
        .with_controllers(controllers)
        .with_scheduler()
        .with_nodes(
            Nodes::new(3)
                .with_capacity("example.com/gpu", "2")
                .with_zones(["a", "b"]),
        )
}

#[tokio::test]
async fn deployments_become_ready_in_two_full_members() {
    let fleet = Fleet::builder()
        .member(full("east", Controllers::Stock))
        .member(full("west", Controllers::Tuned))
        .start()
        .await
        .unwrap();
    let deployment = serde_json::from_value::<Deployment>(json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]}
            }
        }
    }))
    .unwrap();
    for member in fleet.members() {
        let api = Api::<Deployment>::default_namespaced(member.client().unwrap());
        api.create(&PostParams::default(), &deployment).await.unwrap();
    }
    for member in fleet.members() {
        let client = member.client().unwrap();
        let api = Api::<Deployment>::default_namespaced(client.clone());
        let ready = |deployment: Option<&Deployment>| {
            let status = deployment.and_then(|deployment| deployment.status.as_ref());
            status.and_then(|status| status.ready_replicas) == Some(4)
        };
        member.wait_for(&api, "web", ready).await.unwrap();
        let pods = Api::<Pod>::default_namespaced(client.clone())
            .list(&ListParams::default())
            .await
            .unwrap();
        assert_eq!(pods.items.len(), 4);
        assert!(
            pods.items
                .iter()
                .all(|pod| pod.spec.as_ref().unwrap().node_name.is_some())
        );
        let node = Api::<Node>::all(client).get("node-1").await.unwrap();
        assert_eq!(node.metadata.labels.unwrap()["topology.kubernetes.io/zone"], "b");
        assert_eq!(
            node.status.unwrap().allocatable.unwrap()["example.com/gpu"].0,
            "2"
        );
        assert_eq!(member.startup().versions.len(), 5);
        assert_eq!(member.startup().versions[&Part::ApiServer], "v1.37.2");
    }
}

#[test]
fn a_fleet_starts_without_a_runtime_and_leaves_nothing() {
    let fleet = Fleet::builder().members(["a", "b"]).start_blocking().unwrap();
    let folder = fleet.folder().to_owned();
    assert!(folder.join("a/kube-apiserver.log").is_file());
    assert!(
        fleet
            .member("a")
            .unwrap()
            .kubeconfig()
            .contains("https://127.0.0.1:")
    );
    drop(fleet);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_port_that_is_taken_is_replaced_by_another() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let fleet = Fleet::builder()
        .member(MemberSpec::new("a").with_port(port))
        .start()
        .await
        .unwrap();
    let member = fleet.member("a").unwrap();
    assert_eq!(member.startup().ports_refused, 1);
    Api::<ConfigMap>::default_namespaced(member.client().unwrap())
        .list(&ListParams::default())
        .await
        .unwrap();
}

const WIDGETS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          size: {type: integer, minimum: 1}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- {apiVersion: example.com/v1, kind: Widget, metadata: {name: one, namespace: shop}, size: 1}
";

#[tokio::test]
async fn definitions_and_their_objects_are_applied_from_one_text() {
    let fleet = Fleet::builder().members(["a"]).start().await.unwrap();
    let member = fleet.member("a").unwrap();
    let applied = member.apply(WIDGETS).await.unwrap();
    let kinds = applied
        .iter()
        .map(|object| object.types.as_ref().unwrap().kind.as_str())
        .collect::<Vec<_>>();
    assert_eq!(kinds, ["CustomResourceDefinition", "Namespace", "Widget"]);
    // Applying again is no conflict.
    member.apply(WIDGETS).await.unwrap();

    let refused = member
        .apply("{apiVersion: example.com/v1, kind: Widget, metadata: {name: two}, size: 0}")
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused}");
    let nameless = member
        .apply("{apiVersion: v1, kind: Namespace}")
        .await
        .unwrap_err();
    assert!(
        matches!(nameless, Error::Manifest { document: 1, .. }),
        "{nameless}"
    );
}

#[tokio::test]
async fn an_account_may_do_what_its_rules_say_and_nothing_else() {
    let fleet = Fleet::builder().members(["a"]).start().await.unwrap();
    let member = fleet.member("a").unwrap();
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["configmaps".into()]),
        verbs: vec!["list".into()],
        ..PolicyRule::default()
    };
    let account = member.account_with("reader", vec![rule]).await.unwrap();
    let client = account.client().unwrap();
    Api::<ConfigMap>::default_namespaced(client.clone())
        .list(&ListParams::default())
        .await
        .unwrap();
    let denied = Api::<Pod>::default_namespaced(client)
        .list(&ListParams::default())
        .await
        .unwrap_err();
    assert!(matches!(denied, kube::Error::Api(status) if status.code == 403));

    let none = member.account("shop", "nobody").await.unwrap();
    let maps = Api::<ConfigMap>::default_namespaced(none.client().unwrap());
    maps.list(&ListParams::default()).await.unwrap_err();
}

#[tokio::test]
async fn a_kubeconfig_works_as_text_and_as_a_file_and_credentials_are_not_printed() {
    let fleet = Fleet::builder().members(["a"]).start().await.unwrap();
    let member = fleet.member("a").unwrap();
    let text = std::fs::read_to_string(member.kubeconfig_file()).unwrap();
    assert_eq!(text, member.kubeconfig());
    let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config)
        .unwrap()
        .apiserver_version()
        .await
        .unwrap();

    let token = text.split("token: ").nth(1).unwrap().lines().next().unwrap();
    assert_eq!(token.len(), 48);
    assert!(!format!("{fleet:?}").contains(token));
}

#[tokio::test]
async fn a_name_that_is_taken_or_unfit_is_refused_before_anything_starts() {
    let twice = Fleet::builder().members(["a", "a"]).start().await.unwrap_err();
    assert!(matches!(twice, Error::DuplicateMember { .. }), "{twice}");
    let unfit = Fleet::builder().members(["../a"]).start().await.unwrap_err();
    assert!(matches!(unfit, Error::MemberName { .. }), "{unfit}");
}

#[tokio::test]
async fn a_flag_that_the_api_server_does_not_know_is_an_error_with_its_words() {
    let spec = MemberSpec::new("a").with_flag(Part::ApiServer, "--no-such-flag=1");
    let error = Fleet::builder().member(spec).start().await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Exited {
                part: Part::ApiServer,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("no-such-flag"), "{error}");
}

#[tokio::test]
async fn feature_gates_and_apis_can_be_switched_on() {
    let spec = MemberSpec::new("a")
        .with_controllers(Controllers::Stock)
        .with_scheduler()
        .with_feature_gate("GenericWorkload", true)
        .with_runtime_config("scheduling.k8s.io/v1beta1=true");
    let fleet = Fleet::builder().member(spec).start().await.unwrap();
    let client = fleet.member("a").unwrap().client().unwrap();
    let groups = client.list_api_groups().await.unwrap();
    let scheduling = groups
        .groups
        .iter()
        .find(|group| group.name == "scheduling.k8s.io")
        .unwrap();
    let versions = scheduling
        .versions
        .iter()
        .map(|version| version.version.as_str())
        .collect::<Vec<_>>();
    assert!(versions.contains(&"v1beta1"), "{versions:?}");
}

#[tokio::test]
async fn a_part_that_dies_of_a_bad_flag_is_named_and_its_log_can_be_kept() {
    let logs = tempfile::tempdir().unwrap();
    let spec = full("a", Controllers::Stock).with_flag(Part::Kwok, "--no-such-flag");
    let error = Fleet::builder()
        .member(spec)
        .logs(logs.path())
        .start()
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Exited { part: Part::Kwok, .. }),
        "{error}"
    );
    let kept = std::fs::read_to_string(logs.path().join("a/kwok.log")).unwrap();
    assert!(kept.contains("no-such-flag"), "{kept}");
}

#[tokio::test]
async fn pods_of_the_general_life_leave_when_their_annotation_says() {
    let spec = MemberSpec::new("a")
        .with_pods(Pods::General)
        .with_nodes(Nodes::new(1));
    let fleet = Fleet::builder().member(spec).start().await.unwrap();
    let member = fleet.member("a").unwrap();
    let api = Api::<Pod>::default_namespaced(member.client().unwrap());
    let pod = serde_json::from_value::<Pod>(json!({
        "metadata": {
            "name": "slow",
            "annotations": {"pod-delete.stage.kwok.x-k8s.io/delay": "1h"}
        },
        "spec": {"nodeName": "node-0", "containers": [{"name": "main", "image": "main:1"}]}
    }));
    api.create(&PostParams::default(), &pod.unwrap()).await.unwrap();
    member
        .wait_for(&api, "slow", conditions::is_pod_running())
        .await
        .unwrap();
    api.delete("slow", &DeleteParams::default()).await.unwrap();
    let pod = api.get("slow").await.unwrap();
    assert!(pod.metadata.deletion_timestamp.is_some());
}

#[tokio::test]
async fn one_kubeconfig_reaches_every_member_by_its_name() {
    let fleet = Fleet::builder().members(["a", "b"]).start().await.unwrap();
    for member in fleet.members() {
        let options = KubeConfigOptions {
            context: Some(member.name().into()),
            ..KubeConfigOptions::default()
        };
        let kubeconfig = Kubeconfig::from_yaml(&fleet.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        assert_eq!(config.cluster_url, member.config().cluster_url);
        Client::try_from(config)
            .unwrap()
            .apiserver_version()
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_flag_replaces_ours_of_the_same_name() {
    let spec = MemberSpec::new("a")
        .with_controllers(Controllers::Stock)
        .with_flag(Part::ApiServer, "--disable-admission-plugins=");
    let fleet = Fleet::builder().member(spec).start().await.unwrap();
    let member = fleet.member("a").unwrap();
    let client = member.client().unwrap();
    let accounts = Api::<ServiceAccount>::default_namespaced(client.clone());
    let exists = |account: Option<&ServiceAccount>| account.is_some();
    member.wait_for(&accounts, "default", exists).await.unwrap();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "c:1"}]}});
    let pod = serde_json::from_value::<Pod>(pod).unwrap();
    let pod = Api::default_namespaced(client)
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
    assert_eq!(pod.spec.unwrap().service_account_name.as_deref(), Some("default"));
}

#[tokio::test]
async fn members_join_and_leave_a_running_fleet() {
    let mut fleet = Fleet::builder().members(["a"]).start().await.unwrap();
    let twice = fleet.add(MemberSpec::new("a")).await.unwrap_err();
    assert!(matches!(twice, Error::DuplicateMember { .. }), "{twice}");
    let client = fleet.add(MemberSpec::new("b")).await.unwrap().client().unwrap();
    client.apiserver_version().await.unwrap();

    let bad = MemberSpec::new("c").with_flag(Part::ApiServer, "--no-such-flag");
    assert!(matches!(fleet.add(bad).await.unwrap_err(), Error::Exited { .. }));
    assert!(!fleet.folder().join("c").exists());

    fleet.remove("a").unwrap();
    assert!(!fleet.folder().join("a").exists());
    assert!(matches!(
        fleet.member("a").unwrap_err(),
        Error::UnknownMember { .. }
    ));
    client.apiserver_version().await.unwrap();
    fleet.add(MemberSpec::new("a")).await.unwrap();
    assert_eq!(
        fleet
            .members()
            .iter()
            .map(|member| member.name())
            .collect::<Vec<_>>(),
        ["b", "a"]
    );
}
