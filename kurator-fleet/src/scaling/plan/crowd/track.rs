//! Pods counted by topology domain.

use crate::scaling::model::symbols::Sym;

/// Pods, or nodes, by the value of a topology label.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Sorted, and no count is zero.
    domains: Vec<(Sym, i64)>,
    /// The smallest count and how many domains have it, while that is known: a rule over hostnames has thousands of
    /// domains, and asks before each pod.
    least: Option<(i64, usize)>,
}

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
        Self {
            domains: counts,
            least: None,
        }
    }

    pub(super) fn change(&mut self, domain: Sym, change: i64) {
        let before = match self.domains.binary_search_by_key(&domain, |(domain, _)| *domain) {
            Ok(at) => {
                let count = &mut self.domains[at].1;
                let before = *count;
                *count += change;
                if *count == 0 {
                    self.domains.remove(at);
                }
                before
            }
            Err(at) => {
                self.domains.insert(at, (domain, change));
                0
            }
        };
        self.recall(before, before + change);
    }

    /// Keeps the smallest count right when that of one domain changes; 0 is no domain.
    fn recall(&mut self, before: i64, after: i64) {
        let Some((mut least, mut holders)) = self.least else {
            return;
        };
        if before == least {
            holders -= 1;
        }
        if after != 0 && after < least {
            (least, holders) = (after, 1);
        } else if after == least {
            holders += 1;
        }
        self.least = (holders > 0).then_some((least, holders));
    }

    pub(super) fn get(&self, domain: Sym) -> i64 {
        let at = self.domains.binary_search_by_key(&domain, |(domain, _)| *domain);
        at.ok()
            .and_then(|at| self.domains.get(at))
            .map_or(0, |(_, count)| *count)
    }

    pub(super) fn contains(&self, domain: Sym) -> bool {
        self.get(domain) != 0
    }

    pub(super) fn len(&self) -> usize {
        self.domains.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// The smallest count of a domain; 0 if there is none.
    pub(super) fn least(&mut self) -> i64 {
        if let Some((least, _)) = self.least {
            return least;
        }
        let Some(least) = self.domains.iter().map(|(_, count)| *count).min() else {
            return 0;
        };
        let holders = self.domains.iter().filter(|(_, count)| *count == least).count();
        self.least = Some((least, holders));
        least
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_smallest_count_is_that_of_a_fresh_look(
            start in prop::collection::vec(0u32..6, 0..20),
            changes in prop::collection::vec((0u32..6, any::<bool>(), any::<bool>()), 0..60),
        ) {
            let mut counts = Counts::tally(start.into_iter().map(Sym).collect());
            for (domain, more, look) in changes {
                let domain = Sym(domain);
                if more {
                    counts.change(domain, 1);
                } else if counts.contains(domain) {
                    counts.change(domain, -1);
                }
                if look {
                    let fresh = (0..6).map(|at| counts.get(Sym(at))).filter(|count| *count != 0).min();
                    prop_assert_eq!(counts.least(), fresh.unwrap_or(0));
                }
            }
        }
    }
}
