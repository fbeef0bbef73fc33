//! What a pod and a node say about each other.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, Pod, Taint};

use super::super::world::spec;

pub(super) fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
}

pub(super) fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    spec(pod)
        .into_iter()
        .flat_map(|spec| spec.tolerations.iter().flatten())
        .any(|toleration| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            let (key, effect) = (text(&toleration.key), text(&toleration.effect));
            let exists = toleration.operator.as_deref() == Some("Exists");
            let equal = matches!(toleration.operator.as_deref(), None | Some("" | "Equal"));
            (effect.is_empty() || effect == taint.effect)
                && if key.is_empty() { exists } else { key == taint.key }
                && (exists || equal && text(&toleration.value) == text(&taint.value))
        })
}

pub(super) fn accepts(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = spec(pod) else { return true };
    let empty = BTreeMap::new();
    let own = node.metadata.labels.as_ref().unwrap_or(&empty);
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    spec.node_selector
        .iter()
        .flatten()
        .all(|(key, value)| own.get(key) == Some(value))
        && required.is_none_or(|required| node_matches(required, node))
}

pub(super) fn node_matches(selector: &NodeSelector, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let own = node.metadata.labels.as_ref().unwrap_or(&empty);
    let holds = |requirement: &NodeSelectorRequirement, value: Option<&String>| {
        let values = requirement.values.as_deref().unwrap_or_default();
        let number = |text: &str| text.parse::<i64>().ok();
        let compare = |less: bool| {
            let pair = value
                .and_then(|value| number(value))
                .zip(values.first().and_then(|bound| number(bound)));
            pair.is_some_and(|(value, bound)| if less { value < bound } else { value > bound })
        };
        match requirement.operator.as_str() {
            "In" => value.is_some_and(|value| values.contains(value)),
            "NotIn" => value.is_none_or(|value| !values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => compare(false),
            "Lt" => compare(true),
            _ => false,
        }
    };
    selector.node_selector_terms.iter().any(|term| {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        let fields = term.match_fields.as_deref().unwrap_or_default();
        (!expressions.is_empty() || !fields.is_empty())
            && expressions
                .iter()
                .all(|requirement| holds(requirement, own.get(&requirement.key)))
            && fields
                .iter()
                .all(|requirement| holds(requirement, node.metadata.name.as_ref()))
    })
}
