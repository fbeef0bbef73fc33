//! What Velero's objects say, read leniently: what is missing or of another shape is not there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::{ResourceExt, api::DynamicObject};
use serde_json::Value;

use super::wire::{OWNER, POKE};
use crate::driver::{
    BackupName, BackupObservation, DeletionName, DeletionObservation, ItemProgress, LocationAccess,
    LocationFacts, LocationName, LocationState, Observation, OwnerToken, Phase, RestoreName,
    RestoreObservation, StoreAddress,
};

/// A backup; `None` if its name is none we could ask for.
pub(super) fn backup(object: &DynamicObject) -> Option<BackupObservation> {
    let name = BackupName::new(object.metadata.name.as_deref()?).ok()?;
    let mut seen = observation(object, name, "itemsBackedUp");
    let location = text(object.data.pointer("/spec/storageLocation"));
    seen.location = location.and_then(|name| LocationName::new(name).ok());
    Some(seen)
}

/// A restore; `None` if its name is none we could ask for.
pub(super) fn restore(object: &DynamicObject) -> Option<RestoreObservation> {
    let name = RestoreName::new(object.metadata.name.as_deref()?).ok()?;
    Some(observation(object, name, "itemsRestored"))
}

fn observation<N>(object: &DynamicObject, name: N, done: &str) -> Observation<N> {
    let empty = Value::Null;
    let status = object.data.get("status").unwrap_or(&empty);
    let metadata = &object.metadata;
    let strings = |field: &str| {
        let list = status.get(field).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    };
    let reason = text(status.get("failureReason")).filter(|reason| !reason.is_empty());
    let mut seen = Observation::new(name, metadata.uid.clone().unwrap_or_default())
        .with_messages(strings("validationErrors").chain(reason));
    seen.owner = owner(object);
    seen.labels = metadata.labels.clone().unwrap_or_default();
    seen.phase = Phase::from(text(status.get("phase")).unwrap_or_default());
    seen.deleting = metadata.deletion_timestamp.is_some();
    seen.created_at = metadata.creation_timestamp.as_ref().map(|time| time.0);
    seen.started_at = time(status.get("startTimestamp"));
    seen.completed_at = time(status.get("completionTimestamp"));
    seen.expires_at = time(status.get("expiration"));
    seen.progress = status
        .get("progress")
        .filter(|progress| progress.is_object())
        .map(|progress| ItemProgress::new(count(progress.get(done)), count(progress.get("totalItems"))));
    seen.errors = count(status.get("errors"));
    seen.warnings = count(status.get("warnings"));
    seen.failed_hooks = count(status.pointer("/hookStatus/hooksFailed"));
    seen.poked = object.annotations().get(POKE).cloned();
    seen
}

/// Whether its server has not begun a backup that names no location: it writes one into the spec when it begins, and
/// until then answers a request for deletion with "backup storage location  not found", for good.
pub(super) fn never_began(backup: &DynamicObject) -> bool {
    let phase = Phase::from(text(backup.data.pointer("/status/phase")).unwrap_or_default());
    let waits = matches!(phase, Phase::New | Phase::Queued | Phase::ReadyToStart);
    let location = text(backup.data.pointer("/spec/storageLocation")).unwrap_or_default();
    waits && location.is_empty()
}

/// Whose an object is, if it says so.
pub(super) fn owner(object: &DynamicObject) -> Option<OwnerToken> {
    object.labels().get(OWNER).map(OwnerToken::read)
}

/// A storage location.
pub(super) fn location(object: &DynamicObject) -> LocationFacts {
    let at = |path: &str| text(object.data.pointer(path)).unwrap_or_default().to_owned();
    let store = StoreAddress::new(
        at("/spec/provider"),
        at("/spec/objectStorage/bucket"),
        at("/spec/objectStorage/prefix").trim_matches('/'),
    )
    .with_endpoint(at("/spec/config/s3Url"));
    let mut facts = LocationFacts::available(store);
    facts.state = match at("/status/phase").as_str() {
        "Available" => LocationState::Available,
        "Unavailable" => LocationState::Unavailable {
            message: at("/status/message"),
        },
        _ => LocationState::Unknown,
    };
    if at("/spec/accessMode") == "ReadOnly" {
        facts.access = LocationAccess::ReadOnly;
    }
    facts.validated_at = time(object.data.pointer("/status/lastValidationTime"));
    facts
}

