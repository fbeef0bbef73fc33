use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::{
    condition::{ConditionSet, ConditionStatus},
    names::{ClusterName, bounded_name},
    reason::Reason as _,
};

use super::{
    classes::{self, storage_classes},
    counts::{counts, expected},
    reason::RestoreReason,
    select::RunView,
};
use crate::{
    api::{
        ClusterRestore, RestoreExecutionSpec, RestoreExecutionStatus, RestorePhase, RestoreTotals,
        SuccessMode, labels,
    },
    driver::{
        BackupName, BackupObservation, Capabilities, Claims, ExistingResources, Inventory, OwnerToken, Phase,
        RestoreName, RestoreObservation, RestoreRequest, Stage, cut,
    },
    run::{Limits, Obstacle, PolicyError, RunId, SeenMembers, Selection},
};

/// The longest message of one member, in bytes.
const MAX_MESSAGE: usize = 512;
/// How many missing objects of one member are named.
const MAX_MISSING: usize = 10;
/// The longest name of one, in bytes.
const MAX_OBJECT: usize = 128;
/// How soon a server at work is looked at again.
const POLL: SignedDuration = SignedDuration::from_secs(1);
/// Kinds of which not every object comes back: what had run to its end is not restored.
const COME_AND_GO: [&str; 2] = ["v1/Pod", "batch/v1/Job"];

/// One restore: who it is and what it is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restore {
    /// Who it is.
    pub id: RunId,
    /// What it is to do.
    pub spec: RestoreExecutionSpec,
    /// Generation of the spec.
    pub generation: Option<i64>,
    limits: Limits,
    clusters: Selection,
}

impl Restore {
    /// The restore `id` of `spec`.
    ///
    /// # Errors
    /// [`PolicyError`]: a duration, a selector or the success rule is wrong.
    pub fn new(id: RunId, spec: &RestoreExecutionSpec) -> Result<Self, PolicyError> {
        if spec.success.mode == SuccessMode::Quorum && spec.success.quorum.is_none_or(|quorum| quorum == 0) {
            return Err(PolicyError::Quorum);
        }
        Ok(Self {
            id,
            limits: Limits::new(&spec.limits)?,
            clusters: Selection::new(&spec.clusters, "clusters.selector")?,
            spec: spec.clone(),
            generation: None,
        })
    }

    /// Sets the generation of the spec.
    #[must_use]
    pub fn with_generation(mut self, generation: Option<i64>) -> Self {
        self.generation = generation;
        self
    }

    /// The restore of one attempt on a target: at most 63 characters, unique to the attempt.
    #[must_use]
    pub fn restore_name(&self, entry: &ClusterRestore, attempt: u32) -> RestoreName {
        let number = attempt.to_string();
        let (cluster, target) = (entry.cluster.as_str(), entry.target.as_str());
        let full = bounded_name([self.id.uid.as_str(), cluster, target, &number]);
        let hash = full.get(full.len().saturating_sub(10)..).unwrap_or(&full);
        let tail = format!("-{}-{number}-{hash}", self.id.created_at.as_second());
        let head = target
            .get(..(63 - tail.len().min(63)).min(target.len()))
            .unwrap_or(target);
        let name = format!("{}{tail}", head.trim_end_matches('-'));
        RestoreName::new(&name).unwrap_or_else(|_| RestoreName::bounded([name]))
    }

    fn owner(&self, entry: &ClusterRestore, attempt: u32) -> OwnerToken {
        let number = attempt.to_string();
        OwnerToken::bounded([
            self.id.uid.as_str(),
            entry.cluster.as_str(),
            entry.target.as_str(),
            &number,
        ])
    }

    fn request(&self, entry: &ClusterRestore, backup: BackupName) -> RestoreRequest {
        let spec = &self.spec;
        let name = self.restore_name(entry, entry.attempt);
        let mut request = RestoreRequest::new(name, self.owner(entry, entry.attempt), backup);
        request.scope.clone_from(&spec.scope);
        request.namespace_mapping.clone_from(&spec.namespace_mapping);
        request.existing = spec.existing;
        request.status_of.clone_from(&spec.status_of);
        request.restore_volumes = spec.restore_volumes;
        request.preserve_node_ports = spec.preserve_node_ports;
        request.storage_classes.clone_from(&spec.storage_classes);
        request.storage_classes.retain(|class, becomes| class != becomes);
        request.modifiers.clone_from(&spec.modifiers);
        request.labels = BTreeMap::from([
            (labels::FLEET.to_owned(), spec.fleet.to_string()),
            (labels::CLUSTER.to_owned(), entry.cluster.to_string()),
            (labels::EXECUTION_UID.to_owned(), self.id.uid.clone()),
            (labels::ATTEMPT.to_owned(), entry.attempt.to_string()),
        ]);
        let execution = format!("{}/{}", self.id.namespace, self.id.name);
        request
            .annotations
            .insert(labels::EXECUTION.to_owned(), execution);
        request
    }

