//! Brings one member up.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use super::{
    Error, Link, Member, MemberSpec, Nodes, Part, Startup,
    builder::say,
    control_plane::Layout,
    credentials::{Credentials, kubeconfig},
    store::Access,
    supervisor::{Launch, Supervisor},
};
use crate::components::Components;

const POLL: Duration = Duration::from_millis(25);
/// Ports that may turn out to be taken before we give up.
pub(super) const PORTS_TRIED: u32 = 8;
/// Bytes of a log that an error shows.
const TAIL: u64 = 2000;

#[derive(Debug)]
pub(super) struct Starting {
    pub(super) spec: MemberSpec,
    pub(super) components: Arc<Components>,
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) patience: Duration,
    /// Where logs are kept beyond the fleet.
    pub(super) logs: Option<PathBuf>,
    pub(super) store: Option<Access>,
}

impl Starting {
    pub(super) async fn run(self) -> Result<Member, Error> {
        let started = Instant::now();
        let folder = self.supervisor.folder().join(&self.spec.name);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let logs = match &self.logs {
            Some(kept) => kept.join(&self.spec.name),
            None => folder.clone(),
        };
        fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
        let credentials = Credentials::create(&self.spec.name, &folder.join("credentials"))?;
        let nodes = self
            .spec
            .kwok
            .iter()
            .flat_map(|kwok| kwok.nodes.clone())
            .collect::<Vec<_>>();
        let link = Link::start().map_err(Error::api(&self.spec.name, "open the link"))?;
        let mut member = Member {
            spec: self.spec,
            folder,
            logs,
            port: 0,
            exec_port: 0,
            link,
            store: self.store,
            credentials,
            components: self.components,
            supervisor: self.supervisor,
            processes: Mutex::default(),
            startup: Startup::default(),
            patience: self.patience,
        };
        match member.bring_up(&nodes, started).await {
            Ok(()) => Ok(member),
            Err(error) => {
                // The fleet may go on without it. What fails here is cleaned up with the fleet.
                let _ = member.kill_all();
                let _ = fs::remove_dir_all(&member.folder);
                Err(error)
            }
        }
    }
}

impl Member {
    async fn bring_up(&mut self, nodes: &[Nodes], started: Instant) -> Result<(), Error> {
        self.run(Part::Etcd)?;
        self.start_api_server().await?;
        self.link.forward_to(self.port);
        self.startup.control_plane = started.elapsed();
        write(&self.kubeconfig_file(), &self.kubeconfig())?;
        for part in [Part::ControllerManager, Part::Scheduler] {
            if self.spec.parts().any(|asked| asked == part) {
                self.run(part)?;
            }
        }
        if self.spec.kwok.is_some() {
            self.start_kwok().await?;
        }
        if let (Some(velero), Some(store)) = (self.spec.velero.clone(), self.store.clone()) {
            self.prepare_velero(&velero, &store).await?;
            self.run(Part::Velero)?;
        }
        for nodes in nodes {
            self.create_nodes(nodes).await?;
        }
        if self.spec.velero.is_some() {
            self.wait_until_location_is_available().await?;
        }
        self.check()?;
        self.startup.complete = started.elapsed();
        say(&format!("member {}: {}", self.name(), self.startup));
        Ok(())
    }

    async fn start_api_server(&mut self) -> Result<(), Error> {
        let mut wanted = self.spec.port;
        loop {
            self.port = match wanted.take() {
                Some(port) => port,
                None => free_port().map_err(self.failed(Part::ApiServer, "find a port for"))?,
            };
            let direct = self
                .credentials
                .context(self.name(), "admin", self.port, self.credentials.admin());
            write(
                &self.folder.join("control-plane.kubeconfig"),
                &kubeconfig(&[direct]),
            )?;
            self.run(Part::ApiServer)?;
            match self.wait_until_ready().await {
                Ok(version) => {
                    self.startup.versions.insert(Part::ApiServer, version);
                    return Ok(());
                }
                Err(Error::Exited {
                    part: Part::ApiServer,
                    tail,
                    ..
                }) if tail.contains("address already in use") && self.startup.ports_refused < PORTS_TRIED => {
                    self.startup.ports_refused += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn start_kwok(&mut self) -> Result<(), Error> {
        if !self.spec.kwok.as_ref().is_some_and(|kwok| kwok.exec) {
            return self.run(Part::Kwok);
        }
        let folder = self.exec_folder();
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        for tried in 0..=PORTS_TRIED {
            self.exec_port = free_port().map_err(self.failed(Part::Kwok, "find a port for"))?;
            self.run(Part::Kwok)?;
            match self.wait_until_exec_works().await {
                Err(Error::Exited { tail, .. })
                    if tail.contains("address already in use") && tried < PORTS_TRIED =>
                {
                    self.startup.ports_refused += 1;
                }
                other => return other,
            }
        }
        Ok(())
    }

    /// Until KWOK listens for the API server. Who asks may have been connected to another process: KWOK says
    /// so by its end.
    async fn wait_until_exec_works(&self) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, self.exec_port)).await;
            self.check_alive(Part::Kwok)?;
            if connected.is_ok() {
                return Ok(());
            }
            if started.elapsed() > self.patience {
                return Err(Error::Timeout {
                    member: self.name().into(),
                    waited_for: format!("{} listens for commands", Part::Kwok),
                    after: self.patience,
                });
            }
            sleep(POLL).await;
        }
    }