/// Whether a storage location is the default one.
pub(super) fn is_default(object: &DynamicObject) -> bool {
    object
        .data
        .pointer("/spec/default")
        .and_then(Value::as_bool)
        .unwrap_or(false)
}

/// Whether a pod volume backup or a data upload will not change any more.
pub(super) fn volume_work_has_ended(object: &DynamicObject) -> bool {
    let phase = text(object.data.pointer("/status/phase")).unwrap_or_default();
    matches!(phase, "Completed" | "Failed" | "Canceled")
}

/// How far the deletion of a backup is, from whether it is there and the requests to delete it.
pub(super) fn deletion<'a>(
    present: bool,
    requests: impl IntoIterator<Item = &'a DynamicObject>,
) -> DeletionObservation {
    let mut seen = DeletionObservation {
        backup_present: present,
        ..DeletionObservation::default()
    };
    for request in requests {
        let name = request.metadata.name.as_deref();
        seen.requests
            .extend(name.and_then(|name| DeletionName::new(name).ok()));
        let phase = text(request.data.pointer("/status/phase")).unwrap_or_default();
        if phase == "Processed" {
            let errors = request.data.pointer("/status/errors").and_then(Value::as_array);
            let errors = errors.into_iter().flatten().filter_map(Value::as_str);
            for error in errors {
                let error = error.strip_prefix("backup deletion failed: ").unwrap_or(error);
                // That it is gone is what was wanted.
                let gone = !present && error == "backup not found";
                if !gone && !seen.errors.iter().any(|known| known == error) {
                    seen.errors.push(error.to_owned());
                }
            }
            continue;
        }
        seen.pending = true;
        let created = request.metadata.creation_timestamp.as_ref().map(|time| time.0);
        seen.pending_since = match (seen.pending_since, created) {
            (Some(known), Some(created)) => Some(known.max(created)),
            (known, created) => known.or(created),
        };
    }
    seen
}

/// What the command line of a server says, as far as a request depends on it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ServerFlags {
    pub(super) default_location: Option<String>,
    pub(super) snapshot_providers: BTreeSet<String>,
}

/// Reads the flags from the arguments of the containers of the server's Deployment.
pub(super) fn flags<'a>(arguments: impl IntoIterator<Item = &'a str>) -> ServerFlags {
    let mut words = arguments.into_iter().peekable();
    let mut given = BTreeMap::<&str, &str>::new();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--") else {
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some(pair) => pair,
            // The flag before another one is a switch.
            None => (
                flag,
                words.next_if(|word| !word.starts_with("--")).unwrap_or_default(),
            ),
        };
        given.insert(name, value);
    }
    let providers = given
        .get("default-volume-snapshot-locations")
        .copied()
        .unwrap_or_default();
    ServerFlags {
        default_location: given
            .get("default-backup-storage-location")
            .map(|name| (*name).to_owned()),
        snapshot_providers: providers
            .split(',')
            .filter_map(|pair| pair.split_once(':'))
            .map(|(provider, _)| provider.to_owned())
            .collect(),
    }
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

fn count(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or_default()
}

