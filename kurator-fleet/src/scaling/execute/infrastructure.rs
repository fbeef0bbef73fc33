//! Where machines come from and go to.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

/// The machine behind a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Machine {
    /// Name of the node.
    pub node: String,
    /// `spec.providerID` of the node, if it has one.
    pub provider_id: Option<String>,
}

impl Machine {
    /// The machine of a node.
    pub fn new(node: impl Into<String>, provider_id: Option<String>) -> Self {
        Self {
            node: node.into(),
            provider_id,
        }
    }
}

/// What went wrong at the infrastructure.
#[derive(Debug, thiserror::Error)]
#[error("the infrastructure could not {action} the machine of node {node}")]
#[non_exhaustive]
pub struct InfrastructureError {
    /// `find` or `remove`.
    pub action: &'static str,
    /// The node.
    pub node: String,
    /// What it said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl InfrastructureError {
    /// An error of that action.
    pub fn new(
        action: &'static str,
        node: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            action,
            node: node.into(),
            source: source.into(),
        }
    }
}

/// Removes machines: a cloud, Cluster API, a rack with a switch.
///
/// # What an implementation guarantees
/// [`remove`](InfrastructureProvider::remove) returns once the machine runs nothing any more, and is idempotent: a
/// machine that is gone, or going, is no error. The executor asks [`exists`](InfrastructureProvider::exists) first
/// when it continues after a crash, so that a removal is not started twice.
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
}

/// Machines in memory, with a count of how often each was removed. Clones share them. A machine it has not heard of
/// exists.
#[derive(Clone, Debug, Default)]
pub struct InMemoryInfrastructure {
    removals: Arc<Mutex<BTreeMap<String, u32>>>,
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
}