    /// Starts a part and notes its version.
    fn run(&mut self, part: Part) -> Result<(), Error> {
        self.spawn(part)?;
        if part != Part::ApiServer {
            let version = self.version_of(part)?;
            self.startup.versions.insert(part, version);
        }
        Ok(())
    }

    pub(super) fn spawn(&self, part: Part) -> Result<(), Error> {
        let layout = Layout {
            spec: &self.spec,
            folder: &self.folder,
            credentials: &self.credentials,
            components: &self.components,
            exec_port: self.exec_port,
        };
        let args = layout.args(part, self.port)?;
        let launch = Launch {
            program: self.program(part)?,
            args: &args,
            env: &layout.env(part),
            folder: &self.folder,
            log: &self.log_file(part),
        };
        let process = self
            .supervisor
            .spawn(&launch)
            .map_err(self.failed(part, "start"))?;
        self.processes().insert(part, process);
        Ok(())
    }

    fn program(&self, part: Part) -> Result<&Path, Error> {
        self.components
            .binary(part.name())
            .map_err(|source| Error::Components { source })
    }

    /// Waits for `/readyz` and the namespaces every client takes for granted; returns the server's version.
    pub(super) async fn wait_until_ready(&self) -> Result<String, Error> {
        let mut config = self.credentials.config(self.port, self.credentials.admin());
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(2));
        config.read_timeout = Some(Duration::from_secs(5));
        let client = Client::try_from(config).map_err(Error::api(self.name(), "make a client"))?;
        let started = Instant::now();
        loop {
            if let Ok(version) = ask(&client).await {
                return Ok(version);
            }
            for part in [Part::Etcd, Part::ApiServer] {
                self.check_alive(part)?;
            }
            if started.elapsed() > self.patience {
                return Err(Error::Timeout {
                    member: self.name().into(),
                    waited_for: format!("{} is ready", Part::ApiServer),
                    after: self.patience,
                });
            }
            sleep(POLL).await;
        }
    }

    pub(super) fn check_alive(&self, part: Part) -> Result<(), Error> {
        let status = self
            .supervisor
            .exit_status(self.process(part)?)
            .map_err(self.failed(part, "look after"))?;
        let Some(status) = status else { return Ok(()) };
        let log = self.log_file(part);
        let tail = tail(&log).map_err(Error::io("read", &log))?;
        Err(Error::Exited {
            member: self.name().into(),
            part,
            status: status.to_string(),
            log,
            tail,
        })
    }

    fn version_of(&self, part: Part) -> Result<String, Error> {
        let output = Command::new(self.program(part)?)
            .arg("--version")
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .output()
            .map_err(self.failed(part, "ask the version of"))?;
        Ok(version_in(&String::from_utf8_lossy(&output.stdout)).to_owned())
    }
}

async fn ask(client: &Client) -> Result<String, kube::Error> {
    let mut request = http::Request::new(Vec::new());
    *request.uri_mut() = http::Uri::from_static("/readyz");
    client.request_text(request).await?;
    let version = client.apiserver_version().await?;
    let namespaces = Api::<Namespace>::all(client.clone());
    for name in ["default", "kube-system"] {
        namespaces.get(name).await?;
    }
    Ok(version.git_version)
}

/// The first word that is a version number.
fn version_in(output: &str) -> &str {
    let is_version = |word: &&str| {
        let digits = word.trim_start_matches('v');
        digits.starts_with(|first: char| first.is_ascii_digit()) && digits.contains('.')
    };
    output
        .split_whitespace()
        .find(is_version)
        .unwrap_or("of unknown version")
}

pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io("write", path))
}

pub(super) fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_what_each_program_prints() {
        assert_eq!(
            version_in("etcd Version: 3.7.3\nGit SHA: Not provided (use ./build)\n"),
            "3.7.3"
        );
        assert_eq!(version_in("Kubernetes v1.37.2\n"), "v1.37.2");
        assert_eq!(
            version_in("kwok version v0.8.0 go1.26.8 (linux/amd64)\n"),
            "v0.8.0"
        );
        assert_eq!(version_in("velero v1.18.3\n"), "v1.18.3");
        assert_eq!(version_in(""), "of unknown version");
    }
}
