//! The contexts of a kubeconfig file as members: for tools and for development.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Member, Membership, MembershipError};
use crate::connect::{ClientPurpose, ClusterConnector, ConnectError};
use crate::names::{ClusterName, FleetName, bounded_name};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Every context of a kubeconfig file is a member, and this is the way to it.
///
/// A context whose name is not an RFC 1123 label gets one made of it by [`bounded_name`]. The file is followed: it is
/// looked at whenever a client is asked for, and every two seconds as long as somebody waits for
/// [`changes`](Membership::changes).
///
/// # Caveats
/// The file is the user's own, so nothing in it is refused: it may run programs and read other files. Kubeconfigs that
/// someone else wrote belong in a Secret, read by [`SecretConnector`](crate::connect::SecretConnector).
pub struct KubeconfigContexts {
    shared: Arc<Shared>,
    following: OnceLock<DropGuard>,
}

struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    /// It has been said that the file cannot be read.
    told: AtomicBool,
}

struct State {
    read: Option<SystemTime>,
    file: Kubeconfig,
    contexts: BTreeMap<ClusterName, String>,
    clients: BTreeMap<(ClusterName, ClientPurpose), Client>,
}

impl fmt::Debug for KubeconfigContexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contexts = self.shared.lock().contexts.clone();
        f.debug_struct("KubeconfigContexts")
            .field("path", &self.shared.path)
            .field("contexts", &contexts)
            .finish_non_exhaustive()
    }
}

impl KubeconfigContexts {
    /// Reads a file.
    ///
    /// # Errors
    /// kube's error when the file cannot be read or is no kubeconfig.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, KubeconfigError> {
        let path = path.as_ref().to_owned();
        let state = State::read(&path)?;
        let shared = Shared {
            path,
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            told: AtomicBool::new(false),
        };
        Ok(Self {
            shared: Arc::new(shared),
            following: OnceLock::new(),
        })
    }

    /// From the first time somebody waits for changes; whoever never does has no runtime for it, perhaps.
    fn follow(&self) {
        self.following.get_or_init(|| {
            let stop = CancellationToken::new();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                let (shared, stopped) = (Arc::clone(&self.shared), stop.clone());
                runtime.spawn(async move {
                    let look = async {
                        loop {
                            tokio::time::sleep(LOOK).await;
                            shared.refresh();
                        }
                    };
                    stopped.run_until_cancelled(look).await
                });
            }
            stop.drop_guard()
        });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again if it has changed. A file that is being written just now is read next time.
    fn refresh(&self) {
        if self.lock().read == modified(&self.path) {
            return;
        }
        match State::read(&self.path) {
            Ok(state) => {
                *self.lock() = state;
                self.told.store(false, Ordering::Relaxed);
                self.changes.send_modify(|revision| *revision += 1);
            }
            Err(_) => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(path = %self.path.display(), "kubeconfig cannot be read; the last one stays in use");
                }
            }
        }
    }
}

impl State {
    fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let read = modified(path);
        let file = Kubeconfig::read_from(path)?;
        let name = |context: &str| context.parse().or_else(|_| bounded_name([context]).parse());
        let contexts = file
            .contexts
            .iter()
            .filter_map(|context| Some((name(&context.name).ok()?, context.name.clone())))
            .collect();
        Ok(Self {
            read,
            file,
            contexts,
            clients: BTreeMap::new(),
        })
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}

