//! Scratch namespaces of members in memory: they are guarded a moment after they were made, and take a moment to go.

use kurator_core::names::{ClusterName, NamespacedName};
use serde_json::{Value, json};

use super::{InMemoryBackups, MemberState};
use crate::{
    api::labels,
    driver::{DriverError, ResourceKind, ScratchNamespace, ScratchRequest, ScratchView},
};

const MADE: &str = "creationTimestamp";
const GOES: &str = "deletionTimestamp";

fn kind() -> ResourceKind {
    ResourceKind::new("v1", "Namespace")
}

fn is_of(namespace: &Value, request: &ScratchRequest) -> bool {
    let labels = &namespace["metadata"]["labels"];
    labels[labels::OWNER] == request.owner.as_str() && labels[labels::SCRATCH] == "true"
}

fn find<'a>(member: &'a MemberState, name: &str) -> Option<&'a Value> {
    member
        .objects
        .get(&kind())?
        .get(&NamespacedName::cluster_scoped(name))
}

/// Namespaces that were told to go are gone, with all that is in them.
pub(super) fn leave(member: &mut MemberState) {
    let Some(namespaces) = member.objects.get_mut(&kind()) else {
        return;
    };
    let mut gone = Vec::new();
    namespaces.retain(|name, namespace| {
        let goes = namespace["metadata"].get(GOES).is_some();
        if goes {
            gone.push(name.name.clone());
        }
        !goes
    });
    for objects in member.objects.values_mut() {
        objects.retain(|name, _| !gone.contains(&name.namespace));
    }
}

impl InMemoryBackups {
    /// Scratch namespaces as they are.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn scratch(
        &self,
        cluster: &ClusterName,
        request: &ScratchRequest,
    ) -> Result<ScratchView, DriverError> {
        let world = self.lock();
        let member = world.reach(cluster, "look at scratch namespaces")?;
        let now = world.now.to_string();
        let look = |name: &String| {
            let state = match find(member, name) {
                None => ScratchNamespace::Absent,
                Some(found) if !is_of(found, request) => ScratchNamespace::Foreign,
                Some(found) if found["metadata"].get(GOES).is_some() => ScratchNamespace::Leaving,
                Some(found) if found["metadata"][MADE] == now.as_str() => ScratchNamespace::Unguarded,
                Some(_) => ScratchNamespace::Ready,
            };
            (name.clone(), state)
        };
        Ok(request.names.iter().map(look).collect())
    }

    /// Makes scratch namespaces, once.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn make_scratch(&self, cluster: &ClusterName, request: &ScratchRequest) -> Result<(), DriverError> {
        let mut world = self.lock();
        let now = world.now.to_string();
        for name in &request.names {
            if find(world.reach(cluster, "make a scratch namespace")?, name).is_some() {
                continue;
            }
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {
                    "name": name, MADE: now,
                    "labels": { labels::OWNER: request.owner.as_str(), labels::SCRATCH: "true" },
                },
            });
            world.write(cluster, format!("make namespace {name}"), |member| {
                let namespaces = member.objects.entry(kind()).or_default();
                namespaces.insert(NamespacedName::cluster_scoped(name), namespace);
            })?;
        }
        Ok(())
    }

    /// Begins to remove scratch namespaces.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn remove_scratch(&self, cluster: &ClusterName, request: &ScratchRequest) -> Result<(), DriverError> {
        let mut world = self.lock();
        let now = world.now.to_string();
        for name in &request.names {
            let found = find(world.reach(cluster, "remove a scratch namespace")?, name);
            let going = |it: &Value| it["metadata"].get(GOES).is_some();
            if !found.is_some_and(|it| is_of(it, request) && !going(it)) {
                continue;
            }
            world.write(cluster, format!("remove namespace {name}"), |member| {
                let namespaces = member.objects.entry(kind()).or_default();
                let namespace = namespaces.get_mut(&NamespacedName::cluster_scoped(name));
                let metadata = namespace.and_then(|it| it["metadata"].as_object_mut());
                if let Some(metadata) = metadata {
                    metadata.insert(GOES.to_owned(), now.clone().into());
                }
            })?;
        }
        Ok(())
    }
}
