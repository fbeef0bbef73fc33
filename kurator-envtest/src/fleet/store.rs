//! An S3 server that keeps its objects as files, for the Velero servers of a fleet.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    Error, Link,
    credentials::random,
    start::{PORTS_TRIED, free_port, tail},
    supervisor::{Launch, ProcessId, Supervisor},
};
use crate::components::Components;

const PROGRAM: &str = "versitygw";
const ACCESS_KEY: &str = "envtest";
/// The store's own folder inside each bucket, for uploads under way.
const UNDER_WAY: &str = ".sgwtmp";
const POLL: Duration = Duration::from_millis(25);

/// An S3 server of a fleet, started with the first member that has Velero. Its buckets are folders and its
/// objects files in the folder of the fleet, to be listed, read and damaged by tests.
///
/// Every Velero reaches it through [`ObjectStore::link`].
#[derive(Debug)]
pub struct ObjectStore {
    folder: PathBuf,
    log: PathBuf,
    program: PathBuf,
    access: Access,
    link: Link,
    port: u16,
    /// Path under which this very server, and no other on its port, says that it works.
    health: String,
    supervisor: Arc<Supervisor>,
    process: Mutex<Option<ProcessId>>,
    patience: Duration,
}

/// What a client of the store needs.
#[derive(Clone)]
pub(super) struct Access {
    port: u16,
    secret: SecretString,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Access {
    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// In the form of the AWS tools.
    pub(super) fn credentials_file(&self) -> String {
        let secret = self.secret.expose_secret();
        format!("[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={secret}\n")
    }
}

impl ObjectStore {
    pub(super) async fn start(
        supervisor: Arc<Supervisor>,
        components: &Components,
        logs: Option<&Path>,
        patience: Duration,
    ) -> Result<Self, Error> {
        // No member can have this name: it is no DNS label.
        let folder = supervisor.folder().join(".object-store");
        fs::create_dir_all(folder.join("buckets")).map_err(Error::io("create", &folder))?;
        fs::create_dir_all(folder.join("metadata")).map_err(Error::io("create", &folder))?;
        let logs = logs.map_or_else(|| folder.clone(), |kept| kept.join("object-store"));
        fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
        let program = components
            .binary(PROGRAM)
            .map_err(|source| Error::Components { source })?
            .to_owned();
        let link = Link::start().map_err(Error::store("open the link before"))?;
        let mut store = Self {
            log: logs.join(format!("{PROGRAM}.log")),
            access: Access {
                port: link.port(),
                secret: SecretString::from(random(24)?),
            },
            health: format!("/health-{}", random(8)?),
            folder,
            program,
            link,
            port: 0,
            supervisor,
            process: Mutex::new(None),
            patience,
        };
        for tried in 0..=PORTS_TRIED {
            store.port = free_port().map_err(Error::store("find a port for"))?;
            store.spawn()?;
            match store.wait_until_ready().await {
                Err(Error::ObjectStoreExited { tail, .. })
                    if tail.contains("address already in use") && tried < PORTS_TRIED => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        store.link.forward_to(store.port);
        Ok(store)
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// A bucket, made if need be.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_bucket(&self, bucket: &str) -> Result<(), Error> {
        let folder = self.bucket(bucket);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))
    }

    /// URL of the server, with the link before it. Its region is `us-east-1`, its buckets are paths.
    pub fn endpoint(&self) -> String {
        self.access.endpoint()
    }

    /// Access key of the one user there is.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// Secret key of that user.
    pub fn secret_key(&self) -> &SecretString {
        &self.access.secret
    }

    /// The network between the Velero servers and the store, with its faults.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Keys of all objects of a bucket that begin with `prefix`, in order. What is still being uploaded is not
    /// among them, nor is a bucket that nobody made an error.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn objects(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        collect(&self.bucket(bucket), "", &mut keys)?;
        keys.retain(|key| key.starts_with(prefix));
        keys.sort();
        Ok(keys)
    }

