//! The specs of Velero's objects, as far as we write them.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    api::{ApiResource, DynamicObject, ObjectMeta},
    core::GroupVersionKind,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::driver::{
    BackupHook, BackupRequest, DeletionRequest, ExecHook, ExistingResources, OnHookError, OwnerToken,
    RestoreRequest,
};

/// Whose an object is, on the object itself; Velero carries it into the store and to every member that syncs.
pub(super) const OWNER: &str = "backup.kurator.dev/owner";
/// The token of the last poke.
pub(super) const POKE: &str = "backup.kurator.dev/poke";
/// Labels by which Velero finds the requests to delete a backup, and removes them with it.
pub(super) const BACKUP_NAME: &str = "velero.io/backup-name";
pub(super) const BACKUP_UID: &str = "velero.io/backup-uid";

/// A kind of `velero.io/v1`.
pub(super) fn kind(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("velero.io", "v1", kind))
}

/// The upload of a volume's snapshot.
pub(super) fn data_upload() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("velero.io", "v2alpha1", "DataUpload"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BackupSpec<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    included_namespaces: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    excluded_namespaces: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    included_resources: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    excluded_resources: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    include_cluster_resources: Option<bool>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    included_cluster_scoped_resources: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    excluded_cluster_scoped_resources: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    included_namespace_scoped_resources: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    excluded_namespace_scoped_resources: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    label_selector: Option<&'a LabelSelector>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    or_label_selectors: &'a [LabelSelector],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    ordered_resources: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_location: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    volume_snapshot_locations: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_volumes: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_volumes_to_fs_backup: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_policy: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hooks: Option<Value>,
}

/// The object that asks a server for a backup.
pub(super) fn backup(namespace: &str, request: &BackupRequest) -> Result<DynamicObject, serde_json::Error> {
    let scope = &request.scope;
    let hooks = request.hooks.iter().map(hook).collect::<Result<Vec<_>, _>>()?;
    let spec = BackupSpec {
        included_namespaces: &scope.included_namespaces,
        excluded_namespaces: &scope.excluded_namespaces,
        included_resources: &scope.included_resources,
        excluded_resources: &scope.excluded_resources,
        include_cluster_resources: scope.include_cluster_resources,
        included_cluster_scoped_resources: &scope.included_cluster_scoped_resources,
        excluded_cluster_scoped_resources: &scope.excluded_cluster_scoped_resources,
        included_namespace_scoped_resources: &scope.included_namespace_scoped_resources,
        excluded_namespace_scoped_resources: &scope.excluded_namespace_scoped_resources,
        label_selector: scope.label_selector.as_ref(),
        or_label_selectors: &scope.or_label_selectors,
        ordered_resources: &scope.ordered_resources,
        storage_location: request.location.as_ref().map(AsRef::as_ref),
        volume_snapshot_locations: &request.snapshot_locations,
        ttl: request.ttl.map(go_duration),
        snapshot_volumes: request.snapshot_volumes,
        default_volumes_to_fs_backup: request.file_system_backup,
        resource_policy: request.resource_policy.as_deref().map(config_map),
        hooks: (!hooks.is_empty()).then(|| json!({"resources": hooks})),
    };
    let mut object = DynamicObject::new(request.name.as_str(), &kind("Backup"));
    object.metadata = metadata(
        namespace,
        request.name.as_str(),
        &request.owner,
        &request.labels,
        &request.annotations,
    );
    object.data = json!({"spec": serde_json::to_value(spec)?});
    Ok(object)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RestoreSpec<'a> {
    backup_name: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    included_namespaces: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    excluded_namespaces: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    included_resources: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    excluded_resources: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    include_cluster_resources: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label_selector: Option<&'a LabelSelector>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    or_label_selectors: &'a [LabelSelector],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    namespace_mapping: &'a BTreeMap<String, String>,
    existing_resource_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore_status: Option<Value>,
    #[serde(rename = "restorePVs", skip_serializing_if = "Option::is_none")]
    restore_pvs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preserve_node_ports: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_modifier: Option<Value>,
}

/// The object that asks a server for a restore. Its modifiers are in a ConfigMap of its name.
pub(super) fn restore(namespace: &str, request: &RestoreRequest) -> Result<DynamicObject, serde_json::Error> {
    let scope = &request.scope;
    let spec = RestoreSpec {
        backup_name: request.backup.as_str(),
        included_namespaces: &scope.included_namespaces,
        excluded_namespaces: &scope.excluded_namespaces,
        included_resources: &scope.included_resources,
        excluded_resources: &scope.excluded_resources,
        include_cluster_resources: scope.include_cluster_resources,
        label_selector: scope.label_selector.as_ref(),
        or_label_selectors: &scope.or_label_selectors,
        namespace_mapping: &request.namespace_mapping,
        existing_resource_policy: match request.existing {
            ExistingResources::Skip => "none",
            ExistingResources::Update => "update",
        },
        restore_status: (!request.status_of.is_empty())
            .then(|| json!({"includedResources": request.status_of})),
        restore_pvs: request.restore_volumes,
        preserve_node_ports: request.preserve_node_ports,
        resource_modifier: request
            .modifiers
            .as_ref()
            .map(|_| config_map(request.name.as_str())),
    };
    let mut object = DynamicObject::new(request.name.as_str(), &kind("Restore"));
    object.metadata = metadata(
        namespace,
        request.name.as_str(),
        &request.owner,
        &request.labels,
        &request.annotations,
    );
    object.data = json!({"spec": serde_json::to_value(spec)?});
    Ok(object)
}

