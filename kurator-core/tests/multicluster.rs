//! Controllers over members that join, leave, hang and turn out to be others, on simulated API servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod simulated;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kurator_core::clock::SystemClock;
use kurator_core::health::{HealthPolicy, HealthReason};
use kurator_core::membership::{Member, StaticMembership};
use kurator_core::multicluster::{
    AwareController, MemberStores, Members, MembersOptions, ReconcileContext, UniformController,
};
use kurator_core::names::ClusterName;
use kurator_core::observe::HealthStatus;
use simulated::{Server, connector};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const GRACE: Duration = Duration::from_secs(40);

fn name(name: &str) -> ClusterName {
    name.parse().unwrap()
}

struct Rig {
    servers: BTreeMap<&'static str, Server>,
    membership: Arc<StaticMembership>,
    members: Members,
}

impl Rig {
    /// Servers for every name; the members are those in `joined`.
    fn new(names: &[&'static str], joined: &[&'static str]) -> Self {
        let servers: BTreeMap<_, _> = names
            .iter()
            .map(|name| (*name, Server::new(&format!("uid-{name}"))))
            .collect();
        let membership: StaticMembership = joined.iter().map(|it| Member::new(name(it))).collect();
        let membership = Arc::new(membership);
        let connector = connector(servers.iter().map(|(name, server)| (*name, server)));
        let options = MembersOptions::default().with_health(HealthPolicy::with_grace(GRACE));
        let members = Members::start(
            Arc::clone(&membership) as _,
            Arc::new(connector),
            None,
            None,
            options,
            &SystemClock::new(),
        );
        Self {
            servers,
            membership,
            members,
        }
    }

    /// Waits until what is known of a member is as wanted.
    async fn until(&self, member: &str, wanted: impl Fn(HealthStatus, HealthReason) -> bool) {
        let mut changes = self.members.changes();
        loop {
            let status = self.members.status(&name(member));
            if status.is_some_and(|status| wanted(status.health.health, status.health.reason)) {
                return;
            }
            changes.changed().await.unwrap();
        }
    }

    async fn engaged(&self, names: &[&str]) {
        let mut engaged = self.members.engaged();
        let wanted = |now: &kurator_core::multicluster::Engaged| {
            now.keys().map(ClusterName::as_str).eq(names.iter().copied())
        };
        engaged.wait_for(wanted).await.unwrap();
    }
}

type Seen = mpsc::UnboundedSender<(String, String)>;

async fn note(object: Arc<ConfigMap>, context: Arc<ReconcileContext<Seen>>) -> Result<Action, Infallible> {
    context
        .data()
        .send((context.member().name().to_string(), object.name_any()))
        .unwrap();
    Ok(Action::await_change())
}

fn run(members: &Members) -> (mpsc::UnboundedReceiver<(String, String)>, CancellationToken) {
    let (seen, events) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let controller = UniformController::<ConfigMap>::new(members.clone());
    tokio::spawn(controller.run(note, Arc::new(seen), stop.clone().cancelled_owned()));
    (events, stop)
}

