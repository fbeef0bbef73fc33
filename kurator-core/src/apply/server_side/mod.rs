mod fields;
mod kinds;
mod namespaces;
mod observe;
mod prune;
#[cfg(test)]
mod tests;
mod text;
mod vacant;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use kube::Client;

use self::{kinds::Kinds, observe::Observed, vacant::Vacant};
use super::{
    Applier, ApplyError, ApplyFailure, ApplyOptions, ApplyReport, Desired, FIELD_MANAGER, ObjectKey,
    ObjectOutcome, ObjectReport, ObjectSet, PruneScope, Pruning,
};
use crate::{
    connect::{ClientPurpose, ClusterConnector},
    names::ClusterName,
};

pub(super) use self::text::DesiredText;
pub use self::write::ANNOTATION_APPLIED_HASH;

/// How many objects of one rank are written to one member at a time.
const CONCURRENCY: usize = 8;
/// How many no-op writes are remembered before all are forgotten.
const MAX_SETTLED: usize = 16_384;

/// Puts sets of objects onto members by server-side apply.
///
/// # Expected flow
/// One list call for each kind of the set finds what the owner has placed. An object that is there, was applied
/// from the same content (a hash annotation says so) and is still wholly ours in the server's book of field owners
/// is left alone; the others are applied. Objects that are not in the list are looked for by name, many of a kind and
/// namespace in one request, so that somebody else's is recognised before it is touched. When everything is in place, what is left over is deleted, with its
/// UID and resource version as preconditions.
///
/// # Guarantees
/// Those of [`Applier`]. No request is made beyond the lists when nothing has changed. Objects are written in the
/// order in which they need each other (namespaces, definitions, configuration, services, workloads) and pruned in
/// the reverse.
///
/// # Assumptions
/// One hub does not write to the same object for two owners. Nobody else uses the field manager.
///
/// # Caveats
/// A namespace that had to be created stays when the objects go, until
/// [`remove_empty_namespaces`](Applier::remove_empty_namespaces) is called. A kind whose definition is part of the same set is
/// `KindMissing` until the server has established it; the next pass applies it.
///
/// # RBAC
/// On the member: `list` on the kinds of the set and of the prune scope, in all namespaces; `get`, `create`,
/// `patch` and `delete` on the objects; `create` on namespaces unless they are there. To remove namespaces: `list` on
/// every kind, and `delete` on namespaces.
#[derive(Clone)]
pub struct ServerSideApplier {
    connector: Arc<dyn ClusterConnector>,
    field_manager: Arc<str>,
    kinds: Arc<Kinds>,
    settled: Arc<Mutex<Settled>>,
}

/// Objects whose book of field owners never shows what was applied (a webhook rewrites them, say), although
/// applying again changes nothing: content hash and resource version for which that is known.
type Settled = BTreeMap<(ClusterName, ObjectKey), (String, String)>;

/// One pass over one member.
struct Pass<'a> {
    applier: &'a ServerSideApplier,
    cluster: &'a ClusterName,
    client: Client,
    desired: &'a ObjectSet,
    options: &'a ApplyOptions,
    observed: Observed,
    vacant: Vacant,
    /// Set once the member has stopped answering: the rest is not tried.
    lost: AtomicBool,
}

impl ServerSideApplier {
    /// Applies through these connections as [`FIELD_MANAGER`].
    pub fn new(connector: impl ClusterConnector) -> Self {
        Self {
            connector: Arc::new(connector),
            field_manager: FIELD_MANAGER.into(),
            kinds: Arc::default(),
            settled: Arc::default(),
        }
    }

    /// Applies as another field manager. What was applied under the former name is no longer recognised as ours
    /// when pruning: choose once.
    #[must_use]
    pub fn with_field_manager(mut self, field_manager: impl Into<Arc<str>>) -> Self {
        self.field_manager = field_manager.into();
        self
    }

    /// A client that does not repeat what a busy member turns away: one such object would hold up all others, and
    /// nobody would learn of it.
    async fn client(&self, cluster: &ClusterName) -> Result<Client, ApplyError> {
        let client = self.connector.client(cluster, ClientPurpose::Evict).await;
        client.map_err(|source| ApplyError::Connect {
            cluster: cluster.clone(),
            source: Box::new(source),
        })
    }

    async fn unreadable(&self, cluster: &ClusterName, failure: ApplyFailure) -> ApplyError {
        if failure == ApplyFailure::Unauthorized {
            self.connector.invalidate(cluster).await;
        }
        ApplyError::Unreadable {
            cluster: cluster.clone(),
            source: Box::new(failure),
        }
    }
}

