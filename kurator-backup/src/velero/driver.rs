//! [`BackupDriver`] over the custom resources of Velero.

use std::{collections::BTreeSet, fmt, sync::Arc};

use async_trait::async_trait;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use kurator_core::{
    connect::{ClientPurpose, ClusterConnector},
    names::ClusterName,
};
use serde_json::json;

use super::{facts, failure::Attempt, inventory, look, modifiers, wire};
use crate::driver::{
    BackupDriver, BackupName, BackupObservation, BackupRequest, Capabilities, Claims, Created,
    DeletionObservation, DeletionRequest, DriverError, Inventory, MemberFacts, OwnerToken, ResourceKind,
    RestoreName, RestoreObservation, RestoreRequest,
};

/// Objects that are asked for at once.
const PAGE: u32 = 500;

/// Velero on every member that a [`ClusterConnector`] reaches.
///
/// Holds nothing of a member but the version of its server, for ten minutes. Cheap to clone.
///
/// ```
/// use std::sync::Arc;
/// use kurator_backup::velero::VeleroDriver;
/// use kurator_core::connect::StaticConnector;
///
/// let driver = VeleroDriver::new(Arc::new(StaticConnector::default())).in_namespace("velero-system");
/// # let _ = driver;
/// ```
#[derive(Clone)]
pub struct VeleroDriver {
    connector: Arc<dyn ClusterConnector>,
    namespace: Arc<str>,
    plain_http: bool,
    versions: facts::Versions,
}

impl fmt::Debug for VeleroDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VeleroDriver")
            .field("connector", &self.connector)
            .field("namespace", &self.namespace)
            .field("plain_http", &self.plain_http)
            .finish_non_exhaustive()
    }
}

impl VeleroDriver {
    /// Velero in the namespace `velero` of each member.
    pub fn new(connector: Arc<dyn ClusterConnector>) -> Self {
        Self {
            connector,
            namespace: "velero".into(),
            plain_http: false,
            versions: facts::Versions::default(),
        }
    }

    /// Velero in another namespace, on every member.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Take the contents of backups from a store without TLS too. The address comes from the member: whoever may
    /// write its storage location decides where we connect to.
    #[must_use]
    pub fn allowing_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    pub(super) async fn client(&self, attempt: Attempt<'_>) -> Result<Client, DriverError> {
        let client = self
            .connector
            .client(attempt.cluster, ClientPurpose::Control)
            .await;
        client.map_err(|source| attempt.no_client(source))
    }

    fn api(&self, client: Client, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(client, &self.namespace, &wire::kind(kind))
    }

    /// 401 may be a token that was replaced: the next call takes the new one.
    pub(super) async fn failed(&self, attempt: Attempt<'_>, kind: &str, error: kube::Error) -> DriverError {
        if matches!(&error, kube::Error::Api(status) if status.code == 401) {
            self.connector.invalidate(attempt.cluster).await;
        }
        attempt.failed(
            &format!("{kind} of velero.io, or the namespace {}", self.namespace),
            error,
        )
    }

