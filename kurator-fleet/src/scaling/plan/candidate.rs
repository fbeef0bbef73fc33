//! What can be said about one node before anything moves.

use std::{cell::OnceCell, cmp::Ordering};

use jiff::Timestamp;

use super::{
    Blocker, DrainPolicy,
    choose::{hardest_first, number},
    order::Candidate,
    rule::{DrainAction, DrainPod},
    stage::utilisation,
    view::{Cover, NONE, View},
};
use crate::scaling::model::{
    constraint::CORDON,
    node::{Autonomy, NodeRecord, Ready},
    pod::{Class, Phase, Protection},
};

/// Priorities from here on are the system's own.
const SYSTEM_PRIORITY: i32 = 2_000_000_000;

/// A pod that moves when its node goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mover {
    pub(super) pod: u32,
    /// Place in the order on its node.
    pub(super) order: i32,
    /// The budget its eviction takes one from.
    pub(super) budget: Option<u32>,
}

/// Why a pod does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stays {
    DaemonSet,
    Finished,
    Rule,
    Static,
    Terminating,
}

/// What draining a node means, pod by pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Drain {
    /// By namespace and name.
    pub(super) movers: Vec<Mover>,
    /// By namespace and name.
    pub(super) stays: Vec<(u32, Stays)>,
    /// Pods by budget, sorted by budget row.
    pub(super) load: Vec<(u32, u32)>,
    /// The pods that move, the hardest to place first.
    pub(super) hardest: Vec<u32>,
    blockers: Vec<Blocker>,
}

/// A node looked at on its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Review {
    pub(super) rank: u32,
    pub(super) blockers: Vec<Blocker>,
    utilisation: u32,
    moves: u32,
    covered: u32,
    rounds: u32,
    drain: OnceCell<Drain>,
}

/// Every considered node, looked at in passing; the pods of those that are tried, in detail.
pub(super) struct Reviews<'v, 'm> {
    view: &'v View<'m>,
    policy: &'v DrainPolicy,
    pub(super) rows: Vec<Review>,
}

impl<'v, 'm> Reviews<'v, 'm> {
    pub(super) fn new(view: &'v View<'m>, policy: &'v DrainPolicy, ranks: &[u32]) -> Self {
        let mut tally = Tally::new(view);
        let rows = ranks.iter().map(|rank| review(view, policy, *rank, &mut tally));
        Self {
            view,
            policy,
            rows: rows.collect(),
        }
    }

    pub(super) fn rank(&self, at: usize) -> u32 {
        self.rows.get(at).map_or(NONE, |review| review.rank)
    }

    pub(super) fn drain(&self, at: usize) -> &Drain {
        match self.rows.get(at) {
            Some(review) => review
                .drain
                .get_or_init(|| look(self.view, self.policy, review.rank)),
            None => unreachable!("places come from this list"),
        }
    }

    pub(super) fn candidate(&self, at: usize) -> Option<Candidate<'m>> {
        let review = self.rows.get(at)?;
        Some(Candidate {
            model: self.view.model,
            node: self.view.node(review.rank),
            utilisation: review.utilisation,
            moves: review.moves,
            covered: review.covered,
            rounds: review.rounds,
        })
    }
}

/// Pods of each budget on one node, without a map: a counter for each budget, and which are in use.
struct Tally {
    pods: Vec<u32>,
    touched: Vec<u32>,
    /// What was counted, kept for its memory.
    load: Vec<(u32, u32)>,
}

impl Tally {
    fn new(view: &View<'_>) -> Self {
        Self {
            pods: vec![0; view.budgets.len()],
            touched: Vec::new(),
            load: Vec::new(),
        }
    }

    fn add(&mut self, budget: u32) {
        let pods = &mut self.pods[budget as usize];
        if *pods == 0 {
            self.touched.push(budget);
        }
        *pods += 1;
    }

    /// Empties the counters.
    fn drain(&mut self) -> &mut Vec<(u32, u32)> {
        let pods = &mut self.pods;
        let counted = self.touched.drain(..);
        self.load.clear();
        self.load
            .extend(counted.map(|budget| (budget, std::mem::take(&mut pods[budget as usize]))));
        &mut self.load
    }
}

/// Rounds that many pods of one budget need.
pub(super) fn rounds(pods: u32, allowed: i64) -> u32 {
    match u32::try_from(allowed) {
        Ok(0) => u32::MAX,
        Ok(allowed) => pods.div_ceil(allowed),
        Err(_) => 1,
    }
}

fn second(at: i64) -> Option<Timestamp> {
    Timestamp::from_second(at).ok()
}

