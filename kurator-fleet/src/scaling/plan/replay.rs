//! The chosen nodes as waves, played through in the order in which they will happen.

use jiff::Timestamp;

use super::{
    Blocker, BoundBy, CriticalBudget, DrainPolicy, LowerBound, NodeDrain, Note, PodMove, PodStay,
    ScaleDownPlan, Skipped, StayReason, Surge, Wave,
    candidate::{Review, Stays, by_name, rounds},
    choose::{Chosen, hardest_first, no_room, number},
    stage::{Preference, Stage},
    view::View,
    waves::{By, Capacity, Item, lower_bound, pack},
};
use crate::scaling::model::symbols::Map;

/// How often a node that no longer fits is given a wave of its own before it is dropped.
const REPAIRS: u32 = 64;

/// Waves of places in the list of reviews, with the landing of every pod.
#[derive(Debug)]
pub(super) struct Played {
    waves: Vec<Vec<usize>>,
    landing: Map<u32, u32>,
    /// Waves that were enough before places were looked at.
    packed: usize,
    load: Load,
}

/// The nodes as items, with budgets numbered in the order of their names: rows depend on the order of arrival.
#[derive(Debug, Default)]
struct Load {
    items: Vec<Item>,
    capacity: Capacity,
    /// Row of each budget number.
    rows: Vec<u32>,
}

fn load(view: &View<'_>, reviews: &[Review], nodes: &[usize], parallel: u32) -> Load {
    let mut rows: Vec<u32> = nodes
        .iter()
        .flat_map(|at| &reviews[*at].load)
        .map(|(budget, _)| *budget)
        .collect();
    rows.sort_unstable();
    rows.dedup();
    rows.sort_unstable_by_key(|row| view.budget_key(*row));
    let number_of: Map<u32, u32> = (0u32..).zip(&rows).map(|(number, row)| (*row, number)).collect();
    let cap = |row: u32| {
        u32::try_from(view.budgets[row as usize].allowed)
            .unwrap_or(u32::MAX)
            .max(1)
    };
    let items = nodes
        .iter()
        .map(|at| {
            let mut load: Vec<(u32, u32)> = reviews[*at]
                .load
                .iter()
                .filter_map(|(row, pods)| Some((*number_of.get(row)?, (*pods).min(cap(*row)))))
                .collect();
            load.sort_unstable();
            Item { load }
        })
        .collect();
    Load {
        items,
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
    view: &View<'_>,
    policy: &DrainPolicy,
    stage: &mut Stage<'_, '_>,
    reviews: &[Review],
    chosen: &Chosen,
) -> Result<Played, (u32, Vec<Blocker>)> {
    // Places in order of name, so that the packing does not depend on how the nodes were found.
    let mut nodes = chosen.nodes.clone();
    nodes.sort_unstable_by_key(|at| reviews[*at].rank);
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
        nodes.iter().for_each(|at| stage.cordon(reviews[*at].rank, true));
        let mut landing = Map::default();
        for number in 0..waves.len() {
            let wave = waves[number].clone();
            for at in &wave {
                reviews[*at].movers.iter().for_each(|mover| stage.lift(mover.pod));
            }
            for at in &wave {
                let mut pods: Vec<u32> = reviews[*at].movers.iter().map(|mover| mover.pod).collect();
                hardest_first(view, &mut pods);
                for (done, pod) in pods.iter().enumerate() {
                    let wish = chosen.landing.get(pod).copied();
                    let place = stage
                        .place(*pod, Preference::Spread, wish)
                        .or_else(|| stage.place(*pod, Preference::Pack, None));
                    if let Some(rank) = place {
                        landing.insert(*pod, rank);
                        continue;
                    }
                    if wave.len() > 1 && repairs > 0 {
                        repairs -= 1;
                        waves[number].retain(|other| other != at);
                        waves.push(vec![*at]);
                        continue 'again;
                    }
                    let blockers = no_room(stage, &pods[done..], Preference::Spread);
                    return Err((reviews[*at].rank, blockers));
                }
            }
            // What has been drained is gone before the next wave starts.
            wave.iter().for_each(|at| stage.remove_node(reviews[*at].rank));
        }
        return Ok(Played {
            waves,
            landing,
            packed: enough,
            load,
        });
    }
}

