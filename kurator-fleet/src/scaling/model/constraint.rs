//! Which nodes a pod accepts and which accept it, looking at the pod and the node alone.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, PodSpec};

use super::{
    error::ModelError,
    labels::{Labels, Operator, Requirement},
    symbols::{Sym, Symbols},
};

/// A taint's effect on placement; `PreferNoSchedule` has none and is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Effect {
    NoExecute,
    NoSchedule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Taint {
    pub(crate) key: Sym,
    pub(crate) value: Sym,
    pub(crate) effect: Effect,
}

/// What cordoning a node puts on it.
pub(crate) const CORDON: Taint = Taint {
    key: Symbols::UNSCHEDULABLE,
    value: Symbols::EMPTY,
    effect: Effect::NoSchedule,
};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Toleration {
    /// `None` tolerates every key.
    key: Option<Sym>,
    /// `None` tolerates every value.
    value: Option<Sym>,
    /// `None` tolerates every effect.
    effect: Option<Effect>,
}

impl Toleration {
    pub(crate) fn tolerates(&self, taint: Taint) -> bool {
        self.key.is_none_or(|key| key == taint.key)
            && self.value.is_none_or(|value| value == taint.value)
            && self.effect.is_none_or(|effect| effect == taint.effect)
    }
}

/// One requirement of a node selector term.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum NodeRequirement {
    /// On a label, as in a label selector.
    Label(Requirement),
    /// The label is an integer above this.
    Above(Sym, i64),
    /// The label is an integer below this.
    Below(Sym, i64),
    /// `metadata.name` is, or is not, one of these.
    Name { names: Box<[Sym]>, within: bool },
}

impl NodeRequirement {
    fn matches(&self, name: Sym, labels: &Labels, symbols: &Symbols) -> bool {
        let number = |key: Sym| {
            labels
                .get(key)
                .and_then(|value| symbols[value].parse::<i64>().ok())
        };
        match self {
            Self::Label(requirement) => requirement.matches(labels),
            Self::Above(key, bound) => number(*key).is_some_and(|value| value > *bound),
            Self::Below(key, bound) => number(*key).is_some_and(|value| value < *bound),
            Self::Name { names, within } => names.contains(&name) == *within,
        }
    }
}

/// One of the alternatives of a node selector; an empty one matches nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeTerm(pub(crate) Box<[NodeRequirement]>);

impl NodeTerm {
    fn matches(&self, name: Sym, labels: &Labels, symbols: &Symbols) -> bool {
        !self.0.is_empty()
            && self
                .0
                .iter()
                .all(|requirement| requirement.matches(name, labels, symbols))
    }
}

/// The terms of a node selector, of which one must match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeTerms(pub(crate) Box<[NodeTerm]>);

impl NodeTerms {
    /// # Errors
    /// [`ModelError::Selector`] naming the object.
    pub(crate) fn new(
        selector: &NodeSelector,
        field: &str,
        object: &impl Fn() -> String,
        symbols: &mut Symbols,
    ) -> Result<Self, ModelError> {
        let problem = |problem: String| ModelError::Selector {
            object: object(),
            field: field.to_owned(),
            problem,
        };
        let mut terms = Vec::new();
        for term in &selector.node_selector_terms {
            let mut all = Vec::new();
            for wire in term.match_expressions.iter().flatten() {
                all.push(on_label(wire, symbols).map_err(problem)?);
            }
            for wire in term.match_fields.iter().flatten() {
                all.push(on_name(wire, symbols).map_err(problem)?);
            }
            all.sort_unstable();
            terms.push(NodeTerm(all.into_boxed_slice()));
        }
        terms.sort_unstable();
        Ok(Self(terms.into_boxed_slice()))
    }

    pub(crate) fn match_node(&self, name: Sym, labels: &Labels, symbols: &Symbols) -> bool {
        self.0.iter().any(|term| term.matches(name, labels, symbols))
    }
}

