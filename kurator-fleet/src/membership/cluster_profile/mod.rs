//! The clusters of an inventory (`ClusterProfile`, sigs.k8s.io/cluster-inventory-api) as members.

mod access;
mod object;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::FutureExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::config::{AuthInfo, Cluster};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, Config, ResourceExt};
use kurator_core::connect::{ClientPurpose, ClusterConnector, ConnectError, SecretConnector};
use kurator_core::kubeconfig::{
    KubeconfigError, KubeconfigPlace, KubeconfigPolicy, KubeconfigRef, KubeconfigSource, accept,
};
use kurator_core::membership::{HubMirror, Member, Membership, MembershipError, MergedChanges};
use kurator_core::names::{ClusterName, FleetName, NamespacedName};
use tokio::sync::watch;
use tokio::time::Instant;

use self::access::{BoxError, Way};
pub use self::access::{ClusterAccess, CredentialPlugin, Credentials};
use self::object::{Access, Profile, profile};

const CONSUMER: &str = "x-k8s.io/cluster-inventory-consumer";
const OF_PROFILE: &str = "x-k8s.io/cluster-profile";
const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";

/// Which inventory to read, and what of it to use. Nothing is used that is not said here: an inventory that names an
/// access provider cannot make this process run anything.
#[derive(Clone)]
#[must_use = "call `watch` to read the inventory"]
pub struct ClusterProfileOptions {
    namespace: Option<String>,
    labels: Option<String>,
    version: String,
    consumer: Option<String>,
    secret_key: String,
    ways: BTreeMap<String, Way>,
    policy: KubeconfigPolicy,
}

impl fmt::Debug for ClusterProfileOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterProfileOptions")
            .field("namespace", &self.namespace)
            .field("labels", &self.labels)
            .field("version", &self.version)
            .field("consumer", &self.consumer)
            .field("ways", &self.ways)
            .finish_non_exhaustive()
    }
}

impl Default for ClusterProfileOptions {
    fn default() -> Self {
        Self {
            namespace: None,
            labels: None,
            version: "v1alpha1".to_owned(),
            consumer: None,
            secret_key: "Config".to_owned(),
            ways: BTreeMap::new(),
            policy: KubeconfigPolicy::default(),
        }
    }
}

impl ClusterProfileOptions {
    /// Reads the profiles of one namespace; of all of them otherwise.
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Reads the profiles of one cluster manager, by the label `x-k8s.io/cluster-manager`.
    pub fn of_manager(self, manager: &str) -> Self {
        self.with_labels(format!("x-k8s.io/cluster-manager={manager}"))
    }

    /// Reads the profiles that a label selector selects.
    pub fn with_labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// The version of `multicluster.x-k8s.io` that the hub serves. Default `v1alpha1`.
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Uses kubeconfigs in Secrets beside the profiles, labelled `x-k8s.io/cluster-inventory-consumer` with the name of
    /// this consumer and `x-k8s.io/cluster-profile` with that of the profile, under the key `Config` (KEP-4322, as
    /// multicluster-runtime reads it). They go before access providers. Of several for one profile the first in order of
    /// their names counts.
    pub fn with_secrets_for(mut self, consumer: impl Into<String>) -> Self {
        self.consumer = Some(consumer.into());
        self
    }

    /// The key of these Secrets, where it is another.
    pub fn with_secret_key(mut self, key: impl Into<String>) -> Self {
        self.secret_key = key.into();
        self
    }

    /// Uses the access provider of this name with credentials that `source` gives. What it answers is kept for each
    /// member until it runs out or is refused.
    pub fn with_credentials<F, Fut, E>(mut self, provider: impl Into<String>, source: F) -> Self
    where
        F: Fn(ClusterAccess) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let source = move |access| source(access).map(|given| given.map_err(Into::into)).boxed();
        self.ways.insert(provider.into(), Way::Given(Arc::new(source)));
        self
    }

    /// Uses the access provider of this name with credentials that a program gets.
    pub fn with_plugin(mut self, provider: impl Into<String>, plugin: CredentialPlugin) -> Self {
        self.ways.insert(provider.into(), Way::Plugin(plugin));
        self
    }

    /// What kubeconfigs and profiles may ask of this process.
    pub fn with_policy(mut self, policy: KubeconfigPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Reads the inventory on `hub`. Call within a tokio runtime; dropping the value ends it.
    ///
    /// # RBAC
    /// On the hub: list and watch `clusterprofiles.multicluster.x-k8s.io`; with
    /// [`with_secrets_for`](Self::with_secrets_for) also get, list and watch Secrets.
    pub fn watch(self, hub: &Client) -> ClusterProfiles {
        let kind = GroupVersionKind::gvk("multicluster.x-k8s.io", &self.version, "ClusterProfile");
        let resource = ApiResource::from_gvk_with_plural(&kind, "clusterprofiles");
        let api: Api<DynamicObject> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(hub.clone(), namespace, &resource),
            None => Api::all_with(hub.clone(), &resource),
        };
        let config = self
            .labels
            .as_ref()
            .map_or_else(watcher::Config::default, |labels| {
                watcher::Config::default().labels(labels)
            });
        let profiles = HubMirror::watch(api, config, profile);
        let secrets = self.consumer.as_ref().map(|consumer| {
            let api: Api<PartialObjectMeta<Secret>> = match &self.namespace {
                Some(namespace) => Api::namespaced(hub.clone(), namespace),
                None => Api::all(hub.clone()),
            };
            let labels = format!("{CONSUMER}={consumer},{OF_PROFILE}");
            HubMirror::watch(api, watcher::Config::default().labels(&labels), of_profile)
        });
        let sources = [Some(profiles.changes()), secrets.as_ref().map(HubMirror::changes)];
        let inventory = Arc::new(Inventory {
            changes: MergedChanges::of(sources.into_iter().flatten()),
            profiles,
            secrets,
            secret_key: self.secret_key,
        });
        let by_secret =
            SecretConnector::new(hub.clone(), Arc::clone(&inventory)).with_policy(self.policy.clone());
        ClusterProfiles {
            inventory,
            by_secret,
            ways: self.ways,
            policy: self.policy,
            made: Mutex::default(),
        }
    }
}

