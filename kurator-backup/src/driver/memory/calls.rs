//! The calls of a driver, without waiting.

use std::collections::{BTreeMap, BTreeSet};

use kurator_core::names::ClusterName;

use super::{InMemoryBackups, JournalEntry, MemberState, World, server::addresses};
use crate::driver::{
    BackupName, BackupObservation, BackupRequest, Capabilities, ClaimReader, ClaimedClass, Claims, Created,
    DeletionObservation, DeletionRequest, DriverError, Inventory, MemberFacts, Observation, OwnerToken,
    Phase, QuiesceRequest, QuiesceState, ResourceKind, RestoreName, RestoreObservation, RestoreRequest,
    StoreWriter,
};

/// The calls of `BackupDriver` and `ConsistencyBarrier`, for whoever has no async. They mean the same.
impl InMemoryBackups {
    /// The server, its locations, and what a request may refer to.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn facts(&self, cluster: &ClusterName) -> Result<MemberFacts, DriverError> {
        let world = self.lock();
        let member = world.server(cluster, "read its facts")?;
        let mut facts = member.facts.clone();
        for (name, location) in &member.facts.locations {
            let mut writers = Vec::new();
            for (backup, stored) in world.stores.get(&location.store).into_iter().flatten() {
                StoreWriter::note(&mut writers, backup.as_str(), &stored.request.labels);
            }
            facts.writers.insert(name.clone(), writers);
        }
        Ok(facts)
    }

    /// What the member can take in.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn capabilities(&self, cluster: &ClusterName) -> Result<Capabilities, DriverError> {
        let world = self.lock();
        let member = world.reach(cluster, "read what it serves")?;
        let mut capabilities = member.capabilities.clone();
        if capabilities.kinds.is_empty() {
            // A member that was told nothing takes whatever there is.
            let everywhere = world.members.values().flat_map(|member| member.objects.keys());
            let stored = world.stores.values().flat_map(BTreeMap::values);
            capabilities.kinds = everywhere
                .chain(stored.flat_map(|stored| stored.objects.keys()))
                .cloned()
                .collect();
        }
        if capabilities.storage_classes.is_empty() {
            let everywhere = world.members.values().flat_map(|member| member.objects.values());
            let stored = world.stores.values().flat_map(BTreeMap::values);
            let mut reader = ClaimReader::default();
            for objects in everywhere.chain(stored.flat_map(|stored| stored.objects.values())) {
                objects.values().for_each(|object| reader.take(object));
            }
            let named = reader.finish().into_values().filter_map(|class| match class {
                ClaimedClass::Named(class) => Some(class),
                _ => None,
            });
            capabilities.storage_classes = named.collect();
        }
        Ok(capabilities)
    }

    /// The objects of these kinds that are on the member.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn inventory(
        &self,
        cluster: &ClusterName,
        kinds: &BTreeSet<ResourceKind>,
    ) -> Result<Inventory, DriverError> {
        let world = self.lock();
        let member = world.reach(cluster, "list objects")?;
        Ok(member
            .objects
            .iter()
            .filter(|(kind, _)| kinds.contains(kind))
            .map(|(kind, objects)| (kind.clone(), objects.keys().cloned().collect()))
            .collect())
    }

    /// Creates a backup, once.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn create_backup(
        &self,
        cluster: &ClusterName,
        request: &BackupRequest,
    ) -> Result<Created, DriverError> {
        let action = format!("create backup {}", request.name);
        let mut world = self.lock();
        world.server(cluster, &action)?;
        let (now, uid) = (world.now, world.uid());
        if let Some((_, seen, _)) = world.member(cluster).and_then(|it| it.backups.get(&request.name)) {
            return adopt(
                cluster,
                request.name.as_str(),
                seen.owner.as_ref(),
                &request.owner,
            );
        }
        let mut seen = Observation::new(request.name.clone(), uid);
        seen.owner = Some(request.owner.clone());
        seen.labels.clone_from(&request.labels);
        seen.created_at = Some(now);
        let taken = world.member(cluster).is_some_and(|member| {
            let location = member.facts.location(request.location.as_ref());
            location.is_some_and(|(_, location)| {
                let store = world.stores.get(&location.store);
                store.is_some_and(|store| store.contains_key(&request.name))
            })
        });
        if taken {
            seen.phase = Phase::Failed;
            seen.messages = vec!["a backup of this name is in the store already".to_owned()];
        }
        world.write(cluster, action, |member| {
            let fault = member.faults.pop_front();
            member
                .backups
                .insert(request.name.clone(), (request.clone(), seen, fault));
        })?;
        Ok(Created::New)
    }

    /// The backup of that name.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn backup(
        &self,
        cluster: &ClusterName,
        name: &BackupName,
    ) -> Result<Option<BackupObservation>, DriverError> {
        let world = self.lock();
        let member = world.server(cluster, "read a backup")?;
        Ok(match member.backups.get(name) {
            Some((_, seen, _)) => Some(seen.clone()),
            None => world.synced(member).remove(name),
        })
    }

    /// Every backup the member's server shows.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn backups(&self, cluster: &ClusterName) -> Result<Vec<BackupObservation>, DriverError> {
        let world = self.lock();
        let member = world.server(cluster, "list backups")?;
        let mut all = world.synced(member);
        for (name, (_, seen, _)) in &member.backups {
            all.insert(name.clone(), seen.clone());
        }
        Ok(all.into_values().collect())
    }

    /// What is in a backup.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn contents(&self, cluster: &ClusterName, name: &BackupName) -> Result<Inventory, DriverError> {
        let world = self.lock();
        let member = world.server(cluster, "read the list of a backup")?;
        let stored = addresses(member).find_map(|address| world.stores.get(address)?.get(name));
        let Some(stored) = stored else {
            return Err(DriverError::NotFound {
                cluster: cluster.clone(),
                what: format!("backup {name}"),
            });
        };
        let names = |(kind, objects): (&ResourceKind, &BTreeMap<_, _>)| {
            (kind.clone(), objects.keys().cloned().collect())
        };
        Ok(stored.objects.iter().map(names).collect())
    }

    /// The volume claims in a backup.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn claims(&self, cluster: &ClusterName, name: &BackupName) -> Result<Claims, DriverError> {
        let world = self.lock();
        let member = world.server(cluster, "read the volume claims of a backup")?;
        let stored = addresses(member).find_map(|address| world.stores.get(address)?.get(name));
        let Some(stored) = stored else {
            return Err(DriverError::NotFound {
                cluster: cluster.clone(),
                what: format!("backup {name}"),
            });
        };
        let mut reader = ClaimReader::default();
        for object in stored.objects.values().flat_map(BTreeMap::values) {
            reader.take(object);
        }
        Ok(reader.finish())
    }

    /// Touches a backup so that its server looks at it again.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn poke(&self, cluster: &ClusterName, name: &BackupName, token: &str) -> Result<(), DriverError> {
        let action = format!("poke backup {name}");
        let mut world = self.lock();
        let member = world.server(cluster, &action)?;
        match member.backups.get(name) {
            None => Err(DriverError::NotFound {
                cluster: cluster.clone(),
                what: format!("backup {name}"),
            }),
            Some((_, seen, _)) if seen.poked.as_deref() == Some(token) => Ok(()),
            Some(_) => world.write(cluster, action, |member| {
                if let Some((_, seen, _)) = member.backups.get_mut(name) {
                    seen.poked = Some(token.to_owned());
                }
            }),
        }
    }

    /// Asks the server to delete a backup, once.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn request_deletion(
        &self,
        cluster: &ClusterName,
        request: &DeletionRequest,
    ) -> Result<Created, DriverError> {
        let action = format!("delete backup {}", request.backup);
        let mut world = self.lock();
        let member = world.server(cluster, &action)?;
        if let Some((there, _)) = member.deletions.get(&request.name) {
            return adopt(cluster, request.name.as_str(), Some(&there.owner), &request.owner);
        }
        let now = world.now;
        world.write(cluster, action, |member| {
            member
                .deletions
                .insert(request.name.clone(), (request.clone(), now));
        })?;
        Ok(Created::New)
    }

    /// How far the deletion of a backup is.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn deletion(
        &self,
        cluster: &ClusterName,
        backup: &BackupName,
    ) -> Result<DeletionObservation, DriverError> {
        let present = self.backup(cluster, backup)?.is_some();
        let world = self.lock();
        let member = world.server(cluster, "read a deletion")?;
        let since = member
            .deletions
            .values()
            .filter(|(request, _)| request.backup == *backup)
            .map(|(_, since)| *since)
            .max();
        let requests = member.deletions.values();
        Ok(DeletionObservation {
            requests: requests
                .filter(|(request, _)| request.backup == *backup)
                .map(|(request, _)| request.name.clone())
                .collect(),
            backup_present: present,
            pending: since.is_some(),
            pending_since: since,
            errors: Vec::new(),
        })
    }

    /// Creates a restore, once.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn create_restore(
        &self,
        cluster: &ClusterName,
        request: &RestoreRequest,
    ) -> Result<Created, DriverError> {
        let action = format!("create restore {}", request.name);
        let mut world = self.lock();
        let member = world.server(cluster, &action)?;
        if let Some((_, seen)) = member.restores.get(&request.name) {
            return adopt(
                cluster,
                request.name.as_str(),
                seen.owner.as_ref(),
                &request.owner,
            );
        }
        let mut seen = Observation::new(request.name.clone(), world.uid());
        seen.owner = Some(request.owner.clone());
        seen.created_at = Some(world.now);
        world.write(cluster, action, |member| {
            member
                .restores
                .insert(request.name.clone(), (request.clone(), seen));
        })?;
        Ok(Created::New)
    }

    /// The restore of that name.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn restore(
        &self,
        cluster: &ClusterName,
        name: &RestoreName,
    ) -> Result<Option<RestoreObservation>, DriverError> {
        let world = self.lock();
        let member = world.server(cluster, "read a restore")?;
        Ok(member.restores.get(name).map(|(_, seen)| seen.clone()))
    }

    /// Takes or renews a lease.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn quiesce(
        &self,
        cluster: &ClusterName,
        request: &QuiesceRequest,
    ) -> Result<QuiesceState, DriverError> {
        let action = format!("quiesce for {}", request.owner);
        let mut world = self.lock();
        let member = world.reach(cluster, &action)?;
        if let Some(message) = &member.refuses_to_hold {
            return Ok(QuiesceState::Failed {
                message: message.clone(),
            });
        }
        if request.only_renew && !member.held.contains_key(&request.owner) {
            return Ok(QuiesceState::Failed {
                message: "there is no lease to renew".to_owned(),
            });
        }
        let held_until = member.held.get(&request.owner).map(|lease| lease.until);
        if held_until != Some(request.until) && request.until > world.now {
            world.write(cluster, action, |member| {
                member.held.insert(request.owner.clone(), request.clone());
            })?;
        }
        let pods = u32::try_from(request.hooks.len()).unwrap_or(u32::MAX);
        Ok(QuiesceState::Held {
            pods,
            until: request.until,
        })
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn release(&self, cluster: &ClusterName, request: &QuiesceRequest) -> Result<(), DriverError> {
        let action = format!("release for {}", request.owner);
        let mut world = self.lock();
        let member = world.reach(cluster, &action)?;
        if !member.held.contains_key(&request.owner) {
            return Ok(());
        }
        world.write(cluster, action, |member| {
            member.held.remove(&request.owner);
        })
    }

    /// Who holds the member still.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn holders(&self, cluster: &ClusterName) -> Result<BTreeSet<OwnerToken>, DriverError> {
        let world = self.lock();
        let member = world.reach(cluster, "read who holds it")?;
        Ok(member.held.keys().cloned().collect())
    }
}

