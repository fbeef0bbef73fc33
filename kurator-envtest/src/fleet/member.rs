use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{Client, Config};

use super::{
    Error, Link, MemberSpec, Part,
    credentials::{Context, Credentials, kubeconfig},
    store::Access,
    supervisor::{ProcessId, Supervisor},
};
use crate::components::Components;

/// A running member: a control plane of its own, and its nodes if it has some.
#[derive(Debug)]
pub struct Member {
    pub(super) spec: MemberSpec,
    pub(super) folder: PathBuf,
    pub(super) logs: PathBuf,
    /// Of the API server itself.
    pub(super) port: u16,
    /// Where KWOK answers to `exec`; 0 without.
    pub(super) exec_port: u16,
    pub(super) link: Link,
    /// To the object store of the fleet, if it has one.
    pub(super) store: Option<Access>,
    pub(super) credentials: Credentials,
    pub(super) components: Arc<Components>,
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) processes: Mutex<BTreeMap<Part, ProcessId>>,
    pub(super) startup: Startup,
    pub(super) patience: Duration,
}

/// How a member came up: what runs, in which version, and how long it took. `Display` is one line.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Startup {
    /// What each part says its version is.
    pub versions: BTreeMap<Part, String>,
    /// From the start until the API server answered `/readyz` and the first namespaces existed.
    pub control_plane: Duration,
    /// From the start until all nodes were Ready and the storage location of Velero was Available.
    pub complete: Duration,
    /// Ports that turned out to be taken.
    pub ports_refused: u32,
}

impl fmt::Display for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (part, version) in &self.versions {
            write!(f, "{part} {version}, ")?;
        }
        write!(
            f,
            "control plane ready in {:.1} s, complete in {:.1} s",
            self.control_plane.as_secs_f64(),
            self.complete.as_secs_f64()
        )
    }
}

impl Member {
    /// Name of the member, unique in its fleet.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// A new client with all rights (group `system:masters`). It belongs to the runtime in which it is made.
    ///
    /// # Errors
    /// [`Error::Api`] when no client can be made of the configuration.
    pub fn client(&self) -> Result<Client, Error> {
        Client::try_from(self.config()).map_err(Error::api(self.name(), "make a client"))
    }

    /// Configuration of [`Member::client`], to be changed before a client is made of it. It has kube's default
    /// of retrying 429, 503 and 504.
    pub fn config(&self) -> Config {
        self.credentials
            .config(self.link.port(), self.credentials.admin())
    }

    /// A kubeconfig with all rights, all data inline. It holds the token of the administrator, which is worth
    /// as much as this member.
    pub fn kubeconfig(&self) -> String {
        kubeconfig(&[self.context()])
    }

    pub(super) fn context(&self) -> Context {
        self.credentials
            .context(self.name(), "admin", self.link.port(), self.credentials.admin())
    }

    /// The network between the clients handed out and the API server, with its faults.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// [`Member::kubeconfig`] as a file, for `kubectl --kubeconfig`; gone with the fleet.
    pub fn kubeconfig_file(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Where commands run that are executed in pods of the member, with [`crate::MemberSpec::with_exec`]; gone
    /// with the fleet.
    pub fn exec_folder(&self) -> PathBuf {
        self.folder.join("exec")
    }

    /// What runs and how long it took to start.
    pub fn startup(&self) -> &Startup {
        &self.startup
    }

    /// Log file of a part; gone with the fleet, unless it was started with [`crate::FleetBuilder::logs`].
    pub fn log_file(&self, part: Part) -> PathBuf {
        self.logs.join(format!("{part}.log"))
    }

    /// Whether every part still runs, or is paused, but for those that were killed on purpose.
    ///
    /// # Errors
    /// [`Error::Exited`] with the end of the log of the first that does not.
    pub fn check(&self) -> Result<(), Error> {
        let parts = self.processes().keys().copied().collect::<Vec<_>>();
        parts.into_iter().try_for_each(|part| self.check_alive(part))
    }

    /// Freezes a part (SIGSTOP): its connections stay open and nobody answers. Returns when it has stopped.
    ///
    /// # Errors
    /// [`Error::NoSuchPart`], or [`Error::Process`] when it does not run.
    pub fn pause(&self, part: Part) -> Result<(), Error> {
        let process = self.process(part)?;
        self.supervisor.pause(process).map_err(self.failed(part, "pause"))
    }

    /// Lets a paused part go on (SIGCONT).
    ///
    /// # Errors
    /// As [`Member::pause`].
    pub fn resume(&self, part: Part) -> Result<(), Error> {
        let process = self.process(part)?;
        self.supervisor
            .resume(process)
            .map_err(self.failed(part, "resume"))
    }

    /// Kills a part (SIGKILL), as a crash would; its data stay. Killing a dead part does nothing.
    ///
    /// # Errors
    /// [`Error::NoSuchPart`], or [`Error::Process`] when it cannot be killed.
    pub fn kill(&self, part: Part) -> Result<(), Error> {
        let process = self.process(part)?;
        self.supervisor.kill(process).map_err(self.failed(part, "kill"))
    }

    pub(super) fn kill_all(&self) -> Result<(), Error> {
        let parts = self.processes().keys().copied().collect::<Vec<_>>();
        parts.into_iter().try_for_each(|part| self.kill(part))
    }

    /// Starts a part again with the same data, port and flags; kills it first if it runs. Returns when the API
    /// server is ready again, if the part is etcd or the API server; other parts are back at work soon after.
    ///
    /// # Errors
    /// [`Error::Exited`] or [`Error::Timeout`] when it does not come back.
    pub async fn restart(&self, part: Part) -> Result<(), Error> {
        self.kill(part)?;
        self.spawn(part)?;
        if matches!(part, Part::ApiServer | Part::Etcd) {
            self.wait_until_ready().await?;
        }
        Ok(())
    }

    /// A client that goes straight to the API server, whatever faults the link has.
    ///
    /// # Errors
    /// As [`Member::client`].
    pub fn direct_client(&self) -> Result<Client, Error> {
        let config = self.credentials.config(self.port, self.credentials.admin());
        Client::try_from(config).map_err(Error::api(self.name(), "make a client"))
    }

    pub(super) fn processes(&self) -> MutexGuard<'_, BTreeMap<Part, ProcessId>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn process(&self, part: Part) -> Result<ProcessId, Error> {
        let missing = || Error::NoSuchPart {
            member: self.name().into(),
            part,
        };
        self.processes().get(&part).copied().ok_or_else(missing)
    }

    pub(super) fn failed(&self, part: Part, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        let member = self.name().to_owned();
        move |source| Error::Process {
            member,
            part,
            action,
            source,
        }
    }
}
