//! What can be said about one node before anything moves.

use std::cmp::Ordering;

use jiff::Timestamp;

use super::{
    Blocker, DrainPolicy,
    order::Candidate,
    rule::{DrainAction, DrainPod},
    stage::utilisation,
    view::{View, consults_budget},
};
use crate::scaling::model::{
    constraint::{Effect, Taint},
    node::{Autonomy, NodeRecord, Ready, UNSCHEDULABLE_TAINT},
    pod::{Class, Phase, PodRecord, Protection},
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

/// A node looked at on its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Review {
    pub(super) rank: u32,
    pub(super) movers: Vec<Mover>,
    pub(super) stays: Vec<(u32, Stays)>,
    pub(super) blockers: Vec<Blocker>,
    /// Pods by budget, sorted by budget row.
    pub(super) load: Vec<(u32, u32)>,
    utilisation: u32,
}

impl Review {
    pub(super) fn candidate<'a>(&self, view: &View<'a>) -> Candidate<'a> {
        let covered = self.load.iter().map(|(_, pods)| *pods).sum();
        let rounds = self
            .load
            .iter()
            .map(|(budget, pods)| rounds(*pods, view.budgets[*budget as usize].allowed))
            .max()
            .unwrap_or(1);
        Candidate {
            model: view.model,
            node: view.node(self.rank),
            utilisation: self.utilisation,
            moves: u32::try_from(self.movers.len()).unwrap_or(u32::MAX),
            covered,
            rounds,
        }
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

pub(super) fn review(view: &View<'_>, policy: &DrainPolicy, rank: u32) -> Review {
    let model = view.model;
    let node = view.node(rank);
    let mut review = Review {
        rank,
        ..Review::default()
    };
    let cordon = model
        .symbols
        .find(UNSCHEDULABLE_TAINT)
        .zip(model.symbols.find(""))
        .map(|(key, value)| Taint {
            key,
            value,
            effect: Effect::NoSchedule,
        });
    let (mut cpu, mut memory) = (0, 0);
    let mut autonomous_pod = false;
    for at in view.pods_on(rank) {
        let pod = view.pod(*at);
        if pod.holds_room() {
            let requests = &model.requests[pod.requests];
            cpu += requests.cpu;
            memory += requests.memory;
            autonomous_pod |= pod.edge_autonomy;
        }
        inspect(view, policy, *at, pod, cordon, &mut review);
    }
    if !review.blockers.is_empty() {
        // Only what is said about single pods depends on their order, and most nodes have nothing to say.
        let mut pods = view.pods_on(rank).to_vec();
        pods.sort_unstable_by(|a, b| by_name(view, *a, *b));
        review = Review {
            rank,
            ..Review::default()
        };
        for at in pods {
            inspect(view, policy, at, view.pod(at), cordon, &mut review);
        }
    }
    review.utilisation =
        utilisation(node.allocatable.cpu, cpu).max(utilisation(node.allocatable.memory, memory));
    review.load.sort_unstable();
    for (budget, pods) in std::mem::take(&mut review.load) {
        match review.load.last_mut() {
            Some((last, sum)) if *last == budget => *sum += pods,
            _ => review.load.push((budget, pods)),
        }
    }
    budgets_spent(view, &mut review);

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
    if let Some((since, until)) = edge_away(node, autonomous_pod, view.now) {
        own.push(Blocker::EdgeDisconnected {
            since: since.and_then(second),
            until: until.and_then(second),
        });
    } else if let Ready::No { since, .. } = node.ready
        && !review.movers.is_empty()
    {
        own.push(Blocker::NodeNotReady {
            since: since.and_then(second),
            pods: u32::try_from(review.movers.len()).unwrap_or(u32::MAX),
        });
    }
    own.append(&mut review.blockers);
    review.blockers = own;
    review
}

pub(super) fn by_name(view: &View<'_>, a: u32, b: u32) -> Ordering {
    let key = |at| {
        let pod = view.pod(at);
        (&view.model.symbols[pod.namespace], &*pod.name)
    };
    key(a).cmp(&key(b))
}