fn of_profile(secret: &PartialObjectMeta<Secret>) -> Option<NamespacedName> {
    let profile = secret.labels().get(OF_PROFILE).filter(|name| !name.is_empty())?;
    Some(NamespacedName::new(secret.namespace()?, profile.clone()))
}

/// What the hub says about the inventory.
#[derive(Debug)]
struct Inventory {
    profiles: HubMirror<Profile>,
    /// Which profile each labelled Secret is for.
    secrets: Option<HubMirror<NamespacedName>>,
    secret_key: String,
    changes: MergedChanges,
}

impl Inventory {
    /// The profiles by the names of their members; of two with one name the one whose namespace comes first counts.
    fn read(&self) -> Result<BTreeMap<ClusterName, Profile>, MembershipError> {
        let unread = || MembershipError::Unavailable {
            source: "the inventory has not been read yet".into(),
        };
        let profiles = self.profiles.entries().ok_or_else(unread)?;
        let mut secrets = BTreeMap::new();
        if let Some(mirror) = &self.secrets {
            for ((namespace, name), profile) in mirror.entries().ok_or_else(unread)? {
                secrets
                    .entry(profile)
                    .or_insert_with(|| NamespacedName::new(namespace, name));
            }
        }
        let mut members = BTreeMap::new();
        for mut profile in profiles.into_values() {
            profile.member.kubeconfig = secrets
                .get(&profile.at)
                .map(|secret| KubeconfigRef::new(secret.clone()).with_key(&*self.secret_key));
            members.entry(profile.member.name.clone()).or_insert(profile);
        }
        Ok(members)
    }
}

#[async_trait]
impl Membership for Inventory {
    async fn members(&self, fleet: Option<&FleetName>) -> Result<Vec<Member>, MembershipError> {
        if let Some(fleet) = fleet {
            return Err(MembershipError::FleetNotFound { fleet: fleet.clone() });
        }
        Ok(self.read()?.into_values().map(|profile| profile.member).collect())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// The clusters of an inventory, and the way to them: every `ClusterProfile` is a member of the name it bears (one made
/// of it where it is no RFC 1123 label), with its labels, and with the region and zone that its properties name.
///
/// A member is reached by a kubeconfig in a Secret, or by an access provider of its `status.accessProviders` (in older
/// inventories `credentialProviders`) for which the host has said where credentials come from. What neither leads to is
/// registered and has no client. The inventory's own conditions are not relied on: members are probed.
///
/// ```no_run
/// use std::sync::Arc;
/// use kurator_core::{clock::SystemClock, multicluster::{Members, MembersOptions}};
/// use kurator_fleet::membership::{ClusterProfileOptions, Credentials};
///
/// # async fn token_for(server: String) -> Result<String, std::io::Error> { Ok(server) }
/// # fn start(hub: kube::Client) {
/// let inventory = ClusterProfileOptions::default()
///     .of_manager("open-cluster-management")
///     .with_credentials("open-cluster-management", |access| async move {
///         token_for(access.server).await.map(Credentials::token)
///     })
///     .watch(&hub);
/// let inventory = Arc::new(inventory);
/// let (membership, connector) = (Arc::clone(&inventory), inventory);
/// let options = MembersOptions::default();
/// let members = Members::start(membership, connector, None, None, options, &SystemClock::new());
/// # }
/// ```
pub struct ClusterProfiles {
    inventory: Arc<Inventory>,
    by_secret: SecretConnector,
    ways: BTreeMap<String, Way>,
    policy: KubeconfigPolicy,
    made: Mutex<BTreeMap<ClusterName, Made>>,
}

/// Clients made of one way of access.
struct Made {
    of: Access,
    config: Config,
    /// When the credentials are asked for anew.
    until: Option<Instant>,
    clients: BTreeMap<ClientPurpose, Client>,
}

/// Neither clients nor configurations are shown.
impl fmt::Debug for ClusterProfiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterProfiles")
            .field("inventory", &self.inventory)
            .field("ways", &self.ways)
            .finish_non_exhaustive()
    }
}

