use std::fmt;

use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};

use super::{ApplyFailure, ObjectKey};
use crate::{names::ClusterName, reason::Reason};

/// Who has the object or field we left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// The object was placed for another owner: by another policy, or from another hub.
    ClaimedByOther {
        /// Name of that owner, as its annotation says.
        owner: String,
        /// Identity of its hub.
        hub: String,
    },
    /// The object exists and was not placed by us.
    OwnedByOther {
        /// The field manager that wrote most recently, or `unknown`.
        manager: String,
    },
}

impl Refusal {
    /// The reason as conditions, Events and metric labels carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ClaimedByOther { .. } => "ClaimedByOther",
            Self::OwnedByOther { .. } => "OwnedByOther",
        }
    }
}

impl Reason for Refusal {
    fn token(&self) -> &'static str {
        self.reason()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClaimedByOther { owner, hub } => {
                write!(
                    f,
                    "placed for {owner} of hub {hub}; remove it from one of the two"
                )
            }
            Self::OwnedByOther { manager } => write!(
                f,
                "exists and belongs to {manager}; delete it there, or set the conflict resolution to Overwrite"
            ),
        }
    }
}

/// A field that another manager has applied with another value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FieldConflict {
    /// The other field manager.
    pub manager: String,
    /// Path of the field, as the server writes it, for example `.spec.replicas`.
    pub field: String,
}

impl FieldConflict {
    /// The field at this path, held by this manager.
    pub fn new(manager: impl Into<String>, field: impl Into<String>) -> Self {
        Self {
            manager: manager.into(),
            field: field.into(),
        }
    }
}

/// What became of one object of the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ObjectOutcome {
    /// It is ours, and others have applied other values to some of its fields. Nothing was written.
    Conflict {
        /// Fields and who holds them, sorted.
        conflicts: Vec<FieldConflict>,
    },
    /// It was not there and is now.
    Created,
    /// It could not be applied; the next pass tries again.
    Failed {
        /// Why.
        failure: ApplyFailure,
    },
    /// It is somebody else's. Nothing was written.
    Refused {
        /// Whose.
        refusal: Refusal,
    },
    /// It is as it should be. Nothing was written.
    Unchanged,
    /// It was changed: because what is wanted changed, or because it had drifted.
    Updated,
    /// It is not there; without [`dry_run`](super::ApplyOptions::dry_run) it would be created.
    WouldCreate,
    /// It is otherwise; without [`dry_run`](super::ApplyOptions::dry_run) it would be changed.
    WouldUpdate {
        /// Paths of the fields that would change, such as `.spec.replicas`: the first
        /// [`MAX_DIFFERENCES`](super::MAX_DIFFERENCES), sorted. Never their values.
        fields: Vec<String>,
        /// How many more there are.
        more: usize,
    },
}

impl ObjectOutcome {
    /// Whether the object is now as wanted.
    pub fn is_in_place(&self) -> bool {
        matches!(self, Self::Created | Self::Unchanged | Self::Updated)
    }

    /// The reason as conditions, Events and metric labels carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "FieldConflict",
            Self::Created => "Created",
            Self::Failed { failure } => failure.reason(),
            Self::Refused { refusal } => refusal.reason(),
            Self::Unchanged => "Unchanged",
            Self::Updated => "Updated",
            Self::WouldCreate => "WouldCreate",
            Self::WouldUpdate { .. } => "WouldUpdate",
        }
    }
}

impl Reason for ObjectOutcome {
    fn token(&self) -> &'static str {
        self.reason()
    }
}

impl fmt::Display for ObjectOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { conflicts } => {
                f.write_str("in conflict:")?;
                for (index, conflict) in conflicts.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma} {} is held by {}", conflict.field, conflict.manager)?;
                }
                Ok(())
            }
            Self::Created => f.write_str("created"),
            Self::Failed { failure } => write!(f, "failed: {failure}"),
            Self::Refused { refusal } => write!(f, "refused: {refusal}"),
            Self::Unchanged => f.write_str("unchanged"),
            Self::Updated => f.write_str("updated"),
            Self::WouldCreate => f.write_str("would be created"),
            Self::WouldUpdate { fields, more } => {
                write!(f, "would be changed: {}", fields.join(", "))?;
                match more {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
        }
    }
}

/// One object of the set after a pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObjectReport {
    /// Which.
    pub object: ObjectKey,
    /// What became of it.
    pub outcome: ObjectOutcome,
    /// The object on the member, with its status, as last seen in this pass. Not part of the serialised form.
    #[serde(skip)]
    pub live: Option<Box<DynamicObject>>,
}

