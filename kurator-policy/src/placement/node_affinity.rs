//! Whether a node satisfies the required node affinity of a pod.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use kurator_core::observe::NodeView;

/// Whether one of the terms holds. A selector without terms, and a term without requirements, hold for no node.
pub(super) fn satisfied(selector: &NodeSelector, node: &NodeView) -> bool {
    selector.node_selector_terms.iter().any(|term| holds(term, node))
}

fn holds(term: &NodeSelectorTerm, node: &NodeView) -> bool {
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    let any = expressions.clone().next().is_some() || fields.clone().next().is_some();
    // The name is the only field of a node that can be matched.
    let name = |requirement: &NodeSelectorRequirement| {
        requirement.key == "metadata.name" && matches(requirement, Some(&node.name))
    };
    any && expressions
        .into_iter()
        .all(|requirement| matches(requirement, node.labels.get(&requirement.key).map(String::as_str)))
        && fields.into_iter().all(name)
}

fn matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|value| values.iter().any(|other| other == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value)
            .zip(bound)
            .is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value)
            .zip(bound)
            .is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn terms_are_alternatives_and_their_requirements_all_hold() {
        let node = NodeView::new("n1")
            .with_label("zone", "a")
            .with_label("cores", "16");
        let of = |terms: Value| {
            let selector = serde_json::from_value(json!({ "nodeSelectorTerms": terms })).unwrap();
            satisfied(&selector, &node)
        };
        let one = |key: &str, operator: &str, values: Value| {
            of(json!([{ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }]))
        };
        assert!(one("zone", "In", json!(["a", "b"])));
        assert!(!one("zone", "NotIn", json!(["a"])));
        assert!(one("absent", "NotIn", json!(["a"])));
        assert!(one("zone", "Exists", json!([])));
        assert!(one("absent", "DoesNotExist", json!([])));
        assert!(one("cores", "Gt", json!(["8"])));
        assert!(!one("cores", "Lt", json!(["8"])));
        assert!(!one("zone", "Like", json!(["a"])));
        let name = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n1"] }] });
        let no = json!({ "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["z"] }] });
        assert!(of(json!([no, name])));
        assert!(!of(json!([no])));
        assert!(!of(json!([{}])));
        assert!(!of(json!([])));
    }
}