fn inspect(
    view: &View<'_>,
    policy: &DrainPolicy,
    at: u32,
    pod: &PodRecord,
    cordon: Option<Taint>,
    review: &mut Review,
) {
    let model = view.model;
    let stays = match pod.class {
        _ if pod.phase == Phase::Terminal => Some(Stays::Finished),
        Class::Mirror => Some(Stays::Static),
        Class::DaemonSet => Some(Stays::DaemonSet),
        Class::Ordinary if pod.terminating => Some(Stays::Terminating),
        Class::Ordinary => None,
    };
    if let Some(stays) = stays {
        review.stays.push((at, stays));
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
            review.stays.push((at, Stays::Rule));
            return;
        }
        Some((rule, DrainAction::Refuse)) => review.blockers.push(Blocker::Refused {
            pod: view.pod_name(at),
            rule: rule.name().to_owned(),
        }),
        Some((_, DrainAction::WaitForCompletion)) => review.blockers.push(Blocker::WaitForCompletion {
            pod: view.pod_name(at),
        }),
    }
    let safe = pod.protection == Protection::SafeToEvict;
    match pod.protection {
        Protection::Always(annotation) => review.blockers.push(Blocker::PodProtected {
            pod: view.pod_name(at),
            annotation: annotation.to_owned(),
            until: None,
        }),
        Protection::Until(until) if until.is_none_or(|until| until > view.now) => {
            review.blockers.push(Blocker::PodProtected {
                pod: view.pod_name(at),
                annotation: "karpenter.sh/do-not-disrupt".to_owned(),
                until: until.and_then(second),
            });
        }
        Protection::OnCompletion => review.blockers.push(Blocker::WaitForCompletion {
            pod: view.pod_name(at),
        }),
        Protection::None | Protection::SafeToEvict | Protection::Until(_) => {}
    }
    if pod.owner.is_none() && !safe && !policy.evict_unreplicated {
        review.blockers.push(Blocker::Unreplicated {
            pod: view.pod_name(at),
        });
    }
    if let Some(volume) = pod.local_volume
        && !safe
        && !policy.evict_local_storage
    {
        review.blockers.push(Blocker::LocalStorage {
            pod: view.pod_name(at),
            volume: model.symbols[volume].to_owned(),
        });
    }
    let constraint = &model.constraints[pod.constraint];
    let returns = match cordon {
        Some(cordon) => constraint.tolerates(cordon),
        None => constraint
            .tolerations
            .iter()
            .any(|toleration| toleration.tolerates_everything()),
    };
    if returns {
        review.blockers.push(Blocker::ToleratesCordon {
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
            review.blockers.push(Blocker::VolumeUnknown {
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
    match view.budgets_of(pod) {
        [] => {}
        [budget] => {
            if view.consumes(pod, *budget) {
                mover.budget = Some(*budget);
                review.load.push((*budget, 1));
            }
        }
        several => {
            if consults_budget(pod) {
                let mut budgets: Vec<_> = several.iter().map(|budget| view.budget_name(*budget)).collect();
                budgets.sort_unstable();
                review.blockers.push(Blocker::SeveralBudgets {
                    pod: view.pod_name(at),
                    budgets,
                });
            }
        }
    }
    review.movers.push(mover);
}

fn budgets_spent(view: &View<'_>, review: &mut Review) {
    let mut spent = Vec::new();
    for (budget, pods) in &review.load {
        let state = &view.budgets[*budget as usize];
        if state.allowed > 0 {
            continue;
        }
        let name = view.budget_name(*budget);
        spent.push(if state.sync_failed {
            Blocker::BudgetSyncFailed {
                budget: name,
                pods: *pods,
            }
        } else {
            Blocker::BudgetExhausted {
                budget: name,
                pods: *pods,
                healthy: state.healthy,
                desired: state.desired,
                expected: state.expected,
                until: state.leak_until.and_then(second),
            }
        });
    }
    spent.sort_by(|a, b| budget_key(a).cmp(&budget_key(b)));
    review.blockers.append(&mut spent);
}

fn budget_key(blocker: &Blocker) -> Option<&super::ObjectName> {
    match blocker {
        Blocker::BudgetExhausted { budget, .. } | Blocker::BudgetSyncFailed { budget, .. } => Some(budget),
        _ => None,
    }
}
