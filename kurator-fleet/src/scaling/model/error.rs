//! What is wrong with an object or a file.

use kurator_core::quantity::ParseQuantityError;

/// Why an object or a file cannot become part of a [`Model`](super::Model). The object named in the error was not
/// applied; everything applied before it still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The bytes are not JSON.
    #[error("the input is not JSON; give it the output of `kubectl get nodes,pods,pdb,... -A -o json`")]
    NotJson(#[source] Box<serde_json::Error>),
    /// The JSON is neither a Kubernetes object nor a `List` of them.
    #[error("{what} is not a Kubernetes object: it needs {needs}; give `kubectl get ... -A -o json`")]
    NotAnObject {
        /// Which part of the input, such as `item 3`.
        what: String,
        /// What is missing.
        needs: &'static str,
    },
    /// An object does not have the shape of its kind.
    #[error("{object} is not a valid object of its kind; correct it or leave it out")]
    Decode {
        /// Kind, namespace and name, or the position in the list.
        object: String,
        /// The field and what is wrong with it.
        #[source]
        source: Box<serde_json::Error>,
    },
    /// An object has no name, or a namespaced one no namespace.
    #[error("{object} has no {field}; every object needs one")]
    NoName {
        /// Kind, and what is known of the name.
        object: String,
        /// `metadata.name` or `metadata.namespace`.
        field: &'static str,
    },
    /// Two objects of the input have the same kind, namespace and name.
    #[error("{object} is in the input twice; leave one out")]
    Duplicate {
        /// Kind, namespace and name.
        object: String,
    },
    /// A quantity does not parse.
    #[error("{object}: {field} is not a quantity")]
    Quantity {
        /// Kind, namespace and name.
        object: String,
        /// The field, with the container if there is one.
        field: String,
        /// Where it stops to be one.
        #[source]
        source: Box<ParseQuantityError>,
    },
    /// A number is negative, or larger than any machine.
    #[error("{object}: {field} is {value}, which is outside {range}")]
    OutOfRange {
        /// Kind, namespace and name.
        object: String,
        /// The field.
        field: String,
        /// The value as written.
        value: String,
        /// What would be accepted.
        range: &'static str,
    },
    /// A label selector or an affinity expression that the API server would refuse.
    #[error("{object}: {field} is not a valid selector: {problem}")]
    Selector {
        /// Kind, namespace and name.
        object: String,
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A budget that says two things, or a malformed percentage.
    #[error("PodDisruptionBudget {namespace}/{name}: {problem}")]
    Budget {
        /// Namespace of the budget.
        namespace: String,
        /// Name of the budget.
        name: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A pod is bound to a node that is not in the input.
    #[error(
        "Pod {namespace}/{name} runs on node {node:?}, which is not in the input; add the node or leave the pod out"
    )]
    UnknownNode {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        name: String,
        /// The node it names.
        node: String,
    },
    /// There is nothing to scale.
    #[error("the input has no Node; give `kubectl get nodes,pods,pdb,... -A -o json`")]
    NoNodes,
}
