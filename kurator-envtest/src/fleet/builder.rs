use std::{
    collections::BTreeSet,
    env,
    io::{self, Write},
    mem,
    path::{self, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    Error, Fleet, Member, MemberSpec, ObjectStore, credentials::random, start::Starting,
    supervisor::Supervisor,
};
use crate::components::{Components, Settings};

/// More at once only makes each of them slower.
const STARTED_AT_ONCE: usize = 4;

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
    pub(super) fn new() -> Self {
        Self {
            members: Vec::new(),
            settings: None,
            patience: Duration::from_secs(120),
            logs: None,
        }
    }

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
    pub async fn start(mut self) -> Result<Fleet, Error> {
        let specs = mem::take(&mut self.members);
        check(&[], &specs)?;
        // Before there is anything to clean up, since it may take minutes and fail.
        self.find_components(&specs).await?;
        // Short: the path of a Unix socket may have about 100 bytes.
        let folder = env::temp_dir().join(format!("kurator-envtest-{}", random(6)?));
        let folder = path::absolute(&folder).map_err(Error::io("name", folder))?;
        let supervisor = Arc::new(Supervisor::start(&folder).map_err(|source| Error::Watchdog { source })?);
        let mut store = None;
        let members = self.start_members(&supervisor, &mut store, specs).await?;
        Ok(Fleet::new(members, supervisor, store, self))
    }

    pub(super) async fn start_members(
        &self,
        supervisor: &Arc<Supervisor>,
        store: &mut Option<ObjectStore>,
        specs: Vec<MemberSpec>,
    ) -> Result<Vec<Member>, Error> {
        let components = Arc::new(self.find_components(&specs).await?);
        self.start_store(supervisor, store, &components, &specs).await?;
        let access = store.as_ref().map(|store| store.access().clone());
        stream::iter(specs)
            .map(|spec| {
                let starting = Starting {
                    spec,
                    components: Arc::clone(&components),
                    supervisor: Arc::clone(supervisor),
                    patience: self.patience,
                    logs: self.logs.clone(),
                    store: access.clone(),
                };
                starting.run()
            })
            .buffered(STARTED_AT_ONCE)
            .try_collect()
            .await
    }

    /// The store of the fleet, if one of these needs it and there is none yet, with their buckets.
    async fn start_store(
        &self,
        supervisor: &Arc<Supervisor>,
        store: &mut Option<ObjectStore>,
        components: &Components,
        specs: &[MemberSpec],
    ) -> Result<(), Error> {
        for velero in specs.iter().filter_map(|spec| spec.velero.as_ref()) {
            if store.is_none() {
                let supervisor = Arc::clone(supervisor);
                let logs = self.logs.as_deref();
                *store = Some(ObjectStore::start(supervisor, components, logs, self.patience).await?);
            }
            if let Some(store) = store {
                store.create_bucket(&velero.bucket)?;
            }
        }
        Ok(())
    }

    /// [`FleetBuilder::start`] for a test without a runtime.
    ///
    /// # Errors
    /// As [`FleetBuilder::start`].
    pub fn start_blocking(self) -> Result<Fleet, Error> {
        block_on(self.start())
    }

    async fn find_components(&self, specs: &[MemberSpec]) -> Result<Components, Error> {
        let settings = match &self.settings {
            Some(settings) => Ok(settings.clone()),
            None => Settings::from_env(),
        };
        let settings = settings.map_err(|source| Error::Components { source })?;
        let mut names = specs.iter().flat_map(MemberSpec::programs).collect::<Vec<_>>();
        names.sort_unstable();
        names.dedup();
        tokio::task::spawn_blocking(move || {
            Components::ensure_binaries(&settings, &names, &mut |step| say(&step.to_string()))
        })
        .await
        .map_err(|source| Error::Runtime {
            source: io::Error::other(source),
        })?
        .map_err(|source| {
            // A test that unwraps shows the fields of an error, not what it says to install.
            say(&source.to_string());
            Error::Components { source }
        })
    }
}

/// Names that can be folders, each of them once.
pub(super) fn check(members: &[Member], specs: &[MemberSpec]) -> Result<(), Error> {
    let mut names = members.iter().map(Member::name).collect::<BTreeSet<_>>();
    for spec in specs {
        spec.check()?;
        if !names.insert(spec.name()) {
            return Err(Error::DuplicateMember {
                member: spec.name().into(),
            });
        }
    }
    Ok(())
}

/// On a thread of its own: the caller may be inside a runtime already.
fn block_on<T: Send>(work: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .map_err(|source| Error::Runtime { source })?
            .block_on(work)
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Past the capture of the test harness: versions and start times belong into the log of a passing run too.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "kurator-envtest: {line}");
}
