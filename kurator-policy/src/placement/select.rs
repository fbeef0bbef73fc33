//! Which of the clusters that fit are used: the spread.

use std::cmp::Reverse;

use super::bits::Bits;
use super::groups::{Choice, choose};
use super::levels;
use super::options::Dialect;
use super::policy::{How, SpreadBy};
use super::reason::Unplaced;
use super::spread::{Level, NO_GROUP};
use crate::api::SpreadField;

/// What the selection knows of the clusters, by position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// The tier of its affinity group.
    pub(super) tier: &'a [u8],
    pub(super) score: &'a [u64],
    /// The room of a cluster with what runs there already.
    pub(super) available: &'a [u64],
}

impl Field<'_> {
    /// The better cluster is smaller. Positions are in the order of the names.
    fn key(&self, at: u32) -> (u8, Reverse<u64>, Reverse<u64>, u32) {
        let index = at as usize;
        (
            self.tier.get(index).copied().unwrap_or(0),
            Reverse(self.score.get(index).copied().unwrap_or(0)),
            Reverse(self.available(at)),
            at,
        )
    }

    fn available(&self, at: u32) -> u64 {
        self.available.get(at as usize).copied().unwrap_or(0)
    }

    fn room(&self, clusters: &[u32]) -> u128 {
        clusters.iter().map(|&at| u128::from(self.available(at))).sum()
    }
}

/// Puts the candidates in order, best first.
pub(super) fn rank(ranked: &mut Vec<u32>, candidates: &Bits, field: &Field<'_>) {
    ranked.clear();
    ranked.extend(candidates.iter().filter_map(|at| u32::try_from(at).ok()));
    ranked.sort_unstable_by_key(|&at| field.key(at));
}

/// Keeps of the ranked candidates those the spread chooses, in the order in which they are to be used.
pub(super) fn select(
    ranked: &mut Vec<u32>,
    field: &Field<'_>,
    levels: &[Level],
    how: &How,
    replicas: u32,
    dialect: Dialect,
) -> Result<(), Unplaced> {
    if levels.is_empty() || matches!(how, How::Static(_)) {
        return Ok(());
    }
    let clusters = levels.iter().find(|level| level.is_cluster());
    let by_region = SpreadBy::Field(SpreadField::Region);
    let grouped: Vec<&Level> = match dialect {
        Dialect::Karmada => levels.iter().filter(|level| level.by == by_region).collect(),
        Dialect::Kurator => levels.iter().filter(|level| !level.is_cluster()).collect(),
    };
    match (grouped.as_slice(), clusters) {
        ([], Some(level)) => by_cluster(ranked, field, level, how, replicas),
        // Karmada knows no other constraint.
        ([], None) => {
            let by = levels
                .first()
                .map(|level| level.by.to_string())
                .unwrap_or_default();
            Err(Unplaced::Spread {
                by,
                found: 0,
                wanted: 1,
            })
        }
        ([level], _) => by_group(ranked, field, level, clusters, how, replicas, dialect),
        (several, _) => levels::by_levels(ranked, field, several, clusters, how, replicas),
    }
}

fn by_cluster(
    ranked: &mut Vec<u32>,
    field: &Field<'_>,
    level: &Level,
    how: &How,
    replicas: u32,
) -> Result<(), Unplaced> {
    let found = ranked.len();
    if found < level.min {
        return Err(Unplaced::Spread {
            by: level.by.to_string(),
            found,
            wanted: level.min,
        });
    }
    let count = level.max.min(found);
    if *how == How::Duplicated {
        ranked.truncate(count);
        return Ok(());
    }
    let wanted = u128::from(replicas);
    let mut rest = ranked.split_off(count);
    // From the last upwards, the roomiest of those left out comes in while that helps.
    for slot in (0..count).rev() {
        if field.room(ranked) >= wanted {
            break;
        }
        let Some(chosen) = ranked.get_mut(slot) else {
            continue;
        };
        let best = rest.iter_mut().min_by_key(|at| Reverse(field.available(**at)));
        if let Some(best) = best.filter(|best| field.available(**best) > field.available(*chosen)) {
            std::mem::swap(chosen, best);
        }
    }
    let room = field.room(ranked);
    if room < wanted || ranked.is_empty() {
        return Err(Unplaced::SpreadRoom {
            clusters: count,
            room: u64::try_from(room).unwrap_or(u64::MAX),
            wanted: u64::from(replicas),
        });
    }
    Ok(())
}