    /// `None` for a name that is certain to be free. A server without the kind answers as one without the object:
    /// only a list tells them apart.
    async fn find(
        &self,
        attempt: Attempt<'_>,
        kind: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, DriverError> {
        let api = self.api(self.client(attempt).await?, kind);
        let found = match api.get_opt(name).await {
            Ok(Some(object)) => return Ok(Some(object)),
            Ok(None) => api.list(&ListParams::default().limit(1)).await,
            Err(error) => return Err(self.failed(attempt, kind, error).await),
        };
        match found {
            Ok(_) => Ok(None),
            Err(error) => Err(self.failed(attempt, kind, error).await),
        }
    }

    /// Creates an object once. What is there already under the name is ours or somebody else's, by its owner.
    async fn create(
        &self,
        attempt: Attempt<'_>,
        kind: &str,
        owner: &OwnerToken,
        object: &DynamicObject,
    ) -> Result<(Created, DynamicObject), DriverError> {
        let api = self.api(self.client(attempt).await?, kind);
        let name = object.name_any();
        let error = match api.create(&PostParams::default(), object).await {
            Ok(created) => return Ok((Created::New, created)),
            Err(error) => error,
        };
        match error {
            kube::Error::Api(status) if status.is_already_exists() => {
                let existing = match api.get(&name).await {
                    Ok(existing) => existing,
                    Err(error) => return Err(self.failed(attempt, kind, error).await),
                };
                match look::owner(&existing) {
                    Some(holder) if holder == *owner => Ok((Created::Adopted, existing)),
                    holder => Err(DriverError::NameTaken {
                        cluster: attempt.cluster.clone(),
                        name,
                        holder: holder.map_or_else(
                            || "it does not say whose it is".into(),
                            |holder| holder.to_string(),
                        ),
                    }),
                }
            }
            error => Err(self.failed(attempt, kind, error).await),
        }
    }

    async fn list(
        &self,
        attempt: Attempt<'_>,
        kind: &str,
        labels: Option<&str>,
    ) -> Result<Vec<DynamicObject>, DriverError> {
        let api = self.api(self.client(attempt).await?, kind);
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = labels.map(str::to_owned);
        let mut objects = Vec::new();
        loop {
            let page = match api.list(&params).await {
                Ok(page) => page,
                Err(error) => return Err(self.failed(attempt, kind, error).await),
            };
            objects.extend(page.items);
            match page.metadata.continue_.filter(|more| !more.is_empty()) {
                Some(more) => params.continue_token = Some(more),
                None => return Ok(objects),
            }
        }
    }

    /// Asks the volume work of a running backup to stop: pod volume backups and data uploads. The backup then ends by
    /// itself, partially failed. Velero has no way to stop the backup of objects, which takes seconds; one that still
    /// waits is cancelled by [`BackupDriver::request_deletion`].
    ///
    /// Returns how many pieces of work were asked.
    ///
    /// # Errors
    /// [`DriverError`].
    pub async fn cancel_volume_work(
        &self,
        cluster: &ClusterName,
        backup: &BackupName,
    ) -> Result<usize, DriverError> {
        let attempt = Attempt {
            cluster,
            action: "cancel the volume work of a backup",
        };
        let selector = format!("{}={}", wire::BACKUP_NAME, wire::label_value(backup.as_str()));
        let params = ListParams::default().labels(&selector);
        let client = self.client(attempt).await?;
        let mut asked = 0;
        for resource in [wire::kind("PodVolumeBackup"), wire::data_upload()] {
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), &self.namespace, &resource);
            let work = match api.list(&params).await {
                Ok(work) => work.items,
                // An old server, or one without volumes.
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                Err(error) => return Err(self.failed(attempt, &resource.kind, error).await),
            };
            for object in work.iter().filter(|object| !look::volume_work_has_ended(object)) {
                let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
                match api
                    .patch(&object.name_any(), &PatchParams::default(), &patch)
                    .await
                {
                    Ok(_) => asked += 1,
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(self.failed(attempt, &resource.kind, error).await),
                }
            }
        }
        Ok(asked)
    }

    /// Takes back a backup that its server has not begun, as it was seen: nothing is in the store that could bring it
    /// back. `false` if it has changed or gone meanwhile.
    async fn withdraw(&self, attempt: Attempt<'_>, backup: &DynamicObject) -> Result<bool, DriverError> {
        let seen = Preconditions {
            uid: backup.uid(),
            resource_version: backup.resource_version(),
        };
        let params = DeleteParams::default().preconditions(seen);
        let api = self.api(self.client(attempt).await?, "Backup");
        match api.delete(&backup.name_any(), &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(self.failed(attempt, "Backup", error).await),
        }
    }

    /// The resource modifiers of a restore, in a ConfigMap of its name.
    async fn keep_modifiers(
        &self,
        attempt: Attempt<'_>,
        request: &RestoreRequest,
        text: &str,
    ) -> Result<(), DriverError> {
        let maps = Api::<ConfigMap>::namespaced(self.client(attempt).await?, &self.namespace);
        let map = ConfigMap {
            metadata: wire::metadata(
                &self.namespace,
                request.name.as_str(),
                &request.owner,
                &request.labels,
                &request.annotations,
            ),
            data: Some([("modifiers.yaml".to_owned(), text.to_owned())].into()),
            ..ConfigMap::default()
        };
        let error = match maps.create(&PostParams::default(), &map).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if !matches!(&error, kube::Error::Api(status) if status.is_already_exists()) {
            return Err(self.failed(attempt, "ConfigMap", error).await);
        }
        let existing = match maps.get(request.name.as_str()).await {
            Ok(existing) => existing,
            Err(error) => return Err(self.failed(attempt, "ConfigMap", error).await),
        };
        match existing.labels().get(wire::OWNER) {
            Some(holder) if holder == request.owner.as_str() => Ok(()),
            holder => Err(DriverError::NameTaken {
                cluster: attempt.cluster.clone(),
                name: format!("ConfigMap {}", request.name),
                holder: holder
                    .cloned()
                    .unwrap_or_else(|| "it does not say whose it is".into()),
            }),
        }
    }

    /// The modifiers go with the restore they are for.
    async fn tie_modifiers(&self, attempt: Attempt<'_>, restore: &DynamicObject) -> Result<(), DriverError> {
        let maps = Api::<ConfigMap>::namespaced(self.client(attempt).await?, &self.namespace);
        let owner = OwnerReference {
            api_version: "velero.io/v1".into(),
            kind: "Restore".into(),
            name: restore.name_any(),
            uid: restore.uid().unwrap_or_default(),
            ..OwnerReference::default()
        };
        let patch = Patch::Merge(json!({"metadata": {"ownerReferences": [owner]}}));
        match maps
            .patch(&restore.name_any(), &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(attempt, "ConfigMap", error).await),
        }
    }
}