impl ClusterProfiles {
    fn made(&self) -> MutexGuard<'_, BTreeMap<ClusterName, Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn profile(&self, cluster: &ClusterName) -> Result<Profile, ConnectError> {
        let mut profiles = self.inventory.read().map_err(|source| ConnectError::Membership {
            cluster: cluster.clone(),
            source: Box::new(source),
        })?;
        profiles
            .remove(cluster)
            .ok_or_else(|| ConnectError::UnknownCluster {
                cluster: cluster.clone(),
            })
    }

    /// A client that was made of this way of access, or one of the configuration kept from then.
    fn kept(
        &self,
        cluster: &ClusterName,
        access: &Access,
        purpose: ClientPurpose,
    ) -> Result<Option<Client>, ConnectError> {
        let mut made = self.made();
        let Some(kept) = made.get_mut(cluster) else {
            return Ok(None);
        };
        if kept.of != *access || kept.until.is_some_and(|until| until <= Instant::now()) {
            made.remove(cluster);
            return Ok(None);
        }
        if let Some(client) = kept.clients.get(&purpose) {
            return Ok(Some(client.clone()));
        }
        let client = ConnectError::client(cluster, purpose, kept.config.clone())?;
        kept.clients.insert(purpose, client.clone());
        Ok(Some(client))
    }

    async fn make(&self, profile: &Profile, access: &Access, way: &Way) -> Result<Made, ConnectError> {
        let cluster = &profile.member.name;
        let place = KubeconfigPlace::ClusterProfile(profile.at.clone());
        let source = KubeconfigSource {
            cluster,
            place: &place,
        };
        let refused = |source| ConnectError::Kubeconfig {
            cluster: cluster.clone(),
            source: Box::new(source),
        };
        let offered: Cluster = serde_json::from_value(access.cluster.clone()).map_err(|_| {
            refused(KubeconfigError::Invalid {
                cluster: cluster.clone(),
                place: place.clone(),
                field: "status.accessProviders[].cluster",
                problem: "is not in the form of a kubeconfig's cluster",
            })
        })?;
        // Nobody is asked for credentials that would go where they must not.
        accept(source, &offered, AuthInfo::default(), None, &self.policy).map_err(refused)?;
        let (user, policy, lifetime) = match way {
            Way::Plugin(plugin) => {
                let policy = self.policy.clone().with_exec_command(plugin.command());
                (plugin.user(), policy, None)
            }
            Way::Given(given) => {
                let extensions = offered.extensions.iter().flatten();
                let config = extensions
                    .into_iter()
                    .find(|extension| extension.name == EXEC_EXTENSION)
                    .map(|extension| extension.extension.clone());
                let wanted = ClusterAccess {
                    cluster: cluster.clone(),
                    profile: profile.at.clone(),
                    server: offered.server.clone().unwrap_or_default(),
                    config,
                };
                let credentials = given(wanted).await.map_err(|source| ConnectError::Credentials {
                    cluster: cluster.clone(),
                    provider: access.name.clone(),
                    source,
                })?;
                let lifetime = credentials.lifetime;
                (credentials.user(), self.policy.clone(), lifetime)
            }
        };
        let config = accept(source, &offered, user, None, &policy).map_err(refused)?;
        Ok(Made {
            of: access.clone(),
            config,
            until: lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime / 4 * 3)),
            clients: BTreeMap::new(),
        })
    }
}

#[async_trait]
impl Membership for ClusterProfiles {
    async fn members(&self, fleet: Option<&FleetName>) -> Result<Vec<Member>, MembershipError> {
        self.inventory.members(fleet).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inventory.changes()
    }
}

#[async_trait]
impl ClusterConnector for ClusterProfiles {
    async fn client(&self, cluster: &ClusterName, purpose: ClientPurpose) -> Result<Client, ConnectError> {
        let profile = self.profile(cluster)?;
        if profile.member.kubeconfig.is_some() {
            return self.by_secret.client(cluster, purpose).await;
        }
        let usable = profile
            .access
            .iter()
            .find_map(|access| Some((access, self.ways.get(&access.name)?)));
        let Some((access, way)) = usable else {
            return Err(ConnectError::NoAccess {
                cluster: cluster.clone(),
                offered: profile.access.iter().map(|access| access.name.clone()).collect(),
            });
        };
        if let Some(client) = self.kept(cluster, access, purpose)? {
            return Ok(client);
        }
        let mut made = self.make(&profile, access, way).await?;
        let client = ConnectError::client(cluster, purpose, made.config.clone())?;
        made.clients.insert(purpose, client.clone());
        self.made().insert(cluster.clone(), made);
        Ok(client)
    }

    async fn invalidate(&self, cluster: &ClusterName) {
        self.made().remove(cluster);
        self.by_secret.invalidate(cluster).await;
    }

    async fn follow(&self, cluster: &ClusterName) -> Option<watch::Receiver<u64>> {
        match self.profile(cluster) {
            Ok(profile) if profile.member.kubeconfig.is_some() => self.by_secret.follow(cluster).await,
            _ => Some(self.inventory.changes()),
        }
    }
}
