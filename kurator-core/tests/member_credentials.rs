//! The way to real members: rotated, refused, vanished, while a controller runs on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod members;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::DeleteParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use kurator_core::connect::ClusterConnector;
use kurator_core::health::HealthReason;
use kurator_core::kubeconfig::KubeconfigRef;
use kurator_core::membership::Member;
use kurator_core::names::NamespacedName;
use kurator_core::observe::HealthStatus;
use kurator_envtest::{Account, Cut};
use members::{PATIENCE, Rig, answered, create, name};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use secrecy::ExposeSecret;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn rotating_token_and_authority_loses_no_event_and_shows_no_secret() {
    let log = log_everything();
    let rig = Rig::start(&["a"]).await;
    let member = rig.fleet.member("a").unwrap();
    let (old, new) = (account(&rig, "old").await, account(&rig, "new").await);
    rig.join("a", old.kubeconfig().expose_secret()).await;
    rig.ready("a").await;
    let direct = member.direct_client().unwrap();
    let mut expected = Vec::new();
    let mut next = async |direct: &Client, phase: &str| {
        let object = format!("{phase}-{}", expected.len());
        create(direct, &object).await;
        expected.push(object);
    };
    for _ in 0..5 {
        next(&direct, "before").await;
    }

    // The token: the new one is in the Secret, then the old account is gone.
    rig.write_secret("a", new.kubeconfig().expose_secret()).await;
    next(&direct, "token").await;
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::namespaced(direct.clone(), "default");
    accounts.delete("old", &DeleteParams::default()).await.unwrap();
    member.link().cut(Cut::Reset);
    next(&direct, "token").await;
    member.link().heal();
    for _ in 0..5 {
        next(&direct, "token").await;
    }

    // The authority: the server presents a certificate of another one, and the Secret follows a little later.
    let authority = present_certificate_of_another_authority(&member.kubeconfig_file().with_file_name(""));
    let rotated = with_authority(new.kubeconfig().expose_secret(), &authority);
    let direct = trusting(&rotated, &authority).await;
    // A client that resumes a TLS session is shown no certificate, so the probes get clients that have none.
    rig.connector.invalidate(&name("a")).await;
    member.link().cut(Cut::Reset);
    member.link().heal();
    next(&direct, "authority").await;
    rig.until("a", |_, _| {
        rig.members
            .status(&name("a"))
            .unwrap()
            .failure
            .is_some_and(|failure| failure.reason == HealthReason::TlsRefused)
    })
    .await;
    next(&direct, "authority").await;
    rig.write_secret("a", &rotated).await;
    for _ in 0..5 {
        next(&direct, "authority").await;
    }
    for object in &expected {
        assert_eq!(answered(&direct, object).await, "a");
    }

    let log = log.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("kurator_core"), "the log was recorded");
    for account in [&old, &new] {
        let token = account.config().auth_info.token.unwrap();
        let shown = format!(
            "{:?} {:?} {:?}",
            rig.members,
            rig.members.statuses(),
            rig.membership
        );
        assert!(!text.contains(token.expose_secret()) && !shown.contains(token.expose_secret()));
    }
}

async fn account(rig: &Rig, account: &str) -> Account {
    let rules = [
        ("", vec!["namespaces"], vec!["get"]),
        (
            "",
            vec!["configmaps"],
            vec!["get", "list", "watch", "patch", "create"],
        ),
    ];
    let rules = rules.map(|(group, resources, verbs)| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.into_iter().map(str::to_owned).collect()),
        verbs: verbs.into_iter().map(str::to_owned).collect(),
        ..PolicyRule::default()
    });
    rig.fleet
        .member("a")
        .unwrap()
        .account_with(account, rules.to_vec())
        .await
        .unwrap()
}