/// Whether an edge node is out of reach and trusted to run on, so that it must be left alone.
pub(super) fn edge_away(
    node: &NodeRecord,
    any_autonomous_pod: bool,
    now: i64,
) -> Option<(Option<i64>, Option<i64>)> {
    let promised = node.edge || node.autonomy.is_some() || any_autonomous_pod;
    if !promised {
        return None;
    }
    let since = match node.ready {
        Ready::Yes if node.delegated_heartbeat => None,
        Ready::Yes => return None,
        Ready::No { since, .. } => since,
    };
    let until = match node.autonomy {
        Some(Autonomy::Seconds(seconds)) => since.map(|since| since.saturating_add(seconds)),
        _ => None,
    };
    // Past its bound it is an ordinary dead node.
    (until.is_none_or(|until| until > now)).then_some((since, until))
}

/// Looks at the pods of a node in passing, and closely only at those about which something is odd.
fn review(view: &View<'_>, policy: &DrainPolicy, rank: u32, tally: &mut Tally) -> Review {
    let node = view.node(rank);
    let place = view.place(rank);
    let mut review = Review {
        rank,
        rounds: 1,
        utilisation: utilisation(node.allocatable.cpu, place.used.cpu)
            .max(utilisation(node.allocatable.memory, place.used.memory)),
        ..Review::default()
    };
    // Rules of the host may have an opinion about any pod.
    let mut close = !policy.rules.is_empty();
    for occupant in &place.pods {
        let traits = occupant.traits;
        if !traits.moves {
            continue;
        }
        review.moves += 1;
        close |= traits.odd;
        match view.cover(occupant.group) {
            Cover::One(budget) if traits.covered && view.consumes(traits.ready, budget) => tally.add(budget),
            Cover::Several => close |= traits.covered,
            Cover::One(_) | Cover::None => {}
        }
    }
    let load = tally.drain();
    if close {
        let drain = look(view, policy, rank);
        review.moves = number(drain.movers.len());
        review.blockers.clone_from(&drain.blockers);
        load.clone_from(&drain.load);
        if review.blockers.is_empty() {
            review.drain = drain.into();
        }
    }
    let mut spent: Vec<(u32, u32)> = Vec::new();
    for (budget, pods) in load.iter().copied() {
        let allowed = view.budgets[budget as usize].allowed;
        review.covered += pods;
        review.rounds = review.rounds.max(rounds(pods, allowed));
        if allowed <= 0 {
            spent.push((budget, pods));
        }
    }
    spent.sort_unstable_by_key(|(budget, _)| view.budget_rank(*budget));
    let spent = spent
        .into_iter()
        .map(|(budget, pods)| exhausted(view, budget, pods));

    let mut own = Vec::new();
    if node.control_plane {
        own.push(Blocker::ControlPlane);
    }
    if node.deleting {
        own.push(Blocker::Deleting);
    }
    if let Some(annotation) = node.keep {
        own.push(Blocker::NodeKept {
            annotation: annotation.to_owned(),
        });
    }
    if let Some((since, until)) = edge_away(node, place.autonomous > 0, view.now) {
        own.push(Blocker::EdgeDisconnected {
            since: since.and_then(second),
            until: until.and_then(second),
        });
    } else if let Ready::No { since, .. } = node.ready
        && review.moves > 0
    {
        own.push(Blocker::NodeNotReady {
            since: since.and_then(second),
            pods: review.moves,
        });
    }
    own.append(&mut review.blockers);
    own.extend(spent);
    review.blockers = own;
    review
}

/// Looks at every pod of a node.
fn look(view: &View<'_>, policy: &DrainPolicy, rank: u32) -> Drain {
    let mut drain = Drain::default();
    for at in view.pods_by_name(rank) {
        inspect(view, policy, at, &mut drain);
    }
    drain.load.sort_unstable();
    drain.load.dedup_by(|next, sum| {
        let same = next.0 == sum.0;
        if same {
            sum.1 += next.1;
        }
        same
    });
    drain.hardest = drain.movers.iter().map(|mover| mover.pod).collect();
    hardest_first(view, &mut drain.hardest);
    drain
}

pub(super) fn by_name(view: &View<'_>, a: u32, b: u32) -> Ordering {
    let key = |at| {
        let pod = view.pod(at);
        (&view.model.symbols[pod.namespace], &*pod.name)
    };
    key(a).cmp(&key(b))
}

