//! Taking everything that this hub placed off a member.

use std::fmt;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use kube::api::{DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::discovery::{Discovery, verbs};
use kube::{Api, Client, ResourceExt};
use kurator_core::apply::{FIELD_MANAGER, LABEL_HUB};

/// How many kinds are looked through at once.
const AT_ONCE: usize = 8;

/// Takes off a member what the fleet placed there. Asked when a member leaves, again and again until nothing remains.
#[async_trait]
pub trait MemberCleaner: fmt::Debug + Send + Sync + 'static {
    /// Deletes what is there and says how many objects still are: those whose deletion is under way count.
    ///
    /// # Errors
    /// Whatever keeps it from knowing that number.
    async fn clean(&self, member: &Client) -> Result<u64, kube::Error>;
}

/// Deletes every object that carries the label of this hub and that our field manager applied.
///
/// # RBAC
/// On the member: `list` and `delete` of the kinds that policies place; kinds it may not list are passed over, because
/// it cannot have placed them.
#[derive(Clone, Debug)]
pub struct PlacedObjects {
    hub: String,
}

impl PlacedObjects {
    /// What the hub with this identity (the UID of its `kube-system` namespace) placed.
    pub fn new(hub: impl Into<String>) -> Self {
        Self { hub: hub.into() }
    }
}

#[async_trait]
impl MemberCleaner for PlacedObjects {
    async fn clean(&self, member: &Client) -> Result<u64, kube::Error> {
        let discovery = Discovery::new(member.clone()).run().await?;
        let kinds: Vec<_> = discovery
            .groups()
            .flat_map(|group| group.recommended_resources())
            .filter(|(_, capabilities)| {
                capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::DELETE)
            })
            .map(|(resource, _)| resource)
            .collect();
        let params = ListParams::default().labels(&format!("{LABEL_HUB}={}", self.hub));
        futures::stream::iter(kinds)
            .map(|resource| {
                let (params, member) = (params.clone(), member.clone());
                async move {
                    let found: Api<DynamicObject> = Api::all_with(member.clone(), &resource);
                    let found = match found.list_metadata(&params).await {
                        Ok(found) => found.items,
                        Err(kube::Error::Api(status)) if matches!(status.code, 403..=405) => Vec::new(),
                        Err(error) => return Err(error),
                    };
                    let mut remain = 0;
                    for object in found.iter().filter(|object| placed(object)) {
                        remain += 1;
                        let api: Api<DynamicObject> = match object.namespace() {
                            Some(namespace) => Api::namespaced_with(member.clone(), &namespace, &resource),
                            None => Api::all_with(member.clone(), &resource),
                        };
                        delete(&api, object).await?;
                    }
                    Ok(remain)
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_fold(0, async |sum, remain: u64| Ok(sum + remain))
            .await
    }
}

/// Labels can be copied to other objects by their controllers; what our manager applied is ours.
fn placed(object: &PartialObjectMeta<DynamicObject>) -> bool {
    object.managed_fields().iter().any(|entry| {
        entry.operation.as_deref() == Some("Apply") && entry.manager.as_deref() == Some(FIELD_MANAGER)
    })
}

async fn delete(
    api: &Api<DynamicObject>,
    object: &PartialObjectMeta<DynamicObject>,
) -> Result<(), kube::Error> {
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let preconditions = Preconditions {
        uid: object.uid(),
        resource_version: None,
    };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::background()
    };
    match api.delete(&object.name_any(), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}
