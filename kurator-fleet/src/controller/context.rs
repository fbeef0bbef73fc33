//! What the reconcilers share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource, ResourceExt};
use kurator_core::clock::Clock;
use kurator_core::multicluster::Members;
use kurator_core::names::ClusterName;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use super::{FleetError, MemberCleaner};
use crate::membership::FleetMembership;

pub(super) struct Context {
    pub(super) hub: Client,
    pub(super) namespace: String,
    pub(super) fleets: Arc<FleetMembership>,
    pub(super) members: Members,
    pub(super) cleaner: Arc<dyn MemberCleaner>,
    pub(super) recorder: Recorder,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) versions: Versions,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Adds our finalizer unless it is there.
    pub(super) async fn hold<K>(&self, object: &K, finalizer: &str) -> Result<(), FleetError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + fmt::Debug
            + Sync,
        K::DynamicType: Default,
    {
        if object.finalizers().iter().any(|it| it == finalizer) {
            return Ok(());
        }
        let finalizers: Vec<&str> = object
            .finalizers()
            .iter()
            .map(String::as_str)
            .chain([finalizer])
            .collect();
        self.set_finalizers(object, &finalizers).await
    }

    /// Removes our finalizer.
    pub(super) async fn release<K>(&self, object: &K, finalizer: &str) -> Result<(), FleetError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + fmt::Debug
            + Sync,
        K::DynamicType: Default,
    {
        let finalizers: Vec<&str> = object
            .finalizers()
            .iter()
            .map(String::as_str)
            .filter(|it| *it != finalizer)
            .collect();
        self.set_finalizers(object, &finalizers).await
    }

    async fn set_finalizers<K>(&self, object: &K, finalizers: &[&str]) -> Result<(), FleetError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + fmt::Debug
            + Sync,
        K::DynamicType: Default,
    {
        let name = object.name_any();
        // With the version: the list replaces one that others may have added to.
        let patch = json!({
            "metadata": { "finalizers": finalizers, "resourceVersion": object.resource_version(), "uid": object.uid() },
        });
        let api: Api<K> = Api::namespaced(self.hub.clone(), &self.namespace);
        match api
            .patch_metadata(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(FleetError::hub("set the finalizers of", &name, source)),
        }
    }

    /// An Event, as well as it goes.
    pub(super) async fn tell(&self, about: ObjectReference, type_: EventType, reason: &str, note: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            tracing::debug!(%error, reason, "an Event was not recorded");
        }
    }
}

/// The versions of members' API servers, asked for again now and then: an upgrade shows without an outage.
#[derive(Debug, Default)]
pub(super) struct Versions {
    known: Mutex<BTreeMap<ClusterName, (Instant, String)>>,
}

impl Versions {
    /// How old an answer may be.
    pub(super) const FRESH: Duration = Duration::from_secs(600);
    /// How long a member may take to answer.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// The version of a member, as it said in the last ten minutes or says now; `None` when it does not.
    pub(super) async fn of(&self, members: &Members, name: &ClusterName) -> Option<String> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(engaged) = members.get(name) else {
            // It may come back as another version.
            lock().remove(name);
            return None;
        };
        if let Some((asked, version)) = lock().get(name)
            && asked.elapsed() < Self::FRESH
        {
            return Some(version.clone());
        }
        let client = engaged.client();
        let answer = tokio::time::timeout(Self::PATIENCE, client.apiserver_version()).await;
        let version = answer.ok().and_then(Result::ok)?.git_version;
        let mut known = lock();
        known.retain(|other, _| members.get(other).is_some());
        known.insert(name.clone(), (Instant::now(), version.clone()));
        Some(version)
    }
}
