//! A workload that its policy divides into several gangs: each goes whole to one cluster, and all of them or none.

use kurator_core::observe::NodeView;

use super::gang::Gang;
use super::gang_fit::{self, Fit};
use super::hardware::Hardware;
use super::nodes;
use super::workload::Workload;

/// How many gangs of which sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SubGangs {
    pub(super) count: u32,
    replicas: u32,
}

impl SubGangs {
    /// The gangs of a workload, if it is divided into several: never more of them than it has replicas.
    pub(super) fn of(gang: &Gang, workload: &Workload) -> Option<Self> {
        let replicas = workload.replicas?;
        let count = gang.sub_gangs?.min(replicas);
        (count > 1 && gang.roles.is_empty()).then_some(Self { count, replicas })
    }

    fn sizes(total: u64, count: u32) -> (u64, u64) {
        let count = u64::from(count.max(1));
        (total / count, total.div_ceil(count))
    }

    /// Replicas of the smallest of them. The largest has one more at most.
    pub(super) fn least(self) -> u32 {
        self.replicas / self.count.max(1)
    }

    /// How many whole gangs so many new replicas are.
    pub(super) fn whole(self, replicas: u32) -> u32 {
        replicas.div_ceil(self.replicas.div_ceil(self.count.max(1)).max(1))
    }

    /// How many gangs run in each cluster, told from the replicas: the sizes differ by one at most, so the numbers that
    /// come to the count are the ones. `total` is what runs in all, also in clusters that are not there any more.
    pub(super) fn held(self, previous: &[u32], total: u64) -> Vec<u32> {
        let (least, most) = Self::sizes(total, self.count);
        let bounds = previous.iter().map(|&replicas| {
            let replicas = u64::from(replicas);
            let low = replicas
                .checked_div(most)
                .map_or(0, |whole| whole + u64::from(!replicas.is_multiple_of(most)));
            (low, replicas.checked_div(least).unwrap_or(replicas))
        });
        let bounds: Vec<(u64, u64)> = bounds.collect();
        let mut open = u64::from(self.count);
        let mut held: Vec<u64> = Vec::with_capacity(bounds.len());
        for &(low, _) in &bounds {
            let here = low.min(open);
            open -= here;
            held.push(here);
        }
        // Those that are not there any more have had some too.
        let here: u64 = previous.iter().map(|&replicas| u64::from(replicas)).sum();
        open = open.saturating_sub(total.saturating_sub(here) / most.max(1));
        for (here, &(_, high)) in held.iter_mut().zip(&bounds) {
            let more = high.saturating_sub(*here).min(open);
            *here += more;
            open -= more;
        }
        held.into_iter()
            .map(|here| u32::try_from(here).unwrap_or(u32::MAX))
            .collect()
    }

    /// The replicas of so many gangs in each cluster. A cluster keeps larger ones that it has.
    pub(super) fn replicas(self, gangs: &[u32], previous: &[u32]) -> Vec<u32> {
        let least = self.least();
        let mut larger = self.replicas % self.count.max(1);
        let mut extra: Vec<u32> = gangs
            .iter()
            .zip(previous)
            .map(|(&gangs, &before)| {
                let keeps = before.saturating_sub(gangs.saturating_mul(least));
                let here = keeps.min(gangs).min(larger);
                larger -= here;
                here
            })
            .collect();
        for (extra, &gangs) in extra.iter_mut().zip(gangs) {
            let here = gangs.saturating_sub(*extra).min(larger);
            larger -= here;
            *extra += here;
        }
        let sum = |(&gangs, &extra): (&u32, &u32)| gangs.saturating_mul(least).saturating_add(extra);
        gangs.iter().zip(&extra).map(sum).collect()
    }
}

/// How many more gangs fit at the same time, at most `most`, and how the one after them does not.
pub(super) fn fits(
    gang: &Gang,
    workload: &Workload,
    nodes: &[NodeView],
    hardware: &Hardware,
    most: u32,
) -> (u32, Fit) {
    let needs = gang_fit::needs(gang, workload);
    let mut left = nodes.to_vec();
    let mut count = 0;
    loop {
        let found = gang_fit::fit(gang, workload, &left, hardware);
        if count == most || found.fit < found.wanted {
            return (count, found);
        }
        count += 1;
        for (position, members) in &found.packing {
            let Some(node) = left.get_mut(*position) else {
                continue;
            };
            for (need, &members) in needs.iter().zip(members) {
                nodes::take(node, need.asks.request, u64::from(members));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gangs(count: u32, replicas: u32) -> SubGangs {
        SubGangs { count, replicas }
    }

    #[test]
    fn the_sizes_differ_by_one_and_larger_ones_stay_where_they_are() {
        assert_eq!(gangs(4, 10).replicas(&[2, 0, 2], &[0, 0, 0]), [6, 0, 4]);
        assert_eq!(gangs(4, 10).replicas(&[2, 0, 2], &[4, 0, 6]), [4, 0, 6]);
        assert_eq!(gangs(4, 10).held(&[4, 0, 6], 10), [2, 0, 2]);
        assert_eq!(gangs(3, 3).held(&[0, 0], 0), [0, 0]);
        assert_eq!(gangs(4, 8).held(&[6, 0], 8), [3, 0]);
        // Half of one is one that has to be placed whole.
        assert_eq!(gangs(2, 8).whole(8), 2);
        assert_eq!(gangs(2, 8).whole(1), 1);
    }

    proptest! {
        /// What was made of gangs is read back as gangs: of the same number, and steady.
        #[test]
        fn what_runs_is_read_back(parts in prop::collection::vec(0..6_u32, 1..6), size in 1..5_u32, larger in 0..30_u32) {
            let count: u32 = parts.iter().sum();
            prop_assume!(count > 0);
            let of = gangs(count, count * size + larger % count);
            let nothing = vec![0; parts.len()];
            let running = of.replicas(&parts, &nothing);
            prop_assert_eq!(running.iter().sum::<u32>(), of.replicas);
            let held = of.held(&running, u64::from(of.replicas));
            prop_assert_eq!(held.iter().sum::<u32>(), count);
            prop_assert_eq!(of.replicas(&held, &running), running);
        }
    }
}