/// What was decided, before it is put into words.
#[derive(Debug)]
pub(super) struct Outcome {
    played: Played,
    reviews: Vec<Review>,
    skipped: Vec<(u32, Vec<Blocker>)>,
    until: Option<Timestamp>,
}

impl Outcome {
    pub(super) fn new(
        view: &View<'_>,
        played: Played,
        chosen: &[usize],
        reviews: Vec<Review>,
        mut failed: Map<u32, Vec<Blocker>>,
        mut stuck: Map<u32, Vec<Blocker>>,
    ) -> Self {
        let mut gone = vec![false; view.len()];
        chosen
            .iter()
            .for_each(|at| gone[reviews[*at].rank as usize] = true);
        let mut skipped = Vec::new();
        let mut place = 0;
        for review in &reviews {
            let mut blockers = review.blockers.clone();
            if blockers.is_empty() {
                place += 1;
            }
            if gone[review.rank as usize] {
                continue;
            }
            if blockers.is_empty() {
                blockers = failed.remove(&review.rank).unwrap_or_default();
            }
            if blockers.is_empty() {
                blockers.push(Blocker::NotNeeded {
                    chosen: number(chosen.len()),
                    place,
                });
            }
            blockers.append(&mut stuck.remove(&review.rank).unwrap_or_default());
            skipped.push((review.rank, blockers));
        }
        Self {
            played,
            reviews,
            skipped,
            until: None,
        }
    }

    /// A plan that does nothing.
    pub(super) fn nothing(
        view: &View<'_>,
        policy: &DrainPolicy,
        asked: u32,
        skipped: Vec<(u32, Vec<Blocker>)>,
        until: Option<Timestamp>,
    ) -> ScaleDownPlan {
        let outcome = Self {
            played: Played {
                waves: Vec::new(),
                landing: Map::default(),
                packed: 0,
                load: Load::default(),
            },
            reviews: Vec::new(),
            skipped,
            until,
        };
        outcome.into_plan(view, policy, asked, &Map::default())
    }

    pub(super) fn into_plan(
        self,
        view: &View<'_>,
        policy: &DrainPolicy,
        asked: u32,
        surged: &Map<u32, Surge>,
    ) -> ScaleDownPlan {
        let reviews = &self.reviews;
        let mut nodes: Vec<usize> = self.played.waves.iter().flatten().copied().collect();
        nodes.sort_unstable_by_key(|at| reviews[*at].rank);
        let mut skipped = self.skipped;
        skipped.sort_unstable_by_key(|(rank, _)| *rank);

        let mut budgets: Vec<(u32, u32)> = nodes
            .iter()
            .flat_map(|at| reviews[*at].load.iter().copied())
            .collect();
        budgets.sort_unstable();
        budgets.dedup_by(|next, sum| {
            let same = next.0 == sum.0;
            if same {
                sum.1 += next.1;
            }
            same
        });
        let found = number(nodes.len());
        let mut notes = Vec::new();
        if found < asked {
            notes.push(Note::Fewer { asked, found });
        }
        for (budget, _) in &budgets {
            let status = view
                .model
                .budgets
                .get(*budget)
                .map(|record| record.status.as_ref());
            match status {
                Some(None) => notes.push(Note::UnsyncedBudget {
                    budget: view.budget_name(*budget),
                }),
                Some(Some(status)) if status.stale => notes.push(Note::StaleBudget {
                    budget: view.budget_name(*budget),
                }),
                _ => {}
            }
        }
        notes.sort_unstable();
        let mut surges: Vec<Surge> = budgets
            .iter()
            .filter_map(|(budget, _)| surged.get(budget).cloned())
            .collect();
        surges.sort_unstable_by(|a, b| (&a.deployment, &a.budget).cmp(&(&b.deployment, &b.budget)));

        let bound = bound(
            view,
            policy,
            &self.played.load,
            &nodes,
            &budgets,
            self.played.packed,
        );
        let waves = self
            .played
            .waves
            .iter()
            .map(|wave| {
                let mut wave = wave.clone();
                wave.sort_unstable_by_key(|at| reviews[*at].rank);
                let nodes: Vec<NodeDrain> = wave
                    .iter()
                    .map(|at| node_drain(view, &reviews[*at], &self.played.landing))
                    .collect();
                let rounds = nodes
                    .iter()
                    .flat_map(|node| &node.moves)
                    .map(|step| step.round)
                    .max()
                    .unwrap_or(1);
                Wave { nodes, rounds }
            })
            .collect();
        ScaleDownPlan {
            asked,
            remove: nodes
                .iter()
                .map(|at| view.node_name(reviews[*at].rank).to_owned())
                .collect(),
            waves,
            bound,
            skipped: skipped
                .into_iter()
                .map(|(rank, blockers)| Skipped {
                    node: view.node_name(rank).to_owned(),
                    blockers,
                })
                .collect(),
            surges,
            notes,
            blocked_until: self.until,
        }
    }
}

