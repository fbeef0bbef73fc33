//! One cluster, read whole.

use std::fmt::Debug;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController},
    policy::v1::PodDisruptionBudget,
    storage::v1::CSINode,
};
use kube::{Api, Client, api::ListParams};
use serde::de::DeserializeOwned;

use crate::scaling::Object;

/// Objects a page.
const PAGE: u32 = 500;

/// Reads everything a plan depends on, page by page: what `kubectl get nodes,pods,pdb,... -A` would.
///
/// # RBAC
/// `list` on nodes, pods, namespaces, replicationcontrollers, persistentvolumes and persistentvolumeclaims; on
/// `apps` deployments, replicasets and statefulsets; on `policy/poddisruptionbudgets` and `storage.k8s.io/csinodes`.
///
/// # Errors
/// What the API server said to the first list it refused.
pub async fn observe(client: &Client) -> Result<Vec<Object>, kube::Error> {
    let mut objects = Vec::new();
    list::<Node>(client, Object::Node, &mut objects).await?;
    list::<Pod>(client, Object::Pod, &mut objects).await?;
    list::<PodDisruptionBudget>(client, Object::PodDisruptionBudget, &mut objects).await?;
    list::<Deployment>(client, Object::Deployment, &mut objects).await?;
    list::<ReplicaSet>(client, Object::ReplicaSet, &mut objects).await?;
    list::<StatefulSet>(client, Object::StatefulSet, &mut objects).await?;
    list::<ReplicationController>(client, Object::ReplicationController, &mut objects).await?;
    list::<PersistentVolumeClaim>(client, Object::PersistentVolumeClaim, &mut objects).await?;
    list::<PersistentVolume>(client, Object::PersistentVolume, &mut objects).await?;
    list::<CSINode>(client, Object::CsiNode, &mut objects).await?;
    list::<Namespace>(client, Object::Namespace, &mut objects).await?;
    Ok(objects)
}

async fn list<K>(
    client: &Client,
    wrap: fn(Box<K>) -> Object,
    objects: &mut Vec<Object>,
) -> Result<(), kube::Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = Api::<K>::all(client.clone()).list(&page).await?;
        objects.extend(listed.items.into_iter().map(|object| wrap(Box::new(object))));
        match listed.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => return Ok(()),
        }
    }
}