impl World {
    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    fn member(&self, cluster: &ClusterName) -> Option<&MemberState> {
        self.members.get(cluster.as_str())
    }

    /// The member, if it answers.
    pub(super) fn reach(&self, cluster: &ClusterName, action: &str) -> Result<&MemberState, DriverError> {
        match self.member(cluster) {
            Some(member) if member.reachable => Ok(member),
            _ => Err(unreachable(cluster, action)),
        }
    }

    /// The member, if it answers and has a server.
    fn server(&self, cluster: &ClusterName, action: &str) -> Result<&MemberState, DriverError> {
        let member = self.reach(cluster, action)?;
        if member.installed {
            return Ok(member);
        }
        Err(DriverError::NotInstalled {
            cluster: cluster.clone(),
            missing: "the backup server".to_owned(),
        })
    }

    /// Does a write, and loses its answer where that was asked for.
    pub(super) fn write(
        &mut self,
        cluster: &ClusterName,
        action: String,
        change: impl FnOnce(&mut MemberState),
    ) -> Result<(), DriverError> {
        let at = self.now;
        let Some(member) = self.members.get_mut(cluster.as_str()) else {
            return Err(unreachable(cluster, &action));
        };
        change(member);
        let lost = member.lost_answers > 0;
        member.lost_answers = member.lost_answers.saturating_sub(1);
        let answer = if lost {
            Err(unreachable(cluster, &action))
        } else {
            Ok(())
        };
        self.journal.push(JournalEntry {
            at,
            cluster: cluster.clone(),
            what: action,
        });
        answer
    }

    /// The backups of others that the member's server finds in its stores.
    fn synced(&self, member: &MemberState) -> BTreeMap<BackupName, BackupObservation> {
        addresses(member)
            .filter_map(|address| self.stores.get(address))
            .flatten()
            .map(|(name, stored)| {
                let mut seen = stored.observation.clone();
                seen.location.clone_from(&stored.request.location);
                (name.clone(), seen)
            })
            .collect()
    }
}

fn unreachable(cluster: &ClusterName, action: &str) -> DriverError {
    DriverError::Unreachable {
        cluster: cluster.clone(),
        action: action.to_owned(),
        source: None,
    }
}

fn adopt(
    cluster: &ClusterName,
    name: &str,
    there: Option<&OwnerToken>,
    wanted: &OwnerToken,
) -> Result<Created, DriverError> {
    if there == Some(wanted) {
        return Ok(Created::Adopted);
    }
    Err(DriverError::NameTaken {
        cluster: cluster.clone(),
        name: name.to_owned(),
        holder: there.map_or_else(|| "no owner".to_owned(), ToString::to_string),
    })
}
