use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use kube::{Client, Config};
use tokio::sync::watch;

use super::{ClientPurpose, ClusterConnector, ConnectError};
use crate::names::ClusterName;

/// Clients the host has made, one a member for every purpose: tests, tools for one cluster, hosts with
/// connections of their own.
///
/// # Caveats
/// The same client serves every purpose. Make it with `default_retry = false` if it is to evict or to hold
/// leases: see [`ClientPurpose::policy`].
#[derive(Clone, Default)]
pub struct StaticConnector {
    clients: BTreeMap<ClusterName, Client>,
}

impl StaticConnector {
    /// Adds or replaces the client of a member.
    #[must_use]
    pub fn with_client(mut self, cluster: ClusterName, client: Client) -> Self {
        self.clients.insert(cluster, client);
        self
    }
}

impl std::fmt::Debug for StaticConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.clients.keys()).finish()
    }
}

#[async_trait]
impl ClusterConnector for StaticConnector {
    async fn client(&self, cluster: &ClusterName, _: ClientPurpose) -> Result<Client, ConnectError> {
        let unknown = || ConnectError::UnknownCluster {
            cluster: cluster.clone(),
        };
        self.clients.get(cluster).cloned().ok_or_else(unknown)
    }

    async fn invalidate(&self, _: &ClusterName) {}
}

/// Makes the cluster this process runs in (or any other the host has a configuration of) a member, beside those
/// of another connector.
#[derive(Clone)]
pub struct InClusterConnector {
    name: ClusterName,
    clients: BTreeMap<ClientPurpose, Client>,
    others: Arc<dyn ClusterConnector>,
}

impl InClusterConnector {
    /// The cluster of `config` (say [`Config::incluster`], or [`Config::infer`] outside a cluster) under `name`;
    /// every other member comes from `others`.
    ///
    /// # Errors
    /// [`ConnectError::Client`] if the configuration cannot be used.
    pub fn new(
        name: ClusterName,
        config: &Config,
        others: Arc<dyn ClusterConnector>,
    ) -> Result<Self, ConnectError> {
        let mut clients = BTreeMap::new();
        for purpose in ClientPurpose::ALL {
            let client = ConnectError::client(&name, purpose, config.clone())?;
            clients.insert(purpose, client);
        }
        Ok(Self {
            name,
            clients,
            others,
        })
    }
}

impl std::fmt::Debug for InClusterConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InClusterConnector")
            .field("name", &self.name)
            .field("others", &self.others)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ClusterConnector for InClusterConnector {
    async fn client(&self, cluster: &ClusterName, purpose: ClientPurpose) -> Result<Client, ConnectError> {
        match self.clients.get(&purpose) {
            Some(client) if *cluster == self.name => Ok(client.clone()),
            _ => self.others.client(cluster, purpose).await,
        }
    }

    async fn invalidate(&self, cluster: &ClusterName) {
        if *cluster != self.name {
            self.others.invalidate(cluster).await;
        }
    }

    async fn follow(&self, cluster: &ClusterName) -> Option<watch::Receiver<u64>> {
        if *cluster == self.name {
            return None;
        }
        self.others.follow(cluster).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_own_cluster_is_a_member_beside_the_others() {
        let (own, other): (ClusterName, ClusterName) = ("own".parse().unwrap(), "other".parse().unwrap());
        let mut config = Config::new("https://10.0.0.1".parse().unwrap());
        config.default_namespace = "own".to_owned();
        let given = Client::try_from(Config::new("https://10.0.0.2".parse().unwrap())).unwrap();
        let others = StaticConnector::default().with_client(other.clone(), given);
        let connector = InClusterConnector::new(own.clone(), &config, Arc::new(others)).unwrap();
        for (name, namespace) in [(&own, "own"), (&other, "default")] {
            let client = connector.client(name, ClientPurpose::Probe).await.unwrap();
            assert_eq!(client.default_namespace(), namespace);
        }
        let unknown = connector
            .client(&"x".parse().unwrap(), ClientPurpose::Control)
            .await
            .err()
            .unwrap();
        assert_eq!(
            (unknown.reason(), unknown.cluster().as_str()),
            ("UnknownCluster", "x")
        );
        connector.invalidate(&own).await;
        assert!(connector.client(&own, ClientPurpose::Control).await.is_ok());
    }
}
