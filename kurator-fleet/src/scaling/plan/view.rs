//! The model at one instant, in dense columns and in an order that depends on names alone.

use crate::scaling::model::{
    Model,
    budget::Amount,
    budget::Rule,
    node::NodeRecord,
    pod::{Phase, PodRecord},
    symbols::{Map, Sym, id},
};

/// "None" in a dense column of numbers.
pub(super) const NONE: u32 = u32::MAX;

/// Seconds for which the disruption controller believes that an evicted pod it still sees is about to go.
const DISRUPTED_TIMEOUT: i64 = 120;

/// What a budget allows, by the arithmetic of the disruption controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BudgetState {
    pub(crate) healthy: i64,
    pub(crate) desired: i64,
    pub(crate) expected: i64,
    pub(crate) allowed: i64,
    /// Owners have no scale, so the controller allows nothing.
    pub(crate) sync_failed: bool,
    /// Allowance lost to evictions that have not happened comes back by then.
    pub(crate) leak_until: Option<i64>,
}

/// Nodes by rank of name, pods by node, budgets with their numbers.
#[derive(Debug)]
pub(super) struct View<'m> {
    pub(super) model: &'m Model,
    pub(super) now: i64,
    /// Node rows in the order of their names; a rank is a place in here.
    pub(super) nodes: Vec<u32>,
    rank_of_name: Map<Sym, u32>,
    /// Rank of the node of each pod row.
    pub(super) node_of_pod: Vec<u32>,
    pod_starts: Vec<u32>,
    pods_by_node: Vec<u32>,
    /// Pods without a node, in no useful order.
    pub(super) unbound: Vec<u32>,
    pub(super) budgets: Vec<BudgetState>,
    /// Budget and controller, for every controller of a budget's pods, sorted.
    owners: Vec<(u32, u32)>,
}

impl<'m> View<'m> {
    pub(super) fn new(model: &'m Model, now: i64) -> Self {
        let mut nodes: Vec<u32> = model.nodes.iter().map(|(at, _)| at).collect();
        nodes.sort_unstable_by_key(|at| model.nodes.get(*at).map(|node| &model.symbols[node.name]));
        let rank_of_name: Map<Sym, u32> = (0u32..)
            .zip(&nodes)
            .filter_map(|(rank, at)| model.nodes.get(*at).map(|node| (node.name, rank)))
            .collect();

        let rows = model.pods.iter().map(|(at, _)| at + 1).max().unwrap_or(0) as usize;
        let mut node_of_pod = vec![NONE; rows];
        let mut starts = vec![0u32; nodes.len() + 1];
        let mut unbound = Vec::new();
        for (at, pod) in model.pods.iter() {
            match pod.node {
                Some(node) => {
                    if let Some(rank) = rank_of_name.get(&node) {
                        node_of_pod[at as usize] = *rank;
                        starts[*rank as usize + 1] += 1;
                    }
                }
                None => unbound.push(at),
            }
        }
        for rank in 0..nodes.len() {
            starts[rank + 1] += starts[rank];
        }
        let mut next = starts.clone();
        let mut pods_by_node = vec![0; starts.last().copied().unwrap_or(0) as usize];
        for (at, rank) in node_of_pod.iter().enumerate() {
            if *rank != NONE {
                let place = &mut next[*rank as usize];
                pods_by_node[*place as usize] = id(at);
                *place += 1;
            }
        }
        let (budgets, owners) = budget_states(model, now);
        Self {
            model,
            now,
            nodes,
            rank_of_name,
            node_of_pod,
            pod_starts: starts,
            pods_by_node,
            unbound,
            budgets,
            owners,
        }
    }

