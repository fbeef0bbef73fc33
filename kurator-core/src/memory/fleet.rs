use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{InMemoryMember, MemoryError};
use crate::names::ClusterName;

/// Members in memory. Clones are the same fleet.
#[derive(Clone, Debug, Default)]
pub struct InMemoryFleet {
    members: Arc<Mutex<BTreeMap<ClusterName, InMemoryMember>>>,
    #[cfg(feature = "client")]
    pub(super) revision: Arc<super::client::Revision>,
}

impl InMemoryFleet {
    /// A fleet of empty members.
    pub fn new(members: impl IntoIterator<Item = ClusterName>) -> Self {
        let fleet = Self::default();
        members.into_iter().for_each(|name| drop(fleet.join(name)));
        fleet
    }

    /// Adds an empty member, or returns the one of that name.
    pub fn join(&self, name: ClusterName) -> InMemoryMember {
        let member = self
            .lock()
            .entry(name.clone())
            .or_insert_with(|| InMemoryMember::new(name))
            .clone();
        self.changed();
        member
    }

    /// Takes a member out. Its objects stay on it, for whoever still holds it.
    pub fn leave(&self, name: &ClusterName) -> Option<InMemoryMember> {
        let member = self.lock().remove(name);
        self.changed();
        member
    }

    /// A member by its name.
    ///
    /// # Errors
    /// [`MemoryError::UnknownMember`].
    pub fn member(&self, name: &ClusterName) -> Result<InMemoryMember, MemoryError> {
        let member = self.lock().get(name).cloned();
        member.ok_or_else(|| MemoryError::UnknownMember {
            cluster: name.clone(),
        })
    }

    /// The members, sorted by name.
    pub fn members(&self) -> Vec<InMemoryMember> {
        self.lock().values().cloned().collect()
    }

    /// [`InMemoryMember::settle`] on every member.
    pub fn settle(&self) {
        self.members().iter().for_each(InMemoryMember::settle);
    }

    fn changed(&self) {
        #[cfg(feature = "client")]
        self.revision.advance();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterName, InMemoryMember>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
