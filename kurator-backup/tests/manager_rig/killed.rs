//! A process that runs the manager and kills itself at the first write to an API server at which nobody has died before.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    fs::OpenOptions,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Method, Request, Response, request::Parts};
use kube::{Api, Client, Config, client::Body, config::Kubeconfig, runtime::wait::await_condition};
use kurator_backup::{
    api::{BackupExecution, BackupSchedule, RestoreExecution},
    controller::BackupManager,
};
use kurator_envtest::Fleet;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::Value;
use tokio::sync::oneshot;

use super::manager_rig::{membership, over};
use crate::velero_rig::cluster;

/// Only so that a defect ends: a run has some dozens of writes.
const MOST_PROCESSES: usize = 400;

/// What a row of processes shares: files in one folder.
#[derive(Clone, Debug)]
pub(crate) struct Grave(PathBuf);

impl Grave {
    pub(crate) fn in_folder_of(fleet: &Fleet) -> Self {
        let folder = fleet.folder().join("killed");
        fs::create_dir(&folder).unwrap();
        let places: BTreeMap<&str, PathBuf> = fleet
            .members()
            .iter()
            .map(|member| (member.name(), member.kubeconfig_file()))
            .collect();
        fs::write(folder.join("places"), serde_json::to_vec(&places).unwrap()).unwrap();
        Self(folder)
    }

    fn places(&self) -> BTreeMap<String, PathBuf> {
        serde_json::from_slice(&fs::read(self.0.join("places")).unwrap()).unwrap()
    }

    /// Writes before or after which a process has died, in order.
    pub(crate) fn deaths(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.join("died")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn die_at(&self, boundary: &str) {
        if self.deaths().iter().any(|death| death == boundary) {
            return;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join("died"));
        let mut file = file.unwrap();
        writeln!(file, "{boundary}").unwrap();
        file.sync_all().unwrap();
        kill_process(getpid(), Signal::KILL).unwrap();
        // Until the signal has arrived.
        loop {
            std::thread::park();
        }
    }
}

/// A client of one API server at whose writes the process may die, before they are sent and after they are answered.
#[derive(Clone)]
struct Deadly {
    client: Client,
    grave: Grave,
    place: String,
}

impl tower_service::Service<Request<Body>> for Deadly {
    type Response = Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let deadly = self.clone();
        Box::pin(async move {
            if request.method() == Method::GET {
                return Ok(deadly.client.send(request).await?);
            }
            // One at a time: what is on its way when the process dies would be another's death.
            static WRITES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
            let _alone = WRITES.lock().await;
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let write = described(&deadly.place, &parts, &body);
            deadly.grave.die_at(&format!("before {write}"));
            let request = Request::from_parts(parts, Body::from(body));
            let answer = deadly.client.send(request).await?;
            deadly.grave.die_at(&format!("after {write}"));
            Ok(answer)
        })
    }
}

/// The write, by what it changes and not by what it says of names, progress and time.
fn described(place: &str, parts: &Parts, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let path = parts.uri.path();
    // .../namespaces/NAMESPACE/KIND/NAME/SUBRESOURCE: every object of a kind is like the others.
    let parts_of_path = path.split('/').collect::<Vec<_>>();
    let kind = parts_of_path.iter().position(|part| *part == "namespaces");
    let name = kind.map(|index| index + 3);
    let path = parts_of_path
        .iter()
        .enumerate()
        .map(|(index, part)| if Some(index) == name { "*" } else { part })
        .collect::<Vec<_>>()
        .join("/");
    let meaning = match body["kind"].as_str() {
        _ if path.ends_with("/status") => meaning(&body["status"]),
        Some("Event") => body["reason"].to_string(),
        _ => String::new(),
    };
    format!("{} {place}{path} {meaning}", parts.method)
}

fn meaning(status: &Value) -> String {
    let clusters = status["clusters"].as_array().into_iter().flatten().map(|entry| {
        let held = entry.get("heldUntil").map_or("", |_| " held");
        let word = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}{held}", word("cluster"), word("phase"), word("reason"))
    });
    let quiesce = &status["quiesce"];
    format!(
        "{} {}{} {:?}",
        status["phase"],
        quiesce["round"],
        quiesce.get("heldAt").map_or("", |_| " all held"),
        clusters.collect::<Vec<_>>(),
    )
}