fn pair(member: &str, object: &str) -> (String, String) {
    (member.to_owned(), object.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_controller_follows_members_that_join_and_leave_while_it_runs() {
    let rig = Rig::new(&["a", "b"], &["a"]);
    rig.servers["a"].touch("one");
    rig.servers["b"].touch("two");
    let (mut events, _stop) = run(&rig.members);
    assert_eq!(events.recv().await.unwrap(), pair("a", "one"));

    rig.membership.join(Member::new(name("b")));
    assert_eq!(events.recv().await.unwrap(), pair("b", "two"));

    rig.membership.leave(&name("a"));
    rig.engaged(&["b"]).await;
    rig.servers["a"].touch("three");
    rig.servers["b"].touch("four");
    assert_eq!(
        events.recv().await.unwrap(),
        pair("b", "four"),
        "nothing more comes from a member that left"
    );
    assert_eq!(rig.servers["a"].watches(), 0, "its watch is closed");
    assert!(rig.members.status(&name("a")).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_hung_member_is_lost_after_the_grace_and_resumes_by_itself() {
    let rig = Rig::new(&["a", "b"], &["a", "b"]);
    let (mut events, _stop) = run(&rig.members);
    rig.engaged(&["a", "b"]).await;
    rig.servers["a"].hung.store(true, Ordering::Relaxed);
    let start = tokio::time::Instant::now();
    rig.until("a", |health, _| health == HealthStatus::Unknown).await;
    let lost = start.elapsed();
    assert!(lost <= GRACE + Duration::from_secs(1), "{lost:?}");
    rig.engaged(&["b"]).await;

    rig.servers["b"].touch("quick");
    assert_eq!(events.recv().await.unwrap(), pair("b", "quick"));
    let idle = rig.servers["a"].requests.load(Ordering::Relaxed);
    rig.servers["a"].touch("missed");
    rig.servers["a"].hung.store(false, Ordering::Relaxed);
    assert_eq!(
        events.recv().await.unwrap(),
        pair("a", "missed"),
        "what happened meanwhile is caught up with"
    );
    assert!(idle < 200, "{idle} requests were sent to one that is gone");
}

#[tokio::test(start_paused = true)]
async fn a_blink_shorter_than_the_grace_disturbs_nothing_and_lists_nothing_again() {
    let rig = Rig::new(&["a"], &["a"]);
    rig.servers["a"].touch("one");
    let (mut events, _stop) = run(&rig.members);
    events.recv().await.unwrap();
    let member = rig.members.get(&name("a")).unwrap();
    rig.servers["a"].hung.store(true, Ordering::Relaxed);
    tokio::time::sleep(GRACE / 2).await;
    rig.servers["a"].hung.store(false, Ordering::Relaxed);
    tokio::time::sleep(GRACE).await;
    rig.servers["a"].touch("two");
    assert_eq!(events.recv().await.unwrap(), pair("a", "two"));
    assert!(
        Arc::ptr_eq(&member, &rig.members.get(&name("a")).unwrap()),
        "the same engagement all along"
    );
    assert_eq!(rig.servers["a"].lists.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn two_members_swapped_behind_their_credentials_are_refused_at_once() {
    let rig = Rig::new(&["a", "b"], &["a", "b"]);
    rig.engaged(&["a", "b"]).await;
    let client = rig.members.get(&name("a")).unwrap().client();
    rig.servers["a"].set_uid("uid-b");
    rig.servers["b"].set_uid("uid-a");
    rig.until("a", |_, reason| reason == HealthReason::IdentityMismatch)
        .await;
    rig.until("b", |_, reason| reason == HealthReason::IdentityMismatch)
        .await;
    rig.engaged(&[]).await;
    let sent = client.list_core_api_versions().await.unwrap_err().to_string();
    assert!(sent.contains("disengaged; nothing was sent"), "{sent}");
    rig.servers["a"].set_uid("uid-a");
    rig.until("a", |health, _| health == HealthStatus::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn the_second_entry_for_a_cluster_is_refused_and_the_first_goes_on() {
    let rig = Rig::new(&["first", "second"], &["first"]);
    rig.engaged(&["first"]).await;
    rig.servers["second"].set_uid("uid-first");
    rig.membership.join(Member::new(name("second")));
    rig.until("second", |_, reason| {
        reason == HealthReason::DuplicateRegistration
    })
    .await;
    let failure = rig.members.status(&name("second")).unwrap().failure.unwrap();
    assert!(failure.message.contains("first"), "{}", failure.message);
    rig.engaged(&["first"]).await;

    rig.membership.leave(&name("first"));
    rig.engaged(&["second"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_on_record_as_another_cluster_never_engages() {
    let rig = Rig::new(&["a"], &[]);
    let registered = Member::new(name("a")).with_uid(kurator_core::health::ClusterUid::new("uid-of-before"));
    rig.membership.join(registered);
    rig.until("a", |health, reason| {
        (health, reason) == (HealthStatus::NotReady, HealthReason::IdentityMismatch)
    })
    .await;
    assert!(rig.members.get(&name("a")).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_calls_itself_not_ready_is_not_ready_after_the_grace() {
    let rig = Rig::new(&["a"], &["a"]);
    rig.engaged(&["a"]).await;
    rig.servers["a"].unwell.store(true, Ordering::Relaxed);
    rig.until("a", |health, reason| {
        (health, reason) == (HealthStatus::NotReady, HealthReason::ApiServerNotReady)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn reconciles_that_hang_on_one_member_delay_the_others_by_no_more_than_the_patience() {
    async fn hang(
        object: Arc<ConfigMap>,
        context: Arc<ReconcileContext<Seen>>,
    ) -> Result<Action, Infallible> {
        if *context.member().name() == "stuck" {
            std::future::pending::<()>().await;
        }
        note(object, context).await
    }
    let rig = Rig::new(&["quick", "stuck"], &["quick", "stuck"]);
    rig.engaged(&["quick", "stuck"]).await;
    for index in 0..50 {
        rig.servers["stuck"].touch(&format!("object-{index}"));
    }
    let (seen, mut events) = mpsc::unbounded_channel();
    let controller = UniformController::<ConfigMap>::new(rig.members.clone())
        .concurrency(2)
        .concurrency_per_member(8);
    tokio::spawn(controller.run(hang, Arc::new(seen), std::future::pending()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    for index in 0..20 {
        let start = tokio::time::Instant::now();
        rig.servers["quick"].touch(&format!("object-{index}"));
        events.recv().await.unwrap();
        assert!(
            start.elapsed() <= Duration::from_millis(50),
            "event {index} took {:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_object_is_retried_with_a_growing_pause_and_alone() {
    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct No;
    async fn refuse(
        object: Arc<ConfigMap>,
        context: Arc<ReconcileContext<AtomicUsize>>,
    ) -> Result<Action, No> {
        if object.name_any() == "bad" {
            context.data().fetch_add(1, Ordering::Relaxed);
            return Err(No);
        }
        Ok(Action::await_change())
    }
    let rig = Rig::new(&["a"], &["a"]);
    rig.servers["a"].touch("bad");
    let tries = Arc::new(AtomicUsize::new(0));
    let controller = UniformController::<ConfigMap>::new(rig.members.clone());
    tokio::spawn(controller.run(refuse, Arc::clone(&tries), std::future::pending()));
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(
        tries.load(Ordering::Relaxed),
        7,
        "after 0, 1, 3, 7, 15, 31 and 63 s"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_panics_is_a_failure_of_its_object_alone() {
    async fn burst(
        object: Arc<ConfigMap>,
        context: Arc<ReconcileContext<Seen>>,
    ) -> Result<Action, Infallible> {
        assert!(object.name_any() != "bomb", "this one is a bomb");
        note(object, context).await
    }
    let rig = Rig::new(&["a"], &["a"]);
    rig.servers["a"].touch("bomb");
    let (seen, mut events) = mpsc::unbounded_channel();
    let controller = UniformController::<ConfigMap>::new(rig.members.clone());
    tokio::spawn(controller.run(burst, Arc::new(seen), std::future::pending()));
    rig.engaged(&["a"]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    rig.servers["a"].touch("other");
    assert_eq!(events.recv().await.unwrap(), pair("a", "other"));
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_costs_its_member_and_nobody_else() {
    #[derive(Debug)]
    struct Brittle(kurator_core::connect::StaticConnector, AtomicUsize);
    #[async_trait::async_trait]
    impl kurator_core::connect::ClusterConnector for Brittle {
        async fn client(
            &self,
            cluster: &ClusterName,
            purpose: kurator_core::connect::ClientPurpose,
        ) -> Result<kube::Client, kurator_core::connect::ConnectError> {
            let broken = *cluster == "broken" && self.1.fetch_add(1, Ordering::Relaxed) < 2;
            assert!(!broken, "this member's credentials are cursed");
            self.0.client(cluster, purpose).await
        }
        async fn invalidate(&self, _: &ClusterName) {}
    }
    let servers: BTreeMap<_, _> = ["broken", "sound"]
        .map(|name| (name, Server::new(&format!("uid-{name}"))))
        .into();
    let membership: StaticMembership = servers.keys().map(|it| Member::new(name(it))).collect();
    let connector = connector(servers.iter().map(|(name, server)| (*name, server)));
    let members = Members::start(
        Arc::new(membership),
        Arc::new(Brittle(connector, AtomicUsize::new(0))),
        None,
        None,
        MembersOptions::default(),
        &SystemClock::new(),
    );
    let mut engaged = members.engaged();
    engaged.wait_for(|now| now.contains_key("sound")).await.unwrap();
    engaged
        .wait_for(|now| now.len() == 2)
        .await
        .expect("the other begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_member_on_record_as_ready_has_the_grace_to_answer_whoever_looks_after_it_now() {
    let rig = Rig::new(&["a"], &[]);
    rig.servers["a"].hung.store(true, Ordering::Relaxed);
    let mut registered = Member::new(name("a"));
    registered.ready_since = Some("2026-01-01T00:00:00Z".parse().unwrap());
    let start = tokio::time::Instant::now();
    rig.membership.join(registered);
    rig.until("a", |health, _| health == HealthStatus::Ready).await;
    assert!(rig.members.get(&name("a")).is_none(), "nothing is done there yet");
    rig.until("a", |health, _| health == HealthStatus::Unknown).await;
    let lost = start.elapsed();
    assert!(
        lost >= GRACE && lost <= GRACE + Duration::from_secs(1),
        "after {lost:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_the_members_ends_everything() {
    let rig = Rig::new(&["a"], &["a"]);
    let (_events, stop) = run(&rig.members);
    rig.engaged(&["a"]).await;
    let server = rig.servers["a"].clone();
    stop.cancel();
    drop(rig);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = server.requests.load(Ordering::Relaxed);
    tokio::time::sleep(GRACE * 3).await;
    assert_eq!(
        (server.requests.load(Ordering::Relaxed), server.watches()),
        (after, 0)
    );
    assert_eq!(server.writes.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hub_object_is_woken_by_the_hub_by_members_and_by_who_joins() {
    struct Data {
        seen: mpsc::UnboundedSender<(String, Vec<String>)>,
        members: Members,
        stores: MemberStores<ConfigMap>,
    }
    async fn look(object: Arc<ConfigMap>, data: Arc<Data>) -> Result<Action, Infallible> {
        let engaged = data.members.engaged().borrow().clone();
        let holds = |name: &ClusterName| {
            let object = ObjectRef::<ConfigMap>::new(&object.name_any()).within("default");
            data.stores
                .of(name)
                .is_some_and(|store| store.get(&object).is_some())
        };
        let found = engaged
            .keys()
            .filter(|name| holds(name))
            .map(ToString::to_string)
            .collect();
        data.seen.send((object.name_any(), found)).unwrap();
        Ok(Action::await_change())
    }
    let rig = Rig::new(&["a", "b"], &["a"]);
    rig.engaged(&["a"]).await;
    let hub = Server::new("uid-hub");
    hub.touch("wanted");
    let api = || kube::Api::<ConfigMap>::all(hub.client());
    let controller = AwareController::new(rig.members.clone(), api(), watcher::Config::default());
    let (controller, stores) = controller.reflect_members(
        kube::Api::<ConfigMap>::all,
        watcher::Config::default(),
        |_, map: &ConfigMap| Some(ObjectRef::new(&map.name_any()).within("default")),
    );
    let (seen, mut events) = mpsc::unbounded_channel();
    let data = Data {
        seen,
        members: rig.members.clone(),
        stores,
    };
    tokio::spawn(controller.run(look, Arc::new(data), std::future::pending()));

    let mut until = async |wanted: &[&str]| {
        loop {
            let (object, found) = events.recv().await.unwrap();
            assert_eq!(object, "wanted", "what is not on the hub wakes nobody");
            if found == wanted {
                return;
            }
        }
    };
    until(&[]).await;
    rig.servers["a"].touch("wanted");
    rig.servers["a"].touch("unrelated");
    until(&["a"]).await;
    rig.servers["b"].touch("wanted");
    rig.membership.join(Member::new(name("b")));
    until(&["a", "b"]).await;
    rig.membership.leave(&name("a"));
    until(&["b"]).await;
    assert_eq!(
        rig.servers["a"].watches(),
        0,
        "its store and its watch went with it"
    );
}
