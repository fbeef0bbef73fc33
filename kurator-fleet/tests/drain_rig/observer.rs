//! A process of its own that records every budget at every instant. It knows nothing of the code it watches.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use futures::{StreamExt, stream};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{Api, Client, Config, ResourceExt, config::Kubeconfig, runtime::watcher};
use serde::{Deserialize, Serialize};

/// What it saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// States of budgets and pods it looked at.
    pub(crate) instants: u64,
    /// Each state in which a budget had fewer healthy pods than it wants, by its own status or by a count of the pods.
    pub(crate) below: Vec<String>,
    /// How many healthy pods each budget had at least beyond those it wants.
    pub(crate) least: BTreeMap<String, i64>,
    /// UIDs of pods it saw being deleted.
    pub(crate) ended: BTreeSet<String>,
}

/// The observing process, as the one that started it sees it.
#[derive(Debug)]
pub(crate) struct Observer {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Observer {
    /// Starts this binary again with the role of an observer, and waits until it has seen everything once.
    pub(crate) fn start(kubeconfig: &Path) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--observe", kubeconfig.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "watching\n");
        Self { child, lines }
    }

    /// Ends it, and takes what it saw.
    pub(crate) fn finish(mut self) -> Record {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.lines.read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug, Default)]
struct State {
    record: Record,
    /// Selector and wanted healthy pods.
    budgets: BTreeMap<String, (BTreeMap<String, String>, i64)>,
    /// Labels and whether it counts as healthy.
    pods: BTreeMap<String, (BTreeMap<String, String>, bool)>,
    synced: u8,
}

enum Seen {
    Budget(Box<watcher::Event<PodDisruptionBudget>>),
    Pod(Box<watcher::Event<Pod>>),
}

impl State {
    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Budget(event) => match *event {
                watcher::Event::Apply(budget) | watcher::Event::InitApply(budget) => self.budget(&budget),
                watcher::Event::InitDone => self.listed(),
                watcher::Event::Delete(_) | watcher::Event::Init => {}
            },
            Seen::Pod(event) => match *event {
                watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => self.pod(&pod),
                watcher::Event::Delete(pod) => {
                    self.record.ended.insert(pod.uid().unwrap());
                    self.pods.remove(&pod.name_any());
                    self.count(pod.labels());
                }
                watcher::Event::InitDone => self.listed(),
                watcher::Event::Init => {}
            },
        }
    }

    fn listed(&mut self) {
        self.synced += 1;
        if self.synced == 2 {
            println!("watching");
            std::io::stdout().flush().unwrap();
        }
    }

    fn budget(&mut self, budget: &PodDisruptionBudget) {
        let name = budget.name_any();
        let status = budget.status.clone().unwrap_or_default();
        let selector = budget
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.clone())
            .unwrap_or_default();
        let number = |field: Option<i32>| i64::from(field.unwrap_or_default());
        let (healthy, desired) = (number(status.current_healthy), number(status.desired_healthy));
        self.budgets
            .insert(name.clone(), (selector.match_labels.unwrap_or_default(), desired));
        self.record.instants += 1;
        self.note(&name, healthy - desired, "its status");
    }

    fn pod(&mut self, pod: &Pod) {
        let conditions = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions
            .into_iter()
            .any(|one| one.type_ == "Ready" && one.status == "True");
        let ending = pod.metadata.deletion_timestamp.is_some();
        if ending {
            self.record.ended.insert(pod.uid().unwrap());
        }
        self.pods
            .insert(pod.name_any(), (pod.labels().clone(), ready && !ending));
        self.count(pod.labels());
    }

    /// Counts the pods of every budget that selects pods with these labels.
    fn count(&mut self, labels: &BTreeMap<String, String>) {
        if self.synced < 2 {
            return;
        }
        let selects = |selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>| {
            selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let counted: Vec<(String, i64)> = self
            .budgets
            .iter()
            .filter(|(_, (selector, _))| selects(selector, labels))
            .map(|(name, (selector, desired))| {
                let healthy = self
                    .pods
                    .values()
                    .filter(|(labels, healthy)| *healthy && selects(selector, labels));
                (name.clone(), healthy.count() as i64 - desired)
            })
            .collect();
        for (name, beyond) in counted {
            self.record.instants += 1;
            self.note(&name, beyond, "the count of its pods");
        }
    }

    fn note(&mut self, name: &str, beyond: i64, by: &str) {
        let least = self.record.least.entry(name.to_owned()).or_insert(beyond);
        *least = (*least).min(beyond);
        if beyond < 0 {
            self.record.below.push(format!("{name} by {by}: {beyond}"));
        }
    }
}

pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// The role of the observer: until its standard input ends.
pub(crate) async fn observe(kubeconfig: PathBuf) {
    let client = client(&kubeconfig).await;
    let budgets = watcher(
        Api::<PodDisruptionBudget>::all(client.clone()),
        watcher::Config::default(),
    );
    let pods = watcher(Api::<Pod>::all(client), watcher::Config::default());
    let mut events = stream::select(
        budgets
            .map(|event| Seen::Budget(Box::new(event.unwrap())))
            .boxed(),
        pods.map(|event| Seen::Pod(Box::new(event.unwrap()))).boxed(),
    );
    let mut state = State::default();
    let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let watching = async {
        while let Some(seen) = events.next().await {
            state.take(seen);
        }
    };
    tokio::select! {
        () = watching => panic!("the watch ended"),
        _ = end => {}
    }
    println!("{}", serde_json::to_string(&state.record).unwrap());
}

/// The kubeconfig of a member, in a file of its folder.
pub(crate) fn kubeconfig_in(folder: &Path, kubeconfig: &str) -> PathBuf {
    let file = folder.join("drain-test-kubeconfig");
    fs::write(&file, kubeconfig).unwrap();
    file
}
