use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, Config, Resource, api::GetParams, core::Request};
use tokio::time::Instant;

use super::{ClientPurpose, ClusterConnector, ConnectError, cache::SlotCache, error::client_problem};
use crate::{
    kubeconfig::{self, KubeconfigPolicy, KubeconfigRef, KubeconfigSource, kubeconfig_text},
    membership::{Membership, MembershipError},
    names::ClusterName,
};

/// Clients from the kubeconfig Secrets that the members' registrations name.
///
/// # Guarantees
/// - A kubeconfig is used only as far as the [`KubeconfigPolicy`] allows.
/// - A changed Secret (another `resourceVersion`, or another `uid` under the same name) is followed within the
///   recheck interval; a deleted one ends access within it, as does a member that leaves.
/// - While the hub or the registrations cannot be read, the last known credentials go on being used: not knowing
///   is no reason to lose a member.
/// - At most one read of a Secret at a time for each member; the cache is bounded.
///
/// # RBAC
/// On the hub: `get` on the Secrets.
pub struct SecretConnector {
    hub: Client,
    membership: Box<dyn Membership>,
    policy: KubeconfigPolicy,
    recheck: Duration,
    cache: SlotCache<ClusterName, Cached>,
}

struct Cached {
    from: KubeconfigRef,
    version: SecretVersion,
    checked: Instant,
    config: Config,
    clients: BTreeMap<ClientPurpose, Client>,
}

