//! The chosen nodes as waves, played through in the order in which they will happen.

use jiff::Timestamp;

use super::{
    Blocker, DrainPolicy,
    candidate::{Reviews, rounds},
    choose::{Chosen, no_room},
    stage::{Preference, Stage},
    view::{NONE, View},
    waves::{Capacity, Item, pack},
};

/// How often a node that no longer fits is given a wave of its own before it is dropped.
const REPAIRS: u32 = 64;

/// Waves of places in the list of reviews, with the landing of every pod.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) waves: Vec<Vec<usize>>,
    pub(super) landing: Landing,
    /// Waves that were enough before places were looked at.
    pub(super) packed: usize,
    pub(super) load: Load,
}

/// The rank of the node on which each pod that moves lands, by pod row.
#[derive(Clone, Debug, Default)]
pub(super) struct Landing(Vec<u32>);

impl Landing {
    pub(super) fn new(view: &View<'_>) -> Self {
        Self(vec![NONE; view.pod_rows()])
    }

    pub(super) fn get(&self, pod: u32) -> Option<u32> {
        self.0.get(pod as usize).copied().filter(|rank| *rank != NONE)
    }

    pub(super) fn set(&mut self, pod: u32, rank: u32) {
        if let Some(place) = self.0.get_mut(pod as usize) {
            *place = rank;
        }
    }
}

impl Played {
    /// Nobody moves.
    pub(super) fn nothing() -> Self {
        Self {
            waves: Vec::new(),
            landing: Landing::default(),
            packed: 0,
            load: Load::default(),
        }
    }

    /// Drops the waves that would not start before nodes may no longer be drained. Their nodes, with the wave.
    pub(super) fn trim(
        &mut self,
        view: &View<'_>,
        policy: &DrainPolicy,
        reviews: &Reviews<'_, '_>,
        closes: Timestamp,
    ) -> Vec<(u32, Blocker)> {
        let left = closes.as_second().saturating_sub(view.now);
        let mut taken = 0i64;
        let mut in_time = 0;
        for wave in &self.waves {
            if taken >= left {
                break;
            }
            in_time += 1;
            taken = taken.saturating_add(
                i64::from(wave_rounds(view, reviews, wave)) * i64::from(policy.round_seconds),
            );
        }
        let late: Vec<(u32, Blocker)> = (1..)
            .zip(&self.waves)
            .skip(in_time)
            .flat_map(|(wave, nodes)| nodes.iter().map(move |at| (wave, *at)))
            .map(|(wave, at)| (reviews.rank(at), Blocker::WindowTooShort { closes, wave }))
            .collect();
        if late.is_empty() {
            return late;
        }
        self.waves.truncate(in_time);
        self.packed = self.packed.min(in_time);
        let mut nodes: Vec<usize> = self.waves.iter().flatten().copied().collect();
        nodes.sort_unstable_by_key(|at| reviews.rank(*at));
        self.load = load(view, reviews, &nodes, policy.max_parallel);
        late
    }
}

/// Rounds of evictions a wave takes.
fn wave_rounds(view: &View<'_>, reviews: &Reviews<'_, '_>, wave: &[usize]) -> u32 {
    let budgets = wave.iter().flat_map(|at| &reviews.drain(*at).load);
    budgets
        .map(|(budget, pods)| rounds(*pods, view.budgets[*budget as usize].allowed))
        .max()
        .unwrap_or(1)
}

/// The nodes as items, with the budgets that keep some apart numbered in the order of their names: rows depend on the
/// order of arrival.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) items: Vec<Item>,
    pub(super) capacity: Capacity,
    /// Row of each budget number.
    pub(super) rows: Vec<u32>,
}

fn load(view: &View<'_>, reviews: &Reviews<'_, '_>, nodes: &[usize], parallel: u32) -> Load {
    let cap = |row: u32| {
        u32::try_from(view.budgets[row as usize].allowed)
            .unwrap_or(u32::MAX)
            .max(1)
    };
    let capped = |at: &usize| {
        let load = reviews.drain(*at).load.iter();
        load.map(|(row, pods)| (*row, (*pods).min(cap(*row))))
    };
    let mut demand = vec![0u64; view.budgets.len()];
    for (row, pods) in nodes.iter().flat_map(capped) {
        demand[row as usize] += u64::from(pods);
    }
    // Where everybody fits into one wave, nobody has to be kept apart.
    let mut rows: Vec<u32> = (0..)
        .zip(&demand)
        .filter(|(row, demand)| **demand > u64::from(cap(*row)))
        .map(|(row, _)| row)
        .collect();
    rows.sort_unstable_by_key(|row| view.budget_rank(*row));
    let mut number_of = vec![NONE; view.budgets.len()];
    for (number, row) in (0u32..).zip(&rows) {
        number_of[*row as usize] = number;
    }
    let items = nodes.iter().map(|at| {
        let numbered = capped(at).map(|(row, pods)| (number_of[row as usize], pods));
        let mut load: Vec<(u32, u32)> = numbered.filter(|(number, _)| *number != NONE).collect();
        load.sort_unstable();
        Item { load }
    });
    Load {
        items: items.collect(),
        capacity: Capacity {
            parallel: parallel.max(1),
            allowed: rows.iter().map(|row| cap(*row)).collect(),
        },
        rows,
    }
}

/// Packs and plays. A pod that fits nowhere at its time puts its node into a wave of its own at the end; one that is
/// alone and still fits nowhere is returned with the reasons.
pub(super) fn replay(
    policy: &DrainPolicy,
    stage: &mut Stage<'_, '_>,
    reviews: &Reviews<'_, '_>,
    chosen: &Chosen,
) -> Result<Played, (u32, Vec<Blocker>)> {
    let view = stage.view;
    // Places in order of name, so that the packing does not depend on how the nodes were found.
    let mut nodes = chosen.nodes.clone();
    nodes.sort_unstable_by_key(|at| reviews.rank(*at));
    let load = load(view, reviews, &nodes, policy.max_parallel);
    let packed = pack(&load.items, &load.capacity);
    let enough = packed.len();
    let mut waves: Vec<Vec<usize>> = packed
        .into_iter()
        .map(|wave| wave.into_iter().filter_map(|at| nodes.get(at).copied()).collect())
        .collect();
    let mut repairs = REPAIRS;
    'again: loop {
        stage.undo_to(0);
        nodes.iter().for_each(|at| stage.cordon(reviews.rank(*at), true));
        let mut landing = Landing::new(view);
        for number in 0..waves.len() {
            let wave = waves[number].clone();
            for at in &wave {
                reviews.drain(*at).hardest.iter().for_each(|pod| stage.lift(*pod));
            }
            for at in &wave {
                let pods = &reviews.drain(*at).hardest;
                for (done, pod) in pods.iter().enumerate() {
                    let wish = chosen.landing.get(*pod);
                    let place = stage
                        .place(*pod, Preference::Spread, wish)
                        .or_else(|| stage.place(*pod, Preference::Pack, None));
                    if let Some(rank) = place {
                        landing.set(*pod, rank);
                        continue;
                    }
                    if wave.len() > 1 && repairs > 0 {
                        repairs -= 1;
                        waves[number].retain(|other| other != at);
                        waves.push(vec![*at]);
                        continue 'again;
                    }
                    let blockers = no_room(stage, &pods[done..], Preference::Spread);
                    return Err((reviews.rank(*at), blockers));
                }
            }
            // What has been drained is gone before the next wave starts.
            wave.iter().for_each(|at| stage.remove_node(reviews.rank(*at)));
        }
        return Ok(Played {
            waves,
            landing,
            packed: enough,
            load,
        });
    }
}
