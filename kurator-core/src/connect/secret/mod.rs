//! Clients from kubeconfigs in Secrets of the hub.

mod follow;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, Config, Resource, api::GetParams, core::Request};
use tokio::{sync::watch, time::Instant};

use self::follow::Followed;
use super::{ClientPurpose, ClusterConnector, ConnectError, cache::SlotCache};
use crate::{
    kubeconfig::{self, KubeconfigPolicy, KubeconfigRef, KubeconfigSource, kubeconfig_text},
    membership::{Membership, MembershipError},
    names::ClusterName,
};

/// Clients from the kubeconfig Secrets that the members' registrations name.
///
/// # Guarantees
/// - A kubeconfig is used only as far as the [`KubeconfigPolicy`] allows.
/// - A changed Secret (another `resourceVersion`, or another `uid` under the same name) is followed at once, by a watch
///   of the metadata of its namespace's Secrets; a deleted one ends access at once, as does a member that leaves.
///   Where there is no such watch, because it is not allowed, not wanted, or interrupted, it takes up to the recheck
///   interval.
/// - While the hub or the registrations cannot be read, the last known credentials go on being used: not knowing
///   is no reason to lose a member.
/// - At most one read of a Secret at a time for each member; the cache is bounded.
///
/// # RBAC
/// On the hub: `get` on the Secrets, and `list` and `watch` in their namespaces unless
/// [`without_watch`](Self::without_watch) is set.
pub struct SecretConnector {
    hub: Client,
    membership: Box<dyn Membership>,
    policy: KubeconfigPolicy,
    recheck: Duration,
    cache: SlotCache<ClusterName, Cached>,
    followed: Option<Followed>,
}

struct Cached {
    from: KubeconfigRef,
    version: SecretVersion,
    checked: Instant,
    config: Config,
    clients: BTreeMap<ClientPurpose, Client>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SecretVersion {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl SecretVersion {
    fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
        }
    }
}

impl SecretConnector {
    /// How long a kubeconfig is used before its Secret is looked at again, unless set otherwise.
    pub const DEFAULT_RECHECK: Duration = Duration::from_secs(10);
    /// How many members clients are kept for, unless set otherwise.
    pub const DEFAULT_CAPACITY: usize = 4096;

    /// Reads on `hub` the Secrets that `membership` names, and allows nothing but inline credentials over TLS.
    pub fn new(hub: Client, membership: impl Membership) -> Self {
        Self {
            followed: Some(Followed::new(hub.clone())),
            hub,
            membership: Box::new(membership),
            policy: KubeconfigPolicy::default(),
            recheck: Self::DEFAULT_RECHECK,
            cache: SlotCache::new(Self::DEFAULT_CAPACITY),
        }
    }

