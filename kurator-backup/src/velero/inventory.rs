//! What a member serves and holds.

use std::collections::BTreeSet;

use k8s_openapi::api::storage::v1::StorageClass;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
    discovery::{Discovery, verbs},
};
use kurator_core::names::NamespacedName;

use crate::driver::{Capabilities, Inventory, ResourceKind};

const PAGE: u32 = 500;
/// Which storage class claims get that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

pub(super) async fn capabilities(client: &Client) -> Result<Capabilities, kube::Error> {
    let version = client.apiserver_version().await?;
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let mut capabilities = Capabilities {
        kubernetes_version: version.git_version,
        ..Capabilities::default()
    };
    for group in discovery.groups() {
        for version in group.versions() {
            for (resource, _) in group.versioned_resources(version) {
                let kind = ResourceKind::new(resource.api_version, resource.kind);
                capabilities.kinds.insert(kind);
            }
        }
    }
    let classes = Api::<StorageClass>::all(client.clone());
    let classes = classes.list_metadata(&ListParams::default()).await?;
    capabilities.storage_classes = classes.iter().map(ResourceExt::name_any).collect();
    // The server takes the youngest where there are several.
    let default = classes
        .iter()
        .filter(|class| {
            class
                .annotations()
                .get(DEFAULT_CLASS)
                .is_some_and(|is| is == "true")
        })
        .max_by_key(|class| class.creation_timestamp().map(|at| at.0));
    capabilities.default_storage_class = default.map(ResourceExt::name_any);
    Ok(capabilities)
}

pub(super) async fn of_kinds(
    client: &Client,
    kinds: &BTreeSet<ResourceKind>,
) -> Result<Inventory, kube::Error> {
    let mut inventory = Inventory::new();
    if kinds.is_empty() {
        return Ok(inventory);
    }
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    for group in discovery.groups() {
        for version in group.versions() {
            for (resource, capabilities) in group.versioned_resources(version) {
                let kind = ResourceKind::new(resource.api_version.clone(), resource.kind.clone());
                if !kinds.contains(&kind) || !capabilities.supports_operation(verbs::LIST) {
                    continue;
                }
                let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
                inventory.insert(kind, names(&api).await?);
            }
        }
    }
    Ok(inventory)
}

async fn names(api: &Api<DynamicObject>) -> Result<BTreeSet<NamespacedName>, kube::Error> {
    let mut params = ListParams::default().limit(PAGE);
    let mut found = BTreeSet::new();
    loop {
        let page = api.list_metadata(&params).await?;
        found
            .extend(page.iter().map(|object| {
                NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any())
            }));
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => params.continue_token = Some(more),
            None => return Ok(found),
        }
    }
}