fn inspect(view: &View<'_>, policy: &DrainPolicy, at: u32, drain: &mut Drain) {
    let model = view.model;
    let pod = view.pod(at);
    let stays = match pod.class {
        _ if pod.phase == Phase::Terminal => Some(Stays::Finished),
        Class::Mirror => Some(Stays::Static),
        Class::DaemonSet => Some(Stays::DaemonSet),
        Class::Ordinary if pod.terminating => Some(Stays::Terminating),
        Class::Ordinary => None,
    };
    if let Some(stays) = stays {
        drain.stays.push((at, stays));
        return;
    }
    let mut order = i32::from(pod.priority >= SYSTEM_PRIORITY);
    let seen = DrainPod { model, pod };
    let verdict = policy
        .rules
        .iter()
        .find_map(|rule| rule.action(&seen).map(|action| (rule, action)));
    match verdict {
        None => {}
        Some((_, DrainAction::Evict { order: place })) => order = place,
        Some((_, DrainAction::Leave)) => {
            drain.stays.push((at, Stays::Rule));
            return;
        }
        Some((rule, DrainAction::Refuse)) => drain.blockers.push(Blocker::Refused {
            pod: view.pod_name(at),
            rule: rule.name().to_owned(),
        }),
        Some((_, DrainAction::WaitForCompletion)) => drain.blockers.push(Blocker::WaitForCompletion {
            pod: view.pod_name(at),
        }),
    }
    let safe = pod.protection == Protection::SafeToEvict;
    match pod.protection {
        Protection::Always(annotation) => drain.blockers.push(Blocker::PodProtected {
            pod: view.pod_name(at),
            annotation: annotation.to_owned(),
            until: None,
        }),
        Protection::Until(until) if until.is_none_or(|until| until > view.now) => {
            drain.blockers.push(Blocker::PodProtected {
                pod: view.pod_name(at),
                annotation: "karpenter.sh/do-not-disrupt".to_owned(),
                until: until.and_then(second),
            });
        }
        Protection::OnCompletion => drain.blockers.push(Blocker::WaitForCompletion {
            pod: view.pod_name(at),
        }),
        Protection::None | Protection::SafeToEvict | Protection::Until(_) => {}
    }
    if pod.owner.is_none() && !safe && !policy.evict_unreplicated {
        drain.blockers.push(Blocker::Unreplicated {
            pod: view.pod_name(at),
        });
    }
    if let Some(volume) = pod.local_volume
        && !safe
        && !policy.evict_local_storage
    {
        drain.blockers.push(Blocker::LocalStorage {
            pod: view.pod_name(at),
            volume: model.symbols[volume].to_owned(),
        });
    }
    let constraint = &model.constraints[pod.constraint];
    if constraint.tolerates(CORDON) {
        drain.blockers.push(Blocker::ToleratesCordon {
            pod: view.pod_name(at),
        });
    }
    for claim in &pod.claims {
        let volume = model
            .claims
            .get(&(pod.namespace, *claim))
            .map(|claim| claim.volume);
        let unknown = match volume {
            None => Some(None),
            Some(Some(volume)) if !model.volumes.contains_key(&volume) => Some(Some(volume)),
            Some(_) => None,
        };
        if let Some(volume) = unknown {
            drain.blockers.push(Blocker::VolumeUnknown {
                pod: view.pod_name(at),
                claim: model.symbols[*claim].to_owned(),
                volume: volume.map(|volume| model.symbols[volume].to_owned()),
            });
        }
    }
    let mut mover = Mover {
        pod: at,
        order,
        budget: None,
    };
    match view.cover(pod.group) {
        Cover::One(budget) if pod.asks_budgets() && view.consumes(pod.ready, budget) => {
            mover.budget = Some(budget);
            drain.load.push((budget, 1));
        }
        Cover::Several if pod.asks_budgets() => {
            let several = view.budgets_of(pod.group).iter();
            let mut budgets: Vec<_> = several.map(|budget| view.budget_name(*budget)).collect();
            budgets.sort_unstable();
            drain.blockers.push(Blocker::SeveralBudgets {
                pod: view.pod_name(at),
                budgets,
            });
        }
        Cover::One(_) | Cover::Several | Cover::None => {}
    }
    drain.movers.push(mover);
}

/// Why a budget that allows nothing does not.
fn exhausted(view: &View<'_>, budget: u32, pods: u32) -> Blocker {
    let state = &view.budgets[budget as usize];
    let budget = view.budget_name(budget);
    if state.sync_failed {
        return Blocker::BudgetSyncFailed { budget, pods };
    }
    Blocker::BudgetExhausted {
        budget,
        pods,
        healthy: state.healthy,
        desired: state.desired,
        expected: state.expected,
        until: state.leak_until(),
    }
}
