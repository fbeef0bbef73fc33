//! What the servers do as time passes.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kurator_core::names::{ClusterName, NamespacedName};
use serde_json::Value;

use super::{Fault, MemberState, Objects, Stored, World, selection};
use crate::driver::{
    BackupName, BackupObservation, BackupRequest, ExistingResources, ItemProgress, Phase, RestoreRequest,
    Stage, StoreAddress,
};

/// How long a server keeps a backup that says nothing of it.
const DEFAULT_TTL: SignedDuration = SignedDuration::from_hours(720);

impl World {
    pub(super) fn advance(&mut self, by: SignedDuration) {
        self.now = self.now.saturating_add(by).unwrap_or(self.now);
        let now = self.now;
        let clusters: Vec<ClusterName> = self.members.keys().cloned().collect();
        for cluster in clusters {
            let Some(member) = self.members.get_mut(cluster.as_str()) else {
                continue;
            };
            member.held.retain(|_, lease| lease.until > now);
            super::scratch::leave(member);
            if !member.installed {
                continue;
            }
            delete(member, &mut self.stores);
            back_up(member, &mut self.stores, now);
            restore(member, &self.stores, now);
        }
        // What left the store leaves every server that shows it.
        for member in self.members.values_mut() {
            let stores: Vec<StoreAddress> = addresses(member).cloned().collect();
            member.backups.retain(|name, (_, seen, _)| {
                !seen.phase.is_restorable()
                    || stores
                        .iter()
                        .any(|store| self.stores.get(store).is_some_and(|it| it.contains_key(name)))
            });
        }
    }
}

/// The stores the member's locations are on.
pub(super) fn addresses(member: &MemberState) -> impl Iterator<Item = &StoreAddress> {
    member.facts.locations.values().map(|location| &location.store)
}

pub(super) fn restart(member: &mut MemberState) {
    for (_, seen, _) in member.backups.values_mut() {
        if matches!(seen.phase, Phase::InProgress) {
            seen.phase = Phase::Failed;
            seen.messages = vec!["found in progress when the server started".to_owned()];
        }
    }
    for (_, seen) in member.restores.values_mut() {
        if matches!(seen.phase, Phase::InProgress) {
            seen.phase = Phase::Failed;
        }
    }
    for (request, seen, _) in member.backups.values_mut() {
        if member.deletions.values().any(|(it, _)| it.backup == request.name) {
            seen.phase = Phase::Deleting;
        }
    }
    member.deletions.clear();
}

/// Requests first seen in an earlier step are carried out.
fn delete(member: &mut MemberState, stores: &mut BTreeMap<StoreAddress, BTreeMap<BackupName, Stored>>) {
    let addresses: Vec<StoreAddress> = addresses(member).cloned().collect();
    let backups = &mut member.backups;
    member.deletions.retain(|_, (request, _)| {
        let busy = backups
            .get(&request.backup)
            .is_some_and(|(_, seen, _)| matches!(seen.phase.stage(), Stage::Running | Stage::Finalizing));
        if busy {
            return true;
        }
        backups.remove(&request.backup);
        for address in &addresses {
            if let Some(store) = stores.get_mut(address) {
                store.remove(&request.backup);
            }
        }
        false
    });
}

fn back_up(
    member: &mut MemberState,
    stores: &mut BTreeMap<StoreAddress, BTreeMap<BackupName, Stored>>,
    now: Timestamp,
) {
    let mut ended = Vec::new();
    for (name, (request, seen, fault)) in &mut member.backups {
        if seen.phase == Phase::New {
            begin(request, seen, fault.as_ref());
        } else if seen.phase == Phase::ReadyToStart {
            if seen.poked.is_some() {
                seen.phase = Phase::InProgress;
                seen.started_at = Some(now);
            }
        } else if seen.phase == Phase::InProgress && *fault != Some(Fault::Hangs) {
            let taken = selection::of_backup(&member.objects, &request.scope);
            let count = u64::try_from(taken.values().map(BTreeMap::len).sum::<usize>()).unwrap_or(u64::MAX);
            seen.progress = Some(ItemProgress::new(count, count));
            match fault {
                Some(Fault::Fails(message)) => {
                    seen.phase = Phase::Failed;
                    seen.messages = vec![message.clone()];
                    seen.completed_at = Some(now);
                }
                Some(Fault::FailsPartially(errors)) => {
                    seen.errors = *errors;
                    seen.phase = Phase::FinalizingPartiallyFailed;
                }
                _ => seen.phase = Phase::Finalizing,
            }
        } else if seen.phase.stage() == Stage::Finalizing {
            seen.phase = if seen.phase.is_partial() {
                Phase::PartiallyFailed
            } else {
                Phase::Completed
            };
            seen.completed_at = Some(now);
            ended.push(name.clone());
        }
        if seen.phase == Phase::InProgress && seen.started_at.is_none() {
            seen.started_at = Some(now);
            seen.expires_at = now.checked_add(request.ttl.unwrap_or(DEFAULT_TTL)).ok();
        }
    }
    for name in ended {
        let Some((request, seen, _)) = member.backups.get(&name) else {
            continue;
        };
        let Some((_, location)) = member.facts.location(request.location.as_ref()) else {
            continue;
        };
        let stored = Stored {
            request: request.clone(),
            observation: seen.clone(),
            objects: selection::of_backup(&member.objects, &request.scope),
        };
        stores
            .entry(location.store.clone())
            .or_default()
            .insert(name, stored);
    }
}