/// Replaces the server's certificate on disk, which the API server notices, and returns the authority's certificate.
fn present_certificate_of_another_authority(folder: &std::path::Path) -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1", "localhost"].map(str::to_owned);
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let file = |name: &str| {
        let found = walk(folder)
            .into_iter()
            .find(|path| path.file_name().is_some_and(|file| file == name));
        found.unwrap_or_else(|| panic!("{name} below {}", folder.display()))
    };
    std::fs::write(file("server.key"), key.serialize_pem()).unwrap();
    std::fs::write(file("server.crt"), certificate.pem()).unwrap();
    authority.pem()
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}

fn with_authority(kubeconfig: &str, authority: &str) -> String {
    let data = serde_json::to_value(ByteString(authority.as_bytes().to_vec())).unwrap();
    let lines = kubeconfig
        .lines()
        .map(|line| match line.split_once("certificate-authority-data:") {
            Some((before, _)) => format!("{before}certificate-authority-data: {}", data.as_str().unwrap()),
            None => line.to_owned(),
        });
    lines.collect::<Vec<_>>().join("\n")
}

/// A client for the server with its new certificate, once it presents it.
async fn trusting(kubeconfig: &str, authority: &str) -> Client {
    assert!(authority.starts_with("-----BEGIN"));
    let config = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        let client = Client::try_from(config.clone()).unwrap();
        match client.apiserver_version().await {
            Ok(_) => return client,
            Err(error) => assert!(
                Instant::now() < end,
                "the new certificate is not presented: {error}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

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

#[tokio::test(flavor = "multi_thread")]
async fn kubeconfigs_that_cannot_be_used_are_reasons_on_their_member_and_stop_nobody() {
    let rig = Rig::start(&["good"]).await;
    let good = rig.kubeconfig("good");
    let cases = BTreeMap::from([
        (
            "exec",
            (
                good.replace("token:", "exec: {command: sh} #"),
                "KubeconfigExecRefused",
            ),
        ),
        (
            "file",
            (good.replace("token:", "tokenFile:"), "KubeconfigFilePathRefused"),
        ),
        (
            "plain",
            (good.replace("https:", "http:"), "KubeconfigPlainHttpRefused"),
        ),
        ("garbage", ("}{".to_owned(), "KubeconfigInvalid")),
    ]);
    for (member, (kubeconfig, _)) in &cases {
        rig.join(member, kubeconfig).await;
    }
    rig.join("expired", &good.replace("token: ", "token: x")).await;
    let gone = KubeconfigRef::new(NamespacedName::new("default", "nowhere"));
    rig.membership
        .join(Member::new(name("gone")).with_kubeconfig(gone));
    rig.join("good", &good).await;
    rig.ready("good").await;
    let token = |member: &str| {
        rig.members
            .status(&name(member))
            .and_then(|status| status.failure)
            .map(|it| it.token)
    };
    for (member, (_, reason)) in &cases {
        rig.until(member, |_, _| token(member).is_some()).await;
        assert_eq!(token(member), Some(*reason), "{member}");
    }
    rig.until("expired", |_, reason| reason == HealthReason::CredentialsRefused)
        .await;
    rig.until("gone", |_, reason| reason == HealthReason::CredentialsInvalid)
        .await;
    assert_eq!(token("gone"), Some("KubeconfigSecretNotFound"));

    create(&rig.direct("good"), "object").await;
    assert_eq!(answered(&rig.direct("good"), "object").await, "good");

    // A Secret that vanishes mid-way, and comes back.
    let secrets: Api<Secret> = Api::namespaced(rig.hub.clone(), "default");
    secrets.delete("good", &DeleteParams::default()).await.unwrap();
    let noticed = rig
        .until("good", |_, _| token("good") == Some("KubeconfigSecretNotFound"))
        .await;
    println!("a Secret that vanished was noticed after {noticed:?}");
    assert!(noticed < Duration::from_secs(5), "{noticed:?}");
    rig.write_secret("good", &good).await;
    rig.until("good", |health, _| {
        health == HealthStatus::Ready && token("good").is_none()
    })
    .await;
}
