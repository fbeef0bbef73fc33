use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ObjectKey;

/// What to do about an object, or a field of one, that somebody else holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ConflictResolution {
    /// Leave objects alone that exist and were not placed for this owner, and fields that another manager has
    /// *applied*: report both. Values that were merely edited in an object of ours are drift and are set back.
    #[default]
    Abort,
    /// Take over the object and every field that is wanted, whoever holds it. An object placed for another living
    /// owner is not taken over even so: two owners would take it from each other for ever.
    Overwrite,
}

/// A kind as pruning looks for it, in the version it is listed in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KindRef {
    /// `apiVersion`, for example `apps/v1`.
    pub api_version: String,
    /// `kind`, for example `Deployment`.
    pub kind: String,
}

impl KindRef {
    /// This kind in this version.
    pub fn new(api_version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            api_version: api_version.into(),
            kind: kind.into(),
        }
    }
}

/// Where objects are looked for that the owner placed and no longer wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PruneScope {
    /// Nowhere: nothing is pruned.
    Nothing,
    /// The kinds of the set and these: what earlier sets contained. The caller keeps this list where it survives
    /// a crash (status), and extends it *before* it applies a set with a new kind. If there is no kind at all, of
    /// the set or here, every kind: withdrawing everything must not look complete because nothing was looked for.
    Kinds(BTreeSet<KindRef>),
    /// Every kind the member serves: a list call for each, so for leaving and cleaning up rather than every pass.
    EveryKind,
}

impl Default for PruneScope {
    /// The kinds of the set.
    fn default() -> Self {
        Self::Kinds(BTreeSet::new())
    }
}

/// How a set is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApplyOptions {
    /// About what others hold. Default: [`ConflictResolution::Abort`].
    pub conflict_resolution: ConflictResolution,
    /// Whether a missing namespace is created. It then stays when the objects go: others may have moved in.
    /// Default: yes.
    pub create_namespaces: bool,
    /// Where to prune. Default: the kinds of the set.
    pub prune: PruneScope,
    /// Fields, as JSON pointers, that a controller on the member may own: they are given their first value and left to
    /// it from then on; see [`retain`](super::retain). Default: none.
    pub member_owned: BTreeMap<ObjectKey, Vec<String>>,
    /// Whether nothing is written: the server is asked what it would do, and the report says that. Default: no.
    pub dry_run: bool,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            conflict_resolution: ConflictResolution::default(),
            create_namespaces: true,
            prune: PruneScope::default(),
            member_owned: BTreeMap::new(),
            dry_run: false,
        }
    }
}

impl ApplyOptions {
    /// Sets what to do about what others hold.
    #[must_use]
    pub fn with_conflict_resolution(mut self, resolution: ConflictResolution) -> Self {
        self.conflict_resolution = resolution;
        self
    }

    /// Leaves missing namespaces missing.
    #[must_use]
    pub fn without_namespace_creation(mut self) -> Self {
        self.create_namespaces = false;
        self
    }

    /// Sets which fields of which objects a controller on the member may own.
    #[must_use]
    pub fn with_member_owned(mut self, fields: BTreeMap<ObjectKey, Vec<String>>) -> Self {
        self.member_owned = fields;
        self
    }

    /// Writes nothing, and reports what would be written.
    #[must_use]
    pub fn with_dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Sets where to prune.
    #[must_use]
    pub fn with_prune(mut self, prune: PruneScope) -> Self {
        self.prune = prune;
        self
    }
}
