//! Which candidates go.

use jiff::Timestamp;

use super::{
    Blocker, DrainPolicy,
    candidate::{Reviews, by_name},
    rehearse::rehearse,
    replay::{Landing, replay},
    settle::Outcome,
    stage::{Preference, Stage},
    view::View,
};
use crate::scaling::model::symbols::{Map, id};

/// Up to this many candidates, every combination is tried before fewer nodes than asked for are accepted.
const EXHAUSTIVE: usize = 12;

/// Combinations tried at most, in a cluster of fifty nodes.
const COMBINATIONS: usize = 5_000;

/// Dead ends the search for a tight fit of one node's pods may meet.
const DEAD_ENDS: u32 = 1_000;

/// In a cluster of up to this many nodes, every node that stays is tried for the sake of its explanation; in a larger
/// one an eighth of this number.
const EXPLAINED: usize = 512;

/// The search for a tight fit is for clusters of up to this many nodes; larger ones have other candidates.
const TIGHT: usize = 64;

/// Finds `asked` candidates that can go together, preferred ones first, and plays them through.
pub(super) fn choose<'v, 'm>(
    view: &'v View<'m>,
    policy: &DrainPolicy,
    asked: u32,
    reviews: Reviews<'v, 'm>,
    closes: Option<Timestamp>,
) -> Outcome<'v, 'm> {
    let mut stage = Stage::new(view);
    let asked = asked as usize;
    let mut refused: Map<u32, Vec<Blocker>> = Map::default();
    let free: Vec<usize> = (0..reviews.rows.len())
        .filter(|at| reviews.rows[*at].blockers.is_empty())
        .collect();
    loop {
        let open: Vec<usize> = free
            .iter()
            .copied()
            .filter(|at| !refused.contains_key(&reviews.rank(*at)))
            .collect();
        let mut chosen = Chosen::default();
        for preference in [Preference::Spread, Preference::Pack] {
            let found = greedy(&mut stage, &reviews, &open, asked, preference);
            if found.nodes.len() > chosen.nodes.len() || chosen.failed.is_empty() && chosen.nodes.is_empty() {
                chosen = found;
            }
            if chosen.nodes.len() >= asked.min(open.len()) {
                break;
            }
        }
        if chosen.nodes.len() < asked.min(open.len()) && open.len() <= EXHAUSTIVE {
            exhaustive(&mut stage, &reviews, &open, asked.min(open.len()), &mut chosen);
        }
        stage.undo_to(0);
        match replay(policy, &mut stage, &reviews, &chosen) {
            Ok(mut played) => {
                let mut failed = chosen.failed;
                failed.extend(refused.iter().map(|(rank, blockers)| (*rank, blockers.clone())));
                let stuck = beside(&mut stage, &reviews, &chosen.nodes, &failed);
                if let Some(closes) = closes {
                    let late = played.trim(view, policy, &reviews, closes);
                    failed.extend(late.into_iter().map(|(rank, blocker)| (rank, vec![blocker])));
                }
                let tight = rehearse(&mut stage, &reviews, &played.waves);
                if policy.strict_landing && !tight.is_empty() {
                    stage.undo_to(0);
                    for pod in tight {
                        let pod_name = view.pod_name(pod);
                        let kept = refused.entry(view.home(pod)).or_default();
                        kept.push(Blocker::RoomTight { pod: pod_name });
                    }
                    continue;
                }
                let tight = tight.into_iter().map(|pod| view.pod_name(pod)).collect();
                return Outcome::new(played, &chosen.nodes, reviews, failed, stuck, closes).with_tight(tight);
            }
            // A node that fits at no moment of any order is out; the rest is chosen again without it.
            Err((rank, blockers)) => {
                stage.undo_to(0);
                refused.insert(rank, blockers);
            }
        }
    }
}

/// What keeps nodes that were not tried, besides what forbids them: pods that would not fit anywhere either. After the
/// chosen nodes are gone, for as many nodes as leaves the plan fast.
pub(super) fn beside(
    stage: &mut Stage<'_, '_>,
    reviews: &Reviews<'_, '_>,
    chosen: &[usize],
    failed: &Map<u32, Vec<Blocker>>,
) -> Map<u32, Vec<Blocker>> {
    let mut stuck = Map::default();
    let limit = if stage.view.len() <= EXPLAINED {
        EXPLAINED
    } else {
        EXPLAINED / 8
    };
    let mut goes = vec![false; reviews.rows.len()];
    chosen.iter().for_each(|at| goes[*at] = true);
    let untried = (0..reviews.rows.len())
        .filter(|at| !goes[*at] && failed.get(&reviews.rank(*at)).is_none_or(Vec::is_empty))
        .take(limit);
    for at in untried {
        let mark = stage.mark();
        stage.cordon(reviews.rank(at), true);
        if let Err(blockers) = empty(stage, reviews, at, Preference::Spread, true) {
            stuck.insert(reviews.rank(at), blockers);
        }
        stage.undo_to(mark);
    }
    stuck
}

