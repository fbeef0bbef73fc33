//! What a driver is asked to create. Each request is create-once: its name and owner are decided before it is sent.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::{
    name::{BackupName, DeletionName, LocationName, OwnerToken, RestoreName},
    scope::{BackupHook, BackupScope, ExistingResources, RestoreScope},
};

/// A backup to be created on one member.
///
/// `Default` of the optional parts is the server's default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BackupRequest {
    /// Its name.
    pub name: BackupName,
    /// Whose it is. The driver keeps it on the object and compares it before it adopts one.
    pub owner: OwnerToken,
    /// Labels of the object; valid keys and values.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the object.
    pub annotations: BTreeMap<String, String>,
    /// What it takes.
    pub scope: BackupScope,
    /// Commands around the backup of pods.
    pub hooks: Vec<BackupHook>,
    /// Where it goes; `None` for the server's default location.
    pub location: Option<LocationName>,
    /// How long the server keeps it; `None` for the server's default (720 h on Velero).
    pub ttl: Option<SignedDuration>,
    /// Whether volumes are snapshotted; `None` for the server's default.
    pub snapshot_volumes: Option<bool>,
    /// Whether the files of volumes are copied; `None` for the server's default.
    pub file_system_backup: Option<bool>,
    /// Volume snapshot locations, at most one a provider.
    pub snapshot_locations: Vec<String>,
    /// ConfigMap in the server's namespace that says what to do with which volumes.
    pub resource_policy: Option<String>,
}

impl BackupRequest {
    /// A backup of everything into the default location.
    pub fn new(name: BackupName, owner: OwnerToken) -> Self {
        Self {
            name,
            owner,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            scope: BackupScope::default(),
            hooks: Vec::new(),
            location: None,
            ttl: None,
            snapshot_volumes: None,
            file_system_backup: None,
            snapshot_locations: Vec::new(),
            resource_policy: None,
        }
    }
}

/// A restore to be created on one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RestoreRequest {
    /// Its name.
    pub name: RestoreName,
    /// Whose it is; see [`BackupRequest::owner`].
    pub owner: OwnerToken,
    /// Labels of the object.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the object.
    pub annotations: BTreeMap<String, String>,
    /// The backup to restore from, as the member's server knows it.
    pub backup: BackupName,
    /// What it takes.
    pub scope: RestoreScope,
    /// Namespaces that are restored under another name.
    pub namespace_mapping: BTreeMap<String, String>,
    /// What happens to objects that exist.
    pub existing: ExistingResources,
    /// Kinds whose status is restored too.
    pub status_of: Vec<String>,
    /// Whether volumes are restored; `None` for the server's default.
    pub restore_volumes: Option<bool>,
    /// Whether services keep their node ports; `None` for the server's default.
    pub preserve_node_ports: Option<bool>,
    /// Storage classes that claims, volumes and the claim templates of stateful sets get instead of theirs.
    #[serde(default)]
    pub storage_classes: BTreeMap<String, String>,
    /// Changes to objects on their way, as the text of Velero's resource modifiers (`version: v1`). The driver keeps
    /// it on the member for as long as the restore needs it.
    pub modifiers: Option<String>,
}

impl RestoreRequest {
    /// A restore of everything in `backup`.
    pub fn new(name: RestoreName, owner: OwnerToken, backup: BackupName) -> Self {
        Self {
            name,
            owner,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            backup,
            scope: RestoreScope::default(),
            namespace_mapping: BTreeMap::new(),
            existing: ExistingResources::default(),
            status_of: Vec::new(),
            restore_volumes: None,
            preserve_node_ports: None,
            storage_classes: BTreeMap::new(),
            modifiers: None,
        }
    }
}

/// A request to delete a backup with everything it has in the store.
///
/// A server may lose a request (Velero skips one that was in progress when it restarted): ask again under a new name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeletionRequest {
    /// Its name.
    pub name: DeletionName,
    /// Whose it is.
    pub owner: OwnerToken,
    /// The backup to delete.
    pub backup: BackupName,
}

impl DeletionRequest {
    /// A request to delete `backup`.
    pub fn new(name: DeletionName, owner: OwnerToken, backup: BackupName) -> Self {
        Self { name, owner, backup }
    }
}

/// What became of a create-once request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Created {
    /// It was created now.
    New,
    /// It was there already, with the same owner: an earlier call had got through.
    Adopted,
}
