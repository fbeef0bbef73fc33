//! When a changed policy begins to hold for an object.

use serde::{Deserialize, Serialize};

use crate::api::{Activation, Placement};

/// What an object was last placed by: to be written down on it when a policy activates lazily.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Activated {
    /// The placement.
    pub placement: Placement,
    /// The revision of the template it was placed with.
    pub revision: String,
}

impl Activated {
    /// A template of this revision was placed so.
    pub fn new(placement: Placement, revision: impl Into<String>) -> Self {
        Self {
            placement,
            revision: revision.into(),
        }
    }
}

/// The placement that holds for a template now, and whether a change of the policy waits for the template to change.
///
/// ```
/// use kurator_policy::api::{Activation, ClusterAffinity, Placement};
/// use kurator_policy::propagate::{Activated, active_placement};
///
/// let before = Activated::new(Placement::default(), "r1");
/// let mut changed = Placement::default();
/// changed.cluster_affinity = Some(ClusterAffinity::names(["a"]));
///
/// let lazy = Activation::Lazy;
/// assert_eq!(active_placement(lazy, &changed, Some(&before), "r1"), (&before.placement, true));
/// assert_eq!(active_placement(lazy, &changed, Some(&before), "r2"), (&changed, false));
/// assert_eq!(active_placement(Activation::Immediate, &changed, Some(&before), "r1"), (&changed, false));
/// ```
#[must_use]
pub fn active_placement<'p>(
    activation: Activation,
    current: &'p Placement,
    recorded: Option<&'p Activated>,
    revision: &str,
) -> (&'p Placement, bool) {
    match (activation, recorded) {
        (Activation::Lazy, Some(recorded)) if recorded.revision == revision => {
            (&recorded.placement, recorded.placement != *current)
        }
        _ => (current, false),
    }
}
