use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    discovery::{self, Scope},
};

use super::ApplyFailure;
use crate::{apply::ObjectKey, names::ClusterName};

/// How a member serves a kind.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) resource: ApiResource,
    namespaced: bool,
}

/// How members serve kinds, as far as it was asked. What a member does not serve is not remembered: a definition
/// may be installed any moment.
#[derive(Debug, Default)]
pub(super) struct Kinds(Mutex<ByMember>);

/// By `apiVersion` and `kind`.
type ByMember = BTreeMap<ClusterName, BTreeMap<(String, String), Served>>;

/// How many members the answers of are kept for before all are forgotten.
const MAX_MEMBERS: usize = 8192;

impl Kinds {
    pub(super) async fn resolve(
        &self,
        cluster: &ClusterName,
        client: &Client,
        kind: &GroupVersionKind,
    ) -> Result<Served, ApplyFailure> {
        let key = (kind.api_version(), kind.kind.clone());
        if let Some(served) = self.lock().get(cluster).and_then(|kinds| kinds.get(&key)) {
            return Ok(served.clone());
        }
        let (resource, capabilities) = discovery::pinned_kind(client, kind)
            .await
            .map_err(|error| failure(kind, &error))?;
        let served = Served {
            resource,
            namespaced: capabilities.scope == Scope::Namespaced,
        };
        let mut all = self.lock();
        if all.len() >= MAX_MEMBERS && !all.contains_key(cluster) {
            all.clear();
        }
        all.entry(cluster.clone())
            .or_default()
            .insert(key, served.clone());
        Ok(served)
    }

    /// A list of the kind was not found: its definition went, or the name now means another cluster.
    pub(super) fn forget(&self, cluster: &ClusterName) {
        self.lock().remove(cluster);
    }

    fn lock(&self) -> MutexGuard<'_, ByMember> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Served {
    pub(super) fn of(resource: ApiResource, scope: &Scope) -> Self {
        Self {
            resource,
            namespaced: *scope == Scope::Namespaced,
        }
    }

    pub(super) fn everywhere(&self, client: &Client) -> Api<DynamicObject> {
        Api::all_with(client.clone(), &self.resource)
    }

    /// Where the object is; a namespaced kind needs a namespace and another kind has none.
    pub(super) fn api_of(
        &self,
        client: &Client,
        object: &ObjectKey,
    ) -> Result<Api<DynamicObject>, ApplyFailure> {
        match (self.namespaced, object.object.namespace.is_empty()) {
            (true, false) => Ok(Api::namespaced_with(
                client.clone(),
                &object.object.namespace,
                &self.resource,
            )),
            (false, true) => Ok(self.everywhere(client)),
            (true, true) => Err(ApplyFailure::Invalid {
                message: "metadata.namespace: the kind is namespaced".to_owned(),
            }),
            (false, false) => Err(ApplyFailure::Invalid {
                message: "metadata.namespace: the kind has no namespace".to_owned(),
            }),
        }
    }
}

/// What a failed look at a kind means: here a 404 is not about any object.
pub(super) fn failure(kind: &GroupVersionKind, error: &kube::Error) -> ApplyFailure {
    let nothing = ObjectKey::new(
        kind.group.clone(),
        kind.kind.clone(),
        crate::names::NamespacedName::default(),
    );
    match ApplyFailure::of_error(&nothing, error, 0) {
        ApplyFailure::KindMissing { .. } | ApplyFailure::NamespaceMissing { .. } => {
            ApplyFailure::KindMissing {
                api_version: kind.api_version(),
                kind: kind.kind.clone(),
            }
        }
        other => other,
    }
}
