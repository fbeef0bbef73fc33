//! Where machines come from and go to.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use kurator_core::names::ClusterName;

/// The machine behind a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Machine {
    /// The cluster it belongs to.
    pub cluster: ClusterName,
    /// Name of the node.
    pub node: String,
    /// `spec.providerID` of the node, if it has one.
    pub provider_id: Option<String>,
}

impl Machine {
    /// The machine of a node.
    pub fn new(cluster: ClusterName, node: impl Into<String>, provider_id: Option<String>) -> Self {
        Self {
            cluster,
            node: node.into(),
            provider_id,
        }
    }
}

/// The worker machines a cluster is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerPool {
    /// The cluster.
    pub cluster: ClusterName,
    /// How many worker machines there are to be in all, those there are included.
    pub count: u32,
    /// The kind of new ones, such as `m5.large`; the provider's choice if it is left out.
    pub instance_type: Option<String>,
    /// Where new ones are, such as `us-west-2`.
    pub region: Option<String>,
    /// The Kubernetes version of new ones, such as `1.36`.
    pub version: Option<String>,
}

impl WorkerPool {
    /// That many machines of the provider's choice.
    pub fn new(cluster: ClusterName, count: u32) -> Self {
        Self {
            cluster,
            count,
            instance_type: None,
            region: None,
            version: None,
        }
    }

    /// Of that kind, if one is given.
    #[must_use]
    pub fn with_instance_type(self, instance_type: Option<String>) -> Self {
        Self {
            instance_type,
            ..self
        }
    }

    /// In that region, if one is given.
    #[must_use]
    pub fn with_region(self, region: Option<String>) -> Self {
        Self { region, ..self }
    }

    /// Of that version, if one is given.
    #[must_use]
    pub fn with_version(self, version: Option<String>) -> Self {
        Self { version, ..self }
    }
}

/// What went wrong at the infrastructure.
#[derive(Debug, thiserror::Error)]
#[error("the infrastructure could not {action} {object}")]
#[non_exhaustive]
pub struct InfrastructureError {
    /// `find`, `remove` or `add`.
    pub action: &'static str,
    /// The machine or machines, such as `the machine of node n1`.
    pub object: String,
    /// What it said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl InfrastructureError {
    /// An error about one machine.
    pub fn machine(
        action: &'static str,
        machine: &Machine,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            action,
            object: format!("the machine of node {}", machine.node),
            source: source.into(),
        }
    }

    /// An error about machines to be added.
    pub fn pool(pool: &WorkerPool, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            action: "add",
            object: format!("machines to cluster {} up to {}", pool.cluster, pool.count),
            source: source.into(),
        }
    }
}

/// Adds and removes machines: a cloud, Cluster API, a rack with a switch.
///
/// # What an implementation guarantees
/// [`remove`](InfrastructureProvider::remove) returns once the machine runs nothing any more, and is idempotent: a
/// machine that is gone, or going, is no error. The executor asks [`exists`](InfrastructureProvider::exists) first
/// when it continues after a crash, so that a removal is not started twice.
/// [`provide`](InfrastructureProvider::provide) is told a total, not a difference, so that asking again, also from
/// another process, adds nothing.
#[async_trait]
pub trait InfrastructureProvider: fmt::Debug + Send + Sync + 'static {
    /// Whether the machine is still there.
    ///
    /// # Errors
    /// [`InfrastructureError`] if that cannot be told.
    async fn exists(&self, machine: &Machine) -> Result<bool, InfrastructureError>;

    /// Removes the machine.
    ///
    /// # Errors
    /// [`InfrastructureError`] if it is still there.
    async fn remove(&self, machine: &Machine) -> Result<(), InfrastructureError>;

    /// Sees to it that the cluster gets as many worker machines as the pool says, and does not wait for them to join.
    /// Never removes one: with more machines than that there is nothing to do.
    ///
    /// # Errors
    /// [`InfrastructureError`] if they cannot be had.
    async fn provide(&self, pool: &WorkerPool) -> Result<(), InfrastructureError>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: InfrastructureProvider + ?Sized> InfrastructureProvider for Arc<T> {
    async fn exists(&self, machine: &Machine) -> Result<bool, InfrastructureError> {
        (**self).exists(machine).await
    }

    async fn remove(&self, machine: &Machine) -> Result<(), InfrastructureError> {
        (**self).remove(machine).await
    }

    async fn provide(&self, pool: &WorkerPool) -> Result<(), InfrastructureError> {
        (**self).provide(pool).await
    }
}

/// Machines in memory, with a count of how often each was removed. Clones share them. A machine it has not heard of
/// exists; machines asked for are only counted, no node comes of them.
#[derive(Clone, Debug, Default)]
pub struct InMemoryInfrastructure {
    removals: Arc<Mutex<BTreeMap<String, u32>>>,
    provided: Arc<Mutex<BTreeMap<ClusterName, u32>>>,
}

impl InMemoryInfrastructure {
    /// Machines for every node.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often the machine of each node was removed.
    pub fn removals(&self) -> BTreeMap<String, u32> {
        self.removals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The most machines each cluster was to have.
    pub fn provided(&self) -> BTreeMap<ClusterName, u32> {
        self.provided
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[async_trait]
impl InfrastructureProvider for InMemoryInfrastructure {
    async fn exists(&self, machine: &Machine) -> Result<bool, InfrastructureError> {
        Ok(!self.removals().contains_key(&machine.node))
    }

    async fn remove(&self, machine: &Machine) -> Result<(), InfrastructureError> {
        let mut removals = self.removals.lock().unwrap_or_else(PoisonError::into_inner);
        *removals.entry(machine.node.clone()).or_default() += 1;
        Ok(())
    }

    async fn provide(&self, pool: &WorkerPool) -> Result<(), InfrastructureError> {
        let mut provided = self.provided.lock().unwrap_or_else(PoisonError::into_inner);
        let most = provided.entry(pool.cluster.clone()).or_default();
        *most = (*most).max(pool.count);
        Ok(())
    }
}
