use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use kube::{
    Client, ResourceExt,
    api::{Api, DynamicObject, ListParams},
    core::GroupVersionKind,
};

use super::{
    ApplyFailure, CONCURRENCY,
    kinds::{self, Kinds, Served},
};
use crate::{
    apply::{ObjectKey, ObjectSet},
    names::{ClusterName, NamespacedName},
};

/// How many objects a list brings at a time.
pub(super) const PAGE: u32 = 500;

/// What a member holds of an owner, of the kinds of a set.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// How the member serves each kind of the set, or why it does not.
    pub(super) kinds: BTreeMap<(String, String), Result<Served, ApplyFailure>>,
    /// Everything with the owner's labels.
    pub(super) live: BTreeMap<ObjectKey, DynamicObject>,
}

impl Observed {
    /// Lists the kinds of `desired`.
    ///
    /// # Errors
    /// If the member cannot be read at all; that one kind cannot be listed is kept with the kind.
    pub(super) async fn read(
        kinds: &Kinds,
        cluster: &ClusterName,
        client: &Client,
        desired: &ObjectSet,
    ) -> Result<Self, ApplyFailure> {
        let mut wanted: Vec<&GroupVersionKind> = desired.objects().map(|object| object.kind()).collect();
        wanted.sort_by_key(|kind| (kind.api_version(), kind.kind.clone()));
        wanted.dedup();
        let selector = &desired.owner().selector();
        let lists: Vec<_> = wanted
            .into_iter()
            .map(|kind| list(kinds, cluster, client, kind, selector))
            .collect();
        let lists = stream::iter(lists)
            .buffer_unordered(CONCURRENCY)
            .collect::<Vec<_>>()
            .await;
        let mut observed = Self::default();
        for (kind, list) in lists {
            let served = match list {
                Err(failure) if failure.concerns_member() => return Err(failure),
                Err(failure) => Err(failure),
                Ok((served, objects)) => {
                    for object in objects {
                        observed.live.insert(key_of(kind, &object), object);
                    }
                    Ok(served)
                }
            };
            observed
                .kinds
                .insert((kind.api_version(), kind.kind.clone()), served);
        }
        Ok(observed)
    }

    pub(super) fn served(&self, kind: &GroupVersionKind) -> Result<&Served, ApplyFailure> {
        match self.kinds.get(&(kind.api_version(), kind.kind.clone())) {
            Some(Ok(served)) => Ok(served),
            Some(Err(failure)) => Err(failure.clone()),
            None => Err(ApplyFailure::KindMissing {
                api_version: kind.api_version(),
                kind: kind.kind.clone(),
            }),
        }
    }
}

impl Observed {
    /// How the member serves the kind of an object that was listed.
    pub(super) fn served_as(&self, key: &ObjectKey) -> Option<&Served> {
        let of_kind = |(version, kind): &(String, String)| {
            *kind == key.kind && version.rsplit_once('/').map_or("", |(group, _)| group) == key.group
        };
        self.kinds
            .iter()
            .find_map(|(kind, served)| served.as_ref().ok().filter(|_| of_kind(kind)))
    }
}

pub(super) fn key_of(kind: &GroupVersionKind, object: &impl ResourceExt) -> ObjectKey {
    let name = NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any());
    ObjectKey::new(kind.group.clone(), kind.kind.clone(), name)
}

async fn list<'a>(
    kinds: &Kinds,
    cluster: &ClusterName,
    client: &Client,
    kind: &'a GroupVersionKind,
    selector: &str,
) -> (
    &'a GroupVersionKind,
    Result<(Served, Vec<DynamicObject>), ApplyFailure>,
) {
    (kind, try_list(kinds, cluster, client, kind, selector).await)
}

async fn try_list(
    kinds: &Kinds,
    cluster: &ClusterName,
    client: &Client,
    kind: &GroupVersionKind,
    selector: &str,
) -> Result<(Served, Vec<DynamicObject>), ApplyFailure> {
    let served = kinds.resolve(cluster, client, kind).await?;
    match list_all(&served.everywhere(client), selector).await {
        Ok(objects) => Ok((served, objects)),
        Err(error) => {
            let failure = kinds::failure(kind, &error);
            if matches!(failure, ApplyFailure::KindMissing { .. }) {
                kinds.forget(cluster);
            }
            Err(failure)
        }
    }
}

async fn list_all(api: &Api<DynamicObject>, selector: &str) -> Result<Vec<DynamicObject>, kube::Error> {
    let mut params = ListParams::default().labels(selector).limit(PAGE);
    let mut objects = Vec::new();
    loop {
        let page = api.list(&params).await?;
        objects.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(objects),
        }
    }
}