/// The object that asks a server to delete a backup, which has this UID.
pub(super) fn deletion(namespace: &str, request: &DeletionRequest, uid: &str) -> DynamicObject {
    let labels = BTreeMap::from([
        (BACKUP_NAME.to_owned(), label_value(request.backup.as_str())),
        (BACKUP_UID.to_owned(), uid.to_owned()),
    ]);
    let mut object = DynamicObject::new(request.name.as_str(), &kind("DeleteBackupRequest"));
    object.metadata = metadata(
        namespace,
        request.name.as_str(),
        &request.owner,
        &labels,
        &BTreeMap::new(),
    );
    object.data = json!({"spec": {"backupName": request.backup}});
    object
}

pub(super) fn metadata(
    namespace: &str,
    name: &str,
    owner: &OwnerToken,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> ObjectMeta {
    let mut labels = labels.clone();
    labels.insert(OWNER.to_owned(), owner.as_str().to_owned());
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        annotations: Some(annotations.clone()).filter(|annotations| !annotations.is_empty()),
        ..ObjectMeta::default()
    }
}

fn config_map(name: &str) -> Value {
    json!({"kind": "configmap", "name": name})
}

fn hook(hook: &BackupHook) -> Result<Value, serde_json::Error> {
    let mut spec = json!({
        "name": hook.name,
        "includedNamespaces": hook.included_namespaces,
        "excludedNamespaces": hook.excluded_namespaces,
        "pre": hook.pre.iter().map(exec).collect::<Vec<_>>(),
        "post": hook.post.iter().map(exec).collect::<Vec<_>>(),
    });
    if let Some(selector) = &hook.label_selector
        && let Some(spec) = spec.as_object_mut()
    {
        spec.insert("labelSelector".into(), serde_json::to_value(selector)?);
    }
    Ok(spec)
}

fn exec(hook: &ExecHook) -> Value {
    let mut exec = json!({
        "command": hook.command,
        "onError": match hook.on_error {
            OnHookError::Fail => "Fail",
            OnHookError::Continue => "Continue",
        },
    });
    if let Some(exec) = exec.as_object_mut() {
        if let Some(container) = &hook.container {
            exec.insert("container".into(), json!(container));
        }
        if let Some(timeout) = &hook.timeout {
            exec.insert("timeout".into(), json!(timeout));
        }
    }
    json!({"exec": exec})
}

/// As Go reads durations: whole seconds, and the rest in nanoseconds.
fn go_duration(duration: SignedDuration) -> String {
    match (duration.as_secs(), duration.subsec_nanos()) {
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}ns", duration.as_nanos()),
    }
}

/// A name as Velero makes a label value of it: what is too long is cut, and six digits of its hash follow.
pub(super) fn label_value(name: &str) -> String {
    const LONGEST: usize = 63;
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let digest = <sha2::Sha256 as sha2::Digest>::digest(name.as_bytes());
    let hash = digest
        .iter()
        .take(3)
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    let kept = name.get(..LONGEST - hash.len()).unwrap_or_default();
    format!("{kept}{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{BackupName, DeletionName};

    #[test]
    fn a_plain_backup_says_nothing_that_was_not_asked() {
        let request = BackupRequest::new(BackupName::new("nightly").unwrap(), OwnerToken::bounded(["run"]));
        let object = backup("velero", &request).unwrap();
        assert_eq!(object.data, json!({"spec": {}}));
        let labels = object.metadata.labels.unwrap();
        assert_eq!(labels[OWNER], request.owner.as_str());
    }

    #[test]
    fn a_hook_always_says_what_its_failure_does() {
        let mut request =
            BackupRequest::new(BackupName::new("nightly").unwrap(), OwnerToken::bounded(["run"]));
        request.hooks = vec![BackupHook {
            name: "still".into(),
            pre: vec![ExecHook::new(["fsfreeze"])],
            ..BackupHook::default()
        }];
        request.ttl = Some(SignedDuration::from_hours(3));
        let object = backup("velero", &request).unwrap();
        let hook = &object.data["spec"]["hooks"]["resources"][0];
        assert_eq!(hook["pre"][0]["exec"]["onError"], "Fail");
        assert_eq!(object.data["spec"]["ttl"], "10800s");
    }

    #[test]
    fn long_names_become_the_label_values_that_velero_makes() {
        // From label.GetValidName of Velero.
        assert_eq!(label_value("short"), "short");
        let long = "this-is-a-very-long-backup-name-that-does-not-fit-into-a-label-value";
        let value = label_value(long);
        assert_eq!(value.len(), 63);
        assert!(value.starts_with(&long[..57]));
    }

    #[test]
    fn a_deletion_bears_the_labels_by_which_velero_removes_it() {
        let request = DeletionRequest::new(
            DeletionName::new("gone").unwrap(),
            OwnerToken::bounded(["run"]),
            BackupName::new("nightly").unwrap(),
        );
        let object = deletion("velero", &request, "uid-1");
        let labels = object.metadata.labels.unwrap();
        assert_eq!(
            (labels[BACKUP_NAME].as_str(), labels[BACKUP_UID].as_str()),
            ("nightly", "uid-1")
        );
        assert_eq!(object.data["spec"]["backupName"], "nightly");
    }
}
