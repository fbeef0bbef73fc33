//! Which groups of pods a rule is about.

use super::Crowd;
use crate::scaling::model::{labels::Selector, peers::Term, symbols::Sym};

impl Crowd<'_, '_> {
    /// Anti-affinity terms that select the group.
    pub(super) fn terms_against(&self, group: u32) -> Vec<u32> {
        let model = self.view.model;
        let Some(record) = model.groups.get(group as usize) else {
            return Vec::new();
        };
        let labels = &model.labels[record.labels];
        let mut terms: Vec<u32> = model
            .aversions
            .about(labels)
            .filter(|term| {
                let term = &model.terms[*term];
                self.in_namespaces(term, record.namespace, true)
                    && term
                        .selector
                        .as_ref()
                        .is_some_and(|selector| selector.matches(labels))
            })
            .collect();
        terms.sort_unstable();
        terms.dedup();
        terms
    }

    /// Whether a term looks at pods of a namespace; one without known labels is as `unknown` says.
    fn in_namespaces(&self, term: &Term, namespace: Sym, unknown: bool) -> bool {
        if term.namespaces.contains(&namespace) {
            return true;
        }
        term.namespace_selector.as_ref().is_some_and(|selector| {
            selector.0.is_empty()
                || self
                    .view
                    .model
                    .namespaces
                    .get(&namespace)
                    .map_or(unknown, |labels| selector.matches(labels))
        })
    }

    /// Groups a term selects, sorted.
    pub(super) fn groups_of_term(&self, term: &Term, unknown: bool) -> Vec<u32> {
        let model = self.view.model;
        let Some(selector) = &term.selector else {
            return Vec::new();
        };
        let mut groups: Vec<u32> = Vec::new();
        if term.namespace_selector.is_none() {
            for namespace in &term.namespaces {
                groups.extend(self.groups_in(*namespace, selector));
            }
        } else {
            for namespace in model.groups_by_namespace.keys() {
                if self.in_namespaces(term, *namespace, unknown) {
                    groups.extend(self.groups_in(*namespace, selector));
                }
            }
        }
        groups.sort_unstable();
        groups
    }

    /// Groups of a namespace that a selector selects.
    pub(super) fn groups_in(&self, namespace: Sym, selector: &Selector) -> Vec<u32> {
        let model = self.view.model;
        let found: Vec<u32> = match selector.anchor() {
            Some(pairs) => pairs
                .filter_map(|(key, value)| model.groups_by_label.get(&(namespace, key, value)))
                .flatten()
                .copied()
                .collect(),
            None => model
                .groups_by_namespace
                .get(&namespace)
                .cloned()
                .unwrap_or_default(),
        };
        found
            .into_iter()
            .filter(|group| {
                let group = model.groups.get(*group as usize);
                group.is_some_and(|group| selector.matches(&model.labels[group.labels]))
            })
            .collect()
    }
}