    fn deadline(&self, status: &RestoreExecutionStatus) -> Timestamp {
        let began = status.started_at.as_ref().map_or(Timestamp::MIN, |at| at.0);
        began.checked_add(self.limits.deadline).unwrap_or(Timestamp::MAX)
    }
}

/// The first status of a restore from `run`: which backup goes where.
#[must_use]
pub fn begin(
    restore: &Restore,
    run: &RunView,
    members: &SeenMembers,
    now: Timestamp,
) -> RestoreExecutionStatus {
    let none = BTreeMap::new();
    let mut entries: Vec<ClusterRestore> = Vec::new();
    let mut names: BTreeSet<&ClusterName> = run
        .backups
        .keys()
        .filter(|cluster| {
            let labels = members.get(cluster.as_str()).unwrap_or(&none);
            restore.clusters.selects(cluster, labels)
        })
        .collect();
    names.extend(&restore.clusters.names);
    for cluster in names {
        let target = restore
            .spec
            .targets
            .iter()
            .find(|target| target.from == *cluster)
            .map_or(cluster, |target| &target.to);
        let backup = run.backups.get(cluster);
        let mut entry = ClusterRestore::new(
            cluster.clone(),
            target.clone(),
            backup.map(|(name, _)| name.clone()),
        );
        let twice = entries.iter().find(|other| other.target == *target);
        let refusal = match (backup, twice) {
            (None, _) => Some(RestoreReason::NoBackup),
            (Some((_, false)), _) if !restore.spec.allow_partial => Some(RestoreReason::BackupPartial),
            _ if !members.contains_key(target.as_str()) => Some(RestoreReason::UnknownCluster),
            (_, Some(other)) => Some(RestoreReason::TargetTwice {
                other: other.cluster.clone(),
            }),
            _ => None,
        };
        if let Some(refusal) = refusal {
            enter(&mut entry, RestorePhase::Failed, &refusal);
        }
        entries.push(entry);
    }
    let status = RestoreExecutionStatus {
        started_at: Some(Time(now)),
        execution: Some(run.name.clone()),
        clusters: entries,
        ..RestoreExecutionStatus::default()
    };
    conclude(restore, status, now)
}

/// What to look at on a target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreAsk {
    /// The backup, what is in it, and what of that is there. Before the restore, and after it.
    Target {
        /// The member that was backed up: the entry this is for.
        cluster: ClusterName,
        /// The member to look at.
        target: ClusterName,
        /// The backup.
        backup: BackupName,
        /// Whether the volume claims in it matter: they do before the restore.
        claims: bool,
    },
    /// The restore.
    Restore {
        /// The member that was backed up.
        cluster: ClusterName,
        /// The member to look at.
        target: ClusterName,
        /// The restore.
        restore: RestoreName,
    },
}

impl RestoreAsk {
    /// The entry it is for, by the member that was backed up.
    #[must_use]
    pub const fn cluster(&self) -> &ClusterName {
        match self {
            Self::Target { cluster, .. } | Self::Restore { cluster, .. } => cluster,
        }
    }
}

/// A target as it was seen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TargetView {
    /// The backup, as the target's server shows it.
    pub backup: Option<BackupObservation>,
    /// What is in it. Empty while there is no backup.
    pub contents: Inventory,
    /// What there is on the target, of the kinds in the backup.
    pub present: Inventory,
    /// What the target can take in.
    pub capabilities: Capabilities,
    /// The volume claims in the backup, where they were asked for and can be told.
    pub claims: Option<Claims>,
}

impl TargetView {
    /// A target that does not show the backup.
    #[must_use]
    pub fn without_backup() -> Self {
        Self {
            backup: None,
            contents: Inventory::new(),
            present: Inventory::new(),
            capabilities: Capabilities::default(),
            claims: None,
        }
    }
}

/// What was seen for one member.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SeenTarget {
    /// The target.
    Target(Result<Box<TargetView>, Obstacle>),
    /// The restore; `None` if it is certain that there is none.
    Restore(Box<Result<Option<RestoreObservation>, Obstacle>>),
}