fn bound(
    view: &View<'_>,
    policy: &DrainPolicy,
    load: &Load,
    nodes: &[usize],
    budgets: &[(u32, u32)],
    found: usize,
) -> LowerBound {
    let bound = lower_bound(&load.items, &load.capacity, found);
    let critical = budgets
        .iter()
        .map(|(budget, pods)| {
            (
                rounds(*pods, view.budgets[*budget as usize].allowed),
                *budget,
                *pods,
            )
        })
        .max_by(|a, b| {
            a.0.cmp(&b.0)
                .then_with(|| view.budget_key(b.1).cmp(&view.budget_key(a.1)))
        });
    let rounds = critical.map_or(u32::from(!nodes.is_empty()), |(rounds, ..)| rounds);
    LowerBound {
        waves: bound.waves,
        rounds,
        seconds: u64::from(rounds.max(bound.waves)) * u64::from(policy.round_seconds),
        by: match bound.by {
            By::Budget(number) => match load.rows.get(number as usize) {
                Some(row) => BoundBy::Budget {
                    budget: view.budget_name(*row),
                },
                None => BoundBy::Conflicts,
            },
            By::Conflicts => BoundBy::Conflicts,
            By::Parallel => BoundBy::Parallel {
                nodes: number(nodes.len()),
                limit: policy.max_parallel.max(1),
            },
        },
        critical_budget: critical.map(|(_, budget, pods)| CriticalBudget {
            budget: view.budget_name(budget),
            pods,
            allowed: u32::try_from(view.budgets[budget as usize].allowed).unwrap_or(u32::MAX),
        }),
    }
}

fn node_drain(view: &View<'_>, review: &Review, landing: &Map<u32, u32>) -> NodeDrain {
    let mut movers = review.movers.clone();
    movers.sort_unstable_by(|a, b| a.order.cmp(&b.order).then_with(|| by_name(view, a.pod, b.pod)));
    let mut stays = review.stays.clone();
    stays.sort_unstable_by(|a, b| by_name(view, a.0, b.0));
    let mut taken: Map<u32, u32> = Map::default();
    let moves = movers
        .iter()
        .map(|mover| {
            let pod = view.pod(mover.pod);
            let round = mover.budget.map_or(1, |budget| {
                let taken = taken.entry(budget).or_insert(0);
                *taken += 1;
                rounds(*taken, view.budgets[budget as usize].allowed)
            });
            PodMove {
                pod: view.pod_name(mover.pod),
                uid: pod.uid.to_string(),
                to: landing
                    .get(&mover.pod)
                    .map_or("", |rank| view.node_name(*rank))
                    .to_owned(),
                order: mover.order,
                round,
                budget: mover.budget.map(|budget| view.budget_name(budget)),
                grace_seconds: pod.grace,
            }
        })
        .collect();
    let stay = stays
        .iter()
        .map(|(pod, stays)| PodStay {
            pod: view.pod_name(*pod),
            uid: view.pod(*pod).uid.to_string(),
            why: match stays {
                Stays::DaemonSet => StayReason::DaemonSet,
                Stays::Finished => StayReason::Finished,
                Stays::Rule => StayReason::Rule,
                Stays::Static => StayReason::Static,
                Stays::Terminating => StayReason::Terminating,
            },
        })
        .collect();
    NodeDrain {
        node: view.node_name(review.rank).to_owned(),
        moves,
        stay,
    }
}
