//! Spreading over several levels at once, such as regions and the zones in them.

use std::collections::BTreeMap;

use super::policy::How;
use super::reason::Unplaced;
use super::select::{Field, take, weigh};
use super::spread::{Level, NO_GROUP};

/// Chooses innermost groups such that every level has as many groups as it asks for: as few innermost groups as
/// possible, of those the heaviest, then those with the most clusters, then the first by name.
///
/// The levels must nest; a group of one that reaches over several groups of another, and the other way round, is
/// refused, because their counts could then not be had independently.
pub(super) fn by_levels(
    ranked: &mut Vec<u32>,
    field: &Field<'_>,
    levels: &[&Level],
    clusters: Option<&Level>,
    how: &How,
    replicas: u32,
) -> Result<(), Unplaced> {
    let (min_clusters, max_clusters) = clusters.map_or((0, usize::MAX), |level| (level.min, level.max));
    let nested = nest(ranked, levels)?;
    let Some((inner, outer)) = nested.split_last() else {
        return Ok(());
    };
    let choices = weigh(ranked, field, inner, min_clusters, how, replicas);
    let mut leaves: Vec<Leaf> = choices
        .iter()
        .map(|choice| Leaf {
            group: choice.group,
            clusters: choice.clusters,
            weight: choice.weight,
            path: outer
                .iter()
                .map(|level| parent(ranked, inner, choice.group, level))
                .collect(),
        })
        .collect();
    leaves.sort_by(|a, b| a.path.cmp(&b.path).then(a.group.cmp(&b.group)));
    let Some(chosen) = best(&leaves, outer, inner, min_clusters, max_clusters) else {
        return Err(shortage(ranked, levels, min_clusters));
    };
    take(ranked, field, inner, &chosen, max_clusters);
    Ok(())
}

/// An innermost group with the groups around it, outermost first.
#[derive(Debug)]
struct Leaf {
    group: u32,
    clusters: u64,
    weight: u64,
    path: Vec<u32>,
}

/// What a beginning of the list of leaves has used: groups by level, clusters, and which outer groups around the last
/// leaf are in use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    outer: Vec<(usize, bool)>,
    inner: usize,
    clusters: u64,
}

/// The best way to a state: its weight, its clusters, and the leaves taken.
type Way = (u128, u64, Vec<usize>);

fn best(
    leaves: &[Leaf],
    outer: &[&Level],
    inner: &Level,
    min_clusters: usize,
    max_clusters: usize,
) -> Option<Vec<u32>> {
    let target = min_clusters as u64;
    let start = State {
        outer: vec![(0, false); outer.len()],
        inner: 0,
        clusters: 0,
    };
    let mut states: BTreeMap<State, Way> = BTreeMap::from([(start, (0, 0, Vec::new()))]);
    let mut before: Option<&Leaf> = None;
    for (index, leaf) in leaves.iter().enumerate() {
        let mut next: BTreeMap<State, Way> = BTreeMap::new();
        for (mut state, way) in states {
            let changed = before.map_or(0, |before| {
                before
                    .path
                    .iter()
                    .zip(&leaf.path)
                    .position(|(a, b)| a != b)
                    .unwrap_or(leaf.path.len())
            });
            for (_, used) in state.outer.iter_mut().skip(changed) {
                *used = false;
            }
            let mut taken = state.clone();
            for (count, used) in &mut taken.outer {
                *count += usize::from(!*used);
                *used = true;
            }
            taken.inner += 1;
            taken.clusters = (taken.clusters + leaf.clusters).min(target);
            let fits = taken.inner <= inner.max.min(max_clusters)
                && taken
                    .outer
                    .iter()
                    .zip(outer)
                    .all(|((count, _), level)| *count <= level.max);
            if fits {
                let mut path = way.2.clone();
                path.push(index);
                keep(
                    &mut next,
                    taken,
                    (way.0 + u128::from(leaf.weight), way.1 + leaf.clusters, path),
                );
            }
            keep(&mut next, state, way);
        }
        states = next;
        before = Some(leaf);
    }
    let enough = states.into_iter().filter(|(state, _)| {
        state.inner >= inner.min.max(1)
            && state.clusters >= target
            && state
                .outer
                .iter()
                .zip(outer)
                .all(|((count, _), level)| *count >= level.min)
    });
    let mut best: Option<(usize, Way)> = None;
    for (state, way) in enough {
        let better = best.as_ref().is_none_or(|(count, held)| {
            state.inner < *count || (state.inner == *count && heavier(&way, held))
        });
        if better {
            best = Some((state.inner, way));
        }
    }
    let (_, (_, _, path)) = best?;
    Some(
        path.into_iter()
            .filter_map(|index| leaves.get(index))
            .map(|leaf| leaf.group)
            .collect(),
    )
}

fn heavier(a: &Way, b: &Way) -> bool {
    (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| b.2.cmp(&a.2)).is_gt()
}

fn keep(states: &mut BTreeMap<State, Way>, state: State, way: Way) {
    match states.get_mut(&state) {
        Some(held) if heavier(&way, held) => *held = way,
        Some(_) => {}
        None => {
            states.insert(state, way);
        }
    }
}

/// The levels from the outermost to the innermost.
fn nest<'l>(ranked: &[u32], levels: &[&'l Level]) -> Result<Vec<&'l Level>, Unplaced> {
    let mut nested: Vec<&Level> = levels.to_vec();
    // Fewer groups lie outside more groups; equal numbers nest either way.
    nested.sort_by_key(|level| (groups(ranked, level), level.by.clone()));
    for pair in nested.windows(2) {
        let [outer, inner] = pair else { continue };
        let mut around: BTreeMap<u32, u32> = BTreeMap::new();
        for &at in ranked {
            let of = |level: &Level| level.group.get(at as usize).copied().unwrap_or(NO_GROUP);
            let held = *around.entry(of(inner)).or_insert(of(outer));
            if held != of(outer) {
                let name = inner.names.get(of(inner) as usize).cloned().unwrap_or_default();
                let group = format!("{} {name}", inner.by);
                return Err(Unplaced::SpreadCrosses {
                    by: outer.by.to_string(),
                    group,
                });
            }
        }
    }
    Ok(nested)
}