    /// Lets budgets allow one that allow nothing only because a Deployment runs one replica, where a second replica
    /// would help. What was surged, by budget row.
    pub(super) fn surge(&mut self) -> Map<u32, super::Surge> {
        let mut surges = Map::default();
        for (at, budget) in self.model.budgets.iter() {
            let state = self.budgets[at as usize];
            if state.allowed > 0 || state.sync_failed || state.healthy != 1 {
                continue;
            }
            let first = self.owners.partition_point(|(budget, _)| *budget < at);
            let mut owners = self.owners[first..]
                .iter()
                .take_while(|(budget, _)| *budget == at);
            let (Some((_, owner)), None) = (owners.next(), owners.next()) else {
                continue;
            };
            let Some(owner) = self.model.owners.get(*owner) else {
                continue;
            };
            if &self.model.symbols[owner.key.kind] != "Deployment" || owner.replicas != Some(1) {
                continue;
            }
            let desired = match budget.rule {
                Rule::MinAvailable(amount) => amount.of(2),
                Rule::MaxUnavailable(amount) => 2 - amount.of(2),
                Rule::Neither => continue,
            };
            if desired >= 2 {
                continue;
            }
            self.budgets[at as usize].allowed = 1;
            surges.insert(
                at,
                super::Surge {
                    deployment: super::ObjectName {
                        namespace: self.model.symbols[owner.key.namespace].to_owned(),
                        name: self.model.symbols[owner.key.name].to_owned(),
                    },
                    budget: self.budget_name(at),
                    from: 1,
                    to: 2,
                },
            );
        }
        surges
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn ranks(&self) -> impl Iterator<Item = u32> + use<> {
        0..id(self.nodes.len())
    }

    /// Panics only for a rank or row that did not come from this view.
    pub(super) fn node(&self, rank: u32) -> &'m NodeRecord {
        match self
            .nodes
            .get(rank as usize)
            .and_then(|at| self.model.nodes.get(*at))
        {
            Some(node) => node,
            None => unreachable!("ranks come from the view"),
        }
    }

    pub(super) fn pod(&self, at: u32) -> &'m PodRecord {
        match self.model.pods.get(at) {
            Some(pod) => pod,
            None => unreachable!("rows come from the view"),
        }
    }

    pub(super) fn rank(&self, name: &str) -> Option<u32> {
        self.rank_of_name.get(&self.model.symbols.find(name)?).copied()
    }

    pub(super) fn node_name(&self, rank: u32) -> &'m str {
        &self.model.symbols[self.node(rank).name]
    }

    /// Rows of the pods on a node, in no useful order.
    pub(super) fn pods_on(&self, rank: u32) -> &[u32] {
        let start = self.pod_starts[rank as usize] as usize;
        let end = self.pod_starts[rank as usize + 1] as usize;
        &self.pods_by_node[start..end]
    }

    pub(super) fn pod_name(&self, at: u32) -> super::ObjectName {
        let pod = self.pod(at);
        super::ObjectName {
            namespace: self.model.symbols[pod.namespace].to_owned(),
            name: pod.name.to_string(),
        }
    }

    pub(super) fn budget_name(&self, at: u32) -> super::ObjectName {
        self.model.budgets.get(at).map_or_else(
            || unreachable!("rows come from the view"),
            |budget| super::ObjectName {
                namespace: self.model.symbols[budget.namespace].to_owned(),
                name: budget.name.to_string(),
            },
        )
    }

    /// Namespace and name of a budget row.
    pub(super) fn budget_key(&self, at: u32) -> (&'m str, &'m str) {
        self.model.budgets.get(at).map_or(("", ""), |budget| {
            (&self.model.symbols[budget.namespace], &*budget.name)
        })
    }

    /// Budgets that select the pod.
    pub(super) fn budgets_of(&self, pod: &PodRecord) -> &'m [u32] {
        self.model
            .groups
            .get(pod.group as usize)
            .map_or(&[], |group| &group.budgets)
    }

    /// Whether evicting the pod takes one from that budget.
    pub(super) fn consumes(&self, pod: &PodRecord, budget: u32) -> bool {
        if !consults_budget(pod) {
            return false;
        }
        if pod.ready {
            return true;
        }
        let always = self
            .model
            .budgets
            .get(budget)
            .is_some_and(|budget| budget.always_allow_unhealthy);
        let state = &self.budgets[budget as usize];
        !(always || state.healthy >= state.desired && state.desired > 0)
    }
}