fn begin(request: &BackupRequest, seen: &mut BackupObservation, fault: Option<&Fault>) {
    match fault {
        Some(Fault::Refused(message)) => {
            seen.phase = Phase::FailedValidation;
            seen.messages = vec![message.clone()];
        }
        Some(Fault::Forgotten) => seen.phase = Phase::ReadyToStart,
        _ => seen.phase = Phase::InProgress,
    }
    seen.location.clone_from(&request.location);
}

fn restore(
    member: &mut MemberState,
    stores: &BTreeMap<StoreAddress, BTreeMap<BackupName, Stored>>,
    now: Timestamp,
) {
    let addresses: Vec<StoreAddress> = addresses(member).cloned().collect();
    for (request, seen) in member.restores.values_mut() {
        match seen.phase {
            Phase::New => {
                seen.phase = Phase::InProgress;
                seen.started_at = Some(now);
            }
            Phase::InProgress => {
                let stored = addresses
                    .iter()
                    .find_map(|address| stores.get(address)?.get(&request.backup));
                seen.completed_at = Some(now);
                let Some(stored) = stored else {
                    seen.phase = Phase::FailedValidation;
                    seen.messages = vec![format!("backup {} not found", request.backup)];
                    continue;
                };
                let taken = selection::of_restore(&stored.objects, &request.scope);
                let (done, skipped) = put_back(&mut member.objects, taken, request);
                seen.progress = Some(ItemProgress::new(done, done));
                seen.warnings = skipped;
                seen.phase = Phase::Completed;
            }
            _ => {}
        }
    }
}

/// Puts objects back; how many there were, and how many existed and were left with a warning.
fn put_back(objects: &mut Objects, taken: Objects, request: &RestoreRequest) -> (u64, u64) {
    let (mapping, existing) = (&request.namespace_mapping, request.existing);
    let (mut done, mut skipped) = (0, 0);
    for (kind, by_name) in taken {
        let present = objects.entry(kind).or_default();
        for (name, mut object) in by_name {
            let name = match mapping.get(&name.namespace) {
                Some(namespace) => {
                    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                        metadata.insert("namespace".to_owned(), namespace.clone().into());
                    }
                    NamespacedName::new(namespace, name.name)
                }
                None => name,
            };
            replace_classes(&mut object, &request.storage_classes);
            done += 1;
            match present.get(&name) {
                Some(there) if existing == ExistingResources::Skip => {
                    skipped += u64::from(*there != object);
                }
                _ => {
                    present.insert(name, object);
                }
            }
        }
    }
    (done, skipped)
}

/// Claims, volumes and the claim templates of stateful sets get the storage classes that were chosen for theirs.
fn replace_classes(object: &mut Value, chosen: &BTreeMap<String, String>) {
    let replace = |spec: Option<&mut Value>| {
        if let Some(class) = spec.and_then(|spec| spec.get_mut("storageClassName"))
            && let Some(other) = class.as_str().and_then(|class| chosen.get(class))
        {
            *class = other.clone().into();
        }
    };
    match object.get("kind").and_then(Value::as_str) {
        Some("PersistentVolumeClaim" | "PersistentVolume") => replace(object.get_mut("spec")),
        Some("StatefulSet") => {
            let templates = object.pointer_mut("/spec/volumeClaimTemplates");
            for template in templates.and_then(Value::as_array_mut).into_iter().flatten() {
                replace(template.get_mut("spec"));
            }
        }
        _ => {}
    }
}