/// What a row of processes is to bring about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// The schedule was paused, and had made a run before.
    Scheduled,
    /// The execution has ended.
    Ended,
    /// The restore has ended.
    Restored,
    /// The execution is gone.
    Gone,
}

impl Goal {
    fn parse(text: &str) -> Self {
        let all = [Self::Scheduled, Self::Ended, Self::Restored, Self::Gone];
        all.into_iter().find(|goal| format!("{goal:?}") == text).unwrap()
    }

    async fn reached(self, hub: Client, name: &str) {
        match self {
            Self::Scheduled => {
                let paused = |found: Option<&BackupSchedule>| {
                    let status = found.and_then(|it| it.status.as_ref());
                    status.is_some_and(|status| {
                        status.last_scheduled_at.is_some()
                            && status.observed_generation == found.unwrap().metadata.generation
                            && status.next_at.is_none()
                    })
                };
                drop(
                    await_condition(Api::default_namespaced(hub), name, paused)
                        .await
                        .unwrap(),
                );
            }
            Self::Ended => {
                let ended = |found: Option<&BackupExecution>| {
                    let status = found.and_then(|it| it.status.as_ref());
                    status.is_some_and(|status| {
                        status.phase.has_ended() && status.clusters.iter().all(|it| it.held_until.is_none())
                    })
                };
                drop(
                    await_condition(Api::default_namespaced(hub), name, ended)
                        .await
                        .unwrap(),
                );
            }
            Self::Restored => {
                let ended = |found: Option<&RestoreExecution>| {
                    let status = found.and_then(|it| it.status.as_ref());
                    status.is_some_and(|status| status.phase.has_ended())
                };
                drop(
                    await_condition(Api::default_namespaced(hub), name, ended)
                        .await
                        .unwrap(),
                );
            }
            Self::Gone => {
                let gone = |found: Option<&BackupExecution>| found.is_none();
                drop(
                    await_condition(Api::default_namespaced(hub), name, gone)
                        .await
                        .unwrap(),
                );
            }
        }
    }
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// The role of the process that dies.
pub(crate) async fn manage(folder: &Path, goal: &str, name: &str) {
    let grave = Grave(folder.to_owned());
    let mut clients = BTreeMap::new();
    let mut hub = None;
    for (place, kubeconfig) in grave.places() {
        let inner = client(&kubeconfig).await;
        let deadly = Deadly {
            client: inner.clone(),
            grave: grave.clone(),
            place: place.clone(),
        };
        let deadly = Client::new(deadly, "default");
        if place == "hub" {
            hub = Some((inner, deadly));
        } else {
            clients.insert(cluster(&place), deadly);
        }
    }
    let (watching, hub) = hub.unwrap();
    let names = clients.keys().map(ToString::to_string).collect::<Vec<_>>();
    let names = names.iter().map(String::as_str).collect::<Vec<_>>();
    let (driver, barrier) = over(clients.clone());
    let manager = BackupManager::new(hub, membership(&names), Arc::new(driver), Arc::new(barrier));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(manager.run(async move { drop(stopped.await) }));
    Goal::parse(goal).reached(watching, name).await;
    stop.send(()).unwrap();
    running.await.unwrap();
}

/// Starts one process after another until one reaches the goal. How many there were.
pub(crate) async fn until_the_end(grave: &Grave, goal: Goal, name: &str) -> usize {
    let (folder, name) = (grave.0.clone(), name.to_owned());
    let row = tokio::task::spawn_blocking(move || {
        for process in 1..=MOST_PROCESSES {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--manage", folder.to_str().unwrap(), &format!("{goal:?}"), &name]);
            let status = command.status().unwrap();
            if status.signal() != Some(Signal::KILL.as_raw()) {
                assert!(status.success(), "{status}");
                return process;
            }
        }
        panic!("{goal:?} {name}: not reached by {MOST_PROCESSES} processes")
    });
    row.await.unwrap()
}

/// No boundary twice: each process came further.
pub(crate) fn each_once(deaths: &[String]) -> bool {
    deaths.iter().collect::<BTreeSet<_>>().len() == deaths.len()
}
