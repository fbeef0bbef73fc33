//! What was decided, put into words.

use jiff::Timestamp;

use super::{
    Blocker, BoundBy, CriticalBudget, DrainPolicy, LowerBound, NodeDrain, Note, ObjectName, PodMove, PodStay,
    ScaleDownPlan, Skipped, StayReason, Surge, Wave,
    candidate::{Drain, Reviews, Stays, rounds},
    choose::number,
    replay::{Landing, Load, Played},
    view::View,
    waves::{By, lower_bound},
};
use crate::scaling::model::symbols::Map;

/// What was decided.
pub(super) struct Outcome<'v, 'm> {
    played: Played,
    reviews: Reviews<'v, 'm>,
    skipped: Vec<(u32, Vec<Blocker>)>,
    until: Option<Timestamp>,
    closes: Option<Timestamp>,
    /// Pods for which the scheduler may leave no room.
    tight: Vec<ObjectName>,
}

impl<'v, 'm> Outcome<'v, 'm> {
    pub(super) fn new(
        played: Played,
        chosen: &[usize],
        mut reviews: Reviews<'v, 'm>,
        mut failed: Map<u32, Vec<Blocker>>,
        mut stuck: Map<u32, Vec<Blocker>>,
        closes: Option<Timestamp>,
    ) -> Self {
        let mut goes = vec![false; reviews.rows.len()];
        played.waves.iter().flatten().for_each(|at| goes[*at] = true);
        let mut skipped = Vec::new();
        let mut place = 0;
        for (review, goes) in reviews.rows.iter_mut().zip(goes) {
            let mut blockers = std::mem::take(&mut review.blockers);
            if blockers.is_empty() {
                place += 1;
            }
            if goes {
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
            closes,
            tight: Vec::new(),
        }
    }

    /// Notes pods for which the scheduler may leave no room.
    pub(super) fn with_tight(self, tight: Vec<ObjectName>) -> Self {
        Self { tight, ..self }
    }

    /// Nothing is done before that time; `held` keeps every node besides its own blockers.
    pub(super) fn held(
        mut reviews: Reviews<'v, 'm>,
        held: &[Blocker],
        mut stuck: Map<u32, Vec<Blocker>>,
        until: Option<Timestamp>,
    ) -> Self {
        let rows = std::mem::take(&mut reviews.rows);
        let skipped = rows.into_iter().map(|mut review| {
            // An edge node out of reach is left alone whatever the others do.
            let first = review
                .blockers
                .iter()
                .position(|blocker| !matches!(blocker, Blocker::EdgeDisconnected { .. }))
                .unwrap_or(review.blockers.len());
            review.blockers.splice(first..first, held.iter().cloned());
            let mut stuck = stuck.remove(&review.rank).unwrap_or_default();
            review.blockers.append(&mut stuck);
            (review.rank, review.blockers)
        });
        Self {
            played: Played::nothing(),
            skipped: skipped.collect(),
            reviews,
            until,
            closes: None,
            tight: Vec::new(),
        }
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
        nodes.sort_unstable_by_key(|at| reviews.rank(*at));
        let mut skipped = self.skipped;
        skipped.sort_unstable_by_key(|(rank, _)| *rank);

        let mut budgets: Vec<(u32, u32)> = nodes
            .iter()
            .flat_map(|at| reviews.drain(*at).load.iter().copied())
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
        let mut by_name: Vec<u32> = budgets.iter().map(|(budget, _)| *budget).collect();
        by_name.sort_unstable_by_key(|budget| view.budget_rank(*budget));
        for budget in &by_name {
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
        notes.extend(self.tight.into_iter().map(|pod| Note::Tight { pod }));
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
                wave.sort_unstable_by_key(|at| reviews.rank(*at));
                let nodes: Vec<NodeDrain> = wave
                    .iter()
                    .map(|at| node_drain(view, reviews.rank(*at), reviews.drain(*at), &self.played.landing))
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
                .map(|at| view.node_name(reviews.rank(*at)).to_owned())
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
            closes: self.closes,
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
                .then_with(|| view.budget_rank(b.1).cmp(&view.budget_rank(a.1)))
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

fn node_drain(view: &View<'_>, rank: u32, drain: &Drain, landing: &Landing) -> NodeDrain {
    // They come by name, and stay so within one place of the order.
    let mut movers = drain.movers.clone();
    movers.sort_by_key(|mover| mover.order);
    let mut taken: Vec<(u32, u32)> = drain.load.iter().map(|(budget, _)| (*budget, 0)).collect();
    let moves = movers
        .iter()
        .map(|mover| {
            let pod = view.pod(mover.pod);
            let round = mover.budget.map_or(1, |budget| {
                let at = taken.binary_search_by_key(&budget, |(own, _)| *own);
                let taken = at.ok().and_then(|at| taken.get_mut(at)).map_or(1, |(_, taken)| {
                    *taken += 1;
                    *taken
                });
                rounds(taken, view.budgets[budget as usize].allowed)
            });
            PodMove {
                pod: view.pod_name(mover.pod),
                uid: str::to_owned(&pod.uid),
                to: landing
                    .get(mover.pod)
                    .map_or("", |rank| view.node_name(rank))
                    .to_owned(),
                order: mover.order,
                round,
                budget: mover.budget.map(|budget| view.budget_name(budget)),
                grace_seconds: pod.grace,
            }
        })
        .collect();
    let stay = drain
        .stays
        .iter()
        .map(|(pod, stays)| PodStay {
            pod: view.pod_name(*pod),
            uid: str::to_owned(&view.pod(*pod).uid),
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
        node: view.node_name(rank).to_owned(),
        moves,
        stay,
    }
}
