//! Taints of clusters and nodes.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Toleration;
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

    /// The toleration among `tolerations` that this taint does not repel, the first if there are several.
    ///
    /// # Semantics
    /// Those of `ToleratesTaint` in `k8s.io/api`: an empty effect stands for all effects, an empty key for all keys,
    /// and an empty operator for `Equal`. The numeric operators `Lt` and `Gt` tolerate nothing, as on a server
    /// where their alpha feature is off.
    ///
    /// ```
    /// use k8s_openapi::api::core::v1::Toleration;
    /// use kurator_core::observe::{Taint, TaintEffect};
    ///
    /// let taint = Taint::new("maintenance", TaintEffect::NoExecute);
    /// let any = Toleration { operator: Some("Exists".into()), ..Toleration::default() };
    /// assert!(taint.tolerated_by(&[any]).is_some());
    /// assert!(taint.tolerated_by(&[]).is_none());
    /// ```
    pub fn tolerated_by<'a>(&self, tolerations: &'a [Toleration]) -> Option<&'a Toleration> {
        tolerations.iter().find(|toleration| self.matches(toleration))
    }

    fn matches(&self, toleration: &Toleration) -> bool {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == self.effect.as_str())
            && (key.is_empty() || key == self.key)
            && match toleration.operator.as_deref().unwrap_or_default() {
                "" | "Equal" => toleration.value.as_deref().unwrap_or_default() == self.value,
                "Exists" => true,
                _ => false,
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toleration_matches_by_effect_key_and_value() {
        let taint = Taint::new("k", TaintEffect::NoSchedule).with_value("v");
        let tolerated = |key: &str, operator: &str, value: &str, effect: &str| {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let toleration = Toleration {
                key: given(key),
                operator: given(operator),
                value: given(value),
                effect: given(effect),
                toleration_seconds: None,
            };
            taint.tolerated_by(&[toleration]).is_some()
        };
        assert!(tolerated("k", "", "v", ""));
        assert!(tolerated("k", "Equal", "v", "NoSchedule"));
        assert!(tolerated("k", "Exists", "", "NoSchedule"));
        assert!(tolerated("", "Exists", "", ""));
        assert!(!tolerated("k", "Equal", "w", ""));
        assert!(!tolerated("k", "Exists", "", "NoExecute"));
        assert!(!tolerated("l", "Exists", "", ""));
        assert!(!tolerated("k", "Gt", "1", ""));
    }
}