    /// The file of an object, to be read or damaged.
    pub fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.bucket(bucket).join(key)
    }

    /// Freezes the server (SIGSTOP): connections stay open and nobody answers.
    ///
    /// # Errors
    /// [`Error::ObjectStore`] when it does not run.
    pub fn pause(&self) -> Result<(), Error> {
        self.supervisor
            .pause(self.process("pause")?)
            .map_err(Error::store("pause"))
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// As [`ObjectStore::pause`].
    pub fn resume(&self) -> Result<(), Error> {
        self.supervisor
            .resume(self.process("resume")?)
            .map_err(Error::store("resume"))
    }

    /// Kills the server (SIGKILL); its objects stay. Killing a dead one does nothing.
    ///
    /// # Errors
    /// [`Error::ObjectStore`] when it cannot be killed.
    pub fn kill(&self) -> Result<(), Error> {
        self.supervisor
            .kill(self.process("kill")?)
            .map_err(Error::store("kill"))
    }

    /// Starts the server again on its port, with its objects; kills it first if it runs.
    ///
    /// # Errors
    /// [`Error::ObjectStoreExited`] or [`Error::ObjectStore`] when it does not come back.
    pub async fn restart(&self) -> Result<(), Error> {
        self.kill()?;
        self.spawn()?;
        self.wait_until_ready().await
    }

    /// Log file of the server; gone with the fleet, unless it was started with [`crate::FleetBuilder::logs`].
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    fn bucket(&self, bucket: &str) -> PathBuf {
        self.folder.join("buckets").join(bucket)
    }

    fn process(&self, action: &'static str) -> Result<ProcessId, Error> {
        let process = *self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.ok_or_else(|| Error::store(action)(io::Error::other("it was never started")))
    }

    fn spawn(&self) -> Result<(), Error> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let args = [
            "--port".into(),
            format!("127.0.0.1:{}", self.port),
            "--health".into(),
            self.health.clone(),
            "--quiet".into(),
            "posix".into(),
            // Not every file system of temporary files has extended attributes.
            "--sidecar".into(),
            path("metadata"),
            path("buckets"),
        ];
        let launch = Launch {
            program: &self.program,
            args: &args,
            env: &[
                ("ROOT_ACCESS_KEY".into(), ACCESS_KEY.into()),
                (
                    "ROOT_SECRET_KEY".into(),
                    self.access.secret.expose_secret().into(),
                ),
            ],
            folder: &self.folder,
            log: &self.log,
        };
        let process = self.supervisor.spawn(&launch).map_err(Error::store("start"))?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    async fn wait_until_ready(&self) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            if let Ok(Ok(true)) = timeout(Duration::from_secs(2), self.is_healthy()).await {
                return Ok(());
            }
            self.check()?;
            if started.elapsed() > self.patience {
                let late = io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time");
                return Err(Error::store("reach")(late));
            }
            sleep(POLL).await;
        }
    }

    async fn is_healthy(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let request = format!("GET {} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", self.health);
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let status = String::from_utf8_lossy(&answer);
        Ok(status.lines().next().is_some_and(|line| line.contains(" 200 ")))
    }

    /// Whether it still runs, is paused, or was killed on purpose.
    ///
    /// # Errors
    /// [`Error::ObjectStoreExited`] with the end of its log.
    pub fn check(&self) -> Result<(), Error> {
        let ended = self
            .supervisor
            .exit_status(self.process("look after")?)
            .map_err(Error::store("look after"))?;
        let Some(status) = ended else { return Ok(()) };
        Err(Error::ObjectStoreExited {
            status: status.to_string(),
            log: self.log.clone(),
            tail: tail(&self.log).map_err(Error::io("read", &self.log))?,
        })
    }
}

fn collect(folder: &Path, above: &str, keys: &mut Vec<String>) -> Result<(), Error> {
    let entries = match fs::read_dir(folder) {
        // Gone since its parent was listed, or never made.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("read", folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("read", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == UNDER_WAY {
            continue;
        }
        let key = format!("{above}{name}");
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{key}/"), keys)?;
        } else {
            keys.push(key);
        }
    }
    Ok(())
}