fn groups(ranked: &[u32], level: &Level) -> usize {
    let mut found: Vec<u32> = ranked
        .iter()
        .filter_map(|&at| level.group.get(at as usize).copied())
        .collect();
    found.sort_unstable();
    found.dedup();
    found.len()
}

fn parent(ranked: &[u32], inner: &Level, group: u32, outer: &Level) -> u32 {
    let member = ranked
        .iter()
        .find(|&&at| inner.group.get(at as usize) == Some(&group));
    member
        .and_then(|&at| outer.group.get(at as usize))
        .copied()
        .unwrap_or(NO_GROUP)
}

/// Which level has too few groups; the clusters if none has.
fn shortage(ranked: &[u32], levels: &[&Level], min_clusters: usize) -> Unplaced {
    let short = levels.iter().find(|level| groups(ranked, level) < level.min);
    short.map_or_else(
        || Unplaced::Spread {
            by: "cluster".to_owned(),
            found: ranked.len(),
            wanted: min_clusters,
        },
        |level| Unplaced::Spread {
            by: level.by.to_string(),
            found: groups(ranked, level),
            wanted: level.min,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::bits::Bits;
    use crate::placement::policy::SpreadBy;
    use proptest::prelude::*;

    fn level(by: &str, group: &[u32], min: usize, max: usize) -> Level {
        let names = (0..=group.iter().max().copied().unwrap_or(0))
            .map(|g| g.to_string())
            .collect();
        let by = SpreadBy::Label(by.to_owned());
        Level {
            by,
            min,
            max,
            group: group.to_vec(),
            names,
            grouped: Bits::all(group.len()),
        }
    }

    /// Every subset of the zones.
    fn exhaustive(zones: &[(u32, u64)], limits: [usize; 4], clusters: u64) -> Option<(usize, u128)> {
        let [min_r, max_r, min_z, max_z] = limits;
        let mut best: Option<(usize, u128)> = None;
        for set in 1_u32..1 << zones.len() {
            let picked = || {
                (0..zones.len())
                    .filter(move |z| set >> z & 1 == 1)
                    .map(|z| zones[z])
            };
            let mut regions: Vec<u32> = picked().map(|(region, _)| region).collect();
            regions.sort_unstable();
            regions.dedup();
            let count = picked().count();
            let held: u64 = picked().map(|(_, clusters)| clusters).sum();
            let fits = (min_r..=max_r).contains(&regions.len()) && (min_z..=max_z).contains(&count);
            if !fits || held < clusters {
                continue;
            }
            // Without room every zone weighs 0, so the clusters decide.
            let found = (count, u128::from(held));
            if best.is_none_or(|best| found.0 < best.0 || (found.0 == best.0 && found.1 > best.1)) {
                best = Some(found);
            }
        }
        best
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn two_levels_equal_an_exhaustive_search(
            zones in prop::collection::vec((0_u32..4, 1_u64..4), 1..9),
            min_r in 1_usize..4, more_r in 0_usize..3, min_z in 1_usize..5, more_z in 0_usize..3, clusters in 0_usize..10,
        ) {
            let mut zone_of = vec![];
            let mut region_of = vec![];
            for (zone, &(region, clusters)) in zones.iter().enumerate() {
                for _ in 0..clusters {
                    zone_of.push(u32::try_from(zone).unwrap());
                    region_of.push(region);
                }
            }
            let region = level("region", &region_of, min_r, min_r + more_r);
            let zone = level("zone", &zone_of, min_z, min_z + more_z);
            let all: Vec<u32> = (0..u32::try_from(zone_of.len()).unwrap()).collect();
            let empty = vec![0; all.len()];
            let field = Field { tier: &[], score: &[], available: &empty };
            let cluster = Level { min: clusters, max: usize::MAX, ..level("cluster", &[], 0, 0) };
            let mut ranked = all.clone();
            let result = by_levels(&mut ranked, &field, &[&zone, &region], Some(&cluster), &How::Available, 0);
            let limits = [min_r, min_r + more_r, min_z, min_z + more_z];
            let expected = exhaustive(&zones, limits, clusters as u64);
            match (result, expected) {
                (Ok(()), Some((count, held))) => {
                    prop_assert_eq!(groups(&ranked, &zone), count);
                    prop_assert_eq!(ranked.len() as u128, held);
                }
                (Err(Unplaced::Spread { .. }), None) => {}
                // One zone in each region, with more zones than regions the other way round, is no nesting.
                (other, expected) => prop_assert!(false, "{other:?} {expected:?}"),
            }
        }
    }

    #[test]
    fn groups_that_cross_are_refused_by_name() {
        let region = level("region", &[0, 0, 1, 1], 1, 2);
        let rack = level("rack", &[0, 1, 0, 2], 1, 2);
        let field = Field {
            tier: &[],
            score: &[],
            available: &[0; 4],
        };
        let result = by_levels(
            &mut vec![0, 1, 2, 3],
            &field,
            &[&region, &rack],
            None,
            &How::Available,
            0,
        );
        assert_eq!(
            result,
            Err(Unplaced::SpreadCrosses {
                by: "label region".into(),
                group: "label rack 0".into()
            })
        );
    }
}
