//! Taints of clusters and nodes.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A mark that repels what does not tolerate it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Taint {
    /// Label key.
    pub key: String,
    /// Label value; often empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What happens to whatever does not tolerate it.
    pub effect: TaintEffect,
    /// When a `NoExecute` taint was set: tolerations with a time limit count from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_added: Option<Timestamp>,
}

/// What a [`Taint`] does to whatever does not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TaintEffect {
    /// Nothing new comes; what is there leaves.
    NoExecute,
    /// Nothing new comes.
    NoSchedule,
    /// Nothing new comes as long as there is another place.
    PreferNoSchedule,
}

impl Taint {
    /// A taint without a value.
    pub fn new(key: impl Into<String>, effect: TaintEffect) -> Self {
        Self {
            key: key.into(),
            value: String::new(),
            effect,
            time_added: None,
        }
    }

    /// Sets the value.
    #[must_use]
    pub fn with_value(mut self, value: impl Into<String>) -> Self {
        self.value = value.into();
        self
    }

    /// Sets when it was added.
    #[must_use]
    pub fn with_time_added(mut self, time_added: Timestamp) -> Self {
        self.time_added = Some(time_added);
        self
    }
}

impl TaintEffect {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoExecute => "NoExecute",
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
        }
    }
}

impl fmt::Display for TaintEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// As `kubectl` writes it: `key=value:effect`, or `key:effect` without a value.
impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() {
            write!(f, "{}:{}", self.key, self.effect)
        } else {
            write!(f, "{}={}:{}", self.key, self.value, self.effect)
        }
    }
}