/// Something to do on a member, after the status was written. Doing it twice is doing it once.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RestoreAction {
    /// The member that was backed up.
    pub cluster: ClusterName,
    /// The member to restore.
    pub target: ClusterName,
    /// The restore to create.
    pub request: Box<RestoreRequest>,
}

/// What follows from a pass.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RestoreStep {
    /// The next status.
    pub status: RestoreExecutionStatus,
    /// What to do once it is written.
    pub actions: Vec<RestoreAction>,
    /// When to come back; `None` when nothing is left to do.
    pub wake_at: Option<Timestamp>,
}

/// What to look at in this pass. One question a member.
#[must_use]
pub fn asks(status: &RestoreExecutionStatus, now: Timestamp) -> Vec<RestoreAsk> {
    let due = |entry: &&ClusterRestore| entry.retry_at.as_ref().is_none_or(|at| at.0 <= now);
    let ask = |entry: &ClusterRestore| {
        let (cluster, target) = (entry.cluster.clone(), entry.target.clone());
        match entry.phase {
            RestorePhase::Pending | RestorePhase::Verifying => {
                entry.backup.clone().map(|backup| RestoreAsk::Target {
                    cluster,
                    target,
                    backup,
                    claims: entry.phase == RestorePhase::Pending,
                })
            }
            RestorePhase::InProgress => entry.restore.clone().map(|restore| RestoreAsk::Restore {
                cluster,
                target,
                restore,
            }),
            _ => None,
        }
    };
    status.clusters.iter().filter(due).filter_map(ask).collect()
}

/// What follows from what is on record and what was seen. Pure; `seen` answers the [`asks`] of the same status.
///
/// # Guarantees
/// - With `dryRun` nothing is to be done on any member, whatever was seen.
/// - Nothing is restored from a backup that is not `Completed`, or `PartiallyFailed` where that is allowed, as the
///   target's server shows it; nor to a member that does not serve every kind in it, or lacks a storage class that its
///   claims ask for, unless the backup brings it or it is to be kept.
/// - At most one restore is asked for in each attempt.
#[must_use]
pub fn step(
    restore: &Restore,
    status: &RestoreExecutionStatus,
    seen: &BTreeMap<ClusterName, SeenTarget>,
    now: Timestamp,
) -> RestoreStep {
    let mut status = status.clone();
    let mut actions = Vec::new();
    let mut wake: Option<Timestamp> = None;
    let deadline = restore.deadline(&status);
    for entry in &mut status.clusters {
        if entry.phase.has_ended() || (entry.phase == RestorePhase::Planned && restore.spec.dry_run) {
            continue;
        }
        match (entry.phase, seen.get(&entry.cluster)) {
            (_, None) => {}
            (RestorePhase::Pending, Some(SeenTarget::Target(view))) => look_before(restore, entry, view, now),
            (RestorePhase::Verifying, Some(SeenTarget::Target(view))) => verify(restore, entry, view, now),
            (RestorePhase::InProgress, Some(SeenTarget::Restore(found))) => {
                actions.extend(look_after(restore, entry, found, now));
            }
            _ => {}
        }
        if !entry.phase.has_ended()
            && now >= deadline
            && !(restore.spec.dry_run && entry.phase == RestorePhase::Planned)
        {
            let last = format!("{}: {}", entry.reason, entry.message);
            enter(
                entry,
                RestorePhase::Failed,
                &RestoreReason::DeadlineExceeded { deadline, last },
            );
        }
        if !entry.phase.has_ended() {
            let at = entry
                .retry_at
                .as_ref()
                .map_or_else(|| later(now, POLL), |at| at.0);
            wake = Some(wake.map_or(at, |wake| wake.min(at)).min(deadline));
        }
    }
    if restore.spec.dry_run {
        let planned = status
            .clusters
            .iter()
            .all(|entry| entry.phase.has_ended() || entry.phase == RestorePhase::Planned);
        if planned {
            wake = None;
        }
    } else {
        let busy = |entry: &&ClusterRestore| {
            matches!(entry.phase, RestorePhase::InProgress | RestorePhase::Verifying)
        };
        let mut slots = restore
            .limits
            .max_parallel
            .saturating_sub(status.clusters.iter().filter(busy).count());
        for entry in &mut status.clusters {
            if entry.phase == RestorePhase::Planned && slots > 0 {
                slots -= 1;
                actions.extend(submit(restore, entry));
                wake = Some(wake.map_or(now, |wake| wake.min(later(now, POLL))));
            }
        }
    }
    RestoreStep {
        status: conclude(restore, status, now),
        actions,
        wake_at: wake.map(|at| at.max(now)),
    }
}

