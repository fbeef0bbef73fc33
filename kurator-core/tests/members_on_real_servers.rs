//! Members on real API servers: cut, lossy, swapped, rotated, while a controller runs on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::Action;
use kube::runtime::watcher;
use kube::{Api, Client, Config, ResourceExt};
use kurator_core::clock::SystemClock;
use kurator_core::connect::SecretConnector;
use kurator_core::health::{HealthPolicy, HealthReason};
use kurator_core::kubeconfig::KubeconfigRef;
use kurator_core::membership::{Member, StaticMembership};
use kurator_core::multicluster::{Facts, Members, MembersOptions, ReconcileContext, UniformController};
use kurator_core::names::{ClusterName, NamespacedName};
use kurator_core::observe::{ApiSupport, ClusterView, HealthStatus};
use kurator_envtest::{Account, Cut, Fleet, Loss};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

const GRACE: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(90);

fn name(name: &str) -> ClusterName {
    name.parse().unwrap()
}

/// A hub with a Secret for each member, and a controller that answers every ConfigMap labelled `greet`.
struct Rig {
    fleet: Fleet,
    hub: Client,
    membership: Arc<StaticMembership>,
    members: Members,
    stop: CancellationToken,
}

impl Rig {
    async fn start(names: &[&str]) -> Self {
        let fleet = Fleet::builder()
            .members(["hub"])
            .members(names.iter().copied())
            .start()
            .await
            .unwrap();
        let hub = fleet.member("hub").unwrap().client().unwrap();
        let membership = Arc::new(StaticMembership::default());
        let connector =
            SecretConnector::new(hub.clone(), Arc::clone(&membership)).with_recheck(Duration::from_secs(1));
        let members = Members::start(
            Arc::clone(&membership) as _,
            Arc::new(connector),
            None,
            None,
            MembersOptions::default().with_health(HealthPolicy::with_grace(GRACE)),
            &SystemClock::new(),
        );
        let stop = CancellationToken::new();
        let controller = UniformController::<ConfigMap>::new(members.clone())
            .watcher(watcher::Config::default().labels("greet=true"));
        tokio::spawn(controller.run(greet, Arc::new(()), stop.clone().cancelled_owned()));
        Self {
            fleet,
            hub,
            membership,
            members,
            stop,
        }
    }

    async fn write_secret(&self, member: &str, kubeconfig: &str) {
        let secret = Secret {
            data: Some([("value".to_owned(), ByteString(kubeconfig.as_bytes().to_vec()))].into()),
            metadata: kube::core::ObjectMeta {
                name: Some(member.into()),
                ..Default::default()
            },
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.hub.clone(), "default");
        secrets
            .patch(member, &PatchParams::apply("test").force(), &Patch::Apply(secret))
            .await
            .unwrap();
    }

    async fn join(&self, member: &str, kubeconfig: &str) {
        self.write_secret(member, kubeconfig).await;
        let at = KubeconfigRef::new(NamespacedName::new("default", member)).with_key("value");
        self.membership
            .join(Member::new(name(member)).with_kubeconfig(at));
    }

    fn kubeconfig(&self, member: &str) -> String {
        self.fleet.member(member).unwrap().kubeconfig()
    }

    fn direct(&self, member: &str) -> Client {
        self.fleet.member(member).unwrap().direct_client().unwrap()
    }

    /// Waits for a health and says how long it took.
    async fn until(
        &self,
        member: &str,
        wanted: impl Fn(HealthStatus, HealthReason) -> bool + Send + Sync,
    ) -> Duration {
        let start = Instant::now();
        let mut changes = self.members.changes();
        let waiting = async {
            loop {
                let status = self.members.status(&name(member));
                if status.is_some_and(|status| wanted(status.health.health, status.health.reason)) {
                    return start.elapsed();
                }
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("{member}: {:?}", self.members.status(&name(member))))
    }

    async fn ready(&self, member: &str) -> Duration {
        self.until(member, |health, _| health == HealthStatus::Ready)
            .await
    }
}

async fn greet(map: Arc<ConfigMap>, context: Arc<ReconcileContext<()>>) -> Result<Action, kube::Error> {
    let cluster = context.member().name();
    let maps: Api<ConfigMap> = Api::namespaced(context.client(), "default");
    let told = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"cluster": cluster}});
    let params = PatchParams::apply("greeter").force();
    maps.patch(&map.name_any(), &params, &Patch::Apply(told)).await?;
    Ok(Action::await_change())
}