fn time(value: Option<&Value>) -> Option<Timestamp> {
    text(value).and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_backup_is_read_with_everything_its_server_says() {
        let seen = backup(&object(json!({
            "apiVersion": "velero.io/v1", "kind": "Backup",
            "metadata": {
                "name": "nightly", "uid": "u1", "creationTimestamp": "2026-11-23T03:00:00Z",
                "labels": {OWNER: "run-1"}, "annotations": {POKE: "token"},
            },
            "spec": {"storageLocation": "default"},
            "status": {
                "phase": "FinalizingPartiallyFailed",
                "startTimestamp": "2026-11-23T03:00:01Z", "completionTimestamp": null,
                "expiration": "2026-12-23T03:00:01Z",
                "progress": {"itemsBackedUp": 7, "totalItems": 9},
                "errors": 2, "warnings": 1, "hookStatus": {"hooksAttempted": 3, "hooksFailed": 1},
                "validationErrors": ["one", "one"], "failureReason": "two",
                "somethingNew": {"of": "a later version"},
            },
        })))
        .unwrap();
        assert_eq!(seen.owner, Some(OwnerToken::read("run-1")));
        assert_eq!(seen.phase, Phase::FinalizingPartiallyFailed);
        assert_eq!(seen.progress, Some(ItemProgress::new(7, 9)));
        assert_eq!((seen.errors, seen.warnings, seen.failed_hooks), (2, 1, 1));
        assert_eq!(seen.messages, ["one", "two"]);
        assert_eq!(seen.completed_at, None);
        assert_eq!(seen.started_at, "2026-11-23T03:00:01Z".parse().ok());
        assert_eq!(seen.location.unwrap().as_str(), "default");
        assert_eq!(seen.poked.as_deref(), Some("token"));
    }

    #[test]
    fn an_object_without_a_status_is_new_and_one_of_another_shape_is_no_panic() {
        let bare = json!({"apiVersion": "velero.io/v1", "kind": "Restore", "metadata": {"name": "a"}});
        assert_eq!(restore(&object(bare)).unwrap().phase, Phase::New);
        let strange = json!({
            "apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {"name": "a"},
            "spec": [], "status": {"phase": "Compacting", "progress": 5, "errors": "many", "validationErrors": {}},
        });
        let seen = backup(&object(strange)).unwrap();
        assert_eq!(seen.phase, Phase::Other("Compacting".into()));
        assert_eq!((seen.progress, seen.errors), (None, 0));
    }

    #[test]
    fn a_deletion_waits_for_its_newest_request_and_keeps_what_went_wrong() {
        let request = |created: &str, status: Value| {
            object(json!({
                "apiVersion": "velero.io/v1", "kind": "DeleteBackupRequest",
                "metadata": {"name": "d", "creationTimestamp": created}, "status": status,
            }))
        };
        let waiting = request("2026-11-23T03:00:00Z", json!({"phase": "InProgress"}));
        let new = request("2026-11-23T02:00:00Z", json!({}));
        let failed = request(
            "2026-11-23T01:00:00Z",
            json!({"phase": "Processed", "errors": ["backup deletion failed: backup is still in progress"]}),
        );
        let seen = deletion(true, [&waiting, &new, &failed]);
        assert!(seen.pending && !seen.is_gone());
        assert_eq!(seen.pending_since, "2026-11-23T03:00:00Z".parse().ok());
        assert!(seen.requests.iter().map(DeletionName::as_str).eq(["d"]));
        assert_eq!(seen.errors, ["backup is still in progress"]);

        let late = request(
            "2026-11-23T01:00:00Z",
            json!({"phase": "Processed", "errors": ["backup deletion failed: backup not found"]}),
        );
        let seen = deletion(false, [&late]);
        assert!(seen.is_gone() && seen.errors.is_empty());
    }

    #[test]
    fn a_location_says_what_store_it_is_on_and_whether_it_can_be_used() {
        let facts = location(&object(json!({
            "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation", "metadata": {"name": "default"},
            "spec": {
                "provider": "aws", "accessMode": "ReadOnly",
                "objectStorage": {"bucket": "backups", "prefix": "/east/"},
                "config": {"s3Url": "http://s3"},
            },
            "status": {"phase": "Unavailable", "message": "no such bucket"},
        })));
        assert_eq!(facts.access, LocationAccess::ReadOnly);
        assert_eq!(
            facts.state,
            LocationState::Unavailable {
                message: "no such bucket".into()
            }
        );
        assert_eq!(
            facts.store,
            StoreAddress::new("aws", "backups", "east").with_endpoint("http://s3")
        );
    }

    #[test]
    fn only_a_backup_that_waits_and_names_no_location_is_known_not_to_have_begun() {
        let seen = |location: &str, phase: &str| {
            object(json!({
                "apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {"name": "a"},
                "spec": {"storageLocation": location}, "status": {"phase": phase},
            }))
        };
        for phase in ["", "New", "Queued", "ReadyToStart"] {
            assert!(never_began(&seen("", phase)), "{phase}");
            assert!(!never_began(&seen("default", phase)), "{phase}");
        }
        for phase in ["InProgress", "Completed", "Compacting"] {
            assert!(!never_began(&seen("", phase)), "{phase}");
        }
    }

    #[test]
    fn flags_are_read_in_both_spellings() {
        let read = flags([
            "server",
            "--restore-only",
            "--default-backup-storage-location=main",
            "--default-volume-snapshot-locations",
            "aws:a,csi:b",
        ]);
        assert_eq!(read.default_location.as_deref(), Some("main"));
        assert_eq!(read.snapshot_providers, ["aws", "csi"].map(String::from).into());
        assert_eq!(flags(["server"]), ServerFlags::default());
    }
}