impl fmt::Debug for ServerSideApplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSideApplier")
            .field("connector", &self.connector)
            .field("field_manager", &self.field_manager)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Applier for ServerSideApplier {
    async fn apply(
        &self,
        cluster: &ClusterName,
        desired: &ObjectSet,
        options: &ApplyOptions,
    ) -> Result<ApplyReport, ApplyError> {
        let client = self.client(cluster).await?;
        let observed = match Observed::read(&self.kinds, cluster, &client, desired).await {
            Ok(observed) => observed,
            Err(failure) => return Err(self.unreadable(cluster, failure).await),
        };
        let vacant = Vacant::look(&client, desired, &observed).await;
        let pass = Pass {
            applier: self,
            cluster,
            client,
            desired,
            options,
            observed,
            vacant,
            lost: AtomicBool::new(false),
        };
        let objects = pass.write_all().await;
        let pruning = match &options.prune {
            PruneScope::Nothing => Pruning::NotAsked,
            _ if !options.dry_run && !objects.iter().all(|report| report.outcome.is_in_place()) => {
                Pruning::SetIncomplete
            }
            scope => pass.prune(scope).await,
        };
        if objects.iter().any(|it| {
            matches!(
                &it.outcome,
                ObjectOutcome::Failed {
                    failure: ApplyFailure::Unauthorized
                }
            )
        }) {
            self.connector.invalidate(cluster).await;
        }
        Ok(ApplyReport::new(cluster.clone(), objects, pruning))
    }

    async fn remove_empty_namespaces(
        &self,
        cluster: &ClusterName,
        hub: &str,
        keep: &BTreeSet<String>,
    ) -> Result<usize, ApplyError> {
        let client = self.client(cluster).await?;
        match namespaces::remove_empty(&client, hub, keep).await {
            Ok(left) => Ok(left),
            Err(failure) => Err(self.unreadable(cluster, failure).await),
        }
    }
}

impl Pass<'_> {
    async fn write_all(&self) -> Vec<ObjectReport> {
        let mut ranks: BTreeMap<u8, Vec<&Desired>> = BTreeMap::new();
        for object in self.desired.objects() {
            ranks.entry(rank(object.key())).or_default().push(object);
        }
        let mut reports = Vec::with_capacity(self.desired.len());
        let mut bare = self.vacant.bare_namespaces();
        for objects in ranks.into_values() {
            // Of many objects for a namespace that may be missing one goes ahead and makes it.
            let goes_ahead = |object: &&Desired| bare.remove(object.key().object.namespace.as_str());
            let (ahead, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(goes_ahead);
            for objects in [ahead, others] {
                let writes: Vec<_> = objects
                    .into_iter()
                    .map(|object| self.write_unless_lost(object))
                    .collect();
                reports.extend(
                    stream::iter(writes)
                        .buffer_unordered(CONCURRENCY)
                        .collect::<Vec<_>>()
                        .await,
                );
            }
        }
        reports.sort_by(|a, b| a.object.cmp(&b.object));
        reports
    }

    async fn write_unless_lost(&self, object: &Desired) -> ObjectReport {
        if self.lost.load(Ordering::Relaxed) {
            let failure = ApplyFailure::Unreachable {
                message: "given up after an earlier object".to_owned(),
            };
            return ObjectReport::new(object.key().clone(), ObjectOutcome::Failed { failure }, None);
        }
        let (outcome, live) = self.write(object).await;
        if matches!(&outcome, ObjectOutcome::Failed { failure } if failure.concerns_member()) {
            self.lost.store(true, Ordering::Relaxed);
        }
        ObjectReport::new(object.key().clone(), outcome, live)
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, Settled> {
        let mut settled = self
            .applier
            .settled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if settled.len() > MAX_SETTLED {
            settled.clear();
        }
        settled
    }
}

/// When in a pass: what others live in or run as goes first, and is pruned last.
fn rank(object: &ObjectKey) -> u8 {
    match (object.group.as_str(), object.kind.as_str()) {
        ("", "Namespace") => 0,
        ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("scheduling.k8s.io", "PriorityClass")
        | ("storage.k8s.io", "StorageClass") => 1,
        (
            "",
            "ConfigMap"
            | "LimitRange"
            | "PersistentVolumeClaim"
            | "ResourceQuota"
            | "Secret"
            | "ServiceAccount",
        )
        | ("rbac.authorization.k8s.io", _) => 2,
        ("", "Service") | ("policy", "PodDisruptionBudget") => 3,
        _ => 4,
    }
}
