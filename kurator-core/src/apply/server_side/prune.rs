use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    api::{DeleteParams, ListParams, Preconditions, PropagationPolicy},
    core::{GroupVersion, GroupVersionKind},
    discovery::{Discovery, verbs},
};

use super::{
    ApplyFailure, CONCURRENCY, Pass, PruneScope, Pruning,
    kinds::{self, Served},
    observe::{PAGE, key_of},
    rank,
};
use crate::apply::{ObjectKey, Owner, Removal, RemovalReport};

/// How often a deletion is tried on an object that changes all the time.
const ATTEMPTS: usize = 3;

/// An object that the owner has placed and no longer wants.
struct Leftover {
    served: Served,
    key: ObjectKey,
    metadata: ObjectMeta,
}

impl Pass<'_> {
    /// Deletes what the owner has placed and the set does not hold. The whole scope is read before anything goes.
    pub(super) async fn prune(&self, scope: &PruneScope) -> Pruning {
        let mut leftovers = match self.leftovers(scope).await {
            Ok(leftovers) => leftovers,
            Err(failure) => return Pruning::ScopeUnknown { failure },
        };
        leftovers.sort_by(|a, b| a.key.cmp(&b.key));
        leftovers.dedup_by(|a, b| a.key == b.key);
        let mut removals = Vec::with_capacity(leftovers.len());
        let ranks: BTreeSet<u8> = leftovers.iter().map(|it| rank(&it.key)).collect();
        for now in ranks.into_iter().rev() {
            let mut deletions = Vec::new();
            for leftover in leftovers.iter().filter(|it| rank(&it.key) == now) {
                deletions.push(self.remove(leftover));
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

    async fn leftovers(&self, scope: &PruneScope) -> Result<Vec<Leftover>, ApplyFailure> {
        let observed = self.observed.live.iter().filter_map(|(key, object)| {
            let served = self.observed.served_as(key)?;
            Some(Leftover {
                served: served.clone(),
                key: key.clone(),
                metadata: object.metadata.clone(),
            })
        });
        let mut leftovers: Vec<Leftover> = observed.collect();
        for (kind, served) in self.unobserved(scope).await? {
            leftovers.extend(self.list_metadata(&kind, &served).await?);
        }
        leftovers.retain(|it| !self.desired.contains(&it.key) && self.is_leftover(&it.metadata));
        Ok(leftovers)
    }

    /// Whether the object is there because this owner wanted it: placed by us, not derived by a controller of the
    /// member that copied our labels.
    fn is_leftover(&self, metadata: &ObjectMeta) -> bool {
        let owner: &Owner = self.desired.owner();
        owner.placed(metadata, &self.applier.field_manager)
    }

    /// The kinds of the scope that were not listed at the beginning of the pass.
    async fn unobserved(&self, scope: &PruneScope) -> Result<Vec<(GroupVersionKind, Served)>, ApplyFailure> {
        let kinds = match scope {
            PruneScope::Nothing => return Ok(Vec::new()),
            PruneScope::Kinds(kinds) if !kinds.is_empty() || !self.desired.is_empty() => kinds,
            _ => return self.every_kind().await,
        };
        let mut served = Vec::new();
        for kind in kinds {
            let version: GroupVersion = kind.api_version.parse().map_err(|_| ApplyFailure::Invalid {
                message: format!("prune scope: {:?} is not an apiVersion", kind.api_version),
            })?;
            let kind = version.with_kind(&kind.kind);
            if self.observed.served(&kind).is_ok() {
                continue;
            }
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
        let discovery = Discovery::new(self.client.clone()).run_aggregated().await;
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
    ) -> Result<Vec<Leftover>, ApplyFailure> {
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
            all.extend(page.items.into_iter().map(|found| Leftover {
                served: served.clone(),
                key: key_of(kind, &found),
                metadata: found.metadata,
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    async fn remove(&self, leftover: &Leftover) -> RemovalReport {
        let removal = match self.try_remove(leftover).await {
            Ok(removal) => removal,
            Err(failure) => Removal::Failed { failure },
        };
        RemovalReport::new(leftover.key.clone(), removal)
    }

    async fn try_remove(&self, leftover: &Leftover) -> Result<Removal, ApplyFailure> {
        let key = &leftover.key;
        if self.options.dry_run {
            return Ok(Removal::WouldRemove);
        }
        let failure = |error: &kube::Error| ApplyFailure::of_error(key, error, 0);
        let api = leftover.served.api_of(&self.client, key)?;
        let mut metadata = leftover.metadata.clone();
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
                Some(now) if now.metadata.uid == leftover.metadata.uid && self.is_leftover(&now.metadata) => {
                    metadata = now.metadata;
                }
                _ => return Ok(Removal::Removed),
            }
        }
        Err(ApplyFailure::Changed)
    }
}
