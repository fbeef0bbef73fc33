//! The in-memory fleet behind the traits.

use std::collections::BTreeSet;

use async_trait::async_trait;
use kurator_core::names::ClusterName;

use super::InMemoryBackups;
use crate::driver::{
    BackupDriver, BackupName, BackupObservation, BackupRequest, Capabilities, Claims, ConsistencyBarrier,
    Created, DeletionObservation, DeletionRequest, DriverError, Inventory, MemberFacts, OwnerToken,
    QuiesceRequest, QuiesceState, ResourceKind, RestoreName, RestoreObservation, RestoreRequest,
    ScratchNamespaces, ScratchRequest, ScratchView,
};

#[async_trait]
impl BackupDriver for InMemoryBackups {
    async fn facts(&self, cluster: &ClusterName) -> Result<MemberFacts, DriverError> {
        Self::facts(self, cluster)
    }

    async fn capabilities(&self, cluster: &ClusterName) -> Result<Capabilities, DriverError> {
        Self::capabilities(self, cluster)
    }

    async fn inventory(
        &self,
        cluster: &ClusterName,
        kinds: &BTreeSet<ResourceKind>,
    ) -> Result<Inventory, DriverError> {
        Self::inventory(self, cluster, kinds)
    }

    async fn create_backup(
        &self,
        cluster: &ClusterName,
        request: &BackupRequest,
    ) -> Result<Created, DriverError> {
        Self::create_backup(self, cluster, request)
    }

    async fn backup(
        &self,
        cluster: &ClusterName,
        name: &BackupName,
    ) -> Result<Option<BackupObservation>, DriverError> {
        Self::backup(self, cluster, name)
    }

    async fn claims(&self, cluster: &ClusterName, name: &BackupName) -> Result<Option<Claims>, DriverError> {
        Self::claims(self, cluster, name).map(Some)
    }

    async fn backups(&self, cluster: &ClusterName) -> Result<Vec<BackupObservation>, DriverError> {
        Self::backups(self, cluster)
    }

    async fn contents(&self, cluster: &ClusterName, name: &BackupName) -> Result<Inventory, DriverError> {
        Self::contents(self, cluster, name)
    }

    async fn poke(&self, cluster: &ClusterName, name: &BackupName, token: &str) -> Result<(), DriverError> {
        Self::poke(self, cluster, name, token)
    }

    async fn request_deletion(
        &self,
        cluster: &ClusterName,
        request: &DeletionRequest,
    ) -> Result<Created, DriverError> {
        Self::request_deletion(self, cluster, request)
    }

    async fn deletion(
        &self,
        cluster: &ClusterName,
        backup: &BackupName,
    ) -> Result<DeletionObservation, DriverError> {
        Self::deletion(self, cluster, backup)
    }

    async fn create_restore(
        &self,
        cluster: &ClusterName,
        request: &RestoreRequest,
    ) -> Result<Created, DriverError> {
        Self::create_restore(self, cluster, request)
    }

    async fn restore(
        &self,
        cluster: &ClusterName,
        name: &RestoreName,
    ) -> Result<Option<RestoreObservation>, DriverError> {
        Self::restore(self, cluster, name)
    }
}

#[async_trait]
impl ConsistencyBarrier for InMemoryBackups {
    async fn quiesce(
        &self,
        cluster: &ClusterName,
        request: &QuiesceRequest,
    ) -> Result<QuiesceState, DriverError> {
        Self::quiesce(self, cluster, request)
    }

    async fn release(&self, cluster: &ClusterName, request: &QuiesceRequest) -> Result<(), DriverError> {
        Self::release(self, cluster, request)
    }

    async fn holders(&self, cluster: &ClusterName) -> Result<BTreeSet<OwnerToken>, DriverError> {
        Self::holders(self, cluster)
    }
}

#[async_trait]
impl ScratchNamespaces for InMemoryBackups {
    async fn scratch(
        &self,
        cluster: &ClusterName,
        request: &ScratchRequest,
    ) -> Result<ScratchView, DriverError> {
        Self::scratch(self, cluster, request)
    }

    async fn make_scratch(&self, cluster: &ClusterName, request: &ScratchRequest) -> Result<(), DriverError> {
        Self::make_scratch(self, cluster, request)
    }

    async fn remove_scratch(
        &self,
        cluster: &ClusterName,
        request: &ScratchRequest,
    ) -> Result<(), DriverError> {
        Self::remove_scratch(self, cluster, request)
    }
}
