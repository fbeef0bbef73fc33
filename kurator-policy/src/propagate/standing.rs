//! Make before break: what an object loses in one cluster, it first has ready in another.

use std::collections::{BTreeMap, BTreeSet};

use kurator_core::names::ClusterName;

/// How one object stands in the members: what each was told, what of it is ready there, and which it is leaving.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The clusters that were told to hold it.
    pub clusters: BTreeMap<ClusterName, Stand>,
    /// Those among them that it is leaving, where it is kept for now.
    pub leaving: BTreeSet<ClusterName>,
    /// Those that it has to leave at once, whatever is ready elsewhere.
    pub dismissed: BTreeSet<ClusterName>,
}

/// One object in one cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the pair is the whole idea")]
pub struct Stand {
    /// Replicas it was told to run, before overrides; 0 for what has none.
    pub told: u32,
    /// Of these, the ones that are ready; `None` while nobody has looked there.
    pub ready: Option<u32>,
}

impl Standing {
    /// Adds a cluster that was told to run so many replicas, of which so many are ready.
    #[must_use]
    pub fn with(mut self, cluster: ClusterName, told: u32, ready: Option<u32>) -> Self {
        self.clusters.insert(cluster, Stand { told, ready });
        self
    }

    /// Adds a cluster that the object is leaving and is kept in for now.
    #[must_use]
    pub fn leaving(mut self, cluster: ClusterName) -> Self {
        self.leaving.insert(cluster);
        self
    }

    /// Whether some cluster was told otherwise than was `decided`: what moves is not through yet.
    #[must_use]
    pub fn is_under_way(&self, decided: &BTreeMap<ClusterName, u32>) -> bool {
        let told = |cluster| self.clusters.get(cluster).map_or(0, |stand| stand.told);
        let goal = |cluster| decided.get(cluster).copied().unwrap_or(0);
        let mut names = self.clusters.keys().chain(decided.keys());
        names.any(|cluster| told(cluster) != goal(cluster))
    }

    /// What is not divided: wherever it was decided, and where it is kept for now, as it was told there.
    pub(super) fn copied(&self, decided: &BTreeMap<ClusterName, u32>) -> BTreeMap<ClusterName, u32> {
        let mut told = decided.clone();
        told.retain(|cluster, _| !self.dismissed.contains(cluster));
        for cluster in self
            .leaving
            .iter()
            .filter(|cluster| !self.dismissed.contains(*cluster))
        {
            if let Some(stand) = self.clusters.get(cluster) {
                told.entry(cluster.clone()).or_insert(stand.told);
            }
        }
        told
    }

