//! A process that carries a drain out and kills itself at a step boundary nobody has died at before.

use std::{
    collections::BTreeSet,
    env, fs,
    fs::OpenOptions,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use async_trait::async_trait;
use kurator_core::{
    connect::StaticConnector,
    names::ClusterName,
    progress::{ProgressEvent, ProgressSink},
};
use kurator_fleet::scaling::{
    DrainPolicy, ScaleDownPlan,
    execute::{
        DrainExecutor, DrainOutcome, InfrastructureError, InfrastructureProvider, Machine, WorkerPool,
    },
};
use rustix::process::{Signal, getpid, kill_process};
use tokio_util::sync::CancellationToken;

/// What a row of processes shares: files in one folder.
#[derive(Clone, Debug)]
pub(crate) struct Grave(PathBuf);

impl Grave {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn append(&self, name: &str, line: &str) {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join(name));
        let mut file = file.unwrap();
        writeln!(file, "{line}").unwrap();
        file.sync_all().unwrap();
    }

    /// Machines, each as often as it was removed.
    pub(crate) fn removals(&self) -> Vec<String> {
        self.lines("removed")
    }

    /// Boundaries at which a process has died.
    pub(crate) fn deaths(&self) -> Vec<String> {
        self.lines("died")
    }

    pub(crate) fn write_plan(&self, plan: &ScaleDownPlan) {
        fs::write(self.0.join("plan"), serde_json::to_vec(plan).unwrap()).unwrap();
    }

    fn plan(&self) -> ScaleDownPlan {
        serde_json::from_slice(&fs::read(self.0.join("plan")).unwrap()).unwrap()
    }
}

/// A cloud that remembers over processes.
#[async_trait]
impl InfrastructureProvider for Grave {
    async fn exists(&self, machine: &Machine) -> Result<bool, InfrastructureError> {
        Ok(!self.removals().contains(&machine.node))
    }

    async fn remove(&self, machine: &Machine) -> Result<(), InfrastructureError> {
        self.append("removed", &machine.node);
        Ok(())
    }

    async fn provide(&self, _: &WorkerPool) -> Result<(), InfrastructureError> {
        Ok(())
    }
}

/// Kills the process at the first event that is another than those before it has died at.
impl ProgressSink for Grave {
    fn emit(&self, event: ProgressEvent) {
        let boundary = format!("{}: {}", event.step, event.progress);
        if !self.deaths().contains(&boundary) {
            self.append("died", &boundary);
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    }
}

/// The role of the process that dies.
pub(crate) async fn drain(kubeconfig: &Path, folder: &Path) {
    let grave = Grave::new(folder);
    let cluster: ClusterName = "east".parse().unwrap();
    let client = super::observer::client(kubeconfig).await;
    let connector = StaticConnector::default().with_client(cluster.clone(), client);
    let executor = DrainExecutor::new(connector, cluster, grave.clone())
        .with_replanning(DrainPolicy::default().with_surge())
        .with_progress(grave.clone());
    let resumed = executor.resume(CancellationToken::new()).await.unwrap();
    let report = match resumed {
        Some(report) => report,
        // The last one died after the last node was gone.
        None if !grave.removals().is_empty() => return,
        None => executor
            .run(&grave.plan(), CancellationToken::new())
            .await
            .unwrap(),
    };
    assert_eq!(report.outcome, DrainOutcome::Completed, "{report:?}");
    assert!(report.left.is_empty(), "{report:?}");
}

/// Starts one process after another until one comes to the end. How many there were.
pub(crate) fn until_the_end(kubeconfig: &Path, folder: &Path) -> usize {
    for process in 1.. {
        let status = start(kubeconfig, folder);
        if status.signal() != Some(Signal::KILL.as_raw()) {
            assert!(status.success(), "{status}");
            return process;
        }
    }
    unreachable!("it comes to an end")
}

fn start(kubeconfig: &Path, folder: &Path) -> ExitStatus {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--drain", kubeconfig.to_str().unwrap(), folder.to_str().unwrap()]);
    command.status().unwrap()
}

/// No boundary twice: each process came further.
pub(crate) fn each_once(deaths: &[String]) -> bool {
    deaths.iter().collect::<BTreeSet<_>>().len() == deaths.len()
}