#[async_trait]
impl Membership for KubeconfigContexts {
    async fn members(&self, fleet: Option<&FleetName>) -> Result<Vec<Member>, MembershipError> {
        match fleet {
            Some(fleet) => Err(MembershipError::FleetNotFound { fleet: fleet.clone() }),
            None => Ok(self
                .shared
                .lock()
                .contexts
                .keys()
                .cloned()
                .map(Member::new)
                .collect()),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.follow();
        self.shared.changes.subscribe()
    }
}

#[async_trait]
impl ClusterConnector for KubeconfigContexts {
    async fn client(&self, cluster: &ClusterName, purpose: ClientPurpose) -> Result<Client, ConnectError> {
        self.shared.refresh();
        let key = (cluster.clone(), purpose);
        let (file, context) = {
            let state = self.shared.lock();
            if let Some(client) = state.clients.get(&key) {
                return Ok(client.clone());
            }
            let unknown = || ConnectError::UnknownCluster {
                cluster: cluster.clone(),
            };
            (
                state.file.clone(),
                state.contexts.get(cluster).cloned().ok_or_else(unknown)?,
            )
        };
        let unusable = |problem| ConnectError::Client {
            cluster: cluster.clone(),
            purpose,
            problem,
        };
        let options = KubeConfigOptions {
            context: Some(context),
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(|_| unusable("its context does not name a cluster and a user that the file holds"))?;
        purpose.policy().apply_to(&mut config);
        let client = Client::try_from(config)
            .map_err(|_| unusable("its certificates, keys or authentication cannot be loaded"))?;
        self.shared.lock().clients.insert(key, client.clone());
        Ok(client)
    }

    async fn invalidate(&self, cluster: &ClusterName) {
        self.shared.lock().clients.retain(|(name, _), _| name != cluster);
    }

    async fn follow(&self, _: &ClusterName) -> Option<watch::Receiver<u64>> {
        Some(self.changes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(contexts: &[&str]) -> String {
        let contexts: String = contexts
            .iter()
            .map(|name| format!("- {{name: '{name}', context: {{cluster: c, user: u}}}}\n"))
            .collect();
        format!(
            "clusters: [{{name: c, cluster: {{server: 'https://10.0.0.1'}}}}]\n\
             users: [{{name: u, user: {{token: c4n4ry}}}}]\ncontexts:\n{contexts}"
        )
    }

    #[tokio::test]
    async fn contexts_are_members_also_those_with_unruly_names_and_the_file_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(
            &path,
            kubeconfig(&["east", "arn:aws:eks:eu-west-1:1:cluster/West"]),
        )
        .unwrap();
        let contexts = KubeconfigContexts::read(&path).unwrap();
        let names = |members: Vec<Member>| {
            members
                .into_iter()
                .map(|it| it.name.to_string())
                .collect::<Vec<_>>()
        };
        let found = names(contexts.members(None).await.unwrap());
        assert_eq!(found.len(), 2);
        assert!(
            found[0].starts_with("arn-aws-eks-eu-west-1-1-cluster-west-"),
            "{found:?}"
        );
        assert_eq!(found[1], "east");
        contexts
            .client(&"east".parse().unwrap(), ClientPurpose::Probe)
            .await
            .unwrap();
        assert!(!format!("{contexts:?}").contains("c4n4ry"));

        let mut changes = contexts.changes();
        std::fs::write(&path, kubeconfig(&["north"])).unwrap();
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(later)
            .unwrap();
        let error = contexts
            .client(&"east".parse().unwrap(), ClientPurpose::Probe)
            .await
            .err()
            .unwrap();
        assert_eq!(error.reason(), "UnknownCluster");
        changes.changed().await.unwrap();
        assert_eq!(names(contexts.members(None).await.unwrap()), ["north"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_context_that_is_added_to_an_empty_file_is_noticed_without_anybody_asking_for_a_client() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, "contexts: []").unwrap();
        let contexts = KubeconfigContexts::read(&path).unwrap();
        let mut changes = contexts.changes();
        std::fs::write(&path, kubeconfig(&["north"])).unwrap();
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(later).unwrap();
        changes.changed().await.unwrap();
        assert_eq!(contexts.members(None).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn contexts_that_differ_only_beyond_the_63rd_character_are_two_members() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let long = "x".repeat(70);
        std::fs::write(&path, kubeconfig(&[&format!("{long}-a"), &format!("{long}-b")])).unwrap();
        let members = KubeconfigContexts::read(&path)
            .unwrap()
            .members(None)
            .await
            .unwrap();
        assert_eq!(members.len(), 2);
        assert!(
            members.iter().all(|member| member.name.as_str().len() <= 63),
            "{members:?}"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        assert!(KubeconfigContexts::read("/nonexistent/kubeconfig").is_err());
    }
}
