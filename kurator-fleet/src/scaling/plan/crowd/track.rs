//! Pods counted by topology domain.

use crate::scaling::model::symbols::Sym;

/// Pods, or nodes, by the value of a topology label: sorted, and no entry is zero.
#[derive(Debug, Default)]
pub(super) struct Counts(Vec<(Sym, i64)>);

impl Counts {
    /// Counts every domain of the list once for each time it is in it.
    pub(super) fn tally(mut domains: Vec<Sym>) -> Self {
        domains.sort_unstable();
        let mut counts: Vec<(Sym, i64)> = Vec::new();
        for domain in domains {
            match counts.last_mut() {
                Some((last, count)) if *last == domain => *count += 1,
                _ => counts.push((domain, 1)),
            }
        }
        Self(counts)
    }

    pub(super) fn change(&mut self, domain: Sym, change: i64) {
        match self.0.binary_search_by_key(&domain, |(domain, _)| *domain) {
            Ok(at) => {
                let count = &mut self.0[at].1;
                *count += change;
                if *count == 0 {
                    self.0.remove(at);
                }
            }
            Err(at) => self.0.insert(at, (domain, change)),
        }
    }

    pub(super) fn get(&self, domain: Sym) -> i64 {
        let at = self.0.binary_search_by_key(&domain, |(domain, _)| *domain);
        at.ok()
            .and_then(|at| self.0.get(at))
            .map_or(0, |(_, count)| *count)
    }

    pub(super) fn contains(&self, domain: Sym) -> bool {
        self.get(domain) != 0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn least(&self) -> i64 {
        self.0.iter().map(|(_, count)| *count).min().unwrap_or(0)
    }
}

/// The pods some selector finds, by the value of one topology label.
#[derive(Debug)]
pub(super) struct Track {
    /// Column of the label.
    pub(super) column: u32,
    pub(super) counts: Counts,
    /// For spread: the nodes whose domains count.
    pub(super) domains: Option<u32>,
}

/// The nodes, and so the domains, that a spread constraint looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DomainKey {
    pub(super) key: Sym,
    /// A node without one of these labels does not count.
    pub(super) required: Vec<Sym>,
    /// With whose selector or tolerations, if they matter.
    pub(super) constraint: Option<u32>,
    pub(super) honor_affinity: bool,
    pub(super) honor_taints: bool,
}

#[derive(Debug)]
pub(super) struct Domains {
    pub(super) rule: DomainKey,
    pub(super) column: u32,
    pub(super) eligible: Vec<bool>,
    pub(super) nodes: Counts,
}
