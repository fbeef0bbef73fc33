//! An inventory of ClusterProfiles on a real hub, and real members behind it. The definition of the kind is a stand-in:
//! its fields are restated from the public API of sigs.k8s.io/cluster-inventory-api.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use kurator_core::clock::SystemClock;
use kurator_core::health::HealthPolicy;
use kurator_core::membership::Membership;
use kurator_core::multicluster::{Members, MembersOptions};
use kurator_core::observe::HealthStatus;
use kurator_envtest::{Account, Fleet};
use kurator_fleet::membership::{ClusterProfileOptions, ClusterProfiles, CredentialPlugin, Credentials};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(90);

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: clusterprofiles.multicluster.x-k8s.io
  annotations: {api-approved.kubernetes.io: "unapproved, a stand-in for tests"}
spec:
  group: multicluster.x-k8s.io
  scope: Namespaced
  names: {kind: ClusterProfile, plural: clusterprofiles, singular: clusterprofile}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [clusterManager]
            properties:
              displayName: {type: string}
              clusterManager:
                type: object
                required: [name]
                properties: {name: {type: string}}
                x-kubernetes-validations: [{rule: self == oldSelf, message: ClusterManager is immutable}]
          status:
            type: object
            properties:
              version: {type: object, properties: {kubernetes: {type: string}}}
              properties:
                type: array
                items:
                  type: object
                  required: [name, value]
                  properties:
                    name: {type: string, minLength: 1, maxLength: 253}
                    value: {type: string, minLength: 1, maxLength: 1024}
              accessProviders: &providers
                type: array
                items:
                  type: object
                  required: [name]
                  properties:
                    name: {type: string}
                    cluster: {type: object, x-kubernetes-preserve-unknown-fields: true}
              credentialProviders: *providers
"#;

struct Rig {
    fleet: Fleet,
    hub: Client,
}

impl Rig {
    async fn start(members: &[&str]) -> Self {
        let fleet = Fleet::builder()
            .members(["hub"])
            .members(members.iter().copied())
            .start()
            .await
            .unwrap();
        let hub = fleet.member("hub").unwrap();
        hub.apply(DEFINITION).await.unwrap();
        let client = hub.direct_client().unwrap();
        Self { fleet, hub: client }
    }

    fn profiles(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("multicluster.x-k8s.io", "v1alpha1", "ClusterProfile");
        Api::namespaced_with(
            self.hub.clone(),
            "default",
            &ApiResource::from_gvk_with_plural(&kind, "clusterprofiles"),
        )
    }

    /// A profile as a cluster manager writes it.
    async fn profile(&self, name: &str, status: Value) {
        let object = json!({
            "apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ClusterProfile",
            "metadata": {"name": name, "labels": {"x-k8s.io/cluster-manager": "manager"}},
            "spec": {"clusterManager": {"name": "manager"}},
        });
        let profiles = self.profiles();
        let object = serde_json::from_value(object).unwrap();
        profiles.create(&PostParams::default(), &object).await.unwrap();
        let status = json!({"status": status});
        profiles
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    async fn secret(&self, profile: &str, kubeconfig: &str) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": format!("{profile}-access"), "labels": {
                "x-k8s.io/cluster-inventory-consumer": "kurator", "x-k8s.io/cluster-profile": profile,
            }},
            "data": {"Config": ByteString(kubeconfig.as_bytes().to_vec())},
        });
        let secrets: Api<Secret> = Api::namespaced(self.hub.clone(), "default");
        let params = PatchParams::apply("test").force();
        secrets
            .patch(&format!("{profile}-access"), &params, &Patch::Apply(secret))
            .await
            .unwrap();
    }

    async fn account(&self, member: &str) -> Account {
        let rule = PolicyRule {
            api_groups: Some(vec![String::new()]),
            resources: Some(vec!["namespaces".to_owned()]),
            verbs: vec!["get".to_owned()],
            ..PolicyRule::default()
        };
        let member = self.fleet.member(member).unwrap();
        member.account_with("reader", vec![rule]).await.unwrap()
    }
}

/// The way to an API server without anything secret, as an inventory publishes it.
fn public(account: &Account) -> Value {
    let kubeconfig = Kubeconfig::from_yaml(account.kubeconfig().expose_secret()).unwrap();
    serde_json::to_value(kubeconfig.clusters[0].cluster.as_ref().unwrap()).unwrap()
}

fn token(account: &Account) -> String {
    let token = account.config().auth_info.token.unwrap();
    token.expose_secret().to_owned()
}

fn follow(inventory: ClusterProfiles) -> (Arc<ClusterProfiles>, Members) {
    let inventory = Arc::new(inventory);
    let options = MembersOptions::default().with_health(HealthPolicy::with_grace(Duration::from_secs(8)));
    let (membership, connector) = (Arc::clone(&inventory), Arc::clone(&inventory));
    let members = Members::start(membership, connector, None, None, options, &SystemClock::new());
    (inventory, members)
}