    /// What each cluster is to be told now, so that it comes to what was `decided` without ever falling below `wanted`
    /// ready replicas in all, or below those that are ready today if these are fewer.
    ///
    /// # Guarantees
    /// - No cluster is told less than was decided, nor more than the greater of that and what it was told before.
    /// - If each cluster loses the worst replicas for it, those that are ready, no more are lost than that.
    /// - Where nobody has looked, nothing shrinks.
    /// - Where what grows gets ready, everything ends as decided.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use kurator_core::names::ClusterName;
    /// use kurator_policy::propagate::Standing;
    ///
    /// let (paris, oslo): (ClusterName, ClusterName) = ("paris".parse()?, "oslo".parse()?);
    /// let decided = BTreeMap::from([(paris.clone(), 6), (oslo.clone(), 4)]);
    /// let before = Standing::default().with(paris.clone(), 10, Some(10));
    /// assert_eq!(before.told(&decided, 10), [(oslo.clone(), 4), (paris.clone(), 10)].into());
    /// let half = Standing::default().with(paris.clone(), 10, Some(10)).with(oslo.clone(), 4, Some(3));
    /// assert_eq!(half.told(&decided, 10), [(oslo, 4), (paris, 7)].into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn told(&self, decided: &BTreeMap<ClusterName, u32>, wanted: u32) -> BTreeMap<ClusterName, u32> {
        let stays = |cluster: &&ClusterName| !self.dismissed.contains(*cluster);
        let ready = |stand: &Stand| u64::from(stand.ready.unwrap_or(0).min(stand.told));
        let there = || self.clusters.iter().filter(|(cluster, _)| stays(cluster));
        let unseen = there().any(|(_, stand)| stand.ready.is_none() && stand.told > 0);
        let total: u64 = there().map(|(_, stand)| ready(stand)).sum();
        let mut spare = total.saturating_sub(u64::from(wanted).min(total));
        let mut told = decided.clone();
        told.retain(|cluster, _| !self.dismissed.contains(cluster));
        for (cluster, stand) in there() {
            let goal = decided.get(cluster).copied().unwrap_or(0);
            let kept = if self.leaving.contains(cluster) {
                stand.told
            } else if stand.told <= goal {
                continue;
            } else if unseen {
                stand.told
            } else {
                // Those that are not ready cost nothing.
                let floor = ready(stand).max(u64::from(goal));
                let given = spare.min(floor - u64::from(goal));
                spare -= given;
                u32::try_from(floor - given).unwrap_or(stand.told)
            };
            if kept > 0 {
                told.insert(cluster.clone(), kept.max(goal));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(index: usize) -> ClusterName {
        format!("c{index}").parse().unwrap()
    }

    fn ready_after(standing: &Standing, told: &BTreeMap<ClusterName, u32>) -> u32 {
        let left = |(cluster, stand): (&ClusterName, &Stand)| {
            let now = told.get(cluster).copied().unwrap_or(0);
            stand.ready.unwrap_or(0).min(stand.told).min(now)
        };
        standing.clusters.iter().map(left).sum()
    }

    proptest! {
        #[test]
        fn ready_replicas_never_fall_below_what_is_wanted_or_there(
            clusters in proptest::collection::vec((0_u32..8, 0_u32..8, 0_u32..8), 1..6),
            wanted in 0_u32..20,
        ) {
            let mut standing = Standing::default();
            let mut decided = BTreeMap::new();
            for (index, (told, ready, goal)) in clusters.iter().enumerate() {
                standing = standing.with(name(index), *told, Some(*ready.min(told)));
                if *goal > 0 {
                    decided.insert(name(index), *goal);
                }
            }
            let today = ready_after(&standing, &standing.clusters.iter().map(|(c, s)| (c.clone(), s.told)).collect());
            let told = standing.told(&decided, wanted);
            prop_assert!(ready_after(&standing, &told) >= wanted.min(today));
            for (cluster, stand) in &standing.clusters {
                let (now, goal) = (told.get(cluster).copied().unwrap_or(0), decided.get(cluster).copied().unwrap_or(0));
                prop_assert!(now >= goal && now <= goal.max(stand.told));
            }
        }

        #[test]
        fn what_gets_ready_ends_as_decided(
            clusters in proptest::collection::vec((0_u32..8, 0_u32..8), 1..6),
        ) {
            let decided: BTreeMap<_, _> =
                clusters.iter().enumerate().map(|(i, (_, goal))| (name(i), *goal)).filter(|(_, goal)| *goal > 0).collect();
            let wanted = decided.values().sum();
            let mut told: BTreeMap<_, _> = clusters.iter().enumerate().map(|(i, (told, _))| (name(i), *told)).collect();
            for _ in 0..3 {
                let mut standing = Standing::default();
                for (cluster, replicas) in &told {
                    standing = standing.with(cluster.clone(), *replicas, Some(*replicas));
                }
                told = standing.told(&decided, wanted);
            }
            prop_assert_eq!(told, decided);
        }
    }

    #[test]
    fn nothing_shrinks_where_nobody_has_looked() {
        let standing = Standing::default()
            .with(name(0), 5, None)
            .with(name(1), 5, Some(5));
        let decided = BTreeMap::from([(name(1), 2)]);
        assert_eq!(
            standing.told(&decided, 2),
            BTreeMap::from([(name(0), 5), (name(1), 5)])
        );
    }

    #[test]
    fn what_leaves_at_once_is_told_nothing() {
        let mut standing = Standing::default().with(name(0), 5, Some(5));
        standing.dismissed.insert(name(0));
        let decided = BTreeMap::from([(name(1), 5)]);
        assert_eq!(standing.told(&decided, 5), decided);
    }
}