#[async_trait]
impl BackupDriver for VeleroDriver {
    async fn facts(&self, cluster: &ClusterName) -> Result<MemberFacts, DriverError> {
        let attempt = Attempt {
            cluster,
            action: "read the state of its backup server",
        };
        let locations = self.list(attempt, "BackupStorageLocation", None).await?;
        let snapshots = self.list(attempt, "VolumeSnapshotLocation", None).await?;
        let client = self.client(attempt).await?;
        let server = match facts::server(&client, &self.namespace).await {
            Ok(server) => server,
            Err(error) => return Err(self.failed(attempt, "the server", error).await),
        };
        let backups = self.api(client.clone(), "Backup");
        let writers = match facts::Writers::read(&backups).await {
            Ok(writers) => writers,
            Err(error) => return Err(self.failed(attempt, "Backup", error).await),
        };
        let requests = self.api(client, "ServerStatusRequest");
        let version = match self.versions.of(cluster, &requests).await {
            Ok(version) => version,
            Err(error) => return Err(self.failed(attempt, "ServerStatusRequest", error).await),
        };
        Ok(facts::of_member(
            &locations, &snapshots, server, &writers, version,
        ))
    }

    async fn capabilities(&self, cluster: &ClusterName) -> Result<Capabilities, DriverError> {
        let attempt = Attempt {
            cluster,
            action: "read what it serves",
        };
        let client = self.client(attempt).await?;
        match inventory::capabilities(&client).await {
            Ok(capabilities) => Ok(capabilities),
            Err(error) => Err(self.failed(attempt, "discovery", error).await),
        }
    }

    async fn inventory(
        &self,
        cluster: &ClusterName,
        kinds: &BTreeSet<ResourceKind>,
    ) -> Result<Inventory, DriverError> {
        let attempt = Attempt {
            cluster,
            action: "list its objects",
        };
        let client = self.client(attempt).await?;
        match inventory::of_kinds(&client, kinds).await {
            Ok(found) => Ok(found),
            Err(error) => Err(self.failed(attempt, "discovery", error).await),
        }
    }

    async fn create_backup(
        &self,
        cluster: &ClusterName,
        request: &BackupRequest,
    ) -> Result<Created, DriverError> {
        let action = format!("create backup {}", request.name);
        let attempt = Attempt {
            cluster,
            action: &action,
        };
        let object =
            wire::backup(&self.namespace, request).map_err(|error| attempt.unusable(error.to_string()))?;
        let (created, _) = self.create(attempt, "Backup", &request.owner, &object).await?;
        Ok(created)
    }

    async fn backup(
        &self,
        cluster: &ClusterName,
        name: &BackupName,
    ) -> Result<Option<BackupObservation>, DriverError> {
        let action = format!("read backup {name}");
        let attempt = Attempt {
            cluster,
            action: &action,
        };
        let found = self.find(attempt, "Backup", name.as_str()).await?;
        Ok(found.as_ref().and_then(look::backup))
    }

    async fn backups(&self, cluster: &ClusterName) -> Result<Vec<BackupObservation>, DriverError> {
        let attempt = Attempt {
            cluster,
            action: "list its backups",
        };
        let objects = self.list(attempt, "Backup", None).await?;
        let mut backups = objects.iter().filter_map(look::backup).collect::<Vec<_>>();
        backups.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(backups)
    }

    async fn contents(&self, cluster: &ClusterName, name: &BackupName) -> Result<Inventory, DriverError> {
        let action = format!("read what is in backup {name}");
        let attempt = Attempt {
            cluster,
            action: &action,
        };
        if self.find(attempt, "Backup", name.as_str()).await?.is_none() {
            return Err(attempt.not_found(format!("backup {name}")));
        }
        let api = self.api(self.client(attempt).await?, "DownloadRequest");
        let download = super::download::Download {
            attempt,
            plain_http: self.plain_http,
        };
        download.contents(&api, name).await
    }

