//! Controllers of pods, and how many replicas each wants.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::ReplicationController,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::{
    Model, ModelError, key_of,
    symbols::{Map, Sym, Symbols, id},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OwnerKey {
    pub(crate) namespace: Sym,
    pub(crate) kind: Sym,
    pub(crate) name: Sym,
}

impl OwnerKey {
    pub(crate) fn new(namespace: Sym, kind: &str, name: &str, symbols: &mut Symbols) -> Self {
        Self {
            namespace,
            kind: symbols.intern(kind),
            name: symbols.intern(name),
        }
    }
}

/// A controller, known from a reference or from its object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnerRecord {
    pub(crate) key: OwnerKey,
    /// `spec.replicas`, if the object is known.
    pub(crate) replicas: Option<i64>,
    /// The Deployment of a ReplicaSet.
    pub(crate) parent: Option<u32>,
    /// Its pods that have not finished and are not being deleted.
    pub(crate) alive: u32,
}

/// Every controller some pod or object named.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners {
    ids: Map<OwnerKey, u32>,
    rows: Vec<OwnerRecord>,
}

impl Owners {
    pub(crate) fn id(&mut self, key: OwnerKey) -> u32 {
        *self.ids.entry(key).or_insert_with(|| {
            self.rows.push(OwnerRecord {
                key,
                replicas: None,
                parent: None,
                alive: 0,
            });
            id(self.rows.len() - 1)
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &OwnerRecord)> {
        (0u32..).zip(&self.rows)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut OwnerRecord> {
        self.rows.get_mut(id as usize)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&OwnerRecord> {
        self.rows.get(id as usize)
    }

    /// The controller whose scale counts: the Deployment above a ReplicaSet, else itself.
    pub(crate) fn root(&self, id: u32) -> u32 {
        self.get(id).and_then(|owner| owner.parent).unwrap_or(id)
    }

    fn set(&mut self, key: OwnerKey, replicas: Option<i64>, parent: Option<u32>) {
        let at = self.id(key);
        if let Some(row) = self.rows.get_mut(at as usize) {
            row.replicas = replicas;
            row.parent = parent;
        }
    }
}

/// The reference of the one owner that manages the object.
pub(crate) fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

impl Model {
    /// Takes in a Deployment.
    ///
    /// # Errors
    /// [`ModelError`] for a missing name or negative replicas.
    pub fn upsert_deployment(&mut self, owner: &Deployment) -> Result<(), ModelError> {
        let replicas = owner.spec.replicas;
        self.upsert_owner("Deployment", &owner.metadata, replicas)
    }

    /// Takes in a ReplicaSet.
    ///
    /// # Errors
    /// [`ModelError`] for a missing name or negative replicas.
    pub fn upsert_replica_set(&mut self, owner: &ReplicaSet) -> Result<(), ModelError> {
        let replicas = owner.spec.replicas;
        self.upsert_owner("ReplicaSet", &owner.metadata, replicas)
    }

    /// Takes in a StatefulSet.
    ///
    /// # Errors
    /// [`ModelError`] for a missing name or negative replicas.
    pub fn upsert_stateful_set(&mut self, owner: &StatefulSet) -> Result<(), ModelError> {
        let replicas = owner.spec.replicas;
        self.upsert_owner("StatefulSet", &owner.metadata, replicas)
    }

    /// Takes in a ReplicationController.
    ///
    /// # Errors
    /// [`ModelError`] for a missing name or negative replicas.
    pub fn upsert_replication_controller(&mut self, owner: &ReplicationController) -> Result<(), ModelError> {
        let replicas = owner.spec.as_ref().and_then(|spec| spec.replicas);
        self.upsert_owner("ReplicationController", &owner.metadata, replicas)
    }

    fn upsert_owner(
        &mut self,
        kind: &str,
        metadata: &ObjectMeta,
        replicas: Option<i32>,
    ) -> Result<(), ModelError> {
        let (namespace, name) = key_of(kind, metadata)?;
        // The API server's default.
        let replicas = replicas.unwrap_or(1);
        if replicas < 0 {
            return Err(ModelError::OutOfRange {
                object: format!("{kind} {namespace}/{name}"),
                field: "spec.replicas".into(),
                value: replicas.to_string(),
                range: "0 and up",
            });
        }
        let namespace = self.symbols.intern(namespace);
        let key = OwnerKey::new(namespace, kind, name, &mut self.symbols);
        let parent = controller(metadata)
            .filter(|parent| parent.kind == "Deployment")
            .map(|parent| {
                let key = OwnerKey::new(namespace, &parent.kind, &parent.name, &mut self.symbols);
                self.owners.id(key)
            });
        self.owners.set(key, Some(i64::from(replicas)), parent);
        Ok(())
    }

    /// Forgets the object of a controller; pods may still name it.
    pub fn remove_owner(&mut self, kind: &str, namespace: &str, name: &str) {
        let find = |text| self.symbols.find(text);
        if let (Some(namespace), Some(kind), Some(name)) = (find(namespace), find(kind), find(name)) {
            let key = OwnerKey {
                namespace,
                kind,
                name,
            };
            if self.owners.ids.contains_key(&key) {
                self.owners.set(key, None, None);
            }
        }
    }
}