impl ObjectReport {
    /// This outcome of this object.
    pub fn new(object: ObjectKey, outcome: ObjectOutcome, live: Option<DynamicObject>) -> Self {
        Self {
            object,
            outcome,
            live: live.map(Box::new),
        }
    }
}

/// What became of an object that is no longer wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Removal {
    /// Deletion has begun and waits for finalizers or dependents.
    Deleting,
    /// It could not be deleted; the next pass tries again.
    Failed {
        /// Why.
        failure: ApplyFailure,
    },
    /// It is gone.
    Removed,
    /// Without [`dry_run`](super::ApplyOptions::dry_run) it would be deleted.
    WouldRemove,
}

/// An object that is no longer wanted, after a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RemovalReport {
    /// Which.
    pub object: ObjectKey,
    /// What became of it.
    pub removal: Removal,
}

impl RemovalReport {
    /// This removal of this object.
    pub fn new(object: ObjectKey, removal: Removal) -> Self {
        Self { object, removal }
    }
}

/// How pruning went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Pruning {
    /// The whole scope was looked through.
    Done {
        /// Everything that was ours and not wanted, sorted; empty if the member holds nothing more of ours.
        removals: Vec<RemovalReport>,
    },
    /// It was not asked for.
    NotAsked,
    /// Some kinds could not be listed, so nothing was removed.
    ScopeUnknown {
        /// Why.
        failure: ApplyFailure,
    },
    /// Some object of the set is not in place, so nothing was removed.
    SetIncomplete,
}

/// What one pass did on one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[must_use]
pub struct ApplyReport {
    /// The member.
    pub cluster: ClusterName,
    /// Every object of the set, sorted.
    pub objects: Vec<ObjectReport>,
    /// How pruning went.
    pub pruning: Pruning,
}

impl ApplyReport {
    /// The report of a pass.
    pub fn new(cluster: ClusterName, objects: Vec<ObjectReport>, pruning: Pruning) -> Self {
        Self {
            cluster,
            objects,
            pruning,
        }
    }

    /// Whether every object of the set is as wanted.
    pub fn is_in_place(&self) -> bool {
        self.objects.iter().all(|report| report.outcome.is_in_place())
    }

    /// Whether, besides, nothing more is on the member that the owner no longer wants.
    pub fn is_complete(&self) -> bool {
        let pruned = match &self.pruning {
            Pruning::Done { removals } => removals.iter().all(|it| it.removal == Removal::Removed),
            Pruning::NotAsked => true,
            _ => false,
        };
        pruned && self.is_in_place()
    }

    /// Whether nothing was written.
    pub fn is_unchanged(&self) -> bool {
        let wrote =
            |outcome: &ObjectOutcome| matches!(outcome, ObjectOutcome::Created | ObjectOutcome::Updated);
        !self.objects.iter().any(|report| wrote(&report.outcome))
            && !matches!(&self.pruning, Pruning::Done { removals }
                if removals.iter().any(|it| it.removal != Removal::WouldRemove))
    }

    /// The outcome of one object of the set.
    pub fn outcome(&self, object: &ObjectKey) -> Option<&ObjectOutcome> {
        self.objects
            .iter()
            .find(|report| report.object == *object)
            .map(|report| &report.outcome)
    }
}

impl fmt::Display for ApplyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for report in &self.objects {
            writeln!(f, "{}: {} {}", self.cluster, report.object, report.outcome)?;
        }
        match &self.pruning {
            Pruning::Done { removals } => {
                for report in removals {
                    match &report.removal {
                        Removal::Deleting => {
                            writeln!(f, "{}: {} is being deleted", self.cluster, report.object)
                        }
                        Removal::Failed { failure } => {
                            writeln!(f, "{}: {} not removed: {failure}", self.cluster, report.object)
                        }
                        Removal::Removed => writeln!(f, "{}: {} removed", self.cluster, report.object),
                        Removal::WouldRemove => {
                            writeln!(f, "{}: {} would be removed", self.cluster, report.object)
                        }
                    }?;
                }
                Ok(())
            }
            Pruning::NotAsked => Ok(()),
            Pruning::ScopeUnknown { failure } => writeln!(f, "{}: nothing pruned: {failure}", self.cluster),
            Pruning::SetIncomplete => {
                writeln!(
                    f,
                    "{}: nothing pruned: not everything wanted is in place",
                    self.cluster
                )
            }
        }
    }
}