/// Whether the API server asks budgets at all before it evicts the pod.
pub(super) fn consults_budget(pod: &PodRecord) -> bool {
    !pod.terminating && !matches!(pod.phase, Phase::Pending | Phase::Terminal)
}

/// The numbers of every budget row, and the controllers of its pods; rows that are free have zeros.
pub(crate) fn budget_states(model: &Model, now: i64) -> (Vec<BudgetState>, Vec<(u32, u32)>) {
    let rows = model.budgets.iter().map(|(at, _)| at + 1).max().unwrap_or(0) as usize;
    let mut states = vec![BudgetState::default(); rows];
    let mut selected = vec![0i64; rows];
    let mut naked = vec![false; rows];
    // Pods of each controller, for those whose object is not known.
    let mut pods_of_owner = vec![0i64; model.owners.len()];
    let mut owners: Vec<(u32, u32)> = Vec::new();
    for (_, pod) in model.pods.iter() {
        let root = pod.owner.map(|owner| model.owners.root(owner));
        if let Some(root) = root
            && !pod.terminating
            && pod.phase != Phase::Terminal
        {
            pods_of_owner[root as usize] += 1;
        }
        let Some(group) = model.groups.get(pod.group as usize) else {
            continue;
        };
        for at in &group.budgets {
            let Some(budget) = model.budgets.get(*at) else {
                continue;
            };
            let state = &mut states[*at as usize];
            selected[*at as usize] += 1;
            match root {
                Some(root) => {
                    if owners.last() != Some(&(*at, root)) {
                        owners.push((*at, root));
                    }
                }
                None => naked[*at as usize] = true,
            }
            if pod.terminating || !pod.ready {
                continue;
            }
            let disrupted = budget.status.iter().flat_map(|status| &status.disrupted);
            match disrupted
                .filter(|(name, at)| *name == pod.name && at + DISRUPTED_TIMEOUT > now)
                .map(|(_, at)| *at)
                .max()
            {
                Some(at) => state.leak_until = state.leak_until.max(Some(at + DISRUPTED_TIMEOUT)),
                None => state.healthy += 1,
            }
        }
    }
    owners.sort_unstable();
    owners.dedup();
    let mut scales = vec![0i64; rows];
    let mut guessed = vec![false; rows];
    for (at, root) in owners.iter().copied() {
        match scale(model, root, pods_of_owner[root as usize]) {
            Scale::Known(replicas) => scales[at as usize] += replicas,
            Scale::Guessed(replicas) => {
                scales[at as usize] += replicas;
                guessed[at as usize] = true;
            }
            Scale::None => states[at as usize].sync_failed = true,
        }
    }
    for (at, budget) in model.budgets.iter() {
        let place = at as usize;
        let state = &mut states[place];
        let fresh = budget.status.as_ref().filter(|status| !status.stale);
        let by_scale = !matches!(budget.rule, Rule::MinAvailable(Amount::Count(_)));
        if !by_scale {
            state.sync_failed = false;
        }
        (state.expected, state.desired) = match budget.rule {
            Rule::MinAvailable(Amount::Count(count)) => (selected[place], count),
            Rule::MinAvailable(amount) => (scales[place], amount.of(scales[place])),
            Rule::MaxUnavailable(amount) => {
                let expected = scales[place];
                (expected, (expected - amount.of(expected)).max(0))
            }
            Rule::Neither => (0, 0),
        };
        if by_scale
            && guessed[place]
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
        if naked[place] && by_scale && scales[place] == 0 {
            state.leak_until = None;
        }
    }
    (states, owners)
}

enum Scale {
    Guessed(i64),
    Known(i64),
    None,
}

/// The scale the disruption controller would find for a controller of pods.
fn scale(model: &Model, owner: u32, pods: i64) -> Scale {
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
