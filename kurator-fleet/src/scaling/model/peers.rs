//! What a pod says about other pods: required inter-pod affinity and anti-affinity, and hard topology spread.

use k8s_openapi::{
    api::core::v1::{PodAffinityTerm, PodSpec},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{
    Model,
    error::ModelError,
    labels::{Labels, Operator, Requirement, Selector},
    symbols::{Map, Pool, Sym, Symbols},
};

/// A required term of pod affinity or anti-affinity, with the holder's namespace already filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    /// Namespaces by name, sorted.
    pub(crate) namespaces: Box<[Sym]>,
    /// Namespaces by label, in addition.
    pub(crate) namespace_selector: Option<Selector>,
    /// `None` selects no pod.
    pub(crate) selector: Option<Selector>,
    pub(crate) topology_key: Sym,
}

/// A `DoNotSchedule` topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spread {
    pub(crate) max_skew: i64,
    pub(crate) topology_key: Sym,
    /// `None` selects no pod.
    pub(crate) selector: Option<Selector>,
    pub(crate) min_domains: i64,
    /// Domains on nodes the pod's selector or affinity excludes do not count.
    pub(crate) honor_affinity: bool,
    /// Domains on nodes with taints the pod does not tolerate do not count.
    pub(crate) honor_taints: bool,
}

/// The rules of one pod template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Peers {
    /// Numbers of terms in the model's pool.
    pub(crate) affinity: Box<[u32]>,
    pub(crate) anti_affinity: Box<[u32]>,
    pub(crate) spread: Box<[Spread]>,
}

impl Peers {
    /// # Errors
    /// [`ModelError`] naming the pod and the rule.
    pub(crate) fn new(
        spec: &PodSpec,
        namespace: Sym,
        labels: &Labels,
        object: &impl Fn() -> String,
        symbols: &mut Symbols,
        pool: &mut Pool<Term>,
    ) -> Result<Self, ModelError> {
        let mut peers = Self::default();
        let affinity = spec.affinity.as_ref();
        let mut read = |terms: Option<&Vec<PodAffinityTerm>>, field, symbols: &mut Symbols| {
            let mut ids = terms
                .into_iter()
                .flatten()
                .map(|wire| {
                    term(wire, namespace, labels, field, object, symbols).map(|term| pool.intern(term))
                })
                .collect::<Result<Vec<_>, _>>()?;
            ids.sort_unstable();
            ids.dedup();
            Ok::<_, ModelError>(ids.into_boxed_slice())
        };
        peers.affinity = read(
            affinity
                .and_then(|affinity| affinity.pod_affinity.as_ref())
                .and_then(|rules| rules.required_during_scheduling_ignored_during_execution.as_ref()),
            "pod affinity",
            symbols,
        )?;
        peers.anti_affinity = read(
            affinity
                .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
                .and_then(|rules| rules.required_during_scheduling_ignored_during_execution.as_ref()),
            "pod anti-affinity",
            symbols,
        )?;
        let mut spread = Vec::new();
        for wire in spec.topology_spread_constraints.iter().flatten() {
            if wire.when_unsatisfiable != "DoNotSchedule" {
                continue;
            }
            let field = "topologySpreadConstraints";
            if wire.max_skew < 1 {
                return Err(ModelError::OutOfRange {
                    object: object(),
                    field: format!("{field} maxSkew"),
                    value: wire.max_skew.to_string(),
                    range: "1 and up",
                });
            }
            let keys = keys(wire.match_label_keys.as_deref(), symbols);
            spread.push(Spread {
                max_skew: i64::from(wire.max_skew),
                topology_key: symbols.intern(&wire.topology_key),
                selector: selector(wire.label_selector.as_ref(), field, object, symbols)?
                    .map(|selector| selector.narrowed(&keys, labels)),
                min_domains: i64::from(wire.min_domains.unwrap_or(1)),
                honor_affinity: wire.node_affinity_policy.as_deref() != Some("Ignore"),
                honor_taints: wire.node_taints_policy.as_deref() == Some("Honor"),
            });
        }
        peers.spread = spread.into_boxed_slice();
        Ok(peers)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.affinity.is_empty() && self.anti_affinity.is_empty() && self.spread.is_empty()
    }
}

