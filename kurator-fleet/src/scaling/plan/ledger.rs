//! What every budget allows, by the arithmetic of the disruption controller and the decisions of the eviction API.

use jiff::Timestamp;

use crate::scaling::model::{
    Model,
    budget::{Amount, BudgetRecord, Rule},
};

/// Seconds for which the disruption controller believes that an evicted pod it still sees is about to go.
const DISRUPTED_TIMEOUT: i64 = 120;

/// What a PodDisruptionBudget allows at one instant.
///
/// The first four are what the disruption controller writes into the budget's status, worked out from pods, owners and
/// the budget's spec. Where the status is fresh, `allowed` is at most what it says, because the API server goes by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetState {
    /// Pods that are Ready, are not being deleted, and were not evicted in the last two minutes.
    pub healthy: i64,
    /// Healthy pods there have to be.
    pub desired: i64,
    /// Pods there should be.
    pub expected: i64,
    /// Pods that may be evicted now.
    pub allowed: i64,
    /// A controller of its pods has no scale, so the disruption controller allows nothing.
    pub sync_failed: bool,
    pub(super) leak_until: Option<i64>,
}

impl BudgetState {
    /// When the last allowance that was taken by an eviction which has not happened comes back, if there is one.
    pub fn leak_until(&self) -> Option<Timestamp> {
        self.leak_until.and_then(|at| Timestamp::from_second(at).ok())
    }
}

impl Model {
    /// What a budget allows at `now`, or `None` if the model does not have it.
    pub fn budget_state(&self, namespace: &str, name: &str, now: Timestamp) -> Option<BudgetState> {
        let key = (self.symbols.find(namespace)?, name.into());
        let budget = self.budgets.get(*self.budget_ids.get(&key)?)?;
        let alive = alive_of_root(self);
        Some(state(self, budget, &alive, now.as_second(), &mut Vec::new()))
    }
}

/// The state of every budget row; rows that are free have zeros.
pub(super) fn states(model: &Model, now: i64) -> Vec<BudgetState> {
    let rows = model.budgets.iter().last().map_or(0, |(at, _)| at as usize + 1);
    let alive = alive_of_root(model);
    let mut states = vec![BudgetState::default(); rows];
    let mut roots = Vec::new();
    for (at, budget) in model.budgets.iter() {
        states[at as usize] = state(model, budget, &alive, now, &mut roots);
    }
    states
}

/// The controllers whose scale counts for a budget, each once.
pub(super) fn roots(model: &Model, budget: &BudgetRecord) -> Vec<u32> {
    let mut roots = Vec::new();
    find_roots(model, budget, &mut roots);
    roots
}

fn find_roots(model: &Model, budget: &BudgetRecord, roots: &mut Vec<u32>) {
    roots.clear();
    let groups = budget.groups.iter();
    roots.extend(
        groups
            .filter_map(|group| model.groups.get(*group as usize))
            .flat_map(|group| &group.owners)
            .map(|(owner, _)| model.owners.root(*owner)),
    );
    roots.sort_unstable();
    roots.dedup();
}

/// Pods that count as replicas, by the number of the controller whose scale counts.
fn alive_of_root(model: &Model) -> Vec<i64> {
    let mut alive = vec![0; model.owners.len()];
    for (at, owner) in model.owners.iter() {
        alive[model.owners.root(at) as usize] += i64::from(owner.alive);
    }
    alive
}

/// `roots` is room to work in.
fn state(model: &Model, budget: &BudgetRecord, alive: &[i64], now: i64, roots: &mut Vec<u32>) -> BudgetState {
    let mut state = BudgetState::default();
    let (mut selected, mut naked) = (0, false);
    for group in &budget.groups {
        let Some(group) = model.groups.get(*group as usize) else {
            continue;
        };
        state.healthy += group.healthy;
        selected += i64::try_from(group.pods.len()).unwrap_or(i64::MAX);
        naked |= group.naked > 0;
    }
    evicted(model, budget, now, &mut state);

    let (mut scale, mut guessed) = (0, false);
    // A budget that asks for nothing is not failed by owners either: the controller does not look at them.
    let by_scale = !matches!(budget.rule, Rule::MinAvailable(Amount::Count(_)) | Rule::Neither);
    if by_scale {
        find_roots(model, budget, roots);
        for root in roots {
            match scale_of(model, *root, alive[*root as usize]) {
                Scale::Known(replicas) => scale += replicas,
                Scale::Guessed(replicas) => {
                    scale += replicas;
                    guessed = true;
                }
                Scale::None => state.sync_failed = true,
            }
        }
    }
    (state.expected, state.desired) = match budget.rule {
        Rule::MinAvailable(Amount::Count(count)) => (selected, count),
        Rule::MinAvailable(amount) => (scale, amount.of(scale)),
        Rule::MaxUnavailable(amount) => (scale, (scale - amount.of(scale)).max(0)),
        Rule::Neither => (0, 0),
    };
    let fresh = budget.status.as_ref().filter(|status| !status.stale);
    if guessed
        && let Some(status) = fresh
        && !status.sync_failed
    {
        // The controller saw the owners; we did not.
        (state.expected, state.desired) = (status.expected, status.desired);
        state.sync_failed = false;
    }
    state.allowed = (state.healthy - state.desired).max(0);
    if state.expected <= 0 || state.sync_failed {
        state.allowed = 0;
    }
    if let Some(status) = fresh {
        // The server goes by what is written there.
        state.allowed = state.allowed.min(status.allowed.max(0));
        state.sync_failed |= status.sync_failed && by_scale;
    }
    if naked && by_scale && scale == 0 {
        state.leak_until = None;
    }
    state
}

/// Takes out the pods whose eviction the controller still waits to see.
fn evicted(model: &Model, budget: &BudgetRecord, now: i64, state: &mut BudgetState) {
    let disrupted = budget.status.iter().flat_map(|status| &status.disrupted);
    for (name, at) in disrupted {
        let until = at.saturating_add(DISRUPTED_TIMEOUT);
        if until <= now {
            continue;
        }
        let pod = model
            .pod_ids
            .get(&(budget.namespace, std::sync::Arc::clone(name)))
            .and_then(|pod| model.pods.get(*pod));
        if pod.is_some_and(|pod| pod.ready && !pod.terminating && budget.groups.contains(&pod.group)) {
            state.healthy -= 1;
            state.leak_until = state.leak_until.max(Some(until));
        }
    }
}

enum Scale {
    Guessed(i64),
    Known(i64),
    None,
}

/// The scale the disruption controller would find for a controller of pods.
fn scale_of(model: &Model, owner: u32, pods: i64) -> Scale {
    let Some(record) = model.owners.get(owner) else {
        return Scale::None;
    };
    if let Some(replicas) = record.replicas {
        return Scale::Known(replicas);
    }
    match &model.symbols[record.key.kind] {
        // They have no scale subresource.
        "DaemonSet" | "Job" | "Node" => Scale::None,
        _ => Scale::Guessed(pods),
    }
}
