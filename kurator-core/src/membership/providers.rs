//! Several sources of members at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kube::Client;
use tokio::sync::watch;

use super::{Member, Membership, MembershipError, MergedChanges};
use crate::connect::{ClientPurpose, ClusterConnector, ConnectError};
use crate::names::{ClusterName, FleetName};

/// One source of members and the way to them.
#[derive(Clone, Debug)]
struct Provider {
    membership: Arc<dyn Membership>,
    connector: Arc<dyn ClusterConnector>,
}

/// The members of several providers as one membership, each reached by its own provider's connector.
///
/// Of two members with the same name the one of the provider that was added first counts. As long as one provider
/// cannot be asked nothing is known about all: a shorter list would be taken for members that left.
#[derive(Debug, Default)]
pub struct Providers {
    providers: Vec<Provider>,
    changes: MergedChanges,
}

impl Providers {
    /// Adds a provider. Call within a tokio runtime.
    #[must_use]
    pub fn with(mut self, membership: Arc<dyn Membership>, connector: Arc<dyn ClusterConnector>) -> Self {
        self.changes.add(membership.changes());
        self.providers.push(Provider {
            membership,
            connector,
        });
        self
    }

    async fn connector(&self, cluster: &ClusterName) -> Result<&Arc<dyn ClusterConnector>, ConnectError> {
        for provider in &self.providers {
            match provider.membership.member(cluster).await {
                Ok(Some(_)) => return Ok(&provider.connector),
                Ok(None) => {}
                Err(source) => {
                    return Err(ConnectError::Membership {
                        cluster: cluster.clone(),
                        source: Box::new(source),
                    });
                }
            }
        }
        Err(ConnectError::UnknownCluster {
            cluster: cluster.clone(),
        })
    }
}

#[async_trait]
impl Membership for Providers {
    async fn members(&self, fleet: Option<&FleetName>) -> Result<Vec<Member>, MembershipError> {
        let mut members = BTreeMap::new();
        let mut known = fleet.is_none();
        for provider in &self.providers {
            match provider.membership.members(fleet).await {
                Ok(provided) => {
                    known = true;
                    for member in provided {
                        members.entry(member.name.clone()).or_insert(member);
                    }
                }
                Err(MembershipError::FleetNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match fleet {
            Some(fleet) if !known => Err(MembershipError::FleetNotFound { fleet: fleet.clone() }),
            _ => Ok(members.into_values().collect()),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[async_trait]
impl ClusterConnector for Providers {
    async fn client(&self, cluster: &ClusterName, purpose: ClientPurpose) -> Result<Client, ConnectError> {
        self.connector(cluster).await?.client(cluster, purpose).await
    }

    async fn invalidate(&self, cluster: &ClusterName) {
        match self.connector(cluster).await {
            Ok(connector) => connector.invalidate(cluster).await,
            // It has left, or nobody can say: whoever still holds something of it lets go.
            Err(_) => {
                for provider in &self.providers {
                    provider.connector.invalidate(cluster).await;
                }
            }
        }
    }

    async fn follow(&self, cluster: &ClusterName) -> Option<watch::Receiver<u64>> {
        self.connector(cluster).await.ok()?.follow(cluster).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::StaticConnector;
    use crate::membership::{HubMembership, StaticMembership};
    use crate::wire::{failure, server};

    fn name(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    fn provider(members: &[&str]) -> (Arc<StaticMembership>, Arc<StaticConnector>) {
        (
            Arc::new(members.iter().map(|it| Member::new(name(it))).collect()),
            Arc::new(StaticConnector::default()),
        )
    }

    async fn names(providers: &Providers) -> Vec<String> {
        providers
            .members(None)
            .await
            .unwrap()
            .iter()
            .map(|member| member.name.to_string())
            .collect()
    }

    #[tokio::test]
    async fn members_of_all_providers_are_one_list_and_the_first_provider_wins() {
        let (first, to_first) = provider(&["a"]);
        let (second, to_second) = provider(&["b"]);
        second.join(Member::new(name("a")).with_label("from", "second"));
        let providers = Providers::default()
            .with(first, to_first)
            .with(Arc::clone(&second) as _, to_second);
        assert_eq!(names(&providers).await, ["a", "b"]);
        assert!(
            providers
                .member(&name("a"))
                .await
                .unwrap()
                .unwrap()
                .labels
                .is_empty()
        );

        let mut changes = providers.changes();
        second.join(Member::new(name("c")));
        changes.changed().await.unwrap();
        assert_eq!(names(&providers).await, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn a_provider_that_cannot_be_asked_makes_no_member_disappear() {
        let (first, to_first) = provider(&["a"]);
        let (hub, _log) = server(|_| failure(500, "InternalError", "etcd is away"));
        let api: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::all(hub);
        let unread = HubMembership::watch(api, kube::runtime::watcher::Config::default(), |_| None);
        let providers = Providers::default()
            .with(first, to_first)
            .with(Arc::new(unread), Arc::new(StaticConnector::default()));
        let error = providers.members(None).await.unwrap_err();
        assert_eq!(error.reason(), "MembershipUnavailable");
    }

    #[tokio::test]
    async fn a_fleet_that_no_provider_knows_is_not_an_empty_one() {
        let (first, to_first) = provider(&["a"]);
        let providers = Providers::default().with(Arc::clone(&first) as _, to_first);
        let fleet: FleetName = "shop".parse().unwrap();
        assert_eq!(
            providers.members(Some(&fleet)).await.unwrap_err().reason(),
            "FleetNotFound"
        );
        first.enrol(fleet.clone(), [name("a")]);
        assert_eq!(providers.members(Some(&fleet)).await.unwrap().len(), 1);
    }
}
