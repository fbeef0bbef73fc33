//! The model at one instant, in an order that depends on names alone.

use super::ledger::{BudgetState, roots, states};
use crate::scaling::model::{
    Model,
    budget::Rule,
    node::NodeRecord,
    outline::Outline,
    place::Place,
    pod::{Class, Phase, PodRecord},
    symbols::{Map, id},
};

/// "None" in a dense column of numbers.
pub(super) const NONE: u32 = u32::MAX;

/// What budgets say about the pods of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    None,
    /// This budget row.
    One(u32),
    /// More than one, so the API server refuses to evict.
    Several,
}

/// Nodes by rank of name, and budgets with their numbers.
#[derive(Debug)]
pub(super) struct View<'m> {
    pub(super) model: &'m Model,
    pub(super) now: i64,
    /// Places in the order of the names of their nodes; a rank is a position in here.
    places: Vec<u32>,
    /// Rank of each place, [`NONE`] if it has no node.
    rank_of_place: Vec<u32>,
    pub(super) budgets: Vec<BudgetState>,
    /// Place of each budget row in the order of namespace and name.
    budget_ranks: Vec<u32>,
    /// By group.
    covers: Vec<Cover>,
    /// By group: whether some pod may want none of its pods beside it.
    shunned: Vec<bool>,
}

impl<'m> View<'m> {
    pub(super) fn new(model: &'m Model, now: i64) -> Self {
        let places: Vec<u32> = model.places_by_name.values().copied().collect();
        let mut rank_of_place = vec![NONE; model.places.len()];
        for (rank, place) in (0u32..).zip(&places) {
            rank_of_place[*place as usize] = rank;
        }
        let covers = model.groups.iter().map(|group| match group.budgets[..] {
            [] => Cover::None,
            [budget] => Cover::One(budget),
            _ => Cover::Several,
        });
        let budgets = states(model, now);
        let mut budget_ranks = vec![NONE; budgets.len()];
        for (rank, row) in (0u32..).zip(model.budgets_by_name.values()) {
            budget_ranks[*row as usize] = rank;
        }
        Self {
            model,
            now,
            places,
            rank_of_place,
            budgets,
            budget_ranks,
            covers: covers.collect(),
            shunned: model.groups.iter().map(|group| group.shunned).collect(),
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
            let [owner] = roots(self.model, budget)[..] else {
                continue;
            };
            let Some(owner) = self.model.owners.get(owner) else {
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
        self.places.len()
    }

    pub(super) fn ranks(&self) -> impl Iterator<Item = u32> + use<> {
        0..id(self.places.len())
    }

    /// Panics only for a rank or row that did not come from this view.
    pub(super) fn place(&self, rank: u32) -> &'m Place {
        match self
            .places
            .get(rank as usize)
            .and_then(|place| self.model.places.get(*place as usize))
        {
            Some(place) => place,
            None => unreachable!("ranks come from the view"),
        }
    }

    pub(super) fn node(&self, rank: u32) -> &'m NodeRecord {
        match self.place(rank).node.and_then(|at| self.model.nodes.get(at)) {
            Some(node) => node,
            None => unreachable!("ranks are of places with a node"),
        }
    }

    pub(super) fn pod(&self, at: u32) -> &'m PodRecord {
        match self.model.pods.get(at) {
            Some(pod) => pod,
            None => unreachable!("rows come from the view"),
        }
    }

    /// The part of a pod that is asked for all the time.
    pub(super) fn outline(&self, at: u32) -> &'m Outline {
        match self.model.outlines.get(at as usize) {
            Some(outline) => outline,
            None => unreachable!("rows come from the view"),
        }
    }

    /// How many pod rows there are, free ones included.
    pub(super) fn pod_rows(&self) -> usize {
        self.model.outlines.len()
    }

    /// The rank of the node a pod is on in the model; [`NONE`] if it is on none.
    pub(super) fn home(&self, pod: u32) -> u32 {
        let place = self.model.outlines.get(pod as usize).and_then(|pod| pod.place);
        place.map_or(NONE, |place| self.rank_of_place[place as usize])
    }

    /// Rows of the pods on a node, in no useful order.
    pub(super) fn pods_on(&self, rank: u32) -> impl Iterator<Item = u32> + use<'m> {
        self.place(rank).pods.iter().map(|occupant| occupant.pod)
    }

    /// Rows of the pods on a node, by namespace and name.
    pub(super) fn pods_by_name(&self, rank: u32) -> Vec<u32> {
        let mut pods: Vec<(&str, &str, u32)> = self
            .pods_on(rank)
            .map(|at| {
                let pod = self.pod(at);
                (&self.model.symbols[pod.namespace], &*pod.name, at)
            })
            .collect();
        pods.sort_unstable();
        pods.into_iter().map(|(.., at)| at).collect()
    }

    /// Pods that the scheduler would put on a node if there were room, in no useful order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = u32> {
        self.model
            .pods
            .iter()
            .filter(|(_, pod)| {
                pod.place.is_none()
                    && pod.phase == Phase::Pending
                    && !pod.terminating
                    && !pod.gated
                    && pod.class == Class::Ordinary
            })
            .map(|(at, _)| at)
    }

    pub(super) fn rank(&self, name: &str) -> Option<u32> {
        let place = self.model.places_by_name.get(name)?;
        self.rank_of_place.get(*place as usize).copied()
    }

    pub(super) fn node_name(&self, rank: u32) -> &'m str {
        &self.model.symbols[self.place(rank).name]
    }

    pub(super) fn pod_name(&self, at: u32) -> super::ObjectName {
        let pod = self.pod(at);
        super::ObjectName {
            namespace: self.model.symbols[pod.namespace].to_owned(),
            name: str::to_owned(&pod.name),
        }
    }

    pub(super) fn budget_name(&self, at: u32) -> super::ObjectName {
        let (namespace, name) = self.budget_key(at);
        super::ObjectName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Namespace and name of a budget row.
    pub(super) fn budget_key(&self, at: u32) -> (&'m str, &'m str) {
        self.model.budgets.get(at).map_or(("", ""), |budget| {
            (&self.model.symbols[budget.namespace], &*budget.name)
        })
    }

    /// Where a budget row is in the order of namespace and name.
    pub(super) fn budget_rank(&self, at: u32) -> u32 {
        self.budget_ranks.get(at as usize).copied().unwrap_or(NONE)
    }

    /// Whether no rule between pods binds this one.
    pub(super) fn is_unbound(&self, pod: &Outline) -> bool {
        self.model.peers[pod.peers].is_empty() && self.shunned.get(pod.group as usize) == Some(&false)
    }

    /// Which budgets select the pods of a group.
    pub(super) fn cover(&self, group: u32) -> Cover {
        self.covers.get(group as usize).copied().unwrap_or(Cover::None)
    }

    /// Rows of the budgets that select the pods of a group.
    pub(super) fn budgets_of(&self, group: u32) -> &'m [u32] {
        let group = self.model.groups.get(group as usize);
        group.map_or(&[], |group| &group.budgets)
    }

    /// Whether evicting a pod about which budgets are asked takes one from this one.
    pub(super) fn consumes(&self, ready: bool, budget: u32) -> bool {
        if ready {
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
