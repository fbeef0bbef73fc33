//! Moving running replicas where the division would put them today: a little at a time, and not for nothing.

use jiff::{SignedDuration, Timestamp};

use super::bits::Bits;
use super::bounded::{self, approach};
use super::divide::Tiered;
use super::index::FleetIndex;
use super::limits::Limits;
use crate::api::Rebalancing;
use crate::replicas::{FailBack, Readiness};

/// The policy's words as rules, with the defaults of [`FailBack`].
fn rules(rebalancing: &Rebalancing, replicas: u32) -> FailBack {
    let mut rules = FailBack::default();
    if let Some(percent) = rebalancing.max_moves_percent {
        rules.step_percent = percent;
    }
    if let Some(seconds) = rebalancing.stabilization_seconds {
        rules.window = SignedDuration::from_secs(i64::from(seconds));
    }
    let gain = u64::from(replicas) * u64::from(rebalancing.min_gain_percent.unwrap_or(0));
    rules.start_at = u32::try_from(gain.div_ceil(100).max(1)).unwrap_or(u32::MAX);
    rules
}

/// Clusters that have been ready for long enough. One of which it is not known since when counts as settled.
pub(super) fn stable(fleet: &FleetIndex, rebalancing: &Rebalancing, now: Timestamp) -> Bits {
    let rules = rules(rebalancing, 0);
    let mut bits = Bits::none(fleet.len());
    for (at, since) in fleet.ready_since.iter().enumerate() {
        let settled = since.is_none_or(|since| rules.readiness(Some(since), now) == Readiness::Stable);
        bits.set(at, settled && !fleet.unready.has(at));
    }
    bits
}

/// How many replicas may move in one pass on the way back to an earlier affinity group.
pub(super) fn budget(rebalancing: &Rebalancing, replicas: u32) -> u32 {
    rules(rebalancing, replicas).budget(replicas, replicas, true)
}

/// Moves what is assigned towards a fresh division, if enough would move for it to be worth while. Returns how many
/// are left for later passes. A workload that grows or shrinks does only that.
pub(super) fn rebalance(
    tiered: &Tiered<'_>,
    limits: &Limits,
    fleet: &FleetIndex,
    rebalancing: &Rebalancing,
    stable: &Bits,
    assigned: &mut Vec<u32>,
) -> u32 {
    if tiered.fresh || assigned != tiered.previous {
        return 0;
    }
    // An unsettled cluster keeps what it has and takes no more.
    let room: Vec<u64> = tiered
        .room
        .iter()
        .enumerate()
        .map(|(at, &room)| if stable.has(at) { room } else { 0 })
        .collect();
    let mut held = limits.clone();
    for (at, bound) in held.bounds.iter_mut().enumerate() {
        if !stable.has(at) {
            bound.max = bound
                .max
                .min(tiered.previous.get(at).copied().unwrap_or(0))
                .max(bound.min);
        }
    }
    let fresh = Tiered {
        fresh: true,
        room: &room,
        ..*tiered
    };
    let Ok(target) = bounded::divide(&fresh, &held, fleet) else {
        return 0;
    };
    let gained = target
        .assigned
        .iter()
        .zip(&*assigned)
        .map(|(&then, &now)| u64::from(then.saturating_sub(now)));
    let moves: u64 = gained.sum();
    let moves = u32::try_from(moves).unwrap_or(u32::MAX);
    let budget = rules(rebalancing, tiered.replicas).budget(moves, tiered.replicas, false);
    if target.missing > 0 || moves == 0 || budget == 0 {
        return 0;
    }
    let mut towards = target.assigned;
    let left = approach(assigned, &mut towards, budget, tiered.ties);
    *assigned = towards;
    left
}