/// Waits until a member is ready or why it is not is this token.
async fn until(members: &Members, member: &str, wanted: &str) {
    let name = member.parse().unwrap();
    let mut changes = members.changes();
    let waiting = async {
        loop {
            if let Some(status) = members.status(&name) {
                let token = status.failure.as_ref().map(|failure| failure.token);
                if (wanted == "Ready" && status.health.health == HealthStatus::Ready) || token == Some(wanted)
                {
                    return;
                }
            }
            changes.changed().await.unwrap();
        }
    };
    timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{member} is never {wanted}: {:?}", members.status(&name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_of_an_inventory_are_members_by_secret_by_given_credentials_and_by_a_chosen_program() {
    let rig = Rig::start(&["east", "west", "south"]).await;
    let (east, west, south) = (
        rig.account("east").await,
        rig.account("west").await,
        rig.account("south").await,
    );
    let mut by_closure = public(&east);
    by_closure["extensions"] =
        json!([{"name": "client.authentication.k8s.io/exec", "extension": {"clusterName": "east-1"}}]);
    rig.profile(
        "east",
        json!({
            "properties": [{"name": "topology.kubernetes.io/region", "value": "eu-east"}],
            "accessProviders": [
                {"name": "unheard-of", "cluster": public(&east)},
                {"name": "given", "cluster": by_closure},
            ],
        }),
    )
    .await;
    rig.profile("west", json!({"accessProviders": [{"name": "unheard-of"}]}))
        .await;
    rig.secret("west", west.kubeconfig().expose_secret()).await;
    let mut by_program = public(&south);
    by_program["extensions"] =
        json!([{"name": "client.authentication.k8s.io/exec", "extension": {"clusterName": "south-1"}}]);
    rig.profile(
        "south",
        json!({"credentialProviders": [{"name": "program", "cluster": by_program}]}),
    )
    .await;
    let mut plain = public(&east);
    plain["server"] = json!("http://127.0.0.1:1");
    rig.profile(
        "plain",
        json!({"accessProviders": [{"name": "given", "cluster": plain}]}),
    )
    .await;
    rig.profile("running-programs", json!({})).await;
    let exec = west
        .kubeconfig()
        .expose_secret()
        .replace("token:", "exec: {command: sh} #");
    rig.secret("running-programs", &exec).await;

    // Without being told so, nobody runs a program, whatever the inventory offers.
    let asked = Arc::new(AtomicUsize::new(0));
    let (given, count) = (token(&east), Arc::clone(&asked));
    let options = ClusterProfileOptions::default()
        .in_namespace("default")
        .of_manager("manager")
        .with_secrets_for("kurator")
        .with_credentials("given", move |access| {
            let token = given.clone();
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                let known = access
                    .config
                    .as_ref()
                    .map(|config| config["clusterName"] == "east-1");
                match known {
                    Some(true) => Ok(Credentials::token(token)),
                    _ => Err("not one of ours"),
                }
            }
        });
    let (inventory, members) = follow(options.clone().watch(&rig.hub));
    for (member, wanted) in [
        ("east", "Ready"),
        ("west", "Ready"),
        ("south", "AccessNotConfigured"),
        ("plain", "KubeconfigPlainHttpRefused"),
        ("running-programs", "KubeconfigExecRefused"),
    ] {
        until(&members, member, wanted).await;
    }
    let region = inventory
        .member(&"east".parse().unwrap())
        .await
        .unwrap()
        .unwrap()
        .region;
    assert_eq!(region.as_deref(), Some("eu-east"));
    assert_eq!(
        asked.load(Ordering::Relaxed),
        1,
        "one token serves every client, and nobody is asked for one that would go in the clear"
    );
    assert!(!format!("{inventory:?} {options:?} {:?}", members.statuses()).contains(&token(&east)));
    members
        .get(&"east".parse().unwrap())
        .unwrap()
        .client()
        .apiserver_version()
        .await
        .unwrap();

    // With a program of the host's choice. It is told which cluster, and by whom that is known.
    let script = format!(
        r#"case "$KUBERNETES_EXEC_INFO" in *south-1*) ;; *) exit 1;; esac
printf '%s' '{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"{}"}}}}'"#,
        token(&south)
    );
    let plugin = CredentialPlugin::new("sh")
        .with_argument("-c")
        .with_argument(script);
    let (_inventory, by_program) = follow(options.with_plugin("program", plugin).watch(&rig.hub));
    until(&by_program, "south", "Ready").await;
    until(&by_program, "running-programs", "KubeconfigExecRefused").await;

    // What leaves the inventory is let go of.
    rig.profiles()
        .delete("east", &DeleteParams::default())
        .await
        .unwrap();
    timeout(
        PATIENCE,
        members
            .engaged()
            .wait_for(|engaged| !engaged.contains_key("east")),
    )
    .await
    .unwrap()
    .unwrap();
}
