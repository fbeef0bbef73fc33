//! Nodes in the order of a key that changes all the time.

use std::{cmp::Reverse, collections::BinaryHeap};

/// No node has this key.
const ABSENT: u64 = u64::MAX;

/// A tournament over nodes by rank: every inner place holds the smaller key of the two below it, so the least is at
/// hand, and a changed key is played up in as many steps as there are levels.
#[derive(Debug)]
pub(super) struct Ladder {
    size: usize,
    /// The root is at 1, the children of `n` at `2n` and `2n + 1`, the leaves from `size` on.
    keys: Vec<u64>,
}

impl Ladder {
    /// With a key for each rank, `None` for those that do not take part. Keys must differ.
    pub(super) fn new(leaves: impl ExactSizeIterator<Item = Option<u64>>) -> Self {
        let size = leaves.len().next_power_of_two();
        let mut keys = vec![ABSENT; 2 * size];
        for (place, key) in keys[size..].iter_mut().zip(leaves) {
            *place = key.unwrap_or(ABSENT);
        }
        for at in (1..size).rev() {
            keys[at] = keys[2 * at].min(keys[2 * at + 1]);
        }
        Self { size, keys }
    }

    pub(super) fn set(&mut self, rank: u32, key: Option<u64>) {
        let mut at = self.size + rank as usize;
        self.keys[at] = key.unwrap_or(ABSENT);
        while at > 1 {
            at /= 2;
            let least = self.keys[2 * at].min(self.keys[2 * at + 1]);
            if self.keys[at] == least {
                return;
            }
            self.keys[at] = least;
        }
    }

    pub(super) fn key(&self, rank: u32) -> Option<u64> {
        let key = self.keys[self.size + rank as usize];
        (key != ABSENT).then_some(key)
    }
}

/// A way up a [`Ladder`], least key first.
#[derive(Debug, Default)]
pub(super) struct Climb(BinaryHeap<Reverse<(u64, usize)>>);

impl Climb {
    pub(super) fn start(&mut self, ladder: &Ladder) {
        self.0.clear();
        self.0.push(Reverse((ladder.keys[1], 1)));
    }

    /// The next rank.
    pub(super) fn next(&mut self, ladder: &Ladder) -> Option<u32> {
        let Reverse((key, mut at)) = self.0.pop()?;
        if key == ABSENT {
            return None;
        }
        while at < ladder.size {
            let (left, right) = (2 * at, 2 * at + 1);
            let (winner, loser) = if ladder.keys[left] == key {
                (left, right)
            } else {
                (right, left)
            };
            if ladder.keys[loser] != ABSENT {
                self.0.push(Reverse((ladder.keys[loser], loser)));
            }
            at = winner;
        }
        u32::try_from(at - ladder.size).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_climb_sees_every_node_once_in_order(
            keys in prop::collection::vec(prop::option::of(0u64..50), 1..40),
            changes in prop::collection::vec((0usize..40, prop::option::of(0u64..50)), 0..60),
        ) {
            // The rank makes keys differ.
            let key = |rank: usize, key: Option<u64>| key.map(|key| key << 32 | rank as u64);
            let mut now = keys.clone();
            let mut ladder = Ladder::new(keys.iter().enumerate().map(|(rank, one)| key(rank, *one)));
            for (rank, change) in changes {
                if rank < now.len() {
                    now[rank] = change;
                    ladder.set(u32::try_from(rank).unwrap(), key(rank, change));
                }
            }
            let mut expected: Vec<(u64, usize)> =
                now.iter().enumerate().filter_map(|(rank, one)| Some(((*one)?, rank))).collect();
            expected.sort_unstable();
            let mut climb = Climb::default();
            climb.start(&ladder);
            for (_, rank) in expected {
                prop_assert_eq!(climb.next(&ladder), u32::try_from(rank).ok());
            }
            prop_assert_eq!(climb.next(&ladder), None);
        }
    }
}
