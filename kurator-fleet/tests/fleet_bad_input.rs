//! Everything that can be wrong with what users write is a reason on the object concerned, stops nobody else, and shows
//! no secret anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod manager;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use kurator_fleet::api::{AttachedCluster, Fleet};
use manager::{Rig, fleet_ready, ready, reasons};
use secrecy::ExposeSecret;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

const CANARY: &str = "c4n4ry-d0-n0t-sh0w";

type Log = Arc<Mutex<Vec<u8>>>;

/// Everything that anyone logs in this process, at the finest level.
fn log_everything() -> Log {
    #[derive(Clone)]
    struct Sink(Log);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let sink = Sink(Arc::clone(&log));
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || sink.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    log
}

/// Kubeconfigs that must not be used, each with a secret in it, and the reason they are refused for.
fn refused(good: &str) -> BTreeMap<&'static str, (String, &'static str)> {
    let token = good
        .lines()
        .find(|line| line.trim_start().starts_with("token:"))
        .expect("a token");
    let server = good
        .lines()
        .find(|line| line.trim_start().starts_with("server:"))
        .expect("a server");
    let indented = |line: &str, text: String| {
        let indent = line.len() - line.trim_start().len();
        format!("{}{text}", " ".repeat(indent))
    };
    let user = |text: String| good.replace(token, &indented(token, text));
    let cluster = |text: String| good.replace(server, &format!("{server}\n{}", indented(server, text)));
    BTreeMap::from([
        (
            "exec",
            (
                user(format!("exec: {{command: sh, args: [{CANARY}]}}")),
                "KubeconfigExecRefused",
            ),
        ),
        (
            "auth-provider",
            (
                user(format!(
                    "auth-provider: {{name: oidc, config: {{id-token: {CANARY}}}}}"
                )),
                "KubeconfigAuthProviderRefused",
            ),
        ),
        (
            "file",
            (
                user(format!("tokenFile: /etc/{CANARY}")),
                "KubeconfigFilePathRefused",
            ),
        ),
        (
            "proxy",
            (
                cluster(format!("proxy-url: http://user:{CANARY}@proxy")),
                "KubeconfigProxyRefused",
            ),
        ),
        (
            "insecure",
            (
                cluster("insecure-skip-tls-verify: true".to_owned()),
                "KubeconfigInsecureTlsRefused",
            ),
        ),
        (
            "plain",
            (
                good.replace("https://", &format!("http://{CANARY}@")),
                "KubeconfigPlainHttpRefused",
            ),
        ),
        (
            "user-in-url",
            (
                good.replace("https://", &format!("https://user:{CANARY}@")),
                "KubeconfigCredentialsInUrl",
            ),
        ),
        ("garbage", (format!("}}{{ {CANARY}"), "KubeconfigInvalid")),
        // A token that the server does not know, or no more.
        (
            "expired",
            (user(format!("token: {CANARY}")), "CredentialsRefused"),
        ),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_is_a_reason_on_its_object_and_shows_no_secret() {
    let log = log_everything();
    let rig = Rig::start(&["good", "other"]).await;
    let good = rig.kubeconfig("good").await;
    let refused = refused(&good);
    for (name, (kubeconfig, _)) in &refused {
        rig.write_secret(name, "value", kubeconfig).await;
        rig.register(name, name, Value::Null).await;
    }
    rig.register("no-secret", "nowhere", Value::Null).await;
    rig.write_secret("other-key", "config", &good).await;
    rig.register("no-key", "other-key", Value::Null).await;
    let long = "x".repeat(64);
    let (long_a, long_b) = (format!("{long}-a"), format!("{long}-b"));
    for name in [&long_a, &long_b, &"dotted.name".to_owned()] {
        rig.register(name, "good", Value::Null).await;
    }
    rig.attach("good", "good", Value::Null).await;
    rig.ready("good", "True").await;
    rig.attach("twice", "good", Value::Null).await;
    rig.attach("swapped", "other", Value::Null).await;
    rig.ready("swapped", "True").await;
    rig.write_secret("swapped", "value", &good).await;
    rig.fleet(
        "bad",
        json!({
            "clusters": [{"name": "ghost", "kind": "AttachedCluster"}, {"name": "ghost", "kind": "Cluster"}],
            "clusterSelector": {"matchLabels": {"member-of": "selected"}},
        }),
    )
    .await;
    rig.fleet(
        "unselectable",
        json!({"clusterSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}),
    )
    .await;

    let mut expected: BTreeMap<&str, &str> = refused
        .iter()
        .map(|(name, (_, reason))| (*name, *reason))
        .collect();
    expected.extend([
        ("no-secret", "KubeconfigSecretNotFound"),
        ("no-key", "KubeconfigKeyMissing"),
        (&*long_a, "NameInvalid"),
        (&*long_b, "NameInvalid"),
        ("dotted.name", "NameInvalid"),
        ("twice", "DuplicateRegistration"),
        ("swapped", "IdentityMismatch"),
    ]);
    for (name, reason) in &expected {
        let told = |it: Option<&AttachedCluster>| it.is_some_and(|it| ready(it).1 == *reason);
        rig.until::<AttachedCluster>(name, reason, told).await;
    }
    // The fleet shows them all, each with its own reason, and the good one is well.
    expected.extend([("good", "ApiServerReady"), ("ghost", "ClusterNotFound")]);
    let told = |it: Option<&Fleet>| {
        let found = it.map(reasons).unwrap_or_default();
        expected
            .iter()
            .all(|(name, reason)| found.get(*name).is_some_and(|it| it == reason))
    };
    rig.until::<Fleet>("bad", "every reason", told).await;
    let told = |it: Option<&Fleet>| it.is_some_and(|it| fleet_ready(it).1 == "SelectorInvalid");
    rig.until::<Fleet>("unselectable", "SelectorInvalid", told).await;

    // A Secret that vanishes mid-way is told of at once, though the member still counts as ready for the grace.
    let secrets: Api<Secret> = rig.api();
    secrets.delete("good", &DeleteParams::default()).await.unwrap();
    let deleted = Instant::now();
    let told = |it: Option<&AttachedCluster>| degraded(it) == Some("KubeconfigSecretNotFound".to_owned());
    rig.until::<AttachedCluster>("good", "degraded", told).await;
    let noticed = deleted.elapsed();
    println!("a Secret that vanished was told of after {noticed:?}");
    assert!(noticed < Duration::from_secs(5), "{noticed:?}");
    rig.ready("good", "Unknown").await;
    rig.write_secret("good", "value", &good).await;
    rig.ready("good", "True").await;

    let mut shown = format!(
        "{:?} {:?} {:?}",
        rig.members,
        rig.members.statuses(),
        rig.membership
    );
    shown += &all::<AttachedCluster>(&rig).await;
    shown += &all::<Fleet>(&rig).await;
    shown += &all::<Event>(&rig).await;
    shown += &all::<ConfigMap>(&rig).await;
    shown += &all::<Lease>(&rig).await;
    assert!(
        shown.contains("KubeconfigExecRefused"),
        "there is something to look through"
    );
    assert!(!shown.contains(CANARY), "{}", around(&shown, CANARY));
    let log = String::from_utf8_lossy(&log.lock().unwrap()).into_owned();
    assert!(log.contains("kurator_core"), "the log was recorded");
    assert!(!log.contains(CANARY), "{}", around(&log, CANARY));
    let member = rig.fleet.member("good").unwrap();
    let account = member
        .account("kurator-system", "kurator-fleet-member")
        .await
        .unwrap();
    let token = account.config().auth_info.token.unwrap();
    for text in [&shown, &log] {
        assert!(
            !text.contains(token.expose_secret()),
            "a token that is in use shows"
        );
    }
}

fn degraded(cluster: Option<&AttachedCluster>) -> Option<String> {
    let status = cluster?.status.as_ref()?;
    let condition = status.conditions.iter().find(|it| it.type_ == "Degraded")?;
    (condition.status == "True").then(|| condition.reason.clone())
}

async fn all<K>(rig: &Rig) -> String
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let found = rig.api::<K>().list(&ListParams::default()).await.unwrap();
    serde_json::to_string(&found.items).unwrap()
}

fn around(text: &str, what: &str) -> String {
    let at = text.find(what).unwrap_or(0);
    let shown = &text.as_bytes()[at.saturating_sub(300)..(at + 300).min(text.len())];
    String::from_utf8_lossy(shown).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_of_a_thousand_broken_members_is_stored_with_room_to_spare() {
    let rig = Rig::start(&[]).await;
    let members: Vec<Value> = (0..1000)
        .map(|index| json!({"name": format!("{index:04}{}", "n".repeat(59)), "kind": "AttachedCluster"}))
        .collect();
    rig.fleet("large", json!({"clusters": members})).await;
    let complete = |it: Option<&Fleet>| {
        let status = it.and_then(|it| it.status.as_ref());
        status.is_some_and(|status| status.clusters.len() == 1000 && status.total_clusters == Some(1000))
    };
    let fleet = rig.until::<Fleet>("large", "complete", complete).await.unwrap();
    let bytes = serde_json::to_vec(&fleet).unwrap().len();
    println!(
        "a fleet of 1000 broken members is an object of {} KiB",
        bytes / 1024
    );
    assert!(
        bytes < 1024 * 1024,
        "{bytes} bytes of the 1.5 MiB that etcd takes"
    );
}
