use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use kube::{
    api::{DeleteParams, DynamicObject, ListParams, PartialObjectMeta, Preconditions, PropagationPolicy},
    core::{GroupVersion, GroupVersionKind},
    discovery::{Discovery, verbs},
};

use super::{
    ApplyFailure, CONCURRENCY, Pass, PruneScope, Pruning,
    kinds::{self, Served},
    observe::{PAGE, key_of},
};
use crate::apply::{ObjectKey, Owner, Removal, RemovalReport};

/// How often a deletion is tried on an object that changes all the time.
const ATTEMPTS: usize = 3;

type Found = PartialObjectMeta<DynamicObject>;

impl Pass<'_> {
    /// Deletes what the owner has placed and the set does not hold. The whole scope is read before anything goes.
    pub(super) async fn prune(&self, scope: &PruneScope) -> Pruning {
        let mut leftovers = match self.leftovers(scope).await {
            Ok(leftovers) => leftovers,
            Err(failure) => return Pruning::ScopeUnknown { failure },
        };
        leftovers.sort_by(|(_, a, _), (_, b, _)| a.cmp(b));
        leftovers.dedup_by(|(_, a, _), (_, b, _)| a == b);
        let mut removals = Vec::with_capacity(leftovers.len());
        let ranks: BTreeSet<u8> = leftovers.iter().map(|(_, key, _)| super::rank(key)).collect();
        for rank in ranks.into_iter().rev() {
            let mut deletions = Vec::new();
            for (served, key, found) in &leftovers {
                if super::rank(key) == rank {
                    deletions.push(self.remove(served, key, found));
                }
            }
            removals.extend(
                stream::iter(deletions)
                    .buffer_unordered(CONCURRENCY)
                    .collect::<Vec<_>>()
                    .await,
            );
        }
        removals.sort_by(|a, b| a.object.cmp(&b.object));
        Pruning::Done { removals }
    }

    async fn leftovers(&self, scope: &PruneScope) -> Result<Vec<(Served, ObjectKey, Found)>, ApplyFailure> {
        let mut leftovers = Vec::new();
        for (kind, served) in self.scope(scope).await? {
            for found in self.list_metadata(&kind, &served).await? {
                let key = key_of(&kind, &found);
                if !self.desired.contains(&key) && self.is_leftover(&found) {
                    leftovers.push((served.clone(), key, found));
                }
            }
        }
        Ok(leftovers)
    }

    /// Whether the object is there because this owner wanted it: placed by us, not derived by a controller of the
    /// member that copied our labels.
    fn is_leftover(&self, found: &Found) -> bool {
        let owner: &Owner = self.desired.owner();
        owner.placed(&found.metadata, &self.applier.field_manager)
    }

    async fn scope(&self, scope: &PruneScope) -> Result<Vec<(GroupVersionKind, Served)>, ApplyFailure> {
        let mut kinds: Vec<GroupVersionKind> = self.desired.objects().map(|it| it.kind().clone()).collect();
        match scope {
            PruneScope::EveryKind => return self.every_kind().await,
            PruneScope::Kinds(more) => {
                for kind in more {
                    let version: GroupVersion =
                        kind.api_version.parse().map_err(|_| ApplyFailure::Invalid {
                            message: "prune scope: not an apiVersion".to_owned(),
                        })?;
                    kinds.push(version.with_kind(&kind.kind));
                }
            }
            PruneScope::Nothing => {}
        }
        kinds.sort_by_key(|kind| (kind.api_version(), kind.kind.clone()));
        kinds.dedup();
        let mut served = Vec::new();
        for kind in kinds {
            match self
                .applier
                .kinds
                .resolve(self.cluster, &self.client, &kind)
                .await
            {
                Ok(found) => served.push((kind, found)),
                // What is not served cannot be there.
                Err(ApplyFailure::KindMissing { .. }) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(served)
    }

    async fn every_kind(&self) -> Result<Vec<(GroupVersionKind, Served)>, ApplyFailure> {
        let discovery = Discovery::new(self.client.clone()).run().await;
        let discovery =
            discovery.map_err(|error| kinds::failure(&GroupVersionKind::gvk("", "v1", ""), &error))?;
        let mut all = Vec::new();
        for group in discovery.groups_alphabetical() {
            for (resource, capabilities) in group.recommended_resources() {
                if capabilities.supports_operation(verbs::LIST)
                    && capabilities.supports_operation(verbs::DELETE)
                {
                    let kind = GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind);
                    all.push((kind, Served::of(resource, &capabilities.scope)));
                }
            }
        }
        Ok(all)
    }

    async fn list_metadata(
        &self,
        kind: &GroupVersionKind,
        served: &Served,
    ) -> Result<Vec<Found>, ApplyFailure> {
        let api = served.everywhere(&self.client);
        let mut params = ListParams::default()
            .labels(&self.desired.owner().selector())
            .limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = match api.list_metadata(&params).await {
                Ok(page) => page,
                Err(error) => {
                    return match kinds::failure(kind, &error) {
                        // Gone since discovery, or one that cannot be listed for all namespaces.
                        ApplyFailure::KindMissing { .. } => Ok(all),
                        failure => Err(failure),
                    };
                }
            };
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    async fn remove(&self, served: &Served, key: &ObjectKey, found: &Found) -> RemovalReport {
        let removal = match self.try_remove(served, key, found).await {
            Ok(removal) => removal,
            Err(failure) => Removal::Failed { failure },
        };
        RemovalReport::new(key.clone(), removal)
    }

    async fn try_remove(
        &self,
        served: &Served,
        key: &ObjectKey,
        found: &Found,
    ) -> Result<Removal, ApplyFailure> {
        let failure = |error: &kube::Error| ApplyFailure::of_error(key, error, 0);
        let api = served.api_of(&self.client, key)?;
        let mut metadata = found.metadata.clone();
        for _ in 0..ATTEMPTS {
            if metadata.deletion_timestamp.is_some() {
                return Ok(Removal::Deleting);
            }
            let params = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Background),
                preconditions: Some(Preconditions {
                    resource_version: metadata.resource_version.clone(),
                    uid: metadata.uid.clone(),
                }),
                ..DeleteParams::default()
            };
            let error = match api.delete(&key.object.name, &params).await {
                Ok(answer) => return Ok(answer.either(|_| Removal::Deleting, |_| Removal::Removed)),
                Err(error) => error,
            };
            match &error {
                kube::Error::Api(status) if status.is_not_found() => return Ok(Removal::Removed),
                kube::Error::Api(status) if status.code == 409 => {}
                _ => return Err(failure(&error)),
            }
            // It changed since it was read: perhaps it is another object by now, or no longer ours.
            match api
                .get_metadata_opt(&key.object.name)
                .await
                .map_err(|error| failure(&error))?
            {
                Some(now) if now.metadata.uid == found.metadata.uid && self.is_leftover(&now) => {
                    metadata = now.metadata;
                }
                _ => return Ok(Removal::Removed),
            }
        }
        Err(ApplyFailure::Changed)
    }
}