fn later(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.checked_add(pause).unwrap_or(now)
}

fn say(entry: &mut ClusterRestore, reason: &RestoreReason) {
    reason.token().clone_into(&mut entry.reason);
    entry.message = cut(reason.to_string(), MAX_MESSAGE);
}

fn enter(entry: &mut ClusterRestore, phase: RestorePhase, reason: &RestoreReason) {
    if entry.phase != phase {
        entry.phase = phase;
        entry.retry_at = None;
        entry.obstacles = 0;
    }
    say(entry, reason);
}

/// Something is in the way: the next look is after a pause that grows.
fn back_off(restore: &Restore, entry: &mut ClusterRestore, reason: &RestoreReason, now: Timestamp) {
    say(entry, reason);
    entry.obstacles = entry.obstacles.saturating_add(1);
    entry.retry_at = Some(Time(later(now, restore.limits.backoff(entry.obstacles))));
}

fn obstacle(found: &Obstacle) -> RestoreReason {
    RestoreReason::Obstacle {
        token: found.token,
        message: found.message.clone(),
    }
}

fn look_before(
    restore: &Restore,
    entry: &mut ClusterRestore,
    view: &Result<Box<TargetView>, Obstacle>,
    now: Timestamp,
) {
    let view = match view {
        Ok(view) => view,
        Err(found) => return back_off(restore, entry, &obstacle(found), now),
    };
    let Some(backup) = &view.backup else {
        let Some(backup) = entry.backup.clone() else {
            return;
        };
        return back_off(restore, entry, &RestoreReason::BackupNotSynced { backup }, now);
    };
    match &backup.phase {
        Phase::Completed => {}
        Phase::PartiallyFailed if restore.spec.allow_partial => {}
        Phase::PartiallyFailed => return enter(entry, RestorePhase::Failed, &RestoreReason::BackupPartial),
        phase => {
            let phase = phase.clone();
            return enter(
                entry,
                RestorePhase::Failed,
                &RestoreReason::BackupUnusable { phase },
            );
        }
    }
    let expected = expected(
        &view.contents,
        &restore.spec.scope,
        &restore.spec.namespace_mapping,
    );
    if let Some(reason) = not_served(restore, &expected.objects, &view.capabilities) {
        return enter(entry, RestorePhase::Failed, &reason);
    }
    if let Some(claims) = &view.claims {
        let plans = storage_classes(
            &restore.spec,
            claims,
            &expected,
            &view.present,
            &view.capabilities,
        );
        let missing: Vec<(String, u64)> = classes::missing(&restore.spec, &plans)
            .map(|plan| (plan.becomes.clone(), plan.claims))
            .take(classes::MAX_CLASSES)
            .collect();
        entry.storage_classes = plans;
        entry.storage_classes.truncate(classes::MAX_CLASSES);
        if !missing.is_empty() {
            let has = view.capabilities.storage_classes.iter();
            let reason = RestoreReason::StorageClassesMissing {
                classes: missing,
                has: has.take(classes::MAX_CLASSES).cloned().collect(),
            };
            return enter(entry, RestorePhase::Failed, &reason);
        }
    }
    entry.planned = Some(counts(&expected, &view.present, restore.spec.existing));
    enter(entry, RestorePhase::Planned, &RestoreReason::Planned);
}

/// Kinds and versions that the target does not serve. One whose definition comes with the backup will be served.
fn not_served(restore: &Restore, objects: &Inventory, capabilities: &Capabilities) -> Option<RestoreReason> {
    let definitions = objects
        .iter()
        .filter(|(kind, _)| kind.group() == "apiextensions.k8s.io" && kind.kind == "CustomResourceDefinition")
        .flat_map(|(_, names)| names);
    let brought: BTreeSet<&str> = definitions
        .filter_map(|name| name.name.split_once('.'))
        .map(|(_, group)| group)
        .collect();
    let (mut kinds, mut versions) = (Vec::new(), Vec::new());
    for kind in objects.keys().filter(|kind| !capabilities.kinds.contains(kind)) {
        let other = capabilities
            .kinds
            .iter()
            .find(|other| other.group() == kind.group() && other.kind == kind.kind);
        let comes = brought.contains(kind.group());
        match other {
            // A definition that is there may be changed by the one in the backup.
            Some(_) if comes && restore.spec.existing == ExistingResources::Update => {}
            Some(other) => versions.push((kind.clone(), other.api_version.clone())),
            None if comes => {}
            None => kinds.push(kind.clone()),
        }
    }
    kinds.truncate(10);
    versions.truncate(10);
    if !kinds.is_empty() {
        return Some(RestoreReason::KindsNotServed { kinds });
    }
    (!versions.is_empty()).then_some(RestoreReason::VersionsNotServed { kinds: versions })
}