/// Nodes that go, as places in the list of reviews, and why tried ones do not.
#[derive(Clone, Debug, Default)]
pub(super) struct Chosen {
    pub(super) nodes: Vec<usize>,
    pub(super) failed: Map<u32, Vec<Blocker>>,
    /// Where each pod went.
    pub(super) landing: Landing,
}

fn greedy(
    stage: &mut Stage<'_, '_>,
    reviews: &Reviews<'_, '_>,
    open: &[usize],
    asked: usize,
    preference: Preference,
) -> Chosen {
    stage.undo_to(0);
    let mut chosen = Chosen::default();
    let mut queue = open.iter().copied();
    let mut batch: Vec<usize> = queue.by_ref().take(asked).collect();
    // All of them are closed before the first is emptied, so that nothing moves onto one that goes later.
    batch.iter().for_each(|at| stage.cordon(reviews.rank(*at), true));
    let mut later: Vec<usize> = Vec::new();
    while !batch.is_empty() {
        for at in std::mem::take(&mut batch) {
            if empty(stage, reviews, at, preference, false).is_ok() {
                chosen.nodes.push(at);
            } else {
                stage.cordon(reviews.rank(at), false);
                later.push(at);
                if let Some(next) = queue.next() {
                    stage.cordon(reviews.rank(next), true);
                    batch.push(next);
                }
            }
        }
    }
    // Nodes that failed are room for others now, so a second look may help; what still fails is explained.
    for at in later {
        if chosen.nodes.len() < asked {
            stage.cordon(reviews.rank(at), true);
            match empty(stage, reviews, at, preference, true) {
                Ok(()) => chosen.nodes.push(at),
                Err(blockers) => {
                    stage.cordon(reviews.rank(at), false);
                    chosen.failed.insert(reviews.rank(at), blockers);
                }
            }
        } else {
            chosen.failed.insert(reviews.rank(at), Vec::new());
        }
    }
    record_landing(stage, reviews, &mut chosen);
    chosen
}

fn record_landing(stage: &Stage<'_, '_>, reviews: &Reviews<'_, '_>, chosen: &mut Chosen) {
    chosen.landing = Landing::new(stage.view);
    for at in &chosen.nodes {
        for mover in &reviews.drain(*at).movers {
            chosen.landing.set(mover.pod, stage.node_of(mover.pod));
        }
    }
}

/// Moves everything off a closed node, what came to it before included, or changes nothing and says what is in the
/// way, if that is asked for.
fn empty(
    stage: &mut Stage<'_, '_>,
    reviews: &Reviews<'_, '_>,
    at: usize,
    preference: Preference,
    explain: bool,
) -> Result<(), Vec<Blocker>> {
    let start = stage.mark();
    let rank = reviews.rank(at);
    let mut pods = reviews.drain(at).hardest.clone();
    if !stage.arrived(rank).is_empty() {
        pods.extend_from_slice(stage.arrived(rank));
        hardest_first(stage.view, &mut pods);
    }
    pods.iter().for_each(|pod| stage.lift(*pod));
    let lifted = stage.mark();
    let second = match preference {
        Preference::Pack => Preference::Spread,
        Preference::Spread => Preference::Pack,
    };
    for preference in [preference, second] {
        if pods
            .iter()
            .all(|pod| stage.place(*pod, preference, None).is_some())
        {
            stage.remove_node(rank);
            return Ok(());
        }
        stage.undo_to(lifted);
    }
    let mut dead_ends = DEAD_ENDS;
    if stage.view.len() <= TIGHT && pods.len() <= 24 && fit(stage, &pods, &mut dead_ends) {
        stage.remove_node(rank);
        return Ok(());
    }
    stage.undo_to(lifted);
    let blockers = if explain {
        no_room(stage, &pods, preference)
    } else {
        Vec::new()
    };
    stage.undo_to(start);
    Err(blockers)
}

