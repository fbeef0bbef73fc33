//! Scratch namespaces on members: marked as ours, and with a quota under which nothing can run.

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{Namespace, ResourceQuota, ResourceQuotaSpec},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use kurator_core::names::ClusterName;

use super::{VeleroDriver, failure::Attempt};
use crate::{
    api::labels,
    driver::{DriverError, ScratchNamespace, ScratchNamespaces, ScratchRequest, ScratchView},
};

/// Name of the quota in each scratch namespace.
const QUOTA: &str = "kurator-scratch";
/// What a scratch namespace has none of.
const NONE_OF: [&str; 5] = [
    "pods",
    "services",
    "persistentvolumeclaims",
    "count/jobs.batch",
    "count/ingresses.networking.k8s.io",
];

fn marks(request: &ScratchRequest) -> BTreeMap<String, String> {
    [
        (labels::OWNER.to_owned(), request.owner.as_str().to_owned()),
        (labels::SCRATCH.to_owned(), "true".to_owned()),
    ]
    .into()
}

fn is_of(namespace: &Namespace, request: &ScratchRequest) -> bool {
    let found = namespace.labels();
    marks(request)
        .iter()
        .all(|(key, value)| found.get(key) == Some(value))
}

fn quota() -> ResourceQuota {
    let zero = |name: &&str| ((*name).to_owned(), Quantity("0".to_owned()));
    ResourceQuota {
        metadata: ObjectMeta {
            name: Some(QUOTA.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(ResourceQuotaSpec {
            hard: Some(NONE_OF.iter().map(zero).collect()),
            ..ResourceQuotaSpec::default()
        }),
        status: None,
    }
}

/// Whether the API server enforces it: that goes by the status, which the quota controller writes.
fn is_in_force(quota: &ResourceQuota) -> bool {
    let hard = quota.status.as_ref().and_then(|status| status.hard.as_ref());
    hard.is_some_and(|hard| {
        NONE_OF
            .iter()
            .all(|name| hard.get(*name).is_some_and(|most| most.0 == "0"))
    })
}

fn is_conflict(error: &kube::Error, codes: &[u16]) -> bool {
    matches!(error, kube::Error::Api(status) if codes.contains(&status.code))
}

impl VeleroDriver {
    async fn look_at(
        &self,
        client: &Client,
        name: &str,
        request: &ScratchRequest,
    ) -> Result<ScratchNamespace, kube::Error> {
        let Some(namespace) = Api::<Namespace>::all(client.clone()).get_opt(name).await? else {
            return Ok(ScratchNamespace::Absent);
        };
        if !is_of(&namespace, request) {
            return Ok(ScratchNamespace::Foreign);
        }
        if namespace.metadata.deletion_timestamp.is_some() {
            return Ok(ScratchNamespace::Leaving);
        }
        let quotas = Api::<ResourceQuota>::namespaced(client.clone(), name);
        let guarded = quotas
            .get_opt(QUOTA)
            .await?
            .is_some_and(|quota| is_in_force(&quota));
        Ok(if guarded {
            ScratchNamespace::Ready
        } else {
            ScratchNamespace::Unguarded
        })
    }

    async fn make(&self, client: &Client, name: &str, request: &ScratchRequest) -> Result<(), kube::Error> {
        let namespaces = Api::<Namespace>::all(client.clone());
        let found = match namespaces.get_opt(name).await? {
            Some(found) => found,
            None => {
                let namespace = Namespace {
                    metadata: ObjectMeta {
                        name: Some(name.to_owned()),
                        labels: Some(marks(request)),
                        ..ObjectMeta::default()
                    },
                    ..Namespace::default()
                };
                match namespaces.create(&PostParams::default(), &namespace).await {
                    Ok(made) => made,
                    // The next look says whose it is.
                    Err(error) if is_conflict(&error, &[409]) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        if !is_of(&found, request) || found.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let quotas = Api::<ResourceQuota>::namespaced(client.clone(), name);
        match quotas.create(&PostParams::default(), &quota()).await {
            Ok(_) => Ok(()),
            Err(error) if is_conflict(&error, &[409]) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn remove(&self, client: &Client, name: &str, request: &ScratchRequest) -> Result<(), kube::Error> {
        let namespaces = Api::<Namespace>::all(client.clone());
        let Some(found) = namespaces.get_opt(name).await? else {
            return Ok(());
        };
        if !is_of(&found, request) || found.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        // As it was seen: whoever has taken it over meanwhile keeps it.
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: found.uid(),
            resource_version: found.resource_version(),
        });
        match namespaces.delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if is_conflict(&error, &[404, 409]) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl ScratchNamespaces for VeleroDriver {
    async fn scratch(
        &self,
        cluster: &ClusterName,
        request: &ScratchRequest,
    ) -> Result<ScratchView, DriverError> {
        let attempt = Attempt {
            cluster,
            action: "look at scratch namespaces",
        };
        let client = self.client(attempt).await?;
        let mut view = ScratchView::new();
        for name in &request.names {
            match self.look_at(&client, name, request).await {
                Ok(state) => drop(view.insert(name.clone(), state)),
                Err(error) => return Err(self.failed(attempt, "Namespace", error).await),
            }
        }
        Ok(view)
    }

    async fn make_scratch(&self, cluster: &ClusterName, request: &ScratchRequest) -> Result<(), DriverError> {
        let attempt = Attempt {
            cluster,
            action: "make scratch namespaces",
        };
        let client = self.client(attempt).await?;
        for name in &request.names {
            if let Err(error) = self.make(&client, name, request).await {
                return Err(self.failed(attempt, "Namespace", error).await);
            }
        }
        Ok(())
    }

    async fn remove_scratch(
        &self,
        cluster: &ClusterName,
        request: &ScratchRequest,
    ) -> Result<(), DriverError> {
        let attempt = Attempt {
            cluster,
            action: "remove scratch namespaces",
        };
        let client = self.client(attempt).await?;
        for name in &request.names {
            if let Err(error) = self.remove(&client, name, request).await {
                return Err(self.failed(attempt, "Namespace", error).await);
            }
        }
        Ok(())
    }
}