    /// Sets what kubeconfigs may ask for.
    #[must_use]
    pub fn with_policy(mut self, policy: KubeconfigPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how long a kubeconfig is used before its Secret is looked at again where it is not watched; zero looks every
    /// time, and watches nothing.
    #[must_use]
    pub fn with_recheck(mut self, recheck: Duration) -> Self {
        self.recheck = recheck;
        if recheck.is_zero() {
            self.followed = None;
        }
        self
    }

    /// Watches no Secrets: for hosts that may `get` theirs and must not list others.
    #[must_use]
    pub fn without_watch(mut self) -> Self {
        self.followed = None;
        self
    }

    /// Sets how many members clients are kept for, at least 1. Clients of further members are made anew for each
    /// call, so this should not be below the number of members.
    #[must_use]
    pub fn with_capacity(mut self, capacity: usize) -> Self {
        self.cache = SlotCache::new(capacity);
        self
    }

    fn forget(&self, cluster: &ClusterName) {
        self.cache.remove(cluster);
        if let Some(followed) = &self.followed {
            followed.forget(cluster);
        }
    }

    /// Not `Api::get`: kube logs the whole body when it does not parse.
    async fn read(&self, from: &KubeconfigRef) -> Result<Secret, kube::Error> {
        let url = Secret::url_path(&(), Some(&from.secret.namespace));
        let request = Request::new(url)
            .get(&from.secret.name, &GetParams::default())
            .map_err(kube::Error::BuildRequest)?;
        let text = self.hub.request_text(request).await?;
        serde_json::from_str(&text).map_err(kube::Error::SerdeError)
    }

    /// Whether the Secret is still the one that `cached` was made of, as far as anybody can tell.
    async fn is_current(&self, cluster: &ClusterName, from: &KubeconfigRef, cached: &mut Cached) -> bool {
        let seen = self
            .followed
            .as_ref()
            .and_then(|followed| followed.seen(&from.secret));
        if let Some(seen) = seen {
            return seen.as_ref() == Some(&cached.version);
        }
        if cached.checked.elapsed() < self.recheck {
            return true;
        }
        let secrets: Api<Secret> = Api::namespaced(self.hub.clone(), &from.secret.namespace);
        match secrets.get_metadata(&from.secret.name).await {
            Ok(found) if SecretVersion::of(&found.metadata) == cached.version => {
                cached.checked = Instant::now();
                true
            }
            Ok(_) => false,
            Err(error) if is_not_found(&error) => false,
            Err(error) => {
                tracing::warn!(%cluster, secret = %from.secret, error = %readable(error),
                    "kubeconfig Secret cannot be checked; the last known credentials stay in use");
                true
            }
        }
    }

    async fn refresh(
        &self,
        cluster: &ClusterName,
        from: &KubeconfigRef,
        slot: &mut Option<Cached>,
    ) -> Result<(), ConnectError> {
        if slot.as_ref().is_some_and(|cached| cached.from != *from) {
            *slot = None;
        }
        if let Some(followed) = &self.followed {
            followed.follow(cluster, &from.secret);
        }
        if let Some(cached) = slot
            && self.is_current(cluster, from, cached).await
        {
            return Ok(());
        }
        *slot = None;
        let secret = match self.read(from).await {
            Ok(secret) => secret,
            Err(error) if is_not_found(&error) => {
                return Err(ConnectError::SecretNotFound {
                    cluster: cluster.clone(),
                    secret: from.secret.clone(),
                });
            }
            Err(error) => {
                return Err(ConnectError::SecretUnreadable {
                    cluster: cluster.clone(),
                    secret: from.secret.clone(),
                    source: readable(error),
                });
            }
        };
        let place = from.secret.clone().into();
        let source = KubeconfigSource {
            cluster,
            place: &place,
        };
        let config = kubeconfig_text(cluster, from, &secret)
            .and_then(|text| kubeconfig::parse(source, &text, &self.policy))
            .map_err(|source| ConnectError::Kubeconfig {
                cluster: cluster.clone(),
                source: Box::new(source),
            })?;
        tracing::debug!(%cluster, secret = %from.secret, "kubeconfig read");
        *slot = Some(Cached {
            from: from.clone(),
            version: SecretVersion::of(&secret.metadata),
            checked: Instant::now(),
            config,
            clients: BTreeMap::new(),
        });
        Ok(())
    }
}

impl Cached {
    fn client(&mut self, cluster: &ClusterName, purpose: ClientPurpose) -> Result<Client, ConnectError> {
        if let Some(client) = self.clients.get(&purpose) {
            return Ok(client.clone());
        }
        let client = ConnectError::client(cluster, purpose, self.config.clone())?;
        self.clients.insert(purpose, client.clone());
        Ok(client)
    }
}

#[async_trait]
impl ClusterConnector for SecretConnector {
    async fn client(&self, cluster: &ClusterName, purpose: ClientPurpose) -> Result<Client, ConnectError> {
        let member = match self.membership.member(cluster).await {
            Ok(Some(member)) => Some(member),
            Ok(None) => {
                self.forget(cluster);
                return Err(ConnectError::UnknownCluster {
                    cluster: cluster.clone(),
                });
            }
            Err(error) => {
                let slot = self.cache.slot(cluster);
                if slot.lock().await.is_none() {
                    return Err(unavailable(cluster, error));
                }
                None
            }
        };
        let slot = self.cache.slot(cluster);
        let mut slot = slot.lock().await;
        if let Some(member) = member {
            let Some(from) = member.kubeconfig else {
                *slot = None;
                return Err(ConnectError::NoKubeconfig {
                    cluster: cluster.clone(),
                });
            };
            self.refresh(cluster, &from, &mut slot).await?;
        }
        match slot.as_mut() {
            Some(cached) => cached.client(cluster, purpose),
            None => Err(ConnectError::UnknownCluster {
                cluster: cluster.clone(),
            }),
        }
    }

    async fn invalidate(&self, cluster: &ClusterName) {
        self.cache.remove(cluster);
        if matches!(self.membership.member(cluster).await, Ok(None)) {
            self.forget(cluster);
        }
    }

    async fn follow(&self, cluster: &ClusterName) -> Option<watch::Receiver<u64>> {
        Some(self.followed.as_ref()?.changes(cluster))
    }
}

/// Neither the clients nor the configurations are shown.
impl fmt::Debug for SecretConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretConnector")
            .field("membership", &self.membership)
            .field("policy", &self.policy)
            .field("recheck", &self.recheck)
            .finish_non_exhaustive()
    }
}

fn unavailable(cluster: &ClusterName, source: MembershipError) -> ConnectError {
    ConnectError::Membership {
        cluster: cluster.clone(),
        source: Box::new(source),
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

/// A Secret that does not parse makes serde quote it; everything else kube says is about the request.
fn readable(error: kube::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => "the hub's answer is not a Secret".into(),
        other => Box::new(other),
    }
}
