use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    Error, Member, MemberSpec,
    credentials::{kubeconfig, random},
    start::Starting,
    supervisor::Supervisor,
};
use crate::components::{Components, Settings};

/// More at once only makes each of them slower.
const STARTED_AT_ONCE: usize = 4;

/// Running members. Dropping it kills every process of theirs and removes their folder; so does the end of the
/// test process, whatever ends it.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Member>,
    supervisor: Arc<Supervisor>,
}

impl Fleet {
    /// A fleet to describe and start.
    pub fn builder() -> FleetBuilder {
        FleetBuilder {
            members: Vec::new(),
            settings: None,
            patience: Duration::from_secs(120),
            logs: None,
        }
    }

    /// The members, in the order in which they were described.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A member by its name.
    ///
    /// # Errors
    /// [`Error::UnknownMember`].
    pub fn member(&self, name: &str) -> Result<&Member, Error> {
        self.members
            .iter()
            .find(|member| member.name() == name)
            .ok_or_else(|| Error::UnknownMember { member: name.into() })
    }

    /// A kubeconfig with all rights and a context for each member, under its name.
    pub fn kubeconfig(&self) -> String {
        kubeconfig(&self.members.iter().map(Member::context).collect::<Vec<_>>())
    }

    /// Folder with the data and logs of all members; gone with the fleet.
    pub fn folder(&self) -> &Path {
        self.supervisor.folder()
    }
}

/// Describes a [`Fleet`].
#[derive(Clone, Debug)]
#[must_use]
pub struct FleetBuilder {
    members: Vec<MemberSpec>,
    settings: Option<Settings>,
    patience: Duration,
    logs: Option<PathBuf>,
}

impl FleetBuilder {
    /// Adds a member.
    pub fn member(mut self, spec: MemberSpec) -> Self {
        self.members.push(spec);
        self
    }

    /// Adds members that consist of etcd and an API server.
    pub fn members<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.members.extend(names.into_iter().map(MemberSpec::new));
        self
    }

    /// Where the programs are, in place of the environment's word.
    pub fn components(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Keep the logs in this folder, `<member>/<part>.log`; they are appended to and never removed.
    pub fn logs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.logs = Some(folder.into());
        self
    }

    /// How long a member may take to start, and how long its waits last; 120 s if not said.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts the members, several at once. Programs that are not in the cache are built first, which takes
    /// minutes and is told on standard error, as is a line for each member with its versions and times.
    ///
    /// # Errors
    /// [`Error`]: the programs cannot be had, or a member did not start. Nothing is left behind.
    pub async fn start(self) -> Result<Fleet, Error> {
        for (index, spec) in self.members.iter().enumerate() {
            spec.check()?;
            if self
                .members
                .iter()
                .take(index)
                .any(|other| other.name == spec.name)
            {
                return Err(Error::DuplicateMember {
                    member: spec.name.clone(),
                });
            }
        }
        let components = Arc::new(self.find_components().await?);
        // Short: the path of a Unix socket may have about 100 bytes.
        let folder = env::temp_dir().join(format!("kurator-envtest-{}", random(6)?));
        let supervisor = Arc::new(Supervisor::start(&folder).map_err(|source| Error::Watchdog { source })?);
        let patience = self.patience;
        let logs = self.logs;
        let members = stream::iter(self.members)
            .map(|spec| {
                let starting = Starting {
                    spec,
                    components: Arc::clone(&components),
                    supervisor: Arc::clone(&supervisor),
                    patience,
                    logs: logs.clone(),
                };
                starting.run()
            })
            .buffered(STARTED_AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(Fleet { members, supervisor })
    }

    /// [`FleetBuilder::start`] for a test without a runtime.
    ///
    /// # Errors
    /// As [`FleetBuilder::start`].
    pub fn start_blocking(self) -> Result<Fleet, Error> {
        block_on(self.start())
    }

    async fn find_components(&self) -> Result<Components, Error> {
        let settings = match &self.settings {
            Some(settings) => Ok(settings.clone()),
            None => Settings::from_env(),
        };
        let settings = settings.map_err(|source| Error::Components { source })?;
        let mut names = self
            .members
            .iter()
            .flat_map(MemberSpec::parts)
            .map(|part| part.name())
            .collect::<Vec<_>>();
        names.sort_unstable();
        names.dedup();
        tokio::task::spawn_blocking(move || {
            Components::ensure_binaries(&settings, &names, &mut |step| say(&step.to_string()))
        })
        .await
        .map_err(|source| Error::Watchdog {
            source: io::Error::other(source),
        })?
        .map_err(|source| Error::Components { source })
    }
}

/// On a thread of its own: the caller may be inside a runtime already.
fn block_on<T: Send>(work: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .map_err(|source| Error::Watchdog { source })?
            .block_on(work)
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Past the capture of the test harness: versions and start times belong into the log of a passing run too.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "kurator-envtest: {line}");
}