    async fn claims(&self, cluster: &ClusterName, name: &BackupName) -> Result<Option<Claims>, DriverError> {
        let action = format!("read the volume claims in backup {name}");
        let attempt = Attempt {
            cluster,
            action: &action,
        };
        let api = self.api(self.client(attempt).await?, "DownloadRequest");
        let download = super::download::Download {
            attempt,
            plain_http: self.plain_http,
        };
        download.claims(&api, name).await
    }

    async fn poke(&self, cluster: &ClusterName, name: &BackupName, token: &str) -> Result<(), DriverError> {
        let action = format!("poke backup {name}");
        let attempt = Attempt {
            cluster,
            action: &action,
        };
        let api = self.api(self.client(attempt).await?, "Backup");
        // A merge patch of one annotation: the rest of the object is the server's.
        let patch = Patch::Merge(json!({"metadata": {"annotations": {wire::POKE: token}}}));
        match api.patch(name.as_str(), &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(attempt.not_found(format!("backup {name}")))
            }
            Err(error) => Err(self.failed(attempt, "Backup", error).await),
        }
    }

    async fn request_deletion(
        &self,
        cluster: &ClusterName,
        request: &DeletionRequest,
    ) -> Result<Created, DriverError> {
        let action = format!("delete backup {}", request.backup);
        let attempt = Attempt {
            cluster,
            action: &action,
        };
        let found = self.find(attempt, "Backup", request.backup.as_str()).await?;
        let found = match found {
            Some(backup) if look::never_began(&backup) => {
                if self.withdraw(attempt, &backup).await? {
                    return Ok(Created::New);
                }
                self.find(attempt, "Backup", request.backup.as_str()).await?
            }
            found => found,
        };
        let Some(backup) = found else {
            // The server would keep a request for a day that says it found nothing.
            return Ok(Created::Adopted);
        };
        let object = wire::deletion(&self.namespace, request, &backup.uid().unwrap_or_default());
        let (created, _) = self
            .create(attempt, "DeleteBackupRequest", &request.owner, &object)
            .await?;
        Ok(created)
    }

    async fn deletion(
        &self,
        cluster: &ClusterName,
        backup: &BackupName,
    ) -> Result<DeletionObservation, DriverError> {
        let action = format!("see whether backup {backup} is deleted");
        let attempt = Attempt {
            cluster,
            action: &action,
        };
        // Requests first: a backup that is gone after them is gone because of them.
        let requests = self.list(attempt, "DeleteBackupRequest", None).await?;
        let present = self.find(attempt, "Backup", backup.as_str()).await?.is_some();
        let of_backup = requests.iter().filter(|request| {
            let named = request.data.pointer("/spec/backupName");
            named.and_then(serde_json::Value::as_str) == Some(backup.as_str())
        });
        Ok(look::deletion(present, of_backup))
    }

    async fn create_restore(
        &self,
        cluster: &ClusterName,
        request: &RestoreRequest,
    ) -> Result<Created, DriverError> {
        let action = format!("create restore {}", request.name);
        let attempt = Attempt {
            cluster,
            action: &action,
        };
        let modifiers =
            modifiers::with_storage_classes(request.modifiers.as_deref(), &request.storage_classes);
        let request = &RestoreRequest {
            modifiers: modifiers.map_err(|problem| attempt.unusable(problem))?,
            ..request.clone()
        };
        let object =
            wire::restore(&self.namespace, request).map_err(|error| attempt.unusable(error.to_string()))?;
        if let Some(text) = &request.modifiers {
            // Before the restore: the server reads them as soon as it sees it.
            self.keep_modifiers(attempt, request, text).await?;
        }
        let (created, restore) = self.create(attempt, "Restore", &request.owner, &object).await?;
        if request.modifiers.is_some() {
            self.tie_modifiers(attempt, &restore).await?;
        }
        Ok(created)
    }

    async fn restore(
        &self,
        cluster: &ClusterName,
        name: &RestoreName,
    ) -> Result<Option<RestoreObservation>, DriverError> {
        let action = format!("read restore {name}");
        let attempt = Attempt {
            cluster,
            action: &action,
        };
        let found = self.find(attempt, "Restore", name.as_str()).await?;
        Ok(found.as_ref().and_then(look::restore))
    }
}