fn by_group(
    ranked: &mut Vec<u32>,
    field: &Field<'_>,
    level: &Level,
    clusters: Option<&Level>,
    how: &How,
    replicas: u32,
    dialect: Dialect,
) -> Result<(), Unplaced> {
    let (min_clusters, max_clusters) = match (clusters, dialect) {
        (Some(level), _) => (level.min, level.max),
        (None, Dialect::Karmada) => (0, 0),
        (None, Dialect::Kurator) => (0, usize::MAX),
    };
    let choices = weigh(ranked, field, level, min_clusters, how, replicas);
    if choices.len() < level.min || choices.is_empty() {
        return Err(Unplaced::Spread {
            by: level.by.to_string(),
            found: choices.len(),
            wanted: level.min.max(1),
        });
    }
    let max_groups = match dialect {
        Dialect::Karmada => level.max,
        // Every group takes at least one cluster.
        Dialect::Kurator => level.max.min(max_clusters),
    };
    let chosen = choose(&choices, level.min, max_groups, min_clusters as u64);
    let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) else {
        return Err(Unplaced::Spread {
            by: "cluster".to_owned(),
            found: ranked.len(),
            wanted: min_clusters,
        });
    };
    let groups: Vec<u32> = chosen.iter().map(|choice| choice.group).collect();
    take(ranked, field, level, &groups, max_clusters);
    Ok(())
}

/// Takes the best cluster of every chosen group, then the best of the others in them.
pub(super) fn take(ranked: &mut Vec<u32>, field: &Field<'_>, level: &Level, groups: &[u32], max: usize) {
    let of = |at: u32| level.group.get(at as usize).copied().unwrap_or(NO_GROUP);
    let mut first = Vec::with_capacity(groups.len());
    for &group in groups {
        first.extend(ranked.iter().copied().find(|&at| of(at) == group));
    }
    let mut others: Vec<u32> = ranked
        .iter()
        .copied()
        .filter(|at| groups.contains(&of(*at)) && !first.contains(at))
        .collect();
    others.sort_unstable_by_key(|&at| field.key(at));
    others.truncate(max.saturating_sub(first.len()));
    ranked.clear();
    ranked.extend(first);
    ranked.extend(others);
}

/// Weighs every group that has a candidate. `ranked` is best first.
pub(super) fn weigh(
    ranked: &[u32],
    field: &Field<'_>,
    level: &Level,
    min_clusters: usize,
    how: &How,
    replicas: u32,
) -> Vec<Choice> {
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); level.names.len()];
    for &at in ranked {
        let group = level.group.get(at as usize).copied().unwrap_or(NO_GROUP);
        if let Some(members) = members.get_mut(group as usize) {
            members.push(at);
        }
    }
    let counted = (0_u32..).zip(members).filter(|(_, members)| !members.is_empty());
    counted
        .map(|(group, members)| Choice {
            group,
            clusters: members.len() as u64,
            weight: weight(&members, field, level.min, min_clusters, how, replicas),
        })
        .collect()
}

/// How good a group is: how much of its part of the replicas it holds, then the average score of the clusters that
/// takes; for copies, how many of its clusters hold them all.
fn weight(
    members: &[u32],
    field: &Field<'_>,
    min_groups: usize,
    min_clusters: usize,
    how: &How,
    replicas: u32,
) -> u64 {
    const UNIT: u64 = 1000;
    let score = |at: u32| field.score.get(at as usize).copied().unwrap_or(0);
    let average = |sum: u64, count: u64| sum.checked_div(count).unwrap_or(0).min(UNIT - 1);
    if *how == How::Duplicated {
        let holding = members
            .iter()
            .filter(|&&at| field.available(at) >= u64::from(replicas));
        let (count, sum) = holding.fold((0_u64, 0_u64), |(count, sum), &at| {
            (count + 1, sum.saturating_add(score(at)))
        });
        return count * UNIT + average(sum, count);
    }
    let part = u64::from(replicas).div_ceil((min_groups as u64).max(1));
    let least = min_groups.max(min_clusters) as u64;
    let (mut room, mut sum, mut count) = (0_u64, 0_u64, 0_u64);
    for &at in members {
        room = room.saturating_add(field.available(at));
        sum = sum.saturating_add(score(at));
        count += 1;
        if count >= least && room >= part {
            break;
        }
    }
    room.min(part) * UNIT + average(sum, count)
}