/// Who holds which anti-affinity term, and by which label of a pod the terms about it are found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aversions {
    /// Pods by template; `None` for templates without anti-affinity.
    bearers: Vec<Option<Vec<u32>>>,
    /// Templates by term.
    templates: Map<u32, Vec<u32>>,
    by_label: Map<(Sym, Sym), Vec<u32>>,
    /// Terms that ask for no particular label.
    by_any: Vec<u32>,
}

impl Aversions {
    pub(crate) fn bearers_mut(&mut self, peers: u32) -> Option<&mut Vec<u32>> {
        self.bearers.get_mut(peers as usize).and_then(Option::as_mut)
    }

    /// Pods that hold a term.
    pub(crate) fn holders(&self, term: u32) -> impl Iterator<Item = u32> {
        let templates = self.templates.get(&term).into_iter().flatten();
        templates
            .filter_map(|peers| self.bearers.get(*peers as usize)?.as_ref())
            .flatten()
            .copied()
    }

    /// Templates that hold a term.
    pub(crate) fn templates(&self, term: u32) -> &[u32] {
        self.templates.get(&term).map_or(&[], Vec::as_slice)
    }

    /// Terms that may be about a pod with these labels.
    pub(crate) fn about(&self, labels: &Labels) -> impl Iterator<Item = u32> {
        let by_label = labels.0.iter().filter_map(|pair| self.by_label.get(pair));
        by_label.flatten().chain(&self.by_any).copied()
    }
}

impl Model {
    /// The number of a template's rules.
    pub(super) fn template_peers(&mut self, peers: Peers) -> u32 {
        let at = self.peers.intern(peers);
        if (at as usize) < self.aversions.bearers.len() {
            return at;
        }
        let anti = &self.peers[at].anti_affinity;
        self.aversions.bearers.push((!anti.is_empty()).then(Vec::new));
        let mut new: Vec<u32> = Vec::new();
        for term in anti {
            let templates = self.aversions.templates.entry(*term).or_default();
            templates.push(at);
            if templates.len() > 1 {
                continue;
            }
            let Some(selector) = &self.terms[*term].selector else {
                continue;
            };
            match selector.anchor() {
                Some(pairs) => {
                    pairs.for_each(|pair| self.aversions.by_label.entry(pair).or_default().push(*term));
                }
                None => self.aversions.by_any.push(*term),
            }
            new.push(*term);
        }
        new.into_iter().for_each(|term| self.shun(term));
        at
    }
}

fn keys(keys: Option<&[String]>, symbols: &mut Symbols) -> Vec<Sym> {
    keys.unwrap_or_default()
        .iter()
        .map(|key| symbols.intern(key))
        .collect()
}

fn selector(
    wire: Option<&LabelSelector>,
    field: &str,
    object: &impl Fn() -> String,
    symbols: &mut Symbols,
) -> Result<Option<Selector>, ModelError> {
    wire.map(|wire| Selector::new(wire, symbols))
        .transpose()
        .map_err(|problem| ModelError::Selector {
            object: object(),
            field: field.to_owned(),
            problem,
        })
}

fn term(
    wire: &PodAffinityTerm,
    namespace: Sym,
    labels: &Labels,
    field: &str,
    object: &impl Fn() -> String,
    symbols: &mut Symbols,
) -> Result<Term, ModelError> {
    let mut namespaces = keys(wire.namespaces.as_deref(), symbols);
    if namespaces.is_empty() && wire.namespace_selector.is_none() {
        namespaces.push(namespace);
    }
    namespaces.sort_unstable();
    let same = keys(wire.match_label_keys.as_deref(), symbols);
    let other = keys(wire.mismatch_label_keys.as_deref(), symbols);
    let pods = selector(wire.label_selector.as_ref(), field, object, symbols)?.map(|selector| {
        let mut all = selector.narrowed(&same, labels).0.into_vec();
        for key in other {
            if let Some(value) = labels.get(key) {
                all.push(Requirement {
                    key,
                    operator: Operator::NotIn,
                    values: [value].into(),
                });
            }
        }
        Selector::from_requirements(all)
    });
    Ok(Term {
        namespaces: namespaces.into_boxed_slice(),
        namespace_selector: selector(wire.namespace_selector.as_ref(), field, object, symbols)?,
        selector: pods,
        topology_key: symbols.intern(&wire.topology_key),
    })
}