async fn create(client: &Client, object: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": object, "labels": {"greet": "true"}}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
}

/// Waits until the controller has answered, and says which cluster it took it for.
async fn answered(client: &Client, object: &str) -> String {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let answered = |map: Option<&ConfigMap>| cluster(map).is_some();
    let map = timeout(
        PATIENCE,
        kube::runtime::wait::await_condition(maps, object, answered),
    )
    .await;
    cluster(
        map.unwrap_or_else(|_| panic!("{object} is not answered"))
            .unwrap()
            .as_ref(),
    )
    .unwrap()
}

fn cluster(map: Option<&ConfigMap>) -> Option<String> {
    map?.data.as_ref()?.get("cluster").cloned()
}

async fn is_answered(client: &Client, object: &str) -> bool {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    cluster(Some(&maps.get(object).await.unwrap())).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_serves_members_that_join_leave_blink_and_go_silent() {
    let rig = Rig::start(&["a", "b", "c"]).await;
    for member in ["a", "b"] {
        rig.join(member, &rig.kubeconfig(member)).await;
    }
    let (a, b, c) = (rig.direct("a"), rig.direct("b"), rig.direct("c"));
    create(&a, "first").await;
    create(&c, "early").await;
    assert_eq!(answered(&a, "first").await, "a");

    rig.join("c", &rig.kubeconfig("c")).await;
    assert_eq!(
        answered(&c, "early").await,
        "c",
        "a member that joins is served from its first object on"
    );

    // A cut much shorter than the grace is not even noticed.
    let engaged = rig.members.get(&name("a")).unwrap();
    let link = rig.fleet.member("a").unwrap().link();
    link.cut(Cut::Reset);
    create(&a, "during-the-blink").await;
    create(&b, "elsewhere").await;
    assert_eq!(
        answered(&b, "elsewhere").await,
        "b",
        "the others are served meanwhile"
    );
    link.heal();
    assert_eq!(answered(&a, "during-the-blink").await, "a");
    assert!(Arc::ptr_eq(&engaged, &rig.members.get(&name("a")).unwrap()));

    // Half-open: everything stays connected and nobody answers.
    link.half_open();
    create(&a, "during-the-silence").await;
    let lost = rig.until("a", |health, _| health == HealthStatus::Unknown).await;
    assert!(lost <= GRACE + Duration::from_secs(1), "lost after {lost:?}");
    link.heal();
    rig.ready("a").await;
    assert_eq!(
        answered(&a, "during-the-silence").await,
        "a",
        "it catches up by itself"
    );

    rig.membership.leave(&name("b"));
    timeout(
        PATIENCE,
        rig.members.engaged().wait_for(|now| !now.contains_key("b")),
    )
    .await
    .unwrap()
    .unwrap();
    create(&b, "too-late").await;
    create(&a, "marker").await;
    answered(&a, "marker").await;
    assert!(
        !is_answered(&b, "too-late").await,
        "nothing is written to a member that left"
    );
    rig.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_percent_loss_flaps_nobody() {
    let rig = Rig::start(&["a"]).await;
    rig.join("a", &rig.kubeconfig("a")).await;
    rig.ready("a").await;
    let member = rig.fleet.member("a").unwrap();
    let since = rig.members.status(&name("a")).unwrap().health.since;
    // Two requests and two answers make a probe, so this loses 34% of them, and 30% of new connections.
    member
        .link()
        .lose(Loss::seeded(7).with_connections(300).with_chunks(100));
    let end = Instant::now() + GRACE * 2;
    let mut changes = rig.members.changes();
    while tokio::time::timeout_at(end, changes.changed()).await.is_ok() {
        let status = rig.members.status(&name("a")).unwrap();
        assert_eq!(
            (status.health.health, status.health.since),
            (HealthStatus::Ready, since),
            "{status:?}"
        );
    }
    member.link().heal();
    let seen = rig.members.status(&name("a")).unwrap().health.last_seen;
    assert!(seen > since, "it was probed all the time");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_swapped_behind_their_secrets_are_noticed_refused_and_not_written_to() {
    let rig = Rig::start(&["a", "b"]).await;
    for member in ["a", "b"] {
        rig.join(member, &rig.kubeconfig(member)).await;
        rig.ready(member).await;
    }
    rig.write_secret("a", &rig.kubeconfig("b")).await;
    rig.write_secret("b", &rig.kubeconfig("a")).await;
    for member in ["a", "b"] {
        let noticed = rig
            .until(member, |_, reason| reason == HealthReason::IdentityMismatch)
            .await;
        assert!(noticed < Duration::from_secs(10), "noticed after {noticed:?}");
    }
    let (a, b) = (rig.direct("a"), rig.direct("b"));
    create(&a, "while-swapped").await;
    create(&b, "while-swapped").await;
    for member in ["a", "b"] {
        rig.write_secret(member, &rig.kubeconfig(member)).await;
        rig.ready(member).await;
    }
    assert_eq!(
        answered(&a, "while-swapped").await,
        "a",
        "never took one for the other"
    );
    assert_eq!(answered(&b, "while-swapped").await, "b");
}

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
    rig.until("good", |_, _| token("good") == Some("KubeconfigSecretNotFound"))
        .await;
    rig.write_secret("good", &good).await;
    rig.until("good", |health, _| {
        health == HealthStatus::Ready && token("good").is_none()
    })
    .await;
}

async fn node(client: &Client, node: &str, edge: bool, ready: bool) {
    let nodes: Api<Node> = Api::all(client.clone());
    let labels = if edge {
        json!({"openyurt.io/is-edge-worker": "true"})
    } else {
        json!({})
    };
    let object: Node = serde_json::from_value(json!({"metadata": {"name": node, "labels": labels}})).unwrap();
    let _ = nodes.create(&PostParams::default(), &object).await;
    let status = json!({"status": {
        "allocatable": {"cpu": "4", "pods": "110"},
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
    }});
    nodes
        .patch_status(node, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_observed_and_their_cloud_nodes_have_a_say_in_their_health() {
    let rig = Rig::start(&["a"]).await;
    let direct = rig.direct("a");
    node(&direct, "cloud", false, true).await;
    node(&direct, "edge", true, false).await;
    let facts = Facts::start(rig.members.clone());
    rig.join("a", &rig.kubeconfig("a")).await;
    rig.ready("a").await;
    let observed = async |wanted: &(dyn Fn(&ClusterView) -> bool + Sync)| {
        let end = Instant::now() + PATIENCE;
        loop {
            let view = facts.view(&name("a")).unwrap().unwrap();
            if wanted(&view) {
                return view;
            }
            assert!(Instant::now() < end, "{view:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let view = observed(&|view| view.nodes.is_some() && view.version.is_some()).await;
    assert_eq!(view.version.as_deref(), Some("v1.37.2"));
    assert_eq!(view.apis.support("apps/v1", "Deployment"), ApiSupport::Served);
    assert_eq!(view.apis.support("example.com/v1", "Nothing"), ApiSupport::Absent);
    assert_eq!(view.nodes.unwrap().iter().filter(|node| node.ready).count(), 1);

    let engaged = rig.members.get(&name("a")).unwrap();
    node(&direct, "cloud", false, false).await;
    rig.until("a", |health, reason| {
        (health, reason) == (HealthStatus::NotReady, HealthReason::CloudNodesNotReady)
    })
    .await;
    create(&direct, "meanwhile").await;
    assert_eq!(
        answered(&direct, "meanwhile").await,
        "a",
        "its API is still there to be worked with"
    );
    assert!(Arc::ptr_eq(&engaged, &rig.members.get(&name("a")).unwrap()));

    // The edge node stays away: it never had a say.
    node(&direct, "cloud", false, true).await;
    rig.ready("a").await;
}
