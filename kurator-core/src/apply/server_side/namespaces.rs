//! Namespaces that were created for an object, once nothing is left in them.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PartialObjectMeta, Preconditions},
    core::{DynamicObject, GroupVersionKind},
    discovery::{ApiResource, Discovery, Scope, verbs},
};

use super::{ApplyFailure, CONCURRENCY, kinds};
use crate::apply::{ANNOTATION_OWNER_NAME, LABEL_HUB};

/// What is in every namespace by itself, and goes with it.
const BY_ITSELF: [(&str, &str); 2] = [("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")];
/// What tells of objects and is none.
const TRACES: [&str; 1] = ["Event"];

/// Deletes the namespaces that this hub created, is not going to use, and in which nothing is. Tells how many of them
/// are still there because something is.
pub(super) async fn remove_empty(
    client: &Client,
    hub: &str,
    keep: &BTreeSet<String>,
) -> Result<usize, ApplyFailure> {
    let gvk = GroupVersionKind::gvk("", "v1", "Namespace");
    let api: Api<Namespace> = Api::all(client.clone());
    let ours = ListParams::default().labels(&format!("{LABEL_HUB}={hub}"));
    let created = api
        .list_metadata(&ours)
        .await
        .map_err(|error| kinds::failure(&gvk, &error))?;
    let unused: Vec<_> = created
        .items
        .into_iter()
        .filter(|namespace| {
            !keep.contains(&namespace.name_any())
                && namespace.metadata.deletion_timestamp.is_none()
                && namespace.annotations().contains_key(ANNOTATION_OWNER_NAME)
        })
        .collect();
    if unused.is_empty() {
        return Ok(0);
    }
    let kinds = every_kind(client).await?;
    let mut left = 0;
    for namespace in unused {
        if is_empty(client, &kinds, &namespace.name_any()).await? {
            remove(&api, &namespace).await?;
        } else {
            left += 1;
        }
    }
    Ok(left)
}

async fn every_kind(client: &Client) -> Result<Vec<ApiResource>, ApplyFailure> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await;
    let discovery =
        discovery.map_err(|error| kinds::failure(&GroupVersionKind::gvk("", "v1", ""), &error))?;
    let resources = discovery.groups().flat_map(|group| group.recommended_resources());
    let in_namespaces = resources.filter(|(resource, capabilities)| {
        capabilities.scope == Scope::Namespaced
            && capabilities.supports_operation(verbs::LIST)
            && !TRACES.contains(&resource.kind.as_str())
    });
    Ok(in_namespaces.map(|(resource, _)| resource).collect())
}

/// Whether nothing is in a namespace but what every namespace has. What cannot be listed is not known to be empty.
async fn is_empty(client: &Client, kinds: &[ApiResource], namespace: &str) -> Result<bool, ApplyFailure> {
    let lists: Vec<_> = kinds.iter().map(|kind| holds(client, kind, namespace)).collect();
    let mut lists = stream::iter(lists).buffer_unordered(CONCURRENCY);
    while let Some(holds) = lists.next().await {
        if holds? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn holds(client: &Client, kind: &ApiResource, namespace: &str) -> Result<bool, ApplyFailure> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, kind);
    // One more than is there by itself is enough to know.
    let few = ListParams::default().limit(2);
    match api.list_metadata(&few).await {
        Ok(found) => Ok(found.items.iter().any(|object| !is_by_itself(kind, object))),
        // Gone since discovery.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => {
            let gvk = GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind);
            Err(kinds::failure(&gvk, &error))
        }
    }
}

fn is_by_itself(kind: &ApiResource, object: &PartialObjectMeta<DynamicObject>) -> bool {
    kind.group.is_empty() && BY_ITSELF.contains(&(kind.kind.as_str(), object.name_any().as_str()))
}

/// Deletes the namespace unless it has changed since it was looked at: somebody may have made it theirs.
async fn remove(api: &Api<Namespace>, namespace: &PartialObjectMeta<Namespace>) -> Result<(), ApplyFailure> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            resource_version: namespace.resource_version(),
            uid: namespace.uid(),
        }),
        ..DeleteParams::default()
    };
    match api.delete(&namespace.name_any(), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 409 => Ok(()),
        Err(error) => Err(kinds::failure(
            &GroupVersionKind::gvk("", "v1", "Namespace"),
            &error,
        )),
    }
}