fn on_label(wire: &NodeSelectorRequirement, symbols: &mut Symbols) -> Result<NodeRequirement, String> {
    let key = symbols.intern(&wire.key);
    let values = wire.values.as_deref().unwrap_or_default();
    let operator = match wire.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" | "Lt" => {
            let [bound] = values else {
                return Err(format!(
                    "{} on key {:?} needs exactly one value",
                    wire.operator, wire.key
                ));
            };
            let bound = bound.parse().map_err(|_| {
                format!(
                    "{} on key {:?} needs an integer, not {bound:?}",
                    wire.operator, wire.key
                )
            })?;
            return Ok(if wire.operator == "Gt" {
                NodeRequirement::Above(key, bound)
            } else {
                NodeRequirement::Below(key, bound)
            });
        }
        other => return Err(format!("operator {other:?} of key {:?} is unknown", wire.key)),
    };
    let wants_values = matches!(operator, Operator::In | Operator::NotIn);
    if wants_values == values.is_empty() {
        let rule = if wants_values {
            "needs values"
        } else {
            "takes no values"
        };
        return Err(format!("{} on key {:?} {rule}", wire.operator, wire.key));
    }
    let mut values: Vec<_> = values.iter().map(|value| symbols.intern(value)).collect();
    values.sort_unstable();
    Ok(NodeRequirement::Label(Requirement {
        key,
        operator,
        values: values.into_boxed_slice(),
    }))
}

fn on_name(wire: &NodeSelectorRequirement, symbols: &mut Symbols) -> Result<NodeRequirement, String> {
    if wire.key != "metadata.name" {
        return Err(format!("field {:?} is not metadata.name", wire.key));
    }
    let within = match wire.operator.as_str() {
        "In" => true,
        "NotIn" => false,
        other => {
            return Err(format!(
                "operator {other:?} on metadata.name is neither In nor NotIn"
            ));
        }
    };
    let mut names: Vec<_> = wire
        .values
        .iter()
        .flatten()
        .map(|name| symbols.intern(name))
        .collect();
    names.sort_unstable();
    Ok(NodeRequirement::Name {
        names: names.into_boxed_slice(),
        within,
    })
}

/// What a pod says about nodes: `nodeSelector`, required node affinity, tolerations. Pods of one template share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Constraint {
    /// `nodeSelector`.
    pub(crate) selector: Box<[(Sym, Sym)]>,
    /// Required node affinity.
    pub(crate) terms: Option<NodeTerms>,
    pub(crate) tolerations: Box<[Toleration]>,
}

impl Constraint {
    /// # Errors
    /// [`ModelError::Selector`] naming the pod.
    pub(crate) fn new(
        spec: &PodSpec,
        object: &impl Fn() -> String,
        symbols: &mut Symbols,
    ) -> Result<Self, ModelError> {
        let mut selector: Vec<_> = spec
            .node_selector
            .iter()
            .flatten()
            .map(|(key, value)| (symbols.intern(key), symbols.intern(value)))
            .collect();
        selector.sort_unstable();
        let terms = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref())
            .and_then(|affinity| {
                affinity
                    .required_during_scheduling_ignored_during_execution
                    .as_ref()
            })
            .map(|required| NodeTerms::new(required, "required node affinity", object, symbols))
            .transpose()?;
        let mut tolerations: Vec<_> = spec
            .tolerations
            .iter()
            .flatten()
            .filter_map(|toleration| {
                let exists = match toleration.operator.as_deref() {
                    Some("Exists") => true,
                    None | Some("" | "Equal") => false,
                    // An operator this code does not know is taken not to help.
                    Some(_) => return None,
                };
                let effect = match toleration.effect.as_deref() {
                    None | Some("") => None,
                    Some("NoExecute") => Some(Effect::NoExecute),
                    Some("NoSchedule") => Some(Effect::NoSchedule),
                    Some(_) => return None,
                };
                let key = match toleration.key.as_deref() {
                    None | Some("") if exists => None,
                    None | Some("") => return None,
                    Some(key) => Some(symbols.intern(key)),
                };
                let value =
                    (!exists).then(|| symbols.intern(toleration.value.as_deref().unwrap_or_default()));
                Some(Toleration { key, value, effect })
            })
            .collect();
        tolerations.sort_unstable();
        tolerations.dedup();
        Ok(Self {
            selector: selector.into_boxed_slice(),
            terms,
            tolerations: tolerations.into_boxed_slice(),
        })
    }

    /// Whether it accepts every node, taints apart.
    pub(crate) fn is_free(&self) -> bool {
        self.selector.is_empty() && self.terms.is_none()
    }

    pub(crate) fn accepts_labels(&self, name: Sym, labels: &Labels, symbols: &Symbols) -> bool {
        self.selector
            .iter()
            .all(|(key, value)| labels.get(*key) == Some(*value))
            && self
                .terms
                .as_ref()
                .is_none_or(|terms| terms.match_node(name, labels, symbols))
    }

    pub(crate) fn tolerates(&self, taint: Taint) -> bool {
        self.tolerations
            .iter()
            .any(|toleration| toleration.tolerates(taint))
    }

    pub(crate) fn tolerates_all(&self, taints: &[Taint]) -> bool {
        taints.iter().all(|taint| self.tolerates(*taint))
    }
}