/// Depth-first search for a place for every pod.
fn fit(stage: &mut Stage<'_, '_>, pods: &[u32], dead_ends: &mut u32) -> bool {
    let Some((pod, rest)) = pods.split_first() else {
        return true;
    };
    let options = stage.options(*pod);
    for option in options {
        let mark = stage.mark();
        if stage.place(*pod, Preference::Spread, Some(option)).is_some() && fit(stage, rest, dead_ends) {
            return true;
        }
        stage.undo_to(mark);
        if *dead_ends == 0 {
            return false;
        }
    }
    *dead_ends = dead_ends.saturating_sub(1);
    false
}

/// Places what fits of the lifted pods, and explains the others.
pub(super) fn no_room(stage: &mut Stage<'_, '_>, pods: &[u32], preference: Preference) -> Vec<Blocker> {
    let view = stage.view;
    let mut stuck: Vec<u32> = Vec::new();
    for pod in pods {
        if stage.place(*pod, preference, None).is_none() {
            stuck.push(*pod);
        }
    }
    stuck.sort_unstable_by(|a, b| by_name(view, *a, *b));
    stuck
        .into_iter()
        .map(|pod| {
            let requests = &view.model.requests[view.outline(pod).requests];
            Blocker::NoRoom {
                pod: view.pod_name(pod),
                cpu: requests.cpu,
                memory: requests.memory,
                refused: stage.refusals(pod),
            }
        })
        .collect()
}

/// Pods with rules first, then the large ones; names break ties.
pub(super) fn hardest_first(view: &View<'_>, pods: &mut [u32]) {
    let model = view.model;
    let key = |at: u32| {
        let pod = view.outline(at);
        let requests = &model.requests[pod.requests];
        let constraint = &model.constraints[pod.constraint];
        let bound = pod.has_claims || pod.has_ports;
        let rules = !model.peers[pod.peers].is_empty();
        let picky = !constraint.selector.is_empty() || constraint.terms.is_some();
        let freedom = u8::from(!bound) + u8::from(!rules) + u8::from(!picky);
        // A core weighs as much as four gibibytes.
        let size = i128::from(requests.cpu) * (4 << 30) / 1000 + i128::from(requests.memory);
        (freedom, -size)
    };
    let mut keyed: Vec<_> = pods.iter().map(|at| (key(*at), *at)).collect();
    keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| by_name(view, a.1, b.1)));
    pods.iter_mut()
        .zip(keyed)
        .for_each(|(place, (_, at))| *place = at);
}

/// Tries every combination, the largest and then the most preferred first.
fn exhaustive(
    stage: &mut Stage<'_, '_>,
    reviews: &Reviews<'_, '_>,
    open: &[usize],
    asked: usize,
    chosen: &mut Chosen,
) {
    let mut left = COMBINATIONS / (1 + stage.view.len() / 50);
    for size in (chosen.nodes.len() + 1..=asked).rev() {
        let mut picked: Vec<usize> = (0..size).collect();
        loop {
            if left == 0 {
                return;
            }
            left -= 1;
            let combination: Vec<usize> = picked.iter().filter_map(|at| open.get(*at).copied()).collect();
            if let Some(mut found) = all_go(stage, reviews, &combination) {
                for at in open {
                    if !combination.contains(at) {
                        let why = chosen.failed.remove(&reviews.rank(*at)).unwrap_or_default();
                        found.failed.insert(reviews.rank(*at), why);
                    }
                }
                *chosen = found;
                return;
            }
            if !next_combination(&mut picked, open.len()) {
                break;
            }
        }
    }
}

fn all_go(stage: &mut Stage<'_, '_>, reviews: &Reviews<'_, '_>, combination: &[usize]) -> Option<Chosen> {
    for preference in [Preference::Spread, Preference::Pack] {
        stage.undo_to(0);
        combination
            .iter()
            .for_each(|at| stage.cordon(reviews.rank(*at), true));
        if combination
            .iter()
            .all(|at| empty(stage, reviews, *at, preference, false).is_ok())
        {
            let mut chosen = Chosen {
                nodes: combination.to_vec(),
                ..Chosen::default()
            };
            record_landing(stage, reviews, &mut chosen);
            return Some(chosen);
        }
    }
    None
}

/// The next set of places in lexicographic order.
fn next_combination(picked: &mut [usize], of: usize) -> bool {
    let size = picked.len();
    for at in (0..size).rev() {
        if picked[at] < of - size + at {
            picked[at] += 1;
            for next in at + 1..size {
                picked[next] = picked[next - 1] + 1;
            }
            return true;
        }
    }
    false
}

/// How many.
pub(super) fn number(len: usize) -> u32 {
    id(len)
}
