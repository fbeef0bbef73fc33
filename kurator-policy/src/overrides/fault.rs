use super::pointer::PointerFault;

/// Why a change could not be read, or not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The path is not a JSON pointer.
    #[error("{path:?} is not a path")]
    Pointer {
        /// The text.
        path: String,
        /// What is wrong with it.
        #[source]
        source: PointerFault,
    },
    /// An operator that needs a value has none.
    #[error("a value is needed: a client-side `kubectl apply` drops nulls, use the operator remove instead")]
    NoValue,
    /// An operator that cannot be used there.
    #[error("the operator must be add or remove")]
    Operator,
    /// Neither JSON nor YAML operations are given, or both.
    #[error("give either json or yaml operations")]
    NoFormat,
    /// YAML operations are given, and the crate was built without them.
    #[error("YAML inside a text needs the feature `yaml` of kurator-policy")]
    NoYaml,
    /// A merge patch that is not an object.
    #[error("a merge patch is an object")]
    MergeNotObject,
    /// What the path leads through is not there.
    #[error("{at} is not there: set it first, or name a path whose parent exists")]
    MissingParent {
        /// The first step that is missing.
        at: String,
    },
    /// What is to be replaced or removed is not there.
    #[error("{at} is not there: without an operator the value would be created")]
    Missing {
        /// The place.
        at: String,
    },
    /// The path leads into something that is neither an object nor a list.
    #[error("{at} is {kind}, and has nothing inside")]
    NotContainer {
        /// The place.
        at: String,
        /// What it is.
        kind: &'static str,
    },
    /// A step into a list is not the number of one of its elements.
    #[error("{token:?} is no place in {at}, a list of {len}")]
    Index {
        /// The list.
        at: String,
        /// The step.
        token: String,
        /// How many elements it has.
        len: usize,
    },
    /// What must be a text is something else.
    #[error("{at} is {kind}, not a text")]
    NotText {
        /// The place.
        at: String,
        /// What it is.
        kind: &'static str,
    },
    /// A container, a list of words or a map of labels is not what Kubernetes says it is.
    #[error("{at} is not {expected}")]
    Shape {
        /// The place.
        at: String,
        /// What it ought to be.
        expected: &'static str,
    },
    /// An image that cannot be taken apart, or would not be one after the change.
    #[error("{image:?} is not an image reference")]
    Image {
        /// The text.
        image: String,
    },
    /// A tag or digest that is neither.
    #[error("{tag:?} is neither a tag nor a digest")]
    Tag {
        /// The text.
        tag: String,
    },
    /// A text that ought to hold JSON does not.
    #[error("the text is not JSON: line {line}, column {column}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A text that ought to hold YAML does not.
    #[error("the text is not YAML: {message}")]
    Yaml {
        /// What the parser says.
        message: String,
    },
    /// The change would make it another object.
    #[error("an override may not change {field}: that would be another object")]
    Identity {
        /// The field.
        field: &'static str,
    },
}

impl Fault {
    /// One CamelCase word for conditions, Events and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Pointer { .. } => "InvalidPath",
            Self::NoValue | Self::Operator | Self::NoFormat | Self::MergeNotObject | Self::NoYaml => {
                "InvalidOverride"
            }
            Self::MissingParent { .. } | Self::Missing { .. } => "PathNotFound",
            Self::NotContainer { .. } | Self::Index { .. } | Self::NotText { .. } | Self::Shape { .. } => {
                "PathNotFitting"
            }
            Self::Image { .. } | Self::Tag { .. } => "InvalidImage",
            Self::Json { .. } | Self::Yaml { .. } => "InvalidText",
            Self::Identity { .. } => "IdentityChanged",
        }
    }
}

/// What a value is, for people.
pub(super) fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a text",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}