fn submit(restore: &Restore, entry: &mut ClusterRestore) -> Option<RestoreAction> {
    let backup = entry.backup.clone()?;
    entry.attempt += 1;
    entry.restore = Some(restore.restore_name(entry, entry.attempt));
    enter(entry, RestorePhase::InProgress, &RestoreReason::Submitted);
    Some(RestoreAction {
        cluster: entry.cluster.clone(),
        target: entry.target.clone(),
        request: Box::new(restore.request(entry, backup)),
    })
}

fn look_after(
    restore: &Restore,
    entry: &mut ClusterRestore,
    found: &Result<Option<RestoreObservation>, Obstacle>,
    now: Timestamp,
) -> Option<RestoreAction> {
    let seen = match found {
        Err(found) => {
            back_off(restore, entry, &obstacle(found), now);
            return None;
        }
        Ok(None) if entry.reason == RestoreReason::Submitted.token() => {
            let request = Box::new(restore.request(entry, entry.backup.clone()?));
            return Some(RestoreAction {
                cluster: entry.cluster.clone(),
                target: entry.target.clone(),
                request,
            });
        }
        Ok(None) => {
            failed(restore, entry, &RestoreReason::RestoreVanished, now);
            return None;
        }
        Ok(Some(seen)) => seen,
    };
    entry.obstacles = 0;
    entry.retry_at = None;
    if seen.owner.as_ref() != Some(&restore.owner(entry, entry.attempt)) {
        let reason = RestoreReason::Obstacle {
            token: "NameTaken",
            message: format!("{} belongs to somebody else; another name is taken", seen.name),
        };
        failed(restore, entry, &reason, now);
        return None;
    }
    entry.progress = seen.progress.or(entry.progress);
    (entry.warnings, entry.errors) = (seen.warnings, seen.errors);
    let message = seen.messages.join("; ");
    match (seen.phase.stage(), &seen.phase) {
        (Stage::Ended, Phase::Completed) => enter(entry, RestorePhase::Verifying, &RestoreReason::Verifying),
        (Stage::Ended, Phase::PartiallyFailed) => {
            let errors = seen.errors;
            let reason = RestoreReason::PartiallyFailed { errors, message };
            enter(entry, RestorePhase::PartiallyFailed, &reason);
        }
        (Stage::Ended, _) => failed(restore, entry, &RestoreReason::RestoreFailed { message }, now),
        (Stage::Leaving, _) => failed(restore, entry, &RestoreReason::RestoreVanished, now),
        (_, phase) => {
            let phase = phase.clone();
            say(entry, &RestoreReason::InProgress { phase });
        }
    }
    None
}

/// The attempt failed: another one after a pause, if one is left. It looks at the target anew.
fn failed(restore: &Restore, entry: &mut ClusterRestore, reason: &RestoreReason, now: Timestamp) {
    if entry.attempt >= restore.limits.max_attempts {
        let last = format!("{}: {reason}", reason.token());
        let attempts = entry.attempt;
        return enter(
            entry,
            RestorePhase::Failed,
            &RestoreReason::AttemptsExhausted { attempts, last },
        );
    }
    enter(entry, RestorePhase::Pending, reason);
    entry.retry_at = Some(Time(later(now, restore.limits.backoff(entry.attempt))));
}

/// Compares what is there with what was in the backup.
fn verify(
    restore: &Restore,
    entry: &mut ClusterRestore,
    view: &Result<Box<TargetView>, Obstacle>,
    now: Timestamp,
) {
    let view = match view {
        Ok(view) => view,
        Err(found) => return back_off(restore, entry, &obstacle(found), now),
    };
    let expected = expected(
        &view.contents,
        &restore.spec.scope,
        &restore.spec.namespace_mapping,
    );
    if view.backup.is_none() || !expected.exact {
        return enter(entry, RestorePhase::Completed, &RestoreReason::Completed);
    }
    let none = BTreeSet::new();
    let mut missing = Vec::new();
    for (kind, objects) in &expected.objects {
        if COME_AND_GO.contains(&kind.to_string().as_str()) {
            continue;
        }
        let there = view.present.get(kind).unwrap_or(&none);
        missing.extend(objects.difference(there).map(|name| format!("{kind} {name}")));
    }
    let count = u64::try_from(missing.len()).unwrap_or(u64::MAX);
    entry.missing = Some(count);
    entry.missing_objects = missing
        .iter()
        .take(MAX_MISSING)
        .map(|object| cut(object.clone(), MAX_OBJECT))
        .collect();
    match missing.into_iter().next() {
        None => enter(entry, RestorePhase::Completed, &RestoreReason::Verified),
        Some(first) => {
            let reason = RestoreReason::ObjectsMissing {
                missing: count,
                first,
            };
            enter(entry, RestorePhase::PartiallyFailed, &reason);
        }
    }
}

