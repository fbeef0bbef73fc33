//! Faults do what they say, end when they are told to, and touch nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{io, net::SocketAddr, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
    core::ObjectMeta,
    runtime::wait::{Condition, conditions},
};
use kurator_envtest::{Controllers, Cut, Delay, Fleet, Loss, Member, MemberSpec, Nodes, Part};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// Gives up soon and never tries again, so that a fault is seen as it is.
fn impatient(member: &Member) -> Client {
    let mut config = member.config();
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(3));
    config.read_timeout = Some(Duration::from_secs(3));
    Client::try_from(config).unwrap()
}

async fn version(client: &Client) -> Result<String, kube::Error> {
    client.apiserver_version().await.map(|info| info.git_version)
}

async fn write(client: Client, name: &str) -> Result<ConfigMap, kube::Error> {
    let metadata = ObjectMeta {
        name: Some(name.into()),
        ..ObjectMeta::default()
    };
    let map = ConfigMap {
        metadata,
        ..ConfigMap::default()
    };
    Api::default_namespaced(client)
        .create(&PostParams::default(), &map)
        .await
}

fn address(member: &Member) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], member.link().port()))
}

/// Of the answer to a request without TLS, which Go servers give in plain HTTP. A reset may come with the connection or
/// at the first use of it.
async fn first_byte(address: SocketAddr) -> io::Result<u8> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    stream.read_u8().await
}

async fn alone() -> Fleet {
    Fleet::builder().members(["a"]).start().await.unwrap()
}

async fn pair() -> Fleet {
    Fleet::builder().members(["a", "b"]).start().await.unwrap()
}

#[tokio::test]
async fn a_cut_link_refuses_or_resets_and_the_other_member_goes_on() {
    let fleet = pair().await;
    let (a, b) = (fleet.member("a").unwrap(), fleet.member("b").unwrap());
    let (client, other) = (impatient(a), impatient(b));
    version(&client).await.unwrap();

    let mut open = TcpStream::connect(address(a)).await.unwrap();
    a.link().cut(Cut::Refuse);
    let lost = open.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(lost.kind(), io::ErrorKind::ConnectionReset);
    let refused = TcpStream::connect(address(a)).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    version(&client).await.unwrap_err();
    version(&other).await.unwrap();
    version(&a.direct_client().unwrap()).await.unwrap();

    a.link().cut(Cut::Reset);
    let reset = first_byte(address(a)).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);

    a.link().heal();
    version(&client).await.unwrap();
}

#[tokio::test]
async fn a_half_open_link_takes_everything_and_never_answers_until_it_heals() {
    let fleet = alone().await;
    let a = fleet.member("a").unwrap();
    let client = impatient(a);
    version(&client).await.unwrap();

    a.link().half_open();
    version(&client).await.unwrap_err();
    let mut silent = TcpStream::connect(address(a)).await.unwrap();
    silent.write_all(b"hello").await.unwrap();
    let mut answer = [0; 1];
    timeout(Duration::from_millis(300), silent.read(&mut answer))
        .await
        .unwrap_err();

    a.link().heal();
    let reset = silent.read(&mut answer).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    version(&client).await.unwrap();
}

#[tokio::test]
async fn a_delayed_link_takes_its_time_in_each_direction() {
    let fleet = alone().await;
    let a = fleet.member("a").unwrap();
    let client = a.client().unwrap();
    version(&client).await.unwrap();
    let base = Duration::from_millis(700);
    a.link()
        .delay(Delay::fixed(base).with_jitter(Duration::from_millis(100), 1));
    let started = Instant::now();
    version(&client).await.unwrap();
    assert!(started.elapsed() >= 2 * base, "{:?}", started.elapsed());
    // A body of many chunks arrives in order and whole, in spite of the jitter.
    let text = (0..60_000).map(|number| format!("{number} ")).collect::<String>();
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some("long".into()),
            ..ObjectMeta::default()
        },
        data: Some([("text".to_owned(), text.clone())].into()),
        ..ConfigMap::default()
    };
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    maps.create(&PostParams::default(), &map).await.unwrap();
    assert_eq!(maps.get("long").await.unwrap().data.unwrap()["text"], text);
    a.link().heal();
    let started = Instant::now();
    version(&client).await.unwrap();
    assert!(started.elapsed() < 2 * base, "{:?}", started.elapsed());
}

