//! Selectors on where a member cluster is.

use std::{collections::BTreeSet, fmt};

use crate::observe::ClusterView;

/// What of a member cluster a [`FieldMatcher`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ClusterField {
    /// Who runs it.
    Provider,
    /// The region it is in.
    Region,
    /// The zones its nodes are in.
    Zone,
}

impl ClusterField {
    /// What `cluster` has in this field: at most one provider and region, any number of zones.
    pub fn values(self, cluster: &ClusterView) -> impl Iterator<Item = &str> {
        let one = match self {
            Self::Provider => cluster.provider.as_deref(),
            Self::Region => cluster.region.as_deref(),
            Self::Zone => None,
        };
        let zones = matches!(self, Self::Zone).then_some(&cluster.zones);
        one.into_iter()
            .chain(zones.into_iter().flatten().map(String::as_str))
            .filter(|value| !value.is_empty())
    }
}

impl fmt::Display for ClusterField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Provider => "provider",
            Self::Region => "region",
            Self::Zone => "zone",
        })
    }
}

/// Requirements on the fields of a member cluster, all of which must hold. Without any it matches every cluster.
///
/// # Semantics
/// As `fieldSelector` of a Karmada `ClusterAffinity`: `In` holds if the cluster has at least one of the values,
/// `NotIn` if it has none of them, which a cluster without the field satisfies.
///
/// ```
/// use kurator_core::{observe::ClusterView, selector::{ClusterField, FieldMatcher}};
///
/// let matcher = FieldMatcher::default()
///     .with_in(ClusterField::Region, ["eu-west"])
///     .with_not_in(ClusterField::Zone, ["eu-west-1c"]);
/// let cluster = ClusterView::new("a".parse()?).with_region("eu-west").with_zone("eu-west-1a");
/// assert!(matcher.matches(&cluster));
/// assert!(!matcher.matches(&cluster.with_zone("eu-west-1c")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldMatcher {
    requirements: Vec<(ClusterField, bool, BTreeSet<String>)>,
}

impl FieldMatcher {
    /// Adds: the cluster has at least one of `values`. With no values nothing matches.
    #[must_use]
    pub fn with_in(self, field: ClusterField, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(field, true, values)
    }

    /// Adds: the cluster has none of `values`.
    #[must_use]
    pub fn with_not_in(
        self,
        field: ClusterField,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.with(field, false, values)
    }

    fn with(
        mut self,
        field: ClusterField,
        wanted: bool,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.requirements
            .push((field, wanted, values.into_iter().map(Into::into).collect()));
        self
    }

    /// Whether the cluster meets every requirement.
    pub fn matches(&self, cluster: &ClusterView) -> bool {
        self.requirements.iter().all(|(field, wanted, values)| {
            field.values(cluster).any(|value| values.contains(value)) == *wanted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_without_the_field_is_in_nothing() {
        let bare = ClusterView::new("a".parse().unwrap()).with_provider("");
        for field in [ClusterField::Provider, ClusterField::Region, ClusterField::Zone] {
            assert!(
                !FieldMatcher::default().with_in(field, ["x", ""]).matches(&bare),
                "{field}"
            );
            assert!(
                FieldMatcher::default()
                    .with_not_in(field, ["x", ""])
                    .matches(&bare),
                "{field}"
            );
        }
        assert!(FieldMatcher::default().matches(&bare));
    }

    #[test]
    fn one_zone_of_many_is_enough() {
        let cluster = ClusterView::new("a".parse().unwrap())
            .with_zone("z1")
            .with_zone("z2");
        assert!(
            FieldMatcher::default()
                .with_in(ClusterField::Zone, ["z2", "z9"])
                .matches(&cluster)
        );
        assert!(
            !FieldMatcher::default()
                .with_not_in(ClusterField::Zone, ["z2"])
                .matches(&cluster)
        );
    }
}
