//! Who a member is: the UID of its `kube-system` namespace.
//!
//! A name and a kubeconfig say where to look; they do not say which cluster is there. The UID of `kube-system` is
//! given once in a cluster's life and kept by its etcd, which is why the Cluster ID property of the Multi-Cluster
//! Services API (KEP-2149) recommends it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The UID of a cluster's `kube-system` namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ClusterUid(String);

impl ClusterUid {
    /// Takes the UID as the API server gave it.
    #[must_use]
    pub fn new(uid: impl Into<String>) -> Self {
        Self(uid.into())
    }

    /// The UID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the answering cluster's UID says about a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// The cluster that was registered.
    Confirmed,
    /// First contact: record this UID before anything is done on the member.
    FirstSeen,
    /// Another cluster answers. Nothing may be read into it or written to it under this registration.
    Mismatch {
        /// The cluster that was registered.
        expected: ClusterUid,
        /// The cluster that answered.
        found: ClusterUid,
    },
}

/// Compares the cluster that answered with the one on record.
///
/// ```
/// use kurator_core::health::{ClusterUid, Identity, identify};
///
/// let (berlin, paris) = (ClusterUid::new("6f1c"), ClusterUid::new("90ab"));
/// assert_eq!(identify(None, &berlin), Identity::FirstSeen);
/// assert_eq!(identify(Some(&berlin), &berlin), Identity::Confirmed);
/// assert!(matches!(identify(Some(&berlin), &paris), Identity::Mismatch { .. }));
/// ```
#[must_use]
pub fn identify(on_record: Option<&ClusterUid>, answered: &ClusterUid) -> Identity {
    match on_record {
        None => Identity::FirstSeen,
        Some(expected) if expected == answered => Identity::Confirmed,
        Some(expected) => Identity::Mismatch {
            expected: expected.clone(),
            found: answered.clone(),
        },
    }
}

/// One registration's claim to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the three facts the rule is about")]
pub struct Claim<K> {
    /// Who claims.
    pub by: K,
    /// When the registration was created.
    pub since: Timestamp,
    /// The cluster that answers there.
    pub uid: ClusterUid,
}

/// Which registrations are second entries for a cluster that another one already holds, and who holds it.
///
/// The oldest registration holds the cluster; of two equally old ones the smaller in order. The order in which the
/// claims are given does not matter.
#[must_use]
pub fn duplicates<K: Ord + Clone>(claims: impl IntoIterator<Item = Claim<K>>) -> BTreeMap<K, K> {
    let mut by_uid: BTreeMap<ClusterUid, Vec<(Timestamp, K)>> = BTreeMap::new();
    for claim in claims {
        by_uid.entry(claim.uid).or_default().push((claim.since, claim.by));
    }
    let mut refused = BTreeMap::new();
    for mut claimants in by_uid.into_values() {
        claimants.sort();
        let mut claimants = claimants.into_iter();
        if let Some((_, holder)) = claimants.next() {
            refused.extend(claimants.map(|(_, second)| (second, holder.clone())));
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(by: &'static str, second: i64, uid: &str) -> Claim<&'static str> {
        Claim {
            by,
            since: Timestamp::from_second(second).unwrap(),
            uid: ClusterUid::new(uid),
        }
    }

    #[test]
    fn two_swapped_members_are_both_refused() {
        let (a, b) = (ClusterUid::new("a"), ClusterUid::new("b"));
        assert!(matches!(identify(Some(&a), &b), Identity::Mismatch { .. }));
        assert!(matches!(identify(Some(&b), &a), Identity::Mismatch { .. }));
    }

    #[test]
    fn the_oldest_of_two_entries_for_a_cluster_holds_it_in_any_order() {
        let claims = [
            claim("new", 9, "x"),
            claim("old", 1, "x"),
            claim("other", 5, "y"),
            claim("newest", 10, "x"),
        ];
        let expected = BTreeMap::from([("new", "old"), ("newest", "old")]);
        assert_eq!(duplicates(claims.clone()), expected);
        let mut reversed = claims;
        reversed.reverse();
        assert_eq!(duplicates(reversed), expected);
    }

    #[test]
    fn equally_old_entries_are_told_apart_by_name() {
        assert_eq!(
            duplicates([claim("b", 1, "x"), claim("a", 1, "x")]),
            BTreeMap::from([("b", "a")])
        );
    }
}
