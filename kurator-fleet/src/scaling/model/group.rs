//! Pods that look alike to every selector, and the budgets that select them.

use super::{
    Model,
    labels::Labels,
    pod::PodRecord,
    symbols::{Sym, id},
};

/// Pods of one namespace with the same labels: what budgets and affinity terms select.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) namespace: Sym,
    pub(crate) labels: u32,
    /// Budgets that select it.
    pub(crate) budgets: Vec<u32>,
    /// Rows of its pods, in no useful order.
    pub(crate) pods: Vec<u32>,
    /// Pods that are Ready and not being deleted.
    pub(crate) healthy: i64,
    /// Pods without a controller.
    pub(crate) naked: i64,
    /// Controllers of its pods, and how many each has here.
    pub(crate) owners: Vec<(u32, i64)>,
    /// Some pod may want none of these beside it; if not, nobody has to look for who does.
    pub(crate) shunned: bool,
}

impl Group {
    pub(super) fn count(&mut self, pod: &PodRecord, sign: i64) {
        if pod.ready && !pod.terminating {
            self.healthy += sign;
        }
        let Some(owner) = pod.owner else {
            self.naked += sign;
            return;
        };
        match self.owners.iter().position(|(own, _)| *own == owner) {
            None => self.owners.push((owner, sign)),
            Some(at) => {
                let pods = &mut self.owners[at].1;
                *pods += sign;
                if *pods == 0 {
                    self.owners.swap_remove(at);
                }
            }
        }
    }
}

impl Model {
    /// The group of a namespace and labels, with the budgets that select it.
    pub(super) fn group(&mut self, namespace: Sym, labels: Labels) -> u32 {
        let labels = match self.labels.find(&labels) {
            Some(id) => id,
            None => self.labels.intern(labels),
        };
        if let Some(group) = self.group_ids.get(&(namespace, labels)) {
            return *group;
        }
        let group = id(self.groups.len());
        let set = &self.labels[labels];
        let mut budgets: Vec<u32> = Vec::new();
        let by_label = set
            .0
            .iter()
            .filter_map(|(key, value)| self.budgets_by_label.get(&(namespace, *key, *value)));
        for budget in by_label
            .chain(self.budgets_by_namespace.get(&namespace))
            .flatten()
        {
            if let Some(record) = self.budgets.get_mut(*budget)
                && record
                    .selector
                    .as_ref()
                    .is_some_and(|selector| selector.matches(set))
            {
                record.groups.push(group);
                budgets.push(*budget);
            }
        }
        for (key, value) in &set.0 {
            self.groups_by_label
                .entry((namespace, *key, *value))
                .or_default()
                .push(group);
        }
        self.groups_by_namespace.entry(namespace).or_default().push(group);
        self.groups.push(Group {
            namespace,
            labels,
            budgets,
            pods: Vec::new(),
            healthy: 0,
            naked: 0,
            owners: Vec::new(),
            shunned: self.aversions.about(set).next().is_some(),
        });
        self.group_ids.insert((namespace, labels), group);
        group
    }

    /// Marks the groups that a new anti-affinity term may be about.
    pub(super) fn shun(&mut self, term: u32) {
        let term = &self.terms[term];
        let Some(selector) = &term.selector else { return };
        let namespaces: Vec<Sym> = match &term.namespace_selector {
            // Their labels may change, so any of them.
            Some(_) => self.groups_by_namespace.keys().copied().collect(),
            None => term.namespaces.to_vec(),
        };
        let mut found: Vec<u32> = Vec::new();
        for namespace in namespaces {
            match selector.anchor() {
                Some(pairs) => {
                    let lists =
                        pairs.filter_map(|(key, value)| self.groups_by_label.get(&(namespace, key, value)));
                    found.extend(lists.flatten());
                }
                None => found.extend(self.groups_by_namespace.get(&namespace).into_iter().flatten()),
            }
        }
        for group in found {
            if let Some(group) = self.groups.get_mut(group as usize) {
                group.shunned = true;
            }
        }
    }

    /// Finds the groups a new budget selects.
    pub(super) fn attach(&mut self, at: u32) {
        let Some(record) = self.budgets.get_mut(at) else {
            return;
        };
        let Some(selector) = &record.selector else { return };
        let namespace = record.namespace;
        let mut found: Vec<u32> = Vec::new();
        match selector.anchor() {
            Some(pairs) => {
                for (key, value) in pairs {
                    self.budgets_by_label
                        .entry((namespace, key, value))
                        .or_default()
                        .push(at);
                    found.extend(
                        self.groups_by_label
                            .get(&(namespace, key, value))
                            .into_iter()
                            .flatten(),
                    );
                }
            }
            None => {
                self.budgets_by_namespace.entry(namespace).or_default().push(at);
                found.extend(self.groups_by_namespace.get(&namespace).into_iter().flatten());
            }
        }
        for group in found {
            if let Some(record_group) = self.groups.get_mut(group as usize)
                && selector.matches(&self.labels[record_group.labels])
            {
                record_group.budgets.push(at);
                record.groups.push(group);
            }
        }
    }

    /// Undoes [`Model::attach`].
    pub(super) fn detach(&mut self, at: u32) {
        let Some(record) = self.budgets.get_mut(at) else {
            return;
        };
        for group in std::mem::take(&mut record.groups) {
            if let Some(group) = self.groups.get_mut(group as usize) {
                group.budgets.retain(|budget| *budget != at);
            }
        }
        let namespace = record.namespace;
        let Some(selector) = &record.selector else { return };
        match selector.anchor() {
            Some(pairs) => {
                for (key, value) in pairs {
                    if let Some(list) = self.budgets_by_label.get_mut(&(namespace, key, value)) {
                        list.retain(|budget| *budget != at);
                    }
                }
            }
            None => {
                if let Some(list) = self.budgets_by_namespace.get_mut(&namespace) {
                    list.retain(|budget| *budget != at);
                }
            }
        }
    }
}
