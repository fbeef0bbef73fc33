use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};
use serde_json::Value;

/// A policy, as messages name it: `namespace/name`, or the name alone for one of the cluster scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(Arc<(Option<String>, String)>);

impl PolicyName {
    /// A policy in a namespace, or of the cluster scope.
    #[must_use]
    pub fn new(namespace: Option<&str>, name: &str) -> Self {
        Self(Arc::new((namespace.map(str::to_owned), name.to_owned())))
    }

    /// Namespace of the policy; none for one of the cluster scope.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.0.0.as_deref()
    }

    /// Name of the policy.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.1
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace() {
            Some(namespace) => write!(f, "{namespace}/{}", self.name()),
            None => f.write_str(self.name()),
        }
    }
}

impl Serialize for PolicyName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One field that a policy changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FieldChange {
    /// Where, as a JSON pointer; a place inside a text follows after ` > `.
    pub path: String,
    /// Which policy did it.
    pub policy: PolicyName,
    /// Which of its rules, from 0.
    pub rule: usize,
    /// What was there before; nothing if it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// What is there now; nothing if it was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// A field that two policies want to be different. The one applied later has its way.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Conflict {
    /// Where, as in [`FieldChange::path`].
    pub path: String,
    /// The policy that does not have its way.
    pub overruled: PolicyName,
    /// What it had set; nothing if it had removed the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overruled_value: Option<Value>,
    /// The policy that has its way.
    pub winner: PolicyName,
    /// What is there now; nothing if it was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// A part of a policy that has nothing to change in this object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Skipped {
    /// The policy.
    pub policy: PolicyName,
    /// Its rule, from 0.
    pub rule: usize,
    /// The part of the rule, such as `overriders.imageOverrider[0]`.
    pub step: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why a part of a policy has nothing to change in an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SkipReason {
    /// No container has this name.
    NoContainer(String),
    /// There is no such label, annotation or variable to replace or remove.
    NoKey(String),
    /// The object has no pod template.
    NoPodTemplate,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoContainer(name) => write!(f, "there is no container {name}"),
            Self::NoKey(key) => write!(f, "there is no {key}"),
            Self::NoPodTemplate => f.write_str("the object has no pod template"),
        }
    }
}

/// What was changed and by whom, in the order of the changes. Its `Display` is what a dry run shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[must_use]
pub struct OverrideReport {
    /// The policies that were applied, in their order.
    pub applied: Vec<PolicyName>,
    /// Every change that made a difference.
    pub changes: Vec<FieldChange>,
    /// Every field on which two policies disagree.
    pub conflicts: Vec<Conflict>,
    /// What did not concern this object.
    pub skipped: Vec<Skipped>,
}

impl OverrideReport {
    /// Who changed a field last, if anyone did; `path` as in [`FieldChange::path`].
    #[must_use]
    pub fn last_change(&self, path: &str) -> Option<&FieldChange> {
        self.changes.iter().rev().find(|change| change.path == path)
    }
}

impl fmt::Display for OverrideReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            writeln!(f, "no changes")?;
        }
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        for conflict in &self.conflicts {
            writeln!(f, "{conflict}")?;
        }
        for skipped in &self.skipped {
            writeln!(f, "{skipped}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "~ {}: {old} -> {new}", self.path)?,
            (None, Some(new)) => write!(f, "+ {}: {new}", self.path)?,
            (Some(old), None) => write!(f, "- {}: {old}", self.path)?,
            (None, None) => write!(f, "  {}", self.path)?,
        }
        write!(f, "  ({}, rule {})", self.policy, self.rule)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<Value>| match value {
            Some(value) => value.to_string(),
            None => "removed".to_owned(),
        };
        write!(
            f,
            "! {}: {} wants {}, {} has its way with {}",
            self.path,
            self.overruled,
            value(&self.overruled_value),
            self.winner,
            value(&self.value)
        )
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            ". {}, rule {}, {}: {}",
            self.policy, self.rule, self.step, self.reason
        )
    }
}