/// The status after the actions of a step were tried.
#[must_use]
pub fn absorb(
    restore: &Restore,
    status: &RestoreExecutionStatus,
    results: &[(RestoreAction, Result<(), Obstacle>)],
    now: Timestamp,
) -> RestoreExecutionStatus {
    let mut status = status.clone();
    for (action, result) in results {
        let Err(found) = result else { continue };
        let entry = status
            .clusters
            .iter_mut()
            .find(|entry| entry.cluster == action.cluster);
        let Some(entry) = entry else { continue };
        // Out of reach, the restore may have been created all the same: the next look decides.
        if matches!(
            found.token,
            "NameTaken" | "RequestRefused" | "Forbidden" | "BackupServerMissing"
        ) {
            failed(restore, entry, &obstacle(found), now);
        }
    }
    conclude(restore, status, now)
}

/// Fills in what follows from the members.
fn conclude(restore: &Restore, mut status: RestoreExecutionStatus, now: Timestamp) -> RestoreExecutionStatus {
    status.observed_generation = restore.generation;
    let entries = &status.clusters;
    let size = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let in_phase = |phase: RestorePhase| size(entries.iter().filter(|entry| entry.phase == phase).count());
    let clusters = size(entries.len());
    let completed = in_phase(RestorePhase::Completed);
    let needed = match restore.spec.success.mode {
        SuccessMode::All => clusters,
        SuccessMode::Quorum => restore.spec.success.quorum.unwrap_or(clusters),
        SuccessMode::BestEffort => 1,
    };
    let planned = |which: fn(&crate::api::RestoreCounts) -> u64| {
        entries
            .iter()
            .filter_map(|entry| entry.planned.as_ref())
            .map(which)
            .sum()
    };
    status.totals = RestoreTotals {
        clusters,
        completed,
        create: planned(|counts| counts.create),
        skip: planned(|counts| counts.skip),
        patch: planned(|counts| counts.patch),
    };
    let ended = size(entries.iter().filter(|entry| entry.phase.has_ended()).count());
    let (phase, reason) = if clusters == 0 {
        (RestorePhase::Failed, RestoreReason::NoClusters)
    } else if ended == clusters && completed >= needed {
        (
            RestorePhase::Completed,
            RestoreReason::Succeeded { completed, clusters },
        )
    } else if ended == clusters {
        let some = completed + in_phase(RestorePhase::PartiallyFailed) > 0;
        let phase = if some {
            RestorePhase::PartiallyFailed
        } else {
            RestorePhase::Failed
        };
        let reason = RestoreReason::Missed {
            completed,
            needed,
            clusters,
        };
        (phase, reason)
    } else if restore.spec.dry_run && ended + in_phase(RestorePhase::Planned) == clusters {
        (RestorePhase::Planned, RestoreReason::Planned)
    } else if entries.iter().any(|entry| entry.attempt > 0) {
        (
            RestorePhase::InProgress,
            RestoreReason::Running { ended, clusters },
        )
    } else {
        (RestorePhase::Pending, RestoreReason::Running { ended, clusters })
    };
    status.phase = phase;
    if phase.has_ended() && status.completed_at.is_none() {
        status.completed_at = Some(Time(now));
    }
    let mut conditions = ConditionSet::new(std::mem::take(&mut status.conditions), restore.generation, now);
    let ready = if phase.has_ended() {
        ConditionStatus::from(phase == RestorePhase::Completed)
    } else {
        ConditionStatus::Unknown
    };
    conditions.ready(ready, &reason);
    conditions.progressing(!phase.has_ended() && phase != RestorePhase::Planned, &reason);
    conditions.degraded(phase.has_ended() && phase != RestorePhase::Completed, &reason);
    status.conditions = conditions.into_vec();
    status
}