#[derive(PartialEq, Eq)]
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

    /// Sets how long a kubeconfig is used before its Secret is looked at again; zero looks every time.
    #[must_use]
    pub fn with_recheck(mut self, recheck: Duration) -> Self {
        self.recheck = recheck;
        self
    }

    /// Sets how many members clients are kept for, at least 1. Clients of further members are made anew for each
    /// call, so this should not be below the number of members.
    #[must_use]
    pub fn with_capacity(mut self, capacity: usize) -> Self {
        self.cache = SlotCache::new(capacity);
        self
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

    async fn refresh(
        &self,
        cluster: &ClusterName,
        from: &KubeconfigRef,
        slot: &mut Option<Cached>,
    ) -> Result<(), ConnectError> {
        if slot.as_ref().is_some_and(|cached| cached.from != *from) {
            *slot = None;
        }
        let secrets: Api<Secret> = Api::namespaced(self.hub.clone(), &from.secret.namespace);
        if let Some(cached) = slot {
            if cached.checked.elapsed() < self.recheck {
                return Ok(());
            }
            match secrets.get_metadata(&from.secret.name).await {
                Ok(found) if SecretVersion::of(&found.metadata) == cached.version => {
                    cached.checked = Instant::now();
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    tracing::warn!(%cluster, secret = %from.secret, error = %readable(error),
                        "kubeconfig Secret cannot be checked; the last known credentials stay in use");
                    return Ok(());
                }
            }
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
        let source = KubeconfigSource {
            cluster,
            secret: &from.secret,
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
        let mut config = self.config.clone();
        purpose.policy().apply_to(&mut config);
        let client = Client::try_from(config).map_err(|error| ConnectError::Client {
            cluster: cluster.clone(),
            purpose,
            problem: client_problem(&error),
        })?;
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
                self.cache.remove(cluster);
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        membership::{Member, StaticMembership},
        names::NamespacedName,
        wire::{Log, failure, server},
    };

    const CANARY: &str = "c4n4ry";

    /// A hub with one Secret whose state the test sets.
    struct Hub {
        connector: SecretConnector,
        membership: Arc<StaticMembership>,
        secret: Arc<Mutex<(u16, Value)>>,
        log: Log,
    }

    fn secret(uid: &str, version: &str, kubeconfig: &str) -> (u16, Value) {
        use k8s_openapi::ByteString;
        let value = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "a", "namespace": "fleet", "uid": uid, "resourceVersion": version},
            "data": {"value": ByteString(kubeconfig.as_bytes().to_vec())},
        });
        (200, value)
    }

    fn kubeconfig(user: &str) -> String {
        format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://10.0.0.1:6443'}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    fn name() -> ClusterName {
        "a".parse().unwrap()
    }

    fn hub() -> Hub {
        let at = KubeconfigRef::new(NamespacedName::new("fleet", "a"));
        let membership: Arc<StaticMembership> =
            Arc::new([Member::new(name()).with_kubeconfig(at)].into_iter().collect());
        let answer = Arc::new(Mutex::new(secret("1", "1", &kubeconfig("token: t"))));
        let secret = Arc::clone(&answer);
        let (client, log) = server(move |_| answer.lock().unwrap().clone());
        let connector = SecretConnector::new(client, Arc::clone(&membership));
        Hub {
            connector,
            membership,
            secret,
            log,
        }
    }

    impl Hub {
        async fn connect(&self) -> Result<Client, ConnectError> {
            self.connector.client(&name(), ClientPurpose::Control).await
        }

        fn set(&self, answer: (u16, Value)) {
            *self.secret.lock().unwrap() = answer;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_read_once_and_looked_at_again_after_the_recheck_interval() {
        let hub = hub();
        for purpose in ClientPurpose::ALL {
            hub.connector.client(&name(), purpose).await.unwrap();
        }
        assert_eq!(hub.log.lines(), ["GET /api/v1/namespaces/fleet/secrets/a"]);

        tokio::time::advance(SecretConnector::DEFAULT_RECHECK).await;
        hub.connect().await.unwrap();
        hub.connect().await.unwrap();
        assert_eq!(
            hub.log.take().len(),
            1,
            "one look at the metadata, no second read"
        );

        tokio::time::advance(SecretConnector::DEFAULT_RECHECK).await;
        hub.set(secret("1", "2", &kubeconfig("token: u")));
        hub.connect().await.unwrap();
        assert_eq!(hub.log.take().len(), 2, "metadata, then the changed Secret");
    }

    #[tokio::test]
    async fn a_secret_made_anew_under_the_same_name_is_noticed() {
        let mut hub = hub();
        hub.connector = hub.connector.with_recheck(Duration::ZERO);
        hub.connect().await.unwrap();
        hub.set(secret("2", "1", &kubeconfig("exec: {command: sh}")));
        let error = hub.connect().await.err().unwrap();
        assert_eq!(error.reason(), "KubeconfigExecRefused");
    }

    #[tokio::test]
    async fn a_deleted_secret_ends_access_and_an_unreadable_one_does_not() {
        let mut hub = hub();
        hub.connector = hub.connector.with_recheck(Duration::ZERO);
        hub.connect().await.unwrap();
        hub.set(failure(500, "InternalError", "etcd is away"));
        hub.connect().await.unwrap();
        hub.set(failure(404, "NotFound", "no such secret"));
        assert_eq!(
            hub.connect().await.err().unwrap().reason(),
            "KubeconfigSecretNotFound"
        );
        hub.set(failure(403, "Forbidden", "no"));
        let error = hub.connect().await.err().unwrap();
        assert_eq!(
            (error.reason(), error.is_retryable()),
            ("KubeconfigSecretUnreadable", true)
        );
    }

    #[tokio::test]
    async fn a_member_that_leaves_or_has_no_kubeconfig_has_no_client() {
        let hub = hub();
        hub.connect().await.unwrap();
        hub.membership.join(Member::new(name()));
        assert_eq!(hub.connect().await.err().unwrap().reason(), "KubeconfigMissing");
        hub.membership.leave(&name());
        assert_eq!(hub.connect().await.err().unwrap().reason(), "UnknownCluster");
    }

    #[tokio::test]
    async fn invalidating_reads_the_secret_again() {
        let hub = hub();
        hub.connect().await.unwrap();
        hub.connector.invalidate(&name()).await;
        hub.connect().await.unwrap();
        assert_eq!(hub.log.take().len(), 2);
    }

    #[tokio::test]
    async fn no_credential_shows_in_debug_output_or_in_an_error() {
        let mut hub = hub();
        hub.connector = hub.connector.with_recheck(Duration::ZERO);
        let mut shown = String::new();
        let user = format!("token: {CANARY}, password: {CANARY}, username: {CANARY}");
        for (version, text) in [
            ("2", kubeconfig(&user)),
            ("3", kubeconfig(&format!("token: [{CANARY}"))),
            (
                "4",
                kubeconfig(&format!(
                    "client-certificate-data: {CANARY}, client-key-data: {CANARY}"
                )),
            ),
            ("5", kubeconfig(&format!("exec: {{command: {CANARY}}}"))),
        ] {
            hub.set(secret("1", version, &text));
            if let Err(error) = hub.connect().await {
                shown += &format!("{error} {error:?}");
                let mut source = std::error::Error::source(&error);
                while let Some(inner) = source {
                    shown += &format!(" {inner} {inner:?}");
                    source = inner.source();
                }
            }
            shown += &format!("{:?}", hub.connector);
        }
        // A Secret that does not even parse: serde would quote it.
        hub.set((
            200,
            json!({"kind": "Secret", "metadata": {"name": "a"}, "data": {"value": [CANARY]}}),
        ));
        hub.connector.invalidate(&name()).await;
        let error = hub.connect().await.err().unwrap();
        shown += &format!("{error:?}");
        assert!(
            shown.contains("KubeconfigExecRefused") || shown.contains("ExecRefused"),
            "{shown}"
        );
        assert!(!shown.contains(CANARY), "{shown}");
    }
}