#[tokio::test]
async fn lost_connections_are_the_same_ones_for_the_same_seed() {
    let fleet = pair().await;
    let mut fates = Vec::new();
    for member in fleet.members() {
        // The first connection of each member is number 0, whoever made it: no other is open yet.
        member
            .link()
            .lose(Loss::seeded(42).with_connections(500).resets());
        let mut fate = Vec::new();
        for _ in 0..32 {
            fate.push(first_byte(address(member)).await.is_ok());
        }
        fates.push(fate);
    }
    assert_eq!(fates[0], fates[1]);
    let lost = fates[0].iter().filter(|served| !**served).count();
    assert!((8..=24).contains(&lost), "{lost} of 32");
}

#[tokio::test]
async fn a_link_that_loses_every_chunk_stalls_until_it_heals() {
    let fleet = alone().await;
    let a = fleet.member("a").unwrap();
    let client = impatient(a);
    a.link().lose(Loss::seeded(1).with_chunks(1000));
    version(&client).await.unwrap_err();
    a.link().heal();
    version(&client).await.unwrap();
}

#[tokio::test]
async fn a_paused_api_server_does_not_answer_and_goes_on_where_it_was() {
    let fleet = alone().await;
    let a = fleet.member("a").unwrap();
    let client = impatient(a);
    version(&client).await.unwrap();
    a.pause(Part::ApiServer).unwrap();
    version(&client).await.unwrap_err();
    a.resume(Part::ApiServer).unwrap();
    version(&a.client().unwrap()).await.unwrap();
}

#[tokio::test]
async fn data_survive_a_kill_and_restart_of_etcd_and_the_api_server() {
    let fleet = alone().await;
    let a = fleet.member("a").unwrap();
    write(a.client().unwrap(), "kept").await.unwrap();
    for part in [Part::ApiServer, Part::Etcd] {
        a.kill(part).unwrap();
        write(impatient(a), "refused").await.unwrap_err();
        a.restart(part).await.unwrap();
        let api = Api::<ConfigMap>::default_namespaced(a.client().unwrap());
        api.get("kept").await.unwrap();
    }
    a.kill(Part::Scheduler).unwrap_err();
}

#[tokio::test]
async fn a_silent_node_is_lost_alone_and_its_pods_stay_until_it_speaks_again() {
    let spec = MemberSpec::new("a")
        .with_controllers(Controllers::Tuned)
        .with_flag(Part::ControllerManager, "--node-monitor-period=1s")
        .with_flag(Part::ControllerManager, "--node-monitor-grace-period=6s")
        .with_flag(Part::Kwok, "--node-lease-duration-seconds=4")
        .with_nodes(Nodes::new(2));
    let fleet = Fleet::builder().member(spec).start().await.unwrap();
    let a = fleet.member("a").unwrap();
    let client = a.client().unwrap();
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "node-0", "containers": [{"name": "c", "image": "c:1"}]}
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    a.wait_for(&pods, "p", conditions::is_pod_running())
        .await
        .unwrap();

    a.silence_node("node-0").await.unwrap();
    let nodes = Api::<Node>::all(client);
    a.wait_for(&nodes, "node-0", has_ready("Unknown")).await.unwrap();
    assert!(has_ready("True").matches_object(nodes.get_opt("node-1").await.unwrap().as_ref()));
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    assert!(pods.get("p").await.unwrap().metadata.deletion_timestamp.is_some());

    a.revive_node("node-0").await.unwrap();
    a.wait_for(&nodes, "node-0", has_ready("True")).await.unwrap();
    a.wait_for(&pods, "p", |pod: Option<&Pod>| pod.is_none())
        .await
        .unwrap();
}

fn has_ready(status: &'static str) -> impl Condition<Node> + Send + Sync {
    move |node: Option<&Node>| {
        let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_deref());
        conditions
            .unwrap_or_default()
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == status)
    }
}

#[tokio::test]
async fn kwok_goes_on_with_new_nodes_after_a_restart() {
    let spec = MemberSpec::new("a")
        .with_controllers(Controllers::Tuned)
        .with_nodes(Nodes::new(1));
    let fleet = Fleet::builder().member(spec).start().await.unwrap();
    let a = fleet.member("a").unwrap();
    a.kill(Part::Kwok).unwrap();
    a.restart(Part::Kwok).await.unwrap();
    a.create_nodes(&Nodes::new(1).with_prefix("late")).await.unwrap();
}

#[tokio::test]
async fn two_fleets_run_side_by_side() {
    let (one, two) = futures::join!(pair(), pair());
    let name = |fleet: &Fleet| fleet.folder().to_owned();
    assert_ne!(name(&one), name(&two));
    write(one.member("a").unwrap().client().unwrap(), "only-here")
        .await
        .unwrap();
    let api = Api::<ConfigMap>::default_namespaced(two.member("a").unwrap().client().unwrap());
    assert!(api.get_opt("only-here").await.unwrap().is_none());
    drop(one);
    api.get_opt("only-here").await.unwrap();
}
