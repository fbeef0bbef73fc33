//! A bound on the work of all members together that no member can use up alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Waiting entries by owner, taken in turns: one of each owner in order of arrival, then one of each again.
#[derive(Debug)]
struct Turns<K, T> {
    waiting: BTreeMap<K, VecDeque<T>>,
    turns: VecDeque<K>,
}

impl<K: Ord + Clone, T> Turns<K, T> {
    const fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
        }
    }

    fn push(&mut self, owner: K, entry: T) {
        let waiting = self.waiting.entry(owner.clone()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(owner);
        }
        waiting.push_back(entry);
    }

    fn pop(&mut self) -> Option<T> {
        let owner = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&owner)?;
        let entry = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        entry
    }
}

/// The gate: so many may be inside, and who waits is let in by turns.
#[derive(Clone, Debug)]
pub(super) struct FairGate<K: Ord + Clone + Send + Sync> {
    state: Arc<Mutex<State<K>>>,
}

#[derive(Debug)]
struct State<K: Ord + Clone + Send + Sync> {
    free: usize,
    turns: Turns<K, oneshot::Sender<Inside<K>>>,
}

/// The right to be inside, given back on drop.
#[derive(Debug)]
pub(super) struct Inside<K: Ord + Clone + Send + Sync> {
    gate: Option<FairGate<K>>,
}

impl<K: Ord + Clone + Send + Sync> FairGate<K> {
    pub(super) fn new(room: usize) -> Self {
        let state = State {
            free: room.max(1),
            turns: Turns::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Waits for its turn. Dropping the future gives the place in the queue up.
    pub(super) async fn enter(&self, owner: &K) -> Inside<K> {
        let turn = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                return Inside {
                    gate: Some(self.clone()),
                };
            }
            let (sender, turn) = oneshot::channel();
            state.turns.push(owner.clone(), sender);
            turn
        };
        // The sender is only dropped by the gate, which this future keeps alive.
        turn.await.unwrap_or(Inside { gate: None })
    }

    fn leave(&self) {
        let mut inside = Inside {
            gate: Some(self.clone()),
        };
        loop {
            let next = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let next = state.turns.pop();
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some(next) = next else {
                inside.gate = None;
                return;
            };
            match next.send(inside) {
                Ok(()) => return,
                Err(refused) => inside = refused,
            }
        }
    }
}

impl<K: Ord + Clone + Send + Sync> Drop for Inside<K> {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_member_with_a_long_queue_delays_another_by_one_turn() {
        let mut turns = Turns::new();
        for entry in 0..1000 {
            turns.push("busy", entry);
        }
        turns.push("quiet", -1);
        assert_eq!(
            [turns.pop(), turns.pop(), turns.pop()],
            [Some(0), Some(-1), Some(1)]
        );
    }

    proptest! {
        #[test]
        fn between_two_turns_of_one_member_every_other_that_waits_has_had_one(
            owners in prop::collection::vec(0_u8..6, 1..80),
        ) {
            let mut turns = Turns::new();
            for (index, owner) in owners.iter().enumerate() {
                turns.push(*owner, (*owner, index));
            }
            let mut left: BTreeMap<u8, usize> = BTreeMap::new();
            owners.iter().for_each(|owner| *left.entry(*owner).or_default() += 1);
            let mut since: BTreeMap<u8, usize> = BTreeMap::new();
            let mut previous: BTreeMap<u8, usize> = BTreeMap::new();
            while let Some((owner, index)) = turns.pop() {
                if let Some(before) = previous.insert(owner, index) {
                    prop_assert!(before < index, "first come, first served within a member");
                }
                if let Some(passed) = since.insert(owner, 0) {
                    let others = left.iter().filter(|(other, left)| **other != owner && **left > 0).count();
                    prop_assert!(passed >= others);
                }
                since.iter_mut().filter(|(other, _)| **other != owner).for_each(|(_, passed)| *passed += 1);
                *left.get_mut(&owner).unwrap() -= 1;
            }
            prop_assert!(left.values().all(|left| *left == 0), "everyone was served");
        }
    }

    #[tokio::test]
    async fn only_so_many_are_inside_and_leaving_lets_the_next_in() {
        let gate = FairGate::new(2);
        let first = gate.enter(&"a").await;
        let second = gate.enter(&"a").await;
        let mut third = Box::pin(gate.enter(&"b"));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        let third = third.await;
        drop((second, third));
        let both = (gate.enter(&"a").now_or_never(), gate.enter(&"a").now_or_never());
        assert!(both.0.is_some() && both.1.is_some());
    }

    #[tokio::test]
    async fn one_who_stops_waiting_takes_no_place_with_them() {
        let gate = FairGate::new(1);
        let inside = gate.enter(&"a").await;
        let mut gone = Box::pin(gate.enter(&"b"));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        drop(inside);
        assert!(gate.enter(&"c").now_or_never().is_some());
    }
}
